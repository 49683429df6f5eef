"""Iterating over messages beside the handlers: bounded, in order, with an end."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.client import MessageStream, Received
from stelar_proto.errors import SlowConsumer, StateError
from tests.client.house import SERVERS, House
from tests.support.virtual import Cancelled


async def collect(stream: MessageStream, into: list[Any]) -> None:
    async for message in stream:
        into.append(message)


def test_messages_come_in_order_over_reconnects_until_the_end(house: House) -> None:
    client = house.client(reconnection=True)
    client.on("x", house.note("handler"))
    server = house.connect(client)
    got: list[Any] = []
    iterating = house.start(collect(client.messages(), got))
    server.stream.send(server.event("x", 1) + server.binary("y", b"2"))
    assert got == [("x", 1, False), ("y", b"2", True)]
    server.stream.reset()
    house.loop.advance(1)
    server = SERVERS[house.wire](house.streams[-1]).open()
    server.stream.send(server.event("x", 3))
    assert got[-1] == Received("x", 3, False)
    assert not iterating.is_done
    leaving = house.start(client.disconnect())
    server.stream.reset()
    iterating.result()
    leaving.result()
    assert house.log == [("handler", 1), ("handler", 3)]


def test_a_handler_that_is_slow_holds_up_no_iteration(house: House) -> None:
    client, server = house.pair()
    got: list[Any] = []
    client.on("x", lambda data: house.loop.sleep(10))
    house.start(collect(client.messages(), got))
    server.stream.send(server.event("x", 1) + server.event("x", 2))
    assert [message.data for message in got] == [1, 2]


def test_several_iterate_and_one_that_is_let_go_is_forgotten(house: House) -> None:
    client, server = house.pair()
    first, second = client.messages(), client.messages()
    assert len(client.streams) == 2
    server.stream.send(server.event("x", 1))
    assert repr(first) == "<MessageStream 1 waiting, 0 dropped>"
    del second
    assert len(client.streams) == 1
    first.close()
    server.stream.send(server.event("x", 2))
    got: list[Any] = []
    house.start(collect(first, got)).result()
    assert [message.data for message in got] == [1]


@pytest.mark.parametrize(("policy", "kept"), [("drop_oldest", [2, 3]), ("drop_newest", [0, 1])])
def test_too_many_are_dropped_and_counted(house: House, policy: str, kept: list[int]) -> None:
    client, server = house.pair()
    stream = client.messages(limit=2, slow_consumer=policy)
    for number in range(4):
        server.stream.send(server.event("x", number))
    got: list[Any] = []
    house.start(collect(stream, got))
    assert [message.data for message in got] == kept
    assert stream.dropped == 2


def test_too_many_end_it_with_words_behind_what_waits(house: House) -> None:
    client, server = house.pair()
    stream = client.messages(limit=2)
    for number in range(4):
        server.stream.send(server.event("x", number))
    got: list[Any] = []
    with pytest.raises(SlowConsumer, match="more than 2 messages waited"):
        house.start(collect(stream, got)).result()
    assert [message.data for message in got] == [0, 1]
    house.start(collect(stream, got)).result()
    assert client.is_connected()


def test_a_cancelled_iteration_has_taken_nothing(house: House) -> None:
    client, server = house.pair()
    stream = client.messages()
    waiting = [house.start(stream.__anext__()) for _ in range(2)]
    waiting[0].cancel()
    house.loop.run_until_idle()
    with pytest.raises(Cancelled):
        waiting[0].result()
    server.stream.send(server.event("x", 1))
    assert waiting[1].result().data == 1


def test_a_cancellation_that_is_due_comes_before_a_message(house: House) -> None:
    client, server = house.pair()
    stream = client.messages()
    server.stream.send(server.event("x", 1))

    async def cancelled() -> None:
        raise Cancelled

    client.virtual_runtime.checkpoint = cancelled
    with pytest.raises(Cancelled):
        house.start(stream.__anext__()).result()
    client.virtual_runtime.checkpoint = None
    assert house.start(stream.__anext__()).result().data == 1


def test_who_begins_to_iterate_after_the_end_is_told_and_does_not_wait_for_ever(house: House) -> None:
    client, server = house.pair(reconnection=False)
    server.stream.reset()
    house.loop.run_until_idle()
    assert client.get_state() == "disconnected"
    with pytest.raises(StateError, match=r"await connect\(\) first"):
        client.messages()


def test_what_makes_no_sense_is_refused(house: House) -> None:
    with pytest.raises(StateError, match=r"await connect\(\) first"):
        house.client().messages()
    client, _ = house.pair()
    with pytest.raises(ValueError, match="limit must be a positive whole number, not 0"):
        client.messages(limit=0)
    with pytest.raises(ValueError, match="slow_consumer must be one of close, drop_oldest, drop_newest"):
        client.messages(slow_consumer="wait")

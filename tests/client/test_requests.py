"""Sending and asking: what leaves, what is refused at the call, and how every request ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.channel import Closed
from stelar_proto.errors import AckTimeout, ConnectionLost, MessageError, RemoteError, StateError
from tests.client.house import House
from tests.support.memory import VirtualClient
from tests.support.virtual import Cancelled, VirtualTask


def ask(house: House, client: VirtualClient, *arguments: Any, **options: Any) -> VirtualTask[Any]:
    task = house.loop.start(client.request(*arguments, **options))
    house.loop.run_until_idle()
    return task


# --- Sending ----------------------------------------------------------------------------------------------


def test_what_is_sent_arrives_in_order(house: House) -> None:
    client, server = house.pair()
    client.emit("a", {"ñ": [1, None]})
    client.emit("b")
    client.emit_binary("c", b"\0\xff")
    client.emit_binary("d", memoryview(b"d"))
    client.join_room("sala ñ")
    client.leave_room("sala ñ")
    client.emit("e", 1, ack="answer")
    house.loop.run_until_idle()
    assert server.heard() == [
        ("event", "a", {"ñ": [1, None]}),
        ("event", "b", None),
        ("binary", "c", b"\0\xff"),
        ("binary", "d", b"d"),
        ("event", "join-room", "sala ñ"),
        ("event", "leave-room", "sala ñ"),
        ("request", "answer", "e", 1, "e1"),
    ]
    assert client.get_messages_sent() == 7


@pytest.mark.parametrize("name", ["", "error", "a b", "x" * 257, "ñ"])
def test_a_bad_name_is_refused_at_the_call(house: House, name: str) -> None:
    client, server = house.pair()
    for call in (
        lambda: client.emit(name),
        lambda: client.emit("x", ack=name),
        lambda: client.emit_binary(name, b""),
        lambda: house.loop.run(client.request(name)),
        lambda: house.loop.run(client.request("x", None, name)),
    ):
        with pytest.raises(MessageError):
            call()
    assert server.heard() == []


@pytest.mark.parametrize(
    "data", [{1}, float("nan"), "\ud800", "x" * 11_000_000], ids=["set", "nan", "half", "big"]
)
def test_data_that_cannot_be_said_is_refused_at_the_call(house: House, data: Any) -> None:
    client, server = house.pair()
    for call in (
        lambda: client.emit("x", data),
        lambda: client.emit("x", data, ack="y"),
        lambda: house.loop.run(client.request("x", data)),
    ):
        with pytest.raises(MessageError):
            call()
    with pytest.raises(TypeError, match="a payload is bytes"):
        client.emit_binary("x", "text")  # type: ignore[arg-type]
    assert server.heard() == []
    assert client.is_connected()


@pytest.mark.parametrize("room", ["", "x" * 257])
def test_a_room_name_of_no_or_too_many_bytes_is_refused_at_the_call(house: House, room: str) -> None:
    client, _ = house.pair()
    for call in (client.join_room, client.leave_room):
        with pytest.raises(ValueError, match="1 to 256 bytes"):
            call(room)


@pytest.mark.parametrize("moment", ["before", "connecting", "closing", "after"])
def test_without_a_connection_there_is_nobody_to_ask(house: House, moment: str) -> None:
    """And nobody to talk to, if nothing is to be kept."""
    client = house.client(message_queue_size=0)
    if moment == "connecting":
        house.dial(client)
    elif moment != "before":
        server = house.connect(client)
        house.loop.start(client.disconnect())
        house.loop.run_until_idle()
        if moment == "after":
            server.stream.reset()
    calls: list[Callable[[], object]] = [
        lambda: client.emit("x"),
        lambda: client.emit("x", ack="y"),
        lambda: client.emit_binary("x", b""),
        lambda: house.loop.run(client.request("x")),
    ]
    words = " yet: one is being made" if moment == "connecting" else r": await connect\(\) first"
    for call in calls:
        with pytest.raises(StateError, match=f"no connection to {house.url}{words}"):
            call()
    house.loop.run(client.drain())


def test_an_end_that_is_not_known_yet_is_one_all_the_same(house: House) -> None:
    client, _ = house.pair(message_queue_size=0)
    link = client._link
    assert link is not None
    link.abort(Closed(1006, "", None))
    assert not client.is_connected()
    with pytest.raises(StateError, match=r"the connection to .* has just ended"):
        client.emit("a")
    house.loop.advance(0)
    with pytest.raises(StateError, match=r"await connect\(\) first"):
        client.emit("a")


def test_drain_waits_for_a_slow_server(house: House) -> None:
    client, server = house.pair()
    server.stream.stop_reading()
    for _ in range(10):
        client.emit("x", "y" * 20_000)
    draining = house.loop.start(client.drain())
    house.loop.run_until_idle()
    assert not draining.is_done
    server.stream.read_on()
    assert draining.is_done


def test_more_than_fits_into_the_outbox_is_an_error_that_says_to_drain(house: House) -> None:
    client, server = house.pair(outbox_limit=2000)
    server.stream.stop_reading()
    client.emit("x", "y" * 1000)
    with pytest.raises(StateError, match=r"await drain\(\)"):
        client.emit("x", "y" * 1000)
    assert client.is_connected()


# --- Asking -----------------------------------------------------------------------------------------------


def test_a_request_ends_with_its_answer(house: House) -> None:
    client, server = house.pair()
    first = ask(house, client, "sum", [1, 2])
    second = ask(house, client, "sum", [3, 4], "name")
    assert server.heard() == [("request", "sum", "sum", [1, 2], "1"), ("request", "name", "sum", [3, 4], "2")]
    server.stream.send(server.answer("name", 7, "2") + server.answer("sum", {"data": 3}, "1"))
    assert (first.result(), second.result()) == ({"data": 3}, 7)


def test_answers_without_ids_go_to_the_oldest_request_of_their_name(house: House) -> None:
    client, server = house.pair()
    tasks = [ask(house, client, "x", number) for number in range(3)]
    server.stream.send(server.answer("x", "a") + server.answer("x", "b", "3") + server.answer("x", "c"))
    assert [task.result() for task in tasks] == ["a", "c", "b"]


def test_a_request_ends_with_an_error_answer(house: House) -> None:
    client, server = house.pair()
    client.on("error", house.note("error"))
    request = ask(house, client, "x")
    server.stream.send(server.error("x", "NOT_FOUND", "no such user", "1"))
    with pytest.raises(RemoteError) as caught:
        request.result()
    assert (caught.value.code, caught.value.message) == ("NOT_FOUND", "no such user")
    assert house.log == []


def test_a_request_ends_with_its_timeout(house: House) -> None:
    client, server = house.pair(ack_timeout=2.0)
    by_default, own = ask(house, client, "x"), ask(house, client, "y", timeout=3)
    house.loop.advance(2)
    with pytest.raises(AckTimeout, match="no answer to 'x' within 2 s"):
        by_default.result()
    house.loop.advance(0.9)
    assert not own.is_done
    house.loop.advance(0.1)
    with pytest.raises(AckTimeout, match="no answer to 'y' within 3 s"):
        own.result()
    server.stream.send(server.answer("x", 1, "1"))  # too late: nobody waits
    assert client.is_connected()
    assert client.get_unmatched_answers() == 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "1"])
def test_a_timeout_is_a_positive_number(house: House, timeout: Any) -> None:
    client, server = house.pair()
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds"):
        house.loop.run(client.request("x", timeout=timeout))
    assert server.heard() == []


@pytest.mark.parametrize("how", ["goodbye", "reset", "disconnect"])
def test_a_request_ends_with_the_connection(house: House, how: str) -> None:
    client, server = house.pair()
    requests = [ask(house, client, "x") for _ in range(3)]
    if how == "goodbye":
        server.stream.send(server.bye())
    elif how == "reset":
        server.stream.reset()
    else:
        house.loop.start(client.disconnect())
        house.loop.run_until_idle()
        server.stream.send(server.bye())
        server.stream.end()
    for request in requests:
        with pytest.raises(ConnectionLost, match="before the answer came"):
            request.result()


def test_a_cancelled_request_leaves_nothing_behind(house: House) -> None:
    client, server = house.pair()
    request = ask(house, client, "x", None, "name")
    request.cancel()
    house.loop.run_until_idle()
    with pytest.raises(Cancelled):
        request.result()
    following = ask(house, client, "y", None, "name")
    server.stream.send(server.answer("name", "late", "1") + server.answer("name", "mine"))
    assert following.result() == "mine"


def test_a_handler_may_ask_while_the_server_keeps_talking(house: House) -> None:
    """Even if so many events wait that reading had paused."""
    client, server = house.pair(inbox_limit=2)
    answers: list[Any] = []

    @client.on("go")
    async def go(data: int) -> None:
        await house.loop.sleep(1)
        answers.append(await client.request("question", data))

    for number in range(5):
        server.stream.send(server.event("go", number))
    assert not server.stream.transport.is_reading
    for number in range(1, 6):
        house.loop.advance(1)
        server.stream.send(server.answer("question", number, str(number)))
    assert answers == [1, 2, 3, 4, 5]


def test_too_many_requests_are_refused_at_the_call(house: House) -> None:
    client, _ = house.pair()
    link = client._link
    assert link is not None
    link.session.acks._limit = 2
    for _ in range(2):
        ask(house, client, "x")
    with pytest.raises(StateError, match="2 requests are in flight already"):
        house.loop.run(client.request("x"))

"""What is emitted without a connection: kept, sent in order, dropped with words, never twice."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest

from stelar_proto.errors import AckTimeout, ConnectionLost, MessageDropped, MessageError, StateError
from tests.client.house import SERVERS, House, RawServer
from tests.support.memory import VirtualClient


def persistent(house: House, **options: Any) -> VirtualClient:
    return house.client(**{"reconnection": True, **options})


def reconnect(house: House) -> RawServer:
    """Let the client come back; return the server's end."""
    house.loop.advance(1)
    return SERVERS[house.wire](house.streams[-1]).open()


def test_what_is_emitted_before_and_between_connections_is_sent_in_order(house: House) -> None:
    client = persistent(house)
    client.emit("a", 1)
    client.emit_binary("b", b"\0\xff")
    client.emit("c", 2, ack="sum")
    assert client.get_queue_size() == 3
    server = house.connect(client)
    client.emit("d", 3)
    house.loop.run_until_idle()
    assert server.heard() == [
        ("event", "a", 1),
        ("binary", "b", b"\0\xff"),
        ("request", "sum", "c", 2, "e1"),
        ("event", "d", 3),
    ]
    assert client.get_queue_size() == 0
    server.stream.reset()
    client.emit("e", 4)
    server = reconnect(house)
    assert server.heard() == [("event", "e", 4)]
    assert client.get_messages_sent() == 5
    assert client.get_messages_dropped() == 0


def test_what_is_emitted_when_the_connection_comes_stands_behind_what_waited(house: House) -> None:
    client = persistent(house, message_queue_size=2)
    client.on("connect", lambda: client.emit("hello"))
    for number in range(2):
        client.emit("x", number)
    server = house.connect(client)
    assert server.heard() == [("event", "x", 0), ("event", "x", 1), ("event", "hello", None)]


def test_what_waits_is_what_was_said(house: House) -> None:
    client = persistent(house)
    data = {"n": 1}
    client.emit("x", data)
    data["n"] = 2
    assert house.connect(client).heard() == [("event", "x", {"n": 1})]


def test_a_mistake_is_raised_at_once_without_a_connection_too(house: House) -> None:
    client = persistent(house)
    calls: list[Any] = [
        lambda: client.emit("a b"),
        lambda: client.emit("x", {1}),
        lambda: client.emit("x", "y" * 11_000_000),
        lambda: client.emit_binary("x", bytes(11_000_000)),
    ]
    for call in calls:
        with pytest.raises(MessageError):
            call()
    assert client.get_queue_size() == 0


def test_the_oldest_are_dropped_and_that_is_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    queued: list[Any] = []
    errors: list[Any] = []
    hooks = {
        "on_message_queued": lambda event, queue_size: queued.append((event, queue_size)),
        "on_error": lambda error: errors.append((error.event, error.count)),
        "on_queue_drained": lambda count: house.log.append(("drained", count)),
    }
    client = persistent(house, message_queue_size=2, hooks=hooks)
    for name in "abcd":
        client.emit(name)
    assert queued == [("a", 1), ("b", 2), ("c", 2), ("d", 2)]
    assert errors == [("a", 1), ("b", 1)]
    assert (client.get_queue_size(), client.get_messages_dropped()) == (2, 2)
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == "a message of 'a' was dropped: more than 2 waited for a connection"
    server = house.connect(client)
    assert [entry[1] for entry in server.heard()] == ["c", "d"]
    assert house.log == [("drained", 2)]


def test_a_smaller_queue_drops_at_once(house: House) -> None:
    client = persistent(house)
    for number in range(5):
        client.emit("x", number)
    client.update_options(message_queue_size=2)
    assert (client.get_queue_size(), client.get_messages_dropped()) == (2, 3)
    assert [entry[2] for entry in house.connect(client).heard()] == [3, 4]


def test_without_a_queue_nothing_is_kept(house: House) -> None:
    client = persistent(house, message_queue_size=0)
    calls: list[Any] = [lambda: client.emit("x"), lambda: client.emit_binary("x", b"")]
    for call in calls:
        with pytest.raises(StateError, match="there is no connection"):
            call()
    assert client.get_queue_size() == 0


def test_what_was_not_written_before_a_new_break_stays_queued(house: House) -> None:
    client = persistent(house)
    for number in range(5):
        client.emit("x", [number, "y" * 40_000])
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    assert client.get_queue_size() == 5  # the transport takes nothing
    client.emit("x", [5, ""])
    server.stream.reset()
    server = reconnect(house)
    assert client.get_queue_size() == 0
    assert client.get_messages_dropped() == 0
    assert sum(server.stream.writes) == pytest.approx(200_000, abs=1000)


def test_what_was_written_before_a_new_break_is_not_sent_twice(house: House) -> None:
    client = persistent(house)
    for number in range(3):
        client.emit("x", [number, "y" * 40_000])
    connecting, server = house.dial(client)
    stream = server.stream

    def take_one() -> None:
        if stream.writes and stream.writes[-1] > 40_000:
            stream.stop_reading()

    stream.on_change = take_one
    server.open()
    connecting.result()
    assert len([size for size in stream.writes if size > 40_000]) == 1
    assert client.get_queue_size() == 2
    stream.reset()
    server = reconnect(house)
    assert sum(server.stream.writes) == pytest.approx(80_000, abs=500)
    assert client.get_queue_size() == 0


def test_an_emit_behind_what_waits_is_bounded_by_the_outbox(house: House) -> None:
    client = persistent(house, outbox_limit=3000, message_queue_size=1)
    client.emit("x", "y" * 1000)
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    client.emit("x", "y" * 1000)
    with pytest.raises(StateError, match=r"the outbox is full .*drain"):
        client.emit("x", "y" * 1000)
    draining = [house.start(client.drain()) for _ in range(2)]
    assert not any(task.is_done for task in draining)
    server.stream.read_on()
    assert all(task.is_done for task in draining)
    client.emit("x", "y" * 1000)
    house.loop.run_until_idle()
    assert sum(server.stream.writes) > 3000


def test_too_much_behind_what_waits_is_dropped_when_the_connection_ends(house: House) -> None:
    client = persistent(house, message_queue_size=1)
    client.emit("x", 0)
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    client.emit("x", 1)
    assert client.get_queue_size() == 2
    draining = house.start(client.drain())
    server.stream.reset()
    assert draining.is_done
    assert (client.get_queue_size(), client.get_messages_dropped()) == (1, 1)
    assert reconnect(house).heard() == [("event", "x", 1)]


def test_what_waits_for_a_connection_does_not_fill_a_small_outbox_until_it_breaks(house: House) -> None:
    for size in range(100, 500, 7):
        house.streams.clear()
        client = house.client(outbox_limit=1024)
        for number in range(10):
            client.emit("n", [number, "x" * size])
        server = house.connect(client)
        assert [message[2][0] for message in server.heard()] == list(range(10))
        assert (client.get_state(), client.get_messages_dropped()) == ("connected", 0)
        house.loop.run(client.disconnect())


def emit_until_it_is_full(client: VirtualClient, data: str) -> int:
    """Emit as much as is taken; return how many that were."""
    count = 0
    with suppress(StateError):
        while True:
            client.emit("n", data)
            count += 1
    return count


@pytest.mark.parametrize("said", ["ping", "bye"])
def test_an_outbox_that_is_full_has_room_for_what_the_protocol_says(house: House, said: str) -> None:
    ping = b"\x89\0" if house.wire == "ws" else b"\0\0\0\7\2\0\0"
    for size in range(60):
        house.streams.clear()
        client = house.client(outbox_limit=2048)
        server = house.connect(client)
        server.stream.stop_reading()
        count = emit_until_it_is_full(client, "x" * size)
        if said == "ping":
            server.stream.send(ping)
            assert client.is_connected()
        ending = house.start(client.disconnect())
        server.stream.read_on()
        heard = server.heard()
        assert [message for message in heard if message[0] == "event"] == [("event", "n", "x" * size)] * count
        server.stream.end()
        ending.result()
        assert client.get_messages_dropped() == 0


def test_a_request_is_sent_behind_what_waits(house: House) -> None:
    client = persistent(house)
    client.emit("x", 1)
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    request = house.start(client.request("sum", [1]))
    server.stream.read_on()
    assert server.heard() == [("event", "x", 1), ("request", "sum", "sum", [1], "1")]
    server.stream.send(server.answer("sum", 1, "1"))
    assert request.result() == 1


@pytest.mark.parametrize("end", ["timeout", "break"])
def test_a_request_that_waits_behind_others_ends_all_the_same(house: House, end: str) -> None:
    client = persistent(house)
    client.emit("x", 1)
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    request = house.start(client.request("sum", timeout=2))
    if end == "timeout":
        house.loop.advance(2)
    else:
        server.stream.reset()
    with pytest.raises(AckTimeout if end == "timeout" else ConnectionLost):
        request.result()


@pytest.mark.parametrize(("count", "words"), [(1, "a message was"), (3, "3 messages were")])
def test_what_was_accepted_and_had_not_left_is_counted(
    house: House, count: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was emitted over a connection that breaks before it left is lost, not silently."""
    errors: list[Exception] = []
    client, server = house.pair(hooks={"on_error": lambda error: errors.append(error)})
    client.emit("gone", 1)
    house.loop.run_until_idle()
    server.stream.stop_reading()
    for number in range(count):
        client.emit("x", number)
    server.stream.reset()
    assert client.get_messages_dropped() == count
    [dropped] = [error for error in errors if isinstance(error, MessageDropped)]
    assert (dropped.event, dropped.count) == (None, count)
    assert str(dropped) == f"{words} dropped: the connection ended before they left"
    assert str(dropped) in caplog.text


def test_what_cannot_be_sent_over_another_connection_is_given_up_with_words(house: House) -> None:
    errors: list[Any] = []
    client = persistent(house, hooks={"on_error": lambda error: errors.append(error)})
    client.emit("big", "y" * 1000)
    client.emit("small", "y")
    client.update_options(max_payload_size=100)
    assert house.connect(client).heard() == [("event", "small", "y")]
    [error] = errors
    assert (error.event, client.get_messages_dropped()) == ("big", 1)
    assert "max_payload_size (100)" in str(error)


def test_a_message_larger_than_the_outbox_is_refused_or_given_up(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    client = persistent(house, outbox_limit=3000)
    with pytest.raises(MessageError, match="larger than outbox_limit, 3000"):
        client.emit("big", "y" * 3000)
    client.emit("big", "y" * 2000)
    client.emit("small")
    client.update_options(outbox_limit=1024)
    assert house.connect(client).heard() == [("event", "small", None)]
    assert client.get_messages_dropped() == 1
    assert "larger than outbox_limit, 1024" in caplog.text


# --- Rooms ------------------------------------------------------------------------------------------------


def test_rooms_are_joined_again_in_front_of_what_waits(house: House) -> None:
    client = persistent(house)
    client.join_room("early")
    server = house.connect(client)
    client.join_room("a")
    client.join_room("b")
    client.leave_room("a")
    house.loop.run_until_idle()
    moves = [("join-room", "early"), ("join-room", "a"), ("join-room", "b"), ("leave-room", "a")]
    assert server.heard() == [("event", *move) for move in moves]
    server.stream.reset()
    client.emit("x")
    client.join_room("c")
    client.leave_room("early")
    server = reconnect(house)
    assert server.heard() == [
        ("event", "join-room", "b"),
        ("event", "join-room", "c"),
        ("event", "x", None),
    ]


def test_moving_behind_what_waits_keeps_the_order_and_is_not_done_twice(house: House) -> None:
    client = persistent(house, message_queue_size=1)
    client.emit("x", 1)
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    client.join_room("a")
    client.join_room("b")
    client.leave_room("b")
    server.stream.reset()
    assert (client.get_queue_size(), client.get_messages_dropped()) == (1, 0)
    server = reconnect(house)
    assert server.heard() == [("event", "join-room", "a"), ("event", "x", 1)]
    server.stream.stop_reading()
    client.leave_room("a")
    client.emit("y")
    server.stream.read_on()
    assert server.heard() == [("event", "leave-room", "a"), ("event", "y", None)]


def test_a_room_whose_name_is_too_large_for_the_next_connection_is_given_up(house: House) -> None:
    errors: list[Any] = []
    client = persistent(house, hooks={"on_error": lambda error: errors.append(error)})
    client.join_room("x" * 256)
    client.join_room("y")
    client.update_options(max_payload_size=100)
    assert house.connect(client).heard() == [("event", "join-room", "y")]
    [error] = errors
    assert (error.event, client.get_messages_dropped()) == ("join", 1)


def test_many_rooms_are_joined_as_fast_as_the_server_reads(house: House) -> None:
    client = persistent(house, outbox_limit=3000, queue_rate=None)
    names = [f"{number:03}{'x' * 240}" for number in range(50)]
    for name in names:
        client.join_room(name)
    client.emit("x")
    connecting, server = house.dial(client)
    server.stream.stop_reading()
    server.open()
    connecting.result()
    with pytest.raises(StateError, match="outbox is full"):
        client.emit("y", "z" * 3000)
    server.stream.read_on()
    assert server.heard() == [*(("event", "join-room", name) for name in names), ("event", "x", None)]


# --- No faster than a server takes it -----------------------------------------------------------------------


def received(server: RawServer) -> list[int]:
    return [entry[2] for entry in server.heard() if entry[1] == "n"]


def test_what_waited_is_sent_at_its_pace_the_rooms_among_it(house: House) -> None:
    client = persistent(house, queue_rate=10, message_queue_size=1000)
    for number in range(25):
        client.emit("n", number)
    for room in "abc":
        client.join_room(room)
    server = house.connect(client)
    assert [entry[1] for entry in server.heard()] == ["join-room"] * 3 + ["n"] * 7
    house.loop.advance(0.09)
    assert server.heard() == []
    house.loop.advance(0.02)
    assert received(server) == [7]
    house.loop.advance(1.0)
    assert received(server) == list(range(8, 18))
    assert client.get_queue_size() == 7
    house.loop.advance(10)
    assert received(server) == list(range(18, 25))


def test_what_is_emitted_meanwhile_waits_its_turn_and_costs_those_in_front_nothing(house: House) -> None:
    """However much is emitted, what waited is soon over."""
    client = persistent(house, queue_rate=2)
    for number in range(6):
        client.emit("n", number)
    server = house.connect(client)
    assert received(server) == [0, 1]
    for number in range(6, 106):
        client.emit("n", number)
    house.loop.run_until_idle()
    assert received(server) == list(range(2, 102))
    house.loop.advance(2)
    assert received(server) == list(range(102, 106))
    client.emit("n", 106)
    house.loop.run_until_idle()
    assert received(server) == [106]


def test_a_request_and_drain_wait_for_what_is_in_front_of_them(house: House) -> None:
    client = persistent(house, queue_rate=1)
    for number in range(3):
        client.emit("n", number)
    server = house.connect(client)
    request = house.start(client.request("sum", timeout=5))
    draining = house.start(client.drain())
    house.loop.advance(1.9)
    assert received(server) == [0, 1]
    assert not draining.is_done
    house.loop.advance(0.2)
    assert [entry[1] for entry in server.heard()] == ["n", "sum"]
    assert draining.is_done
    house.loop.advance(2)
    assert not request.is_done
    house.loop.advance(1)
    with pytest.raises(AckTimeout):
        request.result()


def test_a_pace_ends_with_its_connection_and_begins_anew_with_the_next(house: House) -> None:
    client = persistent(house, queue_rate=2)
    for number in range(10):
        client.emit("n", number)
    server = house.connect(client)
    assert received(server) == [0, 1]
    server.stream.reset()
    assert client.get_queue_size() == 8
    server = reconnect(house)
    assert received(server) == [2, 3]
    client.update_options(queue_rate=None)
    server.stream.reset()
    house.loop.advance(1)  # the second wait is longer
    assert received(reconnect(house)) == list(range(4, 10))
    assert client.get_messages_dropped() == 0


def test_a_server_that_does_not_read_holds_up_the_pace_too(house: House) -> None:
    client = persistent(house, queue_rate=2)
    for number in range(4):
        client.emit("n", number)
    connecting, server = house.dial(client)
    server.open()
    server.stream.stop_reading()
    connecting.result()
    house.loop.advance(5)
    server.stream.read_on()
    assert received(server) == [0, 1, 2, 3]
    assert client.get_queue_size() == 0

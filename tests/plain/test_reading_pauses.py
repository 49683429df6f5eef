"""Flow control in: a reader that stops stops the peer, and what goes on meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.channel.outbox import FRAME_COST
from stelar_proto.errors import ConnectionClosed, SlowConsumer
from stelar_proto.plain import WebSocketConnection
from tests.plain.house import BINARY, CLOSE, PING, PONG, TEXT, House
from tests.support.virtual import VirtualTask

KIB = 1024


def test_reading_pauses_when_as_many_messages_wait_as_may(house: House) -> None:
    connection, peer = house.open(inbox_limit=4)
    transport = peer.stream.transport
    for number in range(3):
        peer.say(str(number))
    assert transport.is_reading
    for number in range(3, 10):
        peer.say(str(number))
    assert not transport.is_reading
    received = [house.run(connection.recv())]
    assert not transport.is_reading
    received.append(house.run(connection.recv()))  # half of them are left
    house.loop.run_until_idle()
    received += [house.run(connection.recv()) for _ in range(8)]
    assert received == [str(number) for number in range(10)]
    assert transport.is_reading


def test_reading_pauses_when_as_many_bytes_wait_as_may(house: House) -> None:
    connection, peer = house.open(inbox_size=1000)
    transport = peer.stream.transport
    peer.say(b"x" * 600)
    assert transport.is_reading
    peer.say("y" * 400)
    assert not transport.is_reading
    house.run(connection.recv())
    assert transport.is_reading


def test_an_unfinished_message_counts_as_bytes_that_wait(house: House) -> None:
    connection, peer = house.open(inbox_size=1000)
    transport = peer.stream.transport
    frame = peer.frame(BINARY, b"x" * 5000)
    for start in range(0, 2000, 100):
        peer.stream.send(frame[start : start + 100])
    assert not transport.is_reading
    assert connection._endpoint.session.codec.collected_size < 1100
    peer.stream.send(frame[2000:])
    task = house.start(connection.recv())  # who asks for it gets it, however large it is
    assert task.result() == b"x" * 5000
    assert transport.is_reading


def test_a_recv_that_is_cancelled_inside_a_large_message_lets_reading_pause_again(house: House) -> None:
    connection, peer = house.open(inbox_size=1000)
    transport = peer.stream.transport
    frame = peer.frame(BINARY, b"x" * 5000)
    task = house.start(connection.recv())
    peer.stream.send(frame[:2000])
    assert transport.is_reading
    house.cancel(task)
    peer.stream.send(frame[2000:2001])
    assert not transport.is_reading
    task = house.start(connection.recv())
    peer.stream.send(frame[2001:])
    assert task.result() == b"x" * 5000


def test_a_peer_that_is_not_read_is_asked_and_not_judged_by_its_silence(house: House) -> None:
    connection, peer = house.open(inbox_limit=1, heartbeat_interval=1, heartbeat_timeout=1)
    peer.say("waits")
    peer.heard()
    house.loop.advance(100)
    assert connection.is_open
    assert [first for first, _ in peer.heard()] == [PING] * 100
    assert house.run(connection.recv()) == "waits"
    house.loop.advance(1)
    assert [first for first, _ in peer.heard()] == [PING]
    house.loop.advance(1)
    assert not connection.is_open


def look_out(house: House, connection: WebSocketConnection, how: str) -> VirtualTask[Any]:
    match how:
        case "send":
            return house.start(connection.send("tick"))
        case "send_fragments":
            return house.start(connection.send_fragments(["ti", "ck"]))
        case "ping":
            return house.start(connection.ping())
        case _:
            return house.start(connection.wait_closed())


@pytest.mark.parametrize("how", ["send", "send_fragments", "ping", "wait_closed"])
def test_who_looks_out_for_what_stands_behind_the_messages_has_more_of_them_read(
    house: House, how: str
) -> None:
    connection, peer = house.open(inbox_limit=2)
    transport = peer.stream.transport
    for number in range(31):
        peer.say(str(number))
    assert not transport.is_reading
    task = look_out(house, connection, how)
    assert transport.is_reading
    if how == "ping":
        ping = next(payload for first, payload in peer.heard() if first == PING)
        peer.stream.send(peer.frame(PONG, ping))
        assert task.is_done
    watching = house.start(connection.wait_closed())
    peer.close(4000)
    peer.stream.end()
    assert watching.is_done
    assert house.start(connection.wait_closed()).is_done
    assert (task.is_done, connection.close_code) == (True, 4000)
    assert [house.run(connection.recv()) for _ in range(31)] == [str(number) for number in range(31)]


@pytest.mark.parametrize("how", ["send", "ping"])
def test_looking_out_is_bounded_in_messages_and_in_bytes(house: House, how: str) -> None:
    for size, count in ((0, 2 * 16), (100, 10)):
        other = House(house.role)
        connection, peer = other.open(inbox_limit=2, inbox_size=1000)
        look_out(other, connection, how)
        for _ in range(count - 1):
            peer.say("x" * size)
        assert peer.stream.transport.is_reading
        peer.say("x" * size)
        assert not peer.stream.transport.is_reading
        other.close()


def test_who_receives_has_as_many_messages_read_as_ever(house: House) -> None:
    connection, peer = house.open(inbox_limit=2)
    house.run(connection.send("tick"))
    house.cancel(house.start(connection.recv()))
    peer.say("a")
    assert peer.stream.transport.is_reading
    peer.say("b")
    assert not peer.stream.transport.is_reading
    house.run(connection.send("tock"))
    assert not peer.stream.transport.is_reading


def test_a_close_of_ours_reads_on_to_the_peers(house: House) -> None:
    connection, peer = house.open(inbox_limit=2)
    for number in range(5):
        peer.say(str(number))
    task = house.start(connection.close())
    peer.close()
    peer.stream.end()
    house.loop.advance(0)
    assert task.is_done
    assert connection.close_code == 1000
    assert [house.run(connection.recv()) for _ in range(2)] == ["0", "1"]
    with pytest.raises(ConnectionClosed):
        house.run(connection.recv())
    assert connection._endpoint.messages_discarded == 3


def test_what_comes_behind_our_close_is_received_up_to_the_limits_and_counted_beyond(house: House) -> None:
    connection, peer = house.open(inbox_limit=3)
    house.start(connection.close())
    peer.say("a", "b", "c", "d")
    peer.stream.send(peer.frame(0x01, b"e") + peer.frame(0x80, b"e"))
    assert connection._endpoint.messages_discarded == 2
    assert [house.run(connection.recv()) for _ in range(3)] == ["a", "b", "c"]
    peer.say("f")  # there would be room, but what is received has no holes
    assert connection._endpoint.messages_discarded == 3
    waiting = house.start(connection.recv())
    peer.close()
    with pytest.raises(ConnectionClosed):
        waiting.result()


def test_pongs_for_a_peer_that_does_not_read_them_are_bounded(house: House) -> None:
    limit = 10 * (100 + 2 + FRAME_COST) - 1
    connection, peer = house.open(outbox_limit=limit)
    peer.stream.stop_reading()
    task = house.start(connection.recv())
    pings = peer.frame(PING, b"x" * 100)
    for _ in range(9):
        peer.stream.send(pings)
    assert connection.is_open
    peer.stream.send(pings)
    words = f"1006.*does not read: more than {limit} bytes of pongs"
    with pytest.raises(ConnectionClosed, match=words) as caught:
        task.result()
    assert isinstance(caught.value.error, SlowConsumer)
    assert peer.stream.is_cut
    peer.stream.send(pings)


def test_pongs_behind_messages_that_wait_have_a_bound_of_their_own(house: House) -> None:
    connection, peer = house.open(outbox_limit=1024)
    peer.stream.stop_reading()
    house.run(connection.send(b"y" * (64 * KIB)))
    peer.stream.send(peer.frame(PING, b"x" * 100) * 5)
    assert connection.is_open
    peer.stream.read_on()
    assert [first for first, _ in peer.heard()] == [BINARY] + [PONG] * 5
    for _ in range(50):  # a peer that reads its pongs may ask for any number of them
        peer.stream.send(peer.frame(PING, b"x" * 100))
    assert [first for first, _ in peer.heard()] == [PONG] * 50


def test_messages_in_front_of_a_ping_too_many_are_still_received(house: House) -> None:
    connection, peer = house.open(outbox_limit=1024, inbox_limit=2)
    peer.stream.stop_reading()
    frames = peer.frame(TEXT, b"a") * 5 + peer.frame(PING, b"x" * 100) * 10
    peer.stream.send(frames)
    assert [house.run(connection.recv()) for _ in range(5)] == ["a"] * 5
    with pytest.raises(ConnectionClosed):
        house.run(connection.recv())


def test_a_peer_that_goes_while_reading_is_paused_is_noticed_when_the_stream_is_cut(house: House) -> None:
    connection, peer = house.open(inbox_limit=1)
    peer.say("kept")
    peer.stream.reset()
    assert house.run(connection.recv()) == "kept"
    with pytest.raises(ConnectionClosed, match="1006"):
        house.run(connection.recv())
    assert peer.heard() == []
    assert CLOSE not in [first for first, _ in peer.heard()]


def test_bytes_that_were_on_their_way_when_reading_paused_are_taken_too(house: House) -> None:
    connection, peer = house.open(inbox_limit=1)
    for message in (b"a", b"b"):
        peer.stream.transport.endpoint.receive_data(peer.frame(TEXT, message))
    assert peer.stream.transport.pauses == 1
    assert [house.run(connection.recv()) for _ in range(2)] == ["a", "b"]

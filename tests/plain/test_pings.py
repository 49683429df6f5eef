"""Pings and what their pongs tell; the heartbeat."""

from __future__ import annotations

import pytest

from stelar_proto.errors import ConnectionClosed, PeerTimeout
from stelar_proto.plain.pings import PingLedger
from tests.plain.house import CLOSE, PING, PONG, TEXT, House
from tests.support.virtual import Cancelled, VirtualEvent


def test_ping_returns_how_long_the_pong_took(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.ping())
    ((first, payload),) = peer.heard()
    assert first == PING
    house.loop.advance(0.25)
    assert not task.is_done
    peer.stream.send(peer.frame(PONG, payload))
    assert task.result() == 0.25
    assert connection.latency == 0.25


def test_a_pong_answers_the_pings_before_its_own_too(house: House) -> None:
    """RFC 6455, section 5.5.3: a peer may answer only the most recent ping."""
    connection, peer = house.open()
    tasks = []
    for _ in range(3):
        tasks.append(house.start(connection.ping()))
        house.loop.advance(1)
    payloads = [payload for _, payload in peer.heard()]
    assert len(set(payloads)) == 3
    peer.stream.send(peer.frame(PONG, payloads[1]))
    assert [task.is_done for task in tasks] == [True, True, False]
    assert [task.result() for task in tasks[:2]] == [3, 2]
    assert connection.latency == 2
    peer.stream.send(peer.frame(PONG, payloads[2]))
    assert tasks[2].result() == 1


def test_pongs_that_nobody_asked_for_answer_nothing(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.ping())
    peer.stream.send(peer.frame(PONG) + peer.frame(PONG, b"other"))
    assert not task.is_done
    assert connection.latency is None


def test_a_cancelled_ping_is_forgotten(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.ping())
    house.cancel(task)
    with pytest.raises(Cancelled):
        task.result()
    peer.stream.send(peer.frame(PONG, peer.heard()[0][1]))
    assert connection.latency is None
    assert len(connection._endpoint.session.pings._pending) == 0


@pytest.mark.parametrize("end", ["close", "reset", "fault"])
def test_a_ping_that_waits_hears_of_the_end(house: House, end: str) -> None:
    connection, peer = house.open()
    task = house.start(connection.ping())
    if end == "close":
        peer.close(4000)
    elif end == "reset":
        peer.stream.reset()
    else:
        peer.stream.send(peer.frame(0x83))
    code = {"close": 4000, "reset": 1006, "fault": 1002}[end]
    with pytest.raises(ConnectionClosed) as caught:
        task.result()
    assert caught.value.code == code


def test_a_pong_that_comes_behind_our_close_still_counts(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.ping())
    payload = peer.heard()[0][1]
    house.start(connection.close())
    house.loop.advance(1)
    peer.stream.send(peer.frame(PONG, payload))
    assert task.result() == 1


def test_a_silent_peer_is_pinged_and_its_pong_measured(house: House) -> None:
    connection, peer = house.open(heartbeat_interval=10, heartbeat_timeout=5)
    house.loop.advance(9.5)
    assert peer.heard() == []
    house.loop.advance(0.5)
    ((first, payload),) = peer.heard()
    assert first == PING
    house.loop.advance(0.125)
    peer.stream.send(peer.frame(PONG, payload))
    assert connection.latency == 0.125
    house.loop.advance(9.5)
    assert peer.heard() == []


def test_a_peer_that_gives_no_sign_of_life_is_closed_with_1011(house: House) -> None:
    connection, peer = house.open(heartbeat_interval=10, heartbeat_timeout=5)
    task = house.start(connection.recv())
    house.loop.advance(14.5)
    assert connection.is_open
    house.loop.advance(0.5)
    with pytest.raises(ConnectionClosed, match="1011: Heartbeat timeout") as caught:
        task.result()
    assert isinstance(caught.value.error, PeerTimeout)
    assert peer.heard()[1:] == [(CLOSE, b"\x03\xf3Heartbeat timeout")]
    assert house.start(connection.wait_closed()).is_done


def test_a_silent_peer_that_does_not_read_either_is_cut(house: House) -> None:
    connection, peer = house.open(heartbeat_interval=10, heartbeat_timeout=5)
    peer.stream.stop_reading()
    house.loop.advance(15)
    assert connection.close_code == 1011
    assert peer.stream.is_cut


def test_a_heartbeat_of_none_never_asks(house: House) -> None:
    connection, peer = house.open(heartbeat_interval=None)
    house.loop.advance(100_000)
    assert peer.heard() == []
    assert connection.is_open


def test_a_peer_that_never_answers_but_talks_leaves_one_entry_in_the_ledger(house: House) -> None:
    connection, peer = house.open(heartbeat_interval=1, heartbeat_timeout=1, inbox_limit=1000)
    for _ in range(50):
        house.loop.advance(1)
        peer.say("alive")
    assert [first for first, _ in peer.heard()] == [PING] * 50
    assert len(connection._endpoint.session.pings._pending) == 1
    assert connection.latency is None
    assert house.run(connection.recv()) == "alive"
    assert TEXT == 0x81


def test_the_ledger_fails_all_that_wait() -> None:
    ledger, event = PingLedger(lambda: 1.0), VirtualEvent()
    ledger.open()
    _, ping = ledger.open(event)
    ledger.fail_all()
    assert event.is_set()
    assert ping.latency is None

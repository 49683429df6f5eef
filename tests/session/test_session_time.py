"""The deadlines of a session: connecting, heartbeats, and the timer that knows them only by announcement."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.channel import State
from stelar_proto.errors import PeerTimeout, StateError
from stelar_proto.messages import Event
from stelar_proto.session import Session
from tests.channel.test_heartbeat import in_time, model

from .peers import (
    CLIENT,
    PING,
    SERVER,
    UPGRADE,
    ZERO_MASK,
    ending,
    from_peer,
    new_session,
    open_session,
    peer_pong,
    roles,
    said,
    wires,
)

# --- connecting ---


@wires
@roles
def test_who_does_not_connect_in_time_is_cut(wire: str, role: Any) -> None:
    session = new_session(wire, role, now=100, connect_timeout=2.5)
    assert session.next_deadline() == 102.5
    assert session.handle_deadline(102.4) == []
    assert not session.is_aborted
    events = session.handle_deadline(102.5)
    assert ending(events) == (1006, "", PeerTimeout)
    assert "no handshake within 2.5 s" in repr(events)
    assert session.is_aborted
    assert session.is_finished
    assert session.next_deadline() is None


def test_bytes_do_not_put_the_connect_deadline_off() -> None:
    session = new_session("ws", SERVER)
    for at, byte in enumerate(UPGRADE[:9]):
        session.receive_data(bytes((byte,)), at)
        assert session.next_deadline() == 10
    assert ending(session.handle_deadline(10)) == (1006, "", PeerTimeout)


@wires
def test_opening_ends_the_connect_deadline_and_begins_the_heartbeat(wire: str) -> None:
    for role in (SERVER, CLIENT):
        session = open_session(wire, role, now=5)
        assert session.next_deadline() == 35
        assert session.handle_deadline(15) == []
        assert session.state is State.OPEN


# --- heartbeats ---


def beat_ping(session: Session, wire: str) -> bytes:
    return PING[wire] if (wire, session.role) != ("ws", CLIENT) else b"\x89\x80" + ZERO_MASK


@wires
@roles
def test_silence_draws_a_ping(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    assert session.handle_deadline(29.9) == []
    assert said(session) == b""
    assert session.handle_deadline(30) == []
    assert said(session) == beat_ping(session, wire)
    assert session.handle_deadline(59) == []
    assert said(session) == b""


@wires
@roles
def test_a_byte_of_a_message_is_a_sign_of_life(wire: str, role: Any) -> None:
    session = open_session(wire, role, heartbeat_interval=30, heartbeat_timeout=10)
    data = from_peer(session, Event("chat", "a long one"))
    now = 0
    for index in range(len(data) - 1):
        now += 39
        session.handle_deadline(now - 9)
        assert said(session) == beat_ping(session, wire)
        assert session.receive_data(data[index : index + 1], now) == []
    assert session.receive_data(data[-1:], now + 1) == [Event("chat", "a long one")]


@wires
@roles
def test_the_ping_of_the_peer_is_answered_and_a_sign_of_life(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    ping = b"\x89\x80" + ZERO_MASK if (wire, role) == ("ws", SERVER) else PING[wire]
    assert session.receive_data(ping, 20) == []
    pong = {"tcp": b"\0\0\0\7\3\0\0", "ws": b"\x8a\0" if role is SERVER else b"\x8a\x80" + ZERO_MASK}[wire]
    assert said(session) == pong
    assert session.next_deadline() == 50


@wires
@roles
def test_a_dead_peer_is_given_up_an_interval_and_a_timeout_after_its_last_byte(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.receive_data(peer_pong(session), 7)
    now = 0.0
    while session.state is State.OPEN:
        deadline = session.next_deadline()
        assert deadline is not None
        assert deadline > now
        now = deadline
        events = session.handle_deadline(now)
    assert now == 7 + 30 + 60
    assert ending(events) == (1011, "Heartbeat timeout", PeerTimeout)


@wires
@roles
def test_without_an_interval_nobody_is_asked(wire: str, role: Any) -> None:
    session = open_session(wire, role, heartbeat_interval=None)
    assert session.next_deadline() is None
    assert session.handle_deadline(10**6) == []
    assert said(session) == b""


@wires
@roles
def test_a_peer_that_is_not_read_is_asked_and_not_judged(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    told: list[float | None] = []
    session.on_deadline_changed = lambda: told.append(session.next_deadline())
    session.pause(True, 10)
    for now in (40, 70, 1000):
        assert session.handle_deadline(now) == []
        assert said(session) == beat_ping(session, wire)
    session.pause(False, 1000)
    assert told == [40, 1030]
    assert session.handle_deadline(1030) == []
    assert said(session) == beat_ping(session, wire)


@wires
@roles
def test_a_ping_behind_bytes_that_do_not_leave_at_once_has_its_time_from_then_on(
    wire: str, role: Any
) -> None:
    session = open_session(wire, role)
    session.send(Event("large", "x" * 300_000))
    written = len(session.data_to_send())
    assert session.handle_deadline(30, unsent_size=written) == []
    for now in range(60, 600, 30):
        written -= 1000
        assert session.handle_deadline(now, unsent_size=written) == []
    assert said(session) == beat_ping(session, wire)
    assert session.handle_deadline(600) == []
    assert session.handle_deadline(659) == []
    assert ending(session.handle_deadline(660)) == (1011, "Heartbeat timeout", PeerTimeout)


@wires
@roles
def test_what_is_stuck_behind_a_peer_that_does_not_read_ends_with_the_heartbeat(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.send(Event("large", "x" * 300_000))
    written = len(session.data_to_send())
    for now in (30, 60, 89):
        assert session.handle_deadline(now, unsent_size=written) == []
    ended = session.handle_deadline(90, unsent_size=written)
    assert ending(ended) == (1011, "Heartbeat timeout", PeerTimeout)
    assert session.is_aborted


@wires
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from(["received", "received", "paused", "resumed"])),
        max_size=20,
    ).map(in_time),
)
def test_a_timer_that_hears_only_of_commands_misses_no_beat(
    wire: str, interval: int, timeout: int, changes: list[tuple[int, str]]
) -> None:
    session = open_session(wire, SERVER, heartbeat_interval=interval, heartbeat_timeout=timeout)
    timers = [session.next_deadline()]

    def reschedule() -> None:  # as Deadlines does it: only what came nearer moves the timer
        known, deadline = timers[-1], session.next_deadline()
        if deadline is not None and (known is None or deadline < known):
            timers.append(deadline)

    session.on_deadline_changed = reschedule
    done: list[tuple[float, str]] = []
    for at, change in [*changes, (changes[-1][0] + 200 if changes else 200, "received")]:
        while (now := timers[-1]) is not None and now < at and session.state is State.OPEN:
            ended = session.handle_deadline(now)
            if ended:
                done.append((now, "dead"))
            elif said(session) == PING[wire]:
                done.append((now, "ping"))
            timers.append(session.next_deadline())
        if change == "received":
            session.receive_data(peer_pong(session), at)
        else:
            session.pause(change == "paused", at)
    assert done == [(at, beat.value) for at, beat in model(interval, timeout, changes)]


@wires
def test_nothing_is_sent_to_who_was_given_up(wire: str) -> None:
    session = open_session(wire, SERVER)
    session.handle_deadline(30)
    session.handle_deadline(90)
    said(session)
    with pytest.raises(StateError):
        session.send(Event("chat", 1))
    assert session.receive_data(from_peer(session, Event("chat", 1)), 91) == []


# --- a loop that stood still ---


@wires
def test_every_deadline_moves_by_the_time_in_which_nobody_could_be_heard(wire: str) -> None:
    session = new_session(wire, CLIENT, now=0)
    session.postpone(60, 61)
    assert session.next_deadline() == 70

    session = open_session(wire, SERVER)
    session.postpone(5, 61)
    assert session.next_deadline() == 35

    session = open_session(wire, CLIENT)
    request = session.request("a", "x", None, 0, timeout=5)
    session.postpone(2, 6)
    session.handle_deadline(6.9)
    assert not request.done
    session.handle_deadline(7)
    assert request.done

    session = open_session(wire, CLIENT)
    session.close(1000, "", 0)
    session.postpone(60, 61)
    assert session.next_deadline() == 65


@wires
def test_a_deadline_moves_no_further_than_if_the_waiting_began_now(wire: str) -> None:
    session = new_session(wire, CLIENT, now=100)
    session.postpone(1000, 101)
    assert session.next_deadline() == 111

    session = open_session(wire, CLIENT, heartbeat_interval=None)
    session.request("a", "x", None, 0, timeout=5)
    session.postpone(1000, 3)
    session.handle_deadline(5)
    assert session.next_deadline() == 8

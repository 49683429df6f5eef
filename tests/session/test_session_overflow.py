"""A peer that does not read: the outbox is bounded, and its overflow is an end like any other."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.channel import Closed, State
from stelar_proto.channel.config import SMALLEST_OUTBOX
from stelar_proto.errors import MessageError, SlowConsumer, StateError
from stelar_proto.messages import AckResponse, Event
from stelar_proto.session import Event as SessionEvent
from stelar_proto.session import Session

from .peers import (
    CLIENT,
    PING,
    SERVER,
    UPGRADE,
    ending,
    new_session,
    open_session,
    phase,
    roles,
    said,
    wires,
)

POLICIES = ["close", "drop_oldest", "drop_newest"]


@wires
@roles
def test_a_full_outbox_ends_the_session(wire: str, role: Any) -> None:
    session = open_session(wire, role, outbox_limit=1000)
    told: list[float | None] = []
    session.on_deadline_changed = lambda: told.append(session.next_deadline())
    for number in range(100):
        session.send_frame(session.format.encode_frame(Event("number", number)))
    sent = session.messages_sent
    assert 10 < sent < 20
    assert session.state is State.CLOSED
    assert phase(session) == "cut"
    assert session.messages_dropped == sent + 1  # the one that did not fit, too
    assert told != []
    assert session.next_deadline() == 0
    events = session.handle_deadline(0)
    assert ending(events) == (1006, "", SlowConsumer)
    assert "more than 1000 bytes wait for it" in repr(events)


@wires
def test_a_client_is_told_to_wait_when_its_outbox_is_full_and_loses_nothing(wire: str) -> None:
    session = open_session(wire, CLIENT, outbox_limit=500)
    session.send(Event("x", "x" * 300))
    waiting = session.outbox.size
    for send in (
        lambda: session.send(Event("x", "x" * 300)),
        lambda: session.request("a", "x", "x" * 300, 0, timeout=5),
    ):
        with pytest.raises(StateError, match=rf"the outbox is full \({waiting} bytes\): await drain\(\)"):
            send()
    assert (len(session.acks), session.messages_dropped, session.outbox.size) == (0, 0, waiting)
    session.data_to_send()
    session.send(Event("x", "x" * 300))


@wires
def test_what_is_larger_than_a_whole_outbox_is_too_large(wire: str) -> None:
    session = open_session(wire, CLIENT, outbox_limit=500)
    for send in (
        lambda: session.send(Event("x", "x" * 500)),
        lambda: session.request("a", "x", "x" * 500, 0, timeout=5),
    ):
        with pytest.raises(MessageError, match=r"bytes is larger than outbox_limit, 500") as caught:
            send()
        assert caught.value.code == "PAYLOAD_TOO_LARGE"
    assert (len(session.acks), session.messages_dropped, session.outbox.size) == (0, 0, 0)
    assert session.state is State.OPEN


@wires
@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_drops_an_event_and_refuses_an_answer_that_no_outbox_can_hold(
    wire: str, policy: str
) -> None:
    session = open_session(wire, SERVER, outbox_limit=500, slow_consumer=policy)
    reasons: list[str] = []
    session.on_dropped = reasons.append
    frame = session.format.encode_frame(Event("x", "x" * 500))
    assert session.send_frame(frame) is False
    assert (session.messages_dropped, session.messages_sent, session.state) == (1, 0, State.OPEN)
    assert reasons == [f"one of {len(frame)} bytes is larger than outbox_limit"]
    with pytest.raises(MessageError, match="larger than outbox_limit"):
        session.send_frame(frame, droppable=False)
    assert session.messages_dropped == 1


def numbers_in(session: Session, data: bytes) -> list[int]:
    """The numbers of the events in ``data``, which each has a frame of its own."""
    return [int(number) for number in re.findall(rb"<(\d+)>", data)]


def numbered(session: Session, number: int, size: int = 0) -> bytes:
    return session.format.encode_frame(Event("x", f"<{number}>" + "x" * size))


@wires
def test_the_oldest_events_make_room_for_newer_ones(wire: str) -> None:
    session = open_session(wire, SERVER, outbox_limit=1000, slow_consumer="drop_oldest")
    reasons: list[str] = []
    session.on_dropped = reasons.append
    assert all(session.send_frame(numbered(session, number, 200)) for number in range(10))
    numbers = numbers_in(session, said(session))
    assert numbers == list(range(10))[-len(numbers) :]
    assert session.messages_dropped == 10 - len(numbers) > 0
    assert reasons == ["the peer does not read"]
    assert (session.messages_sent, session.state) == (10, State.OPEN)
    for number in range(10):
        session.send_frame(numbered(session, number, 200))
    assert len(reasons) == 2  # once each time that it falls behind


@wires
def test_the_newest_events_are_dropped_and_nobody_is_told_that_they_were_sent(wire: str) -> None:
    session = open_session(wire, SERVER, outbox_limit=1000, slow_consumer="drop_newest")
    reasons: list[str] = []
    session.on_dropped = reasons.append
    taken = [session.send_frame(numbered(session, number, 200)) for number in range(10)]
    numbers = numbers_in(session, said(session))
    assert numbers == [number for number in range(10) if taken[number]] == list(range(len(numbers)))
    assert session.messages_dropped == 10 - len(numbers) > 0
    assert (session.messages_sent, len(reasons)) == (len(numbers), 1)


@wires
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_the_protocol_says_takes_the_place_of_the_oldest_events(wire: str, policy: str) -> None:
    session = open_session(wire, SERVER, outbox_limit=1000, slow_consumer=policy)
    number = 0
    while session.send_frame(numbered(session, number, 30)) and not session.messages_dropped:
        number += 1
    before = session.messages_dropped
    session.send(AckResponse("name", "y" * 100, "7"))
    assert session.messages_dropped > before
    session.handle_deadline(30)
    session.close(1008, "enough", 31)
    data = said(session)
    assert b"y" * 100 in data
    first, *others = numbers_in(session, data)
    assert 0 < first < number
    assert data.index(b"<%d>" % others[-1]) < data.index(b"yyy") < data.index(b"enough")


@wires
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_answers_alone_can_fill_an_outbox_and_then_the_session_ends(wire: str, policy: str) -> None:
    session = open_session(wire, SERVER, outbox_limit=1000, slow_consumer=policy)
    for number in range(3):
        session.send(AckResponse("name", "y" * 200, str(number)))
    assert session.state is State.OPEN
    assert session.send_frame(numbered(session, 1, 400)) is False  # there is nothing to drop but itself
    assert (session.messages_dropped, session.state) == (1, State.OPEN)
    session.send(AckResponse("name", "y" * 400, "5"))
    assert ending(session.handle_deadline(0)) == (1006, "", SlowConsumer)


@wires
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@given(st.lists(st.one_of(st.integers(0, 1200), st.integers(-600, -1), st.none()), max_size=40))
def test_whatever_is_sent_arrives_in_order_or_is_counted(
    wire: str, policy: str, steps: list[int | None]
) -> None:
    """``steps``: the size of an event, of an answer (negative), or None: the peer reads some."""
    session = open_session(wire, SERVER, outbox_limit=1000, slow_consumer=policy)
    received = b""
    answers: list[int] = []
    refused: list[int] = []
    for number, step in enumerate(steps):
        if step is None:
            received += session.data_to_send()
        elif step >= 0:
            if not session.send_frame(numbered(session, number, step)):
                refused.append(number)
        elif session.can_send:
            session.send(AckResponse("name", f"<{number}>" + "y" * -step, str(number)))
            answers.append(number)
        assert session.outbox.size <= 1000
    if session.state is State.OPEN:
        received += said(session)
        numbers = numbers_in(session, received)
        assert numbers == sorted(set(numbers))
        assert set(answers) <= set(numbers)
        assert not set(refused) & set(numbers)
        assert len(numbers) + session.messages_dropped == sum(step is not None for step in steps)


@wires
@roles
def test_a_peer_that_pings_and_does_not_read_the_answers_is_cut(wire: str, role: Any) -> None:
    session = open_session(wire, role, outbox_limit=1000)
    ping = PING[wire] if (wire, role) != ("ws", SERVER) else b"\x89\x80\0\0\0\0"
    events: list[SessionEvent] = []
    for _ in range(10_000):
        events += session.receive_data(ping, 1)
        assert session.outbox.size <= 1000 + (SMALLEST_OUTBOX if role is CLIENT else 0)
    assert ending(events) == (1006, "", SlowConsumer)
    assert phase(session) == "cut"


@wires
@roles
@pytest.mark.parametrize("limit", [1, 7, 12, 30, 40, 100, 200, 300])
def test_an_outbox_too_small_for_what_the_protocol_says_ends_the_session_and_no_more(
    wire: str, role: Any, limit: int
) -> None:
    """At whatever step the words do not fit, the end is reported once and nothing is raised."""
    for step in ("heartbeat", "close", "fault", "refuse"):
        session = new_session(wire, role, outbox_limit=limit, announce_id=True)
        events: list[SessionEvent] = []
        if hasattr(session, "request_upgrade") and role is CLIENT:
            session.request_upgrade("ws://localhost/chat")
        elif role is SERVER:
            if wire == "ws":
                events += [event for event in session.receive_data(UPGRADE, 0) if isinstance(event, Closed)]
            if step == "refuse":
                session.refuse(503, "Server full")
            else:
                session.accept("c1")
        assert not (session.is_aborted and session.outbox)
        said(session)
        if step == "heartbeat":
            events += session.handle_deadline(30)
            events += session.handle_deadline(90)
        elif step == "close":
            session.close(1008, "Rate limit exceeded", 1)
        else:
            events += session.receive_data(b"\xff" * 10, 1)
        events += session.handle_deadline(100)
        events += session.connection_lost(101)
        assert [type(event) for event in events] == ([Closed] if (role, step) != (SERVER, "refuse") else [])


@wires
def test_a_session_is_congested_until_its_outbox_was_read(wire: str) -> None:
    session = open_session(wire, SERVER)
    session.send(Event("large", "x" * 100_000))
    assert session.outbox.congested
    said(session)
    assert not session.outbox.congested
    session.send(Event("large", "x" * 100_000))
    session.abort(Closed(1006, "", None))
    assert not session.outbox.congested

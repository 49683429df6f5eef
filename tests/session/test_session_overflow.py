"""A peer that does not read: the outbox is bounded, and its overflow is an end like any other."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.channel import Closed, State
from stelar_proto.errors import SlowConsumer, StateError
from stelar_proto.messages import Event
from stelar_proto.session import Event as SessionEvent

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


@wires
@roles
def test_a_full_outbox_ends_the_session(wire: str, role: Any) -> None:
    session = open_session(wire, role, outbox_limit=1000)
    told: list[float | None] = []
    session.on_deadline_changed = lambda: told.append(session.next_deadline())
    for number in range(100):
        session.send_frame(session.format.encode_frame(Event("number", number)))
    sent = session.messages_sent
    assert 20 < sent < 80
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
        lambda: session.request("a", "x", "x" * 500, 0, timeout=5),
    ):
        with pytest.raises(StateError, match=rf"the outbox is full \({waiting} bytes\): await drain\(\)"):
            send()
    assert (len(session.acks), session.messages_dropped, session.outbox.size) == (0, 0, waiting)
    session.data_to_send()
    session.send(Event("x", "x" * 300))


@wires
@roles
def test_a_peer_that_pings_and_does_not_read_the_answers_is_cut(wire: str, role: Any) -> None:
    session = open_session(wire, role, outbox_limit=1000)
    ping = PING[wire] if (wire, role) != ("ws", SERVER) else b"\x89\x80\0\0\0\0"
    events: list[SessionEvent] = []
    for _ in range(10_000):
        events += session.receive_data(ping, 1)
        assert session.outbox.size <= 1000
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

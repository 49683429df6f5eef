"""How a session ends, on either wire and in either role: what is reported, and when the socket goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.channel import Closed, State
from stelar_proto.errors import MessageError, PeerTimeout, StateError, StreamEnded
from stelar_proto.messages import Event
from stelar_proto.session import Event as SessionEvent
from stelar_proto.session import Session

from .peers import (
    CLIENT,
    PING,
    SERVER,
    ending,
    from_peer,
    new_session,
    open_session,
    phase,
    roles,
    said,
    settle,
    wires,
)

# --- both sides agree ---


@wires
@roles
def test_an_orderly_end_loses_nothing_and_leaves_both_sockets_to_be_closed(wire: str, role: Any) -> None:
    session, peer = open_session(wire, role), open_session(wire, CLIENT if role is SERVER else SERVER)
    peer.send(Event("crossing", 1))
    session.send(Event("last", 1))
    session.close(1001, "", 10)
    assert session.state is State.CLOSING
    assert session.next_deadline() == 15
    with pytest.raises(StateError, match="the connection is closing"):
        session.send(Event("late", 1))

    heard, peer_heard = settle(session, peer, 11)
    assert heard == [Event("crossing", 1), Closed(1001, "", None)]
    # A TCP client has no words for its end; a TCP server has these.
    code, reason = 1001, ""
    if wire == "tcp":
        code, reason = (1001, "Server shutting down") if role is SERVER else (1000, "")
    assert peer_heard == [Event("last", 1), Closed(code, reason, None)]
    for each in (session, peer):
        assert each.state is State.CLOSED
        assert phase(each) == "close"
        assert each.next_deadline() is None
        assert each.messages_dropped == 0


@wires
def test_the_peer_has_one_close_timeout_for_all_of_its_part(wire: str) -> None:
    session = open_session(wire, SERVER)
    session.close(1000, "", 10)
    said(session)
    last = b"\x88\x80\0\0\0\0" if wire == "ws" else b"\0\0\0\0"
    [closed] = session.receive_data(last, 14)
    assert isinstance(closed, Closed)
    assert session.next_deadline() == 15


@wires
def test_both_sides_may_close_at_once(wire: str) -> None:
    client, server = open_session(wire, CLIENT), open_session(wire, SERVER)
    client.close(1000, "", 10)
    server.close(1001, "", 10)
    client_heard, server_heard = settle(client, server, 11)
    assert [type(event) for event in (*client_heard, *server_heard)] == [Closed, Closed]
    assert phase(client) == phase(server) == "close"


@wires
@roles
def test_what_the_peer_sends_before_it_closes_is_still_received(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.close(1000, "", 0)
    said(session)
    assert session.receive_data(from_peer(session, Event("meanwhile", 1)), 1) == [Event("meanwhile", 1)]
    assert (
        session.receive_data(PING[wire] if (wire, role) != ("ws", SERVER) else b"\x89\x80\0\0\0\0", 1) == []
    )
    assert session.state is State.CLOSING


@wires
@roles
def test_a_peer_that_does_not_close_is_cut(wire: str, role: Any) -> None:
    session = open_session(wire, role, close_timeout=2)
    session.close(1000, "", 10)
    said(session)
    session.receive_data(from_peer(session, Event("still-here", 1)), 11)
    assert session.next_deadline() == 12
    assert session.handle_deadline(11.9) == []
    events = session.handle_deadline(12)
    assert ending(events) == (1006, "", PeerTimeout)
    assert "did not close within 2 s" in repr(events)
    assert phase(session) == "cut"


@wires
@roles
def test_a_peer_that_reads_nothing_of_the_end_is_cut(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.send(Event("unread", 1))
    session.close(1000, "", 10)
    assert ending(session.handle_deadline(15)) == (1006, "", PeerTimeout)
    assert phase(session) == "cut"
    assert said(session) == b""
    assert session.messages_dropped == 1  # a close frame is none


@wires
@roles
def test_a_stream_that_the_peer_does_not_end_is_cut_after_the_close_timeout(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    garbage = b"\xff" * 10
    [closed] = session.receive_data(garbage, 10)
    assert isinstance(closed, Closed)
    assert phase(session) == "go on"  # until the answer is written
    assert said(session) != b""
    assert phase(session) == "end our side"
    assert session.next_deadline() == 15
    assert session.receive_data(garbage, 14) == []
    assert session.handle_deadline(14) == []
    assert phase(session) == "end our side"
    assert session.handle_deadline(15) == []  # Closed has been reported
    assert phase(session) == "cut"
    assert session.next_deadline() is None


@wires
def test_who_is_done_is_not_cut_by_a_deadline_that_comes_late(wire: str) -> None:
    session = open_session(wire, SERVER)
    session.receive_data(b"\xff" * 10, 10)
    said(session)
    session.receive_data(b"", 11)
    assert phase(session) == "close"
    assert session.handle_deadline(100) == []
    assert phase(session) == "close"


@wires
@roles
def test_closing_again_changes_nothing(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.close(1000, "first", 10)
    goodbye = said(session)
    session.close(4000, "second", 12)
    assert said(session) == b""
    assert goodbye != b"" or (wire, role) == ("tcp", CLIENT)
    assert session.next_deadline() == 15
    session.handle_deadline(15)
    session.close(1000, "third", 16)
    assert session.handle_deadline(17) == []


@wires
@roles
@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2000, 5000])
def test_a_code_that_must_not_be_sent_is_refused_on_either_wire(wire: str, role: Any, code: int) -> None:
    for session in (open_session(wire, role), new_session(wire, role)):
        state = session.state
        with pytest.raises(MessageError, match=f"close code {code} may not be sent"):
            session.close(code, "", 0)
        assert (session.state, said(session)) == (state, b"")


# --- one side alone ---


@wires
@roles
def test_closing_before_the_session_is_open_ends_it_at_once(wire: str, role: Any) -> None:
    session = new_session(wire, role)
    session.close(1001, "Server shutting down", 3)
    assert session.state is State.CLOSED
    assert phase(session) == "cut"
    assert session.next_deadline() == 3
    assert session.handle_deadline(3) == [Closed(1001, "Server shutting down", None)]
    assert session.next_deadline() is None


@wires
@roles
def test_an_aborted_session_reports_its_end_at_once_and_drops_what_it_has(wire: str, role: Any) -> None:
    session = open_session(wire, role, now=7)
    session.send(Event("lost", 1))
    told: list[float | None] = []
    session.on_deadline_changed = lambda: told.append(session.next_deadline())
    end = Closed(1006, "enough", None)
    session.abort(end)
    assert phase(session) == "cut"
    assert set(told) == {7}
    assert (said(session), session.messages_dropped) == (b"", 1)
    session.abort(Closed(1000, "another", None))
    session.send_frame(b"for many")
    assert session.handle_deadline(8) == [end]
    assert session.next_deadline() is None
    assert session.connection_lost(9) == []
    assert said(session) == b""


@wires
@roles
def test_an_abort_is_reported_by_whatever_call_comes_first(wire: str, role: Any) -> None:
    calls: list[Callable[[Session], list[SessionEvent]]] = [
        lambda session: session.receive_data(b"\xff" * 10, 1),
        lambda session: session.receive_data(b"", 1),
        lambda session: session.connection_lost(1),
        lambda session: session.handle_deadline(1),
    ]
    for first in calls:
        session = open_session(wire, role)
        session.abort(Closed(1006, "", None))
        assert first(session) == [Closed(1006, "", None)]
        for later in calls:
            assert later(session) == []


@wires
@roles
def test_a_connection_that_broke_is_an_abnormal_end(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.send(Event("lost", 1))
    events = session.connection_lost(3)
    assert ending(events) == (1006, "", StreamEnded)
    assert phase(session) == "cut"
    assert (said(session), session.messages_dropped) == (b"", 1)
    assert session.next_deadline() is None
    assert session.connection_lost(4) == []


@wires
@roles
def test_a_connection_that_broke_before_it_was_open_is_an_end_too(wire: str, role: Any) -> None:
    [closed] = new_session(wire, role).connection_lost(3)
    assert isinstance(closed, Closed)
    assert closed.code == (1000 if (wire, role) == ("tcp", SERVER) else 1006)


@wires
@roles
def test_a_connection_that_is_lost_after_its_end_says_nothing_more(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.receive_data(b"\xff" * 10, 1)
    assert session.connection_lost(2) == []
    assert (said(session), session.messages_dropped) == (b"", 0)


# --- the last words ---


@wires
@roles
def test_what_came_in_front_of_the_end_can_still_be_answered(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    [question, closed] = session.receive_data(from_peer(session, Event("question", 1)) + b"\xff" * 10, 1)
    assert question == Event("question", 1)
    assert isinstance(closed, Closed)
    answer = Event("answer", 1)
    session.send(answer)
    session.send_frame(session.format.encode_frame(answer))
    assert session.messages_sent == 2
    assert session.receive_data(b"", 2) == []
    assert phase(session) == "go on"  # although the peer has ended: the last words have not left
    heard = session.data_to_send()
    assert heard.count(b"answer") == 2
    assert heard.rindex(b"answer") < heard.rindex(b"\x88" if wire == "ws" else b"\0\5error")
    assert phase(session) == "close"
    with pytest.raises(StateError, match="the connection is closed"):
        session.send(answer)
    session.send_frame(session.format.encode_frame(answer))
    assert (said(session), session.messages_sent) == (b"", 2)


@wires
@roles
def test_what_ends_is_not_asked_any_more(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.receive_data(b"\xff" * 10, 1)
    assert session.can_send
    with pytest.raises(StateError, match="nothing can be asked: the connection is closed"):
        session.request("a", "x", 1, 1, timeout=5)
    assert len(session.acks) == 0


@wires
@roles
def test_a_socket_is_not_closed_before_the_last_words_have_left(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.receive_data(b"\xff" * 10, 1)
    session.receive_data(b"", 2)
    assert phase(session) == "go on"
    assert said(session) != b""
    assert phase(session) == "close"


@wires
@roles
def test_last_words_that_nobody_takes_are_cut_off_at_the_close_timeout(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    session.receive_data(b"\xff" * 10, 1)
    assert session.next_deadline() == 6
    assert session.handle_deadline(6) == []
    assert phase(session) == "cut"
    with pytest.raises(StateError):
        session.send(Event("answer", 1))
    assert said(session) == b""

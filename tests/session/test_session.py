"""What a session does on either wire and in either role: opening, messages both ways, requests, counters."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.channel import Closed, State
from stelar_proto.errors import AckTimeout, ConnectionLost, MessageError, RemoteError, StateError
from stelar_proto.messages import (
    AckError,
    AckRequest,
    AckResponse,
    Binary,
    Event,
    Goodbye,
    Hello,
    Invalid,
    Join,
    Message,
)
from stelar_proto.session import Opened

from .peers import (
    CLIENT,
    PING,
    SERVER,
    from_peer,
    new_session,
    open_session,
    peer_pong,
    roles,
    said,
    wires,
)

# --- opening ---


@wires
@roles
def test_nothing_is_sent_before_the_session_is_open(wire: str, role: Any) -> None:
    session = new_session(wire, role)
    with pytest.raises(StateError, match="the connection is connecting"):
        session.send(Event("chat", 1))
    with pytest.raises(StateError, match="the connection is connecting"):
        session.request("a", "x", 1, 0, timeout=5)
    session.send_frame(b"for many")
    assert said(session) == b""
    assert (session.messages_sent, len(session.acks)) == (0, 0)


@wires
def test_a_client_is_open_when_the_server_has_said_so_and_knows_its_id(wire: str) -> None:
    session = open_session(wire, CLIENT)
    if wire == "ws":
        assert session.client_id is None  # the npm package never tells it
        assert session.receive_data(from_peer(session, Hello("c1")), 0) == []
    assert session.client_id == "c1"
    # The same again says nothing new; another id would be somebody else.
    assert session.receive_data(from_peer(session, Hello("c1")), 0) == []
    [event] = session.receive_data(from_peer(session, Hello("c2")), 0)
    assert event == Invalid("the server announced a second client id: 'c2'")
    assert session.client_id == "c1"
    assert session.messages_received == 0


@wires
def test_only_a_server_takes_clients_in_and_only_once(wire: str) -> None:
    for session in (new_session(wire, CLIENT), open_session(wire, CLIENT), open_session(wire, SERVER)):
        with pytest.raises(StateError, match="nobody waits to be taken in"):
            session.accept("c1")
        with pytest.raises(StateError, match="nobody waits to be taken in"):
            session.refuse(403, "no")
        assert session.state is not State.CLOSED


@wires
def test_who_has_gone_meanwhile_can_neither_be_taken_in_nor_refused(wire: str) -> None:
    for end in ("deadline", "abort", "close"):
        session = new_session(wire, SERVER)
        if end == "deadline":
            session.handle_deadline(10)
        elif end == "abort":
            session.abort(Closed(1001, "", None))
        else:
            session.close(1001, "", 0)
        with pytest.raises(StateError, match="it is closed"):
            session.accept("c1")
        with pytest.raises(StateError, match="it is closed"):
            session.refuse(403, "no")
        assert said(session) == b""


# --- messages ---


@wires
@roles
def test_messages_leave_in_order_and_in_one_write(wire: str, role: Any) -> None:
    session, peer = open_session(wire, role), open_session(wire, CLIENT if role is SERVER else SERVER)
    messages: list[Message] = [Event("chat", {"text": "¡hola!"}), Binary("blob", b"\0\1"), Event("end", None)]
    for message in messages:
        session.send(message)
    assert peer.receive_data(session.data_to_send(), 0) == messages
    assert session.data_to_send() == b""
    assert (session.messages_sent, peer.messages_received) == (3, 3)


@wires
@roles
def test_what_may_not_be_sent_is_raised_and_nothing_leaves(wire: str, role: Any) -> None:
    session = open_session(wire, role, max_payload_size=100)
    for message, code in (
        (Event("ping", 1), "RESERVED_EVENT"),
        (Event("chat", {1}), "NOT_SERIALIZABLE"),
        (Binary("blob", b"x" * 101), "PAYLOAD_TOO_LARGE"),
    ):
        with pytest.raises(MessageError) as caught:
            session.send(message)
        assert caught.value.code == code
    with pytest.raises(TypeError, match="Goodbye is not said"):
        session.send(Goodbye())
    assert said(session) == b""
    assert (session.messages_sent, session.state) == (0, State.OPEN)


@wires
def test_a_frame_for_many_is_counted_like_a_message(wire: str) -> None:
    session = open_session(wire, SERVER)
    frame = session.format.encode_frame(Event("chat", 1))
    session.send_frame(frame)
    assert session.data_to_send() is frame
    assert session.messages_sent == 1


@wires
@roles
def test_a_message_that_breaks_the_rules_is_reported_and_the_connection_goes_on(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    data = from_peer(session, Event("one", 1), Event("error-", 2), Event("three", 3))
    events = session.receive_data(data.replace(b"error-", b"error!"), 0)
    assert [type(event) for event in events] == [Event, Invalid, Event]
    assert session.messages_received == 3
    assert session.state is State.OPEN


@wires
def test_a_message_from_the_wrong_side_is_reported(wire: str) -> None:
    client, server = open_session(wire, CLIENT), open_session(wire, SERVER)
    [event] = client.receive_data(from_peer(client, Join("general")), 0)
    assert isinstance(event, Invalid)
    [event] = server.receive_data(from_peer(server, Hello("c9")), 0)
    assert isinstance(event, Invalid)
    assert server.client_id == "c1"


@wires
@roles
def test_heartbeats_are_no_messages(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    assert session.receive_data(peer_pong(session), 0) == []
    assert session.messages_received == 0


# --- requests ---


@wires
@roles
@pytest.mark.parametrize(
    "result", [None, 6, {"total": 6}, {"_correlationId": "mine"}, {"data": 1, "_error": 2}]
)
def test_a_request_ends_with_its_answer(wire: str, role: Any, result: Any) -> None:
    session, peer = open_session(wire, role), open_session(wire, CLIENT if role is SERVER else SERVER)
    pending = session.request("sum", "getSum", [1, 2, 3], 0, timeout=5)
    [request] = peer.receive_data(said(session), 0)
    assert request == AckRequest("sum", "getSum", [1, 2, 3], "1")
    peer.send(AckResponse("sum", result, "1"))
    assert not pending.done
    assert session.receive_data(said(peer), 0) == []
    assert pending.done
    assert pending.result() == result
    assert (session.messages_sent, session.messages_received) == (1, 1)


@wires
@roles
def test_a_request_ends_with_an_error_answer(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    pending = session.request("sum", "getSum", None, 0, timeout=5)
    assert session.receive_data(from_peer(session, AckError("sum", "REFUSED", "no", "1")), 0) == []
    with pytest.raises(RemoteError, match="REFUSED: no"):
        pending.result()


@wires
def test_requests_of_one_name_are_told_apart_and_without_ids_the_oldest_is_answered_first(wire: str) -> None:
    session = open_session(wire, CLIENT)
    first, second, third = (session.request("sum", "getSum", n, 0, timeout=5) for n in range(3))
    answers = AckResponse("sum", "2nd", "2"), AckResponse("sum", "1st", None), AckResponse("sum", "3rd", None)
    assert session.receive_data(from_peer(session, *answers), 0) == []
    assert [pending.result() for pending in (first, second, third)] == ["1st", "2nd", "3rd"]


@wires
def test_an_answer_that_nobody_waits_for_is_an_event(wire: str) -> None:
    session = open_session(wire, CLIENT)
    pending = session.request("sum", "getSum", 1, 0, timeout=5)
    answer = AckResponse("sum", 1, "1")
    assert session.receive_data(from_peer(session, answer, answer), 0) == [answer]
    assert pending.result() == 1
    late = AckError("sum", "C", "m", "99")
    assert session.receive_data(from_peer(session, late), 0) == [late]


@wires
@roles
def test_a_request_runs_out(wire: str, role: Any) -> None:
    session = open_session(wire, role)
    pending = session.request("sum", "getSum", 1, 0, timeout=5)
    assert session.next_deadline() == 5
    assert session.handle_deadline(4.9) == []
    assert not pending.done
    assert session.handle_deadline(5) == []
    with pytest.raises(AckTimeout):
        pending.result()
    assert session.next_deadline() == 30
    # What comes too late is an answer that nobody waits for.
    late = AckResponse("sum", 1, "1")
    assert session.receive_data(from_peer(session, late), 6) == [late]


@wires
def test_a_request_tells_the_timer_and_its_answer_does_not_need_to(wire: str) -> None:
    session = open_session(wire, CLIENT)
    told: list[float | None] = []
    session.on_deadline_changed = lambda: told.append(session.next_deadline())
    session.request("sum", "getSum", 1, 1, timeout=5)
    assert told == [6]
    session.receive_data(from_peer(session, AckResponse("sum", 1, "1")), 2)
    assert told == [6]
    assert session.next_deadline() == 32  # of the heartbeat


@wires
def test_without_a_heartbeat_the_requests_alone_make_the_deadline(wire: str) -> None:
    session = open_session(wire, CLIENT, heartbeat_interval=None)
    assert session.next_deadline() is None
    session.request("sum", "getSum", 1, 0, timeout=5)
    assert session.next_deadline() == 5


@wires
def test_requests_in_flight_are_bounded(wire: str) -> None:
    session = open_session(wire, CLIENT, max_pending_acks=1)
    pending = session.request("a", "x", 1, 0, timeout=5)
    said(session)
    with pytest.raises(StateError, match="1 requests are in flight already"):
        session.request("b", "x", 1, 0, timeout=5)
    assert said(session) == b""
    session.acks.discard(pending)
    session.request("c", "x", 1, 0, timeout=5)
    assert not pending.done


@wires
def test_a_request_that_cannot_be_sent_is_not_in_flight(wire: str) -> None:
    session = open_session(wire, CLIENT)
    with pytest.raises(MessageError):
        session.request("a", "x", {1}, 0, timeout=5)
    with pytest.raises(MessageError):
        session.request("a", "ping", 1, 0, timeout=5)
    with pytest.raises(TypeError):
        session.request("a", 5, 1, 0, timeout=5)  # type: ignore[arg-type]
    assert len(session.acks) == 0


@wires
def test_the_end_of_the_connection_ends_the_requests_and_says_why(wire: str) -> None:
    for reason, words in (("", "answer came$"), ("Rate limit exceeded", r"\(Rate limit exceeded\)$")):
        session = open_session(wire, CLIENT)
        pending = session.request("a", "x", 1, 0, timeout=5)
        session.abort(Closed(1006, reason, None))
        with pytest.raises(ConnectionLost, match=words):
            pending.result()
    session = open_session(wire, CLIENT)
    pending = session.request("a", "x", 1, 0, timeout=5)
    session.connection_lost(1)
    with pytest.raises(ConnectionLost, match=r"\(.*(ended|lost).*\)$"):
        pending.result()


@wires
def test_who_is_told_of_an_answer_may_end_the_session_and_hears_no_more(wire: str) -> None:
    session = open_session(wire, CLIENT)
    pending = session.request("a", "x", 1, 0, timeout=5)
    end = Closed(1006, "enough", None)
    pending.on_done = lambda: session.abort(end)
    ping = PING[wire]
    data = ping + from_peer(session, AckResponse("a", 1, "1"), Event("chat", 1)) + ping
    assert session.receive_data(data, 0) == [end]
    with pytest.raises(StateError):
        session.send(Event("chat", 1))
    assert said(session) == b""
    assert session.receive_data(data, 0) == []


@wires
def test_who_is_told_of_a_timeout_may_close_the_session(wire: str) -> None:
    session = open_session(wire, CLIENT)
    pending = session.request("a", "x", 1, 0, timeout=30)
    pending.on_done = lambda: session.close(1000, "", 30)
    assert session.handle_deadline(30) == []  # the heartbeat's ping is due, too
    assert session.state is State.CLOSING


# --- what it looks like ---


@wires
def test_a_session_shows_role_state_and_id(wire: str) -> None:
    session = open_session(wire, SERVER)
    assert repr(session) == f"<{type(session).__name__} server open id=c1>"


def test_an_opened_client_hears_it_before_anything_else() -> None:
    session = new_session("tcp", CLIENT)
    events = session.receive_data(from_peer(session, Hello("c1"), Event("welcome", 1)), 0)
    assert events == [Opened(), Event("welcome", 1)]

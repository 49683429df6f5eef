"""What is the WebSocket wire's own: the handshake, the bytes of every end, and who ends the stream first."""

from __future__ import annotations

from functools import partial

import pytest

from stelar_proto.channel import Closed, State
from stelar_proto.errors import (
    HandshakeError,
    InvalidUtf8,
    MessageTooBig,
    PeerTimeout,
    StateError,
    StreamEnded,
    UpgradeRefused,
    WebSocketError,
)
from stelar_proto.messages import AckRequest, AckResponse, Event, Invalid
from stelar_proto.session import CLIENT_ID_HEADER, Opened, WebSocketSession
from stelar_proto.ws import RequestReceived, UpgradeRequested

from .peers import (
    ACCEPTED,
    CLIENT,
    SERVER,
    UPGRADE,
    ZERO_MASK,
    ending,
    from_peer,
    new_session,
    open_session,
    said,
)

table = partial(pytest.mark.parametrize, ids=lambda value: ascii(value)[:48])

SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-Stelar-Client-Id: c1\r\n\r\n"
)


def new_server(**options: object) -> WebSocketSession:
    session = new_session("ws", SERVER, **options)  # type: ignore[arg-type]  # options of any kind
    assert isinstance(session, WebSocketSession)
    return session


def new_client(**options: object) -> WebSocketSession:
    session = new_session("ws", CLIENT, **options)  # type: ignore[arg-type]  # as above
    assert isinstance(session, WebSocketSession)
    return session


# --- a server's handshake ---


def test_the_101_and_a_first_message_tell_the_client_its_id() -> None:
    session = new_server(announce_id=True)
    [event] = session.receive_data(UPGRADE, 1)
    assert isinstance(event, UpgradeRequested)
    assert (event.request.path, session.state) == ("/chat", State.CONNECTING)
    session.accept("c1")
    text = b'{"event":"stelar:connect","data":{"id":"c1"}}'
    assert said(session) == SWITCHING + b"\x81" + bytes((len(text),)) + text
    assert (session.state, session.client_id, session.messages_sent) == (State.OPEN, "c1", 0)


def test_the_first_message_can_be_left_out() -> None:
    session = new_server(announce_id=False)
    session.receive_data(UPGRADE, 1)
    session.accept("c1")
    assert said(session) == SWITCHING


def test_a_server_chooses_the_first_of_its_subprotocols_that_was_offered() -> None:
    offer = UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: v3, v2, v1\r\n\r\n")
    for accepted, chosen in ((["v1", "v2"], "v1"), (["v4"], None), ([], None)):
        session = new_server(subprotocols=accepted)
        assert session.subprotocol is None
        session.receive_data(offer, 1)
        assert session.subprotocol == chosen
        session.accept("c1")
        assert (b"\r\nSec-WebSocket-Protocol: v1\r\n" in said(session)) is (chosen is not None)


def test_a_client_offers_its_subprotocols_and_knows_which_was_chosen() -> None:
    session = new_client(subprotocols=["v2", "v1"])
    session.request_upgrade("ws://localhost/")
    assert b"\r\nSec-WebSocket-Protocol: v2, v1\r\n" in said(session)
    answer = ACCEPTED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: v1\r\n\r\n")
    assert session.receive_data(answer, 1) == [Opened()]
    assert session.subprotocol == "v1"


@pytest.mark.parametrize("client_id", ["a\r\nSet-Cookie: b", "\0", "☃"])
def test_an_id_that_no_header_can_carry_is_refused_and_nothing_has_happened(client_id: str) -> None:
    session = new_server(announce_id=True)
    session.receive_data(UPGRADE, 1)
    with pytest.raises(ValueError, match="Client-Id"):
        session.accept(client_id)
    assert (session.state, session.client_id, said(session)) == (State.CONNECTING, None, b"")
    session.accept("c1")
    assert said(session).startswith(SWITCHING)


def test_nobody_is_taken_in_before_the_request_is_complete() -> None:
    session = new_server()
    assert session.receive_data(UPGRADE[:-1], 1) == []
    with pytest.raises(StateError):
        session.accept("c1")
    with pytest.raises(StateError):
        session.refuse(503, "Server full")
    assert session.state is State.CONNECTING
    [event] = session.receive_data(UPGRADE[-1:], 2)
    assert isinstance(event, UpgradeRequested)


@table(
    ("status", "message", "head"),
    [
        (401, "Who are you?", b"HTTP/1.1 401 Unauthorized\r\n"),
        (403, "This origin may not connect", b"HTTP/1.1 403 Forbidden\r\n"),
        (404, "there is no namespace '/chat' here", b"HTTP/1.1 404 Not Found\r\n"),
        (429, "Too many connections from this address", b"HTTP/1.1 429 Too Many Requests\r\n"),
        (503, "Server full", b"HTTP/1.1 503 Service Unavailable\r\n"),
        (403, "¿quién? ☃", b"HTTP/1.1 403 Forbidden\r\n"),
    ],
)
def test_a_refusal_arrives_before_the_upgrade(status: int, message: str, head: bytes) -> None:
    session = new_server()
    session.receive_data(UPGRADE, 1)
    session.refuse(status, message)
    answer = said(session)
    body = message.encode() + b"\n"
    assert answer.startswith(head)
    assert b"\r\nContent-Length: %d\r\n" % len(body) in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + body)
    assert session.state is State.CLOSED
    assert session.wants_eof
    assert not session.is_finished
    assert session.next_deadline() == 6
    # The refusal was the caller's: no Closed tells it.
    assert session.receive_data(b"", 2) == []
    assert session.is_finished


def test_words_that_utf8_cannot_say_do_not_stop_a_refusal() -> None:
    session = new_server()
    session.receive_data(UPGRADE, 1)
    session.refuse(403, "no \ud800!")
    assert said(session).endswith(b"\r\n\r\nno ?!\n")


def test_a_plain_request_is_answered_by_plain_http() -> None:
    session = new_server()
    [event] = session.receive_data(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
    assert isinstance(event, RequestReceived)
    with pytest.raises(StateError):
        session.accept("c1")
    with pytest.raises(ValueError, match="status"):
        session.respond(101, b"")
    session.respond(200, b"{}", headers=[("Content-Type", "application/json")])
    answer = said(session)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n{}")
    with pytest.raises(StateError):
        session.respond(200, b"{}")
    assert session.connection_lost(2) == []


def test_a_broken_request_is_answered_and_reported() -> None:
    session = new_server()
    assert ending(session.receive_data(b"NONSENSE\r\n\r\n", 1)) == (1006, "", HandshakeError)
    assert said(session).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert session.wants_eof


def test_a_stream_that_ends_in_the_request_is_reported() -> None:
    session = new_server()
    session.receive_data(UPGRADE[:20], 1)
    assert ending(session.receive_data(b"", 2)) == (1006, "", StreamEnded)
    assert (said(session), session.is_finished) == (b"", True)


# --- a client's handshake ---


def test_a_client_asks_for_the_upgrade_and_learns_its_id_from_the_answer() -> None:
    session = new_client()
    session.request_upgrade("ws://localhost:3000/chat?room=1", headers=[("Authorization", "Bearer x")])
    request = said(session)
    assert request.startswith(b"GET /chat?room=1 HTTP/1.1\r\nHost: localhost:3000\r\n")
    assert b"\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" in request
    assert b"\r\nAuthorization: Bearer x\r\n" in request
    answer = ACCEPTED[:-2] + CLIENT_ID_HEADER.encode() + b": c1\r\n\r\n"
    glued = b'\x81\x17{"event":"hi","data":1}'
    assert session.receive_data(answer + glued, 1) == [Opened(), Event("hi", 1)]
    assert (session.client_id, session.state) == ("c1", State.OPEN)


@pytest.mark.parametrize("headers", [[("Host:", "x")], [("X", "a\r\nb")]])
def test_a_request_that_cannot_be_sent_is_raised(headers: list[tuple[str, str]]) -> None:
    session = new_client()
    with pytest.raises(ValueError, match=r"header"):
        session.request_upgrade("ws://localhost/", headers=headers)
    with pytest.raises(ValueError, match=r"."):
        session.request_upgrade("gopher://localhost/")
    assert said(session) == b""


def test_the_wrong_accept_value_of_the_npm_package_is_accepted_only_on_demand() -> None:
    # SHA-1 of the key and the npm package's GUID, 258EAFA5-E914-47DA-95CA-5AB5A7E3A741.
    answer = ACCEPTED.replace(b"ICX+Yqv66kxgM0FcWaLWlFLwTAI=", b"Nrv060YiTaIq5UMvC9glaqfpFOw=")
    strict = new_client()
    strict.request_upgrade("ws://localhost/")
    said(strict)
    assert ending(strict.receive_data(answer, 1)) == (1006, "", HandshakeError)
    lenient = new_client(accept_npm_handshake=True)
    lenient.request_upgrade("ws://localhost/")
    assert lenient.receive_data(answer, 1) == [Opened()]


def test_a_refused_upgrade_is_reported_with_the_response() -> None:
    session = new_client()
    session.request_upgrade("ws://localhost/")
    said(session)
    events = session.receive_data(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 12\r\n\r\nServer full\n", 1
    )
    assert ending(events) == (1006, "", UpgradeRefused)
    assert "HTTP 503" in repr(events)
    assert session.wants_eof


# --- messages ---


def test_a_client_masks_and_a_server_does_not() -> None:
    client, server = open_session("ws", CLIENT), open_session("ws", SERVER)
    for session in (client, server):
        session.send(Event("chat", 1))
    text = b'{"event":"chat","data":1}'
    assert said(client) == b"\x81\x99" + ZERO_MASK + text
    assert said(server) == b"\x81\x19" + text


def test_a_message_in_fragments_with_a_ping_between_is_one_message() -> None:
    session = open_session("ws", CLIENT)
    chunk = b'\x01\x0a{"event":"' + b"\x89\x01!" + b'\x80\x0fchat","data":1}'
    assert session.receive_data(chunk, 1) == [Event("chat", 1)]
    assert said(session) == b"\x8a\x81" + ZERO_MASK + b"!"


def test_what_came_before_a_fault_is_delivered_and_nothing_behind_it() -> None:
    session = open_session("ws", SERVER)
    good = from_peer(session, Event("chat", 1))
    events = session.receive_data(good + b"\x81\x80" + ZERO_MASK + b"\x83\x80" + ZERO_MASK + good, 1)
    assert events[0] == Event("chat", 1)
    assert isinstance(events[1], Invalid)  # an empty text
    assert ending(events[2:])[0::2] == (1002, WebSocketError)


def test_what_came_in_front_of_a_close_is_answered_in_front_of_its_echo() -> None:
    session = open_session("ws", SERVER)
    ping, close = b"\x89\x81" + ZERO_MASK + b"!", b"\x88\x82" + ZERO_MASK + b"\x03\xe8"
    question = AckRequest("sum", "getSum", [1, 2], "1")
    data = ping + from_peer(session, question) + close
    assert session.receive_data(data, 1) == [question, Closed(1000, "", None)]
    session.send(AckResponse("sum", 3, "1"))
    answer = b'{"event":"sum","data":3,"_isAck":true,"_correlationId":"1"}'
    assert said(session) == b"\x81\x3b" + answer + b"\x8a\x01!" + b"\x88\x02\x03\xe8"


# --- the ends, row by row ---


def close_frame(code: int, reason: str, *, masked: bool = False) -> bytes:
    """A close frame, put together by hand."""
    payload = code.to_bytes(2, "big") + reason.encode()
    mask = ZERO_MASK if masked else b""
    return bytes((0x88, len(payload) | (0x80 if masked else 0))) + mask + payload


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1000, "bye"), (1001, ""), (4000, "¡adiós!")])
def test_a_close_of_the_peer_is_echoed_and_reported(code: int, reason: str) -> None:
    server = open_session("ws", SERVER)
    assert server.receive_data(close_frame(code, reason, masked=True), 1) == [Closed(code, reason, None)]
    assert said(server) == close_frame(code, reason)
    assert server.wants_eof
    client = open_session("ws", CLIENT)
    assert client.receive_data(close_frame(code, reason), 1) == [Closed(code, reason, None)]
    assert said(client) == close_frame(code, reason, masked=True)


def test_a_close_of_the_peer_without_a_code_is_answered_and_reported_as_1005() -> None:
    session = open_session("ws", SERVER)
    assert session.receive_data(b"\x88\x80" + ZERO_MASK, 1) == [Closed(1005, "", None)]
    assert said(session)[:1] == b"\x88"


@table(
    ("code", "reason"),
    [
        (1008, "Rate limit exceeded"),
        (1001, "Server shutting down"),
        (1000, ""),
        (4000, "enough"),
    ],
)
def test_our_close_leaves_with_code_and_reason_and_waits_for_the_answer(code: int, reason: str) -> None:
    session = open_session("ws", SERVER)
    session.send(Event("last", 1))
    session.close(code, reason, 1)
    assert said(session) == b'\x81\x19{"event":"last","data":1}' + close_frame(code, reason)
    assert not session.wants_eof
    assert session.receive_data(close_frame(code, reason, masked=True), 2) == [Closed(code, reason, None)]
    assert said(session) == b""
    assert session.wants_eof


def test_a_reason_is_cut_to_what_a_close_frame_can_carry() -> None:
    session = open_session("ws", SERVER)
    session.close(4000, "ñ" * 100 + "\ud800", 1)
    assert said(session) == close_frame(4000, "ñ" * 61)


@table(
    ("frame", "code", "error"),
    [
        (b"\x81\x01x", 1002, WebSocketError),  # not masked
        (b"\xc1\x80" + ZERO_MASK, 1002, WebSocketError),  # a reserved bit
        (b"\x83\x80" + ZERO_MASK, 1002, WebSocketError),  # an unknown opcode
        (b"\x88\x81" + ZERO_MASK + b"\x03", 1002, WebSocketError),  # half a close code
        (b"\x81\x81" + ZERO_MASK + b"\xff", 1007, InvalidUtf8),
        (b"\x81\xe5" + ZERO_MASK, 1009, MessageTooBig),  # 101 bytes, known from the header
    ],
)
def test_a_fault_of_the_peer_is_answered_with_its_code(
    frame: bytes, code: int, error: type[Exception]
) -> None:
    session = open_session("ws", SERVER, max_payload_size=100)
    [closed] = session.receive_data(frame, 1)
    assert isinstance(closed, Closed)
    assert (closed.code, type(closed.error)) == (code, error)
    assert closed.reason
    assert said(session) == close_frame(code, closed.reason)
    assert session.wants_eof


def test_a_frame_over_the_limit_is_refused_even_if_the_message_would_fit() -> None:
    session = open_session("ws", SERVER, max_payload_size=1000, max_frame_size=100)
    assert ending(session.receive_data(b"\x81\xe5" + ZERO_MASK, 1))[2] is MessageTooBig


def test_a_dead_peer_is_told_so_and_dropped_without_waiting() -> None:
    session = open_session("ws", SERVER)
    session.handle_deadline(30)
    assert said(session) == b"\x89\0"
    assert ending(session.handle_deadline(90)) == (1011, "Heartbeat timeout", PeerTimeout)
    assert not session.is_finished  # the words are still here
    assert said(session) == close_frame(1011, "Heartbeat timeout")
    assert session.is_finished
    assert not session.is_aborted


def test_a_dead_peer_that_does_not_read_either_is_dropped_without_words() -> None:
    session = open_session("ws", SERVER)
    session.handle_deadline(30)
    assert ending(session.handle_deadline(90)) == (1011, "Heartbeat timeout", PeerTimeout)
    assert session.is_aborted
    assert said(session) == b""
    assert session.messages_dropped == 0  # the ping is none


def test_a_stream_that_ends_without_a_close_frame_is_an_abnormal_end() -> None:
    for session in (open_session("ws", SERVER), open_session("ws", CLIENT)):
        assert ending(session.receive_data(b"", 1)) == (1006, "", StreamEnded)
        assert (said(session), session.is_finished) == (b"", True)
        closing = open_session("ws", session.role)
        closing.close(1000, "", 1)
        assert ending(closing.receive_data(b"", 1)) == (1006, "", StreamEnded)


# --- who ends the stream first (RFC 6455, section 7.1.1) ---


def test_after_a_close_handshake_the_client_waits_for_the_server_to_end_the_stream() -> None:
    session = open_session("ws", CLIENT)
    session.receive_data(close_frame(1000, ""), 1)
    said(session)
    assert (session.state, session.wants_eof, session.is_finished) == (State.CLOSED, False, False)
    assert session.next_deadline() == 6
    assert session.receive_data(b"", 2) == []
    assert (session.wants_eof, session.is_finished) == (True, True)


def test_a_client_waits_for_the_end_of_the_stream_no_longer_than_the_close_timeout() -> None:
    session = open_session("ws", CLIENT)
    session.receive_data(close_frame(1000, ""), 1)
    said(session)
    assert session.handle_deadline(6) == []
    assert session.is_aborted


def test_a_client_that_failed_the_connection_ends_the_stream_itself() -> None:
    session = open_session("ws", CLIENT)
    session.receive_data(b"\x83\x00", 1)
    assert not session.wants_eof
    said(session)
    assert session.wants_eof

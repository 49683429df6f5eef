"""The handshake phase of a server's connection (RFC 6455, section 4.2).

What the two heads may say is tested with the functions that judge them; here: what a connection does with it.
"""

from __future__ import annotations

import pytest

from stelar_proto.errors import HandshakeError, StateError, StreamEnded
from stelar_proto.ws import (
    Closed,
    Connection,
    HeadLimits,
    RequestReceived,
    Role,
    State,
    TextReceived,
    UpgradeRequested,
)

from .chunking import cuts
from .feeding import (
    PLAIN,
    REQUEST,
    RESPONSE,
    TEXT,
    both_roles,
    bytewise,
    comparable,
    feed,
    new_connection,
    refused,
    rfc_entropy,
    sent_to,
    with_fields,
)

HEAD = b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOO_EARLY = "bytes came behind the request, before it was answered"

# --- Plain HTTP -----------------------------------------------------------------------------


def test_a_plain_request_is_reported_and_answered() -> None:
    for chunks in cuts(PLAIN):
        conn = new_connection(Role.SERVER)
        [event] = feed(conn, chunks)
        assert isinstance(event, RequestReceived)
        request = event.request
        assert (request.method, request.path, request.query) == ("GET", "/health", {"full": ["1"]})
        assert conn.request is request
        assert (conn.state, conn.data_to_send()) == (State.CONNECTING, b"")
        conn.respond(200, b"{}", headers={"Content-Type": "application/json"})
        assert conn.data_to_send() == (
            b"HTTP/1.1 200 OK\r\n"
            b"Content-Type: application/json\r\n"
            b"Content-Length: 2\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"{}"
        )


def test_the_answer_ends_the_connection_without_a_further_event() -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(PLAIN)
    conn.respond(204)
    assert conn.data_to_send() == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    assert conn.state is State.CLOSED
    assert conn.receive_data(PLAIN) == conn.receive_data(b"") == []
    assert conn.data_to_send() == b""


def test_the_answer_to_head_has_a_length_and_no_body() -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(HEAD)
    conn.respond(200, b"hello")
    assert conn.data_to_send() == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("rest", [b"\r\n", PLAIN, REQUEST, b"\x81\x00", b"\0" * 5000])
def test_what_is_pipelined_behind_a_plain_request_is_ignored_in_any_chunks(rest: bytes) -> None:
    for chunks in ([PLAIN + rest], [PLAIN, rest], [PLAIN + rest[:1], rest[1:]], bytewise(PLAIN + rest)):
        conn = new_connection(Role.SERVER)
        [event] = feed(conn, chunks)
        assert isinstance(event, RequestReceived)
        conn.respond(200, b"ok")
        assert conn.data_to_send().endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("rest", [b"", REQUEST])
def test_a_plain_request_is_refused_by_itself_where_only_websocket_is_spoken(rest: bytes) -> None:
    for chunks in cuts(PLAIN + rest):
        conn = new_connection(Role.SERVER, plain_http=False)
        assert comparable(feed(conn, chunks)) == [refused(426, "only WebSocket is spoken here")]
        assert conn.data_to_send() == (
            b"HTTP/1.1 426 Upgrade Required\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Upgrade: websocket\r\n"
            b"Content-Length: 30\r\n"
            b"Connection: close, Upgrade\r\n"
            b"\r\n"
            b"only WebSocket is spoken here\n"
        )
        assert conn.request is not None
        assert conn.request.path == "/health"


def test_a_handshake_is_reported_where_only_websocket_is_spoken() -> None:
    conn = new_connection(Role.SERVER, plain_http=False)
    [event] = conn.receive_data(REQUEST)
    assert isinstance(event, UpgradeRequested)


# --- The upgrade ------------------------------------------------------------------------------


def test_an_upgrade_is_requested_and_accepted() -> None:
    for chunks in cuts(REQUEST):
        conn = new_connection(Role.SERVER)
        [event] = feed(conn, chunks)
        assert isinstance(event, UpgradeRequested)
        assert (event.request.path, event.subprotocols) == ("/chat", ())
        assert conn.request is event.request
        assert (repr(conn), conn.data_to_send()) == ("<ws.Connection server connecting>", b"")
        conn.accept()
        assert conn.data_to_send() == RESPONSE
        assert (conn.state, conn.subprotocol) == (State.OPEN, None)
        assert conn.receive_data(sent_to(Role.SERVER, TEXT, b"hi")) == [TextReceived("hi")]


def test_an_upgrade_is_accepted_with_a_subprotocol_and_headers() -> None:
    conn = new_connection(Role.SERVER)
    [event] = conn.receive_data(with_fields(REQUEST, b"Sec-WebSocket-Protocol: chat, superchat"))
    assert isinstance(event, UpgradeRequested)
    assert event.subprotocols == ("chat", "superchat")
    conn.accept(subprotocol="superchat", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert conn.data_to_send() == with_fields(
        RESPONSE, b"Sec-WebSocket-Protocol: superchat", b"Set-Cookie: a=1", b"Set-Cookie: b=2"
    )
    assert conn.subprotocol == "superchat"


def test_an_upgrade_is_refused_with_plain_http() -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(REQUEST)
    conn.respond(403, b"origin refused\n", headers=[("Content-Type", "text/plain")])
    assert conn.data_to_send() == (
        b"HTTP/1.1 403 Forbidden\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Length: 15\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"origin refused\n"
    )
    assert conn.state is State.CLOSED
    assert conn.receive_data(sent_to(Role.SERVER, TEXT, b"hi")) == []


def test_an_accept_that_fails_leaves_the_upgrade_to_be_answered() -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(with_fields(REQUEST, b"Sec-WebSocket-Protocol: chat"))
    with pytest.raises(
        ValueError, match=r"subprotocol 'other' was not offered; allowed are \['chat'\] and None"
    ):
        conn.accept(subprotocol="other")
    with pytest.raises(ValueError, match="the header Sec-WebSocket-Accept is set by the handshake itself"):
        conn.accept(headers=[("Sec-WebSocket-Accept", "x")])
    with pytest.raises(ValueError, match="has to be latin-1 without CR, LF"):
        conn.respond(403, headers=[("X", "a\r\nb")])
    assert (conn.state, conn.data_to_send()) == (State.CONNECTING, b"")
    conn.accept(subprotocol="chat")
    assert conn.data_to_send() == with_fields(RESPONSE, b"Sec-WebSocket-Protocol: chat")


@pytest.mark.parametrize("rest", [b"\x81", sent_to(Role.SERVER, TEXT, b"early"), b"GET", b"\r\n"])
def test_bytes_glued_to_an_upgrade_request_are_refused(rest: bytes) -> None:
    conn = new_connection(Role.SERVER)
    assert comparable(conn.receive_data(REQUEST + rest)) == [refused(400, TOO_EARLY)]
    assert conn.data_to_send() == (
        b"HTTP/1.1 400 Bad Request\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 54\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"bytes came behind the request, before it was answered\n"
    )
    assert conn.request is not None
    assert conn.request.path == "/chat"


def test_bytes_before_the_answer_to_an_upgrade_are_refused() -> None:
    conn = new_connection(Role.SERVER)
    [requested] = conn.receive_data(REQUEST)
    assert isinstance(requested, UpgradeRequested)
    assert comparable(conn.receive_data(b"\x81")) == [refused(400, TOO_EARLY)]
    assert conn.data_to_send().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(StateError, match=r"accept\(\) comes too late: the connection is closed"):
        conn.accept()
    assert conn.receive_data(b"\x00") == conn.receive_data(b"") == []
    assert conn.data_to_send() == b""


@pytest.mark.parametrize(
    ("request_head", "status", "reason", "answer"),
    [
        (
            b"GET / HTTP/1.1\r\n\r\n",
            400,
            "a request has exactly one Host header, not 0",
            b"HTTP/1.1 400 Bad Request\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 45\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"a request has exactly one Host header, not 0\n",
        ),
        (
            REQUEST.replace(b"Version: 13", b"Version: 8"),
            426,
            "only version 13 of the WebSocket protocol is spoken here",
            b"HTTP/1.1 426 Upgrade Required\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Upgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"Content-Length: 57\r\n"
            b"Connection: close, Upgrade\r\n"
            b"\r\n"
            b"only version 13 of the WebSocket protocol is spoken here\n",
        ),
        (
            REQUEST.replace(b"GET", b"POST"),
            405,
            "a WebSocket handshake is a GET request",
            b"HTTP/1.1 405 Method Not Allowed\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Allow: GET\r\n"
            b"Content-Length: 39\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"a WebSocket handshake is a GET request\n",
        ),
        (  # The answer to HEAD has no body, not even this one.
            REQUEST.replace(b"GET", b"HEAD"),
            405,
            "a WebSocket handshake is a GET request",
            b"HTTP/1.1 405 Method Not Allowed\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Allow: GET\r\n"
            b"Content-Length: 39\r\n"
            b"Connection: close\r\n"
            b"\r\n",
        ),
        (
            b"GET / HTTP/2.0\r\n",
            505,
            "only HTTP/1.1 is spoken here",
            b"HTTP/1.1 505 HTTP Version Not Supported\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 29\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"only HTTP/1.1 is spoken here\n",
        ),
    ],
    ids=["host", "version", "method", "HEAD", "HTTP/2"],
)
def test_a_bad_head_is_answered_by_itself(
    request_head: bytes, status: int, reason: str, answer: bytes
) -> None:
    for chunks in cuts(request_head):
        conn = new_connection(Role.SERVER)
        assert comparable(feed(conn, chunks)) == [refused(status, reason)]
        assert conn.data_to_send() == answer
        assert conn.state is State.CLOSED
        assert conn.receive_data(REQUEST) == conn.receive_data(b"") == []


@pytest.mark.parametrize("start", [b"", b"G", REQUEST[:-1], REQUEST, PLAIN])
def test_the_end_of_the_stream_ends_the_handshake(start: bytes) -> None:
    conn = new_connection(Role.SERVER)
    feed(conn, bytewise(start))
    assert comparable(conn.receive_data(b"")) == [
        (1006, "", StreamEnded, "the stream ended before the WebSocket handshake did", None)
    ]
    assert conn.data_to_send() == b""
    assert conn.receive_data(b"") == []
    with pytest.raises(StateError, match=r"accept\(\) comes too late: the connection is closed"):
        conn.accept()
    with pytest.raises(StateError, match=r"respond\(\) comes too late: the connection is closed"):
        conn.respond(200)


@both_roles
def test_the_limits_of_the_head_can_be_set(role: Role) -> None:
    limits = HeadLimits(max_header_line_size=64)
    entropy = rfc_entropy if role is Role.CLIENT else None
    conn = Connection(role, entropy=entropy, head_limits=limits)
    first_line = b"GET / HTTP/1.1\r\n"
    if role is Role.CLIENT:
        conn.request_upgrade("ws://localhost/chat")
        first_line = b"HTTP/1.1 101 Switching Protocols\r\n"
    [closed] = conn.receive_data(first_line + b"X: " + b"x" * 65)
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.status == (431 if role is Role.SERVER else 0)

"""The handshake phase of a client's connection (RFC 6455, section 4.1)."""

from __future__ import annotations

import pytest

from stelar_proto.errors import StateError, StreamEnded, UpgradeRefused
from stelar_proto.ws import Closed, Connection, Headers, Opened, PingReceived, Role, State, TextReceived

from .chunking import cuts
from .feeding import (
    PING,
    REQUEST,
    RESPONSE,
    TEXT,
    bytewise,
    close_frame,
    comparable,
    feed,
    new_connection,
    refused,
    requesting_connection,
    rfc_entropy,
    sent_to,
    with_fields,
)

INVALID = "the server's 101 is no valid WebSocket handshake"


def test_a_client_sends_its_handshake() -> None:
    conn = new_connection(Role.CLIENT)
    assert conn.data_to_send() == b""
    conn.request_upgrade("ws://localhost/chat")
    assert conn.data_to_send() == REQUEST
    assert conn.request is not None
    assert conn.request.headers["host"] == "localhost"
    assert conn.state is State.CONNECTING


def test_a_handshake_carries_headers_and_subprotocols() -> None:
    conn = new_connection(Role.CLIENT)
    conn.request_upgrade(
        "wss://example.com:8443/a?b=c",
        headers={"Authorization": "Bearer x"},
        subprotocols=iter(["chat", "v2"]),
    )
    assert conn.data_to_send() == (
        b"GET /a?b=c HTTP/1.1\r\n"
        b"Host: example.com:8443\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: chat, v2\r\n"
        b"Authorization: Bearer x\r\n"
        b"\r\n"
    )


def test_an_accepted_handshake_opens_the_connection() -> None:
    for chunks in cuts(with_fields(RESPONSE, b"Sec-WebSocket-Protocol: v2", b"Sec-Stelar-Client-Id: 7")):
        conn = requesting_connection(subprotocols=["chat", "v2"])
        [event] = feed(conn, chunks)
        assert isinstance(event, Opened)
        assert (event.response.status, event.subprotocol) == (101, "v2")
        assert event.response.headers["Sec-Stelar-Client-Id"] == "7"
        assert conn.response is event.response
        assert (conn.state, conn.subprotocol, conn.data_to_send()) == (State.OPEN, "v2", b"")


def test_frames_glued_to_the_101_are_received_in_any_chunks() -> None:
    client = Role.CLIENT
    frames = sent_to(client, TEXT, b"welcome") + sent_to(client, PING, b"?")
    for chunks in cuts(RESPONSE + frames):
        conn = requesting_connection()
        [opened, *rest] = feed(conn, chunks)
        assert isinstance(opened, Opened)
        assert rest == [TextReceived("welcome"), PingReceived(b"?")]
        assert conn.data_to_send() == b"\x8a\x81\x37\xfa\x21\x3d\x08"


def test_a_wrong_frame_glued_to_the_101_ends_the_open_connection() -> None:
    reason = "frames from a server must not be masked"
    for chunks in cuts(RESPONSE + b"\x81\x85"):
        conn = requesting_connection()
        [opened, closed] = feed(conn, chunks)
        assert isinstance(opened, Opened)
        assert isinstance(closed, Closed)
        assert (closed.code, closed.reason) == (1002, reason)
        assert conn.data_to_send() == close_frame(Role.CLIENT, 1002, reason)


def test_a_refusal_is_reported_with_the_whole_response() -> None:
    response = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nX-Why: origin\r\n\r\nno way"
    for chunks in cuts(response):
        conn = requesting_connection()
        [closed] = feed(conn, chunks)
        assert isinstance(closed, Closed)
        assert (closed.code, closed.reason) == (1006, "")
        error = closed.error
        assert isinstance(error, UpgradeRefused)
        assert (error.status, error.reason) == (403, "the server refused the upgrade: HTTP 403 Forbidden")
        assert error.response.body == b"no way"
        assert error.response.headers["x-why"] == "origin"
        assert conn.response is error.response
        assert (conn.state, conn.data_to_send()) == (State.CLOSED, b"")
        assert conn.receive_data(RESPONSE) == conn.receive_data(b"") == []


def test_the_body_of_a_refusal_is_bounded() -> None:
    conn = requesting_connection()
    head = b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000000\r\n\r\n"
    events = feed(conn, [head, *[bytes(10_000)] * 100])
    [closed] = events
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, UpgradeRefused)
    assert len(closed.error.response.body) == 65536


@pytest.mark.parametrize("closed_early", [False, True])
def test_a_body_without_a_length_ends_with_the_stream(closed_early: bool) -> None:
    conn = requesting_connection()
    framing = b"Content-Length: 9\r\n" if closed_early else b""
    assert conn.receive_data(b"HTTP/1.1 503 Busy\r\n" + framing + b"\r\nlater") == []
    [closed] = conn.receive_data(b"")
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, UpgradeRefused)
    assert (closed.error.status, closed.error.response.body) == (503, b"later")
    assert conn.response is closed.error.response


def test_a_redirect_is_a_refusal_that_names_its_target() -> None:
    conn = requesting_connection()
    [closed] = conn.receive_data(b"HTTP/1.1 302 Found\r\nLocation: wss://b/\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(closed, Closed)
    assert str(closed.error) == "the server refused the upgrade: HTTP 302 Found (to 'wss://b/')"


@pytest.mark.parametrize(
    ("response", "status", "reason"),
    [
        (
            RESPONSE.replace(b"s3pP", b"S3pP"),
            101,
            f"{INVALID}: its Sec-WebSocket-Accept does not answer our key",
        ),
        (
            with_fields(RESPONSE, b"Sec-WebSocket-Protocol: chat"),
            101,
            f"{INVALID}: it has a subprotocol that was not offered",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            101,
            f"{INVALID}: its Upgrade is not websocket",
        ),
        (
            b"SSH-",
            0,
            "the server's answer is no valid HTTP/1.1 response: it does not begin with HTTP/1.1",
        ),
    ],
    ids=["accept", "subprotocol", "upgrade", "no HTTP"],
)
def test_an_answer_that_is_none_fails_the_handshake(response: bytes, status: int, reason: str) -> None:
    if status == 101:
        response += sent_to(Role.CLIENT, TEXT, b"never")
    for chunks in cuts(response):
        conn = requesting_connection()
        assert comparable(feed(conn, chunks)) == [refused(status, reason)]
        assert (conn.state, conn.data_to_send(), conn.subprotocol) == (State.CLOSED, b"", None)


@pytest.mark.parametrize("start", [b"", b"HTTP", RESPONSE[:-1]])
def test_the_end_of_the_stream_before_the_answer_fails_the_handshake(start: bytes) -> None:
    conn = requesting_connection()
    assert feed(conn, bytewise(start)) == []
    reason = (
        "the server's answer is no valid HTTP/1.1 response: "
        "the connection ended before a complete HTTP response had come"
    )
    if not start:
        reason += "; if the server speaks TLS, use wss:// or https://"
    assert comparable(conn.receive_data(b"")) == [refused(0, reason)]
    assert conn.receive_data(b"") == []


def test_a_server_that_speaks_first_fails_the_handshake() -> None:
    conn = new_connection(Role.CLIENT)
    reason = "the server sent bytes before it was asked for anything"
    assert comparable(conn.receive_data(RESPONSE)) == [refused(0, reason)]
    assert conn.data_to_send() == b""
    ended = new_connection(Role.CLIENT)
    assert comparable(ended.receive_data(b"")) == [
        (1006, "", StreamEnded, "the stream ended before the WebSocket handshake began", None)
    ]
    for closed in (conn, ended):
        with pytest.raises(StateError, match=r"request_upgrade\(\) comes too late: the connection is closed"):
            closed.request_upgrade("ws://localhost/")


def test_headers_of_both_forms_are_the_same_handshake() -> None:
    sent = []
    for headers in (
        [("X-A", "1"), ("X-B", "2")],
        {"X-A": "1", "X-B": "2"},
        Headers([("X-A", "1"), ("X-B", "2")]),
    ):
        conn = Connection(Role.CLIENT, entropy=rfc_entropy)
        conn.request_upgrade("ws://localhost/chat", headers=headers)
        sent.append(conn.data_to_send())
    assert sent == [with_fields(REQUEST, b"X-A: 1", b"X-B: 2")] * 3

"""Wrong calls during the handshake, both roles: what they raise, and that they do no harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.errors import StateError
from stelar_proto.ws import Connection, Role, State, UpgradeRequested

from .feeding import (
    PLAIN,
    REQUEST,
    RESPONSE,
    closing_connection,
    new_connection,
    open_connection,
    requesting_connection,
    rfc_entropy,
)

NOTHING_YET = "nothing can be sent now: the connection is connecting"


def test_a_client_needs_entropy() -> None:
    with pytest.raises(TypeError, match=r"a client needs a source of random bytes: pass entropy=os\.urandom"):
        Connection(Role.CLIENT)


def test_entropy_makes_the_key() -> None:
    keys = []
    for entropy in (bytes, rfc_entropy):
        conn = Connection(Role.CLIENT, entropy=entropy)
        conn.request_upgrade("ws://localhost/")
        assert conn.request is not None
        keys.append(conn.request.headers["sec-websocket-key"])
    assert keys == ["AAAAAAAAAAAAAAAAAAAAAA==", "dGhlIHNhbXBsZSBub25jZQ=="]
    broken = Connection(Role.CLIENT, entropy=lambda _: b"short")
    with pytest.raises(ValueError, match=r"entropy\(16\) has to return 16 bytes, it returned 5"):
        broken.request_upgrade("ws://localhost/")
    assert broken.data_to_send() == b""


SERVER_CALLS: list[tuple[Callable[[Connection], object], str]] = [
    (
        lambda conn: conn.accept(),
        "accept() answers UpgradeRequested; a plain request is answered",
    ),
    (lambda conn: conn.respond(200), "respond() answers a request, and none has come yet"),
    (
        lambda conn: conn.close(),
        "nothing to close yet: respond() refuses, dropping",
    ),
    (lambda conn: conn.send_text("x"), NOTHING_YET),
    (lambda conn: conn.send_binary(b"x"), NOTHING_YET),
    (lambda conn: conn.send_part("x", final=True), NOTHING_YET),
    (lambda conn: conn.encode_message(1, b"x"), NOTHING_YET),
    (lambda conn: conn.ping(), NOTHING_YET),
    (lambda conn: conn.pong(), NOTHING_YET),
    (lambda conn: conn.request_upgrade("ws://h/"), "request_upgrade() is for the client side; this is the"),
]


@pytest.mark.parametrize(("call", "message"), SERVER_CALLS)
def test_a_server_does_nothing_before_a_request(call: Callable[[Connection], object], message: str) -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(REQUEST[:-1])
    with pytest.raises(StateError, match=re.escape(message)):
        call(conn)
    assert conn.data_to_send() == b""
    [event] = conn.receive_data(REQUEST[-1:])
    assert isinstance(event, UpgradeRequested)


def test_a_plain_request_cannot_be_accepted() -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(PLAIN)
    with pytest.raises(StateError, match=r"a plain request is answered by respond\(\)"):
        conn.accept()
    conn.respond(200)
    assert conn.data_to_send() == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("head", [PLAIN, REQUEST])
@pytest.mark.parametrize("status", [101, 100, 199, 600])
def test_a_plain_answer_cannot_have_the_status_of_another_kind(head: bytes, status: int) -> None:
    conn = new_connection(Role.SERVER)
    conn.receive_data(head)
    with pytest.raises(ValueError, match=r"status is .*from 200 to 599"):
        conn.respond(status)
    assert (conn.state, conn.data_to_send()) == (State.CONNECTING, b"")


@pytest.mark.parametrize("call", ["accept", "respond"])
def test_a_request_is_answered_once(call: str) -> None:
    arguments = [200] if call == "respond" else []
    accepted, answered = (new_connection(Role.SERVER) for _ in range(2))
    for conn in (accepted, answered):
        conn.receive_data(REQUEST)
    accepted.accept()
    answered.respond(403)
    for conn, state in ((accepted, "open"), (answered, "closed")):
        with pytest.raises(StateError, match=rf"{call}\(\) comes too late: the connection is {state}"):
            getattr(conn, call)(*arguments)


@pytest.mark.parametrize("call", ["accept", "respond"])
def test_a_client_answers_no_requests(call: str) -> None:
    arguments = [200] if call == "respond" else []
    for conn in (new_connection(Role.CLIENT), requesting_connection(), open_connection(Role.CLIENT)):
        with pytest.raises(StateError, match=rf"{call}\(\) is for the server side; this is the client side"):
            getattr(conn, call)(*arguments)


def test_a_client_asks_once() -> None:
    conn = requesting_connection()
    with pytest.raises(StateError, match="sent already; a new connection needs a new Connection"):
        conn.request_upgrade("ws://localhost/")
    conn.receive_data(RESPONSE)
    with pytest.raises(StateError, match=r"request_upgrade\(\) comes too late: the connection is open"):
        conn.request_upgrade("ws://localhost/")
    with pytest.raises(StateError, match="the connection is closing"):
        closing_connection(Role.CLIENT).request_upgrade("ws://localhost/")
    assert conn.data_to_send() == b""


def test_a_handshake_that_cannot_be_sent_may_be_corrected() -> None:
    conn = new_connection(Role.CLIENT)
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "begins with ws://", {"url": "tcp://localhost"}),
        (ValueError, "distinct tokens", {"url": "ws://h/", "subprotocols": ["a", "a"]}),
        (ValueError, "distinct tokens", {"url": "ws://h/", "subprotocols": ["a b"]}),
        (
            TypeError,
            r"subprotocols is a sequence of names: \['chat'\]",
            {"url": "ws://h/", "subprotocols": "chat"},
        ),
        (ValueError, "set by the handshake itself", {"url": "ws://h/", "headers": [("Upgrade", "x")]}),
        (ValueError, "without CR, LF", {"url": "ws://h/", "headers": {"X": "a\r\nY: b"}}),
    ]
    for error, message, options in wrong:
        with pytest.raises(error, match=message):
            conn.request_upgrade(**options)
        assert conn.data_to_send() == b""
        assert conn.request is None
    conn.request_upgrade("ws://localhost/chat")
    assert conn.data_to_send() == REQUEST


def test_a_client_sends_nothing_before_the_answer() -> None:
    for conn in (new_connection(Role.CLIENT), requesting_connection()):
        with pytest.raises(StateError, match=NOTHING_YET):
            conn.send_text("x")
        with pytest.raises(StateError, match="nothing to close yet"):
            conn.close()
        assert conn.data_to_send() == b""

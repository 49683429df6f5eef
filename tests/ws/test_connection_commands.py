"""What an open connection sends, and what it refuses to send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.errors import MessageError, StateError
from stelar_proto.ws import Close, Connection, Role, State

from .feeding import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIRST_BINARY,
    FIRST_TEXT,
    NEXT,
    PING,
    PONG,
    RESPONSE,
    TEXT,
    both_roles,
    close_frame,
    closing_connection,
    open_connection,
    sent_by,
    sent_to,
)

COMMANDS: dict[str, Callable[[Connection], object]] = {
    "send_text": lambda conn: conn.send_text("x"),
    "send_binary": lambda conn: conn.send_binary(b"x"),
    "send_part": lambda conn: conn.send_part("x", final=True),
    "encode_message": lambda conn: conn.encode_message(1, b"x"),
    "ping": lambda conn: conn.ping(),
    "pong": lambda conn: conn.pong(),
}


@both_roles
def test_messages_are_sent_as_single_frames(role: Role) -> None:
    conn = open_connection(role)
    conn.send_text("año ☃")
    conn.send_text("")
    conn.send_binary(b"\x00\xff")
    conn.send_binary(bytearray(b"\x01"))
    conn.send_binary(memoryview(b"\x02"))
    conn.ping()
    conn.ping(b"?" * 125)
    conn.pong(b"!")
    assert conn.data_to_send() == b"".join(
        sent_by(role, first_byte, payload)
        for first_byte, payload in [
            (TEXT, b"a\xc3\xb1o \xe2\x98\x83"),
            (TEXT, b""),
            (BINARY, b"\x00\xff"),
            (BINARY, b"\x01"),
            (BINARY, b"\x02"),
            (PING, b""),
            (PING, b"?" * 125),
            (PONG, b"!"),
        ]
    )


def test_what_a_client_sends_is_literally_this() -> None:
    conn = open_connection(Role.CLIENT)
    conn.send_text("Hello")
    assert conn.data_to_send() == b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    conn.close()
    assert conn.data_to_send() == b"\x88\x82\x37\xfa\x21\x3d\x34\x12"


@both_roles
def test_a_message_in_parts_is_sent_frame_by_frame(role: Role) -> None:
    conn = open_connection(role)
    conn.send_part("Hel", final=False)
    conn.send_part("", final=False)
    conn.send_part("lo", final=True)
    conn.send_part(b"\x00", final=False)
    conn.send_part(memoryview(b"\x01"), final=True)
    conn.send_part("whole", final=True)
    conn.send_text("next")
    assert conn.data_to_send() == b"".join(
        sent_by(role, first_byte, payload)
        for first_byte, payload in [
            (FIRST_TEXT, b"Hel"),
            (NEXT, b""),
            (CONTINUATION, b"lo"),
            (FIRST_BINARY, b"\x00"),
            (CONTINUATION, b"\x01"),
            (TEXT, b"whole"),
            (TEXT, b"next"),
        ]
    )


@both_roles
def test_pings_and_the_close_may_come_between_parts(role: Role) -> None:
    conn = open_connection(role)
    conn.send_part("never", final=False)
    conn.ping(b"?")
    conn.pong()
    conn.close()
    assert conn.data_to_send() == b"".join(
        sent_by(role, first_byte, payload)
        for first_byte, payload in [(FIRST_TEXT, b"never"), (PING, b"?"), (PONG, b""), (CLOSE, b"\x03\xe8")]
    )


@both_roles
def test_an_embedder_gets_the_same_frame_to_send_itself(role: Role) -> None:
    conn = open_connection(role)
    assert conn.encode_message(1, b"Hello") == sent_by(role, TEXT, b"Hello")
    assert conn.encode_message(2, bytes(300)) == sent_by(role, BINARY, bytes(300))
    assert conn.data_to_send() == b""


@both_roles
@pytest.mark.parametrize("command", ["send_text", "send_binary", "encode_message"])
def test_no_other_message_is_sent_inside_one_in_parts(role: Role, command: str) -> None:
    conn = open_connection(role)
    conn.send_part("begun", final=False)
    conn.data_to_send()
    with pytest.raises(StateError, match=r"end it with send_part\(…, final=True\)$"):
        COMMANDS[command](conn)
    assert conn.data_to_send() == b""
    conn.send_part("!", final=True)
    COMMANDS[command](conn)


@both_roles
@pytest.mark.parametrize(
    ("first", "second", "name"), [("a", b"b", "str"), (b"a", "b", "bytes"), (bytearray(b"a"), "b", "bytes")]
)
def test_the_parts_of_a_message_are_of_one_type(
    role: Role, first: str | bytes | bytearray, second: str | bytes, name: str
) -> None:
    conn = open_connection(role)
    conn.send_part(first, final=False)
    conn.data_to_send()
    with pytest.raises(TypeError, match=f"this message began with {name}, so must all its parts be"):
        conn.send_part(second, final=True)
    assert conn.data_to_send() == b""
    conn.send_part(first, final=True)
    assert conn.data_to_send() == sent_by(role, CONTINUATION, b"a")


@both_roles
def test_a_refused_part_leaves_the_message_as_it_was(role: Role) -> None:
    conn = open_connection(role)
    with pytest.raises(MessageError, match="lone surrogate"):
        conn.send_part("\ud83d", final=False)
    wrong: Any = 5
    with pytest.raises(TypeError, match="bytes, bytearray or memoryview, not int"):
        conn.send_part(wrong, final=True)
    assert conn.data_to_send() == b""
    conn.send_text("a new one")


@both_roles
def test_what_cannot_be_sent_is_refused_at_the_call(role: Role) -> None:
    conn = open_connection(role)
    wrong: Any
    with pytest.raises(MessageError, match="lone surrogate"):
        conn.send_text("\udc00")
    for wrong in (b"bytes", 5, None):
        with pytest.raises(TypeError, match=f"text is a str, not {type(wrong).__name__}"):
            conn.send_text(wrong)
    for call in (conn.send_binary, conn.ping, conn.pong):
        for wrong in ("text", 5, None):
            with pytest.raises(
                TypeError, match=f"bytes, bytearray or memoryview, not {type(wrong).__name__}"
            ):
                call(wrong)
    for call in (conn.ping, conn.pong):
        with pytest.raises(MessageError, match="a ping or pong carries at most 125 bytes, not 126") as caught:
            call(bytes(126))
        assert caught.value.code == "PAYLOAD_TOO_LARGE"
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000):
        with pytest.raises(MessageError, match=f"close code {code} may not be sent"):
            conn.close(code)
    with pytest.raises(MessageError, match="a close reason needs a close code"):
        conn.close(None, "why")
    assert conn.data_to_send() == b""
    assert (conn.state, conn.close_sent) == (State.OPEN, None)


@both_roles
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_sent_once_the_close_was(role: Role, command: str) -> None:
    closed = closing_connection(role)
    closed.receive_data(sent_to(role, CLOSE))
    for conn, state in ((closing_connection(role), "closing"), (closed, "closed")):
        with pytest.raises(StateError, match=f"nothing can be sent now: the connection is {state}"):
            COMMANDS[command](conn)
        assert conn.data_to_send() == b""


@both_roles
def test_closing_twice_is_closing_once(role: Role) -> None:
    conn = open_connection(role)
    conn.close(1001, "first")
    conn.close(1000, "second")
    assert conn.data_to_send() == close_frame(role, 1001, "first")
    assert conn.close_sent == Close(1001, "first")
    conn.receive_data(sent_to(role, CLOSE))
    conn.close()
    assert conn.data_to_send() == b""
    assert conn.state is State.CLOSED


@both_roles
def test_a_closed_connection_keeps_nothing_of_what_it_received(role: Role) -> None:
    conn = open_connection(role)
    conn.receive_data(sent_to(role, FIRST_BINARY, bytes(100_000)))
    conn.receive_data(sent_to(role, CLOSE))
    assert conn._receiver is None
    assert conn._opening is None


def test_a_client_masks_every_frame_with_a_key_of_its_own() -> None:
    def entropy(size: int) -> bytes:
        return b"the sample nonce" if size == 16 else b"".join(i.to_bytes(4, "big") for i in range(size // 4))

    conn = Connection(Role.CLIENT, entropy=entropy)
    conn.request_upgrade("ws://localhost/chat")
    conn.receive_data(RESPONSE)
    conn.data_to_send()
    masks = set()
    for command in COMMANDS:
        data = COMMANDS[command](conn) or conn.data_to_send()
        assert isinstance(data, bytes)
        masks.add(data[2:6])
    conn.receive_data(sent_to(Role.CLIENT, PING))
    masks.add(conn.data_to_send()[2:6])
    conn.close()
    masks.add(conn.data_to_send()[2:6])
    assert len(masks) == len(COMMANDS) + 2


def test_a_client_with_a_broken_source_of_entropy_says_so_and_sends_nothing() -> None:
    conn = Connection(Role.CLIENT, entropy=lambda size: b"the sample nonce" if size == 16 else b"")
    conn.request_upgrade("ws://localhost/chat")
    conn.receive_data(RESPONSE)
    conn.data_to_send()
    with pytest.raises(ValueError, match=r"entropy\(1024\) has to return 1024 bytes, it returned 0"):
        conn.send_text("x")
    assert conn.data_to_send() == b""


@both_roles
def test_a_connection_shows_role_and_state(role: Role) -> None:
    conn = open_connection(role)
    assert repr(conn) == f"<ws.Connection {role.value} open>"
    conn.close()
    assert repr(conn) == f"<ws.Connection {role.value} closing>"

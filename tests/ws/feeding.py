"""What the tests of the codec feed to a connection, and frames that are put together without it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from stelar_proto.errors import (
    HandshakeError,
    InvalidUtf8,
    MessageTooBig,
    WebSocketError,
)
from stelar_proto.ws import Closed, Connection, Event, PerMessageDeflate, Role, State

# The example of RFC 6455, section 1.3.
REQUEST = (
    b"GET /chat HTTP/1.1\r\n"
    b"Host: localhost\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"\r\n"
)

MASK = b"\x37\xfa\x21\x3d"  # of the examples in RFC 6455, section 5.7

ROLES = list(Role)
both_roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)

PLAIN = b"GET /health?full=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"

# First bytes of frames, with FIN …
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x81, 0x82, 0x80, 0x88, 0x89, 0x8A
# … and without.
FIRST_TEXT, FIRST_BINARY, NEXT = 0x01, 0x02, 0x00


def with_fields(head: bytes, *fields: bytes) -> bytes:
    """A head with more fields at its end."""
    return head[:-2] + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def rfc_entropy(size: int) -> bytes:
    """Not random at all: the nonce of the RFC's key, and :data:`MASK` for every frame."""
    return b"the sample nonce" if size == 16 else MASK * (size // 4)


def xor(payload: bytes, mask: bytes = MASK, phase: int = 0) -> bytes:
    """Masking as RFC 6455, section 5.3, words it."""
    return bytes(byte ^ mask[(phase + i) % 4] for i, byte in enumerate(payload))


def frame(first_byte: int, payload: bytes = b"", *, masked: bool = False) -> bytes:
    """One frame of the shortest form, masked with :data:`MASK` or not."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    if not masked:
        return bytes([first_byte]) + length + payload
    return bytes([first_byte, length[0] | 0x80]) + length[1:] + MASK + xor(payload)


def sent_by(role: Role, first_byte: int, payload: bytes = b"") -> bytes:
    """A frame as this side must send it."""
    return frame(first_byte, payload, masked=role is Role.CLIENT)


def sent_to(role: Role, first_byte: int, payload: bytes = b"") -> bytes:
    """A frame as this side must receive it."""
    return frame(first_byte, payload, masked=role is Role.SERVER)


def close_frame(role: Role, code: int, reason: str = "") -> bytes:
    """A close frame as this side must send it."""
    return sent_by(role, 0x88, code.to_bytes(2, "big") + reason.encode())


def new_connection(role: Role, **options: Any) -> Connection:
    """A connection with nothing behind it."""
    return Connection(role, entropy=rfc_entropy if role is Role.CLIENT else None, **options)


def requesting_connection(**options: Any) -> Connection:
    """A client that has sent its handshake."""
    conn = new_connection(Role.CLIENT)
    conn.request_upgrade("ws://localhost/chat", **options)
    conn.data_to_send()
    return conn


def open_connection(role: Role, **options: Any) -> Connection:
    """A connection behind its handshake, with nothing left to send."""
    conn = new_connection(role, **options)
    if role is Role.SERVER:
        conn.receive_data(REQUEST)
        conn.accept()
    else:
        conn.request_upgrade("ws://localhost/chat")
        conn.receive_data(RESPONSE)
    conn.data_to_send()
    assert conn.state is State.OPEN
    return conn


def closing_connection(role: Role) -> Connection:
    """A connection that has sent its close frame."""
    conn = open_connection(role)
    conn.close()
    conn.data_to_send()
    assert conn.state is State.CLOSING
    return conn


def feed(conn: Connection, chunks: Iterable[bytes]) -> list[Event]:
    """Feed every chunk and return all events."""
    return [event for chunk in chunks for event in conn.receive_data(chunk)]


def bytewise(data: bytes) -> list[bytes]:
    """The chunks of one byte each."""
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, positions: Sequence[int]) -> list[bytes]:
    """``data`` cut at these positions (modulo its length)."""
    ends = sorted({at % len(data) for at in positions} | {0, len(data)}) if data else [0]
    return [data[start:stop] for start, stop in itertools.pairwise(ends)]


def comparable(events: Iterable[Event]) -> list[object]:
    """Events as values that can be compared: exceptions are equal only to themselves."""
    return [
        (event.code, event.reason, type(event.error), str(event.error), _status(event.error))
        if isinstance(event, Closed)
        else event
        for event in events
    ]


def _status(error: Exception | None) -> int | None:
    return error.status if isinstance(error, HandshakeError) else None


def failure(code: int, reason: str) -> object:
    """The comparable form of the event that ends a connection which the peer broke."""
    error = {1002: WebSocketError, 1007: InvalidUtf8, 1009: MessageTooBig}[code]
    return (code, reason, error, reason, None)


def refused(status: int, reason: str) -> object:
    """The comparable form of the event that ends a handshake."""
    return (1006, "", HandshakeError, reason, status)


# --- Compression ------------------------------------------------------------------------------------------

# What a connection wants that takes context over unless the peer forbids it, and compresses all it can.
EAGER = PerMessageDeflate(server_no_context_takeover=False, client_no_context_takeover=False, min_size=0)


def compressing_connection(
    role: Role,
    said: bytes = b"permessage-deflate",
    *,
    compression: PerMessageDeflate = EAGER,
    **options: Any,
) -> Connection:
    """A connection behind its handshake; ``said`` is what the peer had to say about extensions in it."""
    conn = new_connection(role, compression=compression, **options)
    field = b"Sec-WebSocket-Extensions: " + said
    if role is Role.SERVER:
        conn.receive_data(with_fields(REQUEST, field))
        conn.accept()
    else:
        conn.request_upgrade("ws://localhost/chat")
        conn.receive_data(with_fields(RESPONSE, field))
    conn.data_to_send()
    assert conn.state is State.OPEN
    assert conn.compression is not None
    return conn

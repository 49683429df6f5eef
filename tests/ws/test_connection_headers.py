"""What the header of a frame can have wrong, in both directions (RFC 6455, sections 5.2 to 5.5)."""

from __future__ import annotations

import pytest

from stelar_proto.errors import PeerError
from stelar_proto.ws import Close, Closed, PingReceived, PongReceived, Role, State, TextReceived

from .chunking import cuts
from .feeding import (
    BINARY,
    CLOSE,
    FIRST_BINARY,
    FIRST_TEXT,
    MASK,
    NEXT,
    PING,
    PONG,
    ROLES,
    TEXT,
    both_roles,
    bytewise,
    close_frame,
    comparable,
    failure,
    feed,
    new_connection,
    open_connection,
    sent_by,
    sent_to,
    xor,
)

RESERVED_BIT = "a reserved bit is set, and no extension was negotiated that would use it"
FRAGMENTED = "a control frame must not be fragmented"
UNMASKED = "frames from a client must be masked"
MASKED = "frames from a server must not be masked"
LONG_CONTROL = "a control frame carries at most 125 bytes"
HIGH_BIT = "the most significant bit of a 64-bit length must be 0"
LIMIT = 1000

# The bytes of a frame up to and with the one that gives it away, to a server and to a client; what is wrong.
WRONG_HEADERS: list[tuple[bytes, bytes, int, str]] = [
    *[
        (bytes([b]), bytes([b]), 1002, RESERVED_BIT)
        for b in (0xC1, 0xA1, 0x91, 0xF1, 0xC2, 0xC0, 0x40, 0xC9, 0xD8)
    ],
    *[
        (bytes([fin | opcode]), bytes([fin | opcode]), 1002, f"opcode 0x{opcode:X} is reserved")
        for fin in (0x00, 0x80)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ],
    *[(bytes([b]), bytes([b]), 1002, FRAGMENTED) for b in (0x08, 0x09, 0x0A)],
    (b"\x89\xfe", b"\x89\x7e", 1002, LONG_CONTROL),
    (b"\x88\xff", b"\x88\x7f", 1002, LONG_CONTROL),
    (b"\x8a\xfe", b"\x8a\x7e", 1002, LONG_CONTROL),
    (b"\x82\xfe\x00\x00", b"\x82\x7e\x00\x00", 1002, "a length of 0 must be encoded in fewer bytes"),
    (b"\x81\xfe\x00\x7d", b"\x81\x7e\x00\x7d", 1002, "a length of 125 must be encoded in fewer bytes"),
    (
        b"\x82\xff\0\0\0\0\0\0\xff\xff",
        b"\x82\x7f\0\0\0\0\0\0\xff\xff",
        1002,
        "a length of 65535 must be encoded in fewer bytes",
    ),
    (
        b"\x82\xff\0\0\0\0\0\0\0\x05",
        b"\x82\x7f\0\0\0\0\0\0\0\x05",
        1002,
        "a length of 5 must be encoded in fewer bytes",
    ),
    (b"\x82\xff\x80\0\0\0\0\0\0\0", b"\x82\x7f\x80\0\0\0\0\0\0\0", 1002, HIGH_BIT),
    (b"\x81\xff" + b"\xff" * 8, b"\x81\x7f" + b"\xff" * 8, 1002, HIGH_BIT),
    (b"\x82\xfe\x03\xe9", b"\x82\x7e\x03\xe9", 1009, "a frame of 1001 bytes is announced, the limit is 1000"),
    (
        b"\x01\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x01\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
        1009,
        "a frame of 9223372036854775807 bytes is announced, the limit is 1000",
    ),
    # These two are judged against the frames before, when the whole header is there.
    (
        b"\x80\x85" + MASK,
        b"\x80\x05",
        1002,
        "a continuation frame came, but there is no message to continue",
    ),
    (b"\x00\x80" + MASK, b"\x00\x00", 1002, "a continuation frame came, but there is no message to continue"),
]
WRONG_MASKING = [
    (Role.SERVER, b"\x81\x05", UNMASKED),
    (Role.SERVER, b"\x82\x00", UNMASKED),
    (Role.SERVER, b"\x82\x7e", UNMASKED),
    (Role.SERVER, b"\x82\x7f", UNMASKED),
    (Role.SERVER, b"\x88\x02", UNMASKED),
    (Role.CLIENT, b"\x81\x85", MASKED),
    (Role.CLIENT, b"\x82\x80", MASKED),
    (Role.CLIENT, b"\x82\xfe", MASKED),
    (Role.CLIENT, b"\x82\xff", MASKED),
    (Role.CLIENT, b"\x88\x82", MASKED),
]
WRONG = [
    (role, to_server if role is Role.SERVER else to_client, code, reason)
    for to_server, to_client, code, reason in WRONG_HEADERS
    for role in ROLES
] + [(role, data, 1002, reason) for role, data, reason in WRONG_MASKING]
wrong_headers = pytest.mark.parametrize(
    ("role", "header", "code", "reason"),
    WRONG,
    ids=lambda value: value.hex() if isinstance(value, bytes) else None,
)


@wrong_headers
def test_a_wrong_header_is_refused_at_the_byte_that_gives_it_away(
    role: Role, header: bytes, code: int, reason: str
) -> None:
    conn = open_connection(role, max_frame_size=LIMIT)
    assert feed(conn, bytewise(header[:-1])) == []
    assert (conn.state, conn.data_to_send()) == (State.OPEN, b"")
    assert comparable(conn.receive_data(header[-1:])) == [failure(code, reason)]
    assert conn.state is State.CLOSED
    assert conn.data_to_send() == close_frame(role, code, reason)
    assert (conn.close_sent, conn.close_received) == (Close(code, reason), None)


@wrong_headers
def test_frames_before_a_wrong_header_are_delivered_and_nothing_behind_it(
    role: Role, header: bytes, code: int, reason: str
) -> None:
    before = sent_to(role, PING, b"?") + sent_to(role, TEXT, "año".encode())
    garbage = sent_to(role, TEXT, b"never") + b"\xff\x00"
    for chunks in cuts(before + header + garbage):
        conn = open_connection(role, max_frame_size=LIMIT)
        assert comparable(feed(conn, chunks)) == [
            PingReceived(b"?"),
            TextReceived("año"),
            failure(code, reason),
        ]
        assert conn.data_to_send() == sent_by(role, PONG, b"?") + close_frame(role, code, reason)
        assert conn.receive_data(sent_to(role, TEXT, b"never")) == []
        assert conn.receive_data(b"") == []
        assert conn.data_to_send() == b""


@both_roles
@pytest.mark.parametrize("first", [FIRST_TEXT, FIRST_BINARY])
@pytest.mark.parametrize("second", [TEXT, BINARY, FIRST_TEXT, FIRST_BINARY])
def test_a_message_inside_another_is_refused_at_its_header(role: Role, first: int, second: int) -> None:
    reason = "a new message began before the one before it ended"
    before = sent_to(role, first, b"a") + sent_to(role, PONG) + sent_to(role, NEXT, b"b")
    header = sent_to(role, second, b"x" * 9)[:-9]
    for chunks in cuts(before + header):
        conn = open_connection(role)
        assert comparable(feed(conn, chunks)) == [PongReceived(b""), failure(1002, reason)]
        assert conn.data_to_send() == close_frame(role, 1002, reason)


def test_the_close_frame_of_a_server_that_was_sent_a_reserved_bit_is_literally_this() -> None:
    conn = open_connection(Role.SERVER)
    conn.receive_data(b"\xc1")
    assert conn.data_to_send() == (
        b"\x88\x4a\x03\xeaa reserved bit is set, and no extension was negotiated that would use it"
    )


def test_the_close_frame_of_a_client_that_was_sent_a_masked_frame_is_literally_this() -> None:
    conn = open_connection(Role.CLIENT)
    conn.receive_data(b"\x81\x80")
    assert conn.data_to_send() == b"\x88\xa9\x37\xfa\x21\x3d" + xor(
        b"\x03\xeaframes from a server must not be masked"
    )


@both_roles
def test_the_frame_limit_is_not_for_control_frames(role: Role) -> None:
    conn = open_connection(role, max_frame_size=1, max_message_size=1)
    ping = sent_to(role, PING, b"x" * 125)
    assert feed(conn, [ping, *bytewise(ping)]) == [PingReceived(b"x" * 125)] * 2
    assert conn.receive_data(sent_to(role, CLOSE, b"\x03\xe8bye")) == [Closed(1000, "bye", None)]


@both_roles
@pytest.mark.parametrize("limit", ["max_frame_size", "max_message_size", "max_fragments"])
def test_a_limit_below_one_is_refused(role: Role, limit: str) -> None:
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"{limit} is at least 1, not {value}"):
            new_connection(role, **{limit: value})


def test_the_error_of_a_broken_connection_has_a_name_for_programs() -> None:
    for data, code in [(b"\xff", "PROTOCOL_ERROR"), (b"\x81\xfe\xff\xff", "FRAME_TOO_LARGE")]:
        [closed] = open_connection(Role.SERVER, max_frame_size=LIMIT).receive_data(data)
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, PeerError)
        assert closed.error.code == code

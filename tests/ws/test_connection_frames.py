"""The open phase of a connection, both roles: headers, messages, control frames and the close handshake."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.errors import (
    InvalidUtf8,
    MessageError,
    MessageTooBig,
    PeerError,
    StateError,
    StreamEnded,
    WebSocketError,
)
from stelar_proto.ws import (
    BinaryReceived,
    Close,
    Closed,
    Event,
    PartReceived,
    PingReceived,
    PongReceived,
    Role,
    State,
    TextReceived,
)

from .chunking import cuts
from .feeding import (
    MASK,
    ROLES,
    bytewise,
    close_frame,
    closing_connection,
    comparable,
    feed,
    open_connection,
    sent_by,
    sent_to,
    xor,
)

both_roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x81, 0x82, 0x80, 0x88, 0x89, 0x8A
FIRST_TEXT, FIRST_BINARY, NEXT = 0x01, 0x02, 0x00  # without FIN

# --- What a header can have wrong -----------------------------------------------------------------------

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


def failure(code: int, reason: str) -> object:
    """The comparable form of the event that ends a connection which the peer broke."""
    error = {1002: WebSocketError, 1007: InvalidUtf8, 1009: MessageTooBig}[code]
    return (code, reason, error, reason, None)


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
    assert conn.receive_data(
        close_frame(Role.CLIENT if role is Role.SERVER else Role.SERVER, 1000, "bye")
    ) == [Closed(1000, "bye", None)]


@both_roles
@pytest.mark.parametrize("limit", ["max_frame_size", "max_message_size", "max_fragments"])
def test_a_limit_below_one_is_refused(role: Role, limit: str) -> None:
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"{limit} is at least 1, not {value}"):
            open_connection(role, **{limit: value})


# --- Messages -------------------------------------------------------------------------------------------


def messages(role: Role) -> list[tuple[bytes, list[Event]]]:
    """Streams that are right, and what they mean."""

    def stream(*frames: tuple[int, bytes]) -> bytes:
        return b"".join(sent_to(role, first_byte, payload) for first_byte, payload in frames)

    snowman = "☃".encode()
    return [
        (stream((TEXT, b"")), [TextReceived("")]),
        (stream((BINARY, b"")), [BinaryReceived(b"")]),
        (
            stream((TEXT, b"a"), (BINARY, b"\xff"), (TEXT, snowman)),
            [
                TextReceived("a"),
                BinaryReceived(b"\xff"),
                TextReceived("☃"),
            ],
        ),
        (stream((FIRST_TEXT, b"Hel"), (CONTINUATION, b"lo")), [TextReceived("Hello")]),
        (
            stream((FIRST_BINARY, b"\x00"), (NEXT, b"\x01"), (CONTINUATION, b"\x02")),
            [BinaryReceived(b"\0\x01\x02")],
        ),
        (stream((FIRST_TEXT, b""), (NEXT, b""), (NEXT, b"x"), (CONTINUATION, b"")), [TextReceived("x")]),
        (
            stream((FIRST_BINARY, b""), (CONTINUATION, b""), (FIRST_TEXT, b""), (CONTINUATION, b"")),
            [
                BinaryReceived(b""),
                TextReceived(""),
            ],
        ),
        # A character over three fragments.
        (
            stream((FIRST_TEXT, snowman[:1]), (NEXT, snowman[1:2]), (CONTINUATION, snowman[2:])),
            [TextReceived("☃")],
        ),
        # Control frames between the fragments.
        (
            stream(
                (FIRST_TEXT, b"a"), (PING, b"1"), (NEXT, b"b"), (PONG, b""), (PING, b""), (CONTINUATION, b"c")
            ),
            [PingReceived(b"1"), PongReceived(b""), PingReceived(b""), TextReceived("abc")],
        ),
        # Two bytes of length, and a payload that is masked differently.
        (
            stream((BINARY, bytes(range(200))), (TEXT, b"y" * 513)),
            [
                BinaryReceived(bytes(range(200))),
                TextReceived("y" * 513),
            ],
        ),
    ]


@both_roles
@pytest.mark.parametrize("case", range(10))
def test_messages_are_received_in_any_chunks(role: Role, case: int) -> None:
    data, wanted = messages(role)[case]
    pongs = b"".join(
        sent_by(role, PONG, event.payload) for event in wanted if isinstance(event, PingReceived)
    )
    for chunks in cuts(data):
        conn = open_connection(role)
        assert feed(conn, chunks) == wanted
        assert conn.data_to_send() == pongs


def test_all_streams_that_are_right_were_tried() -> None:
    assert len(messages(Role.SERVER)) == 10


@both_roles
@pytest.mark.parametrize("size", [65535, 65536, 70000])
def test_a_long_frame_is_received_with_what_follows_it(role: Role, size: int) -> None:
    payload = (bytes(range(256)) * 300)[:size]
    data = sent_to(role, BINARY, payload) + sent_to(role, TEXT, b"next")
    wanted = [BinaryReceived(payload), TextReceived("next")]
    for chunk_size in (len(data), 65536, 4096, 4093):
        chunks = [data[i : i + chunk_size] for i in range(0, len(data), chunk_size)]
        assert feed(open_connection(role), chunks) == wanted


@both_roles
def test_a_message_of_the_size_limit_is_received_and_one_byte_more_is_refused(role: Role) -> None:
    reason = "a message of at least 11 bytes is announced, the limit is 10"
    at_the_limit = [
        (sent_to(role, BINARY, b"x" * 10), BinaryReceived(b"x" * 10)),
        (sent_to(role, TEXT, b"x" * 10), TextReceived("x" * 10)),
        (sent_to(role, FIRST_TEXT, b"x" * 9) + sent_to(role, CONTINUATION, b"x"), TextReceived("x" * 10)),
    ]
    over = [
        sent_to(role, BINARY, b"x" * 11)[:-11],
        sent_to(role, FIRST_TEXT, b"x" * 11)[:-11],
        sent_to(role, FIRST_TEXT, b"x" * 10) + sent_to(role, CONTINUATION, b"x")[:-1],
        sent_to(role, FIRST_TEXT, b"x" * 5) + sent_to(role, NEXT, b"x" * 5) + sent_to(role, NEXT, b"x")[:-1],
    ]
    for data, event in at_the_limit:
        for header in over:
            for chunks in cuts(data + header):
                conn = open_connection(role, max_message_size=10)
                assert comparable(feed(conn, chunks)) == [event, failure(1009, reason)]
                assert conn.data_to_send() == close_frame(role, 1009, reason)


@both_roles
def test_without_limits_sizes_are_not_judged(role: Role) -> None:
    conn = open_connection(role, max_frame_size=None, max_message_size=None)
    header = (
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + MASK
        if role is Role.SERVER
        else b"\x82\x7f\x7f" + b"\xff" * 7
    )
    assert feed(conn, [header, b"and a bit of the payload"]) == []
    assert conn.state is State.OPEN


@both_roles
def test_a_message_of_too_many_fragments_is_refused_at_the_header_of_the_first_too_many(role: Role) -> None:
    reason = "a message has more than 3 frames"
    three = sent_to(role, FIRST_TEXT) + sent_to(role, NEXT) + sent_to(role, CONTINUATION, b"x")
    four = sent_to(role, FIRST_TEXT, b"y") + sent_to(role, NEXT) * 2 + sent_to(role, NEXT, b"z")[:-1]
    for chunks in cuts(three + four):
        conn = open_connection(role, max_fragments=3)
        assert comparable(feed(conn, chunks)) == [TextReceived("x"), failure(1009, reason)]
        assert conn.data_to_send() == close_frame(role, 1009, reason)


# --- UTF-8 ----------------------------------------------------------------------------------------------

# Bytes that are no UTF-8, and the offset of the first one that cannot be right.
WRONG_UTF8 = [
    (b"\x80", 0),
    (b"\xbf", 0),
    (b"\xc0\xaf", 0),
    (b"\xc1\xbf", 0),
    (b"\xc3\x28", 1),
    (b"\xe0\x80\xaf", 1),
    (b"\xe0\x9f\xbf", 1),
    (b"\xe2\x28\xa1", 1),
    (b"\xe2\x82\x28", 2),
    (b"\xed\xa0\x80", 1),
    (b"\xed\xbf\xbf", 1),
    (b"\xf0\x80\x80\xaf", 1),
    (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xf0\x9f\x28\x80", 2),
    (b"\xf0\x9f\x98\x28", 3),
    (b"\xf4\x90\x80\x80", 1),
    (b"\xf5\x80\x80\x80", 0),
    (b"\xff", 0),
]
wrong_utf8 = pytest.mark.parametrize(
    ("text", "offset"), WRONG_UTF8, ids=lambda value: value.hex() if isinstance(value, bytes) else None
)
NOT_UTF8 = failure(1007, "text is not UTF-8")


@both_roles
@wrong_utf8
def test_the_first_wrong_byte_of_a_text_frame_ends_the_connection(
    role: Role, text: bytes, offset: int
) -> None:
    payload = "año ☃ ".encode() + text + b"x" * 200
    data = sent_to(role, TEXT, payload)
    good = len(data) - 200 - len(text) + offset
    conn = open_connection(role)
    assert feed(conn, bytewise(data[:good])) == []
    assert comparable(conn.receive_data(data[good : good + 1])) == [NOT_UTF8]
    assert conn.data_to_send() == close_frame(role, 1007, "text is not UTF-8")


@both_roles
@wrong_utf8
def test_the_first_wrong_byte_of_a_fragmented_text_ends_the_connection(
    role: Role, text: bytes, offset: int
) -> None:
    conn = open_connection(role)
    assert conn.receive_data(sent_to(role, FIRST_TEXT, "año ☃".encode())) == []
    for byte in bytewise(text[:offset]):
        assert conn.receive_data(sent_to(role, NEXT, byte) + sent_to(role, NEXT)) == []
    last = sent_to(role, NEXT, text[offset : offset + 1])
    assert feed(conn, bytewise(last[:-1])) == []
    assert comparable(conn.receive_data(last[-1:])) == [NOT_UTF8]
    assert conn.data_to_send() == close_frame(role, 1007, "text is not UTF-8")


@both_roles
@wrong_utf8
def test_wrong_text_is_refused_alike_in_any_chunks(role: Role, text: bytes, offset: int) -> None:
    before = sent_to(role, TEXT, b"ok")
    for data in (
        sent_to(role, TEXT, b"no: " + text),
        sent_to(role, FIRST_TEXT, b"no: " + text[:1]) + sent_to(role, CONTINUATION, text[1:]),
    ):
        for chunks in cuts(before + data + sent_to(role, TEXT, b"never")):
            conn = open_connection(role)
            assert comparable(feed(conn, chunks)) == [TextReceived("ok"), NOT_UTF8]
            assert conn.data_to_send() == close_frame(role, 1007, "text is not UTF-8")


@both_roles
@pytest.mark.parametrize(
    "text", [b"\xc3", b"\xe2", b"\xe2\x98", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xed\x9f"]
)
def test_a_message_that_ends_inside_a_character_is_refused(role: Role, text: bytes) -> None:
    for data in (
        sent_to(role, TEXT, b"x" + text),
        sent_to(role, FIRST_TEXT, b"x" + text) + sent_to(role, CONTINUATION),
        sent_to(role, FIRST_TEXT, b"x") + sent_to(role, NEXT, text) + sent_to(role, CONTINUATION),
    ):
        for chunks in cuts(data):
            conn = open_connection(role)
            assert comparable(feed(conn, chunks)) == [NOT_UTF8]
            assert conn.data_to_send() == close_frame(role, 1007, "text is not UTF-8")


@both_roles
def test_binary_messages_may_hold_anything(role: Role) -> None:
    for text, _ in WRONG_UTF8:
        data = (
            sent_to(role, BINARY, text)
            + sent_to(role, FIRST_BINARY, text)
            + sent_to(role, CONTINUATION, text)
        )
        for chunks in cuts(data):
            assert feed(open_connection(role), chunks) == [BinaryReceived(text), BinaryReceived(text * 2)]


# --- Messages in parts ------------------------------------------------------------------------------------


@both_roles
def test_parts_are_delivered_as_they_come(role: Role) -> None:
    conn = open_connection(role, deliver_parts=True)
    text = sent_to(role, TEXT, "a☃b".encode())
    head, payload = text[:-5], text[-5:]
    assert conn.receive_data(head) == []
    assert conn.receive_data(payload[:2]) == [PartReceived("a", False)]
    assert conn.receive_data(payload[2:3]) == []
    assert conn.receive_data(payload[3:4]) == [PartReceived("☃", False)]
    assert conn.receive_data(payload[4:]) == [PartReceived("b", True)]
    binary = sent_to(role, BINARY, b"\xff\xfe\xfd")
    assert conn.receive_data(binary[:-1]) == [PartReceived(b"\xff\xfe", False)]
    assert conn.receive_data(binary[-1:]) == [PartReceived(b"\xfd", True)]


@both_roles
def test_fragments_are_parts_with_control_frames_between_them(role: Role) -> None:
    conn = open_connection(role, deliver_parts=True)
    data = (
        sent_to(role, FIRST_TEXT, b"a\xe2")
        + sent_to(role, PING)
        + sent_to(role, NEXT, b"\x98")
        + sent_to(role, NEXT)
        + sent_to(role, CONTINUATION, b"\x83")
        + sent_to(role, TEXT, b"whole")
        + sent_to(role, FIRST_BINARY, b"\xe2")
        + sent_to(role, CONTINUATION)
    )
    assert conn.receive_data(data) == [
        PartReceived("a", False),
        PingReceived(b""),
        PartReceived("☃", True),
        PartReceived("whole", True),
        PartReceived(b"\xe2", False),
        PartReceived(b"", True),
    ]


@both_roles
def test_parts_keep_the_limits_of_messages(role: Role) -> None:
    conn = open_connection(role, deliver_parts=True, max_message_size=3)
    data = sent_to(role, FIRST_TEXT, b"abc") + sent_to(role, CONTINUATION, b"d")
    assert comparable(conn.receive_data(data)) == [
        PartReceived("abc", False),
        failure(1009, "a message of at least 4 bytes is announced, the limit is 3"),
    ]


# --- Control frames -------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"x" * 125])
def test_a_ping_is_answered_with_its_payload_and_a_pong_with_nothing(role: Role, payload: bytes) -> None:
    for chunks in cuts(sent_to(role, PING, payload) + sent_to(role, PONG, payload)):
        conn = open_connection(role)
        assert feed(conn, chunks) == [PingReceived(payload), PongReceived(payload)]
        assert conn.data_to_send() == sent_by(role, PONG, payload)


@both_roles
def test_pings_are_answered_in_order_between_what_is_sent(role: Role) -> None:
    conn = open_connection(role)
    conn.send_text("a")
    conn.receive_data(sent_to(role, PING, b"1") + sent_to(role, PING, b"2"))
    conn.send_binary(b"b")
    assert conn.data_to_send() == (
        sent_by(role, TEXT, b"a")
        + sent_by(role, PONG, b"1")
        + sent_by(role, PONG, b"2")
        + sent_by(role, BINARY, b"b")
    )
    assert conn.data_to_send() == b""


# --- The close handshake --------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xe9going \xe2\x98\x83", 1001, "going ☃"),
        (b"\x0b\xb8", 3000, ""),
        (b"\x13\x87" + b"x" * 123, 4999, "x" * 123),
    ],
)
def test_a_close_is_echoed_and_ends_the_connection(
    role: Role, payload: bytes, code: int, reason: str
) -> None:
    data = sent_to(role, TEXT, b"last") + sent_to(role, CLOSE, payload)
    for chunks in cuts(data + sent_to(role, TEXT, b"ignored") + b"\xff\xff"):
        conn = open_connection(role)
        assert feed(conn, chunks) == [TextReceived("last"), Closed(code, reason, None)]
        assert conn.data_to_send() == sent_by(role, CLOSE, payload)
        assert conn.close_received == conn.close_sent == Close(code, reason)
        assert conn.state is State.CLOSED


@both_roles
@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (1000, "", b"\x03\xe8"),
        (1001, "Server shutting down", b"\x03\xe9Server shutting down"),
        (4000, "☃" * 42, b"\x0f\xa0" + "☃".encode() * 41),
        (None, "", b""),
    ],
)
def test_a_close_that_is_sent_waits_for_the_peers(
    role: Role, code: int | None, reason: str, payload: bytes
) -> None:
    conn = open_connection(role)
    conn.close(code, reason)
    assert conn.data_to_send() == sent_by(role, CLOSE, payload)
    assert conn.state is State.CLOSING
    assert conn.close_sent == Close(1005 if code is None else code, payload[2:].decode())
    assert conn.close_received is None
    assert conn.receive_data(sent_to(role, CLOSE, b"\x03\xe8echo")) == [Closed(1000, "echo", None)]
    assert conn.state is State.CLOSED
    assert conn.data_to_send() == b""
    assert conn.receive_data(b"") == []


def test_a_plain_close_is_1000() -> None:
    conn = open_connection(Role.SERVER)
    conn.close()
    assert conn.data_to_send() == b"\x88\x02\x03\xe8"


@both_roles
def test_both_sides_may_close_at_once(role: Role) -> None:
    conn = open_connection(role)
    conn.close(1001, "mine")
    assert conn.data_to_send() == close_frame(role, 1001, "mine")
    assert conn.receive_data(sent_to(role, CLOSE, b"\x0f\xa0yours")) == [Closed(4000, "yours", None)]
    assert conn.data_to_send() == b""
    assert conn.close_sent == Close(1001, "mine")
    assert conn.close_received == Close(4000, "yours")


@both_roles
def test_a_close_between_fragments_ends_the_connection(role: Role) -> None:
    conn = open_connection(role)
    data = sent_to(role, FIRST_TEXT, b"never finished") + sent_to(role, CLOSE, b"\x03\xe8")
    assert conn.receive_data(data) == [Closed(1000, "", None)]


@both_roles
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"\x03", 1002, "a close frame has no payload or at least two bytes of it"),
        (b"\x03\xe7", 1002, "close code 999 must not be on the wire"),
        (b"\x03\xed", 1002, "close code 1005 must not be on the wire"),
        (b"\x03\xee", 1002, "close code 1006 must not be on the wire"),
        (b"\x03\xf7", 1002, "close code 1015 must not be on the wire"),
        (b"\x13\x88", 1002, "close code 5000 must not be on the wire"),
        (b"\x03\xe8\xc3\x28", 1007, "the close reason is not UTF-8"),
        (b"\x03\xe8" + b"x" * 122 + b"\xe2", 1007, "the close reason is not UTF-8"),
    ],
)
def test_a_broken_close_is_answered_with_what_is_wrong(
    role: Role, payload: bytes, code: int, reason: str
) -> None:
    for chunks in cuts(sent_to(role, CLOSE, payload) + b"\xff"):
        conn = open_connection(role)
        assert comparable(feed(conn, chunks)) == [failure(code, reason)]
        assert conn.data_to_send() == close_frame(role, code, reason)
        assert (conn.close_sent, conn.close_received) == (Close(code, reason), None)


@both_roles
def test_messages_and_pongs_are_received_while_closing(role: Role) -> None:
    data = (
        sent_to(role, FIRST_TEXT, b"still ")
        + sent_to(role, PONG, b"!")
        + sent_to(role, CONTINUATION, b"here")
        + sent_to(role, CLOSE, b"\x03\xe8")
    )
    for chunks in cuts(data):
        conn = closing_connection(role)
        assert feed(conn, chunks) == [PongReceived(b"!"), TextReceived("still here"), Closed(1000, "", None)]
        assert conn.data_to_send() == b""


@both_roles
def test_a_ping_is_answered_while_closing_but_not_behind_the_peers_close(role: Role) -> None:
    conn = closing_connection(role)
    ping, close = sent_to(role, PING, b"?"), sent_to(role, CLOSE)
    assert conn.receive_data(ping + close + ping) == [PingReceived(b"?"), Closed(1005, "", None)]
    assert conn.data_to_send() == sent_by(role, PONG, b"?")


@both_roles
def test_what_is_wrong_while_closing_ends_the_connection_without_a_second_close(role: Role) -> None:
    for data, code, reason in [
        (b"\xc1", 1002, RESERVED_BIT),
        (sent_to(role, TEXT, b"\xff"), 1007, "text is not UTF-8"),
        (sent_to(role, CLOSE, b"\x03"), 1002, "a close frame has no payload or at least two bytes of it"),
    ]:
        conn = closing_connection(role)
        assert comparable(conn.receive_data(data)) == [failure(code, reason)]
        assert conn.data_to_send() == b""
        assert conn.close_sent == Close(1000, "")


@both_roles
@pytest.mark.parametrize("closing", [False, True])
def test_the_end_of_the_stream_without_a_close_is_1006(role: Role, closing: bool) -> None:
    starts = [
        b"",
        b"\x81",
        sent_to(role, TEXT, b"half")[:-2],
        sent_to(role, FIRST_TEXT, b"x"),
        sent_to(role, PING)[:1],
    ]
    for start in starts:
        conn = closing_connection(role) if closing else open_connection(role)
        assert feed(conn, bytewise(start)) == []
        assert comparable(conn.receive_data(b"")) == [
            (1006, "", StreamEnded, "the stream ended without a close frame", None)
        ]
        assert conn.state is State.CLOSED
        assert conn.data_to_send() == b""
        assert conn.close_received is None
        assert conn.receive_data(b"") == conn.receive_data(sent_to(role, TEXT, b"late")) == []


# --- Commands -------------------------------------------------------------------------------------------


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
    for data, final in [
        ("Hel", False),
        ("", False),
        ("lo", True),
        (b"\x00", False),
        (bytearray(b"\x01"), True),
    ]:
        conn.send_part(data, final=final)
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
@pytest.mark.parametrize("call", ["send_text", "send_binary", "encode_message"])
def test_no_other_message_is_sent_inside_one_in_parts(role: Role, call: str) -> None:
    conn = open_connection(role)
    conn.send_part("begun", final=False)
    conn.data_to_send()
    arguments: dict[str, tuple[Any, ...]] = {
        "send_text": ("x",),
        "send_binary": (b"x",),
        "encode_message": (2, b"x"),
    }
    with pytest.raises(StateError, match=r"end it with send_part\(…, final=True\) first"):
        getattr(conn, call)(*arguments[call])
    assert conn.data_to_send() == b""
    conn.send_part("!", final=True)
    getattr(conn, call)(*arguments[call])


@both_roles
def test_the_parts_of_a_message_are_of_one_type(role: Role) -> None:
    for first, second, name in [("a", b"b", "str"), (b"a", "b", "bytes"), (bytearray(b"a"), "b", "bytes")]:
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


COMMANDS: dict[str, tuple[Any, ...]] = {
    "send_text": ("x",),
    "send_binary": (b"x",),
    "ping": (),
    "pong": (),
    "encode_message": (1, b"x"),
}


@both_roles
@pytest.mark.parametrize("command", [*COMMANDS, "send_part"])
def test_nothing_is_sent_once_the_close_was(role: Role, command: str) -> None:
    closed = closing_connection(role)
    closed.receive_data(sent_to(role, CLOSE))
    for conn, state in ((closing_connection(role), "closing"), (closed, "closed")):
        with pytest.raises(StateError, match=f"nothing can be sent now: the connection is {state}"):
            if command == "send_part":
                conn.send_part("x", final=True)
            else:
                getattr(conn, command)(*COMMANDS[command])
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


def test_a_client_draws_a_new_mask_for_every_frame() -> None:
    conn = open_connection(Role.CLIENT)
    assert conn._masks is not None
    conn._masks._entropy = lambda size: bytes(range(256)) * (size // 256)
    conn._masks._keys.clear()
    for _ in range(3):
        conn.send_binary(b"\0\0\0\0")
    masks = {data[2:6] for data in (conn.data_to_send()[i : i + 10] for i in (0,))}
    assert masks
    conn.ping(b"\0\0\0\0")
    conn.close()
    assert conn.data_to_send()


def test_an_error_of_the_peers_is_a_peer_error() -> None:
    conn = open_connection(Role.SERVER)
    [closed] = conn.receive_data(b"\xff")
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, PeerError)
    assert (closed.error.code, closed.error.reason) == ("PROTOCOL_ERROR", RESERVED_BIT)


@both_roles
def test_a_connection_shows_role_and_state(role: Role) -> None:
    conn = open_connection(role)
    assert repr(conn) == f"<ws.Connection {role.value} open>"
    conn.close()
    assert repr(conn) == f"<ws.Connection {role.value} closing>"

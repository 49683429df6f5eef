"""The messages that an open connection receives, both roles (RFC 6455, sections 5.4, 5.6 and 8.1)."""

from __future__ import annotations

import pytest

from stelar_proto.ws import (
    BinaryReceived,
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
    BINARY,
    CONTINUATION,
    FIRST_BINARY,
    FIRST_TEXT,
    MASK,
    NEXT,
    PING,
    PONG,
    TEXT,
    both_roles,
    bytewise,
    close_frame,
    comparable,
    failure,
    feed,
    open_connection,
    sent_by,
    sent_to,
)

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
        sent_to(role, BINARY, b"x" * 11),
        sent_to(role, TEXT, b"x" * 11),
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
def test_without_limits_the_sum_of_the_sizes_is_not_judged_either(role: Role) -> None:
    conn = open_connection(role, max_frame_size=None, max_message_size=None)
    longest = b"\x80\xff\x7f" + b"\xff" * 7 + MASK if role is Role.SERVER else b"\x80\x7f\x7f" + b"\xff" * 7
    assert feed(conn, [sent_to(role, FIRST_BINARY, b"ab"), longest]) == []
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
@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_what_was_collected_until_parts_are_wanted_comes_with_the_next_part(role: Role, kind: int) -> None:
    conn = open_connection(role)
    data = sent_to(role, kind, b"abcdef")
    of = bytes if kind == BINARY else bytes.decode
    assert not conn.deliver_parts
    assert conn.receive_data(data[:-3]) == []
    assert conn.collected_size == 3
    conn.deliver_parts = True
    assert conn.deliver_parts
    assert conn.collected_size == 3
    assert conn.receive_data(data[-3:-2]) == [PartReceived(of(b"abcd"), False)]
    assert conn.collected_size == 0
    conn.deliver_parts = False
    assert conn.receive_data(data[-2:-1]) == []
    assert conn.collected_size == 1
    assert conn.receive_data(data[-1:]) == [PartReceived(of(b"ef"), True)]  # it began in parts, so it ends so
    assert conn.collected_size == 0
    whole = conn.receive_data(sent_to(role, kind, b"whole"))
    assert whole == [BinaryReceived(b"whole") if kind == BINARY else TextReceived("whole")]


@both_roles
def test_parts_cannot_be_asked_of_a_connection_that_has_ended(role: Role) -> None:
    conn = open_connection(role)
    conn.receive_data(sent_to(role, FIRST_BINARY, b"abc"))
    conn.receive_data(b"")
    conn.deliver_parts = True
    assert not conn.deliver_parts
    assert conn.collected_size == 0


@both_roles
def test_parts_keep_the_limits_of_messages(role: Role) -> None:
    conn = open_connection(role, deliver_parts=True, max_message_size=3)
    data = sent_to(role, FIRST_TEXT, b"abc") + sent_to(role, CONTINUATION, b"d")
    assert comparable(conn.receive_data(data)) == [
        PartReceived("abc", False),
        failure(1009, "a message of at least 4 bytes is announced, the limit is 3"),
    ]

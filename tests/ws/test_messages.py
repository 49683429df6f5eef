"""Messages: UTF-8 and fragmentation, without a connection around them (RFC 6455, sections 5.4 and 8.1)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelar_proto.errors import InvalidUtf8, MessageError, MessageTooBig, WebSocketError
from stelar_proto.ws import BinaryReceived, Opcode, PartReceived, TextReceived
from stelar_proto.ws.messages import MessageReader, Utf8Decoder, encode_text, to_bytes

from .feeding import bytewise

CONTINUATION, TEXT, BINARY = Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY

# --- UTF-8 ----------------------------------------------------------------------------------------------

# The Unicode Standard, table 3-7: what the second byte may be behind each first one, and how many follow it.
WELL_FORMED = [
    (range(0x80), range(0), 0),
    (range(0xC2, 0xE0), range(0x80, 0xC0), 0),
    (range(0xE0, 0xE1), range(0xA0, 0xC0), 1),
    (range(0xE1, 0xED), range(0x80, 0xC0), 1),
    (range(0xED, 0xEE), range(0x80, 0xA0), 1),
    (range(0xEE, 0xF0), range(0x80, 0xC0), 1),
    (range(0xF0, 0xF1), range(0x90, 0xC0), 2),
    (range(0xF1, 0xF4), range(0x80, 0xC0), 2),
    (range(0xF4, 0xF5), range(0x80, 0x90), 2),
]


def valid_prefix_size(data: bytes) -> int:
    """How many bytes pass until the first that cannot be right, by the table."""
    position = 0
    while position < len(data):
        rule = next((rule for rule in WELL_FORMED if data[position] in rule[0]), None)
        if rule is None:
            return position
        _, second, more = rule
        position += 1
        for allowed in [second] * bool(second) + [range(0x80, 0xC0)] * more:
            if position == len(data):
                return position
            if data[position] not in allowed:
                return position
            position += 1
    return position


def accepted_size(data: bytes) -> int:
    """How many bytes the decoder takes, one by one, before it fails."""
    decoder = Utf8Decoder()
    for i, byte in enumerate(bytewise(data)):
        try:
            decoder.decode(byte, False)
        except InvalidUtf8:
            return i
    return len(data)


def test_the_first_wrong_byte_is_noticed_for_all_pairs_of_bytes() -> None:
    for first, second in itertools.product(range(0x80, 256), range(256)):
        data = bytes((first, second))
        assert accepted_size(data) == valid_prefix_size(data), data


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"\xc3\xb1", b"\xe2\x98\x83", b"\xed\x9f\xbf", b"\xf0\x9f\x98\x80"]),
        max_size=3,
    ),
    st.binary(max_size=6),
)
def test_the_first_byte_that_cannot_be_right_is_noticed_behind_anything(
    start: list[bytes], rest: bytes
) -> None:
    data = b"".join(start) + rest
    assert accepted_size(data) == valid_prefix_size(data)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_character_that_is_cut_off_at_the_end_is_wrong(size: int) -> None:
    decoder = Utf8Decoder()
    assert decoder.decode(b"ok \xf0\x9f\x98\x80"[: 3 + size], False) == "ok "
    with pytest.raises(InvalidUtf8, match=r"^text is not UTF-8$"):
        decoder.decode(b"", True)


@settings(deadline=None)
@given(st.text(), st.lists(st.integers(0, 50)))
def test_text_in_pieces_is_decoded_as_a_whole(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    ends = sorted({0, *(cut for cut in cuts if cut < len(data))})
    decoder = Utf8Decoder()
    decoded = [decoder.decode(data[start:stop], False) for start, stop in itertools.pairwise(ends)]
    assert "".join(decoded) + decoder.decode(data[ends[-1] :], True) == data.decode()


def test_text_that_is_no_utf8_cannot_be_sent() -> None:
    assert encode_text("año ☃ 😀") == b"a\xc3\xb1o \xe2\x98\x83 \xf0\x9f\x98\x80"
    for text in ("\ud83d", "a\udc00b"):
        with pytest.raises(MessageError, match="lone surrogate") as caught:
            encode_text(text)
        assert caught.value.code == "NOT_SERIALIZABLE"


@pytest.mark.parametrize("wrong", [b"bytes", 5, None])
def test_text_is_a_str(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"text is a str, not {type(wrong).__name__}; send_binary"):
        encode_text(wrong)


def test_every_kind_of_bytes_can_be_sent() -> None:
    for data in (b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff"), memoryview(b"\x00.\xff")[::2]):
        assert to_bytes(data) == b"\x00\xff"
        assert type(to_bytes(data)) is bytes


@pytest.mark.parametrize("wrong", ["text", 5, None, [1, 2]])
def test_nothing_else_is_taken_for_bytes(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"bytes, bytearray or memoryview, not {type(wrong).__name__}"):
        to_bytes(wrong)


# --- Fragmentation --------------------------------------------------------------------------------------


def new_reader(
    *, max_message_size: int = 100, max_fragments: int = 100, deliver_parts: bool = False
) -> MessageReader:
    return MessageReader(
        max_message_size=max_message_size, max_fragments=max_fragments, deliver_parts=deliver_parts
    )


def read(reader: MessageReader, *frames: tuple[int, bool, bytes]) -> list[object]:
    events: list[object] = []
    for opcode, fin, payload in frames:
        reader.begin(opcode, fin, len(payload))
        events.append(reader.feed(payload, True))
    return events


def test_fragments_become_one_message() -> None:
    reader = new_reader()
    assert read(reader, (TEXT, False, b"Hel"), (CONTINUATION, True, b"lo")) == [None, TextReceived("Hello")]
    assert read(
        reader, (BINARY, False, b"\x00"), (CONTINUATION, False, b"\x01"), (CONTINUATION, True, b"\x02")
    ) == [
        None,
        None,
        BinaryReceived(b"\x00\x01\x02"),
    ]
    assert not reader.active


def test_empty_fragments_are_fragments() -> None:
    for opcode, empty in ((TEXT, TextReceived("")), (BINARY, BinaryReceived(b""))):
        frames = [(opcode, False, b""), (CONTINUATION, False, b""), (CONTINUATION, True, b"")]
        assert read(new_reader(), *frames) == [None, None, empty]
        assert read(new_reader(), (opcode, True, b"")) == [empty]


def test_line_ends_stay_as_they_are() -> None:
    frames = [(TEXT, False, b"a\r"), (CONTINUATION, False, b"\n\r\n"), (CONTINUATION, True, b"\n\r")]
    assert read(new_reader(), *frames) == [None, None, TextReceived("a\r\n\r\n\n\r")]


def test_a_message_is_a_value_of_its_own() -> None:
    reader = new_reader()
    frames = [(BINARY, False, b"one"), (CONTINUATION, True, b"!")]
    first = read(reader, *frames)[-1]
    assert read(reader, (BINARY, False, b"two"), (CONTINUATION, True, b"?"))[-1] == BinaryReceived(b"two?")
    assert first == BinaryReceived(b"one!")
    assert isinstance(first, BinaryReceived)
    assert type(first.data) is bytes


def test_a_continuation_of_nothing_is_refused() -> None:
    reader = new_reader()
    read(reader, (TEXT, True, b"done"))
    for fin in (False, True):
        with pytest.raises(WebSocketError, match="no message to continue"):
            reader.begin(CONTINUATION, fin, 0)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_inside_another_is_refused(opcode: int) -> None:
    for first in (TEXT, BINARY):
        reader = new_reader()
        read(reader, (first, False, b""))
        with pytest.raises(WebSocketError, match="a new message began before the one before it ended"):
            reader.begin(opcode, True, 0)


def test_the_limit_is_for_the_whole_message_and_starts_anew_with_each() -> None:
    reader = new_reader(max_message_size=10)
    for _ in range(3):
        *_, event = read(reader, (BINARY, False, b"12345"), (CONTINUATION, True, b"67890"))
        assert event == BinaryReceived(b"1234567890")
    read(reader, (TEXT, False, b"12345"), (CONTINUATION, False, b"67890"), (CONTINUATION, False, b""))
    with pytest.raises(MessageTooBig, match="a message of at least 11 bytes is announced, the limit is 10"):
        reader.begin(CONTINUATION, True, 1)
    with pytest.raises(MessageTooBig, match="a message of at least 11 bytes is announced, the limit is 10"):
        new_reader(max_message_size=10).begin(BINARY, False, 11)


def test_a_message_has_so_many_fragments_and_no_more() -> None:
    reader = new_reader(max_fragments=3)
    for _ in range(2):
        frames = [(TEXT, False, b"a"), (CONTINUATION, False, b""), (CONTINUATION, True, b"b")]
        assert read(reader, *frames)[-1] == TextReceived("ab")
    read(reader, (TEXT, False, b""), (CONTINUATION, False, b""), (CONTINUATION, False, b""))
    with pytest.raises(MessageTooBig, match="a message has more than 3 frames") as caught:
        reader.begin(CONTINUATION, True, 0)
    assert (caught.value.size, caught.value.limit) == (4, 3)


def test_parts_are_handed_out_as_they_come() -> None:
    reader = new_reader(deliver_parts=True)
    reader.begin(TEXT, False, 5)
    assert reader.feed(b"a\xc3", False) == PartReceived("a", False)
    assert reader.feed(b"", False) is None
    assert reader.feed(b"\xb1\xe2", False) == PartReceived("ñ", False)
    assert reader.feed(b"\x98", True) is None  # inside a character
    reader.begin(CONTINUATION, True, 1)
    assert reader.feed(b"\x83", True) == PartReceived("☃", True)
    reader.begin(BINARY, True, 2)
    assert reader.feed(b"\x00", False) == PartReceived(b"\x00", False)
    assert reader.feed(b"\xff", True) == PartReceived(b"\xff", True)


@pytest.mark.parametrize(("opcode", "empty"), [(TEXT, ""), (BINARY, b"")])
def test_the_end_of_a_message_is_a_part_even_if_it_is_empty(opcode: int, empty: str | bytes) -> None:
    reader = new_reader(deliver_parts=True)
    assert read(reader, (opcode, False, b""), (CONTINUATION, True, b"")) == [None, PartReceived(empty, True)]
    assert read(reader, (opcode, True, b"")) == [PartReceived(empty, True)]

"""The bytes of frames: RFC 6455, sections 5.2 and 5.3."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelar_proto.errors import MessageTooBig, WebSocketError
from stelar_proto.ws.frames import (
    Header,
    MaskingEncoder,
    Opcode,
    apply_mask,
    encode_frame,
    parse_frames,
    read_header,
)

from .feeding import MASK, frame, xor

NO_LIMIT = 1 << 63

# --- Masking --------------------------------------------------------------------------------------------


def test_masking_is_the_example_of_the_rfc() -> None:
    assert apply_mask(b"Hello", MASK) == b"\x7f\x9f\x4d\x51\x58"
    assert apply_mask(b"\x7f\x9f\x4d\x51\x58", MASK) == b"Hello"


# Around every size at which another way of masking begins.
@pytest.mark.parametrize(
    "size", [0, 1, 2, 3, 4, 5, 7, 8, 511, 512, 513, 514, 515, 516, 65535, 65536, 65537, 65541]
)
@pytest.mark.parametrize("phase", [0, 1, 2, 3, 4, 7])
def test_masking_is_what_a_naive_xor_does_at_every_phase(size: int, phase: int) -> None:
    payload = bytes(range(1, 252)) * (size // 251 + 1)
    payload = payload[:size]
    masked = apply_mask(payload, b"\x00\x01\x80\xff", phase)
    assert type(masked) is bytes
    assert masked == xor(payload, b"\x00\x01\x80\xff", phase)


@settings(deadline=None)
@given(st.binary(max_size=600), st.binary(min_size=4, max_size=4), st.integers(0, 1 << 40))
def test_masking_twice_is_nothing_and_once_is_a_naive_xor(payload: bytes, mask: bytes, phase: int) -> None:
    masked = apply_mask(payload, mask, phase)
    assert masked == xor(payload, mask, phase)
    assert apply_mask(masked, mask, phase) == payload


@settings(deadline=None)
@given(st.binary(max_size=1200), st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 1200)))
def test_masking_in_pieces_is_masking_in_one_piece(payload: bytes, mask: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(payload), *(cut for cut in cuts if cut < len(payload))})
    pieces = [memoryview(payload)[start:stop] for start, stop in itertools.pairwise(ends)]
    masked = [apply_mask(piece, mask, start) for start, piece in zip(ends, pieces, strict=False)]
    assert b"".join(masked) == apply_mask(payload, mask)


def test_a_payload_of_several_blocks_is_masked_as_one() -> None:
    payload = bytes(range(256)) * 1100
    assert apply_mask(payload, MASK, 3) == xor(payload, MASK, 3)


def test_masking_keys_are_drawn_in_blocks_and_never_used_twice() -> None:
    drawn: list[int] = []

    def entropy(size: int) -> bytes:
        drawn.append(size)
        first = len(drawn) * size // 4
        return b"".join((first + i).to_bytes(4, "big") for i in range(size // 4))

    encoder = MaskingEncoder(entropy)
    assert drawn == []
    frames = []
    for _ in range(200):  # each way to a frame takes keys
        frames.append(encoder.encode_message(Opcode.TEXT, b""))
        frames.append(encoder.encode_message(Opcode.TEXT, bytes(126)))
        frames.append(encoder.encode_frame(Opcode.PING, b""))
    keys = [read_header(frame, 0, True, NO_LIMIT) for frame in frames]
    assert len({header.mask for header in keys if header is not None}) == 600
    assert drawn == [1024] * 3


@pytest.mark.parametrize("returned", [0, 4, 1023, 1025])
def test_a_source_of_another_number_of_bytes_than_asked_is_refused(returned: int) -> None:
    encoder = MaskingEncoder(lambda _: bytes(returned))
    for encode in (encoder.encode_message, encoder.encode_frame) * 2:
        with pytest.raises(
            ValueError, match=rf"entropy\(1024\) has to return 1024 bytes, it returned {returned}"
        ):
            encode(Opcode.TEXT, b"")


# --- Out ------------------------------------------------------------------------------------------------


def test_frames_are_encoded_as_in_the_examples_of_the_rfc() -> None:
    assert encode_frame(Opcode.TEXT, b"Hello") == b"\x81\x05Hello"
    assert encode_frame(Opcode.TEXT, b"Hello", mask=MASK) == b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    assert encode_frame(Opcode.TEXT, b"Hel", fin=False) == b"\x01\x03Hel"
    assert encode_frame(Opcode.CONTINUATION, b"lo") == b"\x80\x02lo"
    assert encode_frame(Opcode.PING, b"Hello") == b"\x89\x05Hello"
    assert encode_frame(Opcode.PONG, b"Hello", mask=MASK) == b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    assert encode_frame(Opcode.BINARY, bytes(256)) == b"\x82\x7e\x01\x00" + bytes(256)
    assert encode_frame(Opcode.BINARY, bytes(65536)) == b"\x82\x7f\0\0\0\0\0\x01\0\0" + bytes(65536)


@pytest.mark.parametrize(
    ("size", "header", "masked_header"),
    [
        (0, b"\x82\x00", b"\x82\x80"),
        (1, b"\x82\x01", b"\x82\x81"),
        (125, b"\x82\x7d", b"\x82\xfd"),
        (126, b"\x82\x7e\x00\x7e", b"\x82\xfe\x00\x7e"),
        (127, b"\x82\x7e\x00\x7f", b"\x82\xfe\x00\x7f"),
        (65535, b"\x82\x7e\xff\xff", b"\x82\xfe\xff\xff"),
        (65536, b"\x82\x7f\0\0\0\0\0\x01\0\0", b"\x82\xff\0\0\0\0\0\x01\0\0"),
    ],
)
def test_a_length_takes_the_fewest_bytes(size: int, header: bytes, masked_header: bytes) -> None:
    payload = b"\xa5" * size
    assert encode_frame(Opcode.BINARY, payload) == header + payload
    assert encode_frame(Opcode.BINARY, payload, mask=MASK) == masked_header + MASK + xor(payload)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_client_s_frame_is_masked_with_the_key_in_its_head(opcode: Opcode) -> None:
    """Of every size of a short frame, and with keys that begin with zeros or have all bits set."""
    drawn = [MASK, b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\x01\x80"] * 64
    encoder = MaskingEncoder(lambda _: b"".join(drawn))
    payload = bytes(range(255, 0, -1))
    for size in [*range(131), 255]:
        for mask in drawn[:4]:
            wanted = encode_frame(opcode, payload[:size], mask=mask)
            assert encoder.encode_message(opcode, payload[:size]) == wanted
            assert wanted.endswith(mask + xor(payload[:size], mask))
    assert encoder.encode_frame(opcode, b"Hello", fin=False) == bytes((opcode, 0x85)) + MASK + xor(b"Hello")


# --- In: whole frames -------------------------------------------------------------------------------------


def parsed(
    data: bytes, masked: bool, *, position: int = 0, max_size: int = NO_LIMIT
) -> tuple[int, list[tuple[int, bytes]]]:
    frames: list[tuple[int, bytes]] = []
    return parse_frames(data, position, masked, max_size, frames), frames


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 124, 125, 126, 127, 511, 512, 513, 65534, 65535])
def test_every_whole_frame_of_up_to_64_kib_is_taken(size: int, masked: bool) -> None:
    payload = (bytes(range(256)) * 256)[:size]
    data = frame(0x82, payload, masked=masked)
    assert parsed(data, masked) == (len(data), [(0x82, payload)])
    # Without its last byte it is not whole, and what stands before it is taken all the same.
    start = frame(0x81, b"ok", masked=masked)
    assert parsed(start + data[:-1], masked) == (len(start), [(0x81, b"ok")])


@pytest.mark.parametrize("masked", [False, True])
def test_all_frames_of_a_chunk_are_taken_in_order_from_the_position_on(masked: bool) -> None:
    wanted = [
        (0x01, b"a"),
        (0x89, b""),
        (0x00, b"b" * 200),
        (0x80, b"c"),
        (0x88, b"\x03\xe8"),
        (0x8A, b"d" * 125),
    ]
    data = b"".join(frame(first_byte, payload, masked=masked) for first_byte, payload in wanted)
    assert parsed(b"\xff\xff\xff" + data + b"\x81", masked, position=3) == (3 + len(data), wanted)


@pytest.mark.parametrize("masked", [False, True])
def test_a_longer_frame_is_left_to_the_reader_of_headers(masked: bool) -> None:
    assert parsed(frame(0x82, bytes(65536), masked=masked), masked) == (0, [])


@pytest.mark.parametrize("masked", [False, True])
def test_the_limit_is_for_data_frames(masked: bool) -> None:
    at_the_limit, over, ping = (
        frame(first_byte, bytes(size), masked=masked)
        for first_byte, size in [(0x82, 5), (0x82, 6), (0x89, 6)]
    )
    data = at_the_limit + ping
    wanted = [(0x82, bytes(5)), (0x89, bytes(6))]
    assert parsed(data + over, masked, max_size=5) == (len(data), wanted)
    header = read_header(ping, 0, masked, 5)
    assert header is not None
    assert header.size == 6


def test_the_loop_takes_what_the_judge_of_headers_lets_pass_and_nothing_else() -> None:
    """For every first and second byte: the rules stand in one place, but the loop must know them too."""
    rest = b"\x00\x7e" + MASK + bytes(130)  # the shortest extended length, or payload
    for masked in (False, True):
        for first_byte in range(256):
            for second_byte in range(256):
                data = bytes((first_byte, second_byte)) + rest
                try:
                    header = read_header(data, 0, masked, NO_LIMIT)
                except WebSocketError:
                    assert parsed(data, masked) == (0, [])
                    continue
                assert header is not None
                if second_byte & 0x7F == 127:  # announces far more than 64 KiB
                    assert parsed(data, masked) == (0, [])
                    continue
                stop, frames = parsed(data[: header.header_size + header.size], masked)
                assert stop == header.header_size + header.size
                [(taken, payload)] = frames
                assert taken == first_byte == header.opcode | (0x80 if header.fin else 0)
                assert len(payload) == header.size


# --- In: headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "masked", "header"),
    [
        (b"\x81\x05", False, Header(1, True, 5, None, 2)),
        (b"\x01\x00", False, Header(1, False, 0, None, 2)),
        (b"\x80\x7d", False, Header(0, True, 125, None, 2)),
        (b"\x8a\x7d", False, Header(10, True, 125, None, 2)),
        (b"\x82\x7e\x00\x7e", False, Header(2, True, 126, None, 4)),
        (b"\x82\x7e\xff\xff", False, Header(2, True, 65535, None, 4)),
        (b"\x82\x7f\0\0\0\0\0\x01\0\0", False, Header(2, True, 65536, None, 10)),
        (b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", False, Header(2, True, (1 << 63) - 1, None, 10)),
        (b"\x81\x85" + MASK, True, Header(1, True, 5, MASK, 6)),
        (b"\x88\x80" + MASK, True, Header(8, True, 0, MASK, 6)),
        (b"\x02\xfe\x00\x7e" + MASK, True, Header(2, False, 126, MASK, 8)),
        (b"\x82\xff\0\0\0\0\0\x01\0\0" + MASK, True, Header(2, True, 65536, MASK, 14)),
    ],
)
def test_a_header_is_read_once_it_is_complete(data: bytes, masked: bool, header: Header) -> None:
    for size in range(len(data)):
        assert read_header(data[:size], 0, masked, NO_LIMIT) is None
    assert read_header(data, 0, masked, NO_LIMIT) == header
    assert read_header(b"\xff\xff\xff" + data + b"\xff", 3, masked, NO_LIMIT) == header


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_over_the_limit_is_too_big_and_one_at_the_limit_is_not(masked: bool) -> None:
    header = read_header(frame(0x82, bytes(1000), masked=masked), 0, masked, 1000)
    assert header is not None
    assert header.size == 1000
    with pytest.raises(
        MessageTooBig, match="a frame of 1001 bytes is announced, the limit is 1000"
    ) as caught:
        read_header(frame(0x82, bytes(1001), masked=masked)[:4], 0, masked, 1000)
    assert (caught.value.size, caught.value.limit) == (1001, 1000)

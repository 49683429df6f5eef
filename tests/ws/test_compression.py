"""What is done to the data of messages (RFC 7692, section 7.2): its examples, and zlib as the model."""

from __future__ import annotations

import sys
import tracemalloc
import zlib
from collections.abc import Iterable
from hashlib import shake_256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import InvalidDeflate
from stelar_proto.ws import PerMessageDeflate
from stelar_proto.ws.compression import Deflater, Inflater
from stelar_proto.ws.deflate import Direction

from .feeding import cut

KEEPING, FORGETTING = Direction(True, 15), Direction(False, 15)
LIMIT = 1 << 20

# The examples of section 7.2.3: "Hello" in all the ways there are.
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_AGAIN = bytes.fromhex("f200110000")
STORED = bytes.fromhex("000500faff48656c6c6f00")
FINAL = bytes.fromhex("f348cdc9c9070000")
TWO_BLOCKS = bytes.fromhex("f248050000 00ffffcac9c90700")


def deflater(direction: Direction, **settings: Any) -> Deflater:
    return Deflater(direction, PerMessageDeflate(**settings))


def inflate(inflater: Inflater, message: bytes) -> bytes:
    return inflater.inflate(message, True, LIMIT)


def inflate_in_pieces(inflater: Inflater, pieces: Iterable[bytes]) -> bytes:
    inflated = b"".join(inflater.inflate(piece, False, LIMIT) for piece in pieces)
    return inflated + inflater.inflate(b"", True, LIMIT)


def noise(size: int) -> bytes:
    """Bytes that cannot be compressed, always the same."""
    return shake_256(b"").digest(size)


def by_model(message: bytes) -> bytes:
    """What RFC 7692, section 7.2.2, makes of a message, with what zlib makes of DEFLATE."""
    return zlib.decompressobj(-15).decompress(message + b"\0\0\xff\xff")


# --- Examples ---------------------------------------------------------------------------------------------


def test_hello_is_compressed_as_the_rfc_says() -> None:
    for direction in (KEEPING, FORGETTING):
        assert deflater(direction).compress(b"Hello", True) == HELLO


def test_a_second_hello_refers_to_the_first_where_context_is_taken_over() -> None:
    keeping, forgetting = deflater(KEEPING), deflater(FORGETTING)
    assert [keeping.compress(b"Hello", True) for _ in range(2)] == [HELLO, HELLO_AGAIN]
    assert [forgetting.compress(b"Hello", True) for _ in range(2)] == [HELLO, HELLO]


@pytest.mark.parametrize("direction", [KEEPING, FORGETTING])
@pytest.mark.parametrize("message", [HELLO, STORED, FINAL, TWO_BLOCKS])
def test_each_hello_of_the_rfc_is_inflated_however_it_is_cut(direction: Direction, message: bytes) -> None:
    for at in range(len(message) + 1):
        inflater = Inflater(direction)
        for _ in range(2):
            assert inflate_in_pieces(inflater, [message[:at], message[at:]]) == b"Hello"
            assert inflate(inflater, message) == b"Hello"


def test_a_message_that_refers_to_the_one_before_needs_its_context() -> None:
    keeping, forgetting = Inflater(KEEPING), Inflater(FORGETTING)
    for inflater in (keeping, forgetting):
        assert inflate(inflater, HELLO) == b"Hello"
    assert inflate(keeping, HELLO_AGAIN) == b"Hello"
    with pytest.raises(InvalidDeflate):
        inflate(forgetting, HELLO_AGAIN)


@pytest.mark.parametrize("direction", [KEEPING, FORGETTING])
def test_an_empty_message_is_an_empty_block(direction: Direction) -> None:
    compressing = deflater(direction)
    for _ in range(2):
        assert compressing.compress(b"", True) == b"\0"
    assert compressing.compress(b"", False) == b"\0\0\0\xff\xff"
    assert compressing.compress(b"", True) == b"\0"
    inflater = Inflater(direction)
    for message in (b"\0", b"\x02\0", b"\x03\0\0", b"\x03\0", b"", HELLO):
        assert inflate(inflater, message) == (b"Hello" if message == HELLO else b"")


def test_a_final_block_forgets_what_was_before_it() -> None:
    inflater = Inflater(KEEPING)
    assert inflate(inflater, FINAL) == b"Hello"
    with pytest.raises(InvalidDeflate):
        inflate(inflater, HELLO_AGAIN)


def test_several_final_blocks_make_one_message() -> None:
    blocks = [zlib.compressobj(6, zlib.DEFLATED, -15) for _ in range(3)]
    data = b"".join(block.compress(b"x" * 1000) + block.flush() for block in blocks)
    for message in (data, data + b"\0"):
        assert inflate(Inflater(FORGETTING), message) == b"x" * 3000
        assert inflate_in_pieces(Inflater(KEEPING), (message[at : at + 1] for at in range(len(message)))) == (
            b"x" * 3000
        )


# --- Bad data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [KEEPING, FORGETTING])
@pytest.mark.parametrize(
    "message",
    [
        b"\x07",  # a block of the type that there is not
        b"\xff\xff\xff\xff",
        b"\x00\x05\x00\xfa\xfeHello\0",  # a stored block whose length is not what it says it is
        b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff",  # with the octets that are to be left out
        HELLO[:-1],
        HELLO[:-3],
        STORED[:-1],
        STORED[:-3],
        STORED[:3],
        b"\x03",  # a final block whose last bits are missing
        FINAL + b"\0",
    ],
)
def test_what_is_no_whole_deflate_data_is_refused(direction: Direction, message: bytes) -> None:
    for at in range(len(message) + 1):
        inflater = Inflater(direction)
        assert inflate(inflater, HELLO) == b"Hello"
        with pytest.raises(InvalidDeflate, match="a compressed message is no DEFLATE data"):
            inflate_in_pieces(inflater, [message[:at], message[at:]])


@pytest.mark.parametrize("direction", [KEEPING, FORGETTING])
def test_every_message_that_is_cut_off_is_noticed(direction: Direction) -> None:
    fixed = b'{"event":"chat","data":"hola"} and some more, hola chat event'
    for text in (fixed, " ".join(map(str, range(300))).encode()):  # the second brings its own code
        message = deflater(direction).compress(text, True)
        for size in range(1, len(message)):
            with pytest.raises(InvalidDeflate):
                inflate(Inflater(direction), message[:size])


# --- Bounds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [KEEPING, FORGETTING])
def test_inflating_stops_where_it_is_told(direction: Direction) -> None:
    message = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = message.compress(bytes(1 << 20)) + message.flush(zlib.Z_SYNC_FLUSH)
    for max_length in (1, 10, 1000, (1 << 20) - 1):
        assert Inflater(direction).inflate(data[:-4], True, max_length) == bytes(max_length)
    assert Inflater(direction).inflate(data[:-4], True, sys.maxsize * 4) == bytes(1 << 20)


def test_final_blocks_count_together() -> None:
    block = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = (block.compress(bytes(300)) + block.flush()) * 10
    assert Inflater(FORGETTING).inflate(data, True, 1000) == bytes(1000)


def test_a_bomb_costs_what_it_is_inflated_to_and_no_more() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    assert len(data) < 100_000
    inflater = Inflater(FORGETTING)
    tracemalloc.start()
    try:
        assert len(inflater.inflate(data, True, LIMIT)) == LIMIT
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * LIMIT


def test_many_final_blocks_are_gone_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._real = real(wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            nonlocal copied
            inflated = self._real.decompress(data, max_length)
            copied += len(self._real.unused_data)
            return inflated

        @property
        def eof(self) -> bool:
            return self._real.eof

        @property
        def unused_data(self) -> bytes:
            return self._real.unused_data

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    data = b"\x03\0" * 20_000
    assert Inflater(FORGETTING).inflate(data, True, LIMIT) == b""
    assert copied < 150 * len(data)  # and not half of its square


# --- How it is compressed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [KEEPING, FORGETTING])
def test_what_would_not_get_shorter_is_left_as_it_is_and_not_referred_to(direction: Direction) -> None:
    compressing, inflater = deflater(direction, level=9), Inflater(direction)
    for _ in range(2):
        assert compressing.compress_message(b"Hello") is None
    first = compressing.compress_message(b"hola " * 300)
    assert first is not None
    assert len(first) < 60
    assert inflate(inflater, first) == b"hola " * 300
    random = noise(1200)
    assert compressing.compress_message(random) is None
    second = compressing.compress_message(random + b"hola " * 300)
    assert second is not None
    assert inflate(inflater, second) == random + b"hola " * 300


def test_no_context_is_kept_between_messages_where_none_is_taken_over() -> None:
    compressing, inflater = deflater(FORGETTING), Inflater(FORGETTING)
    message = b"".join(b"%d," % number for number in range(20_000))
    zlib.compressobj()  # what importing and first use cost is not what is measured
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        compressed = compressing.compress_message(message)
        assert compressed is not None
        assert inflate(inflater, compressed) == message
        first, rest = compressing.compress(b"a", False), compressing.compress(b"b", True)
        assert inflate(inflater, first + rest) == b"ab"
        del compressed, first, rest
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()
    assert compressing._compressor is None
    assert inflater._decompressor is None


def window_of(message: bytes) -> int:
    """How far back the message refers: the bits of the smallest window with which it can be inflated.

    zlib looks back into its output where it can, so it is given room for one byte at a time.
    """
    for bits in range(8, 16):
        decompressor = zlib.decompressobj(-bits)
        inflated = bytearray()
        try:
            for octet in message + b"\0\0\xff\xff":
                data = bytes([octet])
                while byte := decompressor.decompress(data, 1):
                    inflated += byte
                    data = decompressor.unconsumed_tail
        except zlib.error:
            continue
        assert inflated == by_model(message)
        return bits
    raise AssertionError("it is no DEFLATE data")


@pytest.mark.parametrize("keeps_context", [False, True])
@pytest.mark.parametrize("bits", [8, 9, 10, 12, 13, 15])
def test_no_message_refers_further_back_than_was_agreed(bits: int, keeps_context: bool) -> None:
    message = (noise(5000) + b"x" * 1000) * 3
    direction = Direction(keeps_context, bits)
    compressed = deflater(direction).compress_message(message)
    assert compressed is not None
    assert window_of(compressed) <= bits
    assert (window_of(compressed) == 13) is (bits >= 13)
    assert inflate(Inflater(direction), compressed) == message


# --- Any messages -----------------------------------------------------------------------------------------

PIECES = st.one_of(st.binary(max_size=40), st.sampled_from([b"hola " * 50, bytes(3000), b"\xff" * 300]))
MESSAGES = st.lists(st.lists(PIECES, min_size=1, max_size=4), min_size=1, max_size=4)
DIRECTIONS = st.builds(Direction, st.booleans(), st.integers(8, 15))


@given(MESSAGES, DIRECTIONS, st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(0, 9999), max_size=6))
def test_what_is_deflated_inflates_to_the_same_in_any_pieces(
    messages: list[list[bytes]], direction: Direction, level: int, mem_level: int, cuts: list[int]
) -> None:
    compressing = deflater(direction, level=level, mem_level=mem_level)
    inflater = Inflater(direction)
    for parts in messages:
        *first, last = parts
        message = b"".join([*(compressing.compress(part, False) for part in first), b""])
        message += compressing.compress(last, True)
        assert inflate_in_pieces(inflater, cut(message, cuts)) == b"".join(parts)
        if not direction.keeps_context:
            assert by_model(message) == b"".join(parts)


@given(st.lists(PIECES, max_size=6), DIRECTIONS)
def test_whole_messages_are_shorter_or_left_as_they_are(messages: list[bytes], direction: Direction) -> None:
    compressing, inflater = deflater(direction), Inflater(direction)
    for message in messages:
        compressed = compressing.compress_message(message)
        if compressed is not None:
            assert len(compressed) < len(message)
            assert inflate(inflater, compressed) == message


@given(st.binary(max_size=60), DIRECTIONS, st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_are_inflated_or_refused_alike_however_they_are_cut(
    data: bytes, direction: Direction, cuts: list[int]
) -> None:
    def outcome(pieces: list[bytes]) -> bytes | str:
        try:
            return inflate_in_pieces(Inflater(direction), pieces)
        except InvalidDeflate as error:
            return str(error)

    assert outcome(cut(data, cuts)) == outcome([data] if data else [])

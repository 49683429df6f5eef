"""What permessage-deflate does to messages (RFC 7692, section 7.2): compressing them, and inflating them.

Responsible for the DEFLATE data of one direction of a connection, and for how long its context lives. Not
responsible for what was agreed upon (:mod:`.deflate`), nor for fragments and UTF-8 (:mod:`.messages`).
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from stelar_proto.errors import InvalidDeflate

from .deflate import Direction, PerMessageDeflate
from .frames import RSV1, Opcode

if TYPE_CHECKING:
    from zlib import _Compress, _Decompress

_TRAILER = b"\0\0\xff\xff"  # the end of an empty stored block, which is left out of a message
_FINAL_BLOCK = b"\x01\0\0\xff\xff"  # an empty one that ends a stream, where a block may begin

# How soon a fault shows depends on how the bytes were cut, so the words that go to the peer do not say more.
NOT_DEFLATE = "a compressed message is no DEFLATE data"

_CONTINUATION = int(Opcode.CONTINUATION)
_LOOKAHEAD = 262  # zlib refers no further back than its window less this
_PIECE_SIZE = 256  # bytes, behind a final block


class Deflater:
    """Compresses the messages of one direction, one after another.

    A compressor lives as long as its context: from message to message, or no longer than one of them. In the
    second case whole messages of many connections may pass through the same deflater.

    Arguments:
        direction: what was agreed upon.
        settings: with what zlib is told how to do it.
    """

    __slots__ = ("_compressor", "_keeps_context", "_settings", "_window_bits")

    def __init__(self, direction: Direction, settings: PerMessageDeflate) -> None:
        self._keeps_context, self._window_bits = direction
        self._settings = settings
        self._compressor: _Compress | None = None

    def compress(self, payload: bytes, final: bool) -> bytes:
        """Return the next fragment of a message, complete up to its last byte; ``final`` ends the message."""
        compressor = self._compressor or self._new_compressor(None)
        self._compressor = compressor if self._keeps_context or not final else None
        return _flush(compressor, payload, final)

    def compress_message(self, payload: bytes) -> bytes | None:
        """Return a whole message; None where that is no shorter, and it is to be sent as it is."""
        if self._keeps_context:
            compressed = self.compress(payload, True)
        else:
            compressed = _flush(self._new_compressor(len(payload)), payload, True)
        if len(compressed) < len(payload):
            return compressed
        # The peer will know nothing of this message, so the next one must not refer to it.
        self._compressor = None
        return None

    def _new_compressor(self, size: int | None) -> _Compress:
        bits, level, mem_level = self._window_bits, self._settings.level, self._settings.mem_level
        if bits == 8:
            # Raw DEFLATE with this window is what zlib cannot do. It can refer no further than one byte.
            return zlib.compressobj(level, zlib.DEFLATED, -9, mem_level, zlib.Z_RLE)
        if size is not None:  # most of a new compressor's cost is the memory that it has to clear
            bits = max(9, min(bits, (size + _LOOKAHEAD).bit_length()))
            mem_level = min(mem_level, bits - 6)
        return zlib.compressobj(level, zlib.DEFLATED, -bits, mem_level)


def _flush(compressor: _Compress, payload: bytes, final: bool) -> bytes:
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data[: -len(_TRAILER)] if final else data


class CompressingEncoder:
    """Encodes messages as frames, compressed where that makes them shorter.

    Arguments:
        deflater: compresses.
        min_size: shorter messages are left as they are, bytes.
        encode_frame: makes a frame of opcode, payload and FIN, masked as the role asks.
        encode_message: makes a frame of a whole message that is not compressed.
    """

    __slots__ = ("_deflater", "_encode_frame", "_encode_message", "_min_size")

    def __init__(
        self,
        deflater: Deflater,
        min_size: int,
        encode_frame: Callable[..., bytes],
        encode_message: Callable[[int, bytes], bytes],
    ) -> None:
        self._deflater = deflater
        self._min_size = min_size
        self._encode_frame = encode_frame
        self._encode_message = encode_message

    def encode_message(self, opcode: int, payload: bytes) -> bytes:
        """Return a whole message as one frame."""
        if len(payload) >= self._min_size:
            compressed = self._deflater.compress_message(payload)
            if compressed is not None:
                return self._encode_frame(opcode | RSV1, compressed, True)
        return self._encode_message(opcode, payload)

    def encode_part(self, opcode: int, payload: bytes, fin: bool) -> bytes:
        """Return the next part of a message as a frame; how long the whole will be nobody knows."""
        if opcode != _CONTINUATION:
            if fin:
                return self.encode_message(opcode, payload)
            opcode |= RSV1
        return self._encode_frame(opcode, self._deflater.compress(payload, fin), fin)


class Inflater:
    """Inflates the messages of one direction, no further than is asked for.

    Arguments:
        direction: what was agreed upon.
    """

    __slots__ = ("_decompressor", "_is_at_boundary", "_keeps_context", "_window_bits")

    def __init__(self, direction: Direction) -> None:
        self._keeps_context, self._window_bits = direction
        self._decompressor: _Decompress | None = None
        self._is_at_boundary = True  # of this message, nothing came, or all of it up to a final block's end

    def inflate(self, data: bytes, final: bool, max_length: int) -> bytes:
        """Return what the next bytes of a message mean; ``final`` ends it.

        Arguments:
            max_length: where to stop, bytes. Of a message that is longer the rest is lost, unseen.

        Raises:
            InvalidDeflate: they are no DEFLATE data, or the message ends within a block.
        """
        try:
            inflated = self._decompress(memoryview(data), min(max_length, sys.maxsize))
            if final and len(inflated) < max_length:
                self._end_message()
        except zlib.error:
            raise InvalidDeflate(NOT_DEFLATE) from None
        return inflated

    def _decompress(self, data: memoryview, max_length: int) -> bytes:
        parts = []
        piece_size = len(data)
        while data and max_length:
            decompressor = self._decompressor
            if decompressor is None:
                decompressor = self._decompressor = zlib.decompressobj(-self._window_bits)
            piece = data[:piece_size]
            part = decompressor.decompress(piece, max_length)
            max_length -= len(part)
            parts.append(part)
            data = data[len(piece) - len(decompressor.unused_data) :]
            self._is_at_boundary = decompressor.eof
            if decompressor.eof:
                # A final block, behind which others may follow (section 7.2.3.4). For zlib it is the end of
                # all, window included. What it has not used it copies, every time: so it gets less at a time.
                self._decompressor = None
                piece_size = _PIECE_SIZE
        return b"".join(parts)

    def _end_message(self) -> None:
        decompressor = self._decompressor
        if not self._is_at_boundary:
            assert decompressor is not None
            if decompressor.decompress(_TRAILER, 1) or decompressor.eof:
                raise InvalidDeflate(NOT_DEFLATE)
            # A message that was cut off would pass for a shorter one.
            probe = decompressor.copy() if self._keeps_context else decompressor
            if probe.decompress(_FINAL_BLOCK, 1) or not probe.eof or probe.unused_data:
                raise InvalidDeflate(NOT_DEFLATE)
            self._is_at_boundary = True
        if not self._keeps_context:
            self._decompressor = None

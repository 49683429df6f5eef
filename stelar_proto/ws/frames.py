"""Frames: the bytes of RFC 6455, section 5.2, and nothing above them.

Two ways in. :func:`parse_frames` is the hot loop: a function from bytes to frames that takes every small,
whole, well-formed frame of a chunk and stops at the first byte that is anything else. Whatever stopped it,
:func:`read_header` looks at: it is the only place that judges a header, so no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from io import BytesIO
from struct import Struct
from typing import NamedTuple

from stelar_proto.errors import MessageTooBig, WebSocketError


class Opcode(IntEnum):
    """RFC 6455, section 11.8."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


FIN = 0x80
MASKED = 0x80
MAX_CONTROL_SIZE = 125

_OPCODES = frozenset(Opcode)
_CONTROL = 0x08  # the opcode bit that all control frames have
_CLOSE_FRAME = FIN | Opcode.CLOSE  # the lowest first byte of all legal control frames; data frames are below
# The first bytes a frame may have: no RSV bit, a known opcode, and FIN on control frames.
_LEGAL_FIRST_BYTES = frozenset({int(op) for op in Opcode if op < _CONTROL} | {FIN | op for op in Opcode})

# Looked up once: CPython 3.11 makes a new bound method at every `int.from_bytes`.
_from_bytes = int.from_bytes
_pack_two_bytes = Struct(">BB").pack

# --- Masking (section 5.3) ------------------------------------------------------------------------------

# Small payloads are XORed as one integer; from here on four table look-ups over every fourth byte are faster.
_SMALL = 512
# Large payloads are masked block by block: what is temporary stays in the processor's cache, and a message of
# many MiB is in memory once more, not three times.
_BLOCK_SIZE = 65536
_IDENTITY = bytes(range(256))
_XOR_TABLES = tuple(
    (_from_bytes(_IDENTITY, "big") ^ _from_bytes(bytes((key,)) * 256, "big")).to_bytes(256, "big")
    for key in range(256)
)


def apply_mask(payload: bytes | memoryview, mask: bytes, phase: int = 0) -> bytes:
    """XOR ``payload`` with the 4-byte ``mask``; the same call masks and unmasks.

    Arguments:
        phase: how many bytes of the frame's payload came before (a frame may arrive in pieces).
    """
    if phase:
        phase &= 3
        mask = mask[phase:] + mask[:phase]
    size = len(payload)
    if size <= _SMALL:
        # The key may be longer than the payload; the surplus is cut off behind it.
        words = (size + 3) >> 2
        masked = _from_bytes(payload, "little") ^ _from_bytes(mask * words, "little")
        return masked.to_bytes(words << 2, "little")[:size]
    if size <= _BLOCK_SIZE:
        return bytes(_mask_block(payload, mask))
    whole = BytesIO()  # its getvalue() gives its own memory away; bytes(bytearray) would copy it
    whole.seek(size - 1)
    whole.write(b"\0")
    whole.seek(0)
    for start in range(0, size, _BLOCK_SIZE):
        whole.write(_mask_block(payload[start : start + _BLOCK_SIZE], mask))
    return whole.getvalue()


def _mask_block(payload: bytes | memoryview, mask: bytes) -> bytearray:
    block = bytearray(payload)
    for offset in range(4):
        block[offset::4] = block[offset::4].translate(_XOR_TABLES[mask[offset]])
    return block


class MaskSource:
    """Masking keys, four unpredictable bytes each (section 5.3), drawn from the entropy source in blocks."""

    __slots__ = ("_entropy", "_keys")

    _BLOCK_SIZE = 256

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._keys: list[bytes] = []

    def next(self) -> bytes:
        """Return a key; none is given out twice.

        Raises:
            ValueError: the entropy source returned another number of bytes than it was asked for.
        """
        if not self._keys:
            self._draw()
        return self._keys.pop()

    def _draw(self) -> None:
        size = self._BLOCK_SIZE
        block = self._entropy(size)
        if len(block) != size:
            raise ValueError(f"entropy({size}) has to return {size} bytes, it returned {len(block)}")
        self._keys = [block[start : start + 4] for start in range(0, size, 4)]


# --- Out ------------------------------------------------------------------------------------------------


def _long_header(first_byte: int, size: int, mask_bit: int) -> bytes:
    if size < 0x10000:
        return _pack_two_bytes(first_byte, mask_bit | 126) + size.to_bytes(2, "big")
    return _pack_two_bytes(first_byte, mask_bit | 127) + size.to_bytes(8, "big")


def encode_frame(opcode: int, payload: bytes, *, mask: bytes | None = None, fin: bool = True) -> bytes:
    """Return one frame, its length in the fewest bytes possible.

    Arguments:
        opcode: see :class:`Opcode`.
        payload: up to 125 bytes for control frames; the caller has checked.
        mask: the 4-byte key on the way to a server, None on the way to a client.
        fin: whether this is the last frame of its message.
    """
    first_byte = FIN | opcode if fin else opcode
    size = len(payload)
    if mask is None:
        if size < 126:
            return _pack_two_bytes(first_byte, size) + payload
        return _long_header(first_byte, size, 0) + payload
    if size < 126:  # apply_mask, without the call
        words = (size + 3) >> 2
        number = _from_bytes(payload, "little") ^ _from_bytes(mask * words, "little")
        masked = number.to_bytes(words << 2, "little")[:size]
        return _pack_two_bytes(first_byte, MASKED | size) + mask + masked
    return _long_header(first_byte, size, MASKED) + mask + apply_mask(payload, mask)


# --- In -------------------------------------------------------------------------------------------------


def parse_frames(
    data: bytes, position: int, masked: bool, max_size: int, frames: list[tuple[int, bytes]]
) -> int:
    """Append each whole, well-formed, short (at most 64 KiB) frame of ``data``; return where that ended.

    Arguments:
        data: what was received.
        position: where in ``data`` a frame begins.
        masked: whether the peer must mask (it is a client) or must not (it is a server).
        max_size: no payload of a data frame may be longer.
        frames: receives ``(first_byte, payload)`` for each frame, payload unmasked.
    """
    end = len(data)
    while position + 2 <= end:
        first_byte = data[position]
        size = data[position + 1]
        start = position + 2
        if masked:
            size -= MASKED
        if size > MAX_CONTROL_SIZE:
            if size != 126 or start + 2 > end or first_byte & _CONTROL:
                break
            size = data[start] << 8 | data[start + 1]
            if size < 126:
                break
            start += 2
        if (
            size < 0
            or first_byte not in _LEGAL_FIRST_BYTES
            or (size > max_size and first_byte < _CLOSE_FRAME)
        ):
            break
        if masked:
            start += 4
        stop = start + size
        if stop > end:
            break
        payload = data[start:stop]
        if masked:
            mask = data[start - 4 : start]
            if size <= _SMALL:  # apply_mask, without the call
                words = (size + 3) >> 2
                number = _from_bytes(payload, "little") ^ _from_bytes(mask * words, "little")
                payload = number.to_bytes(words << 2, "little")[:size]
            else:
                payload = apply_mask(payload, mask)
        frames.append((first_byte, payload))
        position = stop
    return position


class Header(NamedTuple):
    """The head of a frame: everything that comes before its payload."""

    opcode: int
    fin: bool
    size: int
    mask: bytes | None
    header_size: int


def read_header(data: bytes, position: int, masked: bool, max_size: int) -> Header | None:
    """Judge the header at ``position`` as far as it is there; None when more bytes are needed.

    Arguments: as those of :func:`parse_frames`.

    Raises:
        WebSocketError: the header breaks section 5.2 or 5.5 (answered with 1002).
        MessageTooBig: the announced payload of a data frame is over ``max_size`` (answered with 1009).
    """
    available = len(data) - position
    if available < 1:
        return None
    first_byte = data[position]
    opcode = first_byte & 0x0F
    fin = bool(first_byte & FIN)
    if first_byte & 0x70:
        raise WebSocketError("a reserved bit is set, and no extension was negotiated that would use it")
    if opcode not in _OPCODES:
        raise WebSocketError(f"opcode 0x{opcode:X} is reserved")
    if opcode & _CONTROL and not fin:
        raise WebSocketError("a control frame must not be fragmented")
    if available < 2:
        return None
    second_byte = data[position + 1]
    if bool(second_byte & MASKED) is not masked:
        raise WebSocketError(
            "frames from a client must be masked" if masked else "frames from a server must not be masked"
        )
    size = second_byte & 0x7F
    if opcode & _CONTROL and size > MAX_CONTROL_SIZE:
        raise WebSocketError(f"a control frame carries at most {MAX_CONTROL_SIZE} bytes")
    start = position + 2
    if size > MAX_CONTROL_SIZE:
        width = 2 if size == 126 else 8
        if available < 2 + width:
            return None
        size = _read_extended_size(data[start : start + width])
        start += width
    if size > max_size and not opcode & _CONTROL:
        raise MessageTooBig(f"a frame of {size} bytes is announced, the limit is {max_size}")
    mask = None
    if masked:
        if len(data) < start + 4:
            return None
        mask = data[start : start + 4]
        start += 4
    return Header(opcode, fin, size, mask, start - position)


def _read_extended_size(encoded: bytes) -> int:
    size = _from_bytes(encoded, "big")
    if size >= 1 << 63:
        raise WebSocketError("the most significant bit of a 64-bit length must be 0")
    if size < (126 if len(encoded) == 2 else 0x10000):
        raise WebSocketError(f"a length of {size} must be encoded in fewer bytes")
    return size

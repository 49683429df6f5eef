"""Frames: the bytes of RFC 6455, section 5.2, and nothing above them.

Two ways in. :func:`parse_frames` is the hot loop: a function from bytes to frames that takes every small,
whole, well-formed frame of a chunk and stops at the first byte that is anything else. Whatever stopped it,
:func:`read_header` looks at: it is the only place that judges a header, so no rule is written twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from io import BytesIO
from struct import Struct
from sys import byteorder
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
RSV1 = 0x40  # RFC 7692, section 6: the message that begins with this frame is compressed
MASKED = 0x80
MAX_CONTROL_SIZE = 125

_OPCODES = frozenset(Opcode)
_CONTROL = 0x08  # the opcode bit that all control frames have
# Whether a frame may begin with a byte: no RSV bit, a known opcode, and FIN on control frames.
LEGAL_FIRST_BYTES = tuple(
    not byte & 0x70 and byte & 0x0F in _OPCODES and (byte >= FIN or not byte & _CONTROL)
    for byte in range(256)
)
# The same where messages may be compressed: the first frame of one has RSV1.
LEGAL_COMPRESSED_FIRST_BYTES = tuple(
    legal or byte & ~FIN in (RSV1 | Opcode.TEXT, RSV1 | Opcode.BINARY)
    for byte, legal in enumerate(LEGAL_FIRST_BYTES)
)

# Looked up once: CPython 3.11 makes a new bound method at every `int.from_bytes`.
_from_bytes = int.from_bytes
_pack_two_bytes = Struct(">BB").pack

# --- Masking (section 5.3) ------------------------------------------------------------------------------

# Small payloads are XORed as one integer; from here on four table look-ups over every fourth byte are faster.
_SMALL = 512
# A key times the n-th of these is the key n times in a row: they have a 1 in every 32nd bit.
_ONES = [((1 << words * 32) - 1) // 0xFFFFFFFF for words in range(_SMALL // 4 + 2)]
# For each size of a small payload: its bits, and what makes `key * ones >> surplus` the key over and over for
# four bytes more than the payload has. A key with its payload behind it, read as one (big-endian) number and
# XORed with that, is the payload alone: the key in front has become zeros.
_REPETITIONS = tuple((size * 8, _ONES[(size + 7) // 4], -size % 4 * 8) for size in range(_SMALL + 1))

# Large payloads are masked block by block: what is temporary stays in the processor's cache, and a message of
# many MiB is in memory once more, not three times.
_BLOCK_SIZE = 65536
_IDENTITY = bytes(range(256))
_XOR_TABLES = tuple(
    (_from_bytes(_IDENTITY) ^ _from_bytes(bytes((key,)) * 256)).to_bytes(256) for key in range(256)
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
        number = _from_bytes(mask + payload)
        bits, ones, surplus = _REPETITIONS[size]
        return (number ^ (number >> bits) * ones >> surplus).to_bytes(size)
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


# --- Out ------------------------------------------------------------------------------------------------


def encode_frame(opcode: int, payload: bytes, fin: bool = True, *, mask: bytes | None = None) -> bytes:
    """Return one frame, its length in the fewest bytes possible.

    Arguments:
        opcode: see :class:`Opcode`.
        payload: up to 125 bytes for control frames; the caller has checked.
        mask: the 4-byte key on the way to a server, None on the way to a client.
        fin: whether this is the last frame of its message.
    """
    first_byte = FIN | opcode if fin else opcode
    mask_bit = 0 if mask is None else MASKED
    size = len(payload)
    if size < 126:
        head = _pack_two_bytes(first_byte, mask_bit | size)
    elif size < 0x10000:
        head = _pack_two_bytes(first_byte, mask_bit | 126) + size.to_bytes(2)
    else:
        head = _pack_two_bytes(first_byte, mask_bit | 127) + size.to_bytes(8)
    if mask is None:
        return head + payload
    return head + mask + apply_mask(payload, mask)


def _short_message(opcode: int, size: int) -> tuple[int, int, int, int]:
    head = bytes((FIN | opcode, MASKED | size))
    _, ones, surplus = _REPETITIONS[size]
    return _from_bytes(head + bytes(4 + size)), ones, surplus, len(head) + 4 + size


# By opcode and size, for the frames that are short messages: the frame with zeros for key and payload, what
# makes the key go there and over the payload, and how long the frame is.
_SHORT_MESSAGES = (
    (),  # no message begins with a continuation
    tuple(_short_message(Opcode.TEXT, size) for size in range(126)),
    tuple(_short_message(Opcode.BINARY, size) for size in range(126)),
)


_KEYS_SIZE = 1024  # bytes of entropy that are drawn at once


class MaskingEncoder:
    """What a client sends with: frames whose keys are four unpredictable bytes each (section 5.3).

    Keys are drawn from the entropy source in blocks, and none is used twice.

    Arguments:
        entropy: returns as many unpredictable bytes as it is asked for.
    """

    __slots__ = ("_entropy", "_keys")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._keys: Iterator[int] = iter(())

    def encode_message(self, opcode: int, payload: bytes) -> bytes:
        """Return a whole message as one frame: what :meth:`encode_frame` does, faster if it is short.

        Arguments:
            opcode: :attr:`Opcode.TEXT` or :attr:`Opcode.BINARY`.
            payload: the whole message.

        Raises:
            ValueError: the entropy source returned another number of bytes than it was asked for.
        """
        size = len(payload)
        if size >= 126:
            return self.encode_frame(opcode, payload)
        try:
            key = next(self._keys)
        except StopIteration:
            key = self._draw()
        head, ones, surplus, width = _SHORT_MESSAGES[opcode][size]
        return (head ^ _from_bytes(payload) ^ key * ones >> surplus).to_bytes(width)

    def encode_frame(self, opcode: int, payload: bytes, fin: bool = True) -> bytes:
        """Return one frame; arguments as those of the function :func:`encode_frame`, errors as above."""
        key = next(self._keys, None)
        if key is None:
            key = self._draw()
        return encode_frame(opcode, payload, fin, mask=key.to_bytes(4))

    def _draw(self) -> int:
        """Draw the next keys; return the first of them."""
        block = self._entropy(_KEYS_SIZE)
        if len(block) != _KEYS_SIZE:
            raise ValueError(
                f"entropy({_KEYS_SIZE}) has to return {_KEYS_SIZE} bytes, it returned {len(block)}"
            )
        keys = array("I", block)
        if byteorder == "little":  # pragma: no branch  # a machine has one of the two
            keys.byteswap()
        self._keys = iter(keys)
        return next(self._keys)


# --- In -------------------------------------------------------------------------------------------------


def parse_frames(
    data: bytes,
    position: int,
    masked: bool,
    max_size: int,
    frames: list[tuple[int, bytes]],
    legal: Sequence[bool] = LEGAL_FIRST_BYTES,
) -> int:
    """Append each whole, well-formed, short (at most 64 KiB) frame of ``data``; return where that ended.

    Arguments:
        data: what was received.
        position: where in ``data`` a frame begins.
        masked: whether the peer must mask (it is a client) or must not (it is a server).
        max_size: no payload of a data frame may be longer.
        frames: receives ``(first_byte, payload)`` for each frame, payload unmasked.
        legal: whether a frame may begin with a byte, for each of them.
    """
    end = len(data)
    while position + 2 <= end:
        first_byte = data[position]
        size = data[position + 1]
        start = position + 2
        if masked:
            size -= MASKED
            start += 4
        if size >= 126:
            if size != 126 or position + 4 > end or first_byte & _CONTROL:
                break
            size = data[position + 2] << 8 | data[position + 3]
            if size < 126:
                break
            start += 2
        stop = start + size
        if size < 0 or stop > end or not legal[first_byte] or (size > max_size and not first_byte & _CONTROL):
            break
        if not masked:
            payload = data[start:stop]
        elif size <= _SMALL:
            number = _from_bytes(data[start - 4 : stop])  # apply_mask, without the call
            bits, ones, surplus = _REPETITIONS[size]
            payload = (number ^ (number >> bits) * ones >> surplus).to_bytes(size)
        else:
            payload = apply_mask(data[start:stop], data[start - 4 : start])
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
    compressed: bool = False


def read_header(
    data: bytes, position: int, masked: bool, max_size: int, legal: Sequence[bool] = LEGAL_FIRST_BYTES
) -> Header | None:
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
    if first_byte & 0x70 and not legal[first_byte]:
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
        words = f"a frame of {size} bytes is announced, the limit is {max_size}"
        raise MessageTooBig(words, size=size, limit=max_size)
    mask = None
    if masked:
        if len(data) < start + 4:
            return None
        mask = data[start : start + 4]
        start += 4
    return Header(opcode, fin, size, mask, start - position, bool(first_byte & RSV1))


def _read_extended_size(encoded: bytes) -> int:
    size = _from_bytes(encoded)
    if size >= 1 << 63:
        raise WebSocketError("the most significant bit of a 64-bit length must be 0")
    if size < (126 if len(encoded) == 2 else 0x10000):
        raise WebSocketError(f"a length of {size} must be encoded in fewer bytes")
    return size

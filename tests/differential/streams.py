"""Streams of frames: put together right and wrong, and taken apart without judging.

Responsible for bytes that each codec is fed, and for a plain splitter (RFC 6455, section 5.2), by which the
known differences say what they are about. It knows where a frame ends and nothing of what is allowed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from stelar_proto.ws import Role
from tests.ws.feeding import xor

# First bytes of frames, with FIN …
TEXT, BINARY, LAST, CLOSE, PING, PONG = 0x81, 0x82, 0x80, 0x88, 0x89, 0x8A
# … and without.
FIRST_TEXT, FIRST_BINARY, NEXT = 0x01, 0x02, 0x00


class Case(NamedTuple):
    """What a codec gets to read, and in what state.

    Attributes:
        role: who reads: a server reads masked frames, a client unmasked ones.
        stream: the frames.
        closing: whether the reader has sent its close frame before.
        limit: bytes of the longest message and frame that the reader takes, or None for no limit.
        takeover: whether messages that are compressed share a context; None where none may be.
    """

    role: Role
    stream: bytes
    closing: bool = False
    limit: int | None = None
    takeover: bool | None = None


# --- Taking apart -----------------------------------------------------------------------------------------


class Head(NamedTuple):
    """The first two bytes of a frame, and its length; ``size`` is None until all of it is there."""

    first_byte: int
    masked: bool
    width: int
    size: int | None

    @property
    def opcode(self) -> int:
        return self.first_byte & 0x0F

    @property
    def fin(self) -> bool:
        return self.first_byte >= 0x80

    @property
    def is_control(self) -> bool:
        return self.opcode >= 8

    @property
    def is_known(self) -> bool:
        return self.opcode in (0, 1, 2, 8, 9, 10)


class Frame(NamedTuple):
    """A frame as it stands in a stream, allowed or not.

    Attributes:
        width: bytes of the extended length: 0, 2 or 8, not always as few as possible.
        size: the announced length; ``payload`` is what is there of it, unmasked.
        mask: the masking key, or None.
    """

    first_byte: int
    width: int
    size: int
    mask: bytes | None
    payload: bytes

    @property
    def masked(self) -> bool:
        return self.mask is not None

    @property
    def complete(self) -> bool:
        return len(self.payload) == self.size

    @property
    def head(self) -> Head:
        return Head(self.first_byte, self.masked, self.width, self.size)


def shortest(size: int) -> int:
    """The fewest bytes of extended length that ``size`` can be said in."""
    return 0 if size < 126 else 2 if size < 1 << 16 else 8


def read_head(data: bytes, start: int = 0) -> Head | None:
    """Read as much of a head as there is; None of less than two bytes."""
    if len(data) - start < 2:
        return None
    masked, size = data[start + 1] >= 0x80, data[start + 1] & 0x7F
    width = {126: 2, 127: 8}.get(size, 0)
    if width:
        extended = data[start + 2 : start + 2 + width]
        return Head(data[start], masked, width, int.from_bytes(extended) if len(extended) == width else None)
    return Head(data[start], masked, width, size)


def split(stream: bytes) -> tuple[list[Frame], bytes]:
    """The frames of a stream, the last one perhaps cut in its payload; and what there is of a head behind."""
    frames: list[Frame] = []
    position = 0
    while (head := read_head(stream, position)) is not None and head.size is not None:
        start = position + 2 + head.width + (4 if head.masked else 0)
        if start > len(stream):
            break
        mask = stream[start - 4 : start] if head.masked else None
        payload = stream[start : start + head.size]
        frame = Frame(
            head.first_byte, head.width, head.size, mask, payload if mask is None else xor(payload, mask)
        )
        frames.append(frame)
        position = start + len(payload)
        if not frame.complete:
            break
    return frames, stream[position:]


def encode_head(head: Head) -> bytes:
    """The bytes that :func:`read_head` read."""
    assert head.size is not None
    short = {0: head.size, 2: 126, 8: 127}[head.width]
    extended = head.size.to_bytes(head.width) if head.width else b""
    return bytes([head.first_byte, short | (0x80 if head.masked else 0)]) + extended


def join(frames: list[Frame], rest: bytes = b"") -> bytes:
    """The stream that :func:`split` took apart."""
    parts = []
    for frame in frames:
        payload = frame.payload if frame.mask is None else frame.mask + xor(frame.payload, frame.mask)
        parts.append(encode_head(frame.head) + payload)
    return b"".join([*parts, rest])


# --- Putting together -------------------------------------------------------------------------------------

MASKS = st.sampled_from([b"\0\0\0\0", b"\x37\xfa\x21\x3d", b"\xff\x80\x7f\x01"])
CUTS = st.lists(st.integers(0, 999), max_size=8)
"""Where a stream is cut into chunks."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# Where each encoding of the length begins and ends, and what is just inside and outside of a control frame.
SIZES = st.sampled_from([0, 1, 124, 125, 126, 127, 300, 65535, 65536, 65537])
BROKEN_TEXTS = st.sampled_from(
    [
        b"\x80",
        b"\xff",
        b"\xc0\x80",
        b"\xe2\x98",
        b"\xed\xa0\x80",
        b"\xed\xa0",
        b"\xf4\x90\x80\x80",
        b"\xf0\x9f",
    ]
)
CLOSE_CODES = st.one_of(
    st.sampled_from([*range(998, 1017), 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 0, 65535]),
    st.integers(0, 65535),
)
CLOSES = st.one_of(
    st.just(b""),
    st.builds(lambda code, reason: code.to_bytes(2) + reason.encode()[:123], CLOSE_CODES, TEXTS),
    st.builds(lambda code, reason: code.to_bytes(2) + reason, CLOSE_CODES, BROKEN_TEXTS),
    st.binary(min_size=1, max_size=1),
    st.just(b"\x03\xe8" + b"x" * 123),
)
CONTROLS = st.tuples(
    st.sampled_from([PING, PONG]),
    st.one_of(st.binary(max_size=6), st.sampled_from([124, 125]).map(lambda size: b"p" * size)),
)
BINARIES = st.one_of(st.binary(max_size=12), SIZES.map(lambda size: b"\xa5" * size))


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """A message in one or more frames cut anywhere, pings and pongs between them."""
    is_text = draw(st.booleans())
    payload = draw(TEXTS).encode() if is_text else draw(BINARIES)
    if is_text and draw(st.integers(0, 9)) == 0:
        payload += draw(BROKEN_TEXTS) + draw(TEXTS).encode()
    ends = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    frames: list[tuple[int, bytes]] = []
    for start, stop in zip([0, *ends], [*ends, len(payload)], strict=True):
        frames.append((NEXT, payload[start:stop]))
        frames += draw(st.lists(CONTROLS, max_size=1))
    first = FIRST_TEXT if is_text else FIRST_BINARY
    frames[0] = (first, frames[0][1])
    last = max(at for at, (first_byte, _) in enumerate(frames) if first_byte in (first, NEXT))
    frames[last] = (frames[last][0] | 0x80, frames[last][1])
    return frames


def _frames(role: Role, plain: list[tuple[int, bytes]], masks: list[bytes]) -> list[Frame]:
    return [
        Frame(
            first_byte,
            shortest(len(payload)),
            len(payload),
            masks[at % len(masks)] if role is Role.SERVER else None,
            payload,
        )
        for at, (first_byte, payload) in enumerate(plain)
    ]


@st.composite
def conversations(draw: st.DrawFn, role: Role) -> list[Frame]:
    """Whole messages, pings and pongs, perhaps a close, perhaps something behind it: all that is allowed.

    But for texts that are not UTF-8 now and then, and close frames with any payload.
    """
    plain = [frame for message in draw(st.lists(messages(), max_size=3)) for frame in message]
    if draw(st.integers(0, 3)):
        at = len(plain) if draw(st.integers(0, 4)) else draw(st.integers(0, len(plain)))
        plain.insert(at, (CLOSE, draw(CLOSES)))
        plain += draw(st.lists(CONTROLS, max_size=1))
    return _frames(role, plain, draw(st.lists(MASKS, min_size=1, max_size=3)))


def _damages(frame: Frame, role: Role) -> dict[str, st.SearchStrategy[Frame]]:
    """Ways to break a frame, each a rule of section 5."""

    def changed(**fields: Any) -> Frame:
        return frame._replace(**fields)

    wrong_mask = None if role is Role.SERVER else b"\x37\xfa\x21\x3d"
    widths = [width for width in (2, 8) if width > frame.width]
    long_control = b"c" * 126
    return {
        "reserved bits": st.integers(1, 7).map(lambda bits: changed(first_byte=frame.first_byte | bits << 4)),
        "reserved opcode": st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]).map(
            lambda opcode: changed(first_byte=frame.first_byte & 0xF0 | opcode)
        ),
        "another opcode": st.sampled_from([0, 1, 2, 8, 9, 10]).map(
            lambda opcode: changed(first_byte=frame.first_byte & 0xF0 | opcode)
        ),
        "FIN": st.just(changed(first_byte=frame.first_byte ^ 0x80)),
        "a fragmented control frame": st.sampled_from([8, 9, 10]).map(
            lambda opcode: changed(first_byte=opcode, payload=b"", size=0, width=0)
        ),
        "a long control frame": st.sampled_from([CLOSE, PING, PONG]).map(
            lambda first_byte: changed(first_byte=first_byte, payload=long_control, size=126, width=2)
        ),
        "a length in too many bytes": st.sampled_from(widths or [8]).map(lambda width: changed(width=width)),
        "a wrong length": st.sampled_from([0, 1, 2, 125]).map(
            lambda size: changed(size=size, width=max(frame.width, shortest(size)))
        ),
        "a huge length": st.sampled_from([1 << 16, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]).map(
            lambda size: changed(size=size, width=8)
        ),
        "masking": st.just(changed(mask=wrong_mask)),
        "the payload": st.one_of(BROKEN_TEXTS, st.binary(max_size=4)).map(
            lambda payload: changed(payload=payload, size=len(payload), width=0)
        ),
    }


@st.composite
def damaged(draw: st.DrawFn, role: Role) -> bytes:
    """A conversation with one or two frames broken, left out or doubled, or with bytes changed or cut off."""
    frames = draw(conversations(role))
    for _ in range(draw(st.integers(1, 2))):
        if not frames:
            break
        at = draw(st.integers(0, len(frames) - 1))
        ways = _damages(frames[at], role)
        way = draw(st.sampled_from([*ways, "left out", "doubled"]))
        if way == "left out":
            del frames[at]
        elif way == "doubled":
            frames.insert(at, frames[at])
        else:
            frames[at] = draw(ways[way])
    stream = join(frames)
    if draw(st.integers(0, 3)) == 0:
        stream = stream[: draw(st.integers(0, len(stream)))]
    if stream and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, min(len(stream), 40) - 1))
        stream = stream[:at] + draw(st.binary(max_size=2)) + stream[at + 1 :]
    return stream


def cases(limits: st.SearchStrategy[int | None]) -> st.SearchStrategy[Case]:
    """Conversations, damaged ones, and bytes at random, read by either role, open or closing."""

    def of_role(role: Role) -> st.SearchStrategy[Case]:
        streams = st.one_of(
            conversations(role).map(join), damaged(role), damaged(role), st.binary(max_size=40)
        )
        return st.builds(Case, st.just(role), streams, st.integers(0, 4).map(lambda n: n == 0), limits)

    return st.sampled_from(Role).flatmap(of_role)

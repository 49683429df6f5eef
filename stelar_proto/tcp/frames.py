"""The binary frame format: bytes to frames and frames to bytes.

::

    +----------------+----------+-----------------+-------------+----------------+
    | length   u32be | type  u8 | event len u16be | event utf-8 | payload (rest) |
    +----------------+----------+-----------------+-------------+----------------+

``length`` counts the whole frame, its own four bytes included, so the smallest frame has 7 bytes. The event
field has at most 256 bytes.

Responsible for the structure of one frame and nothing else: no state, no buffer, no rules about the names
that users may give to events, no JSON.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from types import MappingProxyType

from stelar_proto.errors import FrameError, FrameTooLarge, MessageError

from .events import Event, FrameReceived

HEADER_SIZE = 7
"""Bytes before the event field: length, type, event length."""

MAX_EVENT_SIZE = 256
"""Bytes that an event field may have."""

MAX_HEAD_SIZE = HEADER_SIZE + MAX_EVENT_SIZE
"""Bytes of a frame that are enough to judge all of it; the payload is never judged."""

DEFAULT_MAX_FRAME_SIZE = 10 * 1024 * 1024
"""Bytes that a whole frame may have, unless configured otherwise."""

LARGEST_FRAME_SIZE = 0xFFFF_FFFF
"""Bytes that the length field can express."""


class FrameType(enum.IntEnum):
    """What a frame is. The values are the codes of the documented dialect."""

    JSON = 0
    BINARY = 1
    PING = 2
    PONG = 3
    ACK_REQUEST = 4
    ACK_RESPONSE = 5
    CONNECT = 6
    DISCONNECT = 7
    JOIN_ROOM = 8
    LEAVE_ROOM = 9
    ERROR = 10


class Dialect(enum.Enum):
    """Which number a frame type has on the wire.

    The documentation of stelar-time-real counts the types from 0, its npm package (3.2.0) from 1. The two
    cannot be told apart from the bytes, since code 1 is legal in both: the dialect is configuration, and
    both ends must have the same.

    Attributes:
        offset: what is added to a :class:`FrameType` to get its code.
        frame_types: the frame type of each of the 256 codes, ``None`` where there is none.
        quiet_types: the same without Ping, the one type that is answered by this layer.
    """

    DOCUMENTED = "documented"
    NPM = "npm"

    # Plain attributes, because `value` is a property and costs ten times as much per frame.
    offset: int
    frame_types: tuple[FrameType | None, ...]
    quiet_types: tuple[FrameType | None, ...]

    def __init__(self, value: str) -> None:
        self.offset = 1 if value == "npm" else 0
        types = dict(enumerate(FrameType, self.offset))
        self.frame_types = tuple(types.get(code) for code in range(256))
        del types[FrameType.PING + self.offset]
        self.quiet_types = tuple(types.get(code) for code in range(256))

    @classmethod
    def named(cls, name: str) -> Dialect:
        """Return the dialect of that name.

        Raises:
            ValueError: there is none; the message has the names.
        """
        try:
            return cls(name)
        except ValueError:
            names = " or ".join(repr(dialect.value) for dialect in cls)
            raise ValueError(f"a TCP dialect is {names}, not {name!r}") from None


EVENT_FIELDS: Mapping[FrameType, str] = MappingProxyType(
    {
        FrameType.PING: "",
        FrameType.PONG: "",
        FrameType.CONNECT: "connect",
        FrameType.DISCONNECT: "",
        FrameType.JOIN_ROOM: "join-room",
        FrameType.LEAVE_ROOM: "leave-room",
        FrameType.ERROR: "error",
    }
)
"""The event field of the types that have a fixed one. (An Error that answers a request has the ack name.)"""

_HEADER = struct.Struct(">IBH")
_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
_new_tuple = tuple.__new__  # skips the Python-level __new__ of a NamedTuple: 0.1 µs per frame


def parse_frames(
    data: bytes,
    position: int,
    frame_types: tuple[FrameType | None, ...],
    max_frame_size: int,
    events: list[Event],
) -> int:
    """Append each whole, well-formed frame of ``data`` to ``events``; return where that ended.

    The hot loop. It stops in front of the first frame that is incomplete, wrong or of no type that it was
    given, and leaves it to :func:`judge_frame` to say which, so that there is one place where errors are made
    and this function, which never raises, can have a compiled twin.

    Arguments:
        data: what was received.
        position: where in ``data`` a frame begins.
        frame_types: the type of each code, ``None`` for one to stop at, see :class:`Dialect`.
        max_frame_size: bytes a whole frame may have.
        events: where the frames go.
    """
    end = len(data)
    event_start = position + HEADER_SIZE
    try:
        while event_start <= end:
            size, code, event_size = _unpack_header(data, position)
            payload_start = event_start + event_size
            stop = position + size
            # A length below HEADER_SIZE is caught by the second comparison.
            if stop > end or payload_start > stop or event_size > MAX_EVENT_SIZE or size > max_frame_size:
                break
            frame_type = frame_types[code]
            if frame_type is None:
                break
            event = data[event_start:payload_start].decode()
            events.append(_new_tuple(FrameReceived, (frame_type, event, data[payload_start:stop])))
            position = stop
            event_start = stop + HEADER_SIZE
    except UnicodeDecodeError:
        pass  # this frame, too, is judge_frame's
    return position


def judge_frame(
    head: bytes, dialect: Dialect, max_frame_size: int, max_payload_size: int = LARGEST_FRAME_SIZE
) -> int:
    """Say how many bytes of a frame are needed before there is more to say about it.

    Every rule is applied as soon as the bytes it speaks of are there: the length after 4 bytes, the type
    after 5, the event's length after 7, the event after its last byte. What is decided depends on the bytes
    alone and not on the chunks they came in, and a frame that is refused is refused before it is stored.

    Arguments:
        head: the beginning of a frame, as much as there is; more than :data:`MAX_HEAD_SIZE` bytes are never
            looked at.
        dialect: which codes the types have.
        max_frame_size: bytes a whole frame may have.
        max_payload_size: bytes behind the event field.

    Returns:
        A number of bytes, counted from the frame's first: that of the next rule, or, when all hold, that of
        the whole frame.

    Raises:
        FrameError: the frame breaks the format. Where it does so twice, the first of this order is told:
            ``INVALID_FRAME_SIZE``, ``FRAME_TOO_LARGE``, ``UNKNOWN_FRAME_TYPE``, ``INVALID_EVENT_LENGTH``,
            ``EVENT_TOO_LONG``, ``FRAME_TOO_LARGE`` of the payload, ``INVALID_EVENT``.
    """
    if len(head) < 4:
        return 4
    size = int.from_bytes(head[:4], "big")
    if size < HEADER_SIZE:
        raise FrameError("INVALID_FRAME_SIZE", f"a frame has at least {HEADER_SIZE} bytes, not {size}")
    if size > max_frame_size:
        raise FrameTooLarge(size=size, limit=max_frame_size)
    if len(head) < 5:
        return 5
    if dialect.frame_types[head[4]] is None:
        first, last = dialect.offset, dialect.offset + len(FrameType) - 1
        raise FrameError(
            "UNKNOWN_FRAME_TYPE",
            f"frame type {head[4]} is unknown: the {dialect.value} dialect has {first} to {last}"
            " (both ends must be configured for the same dialect)",
        )
    if len(head) < HEADER_SIZE:
        return HEADER_SIZE
    event_size = int.from_bytes(head[5:HEADER_SIZE], "big")
    payload_start = HEADER_SIZE + event_size
    if payload_start > size:
        raise FrameError(
            "INVALID_EVENT_LENGTH", f"an event of {event_size} bytes does not fit a frame of {size} bytes"
        )
    if event_size > MAX_EVENT_SIZE:
        raise FrameError(
            "EVENT_TOO_LONG", f"an event of {event_size} bytes; the limit is {MAX_EVENT_SIZE} bytes"
        )
    if size - payload_start > max_payload_size:
        raise FrameTooLarge(size=size - payload_start, limit=max_payload_size, what="payload")
    if len(head) < payload_start:
        return payload_start
    try:
        head[HEADER_SIZE:payload_start].decode()
    except UnicodeDecodeError as error:
        raise FrameError(
            "INVALID_EVENT", f"an event that is not UTF-8: {error.reason} at byte {error.start} of its name"
        ) from None
    return size


def encode_frame(
    frame_type: FrameType,
    event: str | None = None,
    payload: bytes = b"",
    *,
    dialect: Dialect = Dialect.DOCUMENTED,
    max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
) -> bytes:
    """Return one frame as bytes.

    Only its structure is checked; which names users may give to their events is not asked here.

    Arguments:
        frame_type: what kind of frame.
        event: its event field; ``None`` for what :data:`EVENT_FIELDS` prescribes.
        payload: everything behind the event field.
        dialect: which code the type has on the wire.
        max_frame_size: bytes the whole frame may have, at most :data:`LARGEST_FRAME_SIZE`.

    Raises:
        MessageError: ``EVENT_TOO_LONG``, ``FRAME_TOO_LARGE``, or ``INVALID_EVENT_CHARS`` for an event that
            UTF-8 cannot express (a lone surrogate).
        TypeError: the type has no fixed event field and ``event`` is missing.
    """
    if event is None:
        event = EVENT_FIELDS.get(frame_type)
        if event is None:
            raise TypeError(f"a frame of type {frame_type.name} needs an event")
    try:
        encoded_event = event.encode()
    except UnicodeEncodeError:
        raise MessageError(
            "INVALID_EVENT_CHARS", f"event {event!r} cannot be encoded: UTF-8 has no lone surrogates"
        ) from None
    event_size = len(encoded_event)
    size = HEADER_SIZE + event_size + len(payload)
    if event_size > MAX_EVENT_SIZE:
        raise MessageError(
            "EVENT_TOO_LONG", f"an event of {event_size} bytes; the limit is {MAX_EVENT_SIZE} bytes"
        )
    if size > max_frame_size:
        raise MessageError(
            "FRAME_TOO_LARGE",
            f"a frame of {size} bytes ({len(payload)} of them payload); the limit is {max_frame_size} bytes",
        )
    return _pack_header(size, frame_type + dialect.offset, event_size) + encoded_event + payload

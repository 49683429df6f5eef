"""What a TCP connection reports: the vocabulary of :meth:`stelar_proto.tcp.Connection.receive_data`.

Events are facts, immutable and in the past tense. What a frame means to an application is not said here:
that is the message layer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from stelar_proto.errors import PeerError

    from .frames import FrameType


class FrameReceived(NamedTuple):
    """A whole frame came in.

    Attributes:
        type: what kind of frame.
        event: its event field: an event name, an ack name, a fixed word, or empty (see
            :data:`~stelar_proto.tcp.frames.EVENT_FIELDS`). UTF-8 and at most 256 bytes; nothing more is
            known about it.
        payload: everything behind the event field, uninterpreted.
    """

    type: FrameType
    event: str
    payload: bytes


class Closed(NamedTuple):
    """The connection is over: the last event, exactly once.

    Attributes:
        error: ``None`` if the peer's stream ended between two frames; a
            :class:`~stelar_proto.errors.FrameError` if the peer broke the format (its ``code`` stands in the
            Error frame that is ready to be sent); a :class:`~stelar_proto.errors.StreamEnded` with the code
            ``TRUNCATED_FRAME`` if the stream ended inside a frame.
    """

    error: PeerError | None


Event: TypeAlias = FrameReceived | Closed

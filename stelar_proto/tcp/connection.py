"""One TCP connection of either role, without the socket: bytes in, events out; commands in, bytes out.

Responsible for cutting the stream into frames, answering Ping, refusing what breaks the format, and knowing
when the conversation is over. Not for who may send what: the format has no error for a Connect that a client
sends or a Join Room that a server sends, so every well-formed frame is reported and the session above judges
it. That leaves nothing for this layer to do differently on a server and on a client: it has no role.

Theory of operation::

    state     send_frame()   close() disconnect() fail()   frame comes in        peer's end or fault
    -------   ------------   ---------------------------   -------------------   ---------------------
    OPEN      sent           -> CLOSING                    reported, Ping        Closed (fault: Error
                                                           answered              sent first) -> CLOSED
    CLOSING   StateError     nothing                       reported              Closed -> CLOSED
    CLOSED    StateError *)  nothing                       ignored               ignored

*) What came before the peer's fault can still be answered, until :meth:`Connection.data_to_send` is called.

Closing is one-sided, since the protocol has no closing handshake: whoever ends sends its last frame, if any,
and ends its stream. Frames that the peer had already sent still come in meanwhile and are still reported.
"""

from __future__ import annotations

import enum

from stelar_proto.buffer import ReceiveBuffer
from stelar_proto.errors import FrameError, StateError, StreamEnded

from .events import Closed, Event
from .frames import (
    DEFAULT_MAX_FRAME_SIZE,
    HEADER_SIZE,
    LARGEST_FRAME_SIZE,
    MAX_HEAD_SIZE,
    Dialect,
    FrameType,
    encode_frame,
    judge_frame,
    parse_frames,
)


class State(enum.Enum):
    """Where a connection stands."""

    OPEN = "open"
    CLOSING = "closing"  # our last frame is out; the peer's stream has not ended
    CLOSED = "closed"  # Closed has been reported


# Looked up once: in CPython 3.11 the attribute of an enum costs as much as the head of a frame.
_OPEN, _CLOSED = State.OPEN, State.CLOSED
_PING = FrameType.PING


class Connection:
    """The codec of one connection.

    Feed what the socket gives to :meth:`receive_data` and handle the events it returns; after that and after
    every command, write what :meth:`data_to_send` returns to the socket, and end this side of the stream when
    :attr:`wants_eof` says so.

    Arguments:
        dialect: which codes the frame types have; the same on both ends.
        max_frame_size: bytes a whole frame may have, in both directions.
        max_payload_size: bytes a received frame may have behind its event field; None for no limit of its
            own.

    Raises:
        ValueError: a limit that no frame can keep, or that the length field cannot express.
    """

    __slots__ = (
        "_buffer",
        "_dialect",
        "_last_words",
        "_max_frame_size",
        "_max_payload_size",
        "_max_plain_size",
        "_needed",
        "_outgoing",
        "_state",
    )

    def __init__(
        self,
        *,
        dialect: Dialect = Dialect.DOCUMENTED,
        max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
        max_payload_size: int | None = None,
    ) -> None:
        if not HEADER_SIZE <= max_frame_size <= LARGEST_FRAME_SIZE:
            raise ValueError(
                f"max_frame_size is {max_frame_size}; {HEADER_SIZE} to {LARGEST_FRAME_SIZE} bytes can be"
            )
        self._dialect = dialect
        self._max_frame_size = max_frame_size
        self._max_payload_size = LARGEST_FRAME_SIZE if max_payload_size is None else max_payload_size
        # No frame of this size is over either limit, whatever its event; the others are looked at one by one.
        self._max_plain_size = min(max_frame_size, HEADER_SIZE + self._max_payload_size)
        self._state = _OPEN
        self._buffer = ReceiveBuffer()  # the beginning of a frame, or nothing
        self._needed = 0  # bytes the buffer must have before a look at it can pay; 0 when it is empty
        self._outgoing: list[bytes] = []
        self._last_words: bytes | None = None  # an Error frame that leaves behind answers to earlier frames

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def can_send(self) -> bool:
        """Whether frames can be sent: the connection is open, or ``Closed`` can still be preceded."""
        return self._state is _OPEN or self._last_words is not None

    @property
    def wants_eof(self) -> bool:
        """Whether to end our side of the stream now: nothing more will be sent, and all of it was taken."""
        return not self.can_send and not self._outgoing

    @property
    def dialect(self) -> Dialect:
        """Which codes the frame types have."""
        return self._dialect

    def receive_data(self, data: bytes) -> list[Event]:
        """Take in what the socket gave and return what it meant, in order.

        Whatever the peer sends, this does not raise: a peer's fault ends the connection with
        :class:`~stelar_proto.tcp.events.Closed`, the Error frame that tells the peer is then ready in
        :meth:`data_to_send`, and all further input is ignored. The frames before it can still be answered:
        what is sent before :meth:`data_to_send` is called leaves in front of the Error frame. Each byte is
        copied a bounded number of times, however the stream was cut into chunks; nothing is stored for a
        length that was only announced.

        Arguments:
            data: bytes from the stream; ``b""`` is its end.
        """
        if self._state is _CLOSED:
            return []
        if not data:
            return [self._end()]
        if self._needed:
            self._buffer.feed(data)
            if len(self._buffer) < self._needed:
                return []
            data = self._buffer.take_all()
            self._needed = 0
        events: list[Event] = []
        position = parse_frames(data, 0, self._dialect.quiet_types, self._max_plain_size, events)
        while position < len(data):
            position = self._receive_other(data, position, events)
        return events

    def _receive_other(self, data: bytes, position: int, events: list[Event]) -> int:
        """Take what stopped the loop, and what follows it; return where that ends."""
        dialect, limit = self._dialect, self._max_frame_size
        head = data[position : position + MAX_HEAD_SIZE]
        try:
            size = judge_frame(head, dialect, limit, self._max_payload_size)
        except FrameError as error:
            events.append(self._refuse(error))
            return len(data)
        stop = position + size
        if stop > len(data):
            self._needed = size
            self._buffer.feed(data[position:])
            return len(data)
        # It is whole and right: a Ping, or only as large as its event makes it.
        parse_frames(data[position:stop], 0, dialect.frame_types, limit, events)
        if dialect.frame_types[head[4]] is _PING and self._state is _OPEN:
            self._send_reply(FrameType.PONG)
        return parse_frames(data, stop, dialect.quiet_types, self._max_plain_size, events)

    def data_to_send(self) -> bytes:
        """Return the bytes that are to be written to the socket now, and forget them."""
        outgoing = self._outgoing
        if self._last_words is not None:
            outgoing.append(self._last_words)
            self._last_words = None
        if not outgoing:
            return b""
        if len(outgoing) == 1:
            return outgoing.pop()
        data = b"".join(outgoing)
        outgoing.clear()
        return data

    def send_frame(self, frame_type: FrameType, event: str | None = None, payload: bytes = b"") -> None:
        """Send one frame.

        Arguments:
            frame_type: what kind of frame.
            event: its event field; ``None`` for the one the type prescribes (``join-room``, ``connect`` …).
            payload: everything behind it.

        Raises:
            StateError: this side has closed, or the peer has.
            MessageError: the frame is against the format or the limit, see
                :func:`~stelar_proto.tcp.frames.encode_frame`. Nothing is sent.
            TypeError: ``event`` is missing and the type prescribes none.
        """
        if self._state is not _OPEN and not self.can_send:
            raise StateError(f"nothing can be sent any more: the connection is {self._state.value}")
        self._outgoing.append(
            encode_frame(
                frame_type, event, payload, dialect=self._dialect, max_frame_size=self._max_frame_size
            )
        )

    def close(self) -> None:
        """End this side without a word: a client's way. Does nothing if it has ended already."""
        if self._state is _OPEN:
            self._state = State.CLOSING

    def disconnect(self) -> None:
        """Send Disconnect, a server's last frame on a graceful shutdown, and close.

        Does nothing if this side has ended already.
        """
        if self._state is _OPEN:
            self._send_reply(FrameType.DISCONNECT)
            self._state = State.CLOSING

    def fail(self, message: str) -> None:
        """Send an Error frame that tells the peer why, and close.

        Does nothing if this side has ended already.

        Arguments:
            message: for example ``Rate limit exceeded``.

        Raises:
            MessageError: ``FRAME_TOO_LARGE``.
        """
        if self._state is _OPEN:
            self.send_frame(FrameType.ERROR, payload=message.encode())
            self._state = State.CLOSING

    def _send_reply(self, frame_type: FrameType, payload: bytes = b"") -> None:
        """Send a frame that the protocol prescribes: it leaves even where the limit is smaller than it."""
        self._outgoing.append(encode_frame(frame_type, None, payload, dialect=self._dialect))

    def _refuse(self, error: FrameError) -> Closed:
        """The peer broke the format: tell it the code, unless our last frame is already out, and end."""
        if self._state is _OPEN:
            self._last_words = encode_frame(FrameType.ERROR, None, error.code.encode(), dialect=self._dialect)
        self._state = _CLOSED
        return Closed(error)

    def _end(self) -> Closed:
        """The peer's stream ended."""
        self._state = _CLOSED
        if not self._needed:
            return Closed(None)
        held = len(self._buffer.take_all())
        return Closed(StreamEnded(f"the stream ended {held} bytes into a frame", code="TRUNCATED_FRAME"))

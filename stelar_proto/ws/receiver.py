"""The receiving half of an open connection: chunks of any size in, messages and control frames out.

Responsible for carrying a frame over from one chunk to the next without storing what can be handed on. Not
responsible for what a frame may look like (:mod:`.frames`), for what a message is (:mod:`.messages`), nor
for what a control frame is answered with: those go to a callback of :class:`~.connection.Connection`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeAlias

from stelar_proto.errors import InvalidUtf8, StreamEnded

from .compression import Inflater
from .events import BinaryReceived, Event, TextReceived
from .frames import (
    FIN,
    LEGAL_COMPRESSED_FIRST_BYTES,
    LEGAL_FIRST_BYTES,
    RSV1,
    Header,
    Opcode,
    apply_mask,
    parse_frames,
    read_header,
)
from .messages import NOT_UTF8, MessageReader

# Takes opcode, payload and the events so far; returns whether this was the last frame of the connection.
ControlHandler: TypeAlias = Callable[[int, bytes, list[Event]], bool]

MAX_FRAME_SIZE = 10 * 1024 * 1024
MAX_MESSAGE_SIZE = 10 * 1024 * 1024
MAX_FRAGMENTS = 131_072

_NO_LIMIT = 1 << 127  # beyond what the frames of a message can add up to
_TEXT_FRAME = FIN | Opcode.TEXT  # a frame that is a whole message
_BINARY_FRAME = FIN | Opcode.BINARY
_CONTROL = 0x08  # the opcode bit that all control frames have
_new_tuple = tuple.__new__  # skips the Python-level __new__ of a NamedTuple: 0.1 µs per message


class Receiver:
    """Reads the frames of one connection.

    At most one frame is incomplete: either its header, or the whole of it if it is a control frame, stands
    in ``_tail`` (at most 130 bytes), or it is ``_frame``, and its payload was handed on as far as it came.

    Arguments:
        masked: whether the peer is a client, which must mask.
        max_frame_size: the longest payload of a data frame, bytes; None for no limit.
        max_message_size: the longest message, bytes; None for no limit.
        max_fragments: the most frames of a message.
        deliver_parts: report messages piece by piece.

    Raises:
        ValueError: a limit that no message could keep.
    """

    __slots__ = (
        "_frame",
        "_frame_received",
        "_legal",
        "_masked",
        "_max_frame_size",
        "_max_short_size",
        "_tail",
        "messages",
    )

    def __init__(
        self,
        *,
        masked: bool,
        max_frame_size: int | None,
        max_message_size: int | None,
        max_fragments: int,
        deliver_parts: bool,
    ) -> None:
        self._masked = masked
        self._legal = LEGAL_FIRST_BYTES
        self._max_frame_size = _checked("max_frame_size", max_frame_size)
        max_message_size = _checked("max_message_size", max_message_size)
        # What is over either limit is left to those who can say why.
        self._max_short_size = min(self._max_frame_size, max_message_size)
        self.messages = MessageReader(
            max_message_size=max_message_size,
            max_fragments=_checked("max_fragments", max_fragments),
            deliver_parts=deliver_parts,
        )
        self._tail = b""
        self._frame: Header | None = None
        self._frame_received = 0

    def receive(self, data: bytes, events: list[Event], receive_control: ControlHandler) -> None:
        """Take a chunk and append what it meant to ``events``.

        Raises:
            WebSocketError: what the peer sent breaks the protocol or a limit. What came before stands in
                ``events``.
        """
        position = 0
        if self._frame is not None:
            position = self._receive_payload(self._frame, data, 0, events)
        elif self._tail:
            data = self._tail + data
            self._tail = b""
        reader, whole_messages = self.messages, not self.messages.deliver_parts
        frames: list[tuple[int, bytes]] = []
        while position < len(data):
            position = parse_frames(data, position, self._masked, self._max_short_size, frames, self._legal)
            for first_byte, payload in frames:
                # The first two are what the reader would do, for the frames that most messages are.
                if first_byte == _BINARY_FRAME and whole_messages and not reader.active:
                    events.append(_new_tuple(BinaryReceived, (payload,)))
                elif first_byte == _TEXT_FRAME and whole_messages and not reader.active:
                    try:
                        events.append(_new_tuple(TextReceived, (payload.decode(),)))
                    except UnicodeDecodeError:
                        raise InvalidUtf8(NOT_UTF8) from None
                elif first_byte & _CONTROL:
                    if receive_control(first_byte & 0x0F, payload, events):
                        return
                else:
                    compressed = first_byte & RSV1 > 0
                    reader.begin(first_byte & 0x0F, first_byte >= FIN, len(payload), compressed)
                    self._feed(payload, True, events)
            if position == len(data):
                return
            frames.clear()
            # What stopped the loop is long, incomplete or wrong.
            header = read_header(data, position, self._masked, self._max_frame_size, self._legal)
            if header is None or header.opcode >= Opcode.CLOSE:
                self._tail = data[position:]
                return
            reader.begin(header.opcode, header.fin, header.size, header.compressed)
            self._frame, self._frame_received = header, 0
            position = self._receive_payload(header, data, position + header.header_size, events)

    def inflate_with(self, inflater: Inflater) -> None:
        """From now on messages may be compressed: their first frame says so."""
        self._legal = LEGAL_COMPRESSED_FIRST_BYTES
        self.messages.inflater = inflater

    def end(self) -> NoReturn:
        """The stream ended.

        Raises:
            StreamEnded: always; a close frame would have ended the connection before.
        """
        raise StreamEnded("the stream ended without a close frame")

    def _receive_payload(self, header: Header, data: bytes, position: int, events: list[Event]) -> int:
        """Hand on what ``data`` holds of a data frame; return where that ends."""
        stop = min(len(data), position + header.size - self._frame_received)
        if header.mask is None:
            piece = data[position:stop]
        else:
            piece = apply_mask(memoryview(data)[position:stop], header.mask, self._frame_received)
        self._frame_received += len(piece)
        end_of_frame = self._frame_received == header.size
        if end_of_frame:
            self._frame = None
        self._feed(piece, end_of_frame, events)
        return stop

    def _feed(self, piece: bytes, end_of_frame: bool, events: list[Event]) -> None:
        event = self.messages.feed(piece, end_of_frame)
        if event is not None:
            events.append(event)


def _checked(name: str, limit: int | None) -> int:
    if limit is None:
        return _NO_LIMIT
    if limit < 1:
        raise ValueError(f"{name} is at least 1, not {limit}")
    return limit

"""A session over the binary TCP format: the codec of ``tcp``, the payloads of ``wire``, and the ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from stelar_proto.channel import Closed, State
from stelar_proto.errors import FrameError, MessageError, PeerError, PeerFailure, StreamEnded
from stelar_proto.messages import JSON, Alive, Binary, Failure, Goodbye, Hello, Invalid, Message
from stelar_proto.tcp import Connection, Dialect, FrameReceived, FrameType
from stelar_proto.tcp import Event as TcpEvent
from stelar_proto.tcp.frames import MAX_EVENT_SIZE
from stelar_proto.wire import TcpFormat
from stelar_proto.ws import CloseCode, Role
from stelar_proto.ws.close import is_sendable

from .config import SessionConfig
from .events import Event
from .session import Session

_CONNECTING, _OPEN, _CLOSED = State.CONNECTING, State.OPEN, State.CLOSED

# Whatever number it has, a frame of this name is of this type.
_NAMED = {"connect": FrameType.CONNECT, "error": FrameType.ERROR}

_ORDERLY = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)

# What the words of an Error frame amount to in the terms of WebSocket; all others are somebody's policy.
_CLOSE_CODES = {
    "INVALID_FRAME_SIZE": CloseCode.PROTOCOL_ERROR,
    "FRAME_TOO_LARGE": CloseCode.MESSAGE_TOO_BIG,
    "UNKNOWN_FRAME_TYPE": CloseCode.PROTOCOL_ERROR,
    "INVALID_EVENT_LENGTH": CloseCode.PROTOCOL_ERROR,
    "EVENT_TOO_LONG": CloseCode.PROTOCOL_ERROR,
    "INVALID_EVENT": CloseCode.INVALID_PAYLOAD,
}


class TcpSession(Session):
    """One TCP peer.

    Arguments:
        role: which end this is.
        config: what it shares with its like.
        payloads: the format of its messages and their dialect; a server passes the same to all sessions.
        now: the time.
    """

    __slots__ = ("_goodbye", "_max_words", "_payloads")

    codec: Connection

    def __init__(self, role: Role, config: SessionConfig, *, payloads: TcpFormat, now: float) -> None:
        # What the protocol itself says, ids and rooms, has to fit whatever the limit is.
        limit = max(payloads.max_payload_size, MAX_EVENT_SIZE)
        codec = Connection(
            dialect=payloads.dialect, max_frame_size=payloads.max_frame_size, max_payload_size=limit
        )
        super().__init__(role, config, codec, payloads, now)
        self._payloads = payloads
        self._max_words = min(limit, payloads.max_frame_size - len(b"\0\0\0\0\0\0\0error"))
        self._goodbye: Closed | None = None  # what we ended with, in the terms of WebSocket

    def accept(self, client_id: str) -> None:
        self._demand_connecting()
        hello = self._encode(Hello(client_id))
        self.client_id = client_id
        self._enter(State.OPEN)
        self._keep(hello)

    def refuse(self, status: int, message: str) -> None:
        self._demand_connecting()
        self._enter(State.CLOSED)
        self._fail(message)

    @property
    def wants_eof(self) -> bool:
        # This wire has no close handshake: whoever has said its last word ends its stream.
        return self.state in (State.CLOSING, State.CLOSED) and not self.can_send and not self.outbox

    def connection_lost(self, now: float) -> list[Event]:
        if self.state is State.OPEN:
            # A stream that was ended is a client's goodbye; one that broke is nobody's.
            self._end(Closed(CloseCode.ABNORMAL_CLOSURE, "", StreamEnded("the connection was lost")))
        return super().connection_lost(now)

    def _receive(self, data: bytes, events: list[Event]) -> None:
        decode = self._payloads.decode
        for event in self.codec.receive_data(data):
            if self.state is not _OPEN:
                if self.state is _CLOSED:
                    break  # by a Disconnect or an Error: whatever follows means nothing
                if self.state is _CONNECTING and self._is_of_other_dialect(event):
                    self._end_over_dialect()
                    break
            if type(event) is FrameReceived:
                message = decode(*event)
                kind = type(message)
                if kind is Goodbye:
                    self._end(Closed(CloseCode.GOING_AWAY, "Server shutting down", None))
                elif kind is Failure:
                    self._receive_failure(message.message)  # type: ignore[union-attr]  # kind is its type
                elif self.state is not _CONNECTING or self.role is Role.SERVER or kind in (Hello, Alive):
                    self._deliver(message, events)
                else:
                    events.append(Invalid(f"a {event.type.name} frame came in front of the Connect frame"))
            else:
                self._receive_end(event.error)  # type: ignore[union-attr]  # Closed is the only other event
        if self.state is _CONNECTING and self.role is Role.SERVER:
            self.codec.data_to_send()  # pongs are for those who were taken in: the Connect frame comes first

    def _is_of_other_dialect(self, event: TcpEvent) -> bool:
        """Tell whether a server's first words are those of another type: Connect and Error have a name."""
        if type(event) is not FrameReceived or self.role is not Role.CLIENT:
            return False
        wanted = _NAMED.get(event.event)
        return wanted is not None and event.type is not wanted

    def _end_over_dialect(self) -> None:
        other = next(dialect for dialect in Dialect if dialect is not self.codec.dialect)
        words = (
            f"the server numbers its frames in the other way: tcp_dialect={other.value!r} is what it speaks"
        )
        self._end(Closed(CloseCode.PROTOCOL_ERROR, "", PeerError(words, code="OTHER_DIALECT")))

    def _receive_failure(self, words: str) -> None:
        """The peer ends the conversation and says why: as a close frame does, unless it never began."""
        code, reason = _read_close(words)
        self._end(Closed(code, reason, PeerFailure(reason) if self.state is _CONNECTING else None))

    def _receive_end(self, error: PeerError | None) -> None:
        if isinstance(error, FrameError):
            self._end(Closed(_CLOSE_CODES.get(error.code, 1002), error.code, error))
        elif error is not None:
            self._end(Closed(CloseCode.ABNORMAL_CLOSURE, "", error))
        elif self._goodbye is not None:
            self._end(self._goodbye)
        elif self.role is Role.CLIENT:
            error = StreamEnded("the server ended the stream without a Disconnect")
            self._end(Closed(CloseCode.ABNORMAL_CLOSURE, "", error))
        else:  # a client leaves by ending its stream
            self._end(Closed(CloseCode.NORMAL_CLOSURE, "", None))

    def _encode(self, message: Message) -> bytes:
        return self._payloads.encode_frame(message)

    def encode_head(self, event: str, size: int) -> tuple[bytes, Callable[[bytes], bytes]]:
        frame = self._payloads.encode_frame(Binary(event, b""))
        self._demand_small_payload(size)
        whole, limit = len(frame) + size, self._payloads.max_frame_size
        if whole > limit:
            words = f"a frame of {whole} bytes ({size} of them payload); the limit is {limit} bytes"
            raise MessageError("FRAME_TOO_LARGE", words)
        return whole.to_bytes(4) + frame[4:], bytes  # the length is all that differs

    def _ping(self) -> None:
        self.codec.send_frame(FrameType.PING)
        self._flush_codec()

    def _say_goodbye(self, code: int, reason: str) -> None:
        self._goodbye = Closed(code, reason, None)
        if code not in _ORDERLY:
            words = _close_words(code, reason)
            # Deployed npm peers show the words to people; and a part of an object says nothing.
            is_plain = (
                self._payloads.dialect is Dialect.NPM
                or len(words.encode("utf-8", "replace")) > self._max_words
            )
            self._fail(reason if is_plain else words)
        elif self.role is Role.SERVER:
            self.codec.disconnect()
        else:
            self.codec.close()
        self._flush_codec()

    def _give_up(self, code: int, reason: str) -> None:
        self._abort()

    def _fail(self, words: str) -> None:
        """Send ``words``, as much of them as fits into an Error frame, and nothing behind them."""
        data = words.encode("utf-8", "replace")[: self._max_words]
        self.codec.fail(data.decode("utf-8", "ignore"))
        self._flush_codec()


def _close_words(code: int, reason: str) -> str:
    """Return what says ``code`` and ``reason`` in an Error frame: the reason, where that means the code."""
    if _read_close(reason) == (code, reason):
        return reason
    return JSON.dumps({"code": code, "message": reason})


def _read_close(words: str) -> tuple[int, str]:
    """Return the code and the reason that the words of an Error frame stand for."""
    if words.startswith("{"):
        with suppress(ValueError, RecursionError):
            match JSON.loads(words):
                case {"code": int(code), "message": str(reason)} if is_sendable(code):
                    return code, reason
    return int(_CLOSE_CODES.get(words, CloseCode.POLICY_VIOLATION)), words

"""A session over the binary TCP format: the codec of ``tcp``, the payloads of ``wire``, and the ends."""

from __future__ import annotations

from ..errors import FrameError, PeerError, PeerFailure, StreamEnded
from ..messages import Failure, Goodbye, Hello, Message
from ..tcp import Closed as StreamClosed
from ..tcp import Connection, FrameReceived, FrameType
from ..wire import TcpFormat
from ..ws import CloseCode, Role
from .session import Closed, Event, Session, SessionConfig, State

_ORDERLY = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)


class TcpSession(Session):
    """One TCP peer.

    Arguments:
        role: which end this is.
        config: what it shares with its like.
        payloads: the format of its messages and their dialect; a server passes the same to all of its sessions.
        now: the time.
    """

    __slots__ = ("_goodbye", "_payloads", "codec")

    def __init__(self, role: Role, config: SessionConfig, *, payloads: TcpFormat, now: float) -> None:
        super().__init__(role, config, payloads, now)
        self._payloads = payloads
        self.codec = Connection(dialect=payloads.dialect, max_frame_size=payloads.max_frame_size)
        self._goodbye: tuple[int, str] | None = None  # what we ended with, in the terms of WebSocket

    def accept(self, client_id: str) -> None:
        self.client_id = client_id
        self._open()
        self._push(self._encode(Hello(client_id)))

    def refuse(self, status: int, message: str) -> None:
        self.codec.fail(message)
        self._flush_codec()
        self._enter(State.CLOSED)

    @property
    def wants_eof(self) -> bool:
        # This wire has no close handshake: whoever has said its last word ends its stream.
        return self.state in (State.CLOSING, State.CLOSED) and not self.outbox

    def _receive(self, data: bytes, events: list[Event]) -> None:
        decode = self._payloads.decode
        for event in self.codec.receive_data(data):
            if self.state is State.CLOSED:
                break  # by a Disconnect or an Error: whatever follows means nothing
            if type(event) is FrameReceived:
                message = decode(event.type, event.event, event.payload)
                kind = type(message)
                if kind is Goodbye:
                    self._end(Closed(CloseCode.GOING_AWAY, "Server shutting down", None))
                elif kind is Failure:
                    self._end(_failure(message.message))  # type: ignore[union-attr]  # kind is its type
                else:
                    self._deliver(message, events)
            else:
                self._receive_end(event.error)  # type: ignore[union-attr]  # Closed is the only other event
        self._flush_codec()
        self._report_end(events)

    def _receive_end(self, error: PeerError | None) -> None:
        if isinstance(error, FrameError):
            too_big = error.code == "FRAME_TOO_LARGE"
            code = CloseCode.MESSAGE_TOO_BIG if too_big else CloseCode.PROTOCOL_ERROR
            self._end(Closed(code, error.code, error))
        elif error is not None:
            self._end(Closed(CloseCode.ABNORMAL_CLOSURE, "", error))
        elif self._goodbye is not None:
            self._end(Closed(*self._goodbye, None))
        elif self.role is Role.SERVER and self.state is State.OPEN:
            # A client leaves by ending its stream.
            self._end(Closed(CloseCode.NORMAL_CLOSURE, "", None))
        else:
            error = StreamEnded("the server ended the stream without a Disconnect")
            self._end(Closed(CloseCode.ABNORMAL_CLOSURE, "", error))

    def _encode(self, message: Message) -> bytes:
        return self._payloads.encode_frame(message)

    def _ping(self) -> None:
        self.codec.send_frame(FrameType.PING)
        self._flush_codec()

    def _say_goodbye(self, code: int, reason: str) -> None:
        self._goodbye = (code, reason)
        if code not in _ORDERLY:
            self.codec.fail(reason)
        elif self.role is Role.SERVER:
            self.codec.disconnect()
        else:
            self.codec.close()
        self._flush_codec()

    def _flush_codec(self) -> None:
        data = self.codec.data_to_send()
        if data and not self._aborted:
            self._push(data)


def _failure(message: str) -> Closed:
    """What an Error frame amounts to: the peer ends the conversation and says why."""
    code = CloseCode.MESSAGE_TOO_BIG if message == "FRAME_TOO_LARGE" else CloseCode.POLICY_VIOLATION
    return Closed(code, message, PeerFailure(message))

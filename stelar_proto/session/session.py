"""One peer, on either wire, in either role: what WebSocket and TCP sessions have in common.

Bytes and the time go in, messages come out; messages go in, bytes come out. A session knows nothing of other
peers, of handlers or of sockets. All waiting is expressed as one deadline, :meth:`Session.next_deadline`.

``Closed`` is the last event and comes once; only :meth:`Session.refuse` ends without it. A closed session
still wants to be carried to its end: what is in the outbox leaves, then :attr:`wants_eof` asks for the stream
to be ended, and :attr:`is_finished` says that the socket can go. Between the two the peer has a bounded time
to end its side: a socket that is closed while unread input waits resets the connection, and our last words
with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from stelar_proto import tcp, ws
from stelar_proto.errors import ConnectionLost, PeerTimeout, SlowConsumer, StateError
from stelar_proto.messages import AckError, AckRequest, AckResponse, Alive, Hello, Invalid, Message
from stelar_proto.wire import Format
from stelar_proto.ws import Role
from stelar_proto.ws.close import encode_close

from .acks import AckLedger, PendingAck
from .config import SessionConfig
from .events import Closed, Event, Opened
from .heartbeat import Beat, Heartbeat
from .outbox import Outbox
from .state import TRANSITIONS, State

_DEAD = "Heartbeat timeout"
# Looked up once: the attribute of an enum is slow, and these are asked for every message.
_OPEN, _CLOSED = State.OPEN, State.CLOSED

Codec: TypeAlias = ws.Connection | tcp.Connection


class Session(ABC):
    """The base of :class:`WebSocketSession` and :class:`TcpSession`; they add their wire's bytes.

    Arguments:
        role: which end this is.
        config: what it shares with its like.
        codec: the protocol of its wire.
        wire: the format of its messages.
        now: the time, seconds on any clock that never goes back; every call that needs it is given it.
    """

    __slots__ = (
        "_aborted",
        "_codec",
        "_end_event",
        "_ended_at",
        "_heartbeat",
        "_now",
        "_peer_ended",
        "_started_at",
        "acks",
        "can_send",
        "client_id",
        "config",
        "format",
        "messages_dropped",
        "messages_received",
        "messages_sent",
        "on_deadline_changed",
        "outbox",
        "role",
        "state",
    )

    def __init__(self, role: Role, config: SessionConfig, codec: Codec, wire: Format, now: float) -> None:
        self.role = role
        self.config = config
        self.format = wire
        """How messages are said here; what it encodes may go to every session that has the same."""
        self.state = State.CONNECTING
        self.can_send = False
        """Whether messages are taken: it is open, or its last words have not left and may be preceded."""
        self.client_id: str | None = None
        """The id the client goes by; the npm package's WebSocket server never tells it."""
        self.outbox = Outbox(config.outbox_limit)
        self.acks = AckLedger(config.max_pending_acks)
        self.messages_received = 0
        self.messages_sent = 0
        self.messages_dropped = 0
        """Frames for the peer that never left, because the connection ended first or they were too many."""
        self.on_deadline_changed: Callable[[], object] | None = None
        """Called when a command made :meth:`next_deadline` earlier than it was."""
        self._heartbeat = Heartbeat(config.heartbeat_interval, config.heartbeat_timeout, now)
        self._now = now
        self._started_at = now
        self._ended_at = now  # when the end began
        self._end_event: Closed | None = None  # the last event, not reported yet
        self._peer_ended = False
        self._aborted = False
        self._codec = codec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.role.value} {self.state.value} id={self.client_id}>"

    # --- What the wires add -----------------------------------------------------------------------------

    @abstractmethod
    def _receive(self, data: bytes, events: list[Event]) -> None:
        """Decode ``data`` and append what it means."""

    @abstractmethod
    def _encode(self, message: Message) -> bytes:
        """Return the bytes of ``message``, for this peer."""

    @abstractmethod
    def _ping(self) -> None:
        """Put a ping into the outbox."""

    @abstractmethod
    def _say_goodbye(self, code: int, reason: str) -> None:
        """Put the wire's last words into the outbox."""

    @abstractmethod
    def _give_up(self, code: int, reason: str) -> None:
        """Part with a peer that is taken for dead, without waiting for it."""

    @abstractmethod
    def accept(self, client_id: str) -> None:
        """Server: take the client in and tell it its id.

        Raises:
            StateError: nobody waits for that (any more), or this is no server.
        """

    @abstractmethod
    def refuse(self, status: int, message: str) -> None:
        """Server: turn the client away, with an HTTP status or an Error frame. ``Closed`` is not reported.

        Raises:
            StateError: nobody waits for that (any more), or this is no server.
        """

    # --- Bytes ------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take what came in at ``now``; ``b""`` is the end of the stream. What a peer did is never raised."""
        self._now = now
        events: list[Event] = []
        if not data:
            self._peer_ended = True
        if self.state is State.CLOSED:
            self._report_end(events)
        else:
            self._heartbeat.received(now)
            self._receive(data, events)
            if self.state is _CLOSED and self._codec.can_send and not self._aborted:
                # What came in front of the end can still be answered; our last words leave behind that.
                self.can_send = True
            else:
                self._flush_codec()
            self._report_end(events)
        return events

    def data_to_send(self) -> bytes:
        """Return the next bytes to send, at most about 64 KiB; ``b""`` when there is nothing more."""
        self.seal()
        return self.outbox.take()

    def seal(self) -> None:
        """Put the last words behind what was sent: whatever came in front of the end has been answered."""
        if self.can_send and self.state is _CLOSED:
            self.can_send = False
            self._flush_codec()

    @property
    def wants_eof(self) -> bool:
        """Whether our side of the stream should be ended now: the last word is sent."""
        return self.state is State.CLOSED and not self.can_send and not self.outbox

    @property
    def is_aborted(self) -> bool:
        """Whether the socket is to be cut, whatever is still unsent."""
        return self._aborted

    @property
    def is_finished(self) -> bool:
        """Whether the socket can be closed: all is sent, and the peer has ended or used up its time."""
        return self._aborted or (
            self.state is State.CLOSED and self._peer_ended and not self.can_send and not self.outbox
        )

    # --- Messages ---------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Encode ``message`` and put it into the outbox.

        Raises:
            StateError: the session is not open, or a client's outbox is full.
            MessageError: the message may not be sent, or is too large.
            TypeError: it is no message of this wire.
        """
        self._demand_open()
        frame = self._encode(message)
        if self.role is Role.CLIENT and not self.outbox.has_room_for(frame):
            # A server cuts a client that does not read; a client is told to wait for its server.
            waiting = self.outbox.size
            raise StateError(f"the outbox is full ({waiting} bytes): await drain() before sending more")
        self.send_frame(frame)

    def send_frame(self, frame: bytes) -> None:
        """Put a frame made by :attr:`format` into the outbox: the way of messages to many.

        A full outbox ends the session: the peer does not read, and memory is bounded. ``Closed`` then comes
        from the next :meth:`handle_deadline`, which is due at once. A session that has ended takes nothing.
        """
        if self.can_send and self._push(frame):
            self.messages_sent += 1

    def request(self, ack: str, event: str, data: object, now: float, *, timeout: float) -> PendingAck:
        """Send a request; its answer, or what became of it, will finish the returned entry.

        Raises:
            StateError: the session is not open, or too many requests are in flight.
            MessageError: the message may not be sent.
        """
        if self.state is not _OPEN:  # whoever only may still say something would wait for ever
            raise StateError(f"nothing can be asked: the connection is {self.state.value}")
        pending = self.acks.open(ack, now, timeout)
        try:
            self.send(AckRequest(ack, event, data, pending.correlation_id))
        except Exception:
            self.acks.discard(pending)
            raise
        self._deadline_changed()
        return pending

    def close(self, code: int, reason: str, now: float) -> None:
        """End the conversation: say goodbye behind all that was sent, then wait for the peer to do the same.

        What the peer sends until then is still received. Does nothing when the end has begun already.

        Arguments:
            code: what RFC 6455 lets a close frame say: 1000-1003, 1007-1014, 3000-4999. The TCP wire has no
                codes: 1000 and 1001 are a Disconnect frame there, the others an Error frame.
            reason: for people.
            now: the time.

        Raises:
            MessageError: the code must not be sent.
        """
        encode_close(code)
        self._now = now
        if self.state is State.CONNECTING:
            self.abort(Closed(code, reason, None))
        elif self.state is State.OPEN:
            self._enter(State.CLOSING)
            self._say_goodbye(code, reason)

    def abort(self, end: Closed) -> None:
        """End at once, without waiting for anybody; what was not sent is lost.

        ``end`` comes from the next :meth:`handle_deadline`, which is due at once.
        """
        self._end(end)
        self._abort()

    # --- Time -------------------------------------------------------------------------------------------

    def pause(self, paused: bool, now: float) -> None:
        """Note that reading is paused, or goes on: a peer that is not read cannot give signs of life."""
        self._now = now
        self._heartbeat.pause(paused, now)
        self._deadline_changed()

    def next_deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called; None for never."""
        if self._end_event is not None:
            return self._now
        if self.state is State.OPEN:
            beat, acks = self._heartbeat.next_deadline(), self.acks.next_deadline()
            if beat is None or acks is None:
                return acks if beat is None else beat
            return min(beat, acks)
        if self.state is State.CONNECTING:
            return self._started_at + self.config.connect_timeout
        if self.is_finished:
            return None
        return self._ended_at + self.config.close_timeout

    def handle_deadline(self, now: float) -> list[Event]:
        """Do what is due at ``now``, possibly nothing."""
        self._now = now
        events: list[Event] = []
        if self.state is State.OPEN:
            beat = self._heartbeat.handle_deadline(now)
            if beat is Beat.PING:
                self._ping()
            elif beat is Beat.DEAD:
                self._end(Closed(1011, _DEAD, PeerTimeout("the peer gave no sign of life")))
                self._give_up(1011, _DEAD)
            self.acks.expire(now)
        elif self.state is State.CONNECTING:
            timeout = self.config.connect_timeout
            if now >= self._started_at + timeout:
                self.abort(Closed(1006, "", PeerTimeout(f"no handshake within {timeout:g} s")))
        elif not self.is_finished and now >= self._ended_at + self.config.close_timeout:
            timeout = self.config.close_timeout
            self.abort(Closed(1006, "", PeerTimeout(f"the peer did not close within {timeout:g} s")))
        self._report_end(events)
        return events

    def connection_lost(self, now: float) -> list[Event]:
        """The stream is gone, in both directions; nothing more will happen."""
        events = self.receive_data(b"", now)
        self._abort()
        return events

    # --- For the wires ------------------------------------------------------------------------------------

    def _push(self, data: bytes) -> bool:
        """Put ``data`` into the outbox; False if that is full, and then the session has ended."""
        if self._aborted:
            return False
        if self.outbox.push(data):
            return True
        self.messages_dropped += 1
        limit = self.config.outbox_limit
        error = SlowConsumer(f"the peer does not read: more than {limit} bytes wait for it")
        self.abort(Closed(1006, "", error))
        return False

    def _deliver(self, message: Message, events: list[Event]) -> None:
        """Append ``message`` for the application; what concerns only the session ends here."""
        kind = type(message)
        if kind is Alive:
            return
        if kind is Hello:
            self._receive_hello(message.client_id, events)  # type: ignore[union-attr]  # kind is its type
            return
        self.messages_received += 1
        is_answer = kind is AckResponse or kind is AckError
        if not (is_answer and self.acks.resolve(message)):  # type: ignore[arg-type]  # as above
            events.append(message)

    def _receive_hello(self, client_id: str, events: list[Event]) -> None:
        if self.client_id is not None and self.client_id != client_id:
            events.append(Invalid(f"the server announced a second client id: {client_id!r}"))
            return
        self.client_id = client_id
        if self.state is State.CONNECTING:
            self._enter(State.OPEN)
            events.append(Opened())

    def _end(self, end: Closed) -> None:
        """Enter CLOSED, once; ``end`` is the last event, as soon as there is a call to return it."""
        if self.state is State.CLOSED:
            return
        self._end_event = end
        self._enter(State.CLOSED)
        reason = f" ({end.error or end.reason})" if end.error or end.reason else ""
        self.acks.fail_all(ConnectionLost(f"the connection ended before the answer came{reason}"))

    def _flush_codec(self) -> None:
        data = self._codec.data_to_send()
        if data:
            self._push(data)

    def _abort(self) -> None:
        self._aborted = True
        self.can_send = False
        self.messages_dropped += self.outbox.clear()

    def _report_end(self, events: list[Event]) -> None:
        if self._end_event is not None:
            events.append(self._end_event)
            self._end_event = None

    def _enter(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], (self.state, state)
        if self.state is not State.CLOSING:
            self._ended_at = self._now
        self.state = state
        self.can_send = state is _OPEN
        self._deadline_changed()

    def _deadline_changed(self) -> None:
        if self.on_deadline_changed is not None:
            self.on_deadline_changed()

    def _demand_open(self) -> None:
        if not self.can_send:
            raise StateError(f"nothing can be sent: the connection is {self.state.value}")

    def _demand_connecting(self) -> None:
        if self.role is not Role.SERVER or self.state is not State.CONNECTING:
            raise StateError(
                f"nobody waits to be taken in: this is a {self.role.value}, and it is {self.state.value}"
            )

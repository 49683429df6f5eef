"""One connection and its clock, on either wire, in either role, whatever is said over it.

Bytes and the time go in, events come out. A channel knows nothing of other connections, of handlers or of
sockets. All waiting is expressed as one deadline, :meth:`Channel.next_deadline`.

``Closed`` is the last event and comes once; only a refusal ends without it. A closed channel still wants to
be carried to its end: what is in the outbox leaves, then :attr:`wants_eof` asks for the stream to be ended,
and :attr:`is_finished` says that the socket can go. Between the two the peer has a bounded time to end its
side: a socket that is closed while unread input waits resets the connection, and our last words with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

from stelar_proto import tcp, ws
from stelar_proto.errors import PeerTimeout, StateError
from stelar_proto.ws import Role
from stelar_proto.ws.close import check_close

from .config import ChannelConfig
from .events import Closed
from .heartbeat import Beat, Heartbeat
from .outbox import Outbox
from .state import TRANSITIONS, State

_DEAD = "Heartbeat timeout"
# Looked up once: the attribute of an enum is slow, and these are asked for every message.
_OPEN, _CLOSED = State.OPEN, State.CLOSED

Codec: TypeAlias = ws.Connection | tcp.Connection


class Channel(ABC):
    """The base of every connection; those above add what is said, and how their wire says goodbye.

    Arguments:
        role: which end this is.
        config: what it shares with its like.
        codec: the protocol of its wire.
        now: the time, seconds on any clock that never goes back; every call that needs it is given it.
    """

    __slots__ = (
        "_aborted",
        "_end_event",
        "_ended_at",
        "_heartbeat",
        "_now",
        "_peer_ended",
        "_started_at",
        "can_send",
        "codec",
        "config",
        "last_words_lost",
        "messages_dropped",
        "on_deadline_changed",
        "outbox",
        "role",
        "state",
    )

    config: ChannelConfig
    codec: Codec

    def __init__(self, role: Role, config: ChannelConfig, codec: Codec, now: float) -> None:
        self.role = role
        self.config = config
        self.codec = codec
        self.state = State.CONNECTING
        self.can_send = False
        """Whether messages are taken: it is open, or its last words have not left and may be preceded."""
        self.outbox = Outbox(config.outbox_limit)
        self.last_words_lost = False
        """Whether it was cut before all that we had to say, a close frame behind it, had left the outbox."""
        self.messages_dropped = 0
        """Messages for the peer that never left: the connection ended first, or they were too many."""
        self.on_deadline_changed: Callable[[], object] | None = None
        """Called when a command made :meth:`next_deadline` earlier than it was."""
        self._heartbeat = Heartbeat(config.heartbeat_interval, config.heartbeat_timeout, now)
        self._now = now
        self._started_at = now
        self._ended_at = now  # when the end began
        self._end_event: Closed | None = None  # the last event, not reported yet
        self._peer_ended = False
        self._aborted = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.role.value} {self.state.value}>"

    @property
    def now(self) -> float:
        """The time of the last call that was given it."""
        return self._now

    # --- What the wires and those above add -------------------------------------------------------------

    @abstractmethod
    def _receive(self, data: bytes, events: list[Any]) -> None:
        """Decode ``data`` and append what it means."""

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
    def _keep(self, data: bytes) -> object:
        """Put what the protocol says into the outbox: it is never dropped, and needs a bound of its own."""

    # --- Bytes ------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[Any]:
        """Take what came in at ``now``; ``b""`` is the end of the stream. What a peer did is never raised."""
        self._now = now
        events: list[Any] = []
        if not data:
            self._peer_ended = True
        if self.state is _CLOSED:
            self._report_end(events)
        else:
            self._heartbeat.received(now)
            self._receive(data, events)
            if self.state is _CLOSED and self.codec.can_send and not self._aborted:
                # What came in front of the end can still be answered; our last words leave behind that.
                self.can_send = True
            else:
                self._flush_codec()
            if self._end_event is not None:
                self._report_end(events)
        return events

    def data_to_send(self) -> bytes:
        """Return the next bytes to send, at most about 64 KiB; ``b""`` when there is nothing more."""
        if self.state is not _OPEN:
            self._prepare_to_send()
        return self.outbox.take()

    def _prepare_to_send(self) -> None:
        """Put what only now may leave into the outbox."""
        self.seal()

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

    # --- The end ----------------------------------------------------------------------------------------

    def close(self, code: int, reason: str, now: float) -> None:
        """End the conversation: say goodbye behind all that was sent, then wait for the peer to do the same.

        What the peer sends until then is still received. Does nothing when the end has begun already.

        Arguments:
            code: what RFC 6455 lets a close frame say: 1000-1003, 1007-1014, 3000-4999. Over TCP 1000 and
                1001 are a Disconnect frame, which has no words; the others an Error frame, which may say it.
            reason: for people.
            now: the time.

        Raises:
            MessageError: the code must not be sent.
            TypeError: the code is no int, or the reason no str.
        """
        check_close(code, reason)
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

    def connection_lost(self, now: float) -> list[Any]:
        """The stream is gone, in both directions; nothing more will happen."""
        events = self.receive_data(b"", now)
        self._abort()
        return events

    # --- Time -------------------------------------------------------------------------------------------

    def pause(self, paused: bool, now: float) -> None:
        """Note that reading is paused, or goes on: a peer that is not read cannot give signs of life.

        It is still sent pings, so that a write finds it gone. What it had sent before that is then lost.
        """
        self._now = now
        self._heartbeat.pause(paused, now)
        self._deadline_changed()

    def next_deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called; None for never."""
        if self._end_event is not None:
            return self._now
        if self.state is State.OPEN:
            return self._heartbeat.next_deadline()
        if self.state is State.CONNECTING:
            return self._started_at + self.config.connect_timeout
        if self.is_finished:
            return None
        return self._ended_at + self.config.close_timeout

    def handle_deadline(self, now: float, *, unsent_size: int = 0) -> list[Any]:
        """Do what is due at ``now``, possibly nothing.

        Arguments:
            now: the time.
            unsent_size: how many bytes of :meth:`data_to_send` still wait to be taken by the system.
        """
        self._now = now
        events: list[Any] = []
        if self.state is State.OPEN:
            bytes_left = self.outbox.taken - unsent_size
            beat = self._heartbeat.handle_deadline(now, bytes_left, is_stuck=unsent_size > 0)
            if beat is Beat.PING:
                self._ping()
            elif beat is Beat.DEAD:
                self._end(Closed(1011, _DEAD, PeerTimeout("the peer gave no sign of life")))
                self._give_up(1011, _DEAD)
        elif self.state is State.CONNECTING:
            timeout = self.config.connect_timeout
            if now >= self._started_at + timeout:
                self.abort(Closed(1006, "", PeerTimeout(f"no handshake within {timeout:g} s")))
        elif not self.is_finished and now >= self._ended_at + self.config.close_timeout:
            timeout = self.config.close_timeout
            self.abort(Closed(1006, "", PeerTimeout(f"the peer did not close within {timeout:g} s")))
        self._report_end(events)
        return events

    def postpone(self, seconds: float, now: float) -> None:
        """Move every deadline: for ``seconds`` the loop stood still, and nobody could be heard.

        None of them is moved further than it would be if the waiting began ``now``.
        """
        self._started_at = min(now, self._started_at + seconds)
        self._ended_at = min(now, self._ended_at + seconds)
        self._heartbeat.postpone(seconds, now)

    # --- For those above ----------------------------------------------------------------------------------

    def _end(self, end: Closed) -> None:
        """Enter CLOSED, once; ``end`` is the last event, as soon as there is a call to return it."""
        if self.state is not State.CLOSED:
            self._end_event = end._replace(code=int(end.code))  # an enum prints as its name
            self._enter(State.CLOSED)

    def _flush_codec(self) -> None:
        data = self.codec.data_to_send()
        if data and not self._aborted:
            self._keep(data)

    def _abort(self) -> None:
        self._aborted = True
        self.can_send = False
        self.last_words_lost = self.last_words_lost or self.outbox.size > 0
        self.messages_dropped += self.outbox.clear()

    def _report_end(self, events: list[Any]) -> None:
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

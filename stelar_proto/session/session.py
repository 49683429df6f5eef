"""One peer, on either wire, in either role: messages over a channel.

Messages go in, bytes come out; bytes and the time go in, messages come out. A session knows nothing of other
peers, of handlers or of sockets; its clock, its outbox and its end are those of its
:class:`~stelar_proto.channel.Channel`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from stelar_proto.channel import Channel, Closed, State
from stelar_proto.channel.config import SMALLEST_OUTBOX
from stelar_proto.errors import ConnectionLost, MessageError, SlowConsumer, StateError, printable
from stelar_proto.messages import AckError, AckRequest, AckResponse, Alive, Hello, Invalid, Message
from stelar_proto.wire import Format
from stelar_proto.ws import Role

from .acks import AckLedger, PendingAck
from .config import SessionConfig
from .events import Event, Opened

_OPEN = State.OPEN


class Session(Channel):
    """The base of :class:`WebSocketSession` and :class:`TcpSession`; they add their wire's bytes.

    Arguments:
        role: which end this is.
        config: what it shares with its like.
        codec: the protocol of its wire.
        wire: the format of its messages.
        now: the time.
    """

    __slots__ = (
        "acks",
        "client_id",
        "format",
        "messages_received",
        "messages_sent",
        "on_dropped",
        "subprotocol",
    )

    config: SessionConfig

    def __init__(self, role: Role, config: SessionConfig, codec: Any, wire: Format, now: float) -> None:
        super().__init__(role, config, codec, now)
        self.format = wire
        """How messages are said here; what it encodes may go to every session that has the same."""
        self.client_id: str | None = None
        """The id the client goes by; the npm package's WebSocket server never tells it."""
        self.subprotocol: str | None = None
        """What was agreed upon of the WebSocket subprotocols that the client offered, if anything."""
        self.acks = AckLedger(config.max_pending_acks)
        self.on_dropped: Callable[[str], object] | None = None
        """Told why a message is dropped, the first time since the outbox was last read almost empty."""
        self.messages_received = 0
        self.messages_sent = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.role.value} {self.state.value} id={self.client_id}>"

    # --- What the wires add -----------------------------------------------------------------------------

    @abstractmethod
    def _encode(self, message: Message) -> bytes:
        """Return the bytes of ``message``, for this peer."""

    def _demand_small_payload(self, size: int) -> None:
        if size > self.format.max_payload_size:
            words = f"a payload of {size} bytes is over max_payload_size ({self.format.max_payload_size})"
            raise MessageError("PAYLOAD_TOO_LARGE", words)

    @abstractmethod
    def encode_head(self, event: str, size: int) -> tuple[bytes, Callable[[bytes], bytes]]:
        """Client: return the head of a binary message whose payload follows piece by piece.

        It is one frame, which nothing may interrupt.

        Arguments:
            event: its name.
            size: bytes of the payload, 64 KiB or more.

        Returns:
            What to send first, and a function that makes each piece, in order, what to send for it.

        Raises:
            MessageError: the event's name breaks the rules, or the message is too large.
        """

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

    # --- Messages ---------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Encode ``message`` and put it into the outbox.

        Raises:
            StateError: the session is not open, or a client's outbox is full.
            MessageError: the message may not be sent, or is too large, maybe for the outbox.
            TypeError: it is no message of this wire.
        """
        if not self.can_send:
            self._demand_open()
        frame = self._encode(message)
        if self.config.slow_consumer == "close" and self.outbox.push(frame):
            self.messages_sent += 1  # where nothing is ever dropped, nothing need be kept from that
            return
        if self.role is Role.CLIENT and not self.outbox.has_room_for(frame):
            self.demand_small(frame)
            # A server cuts a client that does not read; a client is told to wait for its server.
            waiting = self.outbox.size
            raise StateError(f"the outbox is full ({waiting} bytes): await drain() before sending more")
        self.send_frame(frame, droppable=False)

    def send_frame(self, frame: bytes, *, droppable: bool = True) -> bool:
        """Put a frame made by :attr:`format` into the outbox; return whether it is in there.

        Arguments:
            frame: its bytes; this is the way of messages to many.
            droppable: whether the policy for peers that do not read concerns it: ``slow_consumer``. What the
                protocol says is kept, be it that older messages make room.

        Where the policy is to close, a full outbox ends the session: ``Closed`` then comes from the next
        :meth:`handle_deadline`, which is due at once. A session that has ended takes nothing.

        Raises:
            MessageError: it is not droppable, and larger than a whole outbox.
        """
        if not self.can_send:
            return False
        if not droppable:
            self.demand_small(frame)
            is_taken = self._keep(frame, is_message=True)
        else:
            is_taken = self.outbox.push(frame) or self._make_room_and_push(frame)
        if is_taken:
            self.messages_sent += 1
        return is_taken

    def demand_small(self, frame: bytes) -> None:
        """Raise :class:`MessageError` if ``frame`` is larger than a whole outbox, however empty."""
        if len(frame) > self.outbox.largest:
            words = f"a message of {len(frame)} bytes is larger than outbox_limit, {self.outbox.limit}"
            raise MessageError("PAYLOAD_TOO_LARGE", words)

    # --- An outbox that is full -------------------------------------------------------------------------

    def _make_room_and_push(self, frame: bytes) -> bool:
        """Do with ``frame``, which does not fit, what the policy says; return whether it is in there."""
        outbox, policy = self.outbox, self.config.slow_consumer
        if len(frame) > outbox.largest:
            self._drop(1, f"one of {len(frame)} bytes is larger than outbox_limit")  # whoever reads
            return False
        if policy == "close":
            self._cut_slow_peer()
            return False
        if policy == "drop_oldest":
            self._drop(outbox.make_room_for(frame))
        if outbox.push(frame):
            return True
        self._drop(1)
        return False

    def _keep(self, data: bytes, *, is_message: bool = False) -> bool:
        if self._aborted:
            return False
        outbox = self.outbox
        if not outbox.has_room_for(data):
            if self.config.slow_consumer != "close":
                self._drop(outbox.make_room_for(data))
            # Whoever fills a client's is told to wait, and the connection lives: a ping, or our goodbye,
            # has room of its own.
            spare = SMALLEST_OUTBOX if self.role is Role.CLIENT else 0
            if not outbox.has_room_for(data, spare):
                self._cut_slow_peer(is_message)
                return False
        outbox.keep(data, is_message=is_message)
        return True

    def _cut_slow_peer(self, is_message: bool = True) -> None:
        self.messages_dropped += is_message
        error = SlowConsumer(f"the peer does not read: more than {self.outbox.limit} bytes wait for it")
        self.abort(Closed(1006, "", error))

    def _drop(self, count: int, reason: str = "the peer does not read") -> None:
        """Count messages that are dropped, and tell of it once, until the peer has read."""
        self.messages_dropped += count
        if count and not self.outbox.is_dropping:
            self.outbox.is_dropping = True
            if self.on_dropped is not None:
                self.on_dropped(reason)

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

    # --- Time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        deadline, acks = super().next_deadline(), self.acks.next_deadline()
        if acks is None or self.state is not _OPEN:
            return deadline
        return acks if deadline is None else min(deadline, acks)

    def handle_deadline(self, now: float, *, unsent_size: int = 0) -> list[Event]:
        was_open = self.state is _OPEN
        events = super().handle_deadline(now, unsent_size=unsent_size)
        if was_open:
            self.acks.expire(now)
            self._report_end(events)
        return events

    def postpone(self, seconds: float, now: float) -> None:
        super().postpone(seconds, now)
        self.acks.postpone(seconds, now)

    # --- For the wires ------------------------------------------------------------------------------------

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
        if self.state is State.CLOSED:
            return
        super()._end(end)
        reason = f" ({end.error or printable(end.reason)})" if end.error or end.reason else ""
        self.acks.fail_all(ConnectionLost(f"the connection ended before the answer came{reason}"))

"""Between a plain WebSocket connection and whoever calls ``recv`` and ``send``: the inbox, and who waits.

The inbox holds whole messages, and parts of those that are taken in parts. It is bounded, in messages and in
bytes: when it is full and nobody waits for more, reading pauses, and soon the peer cannot write.

Behind messages that nobody takes may stand what somebody waits for: a pong, or the peer's close. For those
who wait for that, and those who only ever send, more messages are read into the inbox, within the same bytes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from logging import Logger
from typing import Any

from stelar_proto import ws
from stelar_proto.channel import Closed, Runtime, State, WaitableEvent
from stelar_proto.channel.handlers import FAULTS
from stelar_proto.errors import StateError
from stelar_proto.ws import PartReceived

from .channel import PlainChannel
from .config import WebSocketConfig
from .sending import Message, SendingEndpoint

_OPEN, _CLOSED = State.OPEN, State.CLOSED

_PATIENCE = 16  # times inbox_limit, for those who look out for what stands behind the messages


class WebSocketEndpoint(SendingEndpoint):
    """One plain connection; a server's and a client's differ in how they open.

    Arguments:
        session: the protocol.
        runtime: the loop.
        logger: where faults are reported.
        config: how much may wait in the inbox.
    """

    __slots__ = (
        "_arrived",
        "_has_received",
        "_in_parts",
        "_inbox",
        "_inbox_limit",
        "_inbox_size",
        "_is_closing",
        "_messages",
        "_receivers",
        "_size",
        "_wants_parts",
        "is_discarding",
        "lost",
        "messages_discarded",
    )

    def __init__(
        self, session: PlainChannel, runtime: Runtime, logger: Logger, config: WebSocketConfig
    ) -> None:
        super().__init__(session, runtime, logger)
        self._inbox: deque[Message | PartReceived] = deque()
        self._size = 0  # of what is in the inbox, bytes or characters
        self._messages = 0  # whole ones in the inbox, and ends of those in parts
        self._inbox_limit = config.inbox_limit
        self._inbox_size = config.inbox_size
        self._in_parts = False  # the next part in the inbox goes on with one that was handed out
        self._wants_parts = False  # the codec hands out what has come of a message
        self._receivers = 0  # how many wait for the inbox
        self._has_received = False  # somebody has asked for a message, ever
        self._arrived: WaitableEvent | None = None  # what they wait for
        self._is_closing = False  # we have asked for the end
        self.is_discarding = False
        """Whether nobody will, or can, receive any more: what comes is dropped."""
        self.messages_discarded = 0
        """How many messages came behind a close of ours and found no room, or behind one that did not."""
        self.lost = runtime.make_event()
        """Set when the connection is gone, socket and all."""

    # --- Receiving --------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next message; see :meth:`WebSocketConnection.recv`."""
        if self._checkpoint is not None:
            await self._checkpoint()
        self._has_received = True
        while self._in_parts or not self._messages:
            if self._in_parts:  # asked again behind every wait: another task may have taken a part meanwhile
                raise StateError("a message is being received in parts: take the rest of them first")
            if self._wants_parts:
                self._deliver_parts(False)
            arrived = self._begin_waiting()
            try:
                await arrived.wait()
            finally:
                self._receivers -= 1
        return self._take_message()

    def _take_message(self) -> Message:
        inbox = self._inbox
        self._messages -= 1
        first = inbox.popleft()
        message = self._join(first) if isinstance(first, PartReceived) else first
        self._size -= len(message)
        if not inbox:
            self._is_answering = True
        if self.paused:
            self._regulate()
        return message

    def _join(self, part: PartReceived) -> Message:
        parts: list[Any] = [part.data]
        while not part.final:
            item = self._inbox.popleft()
            assert isinstance(item, PartReceived)
            part = item
            parts.append(part.data)
        return type(parts[0])().join(parts)  # type: ignore[no-any-return]  # str or bytes, all of them

    async def receive_part(self) -> PartReceived:
        """Return the next part of a message; see :meth:`WebSocketConnection.recv_parts`."""
        if self._checkpoint is not None:
            await self._checkpoint()
        self._has_received = True
        inbox = self._inbox
        while not inbox:
            if not self._wants_parts:
                self._deliver_parts(True)
            arrived = self._begin_waiting()
            try:
                await arrived.wait()
            finally:
                self._receivers -= 1
        item = inbox.popleft()
        part = item if isinstance(item, PartReceived) else PartReceived(item, True)
        self._in_parts = not part.final
        if part.final:
            self._messages -= 1
            if self._wants_parts:
                self._deliver_parts(False)
        self._size -= len(part.data)
        if self.paused:
            self._regulate()
        return part

    def _deliver_parts(self, wanted: bool) -> None:
        self._wants_parts = self.session.codec.deliver_parts = wanted

    def _begin_waiting(self) -> WaitableEvent:
        """Return what to wait for; the caller counts itself out of those who wait then."""
        if self._held is not None:
            self._release()
        if self.end is not None:
            raise self.closed_error()
        if self._arrived is None:
            self._arrived = self._runtime.make_event()
        self._receivers += 1
        if self.paused:
            self._regulate()
        return self._arrived

    def receive_data(self, data: bytes) -> bool:
        session = self.session
        try:
            events = session.receive_data(data, self._runtime.now())
            if events:
                self._take(events)
            if not self._receivers and not self.paused:
                self._regulate()  # a large message may be on its way that nobody waits for
        except FAULTS:
            self._break_off()
        return session.outbox.size > 0 or session.state is not _OPEN

    def _take(self, events: Sequence[Any]) -> None:
        inbox = self._inbox
        has_room = not self._is_closing  # whoever pauses the peer in time has room for what came
        for event in events:
            kind = type(event)
            if kind is str or kind is bytes:
                if has_room or self._has_room(True):
                    inbox.append(event)
                    self._size += len(event)
                    self._messages += 1
            elif kind is PartReceived:
                if has_room or self._has_room(event.final):
                    inbox.append(event)
                    self._size += len(event.data)
                    self._messages += event.final
            elif kind is Closed:
                self._receive_end(event)
            else:
                self._open(event)
        if self._arrived is not None and (inbox or self.end is not None):
            self._wake()
        if len(inbox) >= self._inbox_limit or self._size >= self._inbox_size:
            self._regulate()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None

    def _has_room(self, final: bool) -> bool:
        """Tell whether what came behind a close of ours can still be kept; count it if not."""
        if not (self.is_discarding or self._is_full()):
            return True
        self.is_discarding = True  # what was received is all up to a point, and has no holes
        self.messages_discarded += final
        return False

    @property
    def _never_receives(self) -> bool:
        return not self._has_received and (self._has_sent or self._watchers > 0)

    @property
    def _message_limit(self) -> int:
        return self._inbox_limit * (_PATIENCE if self._watchers or self._never_receives else 1)

    def _is_full(self) -> bool:
        return (
            len(self._inbox) >= self._message_limit
            or self._size + self.session.codec.collected_size >= self._inbox_size
        )

    def _regulate(self) -> None:
        """Pause reading when the inbox is full, and go on when somebody needs more than it has."""
        state = self.session.state
        if state is _CLOSED:
            return
        # Behind what nobody takes stands the peer's part of a close.
        wanted = state is not _OPEN or self._receivers > 0
        if not self.paused:
            if not wanted and self._is_full():
                self._pause(True)
        elif wanted or (len(self._inbox) <= self._message_limit // 2 and self._size <= self._inbox_size // 2):
            self._pause(False)

    # --- The end ----------------------------------------------------------------------------------------

    def _receive_end(self, end: Closed) -> None:
        # Whoever took, or will take, what came in front of the end may want to answer it. They have done so
        # when they ask for more. An orderly end in front of which nothing is unread does not wait for that,
        # nor does one where all that anybody has ever done is to send, or to wait for it.
        if end.error is None:
            is_being_answered = self._inbox and not self._never_receives
        else:
            is_being_answered = self._inbox or not self._receivers
        if is_being_answered and self.session.can_send and not self.is_discarding:
            self._held = end
            self.session.hold()
        else:
            self._leave(end)

    def _release(self) -> None:
        if self._held is not None:
            end, self._held = self._held, None
            self.session.release()
            self._leave(end)
            self.flush_soon()

    def handle_deadline(self, now: float) -> None:
        if self.session.is_held:
            self._release()
            self._wake()
        super().handle_deadline(now)

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self._is_closing = True
        self._wake_senders()
        self._release()
        self._regulate()

    def discard(self) -> None:
        """Nobody will receive any more."""
        self.is_discarding = True
        self._inbox.clear()
        self._size = self._messages = 0

    def connection_lost(self) -> None:
        try:
            self._release()
            super().connection_lost()
        finally:
            self.lost.set()

    def _on_closed(self, event: Closed) -> None:
        self._wake_senders()
        if event.error is not None:
            self._logger.info("a connection ended: %s", event.error)

    @abstractmethod
    def _open(self, event: ws.UpgradeRequested | ws.RequestReceived | ws.Opened) -> None:
        """A part of the opening handshake came."""

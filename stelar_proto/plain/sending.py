"""The sending half of a plain WebSocket connection: who may send next, and who waits for an answer."""

from __future__ import annotations

from abc import abstractmethod
from logging import Logger
from typing import TypeAlias

from stelar_proto.channel import Closed, Endpoint, Runtime, State, WaitableEvent
from stelar_proto.errors import ConnectionClosed

from .channel import PlainChannel

Message: TypeAlias = str | bytes

_OPEN = State.OPEN


class SendingEndpoint(Endpoint):
    """Messages and pings that go out.

    Arguments:
        session: the protocol.
        runtime: the loop.
        logger: where faults are reported.
    """

    __slots__ = ("_checkpoint", "_has_sent", "_held", "_is_answering", "_lock", "_watchers")

    session: PlainChannel

    def __init__(self, session: PlainChannel, runtime: Runtime, logger: Logger) -> None:
        super().__init__(session, runtime, logger)
        self._checkpoint = runtime.checkpoint
        self._lock: WaitableEvent | None = None  # a message is being sent in parts; set at its end
        self._has_sent = False  # somebody has sent a message, ever
        self._is_answering = False  # the inbox was emptied, and nothing has been sent since
        self._watchers = 0  # how many wait for what stands behind the messages in the inbox
        self._held: Closed | None = None  # the end, while what came in front of it is being answered

    @abstractmethod
    def _regulate(self) -> None:
        """Pause reading or go on, as it is now."""

    def closed_error(self) -> ConnectionClosed:
        """Return what to raise now that the connection has ended, or is ending."""
        end, codec = self.end or self._held, self.session.codec
        received, sent = codec.close_received, codec.close_sent
        if self.session.last_words_lost:
            sent = None
        if end is None:
            end = Closed(*(sent or (1006, "")), None)
        return ConnectionClosed(end.code, end.reason, received=received, sent=sent, error=end.error)

    async def send(self, message: Message | bytearray | memoryview) -> None:
        """Send a message; see :meth:`WebSocketConnection.send`."""
        if self._checkpoint is not None:
            await self._checkpoint()
        session = self.session
        if not self._has_sent:
            self._note_sender()
        if self._lock is not None or session.outbox.congested:
            await self._wait_for_turn()
        if not session.can_send:
            raise self.closed_error()
        frame = session.encode(message)
        if self._is_answering:
            # The last message was taken, so whoever answers it will wait next. What follows in a turn is
            # collected, as is what is sent without having been asked for.
            self._is_answering = False
            transport = self.transport
            if transport is not None and not session.outbox.size and transport.write(frame):
                return
        session.outbox.append(frame)
        self.flush_soon()

    def _note_sender(self) -> None:
        self._has_sent = True
        if self.paused:
            self._regulate()

    async def _wait_for_turn(self) -> None:
        while self._lock is not None or self.session.outbox.congested:
            if not self.session.can_send:
                raise self.closed_error()
            if self._lock is not None:
                await self._lock.wait()
            else:
                await self.drain()

    async def begin_parts(self) -> None:
        """Wait until a message can be sent in parts, and keep others from sending until :meth:`end_parts`.

        Raises:
            ConnectionClosed: the connection is closed.
        """
        if self._checkpoint is not None:
            await self._checkpoint()
        self._note_sender()
        await self._wait_for_turn()
        if not self.session.can_send:
            raise self.closed_error()
        self._lock = self._runtime.make_event()

    async def send_part(self, part: Message | bytearray | memoryview, *, final: bool) -> None:
        """Send a part, behind :meth:`begin_parts`."""
        await self.drain()
        if not self.session.can_send:
            raise self.closed_error()
        self.session.send_part(part, final=final)
        self.flush_soon()

    def end_parts(self) -> None:
        """Let others send again."""
        assert self._lock is not None
        self._lock.set()
        self._lock = None

    async def ping(self) -> float:
        """Send a ping; see :meth:`WebSocketConnection.ping`."""
        if self._checkpoint is not None:
            await self._checkpoint()
        if self.session.state is not _OPEN:
            raise self.closed_error()
        answered = self._runtime.make_event()
        pings = self.session.pings
        payload, ping = pings.open(answered)
        self.session.ping(payload)
        self.flush_soon()
        try:
            await self.watch_for(answered)
        finally:
            pings.discard(payload)
        if ping.latency is None:
            raise self.closed_error()
        return ping.latency

    async def watch_for(self, event: WaitableEvent) -> None:
        """Wait for something that may stand behind messages which nobody takes."""
        self._watchers += 1
        if self.paused:
            self._regulate()
        try:
            await event.wait()
        finally:
            self._watchers -= 1

    def _wake_senders(self) -> None:
        """Let those who wait for the end of a message in parts see that there is nothing to wait for."""
        if self._lock is not None:
            self._lock.set()

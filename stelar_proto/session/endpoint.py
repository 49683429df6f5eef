"""Between a session and its handlers: one event at a time, in order, and no faster than they are handled.

Handlers that are plain functions run inside :meth:`Endpoint.receive_data`, with no task and no coroutine.
When one returns an awaitable, a task awaits it and goes on with what came in meanwhile; acks and heartbeats
are not events for handlers and never wait. When more than ``inbox_limit`` events wait, reading pauses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Coroutine, Sequence
from functools import partial
from logging import Logger
from typing import Any

from .arguments import Handler, is_awaitable
from .events import Closed, Event
from .runtime import Runtime, Transport, WaitableEvent
from .session import Session
from .state import State

Deferred = Coroutine[Any, Any, None]
"""The rest of an event's handling, for a task to run."""

# Behind the events that wait may stand what their handlers wait for: the answer to a request, or the peer's
# part of a close. Reading must then go on. This many times the limit is where that patience ends.
_PATIENCE = 16


class Endpoint(ABC):
    """One connection as its transport drives it; a server's peers and a client's connections derive from it.

    Arguments:
        session: the protocol.
        runtime: the loop.
        logger: where handlers that raise are reported.
        inbox_limit: how many events may wait for a handler before reading pauses.
    """

    __slots__ = (
        "_busy",
        "_drained",
        "_inbox",
        "_inbox_limit",
        "_logger",
        "_runtime",
        "end",
        "paused",
        "session",
        "transport",
    )

    def __init__(self, session: Session, runtime: Runtime, logger: Logger, *, inbox_limit: int = 64) -> None:
        self.session = session
        self.transport: Transport | None = None
        self.paused = False
        self.end: Closed | None = None
        """How the session ended."""
        self._runtime = runtime
        self._logger = logger
        self._inbox: deque[Event] = deque()
        self._inbox_limit = inbox_limit
        self._busy = False  # an event is being handled; whoever does so takes the next from the inbox
        self._drained: WaitableEvent | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.session!r}>"

    # --- For the transport ------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream; ``b""`` is its end."""
        try:
            events = self.session.receive_data(data, self._runtime.now())
            if events:
                self._take(events)
        except Exception:
            self._break_off()

    def connection_lost(self) -> None:
        """The stream is gone. The transport's last call, exactly once, whatever came before."""
        self.transport = None
        try:
            self._take(self.session.connection_lost(self._runtime.now()))
        except Exception:
            self._break_off()

    def handle_deadline(self, now: float) -> None:
        """Do what is due."""
        try:
            events = self.session.handle_deadline(now)
            if events:
                self._take(events)
        except Exception:
            self._break_off()
        self.flush_soon()

    def _break_off(self) -> None:
        """A fault of the library: it is reported, and costs this connection only, whatever the loop."""
        self._logger.exception("a connection is cut: a fault of the library")
        self.session.abort(Closed(1006, "", None))
        self.flush_soon()

    def next_deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called."""
        return self.session.next_deadline()

    def data_to_send(self) -> bytes:
        """Return the next bytes to send."""
        data = self.session.data_to_send()
        if self._drained is not None and not self.session.outbox.congested:
            self._wake_drained()
        return data

    @property
    def wants_eof(self) -> bool:
        """Whether our side of the stream should be ended."""
        return self.session.wants_eof

    @property
    def is_finished(self) -> bool:
        """Whether the socket can be closed."""
        return self.session.is_finished

    @property
    def is_aborted(self) -> bool:
        """Whether the socket is to be cut."""
        return self.session.is_aborted

    # --- For the application ----------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Tell the transport that there is something to send."""
        if self.transport is not None:
            self.transport.flush_soon()

    async def drain(self) -> None:
        """Wait until the outbox is below its low-water mark, or the connection has ended."""
        while self.session.outbox.congested and self.session.state is not State.CLOSED:
            if self._drained is None:
                self._drained = self._runtime.make_event()
            await self._drained.wait()

    def _wake_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    async def ask(self, ack: str, event: str, data: object, *, timeout: float) -> Any:
        """Ask the peer and wait for the answer; see :meth:`Session.request` for the arguments.

        Raises:
            RemoteError: the answer is an error.
            AckTimeout: there was none in time.
            ConnectionLost: the connection ended first.
            MessageError, StateError: the request cannot be sent.
        """
        answered = self._runtime.make_event()
        pending = self.session.request(ack, event, data, self._runtime.now(), timeout=timeout)
        pending.on_done = answered.set
        self.flush_soon()
        self._regulate()
        try:
            if not pending.done:
                await answered.wait()
        finally:
            self.session.acks.discard(pending)
        return pending.result()

    def close(self, code: int, reason: str) -> None:
        """End the conversation behind everything that was sent; does nothing when it has ended already.

        Raises:
            MessageError: the close code must not be sent.
        """
        self.session.close(code, reason, self._runtime.now())
        self.flush_soon()
        self._regulate()

    # --- Events in order --------------------------------------------------------------------------------

    @abstractmethod
    def _handle(self, event: Event) -> Deferred | None:
        """Handle ``event``; return the rest if an awaitable came up. Must not raise."""

    @abstractmethod
    def _on_closed(self, event: Closed) -> None:
        """The session ended: leave every registry. Its handlers run when its turn comes."""

    def _take(self, events: Sequence[Event]) -> None:
        self._inbox.extend(events)
        if not self._busy:
            rest = self._handle_waiting()
            if rest is not None:
                self._start(rest)
        if events and type(events[-1]) is Closed:
            self._leave(events[-1])
        self._regulate()

    def _handle_waiting(self) -> Deferred | None:
        """Handle what waits, in order, until an awaitable comes up; return the rest of that."""
        inbox, rest = self._inbox, None
        self._busy = True
        try:
            while inbox and rest is None:
                event = inbox.popleft()
                if type(event) is Closed:
                    self._leave(event)
                rest = self._handle(event)
        finally:
            self._busy = rest is not None
        return rest

    def _start(self, rest: Deferred) -> None:
        self._busy = True
        self._runtime.spawn(self._work(rest))

    async def _work(self, rest: Deferred | None) -> None:
        try:
            while rest is not None:
                await rest
                rest = self._handle_waiting()
                self._regulate()
        except BaseException as error:
            # A cancelled handler, which need not be the end of the connection: whatever comes in next goes on
            # with the inbox, so it has to be able to come in.
            self._busy = False
            if self.paused:
                self._pause(False)
            if not isinstance(error, Exception):
                raise
            self._break_off()

    def _leave(self, end: Closed) -> None:
        """As soon as the session has ended, though not before what was received first is being handled."""
        if self.end is None:
            self.end = end
            self.session.seal()
            self._wake_drained()
            self._on_closed(end)

    def _regulate(self) -> None:
        """Pause reading when the handlers have fallen behind, and go on when they have caught up."""
        waiting, limit = len(self._inbox), self._inbox_limit
        if (waiting < limit and not self.paused) or self.session.state is State.CLOSED:
            return
        is_awaited = len(self.session.acks) > 0 or self.session.state is State.CLOSING
        full = limit * _PATIENCE if is_awaited else limit
        if not self.paused:
            if waiting >= full:
                self._pause(True)
        elif waiting <= limit // 2 or (is_awaited and waiting < full):
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        self.paused = paused
        self.session.pause(paused, self._runtime.now())
        if self.transport is not None:
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # --- Calling handlers -------------------------------------------------------------------------------

    def _call(self, handlers: Sequence[Handler], *arguments: Any) -> Deferred | None:
        """Call each handler; report what it raises and go on with the next."""
        for index, handler in enumerate(handlers):
            try:
                result = handler(*arguments)
            except Exception as error:
                self._handler_raised(handler, error, arguments)
            else:
                if result is not None and is_awaitable(result):
                    return self._call_rest(result, handlers[index:], arguments)
        return None

    async def _call_rest(
        self, result: Awaitable[object], handlers: Sequence[Handler], arguments: tuple[Any, ...]
    ) -> None:
        try:
            await result
        except Exception as error:
            self._handler_raised(handlers[0], error, arguments)
        rest = self._call(handlers[1:], *arguments)
        if rest is not None:
            await rest

    def _handler_raised(self, handler: Handler, error: Exception, arguments: tuple[Any, ...]) -> None:
        """Report ``error``; ``arguments`` is what ``handler`` was called with."""
        function = handler.func if isinstance(handler, partial) else handler
        name = getattr(function, "__qualname__", repr(function))
        extra = {"client_id": self.session.client_id}
        self._logger.error("handler %s raised", name, exc_info=error, extra=extra)

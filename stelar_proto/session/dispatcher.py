"""Between a session and its handlers: one event at a time, in order, and no faster than they are handled.

Handlers that are plain functions run inside :meth:`Dispatcher.receive_data`, with no task and no coroutine.
When one returns an awaitable, a task awaits it and goes on with what came in meanwhile; acks and heartbeats
are not events for handlers and never wait. When more than ``inbox_limit`` events wait, reading pauses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from logging import Logger
from typing import Any

from stelar_proto.channel import Closed, Endpoint, Runtime, State
from stelar_proto.channel.handlers import FAULTS, Handler, is_awaitable

from .events import Event
from .session import Session

Deferred = Coroutine[Any, Any, object]
"""The rest of an event's handling, for a task to run."""

# Behind the events that wait may stand what their handlers wait for: the answer to a request, or the peer's
# part of a close. Reading must then go on. This many times the limit is where that patience ends.
_PATIENCE = 16


# The inbox of those who have nothing in theirs; nothing is ever put into it. A deque of one's own: 760 bytes.
_EMPTY: deque[Event] = deque()


class Dispatcher(Endpoint):
    """A connection whose events go to handlers; a server's peers and a client's connections derive from it.

    Arguments:
        session: the protocol.
        runtime: the loop.
        logger: where handlers that raise are reported.
        inbox_limit: how many events may wait for a handler before reading pauses.
    """

    __slots__ = ("_busy", "_cancel_work", "_inbox", "_inbox_limit")

    session: Session

    def __init__(self, session: Session, runtime: Runtime, logger: Logger, *, inbox_limit: int = 64) -> None:
        super().__init__(session, runtime, logger)
        self._inbox = _EMPTY
        self._inbox_limit = inbox_limit
        self._busy = False  # an event is being handled; whoever does so takes the next from the inbox
        self._cancel_work: Callable[
            [], object
        ]  # the task that does so, or did; there is none before the first

    # --- For the application ----------------------------------------------------------------------------

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
        super().close(code, reason)
        self._regulate()

    # --- Events in order --------------------------------------------------------------------------------

    @abstractmethod
    def _handle(self, event: Event) -> Deferred | None:
        """Handle ``event``; return the rest if an awaitable came up. Must not raise."""

    def _take(self, events: Sequence[Event]) -> None:
        if self._inbox is not _EMPTY:
            self._inbox.extend(events)
        elif events:
            self._inbox = deque(events)
        if not self._busy:
            rest = self._handle_waiting()
            if rest is not None:
                self._start(rest)
        if events and type(events[-1]) is Closed:
            self._leave(events[-1])
        if self._inbox or self.paused:
            self._regulate()

    def _handle_waiting(self) -> Deferred | None:
        """Handle what waits, in order, until an awaitable comes up; return the rest of that."""
        rest = None
        self._busy = True
        try:
            while self._inbox and rest is None:
                event = self._inbox.popleft()
                if type(event) is Closed:
                    self._leave(event)
                rest = self._handle(event)
        finally:
            self._busy = rest is not None
            if not self._inbox:
                self._inbox = _EMPTY
        return rest

    def _start(self, rest: Deferred) -> None:
        self._busy = True
        self._cancel_work = self._runtime.spawn(self._work(rest))

    async def _work(self, rest: Deferred | None) -> None:
        try:
            while rest is not None:
                await rest
                rest = self._handle_waiting()
                self._regulate()
        except BaseException as error:
            self._busy = False
            if self.paused:
                self._pause(False)
            if not isinstance(error, Exception):
                # A cancelled handler, which need not be the end of the connection: whatever comes in next
                # goes on with the inbox.
                if not isinstance(error, GeneratorExit) and self._goes_on_when_cancelled():
                    following = self._handle_waiting()
                    if following is not None:
                        self._start(following)
                raise
            self._break_off()

    def _goes_on_when_cancelled(self) -> bool:
        """Tell whether what waits behind a cancelled handler is to be handled at once."""
        return False

    def _abandon(self) -> None:
        """Drop what waits to be handled, but for the end."""
        self._inbox = deque(event for event in self._inbox if type(event) is Closed)

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

    # --- Calling handlers -------------------------------------------------------------------------------

    def _call(self, handlers: Sequence[Handler], *arguments: Any) -> Deferred | None:
        """Call each handler; report what it raises and go on with the next."""
        for index, handler in enumerate(handlers):
            try:
                result = handler(*arguments)
            except FAULTS as error:
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
        except FAULTS as error:
            self._handler_raised(handlers[0], error, arguments)
        except BaseException as error:
            self._handler_cancelled(handlers[0], error, arguments)
            raise
        rest = self._call(handlers[1:], *arguments)
        if rest is not None:
            await rest

    def _handler_raised(
        self, handler: Handler, error: BaseException, arguments: tuple[Any, ...], event: str | None = None
    ) -> None:
        """Report ``error``; ``arguments`` is what ``handler`` was called with, ``event`` what about."""
        self._report_handler(handler, "raised", error, event)

    def _handler_cancelled(self, handler: Handler, error: BaseException, arguments: tuple[Any, ...]) -> None:
        """``handler`` ends by ``error``, a cancellation: its own, because it awaited a task that somebody
        cancelled, or that of everything here."""

    def _log_fields(self, event: str | None = None, error: BaseException | None = None) -> dict[str, Any]:
        return {"client_id": self.session.client_id, "event": event}

    def _report_handler(self, handler: Handler, what: str, error: BaseException, event: str | None) -> None:
        function = handler.func if isinstance(handler, partial) else handler
        name = getattr(function, "__qualname__", repr(function))
        extra = self._log_fields(event, error)
        self._logger.error("handler %s %s", name, what, exc_info=error, extra=extra)

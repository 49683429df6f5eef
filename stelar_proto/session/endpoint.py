"""Between a session and its handlers: one event at a time, in order, and no faster than they are handled.

Handlers that are plain functions run inside :meth:`Endpoint.receive_data`, with no task and no coroutine.
When one returns an awaitable, a task awaits it and goes on with what came in meanwhile; acks and heartbeats
are not events for handlers and never wait. When more than ``inbox_limit`` events wait, reading pauses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from logging import Logger
from types import CoroutineType
from typing import Any

from .runtime import Runtime, Transport, WaitableEvent
from .session import Closed, Event, Session, State

Handler = Callable[..., Any]
Deferred = Coroutine[Any, Any, None]
"""The rest of an event's handling, for a task to run."""

# A handler may await an answer from the peer whose events fill the inbox; reading must then go on. This many
# times the limit is where that patience ends.
_PATIENCE = 16


class Endpoint:
    """One connection as its transport drives it; a server's peers and a client's connections derive from it.

    Arguments:
        session: the protocol.
        runtime: the loop.
        logger: where handlers that raise are reported.
        inbox_limit: how many events may wait for a handler before reading pauses.
    """

    __slots__ = (
        "_drained",
        "_inbox",
        "_inbox_limit",
        "_logger",
        "_runtime",
        "_working",
        "paused",
        "session",
        "transport",
    )

    def __init__(self, session: Session, runtime: Runtime, logger: Logger, *, inbox_limit: int = 64) -> None:
        self.session = session
        self.transport: Transport | None = None
        self.paused = False
        self._runtime = runtime
        self._logger = logger
        self._inbox: deque[Event] = deque()
        self._inbox_limit = inbox_limit
        self._working = False  # a task awaits a handler and will take from the inbox
        self._drained: WaitableEvent | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.session!r}>"

    # --- For the transport ----------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream; ``b""`` is its end."""
        events = self.session.receive_data(data, self._runtime.now())
        if events:
            self._take(events)

    def connection_lost(self) -> None:
        """The stream is gone. The transport's last call, exactly once, whatever came before."""
        self._take(self.session.connection_lost(self._runtime.now()))
        self.transport = None

    def handle_deadline(self, now: float) -> None:
        """Do what is due."""
        events = self.session.handle_deadline(now)
        if events:
            self._take(events)
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

    # --- Events in order ------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> Deferred | None:
        """Handle ``event``; return the rest if an awaitable came up. Must not raise."""
        raise NotImplementedError

    def _on_closed(self, event: Closed) -> None:
        """The session ended: leave every registry at once. Its handlers run when its turn comes."""
        self._wake_drained()

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            if type(event) is Closed:
                self._on_closed(event)
            if self._working:
                self._inbox.append(event)
            else:
                rest = self._handle(event)
                if rest is not None:
                    self._start(rest)
        if self._inbox and not self.paused and self._inbox_is_full():
            self._pause(True)

    def _start(self, rest: Deferred) -> None:
        self._working = True
        self._runtime.spawn(self._work(rest))

    def _inbox_is_full(self) -> bool:
        waiting = len(self._inbox)
        if waiting < self._inbox_limit:
            return False
        return not len(self.session.acks) or waiting >= self._inbox_limit * _PATIENCE

    async def _work(self, rest: Deferred) -> None:
        try:
            await rest
            while self._inbox:
                event = self._inbox.popleft()
                if self.paused and len(self._inbox) <= self._inbox_limit // 2:
                    self._pause(False)
                following = self._handle(event)
                if following is not None:
                    await following
        finally:
            self._working = False

    def _pause(self, paused: bool) -> None:
        self.paused = paused
        self.session.pause(paused, self._runtime.now())
        if self.transport is not None:
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # --- Calling handlers ------------------------------------------------------------------------------------

    def _call(self, handlers: Sequence[Handler], *arguments: object) -> Deferred | None:
        """Call each handler; log what it raises and go on with the next."""
        for index, handler in enumerate(handlers):
            try:
                result = handler(*arguments)
            except Exception:
                self._log_handler(handler)
            else:
                if result is not None and is_awaitable(result):
                    return self._call_rest(result, handlers[index:], arguments)
        return None

    async def _call_rest(
        self, result: Awaitable[object], handlers: Sequence[Handler], arguments: tuple[object, ...]
    ) -> None:
        try:
            await result
        except Exception:
            self._log_handler(handlers[0])
        rest = self._call(handlers[1:], *arguments)
        if rest is not None:
            await rest

    def _log_handler(self, handler: Handler) -> None:
        function = handler.func if isinstance(handler, partial) else handler
        name = getattr(function, "__qualname__", repr(function))
        self._logger.exception("handler %s raised", name, extra={"client_id": self.session.client_id})


def is_awaitable(result: object) -> bool:
    """Tell whether a handler's result must be awaited."""
    return type(result) is CoroutineType or hasattr(result, "__await__")

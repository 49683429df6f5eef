"""Starting, serving and stopping: the order of things, the same on every event loop, whatever is served.

What listens, and how a signal arrives, is a runtime's part; what a new connection is, the application's.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from logging import Logger
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from stelar_proto.errors import StateError

from .deadlines import Deadlines
from .endpoint import Endpoint
from .events import Closed
from .handlers import FAULTS, H, Handler, check_handler, is_awaitable
from .places import Place
from .runtime import Runtime, Transport, WaitableEvent

P = TypeVar("P", bound=Endpoint)

_GOODBYE = (1001, "Server shutting down")

# How long who was cut or cancelled may take to end, in the order in which it is waited for; seconds. Together
# they are what a stop may take beyond shutdown_timeout.
_CUT_TIME = 0.03
_CANCEL_TIME = 0.18
_CALLBACK_TIME = 0.05  # at least; they have what is left of shutdown_timeout, too
_END_TIME = 0.1

_ACCEPT_PAUSE = 0.1
_ACCEPT_REPORT_INTERVAL = 10.0


class ServingConfig(Protocol):
    """What every server can be told."""

    @property
    def connect_timeout(self) -> float: ...
    @property
    def close_timeout(self) -> float: ...
    @property
    def shutdown_timeout(self) -> float: ...
    @property
    def graceful_shutdown(self) -> bool: ...


class Lifecycle(ABC, Generic[P]):
    """What a server does besides serving clients, and its open connections.

    Arguments:
        config: how long things may take.
        logger: where the server reports.
    """

    def __init__(self, config: ServingConfig, logger: Logger) -> None:
        self.config = config
        self.logger = logger
        self._peers: set[P] = set()  # every open connection, admitted or not
        self._deadlines = Deadlines(lambda _: None)
        self._emptied: WaitableEvent | None = None  # set when all have gone; there while the server stops
        self._rested: WaitableEvent | None = None  # set when their handlers have ended, or shall
        self.is_cut = False
        """Whether the server stops and waits for nobody any more: what was not handled will not be."""
        self._shutdown_callbacks: tuple[Handler, ...] = ()
        self._accept_reported_at: float | None = None
        self._runtime: Runtime | None = None
        self._ports: list[int] = []
        self._stop_requested: WaitableEvent | None = None  # there while the server runs
        self._stop_requests = 0
        self._stopped: WaitableEvent | None = None  # there while the server stops

    # --- A runtime's and the application's part -----------------------------------------------------------

    @abstractmethod
    def _make_runtime(self) -> Runtime:
        """Return a loop that will call ``handle_deadlines()``."""

    @abstractmethod
    async def _listen(self, place: Place) -> int:
        """Have connections come in at ``place``, each to :meth:`connected`; return the port.

        Whoever waits in here calls :meth:`_demand_starting` behind it.
        """

    @abstractmethod
    def _stop_listening(self) -> None:
        """Have no more connections come in."""

    @abstractmethod
    def _places(self) -> Iterable[Place]:
        """Return where to listen."""

    @abstractmethod
    def connected(self, kind: str, transport: Transport) -> P:
        """A connection of ``kind`` came in; :meth:`_enroll` and return what its transport is to drive."""

    # --- Connections ----------------------------------------------------------------------------------------

    def _enroll(self, peer: P, transport: Transport) -> None:
        """Keep a new connection, and its deadlines, until :meth:`forget`."""
        peer.transport = transport
        self._peers.add(peer)
        peer.session.on_deadline_changed = partial(self._deadlines.schedule, peer)
        self._deadlines.schedule(peer)

    def forget(self, peer: P) -> None:
        """A connection is gone for good."""
        self._peers.discard(peer)
        self._deadlines.remove(peer)
        peer.session.on_deadline_changed = None
        if self._emptied is not None and not self._peers:
            self._emptied.set()

    def accept_failed(self, error: OSError) -> float:
        """A connection could not be accepted; return how long to wait before accepting the next, seconds."""
        if error.errno in (errno.ECONNABORTED, errno.EPROTO):
            return 0.0  # its peer has gone already
        # Most likely there are too many open files: connections wait in the backlog until others have ended.
        now, reported_at = self.runtime.now(), self._accept_reported_at
        if reported_at is None or now >= reported_at + _ACCEPT_REPORT_INTERVAL:
            self._accept_reported_at = now
            self.logger.error("connections have to wait, they cannot be accepted: %s", error)
        return _ACCEPT_PAUSE

    def begin_handshake(self, kind: str, ip: str) -> Callable[[], object] | None:
        """A TLS handshake is to begin with a peer at ``ip``; return what to call when it is over.

        None: there are too many connections from there, and this one is to be cut.

        Arguments:
            kind: which protocol is to be spoken.
            ip: the peer's address.
        """
        return lambda: None

    def handle_deadlines(self) -> None:
        """The timer that :meth:`Runtime.set_timer` was asked for has come."""
        self._deadlines.run(self.runtime.now())

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not stopped."""
        return self._runtime is not None

    @property
    def is_shutting_down(self) -> bool:
        """Whether new connections are to be turned away."""
        return self._emptied is not None

    def shut_down(self) -> WaitableEvent:
        """Say goodbye to every client and take no new ones; the returned event is set when all have gone.

        A second call goes on waiting for the same.
        """
        if self._emptied is None:
            self._emptied = self.runtime.make_event()
            for peer in tuple(self._peers):
                peer.close(*_GOODBYE)
            if not self._peers:
                self._emptied.set()
        return self._emptied

    def cut_all(self) -> None:
        """Cut every connection that is left."""
        self.is_cut = True
        for peer in tuple(self._peers):
            peer.abort(Closed(*_GOODBYE, None))

    # --- Running --------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The event loop that the server runs in.

        Raises:
            StateError: the server was not started.
        """
        if self._runtime is None:
            raise StateError("the server is not running: start it first")
        return self._runtime

    def begin(self, runtime: Runtime) -> None:
        """The server starts.

        Raises:
            StateError: it runs already.
        """
        if self._runtime is not None:
            raise StateError("the server is running already; stop() it before starting it again")
        self._runtime = runtime
        self._emptied = self._rested = None
        self.is_cut = False
        self._accept_reported_at = None
        self._deadlines = Deadlines(runtime.set_timer)
        self._stop_requested = runtime.make_event()
        self._stop_requests = 0

    def finish(self) -> None:
        """The server has stopped; it may be started again."""
        assert self._stop_requested is not None
        self._stop_requested.set()
        self._stop_requested = self._runtime = None

    async def start(self) -> int:
        """Listen; return the WebSocket port, or 0 if that is a Unix socket.

        Raises:
            StateError: the server is running already, or was stopped while it was starting.
            OSError: a port or a path is in use, or not ours to use; the message names it.
        """
        runtime = self._make_runtime()
        self.begin(runtime)
        try:
            await runtime.start()
            self._demand_starting(runtime)
            for place in self._places():
                self._ports.append(await self._listen(place))
        except BaseException:
            if self._is_starting(runtime):  # else the stop takes care of it
                self._stop_listening()
                self.cut_all()  # on one port somebody may have come already
                await self._end(runtime)
            raise
        return self.get_port()

    def _is_starting(self, runtime: Runtime) -> bool:
        return self._runtime is runtime and self._stopped is None

    def _demand_starting(self, runtime: Runtime) -> None:
        """Make sure that nobody has stopped the server since :meth:`start` was called.

        Raises:
            StateError: somebody has.
        """
        if not self._is_starting(runtime):
            raise StateError("the server was stopped while it was starting")

    async def stop(self) -> None:
        """Say goodbye to the clients, wait for them to go, and cut the rest; then call the callbacks.

        What was sent leaves, and handlers that run may end: both have ``shutdown_timeout`` seconds. Who is
        not done by then is cut, or cancelled, and the whole stop takes at most half a second more.

        Returns when nothing of the server is left. Does nothing if it is not running; called while it is
        stopping, it waits for the end of that. A handler that calls it is not waited for.
        """
        runtime = self._runtime
        if runtime is None:
            return
        self._excuse_caller()
        if self._stopped is not None:
            await self._stopped.wait()
            return
        self._stopped = runtime.make_event()
        timeout = 0.0 if self.is_cut else self.config.shutdown_timeout
        ends_at = runtime.now() + timeout
        try:
            self._stop_listening()
            emptied = self.shut_down()
            await runtime.wait_for(emptied, timeout)
            if not self.is_cut:
                await self._wait_for_handlers(runtime, max(ends_at - runtime.now(), 0.0))
            self.cut_all()
            runtime.cancel_tasks()
            await runtime.wait_for(emptied, _CUT_TIME)
            await self._wait_for_handlers(runtime, _CANCEL_TIME)  # those of the ends that were cut, too
            await self._call_back(runtime, max(ends_at - runtime.now(), _CALLBACK_TIME))
        finally:
            try:
                self.cut_all()  # cancelled: there is no time for goodbyes
            finally:  # whatever went wrong, who waits for the end of this sees it
                await self._end(runtime)

    def _excuse_caller(self) -> None:
        """Do not wait for the handler that stops the server, where handlers are waited for."""

    async def _wait_for_handlers(self, runtime: Runtime, timeout: float) -> None:
        self._rested = runtime.make_event()
        runtime.set_when_rested(self._rested)
        await runtime.wait_for(self._rested, timeout)

    async def _end(self, runtime: Runtime) -> None:
        self._ports.clear()
        try:
            left = await runtime.close(_END_TIME)
            if left:
                self.logger.error("stopped, but %d tasks do not end although they are cancelled", left)
        finally:  # cancelled once more: what was cancelled here ends by itself
            self.finish()
            if self._stopped is not None:
                self._stopped.set()
                self._stopped = None

    def on_shutdown(self, callback: H) -> H:
        """Call ``callback()`` whenever the server stops, when its clients have gone; also a decorator.

        Several callbacks, plain or ``async``, are called in order. Together they have what is left of
        ``shutdown_timeout``; one that raises is logged.

        Raises:
            TypeError: the callback is no function.
        """
        self._shutdown_callbacks += (check_handler(callback),)
        return callback

    async def _call_back(self, runtime: Runtime, timeout: float) -> None:
        if self._shutdown_callbacks:
            done = runtime.make_event()
            runtime.spawn(self._call_each(done))
            await runtime.wait_for(done, timeout)

    async def _call_each(self, done: WaitableEvent) -> None:
        try:
            for callback in self._shutdown_callbacks:
                try:
                    result = callback()
                    if is_awaitable(result):
                        await result
                except FAULTS:
                    self.logger.exception("the callback %r of on_shutdown raised", callback)
        finally:
            done.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def get_port(self) -> int:
        """Return the WebSocket port that is listened on; 0 if that is a Unix socket.

        Raises:
            StateError: the server is not running.
        """
        if not self._ports:
            raise StateError("the server is not running: start it first")
        return self._ports[0]

    def _address(self) -> Place:
        """Return where it listens first, with the port that it was given while it runs."""
        place = next(iter(self._places()))
        return place if not self._ports or place.host is None else place._replace(port=self._ports[0])

    def request_stop(self) -> None:
        """Have ``serve_forever()`` stop the server, as a signal does; called again, cut who is left."""
        self._stop_requests += 1
        if self._stop_requests > 1:
            self.cut_all()
            if self._rested is not None:
                self._rested.set()
        if self._stop_requested is not None:
            self._stop_requested.set()

    async def _serve_until_stopped(self) -> None:
        if self._stop_requested is not None:
            await self._stop_requested.wait()

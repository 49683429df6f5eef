"""Starting, serving and stopping: the order of things, the same on every event loop, whatever is served.

What listens, and how a signal arrives, is a runtime's part; what a new connection is, the application's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from logging import Logger
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from stelar_proto.errors import StateError

from .deadlines import Deadlines
from .endpoint import Endpoint
from .events import Closed
from .runtime import Runtime, Transport, WaitableEvent

P = TypeVar("P", bound=Endpoint)

_GOODBYE = (1001, "Server shutting down")


class ServingConfig(Protocol):
    """What every server can be told."""

    @property
    def connect_timeout(self) -> float: ...
    @property
    def close_timeout(self) -> float: ...
    @property
    def shutdown_timeout(self) -> float: ...


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
    async def _listen(self, kind: str, host: str, port: int) -> int:
        """Have connections of ``kind`` come in, each to :meth:`connected`; return the port."""

    @abstractmethod
    def _stop_listening(self) -> None:
        """Have no more connections come in."""

    @abstractmethod
    def _addresses(self) -> Iterable[tuple[str, str, int]]:
        """Return where to listen: for what kind of connection, on which host and port."""

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
        self._emptied = None
        self._deadlines = Deadlines(runtime.set_timer)
        self._stop_requested = runtime.make_event()
        self._stop_requests = 0

    def finish(self) -> None:
        """The server has stopped; it may be started again."""
        assert self._stop_requested is not None
        self._stop_requested.set()
        self._stop_requested = self._runtime = None

    async def start(self) -> int:
        """Listen; return the WebSocket port.

        Raises:
            StateError: the server is running already.
            OSError: a port is in use, or not ours to use; the message names it.
        """
        runtime = self._make_runtime()
        self.begin(runtime)
        try:
            await runtime.start()
            for address in self._addresses():
                self._ports.append(await self._listen(*address))
        except BaseException:
            self._stop_listening()
            self.cut_all()  # on one port somebody may have come already
            await self._end(runtime)
            raise
        return self.get_port()

    async def stop(self) -> None:
        """Say goodbye to the clients, wait up to ``shutdown_timeout`` for them to go, and cut the rest.

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
        self._stop_listening()
        emptied = self.shut_down()
        try:
            await runtime.wait_for(emptied, self.config.shutdown_timeout)
            self.cut_all()
            await emptied.wait()
        finally:
            self.cut_all()  # cancelled: there is no time for goodbyes
            await self._end(runtime)

    def _excuse_caller(self) -> None:
        """Do not wait for the handler that stops the server, where handlers are waited for."""

    async def _end(self, runtime: Runtime) -> None:
        self._ports.clear()
        try:
            await runtime.close()
        finally:  # cancelled once more: what was cancelled here ends by itself
            self.finish()
            if self._stopped is not None:
                self._stopped.set()
                self._stopped = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def get_port(self) -> int:
        """Return the WebSocket port that is listened on.

        Raises:
            StateError: the server is not running.
        """
        if not self._ports:
            raise StateError("the server is not running: start it first")
        return self._ports[0]

    def request_stop(self) -> None:
        """Have ``serve_forever()`` stop the server, as a signal does; called again, cut who is left."""
        self._stop_requests += 1
        if self._stop_requests > 1:
            self.cut_all()
        if self._stop_requested is not None:
            self._stop_requested.set()

    async def _serve_until_stopped(self) -> None:
        if self._stop_requested is not None:
            await self._stop_requested.wait()

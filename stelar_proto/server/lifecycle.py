"""Starting, serving and stopping: the order of things, the same on every event loop.

What listens, and how a signal arrives, is a runtime's part; who is told what at the end is the application's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from stelar_proto.errors import StateError
from stelar_proto.session import Runtime, WaitableEvent

from .config import ServerConfig


class Lifecycle(ABC):
    """What a server does besides serving clients.

    Arguments:
        config: where to listen, and how long stopping may take.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
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
        """Have connections of ``kind`` come in; return the port."""

    @abstractmethod
    def _stop_listening(self) -> None:
        """Have no more connections come in."""

    @abstractmethod
    def shut_down(self) -> WaitableEvent:
        """Say goodbye to every client and take no new ones; the returned event is set when all have gone."""

    @abstractmethod
    def cut_all(self) -> None:
        """Cut every connection that is left."""

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
        config, runtime = self.config, self._make_runtime()
        self.begin(runtime)
        try:
            await runtime.start()
            self._ports = [await self._listen("ws", config.host, config.port)]
            if config.tcp_port is not None:
                self._ports.append(await self._listen("tcp", config.tcp_host or config.host, config.tcp_port))
        except BaseException:
            self._stop_listening()
            self.cut_all()  # on one port somebody may have come already
            await self._end(runtime)
            raise
        return self.get_port()

    async def stop(self) -> None:
        """Say goodbye to the clients, wait up to ``shutdown_timeout`` for them to go, and cut the rest.

        Returns when nothing of the server is left. Does nothing if it is not running; called while it is
        stopping, it waits for the end of that.
        """
        runtime = self._runtime
        if runtime is None:
            return
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

    async def _end(self, runtime: Runtime) -> None:
        self._ports.clear()
        await runtime.close()
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

    def get_tcp_port(self) -> int | None:
        """Return the TCP port that is listened on; None if there is none."""
        return self._ports[1] if len(self._ports) > 1 else None

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

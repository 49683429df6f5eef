"""``StelarServer`` on asyncio: listening, signals, and the order of starting and stopping."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from stelar_proto.errors import StateError
from stelar_proto.server import ServerApplication

from .process import listen_error, memory_bytes
from .tls import TlsOption, server_context
from .transport import AsyncioRuntime, EndpointProtocol


class StelarServer(ServerApplication):
    """Rooms, broadcasts and handlers for WebSocket clients on one port and TCP clients on another.

    ::

        server = StelarServer(port=3000, tcp_port=3001)

        @server.on("chat")
        def chat(ctx):
            ctx.broadcast("chat", ctx.data)

        asyncio.run(server.serve_forever())

    Arguments:
        tls: an ``ssl.SSLContext``, or the paths of a certificate chain and its key (PEM), for both ports.
        options: see :class:`~stelar_proto.server.ServerConfig`.

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        OSError: the certificate cannot be read.
    """

    def __init__(self, *, tls: TlsOption = None, **options: Any) -> None:
        super().__init__(**options)
        self._tls = server_context(tls)
        self._listeners: list[asyncio.Server] = []
        self._ports: list[int] = []
        self._loop_runtime: AsyncioRuntime | None = None
        self._stop_requested = asyncio.Event()
        self._stopped: asyncio.Future[None] | None = None

    async def start(self) -> int:
        """Listen; return the WebSocket port.

        Raises:
            StateError: the server is running already.
            OSError: a port is in use, or not ours to use; the message names it.
        """
        runtime = AsyncioRuntime(self.handle_deadlines)
        self.begin(runtime)
        self._loop_runtime = runtime
        self._stop_requested = asyncio.Event()
        config = self.config
        try:
            await self._listen("ws", config.host, config.port)
            if config.tcp_port is not None:
                await self._listen("tcp", config.tcp_host or config.host, config.tcp_port)
        except BaseException:
            self._stop_listening()
            self.finish()
            raise
        return self.get_port()

    async def _listen(self, kind: str, host: str, port: int) -> None:
        runtime = self._loop_runtime
        assert runtime is not None

        def make_protocol() -> EndpointProtocol:
            return EndpointProtocol(
                runtime,
                lambda protocol: self.connected(kind, protocol, protocol.remote_address),
                close_timeout=self.config.close_timeout,
            )

        try:
            listener = await asyncio.get_running_loop().create_server(
                make_protocol,
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self.config.connect_timeout,
                ssl_shutdown_timeout=None if self._tls is None else self.config.close_timeout,
                backlog=1024,
            )
        except OSError as error:
            raise listen_error(error, host, port) from error
        self._listeners.append(listener)
        self._ports.append(listener.sockets[0].getsockname()[1])

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

    def memory_bytes(self) -> int:
        return memory_bytes()

    async def stop(self) -> None:
        """Say goodbye to the clients, wait up to ``shutdown_timeout`` for them to go, and cut the rest.

        Returns when nothing of the server is left. Does nothing if it is not running; called while it is
        stopping, it waits for the end of that.
        """
        runtime = self._loop_runtime
        if runtime is None:
            return
        if self._stopped is not None:
            await asyncio.shield(self._stopped)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        try:
            self._stop_listening()
            emptied = self.shut_down()
            try:
                async with asyncio.timeout(self.config.shutdown_timeout):
                    await emptied.wait()
            except TimeoutError:
                pass
            finally:
                self.cut_all()
            await emptied.wait()
        finally:
            await runtime.close()
            self._loop_runtime = None
            self.finish()
            self._stop_requested.set()
            self._stopped.set_result(None)
            self._stopped = None

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._ports.clear()

    async def serve_forever(self) -> None:
        """Serve until :meth:`stop` is called, SIGINT or SIGTERM comes, or this is cancelled; then stop.

        Starts the server if it is not running. A second signal cuts the connections that are left.
        """
        if self._loop_runtime is None:
            await self.start()
        restore = self._handle_signals()
        try:
            await self._stop_requested.wait()
        finally:
            try:
                await self.stop()
            finally:
                restore()

    def _handle_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = asyncio.get_running_loop()
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def receive() -> None:
            if self._stop_requested.is_set():
                self.cut_all()
            self._stop_requested.set()

        for number in previous:
            loop.add_signal_handler(number, receive)

        def restore() -> None:
            for number, handler in previous.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

        return restore

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

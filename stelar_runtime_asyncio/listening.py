"""Servers on asyncio: listening, signals, and serving until it is enough."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from stelar_proto.channel import Endpoint, Lifecycle

from .process import listen_error
from .tls import TlsOption, server_context
from .transport import AsyncioRuntime, EndpointProtocol

P = TypeVar("P", bound=Endpoint)


class Listening(Lifecycle[P]):
    """asyncio's part of a server; the application comes behind it among the bases.

    Arguments:
        tls: an ``ssl.SSLContext``, or the paths of a certificate chain and its key (PEM).
        arguments, options: the application's.

    Raises:
        OSError: the certificate cannot be read.
    """

    def __init__(self, *arguments: Any, tls: TlsOption = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tls = server_context(tls)
        self._listeners: list[asyncio.Server] = []

    def _make_runtime(self) -> AsyncioRuntime:
        return AsyncioRuntime(self.handle_deadlines)

    async def _listen(self, kind: str, host: str, port: int) -> int:
        runtime = self.runtime
        assert isinstance(runtime, AsyncioRuntime)

        def attach(protocol: EndpointProtocol) -> Endpoint | None:
            # A connection whose TLS handshake was under way when the server stopped comes too late.
            return self.connected(kind, protocol) if self._runtime is runtime else None

        def make_protocol() -> EndpointProtocol:
            return EndpointProtocol(runtime, attach, close_timeout=self.config.close_timeout)

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
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def serve_forever(self) -> None:
        """Serve until :meth:`stop` is called, SIGINT or SIGTERM comes, or this is cancelled; then stop.

        Starts the server if it is not running. A second signal cuts the connections that are left.
        """
        if self._runtime is None:
            await self.start()
        restore = self._handle_signals()
        try:
            await self._serve_until_stopped()
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

        for number in previous:
            loop.add_signal_handler(number, self.request_stop)

        def restore() -> None:
            for number, handler in previous.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

        return restore

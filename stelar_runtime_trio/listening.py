"""Servers on trio: listening, signals, and serving until it is enough."""

from __future__ import annotations

import errno
import signal
import ssl
import threading
from collections.abc import AsyncIterator
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import trio

from stelar_proto.channel import Endpoint, Lifecycle

from .process import listen_error
from .tls import TlsOption, server_context
from .transport import Stream, StreamTransport, TrioRuntime

P = TypeVar("P", bound=Endpoint)

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_RESOURCE_PAUSE = 0.1


class Listening(Lifecycle[P]):
    """trio's part of a server; the application comes behind it among the bases.

    Arguments:
        tls: an ``ssl.SSLContext``, or the paths of a certificate chain and its key (PEM).
        arguments, options: the application's.

    Raises:
        OSError: the certificate cannot be read.
    """

    def __init__(self, *arguments: Any, tls: TlsOption = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tls = server_context(tls)
        self._listening: list[trio.CancelScope] = []

    def _make_runtime(self) -> TrioRuntime:
        return TrioRuntime(self.handle_deadlines)

    async def _listen(self, kind: str, host: str, port: int) -> int:
        runtime = self.runtime
        assert isinstance(runtime, TrioRuntime)
        try:
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=1024)
        except OSError as error:
            raise listen_error(error, host, port) from error
        for listener in listeners:
            scope = trio.CancelScope()
            self._listening.append(scope)
            runtime.nursery.start_soon(self._accept, kind, listener, scope, runtime)
        bound: int = listeners[0].socket.getsockname()[1]
        return bound

    def _stop_listening(self) -> None:
        for scope in self._listening:
            scope.cancel()
        self._listening.clear()

    @trio.lowlevel.enable_ki_protection
    async def _accept(
        self, kind: str, listener: trio.SocketListener, scope: trio.CancelScope, runtime: TrioRuntime
    ) -> None:
        with listener.socket, scope:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    # Connections wait in the backlog until others have ended.
                    self.logger.error("cannot accept connections for a moment: %s", error)
                    await trio.sleep(_RESOURCE_PAUSE)
                else:
                    runtime.nursery.start_soon(self._serve_stream, kind, runtime, stream)

    @trio.lowlevel.enable_ki_protection
    async def _serve_stream(self, kind: str, runtime: TrioRuntime, plain: trio.SocketStream) -> None:
        opened_at = runtime.now()
        stream = plain if self._tls is None else await self._secure(plain, self._tls)
        if stream is not None:
            transport = StreamTransport(runtime, stream, opened_at)
            await transport.run(partial(self.connected, kind))

    async def _secure(self, plain: trio.SocketStream, context: ssl.SSLContext) -> Stream | None:
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=False)
        try:
            with trio.fail_after(self.config.connect_timeout):
                await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if not isinstance(error, trio.BrokenResourceError | trio.TooSlowError):
                raise
            self.logger.info("the TLS handshake failed: %s", error.__cause__ or error)
            return None
        return stream

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`stop` is called or this is cancelled; for ``await nursery.start(server.serve)``.

        Starts the server if it is not running; gives the WebSocket port to ``nursery.start``.
        """
        if self._runtime is None:
            await self.start()
        try:
            task_status.started(self.get_port())
            await self._serve_until_stopped()
        finally:
            with trio.CancelScope(shield=True):  # bounded by shutdown_timeout
                await self.stop()

    async def serve_forever(self) -> None:
        """Serve until :meth:`stop` is called, SIGINT or SIGTERM comes, or this is cancelled; then stop.

        Starts the server if it is not running. A second signal cuts the connections that are left.
        """
        if threading.current_thread() is not threading.main_thread():
            await self.serve()
            return
        if self._runtime is None:
            await self.start()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            runtime = self.runtime
            assert isinstance(runtime, TrioRuntime)
            runtime.nursery.start_soon(self._handle_signals, signals)
            await self.serve()

    @trio.lowlevel.enable_ki_protection
    async def _handle_signals(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            self.request_stop()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # bounded by shutdown_timeout
            await super().__aexit__(kind, error, trace)

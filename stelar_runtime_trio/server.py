"""``StelarServer`` on trio: listening, signals, and the order of starting and stopping."""

from __future__ import annotations

import errno
import signal
import ssl
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import trio

from stelar_proto.errors import StateError
from stelar_proto.server import ServerApplication

from .process import listen_error, memory_bytes
from .tls import TlsOption, server_context
from .transport import Stream, StreamTransport, TrioRuntime

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_RESOURCE_PAUSE = 0.1


class StelarServer(ServerApplication):
    """Rooms, broadcasts and handlers for WebSocket clients on one port and TCP clients on another.

    ::

        server = StelarServer(port=3000, tcp_port=3001)

        @server.on("chat")
        def chat(ctx):
            ctx.broadcast("chat", ctx.data)

        trio.run(server.serve_forever)

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
        self._ports: list[int] = []
        self._loop_runtime: TrioRuntime | None = None
        self._listening: dict[trio.SocketListener, trio.CancelScope] = {}
        self._stop_requested = trio.Event()
        self._stopped: trio.Event | None = None

    async def start(self) -> int:
        """Listen; return the WebSocket port.

        Raises:
            StateError: the server is running already.
            OSError: a port is in use, or not ours to use; the message names it.
        """
        runtime = TrioRuntime(self.handle_deadlines)
        self.begin(runtime)
        self._loop_runtime = runtime
        self._stop_requested = trio.Event()
        config = self.config
        listeners: list[tuple[str, trio.SocketListener]] = []
        await runtime.start()
        try:
            await _listen("ws", config.host, config.port, listeners)
            self._ports.append(_port_of(listeners[-1][1]))
            if config.tcp_port is not None:
                await _listen("tcp", config.tcp_host or config.host, config.tcp_port, listeners)
                self._ports.append(_port_of(listeners[-1][1]))
        except BaseException:
            for _, listener in listeners:
                listener.socket.close()
            await self._finish(runtime)
            raise
        self._listening = {listener: trio.CancelScope() for _, listener in listeners}
        for kind, listener in listeners:
            runtime.nursery.start_soon(self._accept, kind, listener, runtime)
        return self.get_port()

    @trio.lowlevel.enable_ki_protection
    async def _accept(self, kind: str, listener: trio.SocketListener, runtime: TrioRuntime) -> None:
        with listener.socket, self._listening[listener]:
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
        stream = plain if self._tls is None else await self._secure(plain, self._tls)
        if stream is None:
            return
        transport = StreamTransport(runtime, stream)
        await transport.run(lambda carrier: self.connected(kind, carrier, carrier.remote_address))

    async def _secure(self, plain: trio.SocketStream, context: ssl.SSLContext) -> Stream | None:
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=False)
        try:
            with trio.fail_after(self.config.connect_timeout):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            self.logger.info("the TLS handshake failed: %s", error.__cause__ or error)
            await trio.aclose_forcefully(stream)
            return None
        return stream

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
            await self._stopped.wait()
            return
        self._stopped = trio.Event()
        try:
            for scope in self._listening.values():
                scope.cancel()
            emptied = self.shut_down()
            with trio.move_on_after(self.config.shutdown_timeout):
                await emptied.wait()
        finally:
            self.cut_all()
            await self._finish(runtime)
            self._stopped.set()
            self._stopped = None

    async def _finish(self, runtime: TrioRuntime) -> None:
        self._ports.clear()
        await runtime.close()
        self._loop_runtime = None
        self.finish()
        self._stop_requested.set()

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`stop` is called or this is cancelled; for ``await nursery.start(server.serve)``.

        Starts the server if it is not running; gives the WebSocket port to ``nursery.start``.
        """
        if self._loop_runtime is None:
            await self.start()
        try:
            task_status.started(self.get_port())
            await self._stop_requested.wait()
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
        if self._loop_runtime is None:
            await self.start()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            assert self._loop_runtime is not None
            self._loop_runtime.nursery.start_soon(self._handle_signals, signals)
            await self.serve()

    @trio.lowlevel.enable_ki_protection
    async def _handle_signals(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            if self._stop_requested.is_set():
                self.cut_all()
            self._stop_requested.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # bounded by shutdown_timeout
            await self.stop()


async def _listen(kind: str, host: str, port: int, listeners: list[tuple[str, trio.SocketListener]]) -> None:
    try:
        opened = await trio.open_tcp_listeners(port, host=host, backlog=1024)
    except OSError as error:
        raise listen_error(error, host, port) from error
    listeners.extend((kind, listener) for listener in opened)


def _port_of(listener: trio.SocketListener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port

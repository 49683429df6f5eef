"""Servers on trio: listening, signals, and serving until it is enough."""

from __future__ import annotations

import socket
from functools import partial
from types import TracebackType
from typing import TypeVar

import trio

from stelar_proto.channel import Endpoint, Place
from stelar_system.listening import SystemLifecycle
from stelar_system.sockets import (
    Listener,
    keep_unsent_here,
    known_addresses,
    listen_error,
    open_listeners,
)

from .loop import TrioRuntime
from .transport import Stream, StreamTransport

P = TypeVar("P", bound=Endpoint)


class Listening(SystemLifecycle[P]):
    """trio's part of a server; the application comes behind it among the bases."""

    _listening: tuple[trio.CancelScope, ...] = ()

    def _make_runtime(self) -> TrioRuntime:
        return TrioRuntime(self.handle_deadlines)

    async def _listen(self, place: Place) -> int:
        runtime = self.runtime
        assert isinstance(runtime, TrioRuntime)
        try:
            if self.network is not None:
                return self._listen_on(self.network, place)
            addresses = known_addresses(place)
            if addresses is None:
                addresses = await trio.socket.getaddrinfo(
                    place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
                self._demand_starting(runtime)
            listeners = open_listeners(place, addresses)
        except OSError as error:
            raise listen_error(error, place) from error
        port = listeners[0].port
        for listener in listeners:
            scope = trio.CancelScope()
            self._listening += (scope,)
            runtime.nursery.start_soon(self._accept, place.kind, listener, scope, runtime)
        return port

    def _stop_listening(self) -> None:
        self._leave_network()
        for scope in self._listening:
            scope.cancel()
        self._listening = ()

    @trio.lowlevel.enable_ki_protection
    async def _accept(
        self, kind: str, listener: Listener, scope: trio.CancelScope, runtime: TrioRuntime
    ) -> None:
        accepting = trio.socket.from_stdlib_socket(listener.socket)
        with accepting, scope:
            try:
                while True:
                    try:
                        connection, address = await accepting.accept()
                    except OSError as error:
                        await trio.sleep(self.accept_failed(error))
                    else:
                        stream = trio.SocketStream(connection)
                        keep_unsent_here(connection)  # behind trio, which would have it stricter
                        runtime.nursery.start_soon(self._take_in, kind, runtime, stream, address)
            finally:
                listener.close()

    @trio.lowlevel.enable_ki_protection
    async def _take_in(
        self, kind: str, runtime: TrioRuntime, plain: trio.SocketStream, address: object
    ) -> None:
        opened_at = runtime.now()
        end_handshake = self._begin_handshake(kind, address)
        if end_handshake is None:
            await trio.aclose_forcefully(plain)
            return
        try:
            stream = await self._secure(kind, plain, address, opened_at + self.config.connect_timeout)
        finally:
            end_handshake()
            del end_handshake, address, plain  # this frame stays as long as the connection
        if stream is not None:
            transport = StreamTransport(runtime, stream, opened_at)
            await transport.run(partial(self.connected, kind))

    async def _secure(
        self, kind: str, plain: trio.SocketStream, address: object, deadline: float
    ) -> Stream | None:
        context = self._tls.context
        if context is None:
            return plain
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=False)
        try:
            with trio.fail_at(deadline):
                await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if not isinstance(error, trio.BrokenResourceError | trio.TooSlowError):
                raise
            self._handshake_failed(kind, address, error.__cause__ or error)
            return None
        return stream

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`stop` is called or this is cancelled; for ``await nursery.start(server.serve)``.

        Starts the server if it is not running; gives the WebSocket port to ``nursery.start``. Signals are the
        program's.
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
        if self._runtime is None:
            await self.start()
        unwatch = self._watch_signals(trio.lowlevel.current_trio_token().run_sync_soon)
        try:
            await self.serve()
        finally:
            unwatch()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # bounded by shutdown_timeout
            await super().__aexit__(kind, error, trace)

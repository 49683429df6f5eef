"""Servers on asyncio: listening, signals, and serving until it is enough."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from stelar_proto.channel import Endpoint, Place
from stelar_system.listening import SystemLifecycle
from stelar_system.sockets import (
    Listener,
    keep_unsent_here,
    known_addresses,
    listen_error,
    open_listeners,
)

from .loop import AsyncioRuntime
from .transport import EndpointProtocol

P = TypeVar("P", bound=Endpoint)

_ACCEPTS_PER_TURN = 64


class Listening(SystemLifecycle[P]):
    """asyncio's part of a server; the application comes behind it among the bases."""

    _listening: tuple[asyncio.Task[None], ...] = ()

    def _make_runtime(self) -> AsyncioRuntime:
        return AsyncioRuntime(self.handle_deadlines)

    async def _listen(self, place: Place) -> int:
        runtime = self.runtime
        assert isinstance(runtime, AsyncioRuntime)
        try:
            if self.network is not None:
                return self._listen_on(self.network, place)
            addresses = known_addresses(place)
            if addresses is None:
                addresses = await asyncio.get_running_loop().getaddrinfo(
                    place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
                self._demand_starting(runtime)
            listeners = open_listeners(place, addresses)
        except OSError as error:
            raise listen_error(error, place) from error
        port = listeners[0].port
        for listener in listeners:
            task = runtime.start_task(self._accept(place.kind, listener, runtime))
            # Behind whatever the loop still does with the socket, and even if the task never began.
            task.add_done_callback(_closer(listener))
            self._listening += (task,)
        return port

    def _stop_listening(self) -> None:
        self._leave_network()
        for task in self._listening:
            task.cancel()
        self._listening = ()

    async def _accept(self, kind: str, listener: Listener, runtime: AsyncioRuntime) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_ACCEPTS_PER_TURN):  # of those that wait already; it does not yield by itself
                try:
                    connection, address = await loop.sock_accept(listener.socket)
                except OSError as error:
                    await asyncio.sleep(self.accept_failed(error))
                else:
                    runtime.start_task(self._take_in(kind, connection, address, runtime))
            await asyncio.sleep(0)

    async def _take_in(
        self, kind: str, connection: socket.socket, address: object, runtime: AsyncioRuntime
    ) -> None:
        context, config = self._tls.context, self.config
        end_handshake = self._begin_handshake(kind, address)
        if end_handshake is None:
            connection.close()
            return
        keep_unsent_here(connection)

        def attach(protocol: EndpointProtocol) -> Endpoint | None:
            end_handshake()
            # A connection whose TLS handshake was under way when the server stopped comes too late.
            return self.connected(kind, protocol) if self._runtime is runtime else None

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: EndpointProtocol(runtime, attach, close_timeout=config.close_timeout),
                connection,
                ssl=context,
                ssl_handshake_timeout=None if context is None else config.connect_timeout,
                ssl_shutdown_timeout=None if context is None else config.close_timeout,
            )
        except OSError as error:
            self._handshake_failed(kind, address, error)
        finally:
            end_handshake()

    async def serve_forever(self) -> None:
        """Serve until :meth:`stop` is called, SIGINT or SIGTERM comes, or this is cancelled; then stop.

        Starts the server if it is not running. A second signal cuts the connections that are left.
        """
        if self._runtime is None:
            await self.start()
        unwatch = self._watch_signals(asyncio.get_running_loop().call_soon_threadsafe)
        try:
            await self._serve_until_stopped()
        finally:
            try:
                await self.stop()
            finally:
                unwatch()


def _closer(listener: Listener) -> Callable[[object], None]:
    return lambda _: listener.close()

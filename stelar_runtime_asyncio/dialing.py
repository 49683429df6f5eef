"""Connections to a server on asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections import deque
from contextlib import suppress
from typing import cast

from stelar_proto.channel import Endpoint
from stelar_proto.channel.dialing import ATTEMPT_DELAY, Address, Route, take_turns
from stelar_proto.channel.network import Network
from stelar_proto.channel.proxies import Proxy
from stelar_system.tls import proxy_context

from .loop import AsyncioRuntime
from .transport import EndpointProtocol

_VERSION = sys.version_info[:3]
_CANNOT_CUT_TLS_WITHIN_TLS = _VERSION < (3, 11, 8) or (3, 12, 0) <= _VERSION < (3, 12, 2)  # gh-113214


async def dial(
    runtime: AsyncioRuntime,
    endpoint: Endpoint,
    route: Route,
    *,
    network: Network | None,
    context: ssl.SSLContext | None,
    close_timeout: float,
) -> None:
    """Connect by ``route`` and have the stream drive ``endpoint``.

    Arguments:
        runtime: the loop of the endpoint.
        endpoint: its side of the conversation; it begins when this returns.
        route: where to, through which proxy, and by when.
        network: what carries the stream in place of sockets, if anything; it has no proxies.
        context: for TLS; None for a plain stream.
        close_timeout: seconds that closing the stream may take later.

    Raises:
        OSError: what went wrong, ``TimeoutError`` and ``ssl.SSLError`` among it.
        ProxyError: what went wrong with the proxy.
    """

    if network is not None:
        network.dial(runtime, endpoint, route.host, route.port, secure=context is not None)
        return
    proxy = route.find_proxy(os.environ)

    def attach(protocol: EndpointProtocol) -> Endpoint:
        endpoint.transport = protocol
        return endpoint

    protocol = EndpointProtocol(runtime, attach, close_timeout=close_timeout)
    try:
        async with asyncio.timeout(route.time_left(runtime.now())):
            if proxy is not None and proxy.secure:
                await _reach_within_tls(proxy, route, protocol, context, close_timeout)
            else:
                sock = await (
                    _reach(route.host, route.port) if proxy is None else _reach_through(proxy, route)
                )
                await _carry(protocol, sock, context, route.host, close_timeout)
    except BaseException as error:
        # What has begun by now is closed by the loop; by uvloop without a word to its protocol.
        protocol.connection_lost(None)
        if isinstance(error, TimeoutError) and error.errno is None:  # else the system gave up in front of us
            raise route.timed_out(proxy) from error
        raise


async def _carry(
    protocol: asyncio.Protocol,
    sock: socket.socket,
    context: ssl.SSLContext | None,
    host: str,
    close_timeout: float,
) -> None:
    await asyncio.get_running_loop().create_connection(
        lambda: protocol,
        sock=sock,
        ssl=context,
        server_hostname=None if context is None else host,
        ssl_shutdown_timeout=None if context is None else close_timeout,
    )


async def _reach_within_tls(
    proxy: Proxy,
    route: Route,
    protocol: EndpointProtocol,
    context: ssl.SSLContext | None,
    close_timeout: float,
) -> None:
    """Connect to a proxy over TLS, and through it; with a ``context``, TLS is spoken within that."""
    tunnel = _Tunnel()
    try:
        sock = await _reach(proxy.host, proxy.port)
        await _carry(tunnel, sock, proxy_context(), proxy.host, close_timeout)
        try:
            await proxy.open_tunnel(route.host, route.port, send=tunnel.send, receive=tunnel.receive)
            if tunnel.has_ended:
                raise ConnectionResetError("it ended the connection")
        except BaseException:
            tunnel.transport.abort()
            raise
    except OSError as error:
        raise proxy.unreachable(error) from error
    transport = tunnel.transport
    if context is None:
        transport.set_protocol(protocol)
    else:
        if _CANNOT_CUT_TLS_WITHIN_TLS:
            with suppress(AttributeError):  # uvloop's own can
                transport._force_close = lambda _: transport.abort()  # type: ignore[attr-defined]
        try:
            within = await asyncio.get_running_loop().start_tls(
                transport,
                protocol,
                context,
                server_hostname=route.host,
                ssl_shutdown_timeout=close_timeout,
            )
        except BaseException:
            transport.abort()
            raise
        if within is None:  # it was closed meanwhile
            raise ConnectionResetError("the connection was lost")
        transport = within
    protocol.connection_made(transport)
    if tunnel.received:  # a server may speak first
        protocol.data_received(bytes(tunnel.received))


class _Tunnel(asyncio.Protocol):
    """A stream over TLS to a proxy, until it leads through it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        """What came and was not read."""
        self.has_ended = False
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.has_ended = True
        self._news.set()

    def eof_received(self) -> None:
        self.connection_lost(None)

    async def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def receive(self, size: int) -> bytes:
        while not (self.received or self.has_ended):
            self._news.clear()
            await self._news.wait()
        data = bytes(self.received[:size])
        del self.received[:size]
        return data


async def _reach_through(proxy: Proxy, route: Route) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        sock = await _reach(proxy.host, proxy.port)
        try:
            await proxy.open_tunnel(
                route.host,
                route.port,
                send=lambda data: loop.sock_sendall(sock, data),
                receive=lambda size: loop.sock_recv(sock, size),
            )
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise proxy.unreachable(error) from error
    return sock


async def _reach(host: str, port: int) -> socket.socket:
    """Connect to one of the addresses of ``host``; beside one that does not answer the next is tried.

    uvloop has nothing of the kind.

    Raises:
        OSError: there is no such host, or what the first of its addresses said that failed, if all do.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    left = deque(take_turns(found))
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    reached: socket.socket | None = None
    try:
        while reached is None and (left or attempts):
            if left:
                attempts.add(asyncio.ensure_future(_connect(left.popleft())))
            delay = ATTEMPT_DELAY if left else None
            done, _ = await asyncio.wait(attempts, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                error = attempt.exception()
                if error is not None:
                    attempts.remove(attempt)
                    errors.append(error)
                elif reached is None:
                    attempts.remove(attempt)
                    reached = attempt.result()
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_let_go)
        if attempts and reached is None:  # this was cancelled
            await asyncio.wait(attempts)
    if reached is None:
        raise errors[0]
    return reached


def _let_go(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: Address) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock

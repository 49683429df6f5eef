"""Connections to a server on trio."""

from __future__ import annotations

import os
import ssl

import trio

from stelar_proto.channel import Endpoint
from stelar_proto.channel.dialing import Route
from stelar_proto.channel.network import Network
from stelar_proto.channel.proxies import Proxy
from stelar_system.tls import proxy_context

from .loop import TrioRuntime
from .transport import Stream, StreamTransport


async def dial(
    runtime: TrioRuntime,
    endpoint: Endpoint,
    route: Route,
    *,
    network: Network | None,
    context: ssl.SSLContext | None,
) -> None:
    """Connect by ``route`` and have the stream drive ``endpoint``.

    Arguments:
        runtime: the loop of the endpoint.
        endpoint: its side of the conversation; it begins when this returns.
        route: where to, through which proxy, and by when.
        network: what carries the stream in place of sockets, if anything; it has no proxies.
        context: for TLS; None for a plain stream.

    Raises:
        OSError: what went wrong, ``TimeoutError`` and ``ssl.SSLError`` among it.
        ProxyError: what went wrong with the proxy.
    """
    if network is not None:
        network.dial(runtime, endpoint, route.host, route.port, secure=context is not None)
        return
    opened_at = runtime.now()
    proxy = route.find_proxy(os.environ)
    try:
        with trio.fail_after(route.time_left(opened_at)):
            stream: Stream = await (
                _reach(route.host, route.port) if proxy is None else _reach_through(proxy, route)
            )
            if context is not None:
                stream = await _secure(stream, context, route.host)
    except trio.TooSlowError as error:
        raise route.timed_out(proxy) from error

    def attach(transport: StreamTransport) -> Endpoint:
        endpoint.transport = transport
        return endpoint

    runtime.nursery.start_soon(StreamTransport(runtime, stream, opened_at).run, attach)


async def _reach(host: str, port: int) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as error:
        # trio says that all attempts failed; what happened to each of them stands behind that.
        cause = error.__cause__
        attempts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
        for attempt in attempts:
            if isinstance(attempt, OSError):
                raise attempt from error
        raise


async def _reach_through(proxy: Proxy, route: Route) -> Stream:
    stream: Stream
    try:
        stream = await _reach(proxy.host, proxy.port)
        if proxy.secure:
            stream = await _secure(stream, proxy_context(), proxy.host, https_compatible=True)
        try:
            await proxy.open_tunnel(route.host, route.port, send=stream.send_all, receive=stream.receive_some)
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, OSError):
                raise error.__cause__ from error
            raise
    except OSError as error:
        raise proxy.unreachable(error) from error
    return stream


async def _secure(
    below: Stream, context: ssl.SSLContext, host: str, *, https_compatible: bool = False
) -> Stream:
    stream = trio.SSLStream(below, context, server_hostname=host, https_compatible=https_compatible)
    try:
        await stream.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise error.__cause__ or OSError("the TLS handshake failed") from error
        raise
    return stream

"""Connections to a server on trio."""

from __future__ import annotations

import ssl

import trio

from stelar_proto.channel import Endpoint
from stelar_proto.channel.network import Network

from .transport import Stream, StreamTransport, TrioRuntime


async def dial(
    runtime: TrioRuntime,
    endpoint: Endpoint,
    host: str,
    port: int,
    *,
    network: Network | None,
    context: ssl.SSLContext | None,
    connect_timeout: float,
) -> None:
    """Connect to ``host`` and have the stream drive ``endpoint``.

    Arguments:
        runtime: the loop of the endpoint.
        endpoint: its side of the conversation; it begins when this returns.
        host: a name or an IP address.
        port: the TCP port.
        network: what carries the stream in place of sockets, if anything.
        context: for TLS; None for a plain stream.
        connect_timeout: seconds, for all of it.

    Raises:
        OSError: what went wrong, ``TimeoutError`` and ``ssl.SSLError`` among it.
    """
    if network is not None:
        network.dial(runtime, endpoint, host, port, secure=context is not None)
        return
    opened_at = runtime.now()
    try:
        with trio.fail_after(connect_timeout):
            plain = await trio.open_tcp_stream(host, port)
            stream = plain if context is None else await _secure(plain, context, host)
    except trio.TooSlowError as error:
        raise TimeoutError(f"no connection within {connect_timeout:g} s") from error
    except OSError as error:
        # trio says that all attempts failed; what happened to each of them stands behind that.
        cause = error.__cause__
        attempts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
        raise next((attempt for attempt in attempts if isinstance(attempt, OSError)), error) from error

    def attach(transport: StreamTransport) -> Endpoint:
        endpoint.transport = transport
        return endpoint

    runtime.nursery.start_soon(StreamTransport(runtime, stream, opened_at).run, attach)


async def _secure(plain: trio.SocketStream, context: ssl.SSLContext, host: str) -> Stream:
    stream = trio.SSLStream(plain, context, server_hostname=host, https_compatible=False)
    try:
        await stream.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise error.__cause__ or OSError("the TLS handshake failed") from error
        raise
    return stream

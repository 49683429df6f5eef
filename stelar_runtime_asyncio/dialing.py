"""Connections to a server on asyncio."""

from __future__ import annotations

import asyncio
import ssl

from stelar_proto.channel import Endpoint
from stelar_proto.channel.network import Network

from .transport import AsyncioRuntime, EndpointProtocol


async def dial(
    runtime: AsyncioRuntime,
    endpoint: Endpoint,
    host: str,
    port: int,
    *,
    network: Network | None,
    context: ssl.SSLContext | None,
    connect_timeout: float,
    close_timeout: float,
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
        close_timeout: seconds that closing the stream may take later.

    Raises:
        OSError: what went wrong, ``TimeoutError`` and ``ssl.SSLError`` among it.
    """

    if network is not None:
        network.dial(runtime, endpoint, host, port, secure=context is not None)
        return

    def attach(protocol: EndpointProtocol) -> Endpoint:
        endpoint.transport = protocol
        return endpoint

    protocol = EndpointProtocol(runtime, attach, close_timeout=close_timeout)
    try:
        async with asyncio.timeout(connect_timeout):
            await asyncio.get_running_loop().create_connection(
                lambda: protocol,
                host,
                port,
                ssl=context,
                ssl_shutdown_timeout=None if context is None else close_timeout,
            )
    except BaseException as error:
        # What has begun by now is closed by the loop; by uvloop without a word to its protocol.
        protocol.connection_lost(None)
        if isinstance(error, TimeoutError) and error.errno is None:  # else the system gave up in front of us
            raise TimeoutError(f"no connection within {connect_timeout:g} s") from error
        raise

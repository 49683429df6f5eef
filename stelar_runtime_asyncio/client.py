"""``StelarClient`` on asyncio: dialling, and the order of connecting and disconnecting."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from stelar_proto.channel import Endpoint
from stelar_proto.client import ClientApplication
from stelar_proto.client.link import Link

from .tls import client_context
from .transport import AsyncioRuntime, EndpointProtocol


class StelarClient(ClientApplication):
    """One connection to a server.

    ::

        async with StelarClient("localhost:3000") as client:  # or tcp://localhost:3001
            client.on("chat", print)
            client.join_room("general")
            user = await client.request("getUser", {"id": 1})

    Arguments:
        url: ``ws://``, ``wss://``, ``http(s)://``, ``tcp://host:port``, ``tcps://``, ``host:port`` or a port.
        tls: an ``ssl.SSLContext``, or True for TLS where the URL does not ask for it.
        options: see :class:`~stelar_proto.client.ClientConfig`.

    Raises:
        ValueError: the URL or an option makes no sense.
    """

    def __init__(self, url: str | int, *, tls: ssl.SSLContext | bool | None = None, **options: Any) -> None:
        super().__init__(url, secure=bool(tls), **options)
        self._tls = tls

    def _make_runtime(self) -> AsyncioRuntime:
        return AsyncioRuntime(self.handle_deadlines)

    async def _dial(self, link: Link) -> None:
        runtime, target = self.runtime, self.target
        assert isinstance(runtime, AsyncioRuntime)
        context = None
        if target.secure:
            context = client_context(
                self._tls, reject_unauthorized=self.config.reject_unauthorized, logger=self.logger
            )

        def attach(protocol: EndpointProtocol) -> Endpoint:
            link.transport = protocol
            return link

        timeout = self.config.connect_timeout
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: EndpointProtocol(runtime, attach, close_timeout=self.config.close_timeout),
                    target.host,
                    target.port,
                    ssl=context,
                    ssl_shutdown_timeout=None if context is None else self.config.close_timeout,
                )
        except TimeoutError as error:
            raise TimeoutError(f"no connection within {timeout:g} s") from error

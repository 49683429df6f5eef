"""``StelarClient`` on asyncio."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Unpack

from stelar_proto.channel.network import Network
from stelar_proto.client import ClientApplication, ClientOptions
from stelar_proto.client.link import Link
from stelar_system.tls import ClientTls

from .dialing import dial
from .loop import AsyncioRuntime, finish


class StelarClient(ClientApplication):
    """A client of one server; it connects again by itself.

    ::

        async with StelarClient("localhost:3000") as client:  # or tcp://localhost:3001
            client.on("chat", print)
            client.join_room("general")
            user = await client.request("getUser", {"id": 1})

    Arguments:
        url: ``ws://``, ``wss://``, ``http(s)://``, ``tcp://host:port``, ``tcps://``, ``host:port`` or a port.
        tls: an ``ssl.SSLContext``, or True for TLS where the URL does not ask for it.
        network: what carries the connection in place of a socket, in tests: a ``MemoryNetwork``.
        options: see :class:`~stelar_proto.client.ClientConfig`.

    Raises:
        ValueError: the URL or an option makes no sense.
    """

    def __init__(
        self,
        url: str | int,
        *,
        tls: ssl.SSLContext | bool | None = None,
        network: Network | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(url, tls=tls, **options)
        self.network = network
        self._tls = ClientTls()

    def _make_runtime(self) -> AsyncioRuntime:
        return AsyncioRuntime(self.handle_deadlines)

    async def _dial(self, link: Link) -> None:
        runtime, route, config = self.runtime, link.route, self.config
        assert isinstance(runtime, AsyncioRuntime)
        context = None
        if route.secure:
            context = self._tls.context_for(
                config.tls, reject_unauthorized=config.reject_unauthorized, logger=self.logger
            )
        await dial(
            runtime,
            link,
            route,
            network=self.network,
            context=context,
            close_timeout=config.close_timeout,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await finish(super().__aexit__(kind, error, trace))  # bounded by close_timeout

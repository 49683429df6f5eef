"""``StelarClient`` on asyncio: dialling, and the order of connecting and disconnecting."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Any, Self

from stelar_proto.client import ClientApplication
from stelar_proto.client.link import Link
from stelar_proto.session import Endpoint

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
        self._loop_runtime: AsyncioRuntime | None = None

    async def connect(self) -> None:
        """Connect; return when messages can be sent.

        Raises:
            ConnectError: it was refused, or took longer than ``connect_timeout``; ``__cause__`` says more.
            StateError: there is a connection already.
        """
        self._demand_no_link()
        if self._loop_runtime is None:
            self._loop_runtime = AsyncioRuntime(self.handle_deadlines)
        try:
            await self._open(self._loop_runtime)
        except BaseException:
            await self._close_runtime()
            raise

    async def _dial(self, link: Link) -> None:
        runtime, target = self._loop_runtime, self.target
        assert runtime is not None
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

    async def disconnect(self) -> None:
        """End the connection: what was sent leaves first. Handlers that still run are cancelled.

        Does nothing when there is no connection.
        """
        await super().disconnect()
        await self._close_runtime()

    async def _close_runtime(self) -> None:
        runtime, self._loop_runtime = self._loop_runtime, None
        if runtime is not None:
            await runtime.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

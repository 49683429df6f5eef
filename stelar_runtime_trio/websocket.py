"""Plain WebSocket on trio: ``serve_websocket`` and ``connect_websocket``."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Unpack

import trio

from stelar_proto.channel import Runtime
from stelar_proto.channel.network import Network
from stelar_proto.plain import (
    ConnectedEndpoint,
    ConnectionHandler,
    ConnectOptions,
    PlainServer,
    ServedEndpoint,
    ServeOptions,
    WebSocketConnector,
)
from stelar_system.tls import TlsOption, client_context

from .dialing import dial
from .listening import Listening
from .loop import TrioRuntime


class WebSocketServer(Listening[ServedEndpoint], PlainServer):
    """What :func:`serve_websocket` returns."""


class Connector(WebSocketConnector):
    """What :func:`connect_websocket` returns."""

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext | None,
        network: Network | None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        super().__init__(url, **options)
        self.network = network
        self._tls = tls

    def _make_runtime(self) -> TrioRuntime:
        return TrioRuntime(self.handle_deadlines)

    async def _dial(self, runtime: Runtime, endpoint: ConnectedEndpoint) -> None:
        assert isinstance(runtime, TrioRuntime)
        route = endpoint.route
        await dial(
            runtime,
            endpoint,
            route,
            network=self.network,
            context=client_context(self._tls, logger=self.logger) if route.secure else None,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # bounded by close_timeout
            await super().__aexit__(kind, error, trace)


def serve_websocket(
    handler: ConnectionHandler,
    host: str | None = None,
    port: int | None = None,
    *,
    tls: TlsOption = None,
    network: Network | None = None,
    **options: Unpack[ServeOptions],
) -> WebSocketServer:
    """Return a WebSocket server, and nothing else; ``async with`` starts and stops it.

    ::

        async def echo(ws):
            async for message in ws:  # str or bytes
                await ws.send(message)

        async with serve_websocket(echo, port=8765) as server:
            ...  # serves meanwhile

        trio.run(serve_websocket(echo, port=8765).serve_forever)

    Arguments:
        handler: called with each :class:`WebSocketConnection`; when it returns, the connection is closed.
        host, port: where to listen, 127.0.0.1 and 8765 by default; port 0 picks a free one, which
            ``get_port()`` tells. Options in their place are ``unix_path`` and ``sock``.
        tls: an ``ssl.SSLContext``, or the paths of a certificate chain and its key (PEM).
        network: what carries connections in place of sockets, in tests: a ``MemoryNetwork``.
        options: see :class:`~stelar_proto.plain.ServeConfig`: ``subprotocols``, ``origins``,
            ``process_request``, ``max_size``, ``compression`` …

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        OSError: the certificate cannot be read.
    """
    return WebSocketServer(handler, host, port, tls=tls, network=network, **options)


def connect_websocket(
    url: str,
    *,
    tls: ssl.SSLContext | None = None,
    network: Network | None = None,
    **options: Unpack[ConnectOptions],
) -> Connector:
    """Connect to a WebSocket server for as long as an ``async with`` lasts.

    ::

        async with connect_websocket("ws://localhost:8765") as ws:
            await ws.send("hola")
            print(await ws.recv())

    Entering raises :class:`ConnectError` when there is no connection; leaving closes it in good order.

    Arguments:
        url: ``ws://`` or ``wss://``, a host, and optionally user and password, port, path and query.
        tls: for ``wss://``; by default certificate and host name are verified with the system's authorities.
        network: what carries the connection in place of a socket, in tests: a ``MemoryNetwork``.
        options: see :class:`~stelar_proto.plain.ConnectConfig`: ``headers``, ``subprotocols``,
            ``max_size``, ``compression`` …

    Raises:
        ValueError: the URL or an option makes no sense.
    """
    return Connector(url, tls, network, **options)

"""``StelarServer`` on asyncio."""

from __future__ import annotations

from typing import Unpack

from stelar_proto.channel.network import Network
from stelar_proto.server import Peer, ServerApplication, ServerOptions
from stelar_system.tls import TlsOption

from .listening import Listening


class StelarServer(Listening[Peer], ServerApplication):
    """Rooms, broadcasts and handlers for WebSocket clients on one port and TCP clients on another.

    ::

        server = StelarServer(port=3000, tcp_port=3001)

        @server.on("chat")
        def chat(ctx):
            ctx.broadcast("chat", ctx.data)

        asyncio.run(server.serve_forever())

    Arguments:
        tls: an ``ssl.SSLContext``, or the paths of a certificate chain and its key (PEM), for both ports.
        network: what carries connections in place of sockets, in tests: a ``MemoryNetwork``.
        options: see :class:`~stelar_proto.server.ServerConfig`.

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        OSError: the certificate cannot be read.
    """

    def __init__(
        self, *, tls: TlsOption = None, network: Network | None = None, **options: Unpack[ServerOptions]
    ) -> None:
        super().__init__(tls=tls, network=network, **options)

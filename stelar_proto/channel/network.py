"""What may carry connections in place of sockets: servers and clients are handed one as ``network=``.

:class:`stelar_proto.testing.MemoryNetwork` is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .endpoint import Endpoint
from .runtime import Runtime, Transport


class Listener(Protocol):
    """A port that is listened on."""

    @property
    def port(self) -> int:
        """Which one it is."""
        ...

    def close(self) -> None:
        """Have no more connections come in; those that have come stay."""
        ...


class Network(Protocol):
    """Ports to listen on and to connect to, and streams between them."""

    def listen(
        self,
        runtime: Runtime,
        attach: Callable[[Transport], Endpoint],
        host: str,
        port: int,
        *,
        secure: bool,
    ) -> Listener:
        """Have connections come in.

        Arguments:
            runtime: the loop of the server; :meth:`Runtime.close` ends its connections.
            attach: called with the transport of each, returns what that is to drive.
            host: where to listen.
            port: the port, 0 for any that is free.
            secure: whether TLS is to be spoken.

        Raises:
            OSError: the port is in use.
        """
        ...

    def dial(self, runtime: Runtime, endpoint: Endpoint, host: str, port: int, *, secure: bool) -> None:
        """Connect, and have the stream drive ``endpoint``.

        Arguments:
            runtime: the loop of the client; :meth:`Runtime.close` ends the connection.
            endpoint: the client's side of the conversation.
            host, port: where to connect to.
            secure: whether TLS is to be spoken.

        Raises:
            OSError: there is no connection to be had.
        """
        ...

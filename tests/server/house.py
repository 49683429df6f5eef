"""What the server's tests are written in: one server, virtual time, and clients that speak in bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.support.memory import RawStream, VirtualNetwork, VirtualServer
from tests.support.virtual import VirtualLoop, VirtualTask
from tests.support.wires import CLIENTS, Heard, RawClient

T = TypeVar("T")


class House:
    """A loop, and the server that :meth:`serve` started."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.network = VirtualNetwork(self.loop)
        self.server: VirtualServer

    def serve(self, **options: Any) -> VirtualServer:
        """Start the server; its clients are called c1, c2 … unless an option says otherwise."""
        self.server = VirtualServer(self.network, **{"generate_client_id": numbered("c"), **options})
        self.server.start_now()
        return self.server

    def connect(self, wire: str, path: str = "/") -> RawClient:
        """Connect a client and let it be taken in, over WebSocket at ``path``."""
        return CLIENTS[wire](self.server.connect(wire)).open(path)

    def stream(self, wire: str) -> RawStream:
        """A connection over which nothing has been said."""
        return self.server.connect(wire)

    def leave(self, client: RawClient) -> None:
        """Have ``client`` leave in good order, and end its stream."""
        client.stream.send(client.bye())
        if client.kind == "ws":
            client.stream.end()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> VirtualTask[T]:
        """Run ``coroutine`` as far as it goes without the clock."""
        task = self.loop.start(coroutine)
        self.loop.run_until_idle()
        return task

    def close(self) -> None:
        self.loop.close()


def numbered(prefix: str) -> Callable[[], str]:
    """A generator of ids."""
    count = 0

    def generate() -> str:
        nonlocal count
        count += 1
        return f"{prefix}{count}"

    return generate


def raised(records: list[logging.LogRecord]) -> list[BaseException | None]:
    """What was logged with a traceback."""
    return [record.exc_info[1] for record in records if record.exc_info]


def heard_by(*clients: RawClient) -> list[list[Heard]]:
    return [client.heard() for client in clients]

"""What the conformance tests are written in: a server and clients of the runtime under test, raw streams."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any, TypeAlias

import anyio
from anyio.abc import ByteStream, SocketAttribute

import stelar_runtime_asyncio
import stelar_runtime_trio
from stelar_proto.testing import MemoryNetwork
from stelar_proto.ws.handshake import accept_key
from tests.conformance.streams import MemoryByteStream

Server: TypeAlias = stelar_runtime_asyncio.StelarServer | stelar_runtime_trio.StelarServer
Client: TypeAlias = stelar_runtime_asyncio.StelarClient | stelar_runtime_trio.StelarClient
AnyServer: TypeAlias = Any
"""One of those, or of plain WebSocket."""

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

PATIENCE = 15.0
"""Seconds until a test that waits for something has failed."""


class World:
    """The runtime under test."""

    def __init__(self, backend: str, network: MemoryNetwork | None) -> None:
        self.package = import_module(f"stelar_runtime_{backend}")
        self.backend = backend
        self.network = network
        """What carries connections; None for sockets."""

    def server(self, **options: Any) -> Server:
        """A server, not started, on ports of its own choice, for clients as fast as tests are."""
        defaults = {"port": 0, "tcp_port": 0, "rate_limit": None, "network": self.network}
        server: Server = self.package.StelarServer(**{**defaults, **options})
        return server

    def client(self, server: Server, wire: str, **options: Any) -> Client:
        """A client of ``server``, not connected."""
        assert server.network is self.network, "tests make their servers with world.server()"
        return self.client_of(url_of(server, wire, secure="tls" in options), **options)

    def client_of(self, url: str, **options: Any) -> Client:
        """A client of whatever listens at ``url``; it stays alone when its connection ends, unless told."""
        defaults = {"network": self.network, "reconnection": False}
        client: Client = self.package.StelarClient(url, **{**defaults, **options})
        return client

    def serve_websocket(self, handler: Any, **options: Any) -> Any:
        """A plain WebSocket server, not started, on a port of its own choice."""
        return self.package.serve_websocket(handler, **{"port": 0, "network": self.network, **options})

    def connect_websocket(self, url: str, **options: Any) -> Any:
        """A plain WebSocket client of whatever listens at ``url``, not connected."""
        return self.package.connect_websocket(url, **{"network": self.network, **options})

    @asynccontextmanager
    async def raw_server(self, serve: Callable[[ByteStream], Awaitable[object]]) -> AsyncIterator[int]:
        """Have ``serve`` called with a bare stream to whoever connects; yields the port."""
        network = self.network

        async def serve_and_close(stream: ByteStream) -> None:
            async with stream:
                await serve(stream)

        async with AsyncExitStack() as stack:
            if network is None:
                listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
                await stack.enter_async_context(listener)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            if network is None:
                tasks.start_soon(listener.serve, serve_and_close)
                port = listener.extra(SocketAttribute.local_port)
            else:
                listener_in_memory = network.listen_by_hand(
                    0, lambda stream: tasks.start_soon(serve_and_close, MemoryByteStream(stream))
                )
                port = listener_in_memory.port
            yield port
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def conversation(
        self, *wires: str, server: Server | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Run a server, and connect a client over each of ``wires``; yields the server and the clients."""
        async with AsyncExitStack() as stack:
            stack.enter_context(anyio.fail_after(PATIENCE))
            if server is None:
                server = self.server(**options)
            await stack.enter_async_context(server)
            clients = [await stack.enter_async_context(self.client(server, wire)) for wire in wires]
            yield server, *clients


def url_of(server: Server, wire: str, *, secure: bool = False) -> str:
    """Where ``server`` is reached over ``wire``."""
    port = server.get_port() if wire == "ws" else server.get_tcp_port()
    return f"{wire}{'s' if secure else ''}://localhost:{port}"


@asynccontextmanager
async def raw_connection(server: AnyServer, wire: str = "ws") -> AsyncIterator[ByteStream]:
    """A bare connection to the port of ``wire``."""
    port = server.get_tcp_port() if wire == "tcp" else server.get_port()
    if isinstance(server.network, MemoryNetwork):
        async with MemoryByteStream(server.network.open_stream(port)) as memory_stream:
            yield memory_stream
    else:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            yield stream


async def read_to_end(stream: ByteStream) -> bytes:
    """Everything the other side sends until it ends the stream, or resets it."""
    received = bytearray()
    try:
        async for chunk in stream:
            received += chunk
    except anyio.BrokenResourceError:
        pass
    return bytes(received)


async def read_head(stream: ByteStream) -> bytes:
    """An HTTP head, and nothing behind it."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive(1)
    return bytes(head)


async def read_exactly(stream: ByteStream, size: int) -> bytes:
    """The next ``size`` bytes."""
    received = bytearray()
    while len(received) < size:
        received += await stream.receive(size - len(received))
    return bytes(received)


async def welcome(stream: ByteStream, wire: str) -> None:
    """Take the client at the other end of ``stream`` in."""
    if wire == "tcp":
        await stream.send(b"\0\0\0\x0f\6\0\7connectx")
        return
    key = (await read_head(stream)).partition(b"Sec-WebSocket-Key: ")[2][:24].decode()
    await stream.send(SWITCH + b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n")


class Inbox:
    """What handlers were called with, in order; ``await next()`` waits for the next call."""

    def __init__(self) -> None:
        self._calls: deque[Any] = deque()
        self._called: anyio.Event | None = None

    def __call__(self, *arguments: Any) -> None:
        self._calls.append(arguments[0] if len(arguments) == 1 else arguments)
        if self._called is not None:
            self._called.set()

    async def next(self) -> Any:
        """The next call's argument, or its arguments if it had several or none."""
        while not self._calls:
            self._called = anyio.Event()
            await self._called.wait()
        return self._calls.popleft()

    async def take(self, count: int) -> list[Any]:
        """The next ``count`` of them."""
        return [await self.next() for _ in range(count)]

    @property
    def waiting(self) -> int:
        """How many calls were not taken."""
        return len(self._calls)


def inbox_of(client: Client, event: str) -> Inbox:
    """An inbox that gets ``event``."""
    inbox = Inbox()
    client.on(event, inbox)
    return inbox

"""The examples that embed a codec as servers and clients, on loopback ports of the system's choice."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from socketserver import ThreadingTCPServer
from typing import Any

import trio
import websockets.sync.server

from stelar_proto import ws

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 20.0
"""Seconds that nothing here takes."""


def load(name: str) -> Any:
    """An example, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


asyncio_streams, trio_streams, sync_socket, tcp_frames = (
    load(f"embed_{name}") for name in ("asyncio_streams", "trio", "sync_socket", "tcp_frames")
)


def read_all(stream: socket.socket) -> bytes:
    """Everything that comes until the stream ends, as a stream does."""
    stream.settimeout(PATIENCE)
    return b"".join(iter(lambda: stream.recv(65536), b""))


def read_exactly(stream: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes; fewer if the stream ends first."""
    data = b""
    while len(data) < size and (chunk := stream.recv(size - len(data))):
        data += chunk
    return data


def raw(port: int) -> socket.socket:
    """A connection without a protocol."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


# --- Servers ---


class _Server(ThreadingTCPServer):
    request_queue_size = 128  # who comes when the queue is full is kept waiting for a second


@contextmanager
def serving_threads(serve: Callable[..., object]) -> Iterator[int]:
    """Call ``serve(stream, …)`` in a thread for each connection; yields the port."""
    with _Server(("127.0.0.1", 0), serve) as server:  # type: ignore[arg-type]  # any callable
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@contextmanager
def serving_asyncio() -> Iterator[int]:
    started: Queue[tuple[int, Callable[[], object]]] = Queue()

    async def main() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        async with await asyncio.start_server(asyncio_streams.converse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            started.put((port, lambda: loop.call_soon_threadsafe(stopped.set)))
            await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    port, stop = started.get(timeout=PATIENCE)
    try:
        yield port
    finally:
        stop()
        thread.join(PATIENCE)


@contextmanager
def serving_trio() -> Iterator[int]:
    started: Queue[tuple[int, Callable[[], object]]] = Queue()

    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:
            port = listeners[0].socket.getsockname()[1]
            started.put((port, lambda: token.run_sync_soon(scope.cancel)))
            await trio.serve_listeners(trio_streams.converse, listeners)

    thread = threading.Thread(target=lambda: trio.run(main))
    thread.start()
    port, stop = started.get(timeout=PATIENCE)
    try:
        yield port
    finally:
        stop()
        thread.join(PATIENCE)


@contextmanager
def serving_websockets(handler: Callable[[Any], None], **options: Any) -> Iterator[int]:
    """A server of the other library; yields its port."""
    with websockets.sync.server.serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


# --- Clients ---


def asking_asyncio(port: int, client: ws.Connection) -> None:
    async def main() -> None:
        await asyncio_streams.converse(*await asyncio.open_connection("127.0.0.1", port), client)

    asyncio.run(main())


def asking_trio(port: int, client: ws.Connection) -> None:
    async def main() -> None:
        await trio_streams.converse(await trio.open_tcp_stream("127.0.0.1", port), client)

    trio.run(main)


def asking_sync(port: int, client: ws.Connection) -> None:
    sync_socket.converse(socket.create_connection(("127.0.0.1", port)), client)

"""What ``client.py`` measures: processes in which a server and its clients share an event loop.

The servers are those of ``server_peers.py``. The clients send an event with data and get it back; what is not
ours makes the JSON and parses it with the standard module, as its server does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from processes import Announce, Server, be_a_server
from server_peers import (
    ECHO,
    stelar_on_asyncio,
    stelar_on_trio,
    websockets_on_asyncio,
    websockets_on_trio,
)

CONNECTIONS = 20
DATA = {"text": "hola a todos", "from": "ana", "at": 1700000000}

Clients: TypeAlias = Callable[[int, AsyncExitStack], Awaitable[list[Any]]]
"""Open so many as are wanted, on a port; each has ``talk(outstanding, until, latencies)``."""

_make_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


# --- Clients ----------------------------------------------------------------------------------------------


class StelarTalker:
    """One of ours: a handler, and plain calls."""

    def __init__(self, client: Any, make_event: Callable[[], Any]) -> None:
        self._client = client
        self._make_event = make_event
        client.on(ECHO, self._echoed)

    async def talk(self, outstanding: int, until: float, latencies: list[float]) -> None:
        self._outstanding, self._until, self._latencies = outstanding, until, latencies
        self._done = self._make_event()
        self._send()
        await self._done.wait()

    def _send(self) -> None:
        self._began_at, self._left = perf_counter(), self._outstanding
        for _ in range(self._outstanding):
            self._client.emit(ECHO, DATA)

    def _echoed(self, data: Any) -> None:
        check(data)
        self._left -= 1
        if not self._left:
            now = perf_counter()
            self._latencies.append(now - self._began_at)
            if now < self._until:
                self._send()
            else:
                self._done.set()


class WebSocketTalker:
    """One of websockets, whose connection is the same on every loop: send, and receive."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def talk(self, outstanding: int, until: float, latencies: list[float]) -> None:
        ws, now = self._connection, perf_counter()
        while now < until:
            began_at = now
            for _ in range(outstanding):
                await ws.send(_make_json({"event": ECHO, "data": DATA}))
            for _ in range(outstanding):
                check(json.loads(await ws.recv())["data"])
            now = perf_counter()
            latencies.append(now - began_at)


def check(data: Any) -> None:
    if data != DATA:
        sys.exit(f"what came back is not what was sent: {data!r}")


async def stelar_clients(runtime: str, scheme: str, port: int, stack: AsyncExitStack) -> list[Any]:
    if runtime == "asyncio":
        from stelar_runtime_asyncio import StelarClient

        make_event: Callable[[], Any] = asyncio.Event
    else:
        from trio import Event

        from stelar_runtime_trio import StelarClient  # type: ignore[assignment]

        make_event = Event
    clients = [StelarClient(f"{scheme}://127.0.0.1:{port}") for _ in range(CONNECTIONS)]
    return [StelarTalker(await stack.enter_async_context(client), make_event) for client in clients]


async def websockets_clients(runtime: str, port: int, stack: AsyncExitStack) -> list[Any]:
    if runtime == "asyncio":
        from websockets.asyncio.client import connect
    else:
        from websockets.trio.client import connect  # type: ignore[assignment]
    url = f"ws://127.0.0.1:{port}"
    connections = [connect(url, compression=None) for _ in range(CONNECTIONS)]
    return [WebSocketTalker(await stack.enter_async_context(connection)) for connection in connections]


# --- Turns: a line says how, a line tells how long the exchanges took ---------------------------------------


async def on_asyncio(serve: Server, connect: Clients, announce: Announce) -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(port.set_result))

    async def take_turns(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            outstanding, seconds = json.loads(line)
            latencies: list[float] = []
            until = perf_counter() + seconds
            await asyncio.gather(*(talker.talk(outstanding, until, latencies) for talker in talkers))
            writer.write(json.dumps(latencies).encode() + b"\n")
        writer.close()

    async with AsyncExitStack() as stack:
        talkers = await connect(await port, stack)
        control = await asyncio.start_server(take_turns, "127.0.0.1", 0)
        announce(control.sockets[0].getsockname()[1])
        await serving


async def on_trio(serve: Server, connect: Clients, announce: Announce) -> None:
    import trio

    ports, ports_of = trio.open_memory_channel[int](1)

    async def take_turns(stream: trio.SocketStream) -> None:
        async for line in stream:  # one at a time, so that each comes whole
            outstanding, seconds = json.loads(line)
            latencies: list[float] = []
            until = perf_counter() + seconds
            async with trio.open_nursery() as nursery:
                for talker in talkers:
                    nursery.start_soon(talker.talk, outstanding, until, latencies)
            await stream.send_all(json.dumps(latencies).encode() + b"\n")

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nursery.start_soon(serve, ports.send_nowait)
        talkers = await connect(await ports_of.receive(), stack)
        listeners = await nursery.start(partial(trio.serve_tcp, take_turns, 0, host="127.0.0.1"))
        announce(listeners[0].socket.getsockname()[1])
        await trio.sleep_forever()


# --- The process ------------------------------------------------------------------------------------------

ON_ASYNCIO: dict[str, Server] = {
    "stelar": partial(on_asyncio, stelar_on_asyncio, partial(stelar_clients, "asyncio", "ws")),
    "stelar-tcp": partial(
        on_asyncio, partial(stelar_on_asyncio, on_tcp=True), partial(stelar_clients, "asyncio", "tcp")
    ),
    "websockets": partial(on_asyncio, websockets_on_asyncio, partial(websockets_clients, "asyncio")),
}
ON_TRIO: dict[str, Server] = {
    "stelar": partial(on_trio, stelar_on_trio, partial(stelar_clients, "trio", "ws")),
    "stelar-tcp": partial(
        on_trio, partial(stelar_on_trio, on_tcp=True), partial(stelar_clients, "trio", "tcp")
    ),
    "websockets": partial(on_trio, websockets_on_trio, partial(websockets_clients, "trio")),
}
PAIRS: dict[str, dict[str, Server]] = {"uvloop": ON_ASYNCIO, "asyncio": ON_ASYNCIO, "trio": ON_TRIO}
"""What can be measured, by loop and by library; ours comes first."""

if __name__ == "__main__":
    logging.disable()
    be_a_server(PAIRS)

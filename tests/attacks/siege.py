"""What an attack is told in: a server, those who use it honestly meanwhile, and streams for the attacker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ByteStream

from tests.conformance.world import (
    PATIENCE,
    Client,
    Inbox,
    Server,
    World,
    raw_connection,
    read_exactly,
    read_head,
)
from tests.support.wires import CLIENTS, UPGRADE, RawClient

DAY = 24 * 3600.0


class Siege:
    """A server under attack, and an honest client on each wire."""

    def __init__(self, server: Server, honest: list[Client]) -> None:
        self.server = server
        self.honest = honest
        self.ends = Inbox()
        """How clients left: ``(code, reason)`` of each."""
        server.on_disconnect(lambda ctx: self.ends((ctx.data["code"], ctx.data["reason"])))

    @property
    def now(self) -> float:
        """The time of the server's loop, seconds."""
        return self.server.runtime.now()

    async def honest_are_served(self) -> None:
        """Each honest client asks, and is answered."""
        for client in self.honest:
            assert await client.request("echo", "still") == "still"

    async def all_others_have_gone(self) -> None:
        """Wait until nothing is left of any connection but those of the honest."""
        while len(self.server._peers) > len(self.honest):  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0 if self.server.network is None else 0.5)

    async def only_the_honest_are_left(self) -> None:
        """Whoever attacked has left every table, and the others have not noticed."""
        await self.honest_are_served()
        assert set(self.server.get_clients()) == {client.get_id() for client in self.honest}


@asynccontextmanager
async def besieged(world: World, **options: Any) -> AsyncIterator[Siege]:
    """Run a server with an honest client on each wire, who are served to the last."""
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(PATIENCE if world.network is None else DAY))
        server = world.server(**options)
        await stack.enter_async_context(server)
        server.on_ack("echo", lambda ctx: ctx.data)
        honest = [world.client(server, wire) for wire in ("ws", "tcp")]
        for client in honest:
            await stack.enter_async_context(client)
        siege = Siege(server, honest)
        yield siege
        await siege.honest_are_served()


@asynccontextmanager
async def intruder(siege: Siege, wire: str) -> AsyncIterator[ByteStream]:
    """A client by hand that was let in, and has read what it was greeted with."""
    async with raw_connection(siege.server, wire) as stream:
        if wire == "ws":
            await stream.send(UPGRADE)
            await read_head(stream)
        await read_frame(stream, wire)  # its id
        yield stream


async def read_frame(stream: ByteStream, wire: str) -> bytes:
    """The payload of the next frame of the server; over TCP everything behind the length."""
    if wire == "tcp":
        return await read_exactly(stream, int.from_bytes(await read_exactly(stream, 4)) - 4)
    size = (await read_exactly(stream, 2))[1]
    if size >= 126:
        size = int.from_bytes(await read_exactly(stream, {126: 2, 127: 8}[size]))
    return await read_exactly(stream, size)


def speaker(wire: str) -> RawClient:
    """Who makes the bytes of messages by hand."""
    return CLIENTS[wire](None)  # type: ignore[arg-type]  # it has nobody to say them to


def closed_with(wire: str, received: bytes, code: int, words: bytes) -> bool:
    """Tell whether the last thing in ``received`` is an end for that reason; TCP has the words alone."""
    if wire == "tcp":
        size = (7 + 5 + len(words)).to_bytes(4)
        return received.endswith(size + b"\x0a\0\5error" + words)
    return received.endswith(bytes((0x88, 2 + len(words))) + code.to_bytes(2) + words)

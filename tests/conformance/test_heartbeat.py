"""Who is alive and who is not: peers that vanish, peers that read slowly, and loops that stand still."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from tests.conformance.test_plain import raw_client, serve
from tests.conformance.world import PATIENCE, World, raw_connection
from tests.support.wires import UPGRADE, frame, masked, to_json

pytestmark = [pytest.mark.anyio, pytest.mark.feature("heartbeat_interval", "heartbeat_timeout")]

MIB = 1024 * 1024


@pytest.fixture(params=["ws", "tcp", "plain"])
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def until(is_true: Callable[[], object]) -> None:
    """Return when it is so; nothing tells."""
    while not is_true():  # noqa: ASYNC110
        await anyio.sleep(0.005)


class Scene:
    """A server whose handlers never return, of either layer, and one client by hand that was let in."""

    def __init__(self, world: World, layer: str, **options: Any) -> None:
        self.layer = layer
        self.server: Any
        if layer == "plain":
            self.server = serve(world, self.wait, inbox_limit=1, **options)
        else:
            self.server = world.server(inbox_limit=1, **options)
            self.server.on("chat", self.wait)
        self.offset = 0.0

    async def wait(self, _: object) -> None:
        await anyio.sleep_forever()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ByteStream]:
        if self.layer == "plain":
            async with raw_client(self.server) as stream:
                yield stream
        else:
            async with raw_connection(self.server, self.layer) as stream:
                if self.layer == "ws":
                    await stream.send(UPGRADE)
                await stream.receive(4096)
                yield stream

    @property
    def peer(self) -> Any:
        [peer] = self.server._peers
        return peer

    def messages(self, count: int) -> bytes:
        if self.layer == "plain":
            return masked(1, b"hola") * count
        if self.layer == "ws":
            return masked(1, to_json({"event": "chat", "data": 1})) * count
        return frame(0, "chat", b"1") * count

    def send(self, size: int) -> None:
        """Send the client one large message."""
        if self.layer == "plain":
            self.peer.session.outbox.append(self.peer.session.encode(bytes(size)))
            self.peer.flush_soon()
        else:
            self.server.broadcast_binary("file", bytes(size))

    def inject_clock(self) -> None:
        """Have the server's clock go as :meth:`pass_time` tells it."""
        runtime = self.server.runtime
        started_at = runtime.now()
        runtime.now = lambda: started_at + self.offset

    def pass_time(self, seconds: float, *, step: float = 0.25) -> None:
        """Let time pass, ``step`` by ``step``; one that is long is a loop that stood still."""
        for _ in range(round(seconds / step)):
            self.offset += step
            if self.server._peers:
                self.server.handle_deadlines()


@pytest.mark.parametrize("how", [pytest.param("reset", marks=pytest.mark.sockets), "closed"])
async def test_a_client_that_vanishes_while_it_is_not_read_is_noticed(
    world: World, layer: str, how: str
) -> None:
    scene = Scene(world, layer, heartbeat_interval=0.02)
    with anyio.fail_after(PATIENCE):
        async with scene.server:
            async with scene.client() as stream:
                await stream.send(scene.messages(5))
                await until(lambda: scene.peer.paused)
                if how == "reset":
                    raw = stream.extra(SocketAttribute.raw_socket)
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if layer == "plain":  # whose handler, which still runs, may ask how it ended
                await scene.peer.connection.wait_closed()
                assert scene.peer.connection.close_code == 1006
            else:
                await until(lambda: not scene.server._peers)
                assert scene.server.get_clients() == []
            scene.server.cut_all()


async def test_a_loop_that_stands_still_costs_no_client_its_connection(world: World, layer: str) -> None:
    scene = Scene(world, layer, heartbeat_interval=10, heartbeat_timeout=20)
    with anyio.fail_after(PATIENCE):
        async with scene.server:
            scene.inject_clock()
            async with scene.client() as stream:
                scene.pass_time(12)
                assert await stream.receive() != b""  # it was asked, and does not answer
                scene.pass_time(60, step=60)
                scene.pass_time(17)
                scene.pass_time(600, step=600)
                scene.send(1)
                assert await stream.receive() != b""
                scene.pass_time(21)  # now it had its time
                await until(lambda: not scene.server._peers or scene.peer.session.state.value == "closed")
            scene.server.cut_all()


async def test_a_client_that_reads_slowly_is_alive_and_one_that_stops_is_not(
    world: World, layer: str
) -> None:
    scene = Scene(world, layer, heartbeat_interval=10, heartbeat_timeout=20, outbox_limit=64 * MIB)
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(PATIENCE))
        await stack.enter_async_context(scene.server)
        scene.inject_clock()
        stream = await stack.enter_async_context(scene.client())
        for _ in range(4):
            scene.send(9 * MIB)  # each is one frame
        transport = scene.peer.transport
        await until(lambda: transport.unsent_size)
        scene.pass_time(11)
        for _ in range(5):
            unsent = transport.unsent_size
            while transport.unsent_size == unsent:
                with anyio.move_on_after(0.01):
                    await stream.receive(64 * 1024)
            scene.pass_time(9)
            assert scene.peer.session.state.value == "open"
        assert transport.unsent_size > 0
        scene.pass_time(25)
        assert not scene.server._peers or scene.peer.session.state.value == "closed"
        scene.server.cut_all()

"""A thousand clients in one process, over sockets and both wires, whose server is cut off and comes back."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from stelar_proto.channel import Closed
from stelar_proto.errors import ConnectError
from tests.conformance.world import PATIENCE, Client, Inbox, Server, World

pytestmark = [pytest.mark.anyio, pytest.mark.sockets]

CROWD = 1000
FILES = 2 * CROWD + 200  # both ends of each connection are here
DELAY = 0.4
"""Seconds that the first attempt waits at most; half of it is left to chance."""
TICK = 0.01
"""Seconds; more than any loop's clock is coarse by."""
VAIN = 100
"""So many attempts find nobody; then the server is back."""


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"a process may open {hard} files here, and this takes {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """The clients; when each was to try again since its connection ended, and when it did."""

    def __init__(self, world: World, server: Server) -> None:
        self.joined, self.vain = Inbox(), Inbox()
        self.broken = 0
        self.due: dict[Client, float] = {}
        self.waits: list[float] = []  # before the first attempt of each
        self.late: list[float] = []  # by how much, each attempt
        crowd = self

        class Watched(world.package.StelarClient):  # type: ignore[misc, name-defined]  # of either runtime
            async def _dial(self, link: Any) -> None:
                crowd.dialed(self)
                await super()._dial(link)

        ports = [("ws", server.get_port()), ("tcp", server.get_tcp_port())]
        self.clients: list[Client] = [
            self.prepare(Watched, number, f"{wire}://127.0.0.1:{port}")
            for number in range(CROWD // 2)
            for wire, port in ports
        ]

    def prepare(self, make_client: Any, number: int, url: str) -> Client:
        def note(attempt: int, delay: float) -> None:
            self.due[client] = anyio.current_time() + delay
            if attempt == 1:
                self.waits.append(delay)

        client: Client = make_client(
            url,
            reconnection_attempts=None,
            reconnection_delay=DELAY,
            connect_timeout=PATIENCE,
            hooks={"on_reconnect_delay": note},
        )
        client.join_room(f"room {number}")  # one of each wire meets there
        client.on("joined-room", self.joined)
        client.on("error", self.failed)
        return client

    def failed(self, error: Exception) -> None:
        if isinstance(error, ConnectError):
            self.vain(error)
        else:
            self.broken += 1

    def dialed(self, client: Client) -> None:
        if client in self.due:
            self.late.append(anyio.current_time() - self.due[client])

    async def for_each(self, method: str) -> None:
        async with anyio.create_task_group() as tasks:
            for client in self.clients:
                tasks.start_soon(getattr(client, method))


async def cut_off(server: Server) -> None:
    """End the server without a word to anybody."""
    for peer in tuple(server._peers):
        peer.abort(Closed(1006, "", None))
    await server.stop()


def check_members(server: Server) -> None:
    """Everybody is there, once, and in its room."""
    assert len(server.get_clients()) == CROWD == server.get_stats().total_connections
    rooms = server.get_rooms()
    assert len(rooms) == CROWD // 2
    assert all(len(server.get_room_members(room)) == 2 for room in rooms)


@pytest.mark.feature("client: reconnection", "client: reconnection_delay", "client: join_room")
async def test_a_crowd_comes_back_to_a_restarted_server_spread_out_and_each_once(
    world: World, many_files: None
) -> None:
    options: dict[str, Any] = {"max_connections_per_ip": CROWD}
    with anyio.fail_after(4 * PATIENCE):
        server = world.server(**options)
        await server.start()
        ports = {"port": server.get_port(), "tcp_port": server.get_tcp_port()}
        crowd = Crowd(world, server)
        await crowd.for_each("connect")
        await crowd.joined.take(CROWD)
        check_members(server)
        await cut_off(server)
        errors = await crowd.vain.take(VAIN)
        async with world.server(**ports, **options) as restarted:
            await crowd.joined.take(CROWD)
            check_members(restarted)  # and nobody else has been there
            errors += await crowd.vain.take(crowd.vain.waiting)
            await crowd.for_each("disconnect")
    assert crowd.broken == CROWD
    assert len(crowd.late) == CROWD + len(errors)  # who found the server tried no more
    # Nobody dialed before it was due, so the attempts are spread at least as far as the waits: evenly.
    assert min(crowd.late) > -TICK
    assert len(crowd.waits) == CROWD
    assert all(DELAY / 2 <= wait <= DELAY for wait in crowd.waits)
    tenths = Counter(int((wait / DELAY - 0.5) * 20) for wait in crowd.waits)
    assert max(tenths.values()) < CROWD / 10 * 1.6

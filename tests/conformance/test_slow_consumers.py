"""Clients that do not read: what they cost, what they get, and that nobody else notices."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.errors import MessageError
from tests.conformance.world import (
    PATIENCE,
    Inbox,
    Server,
    World,
    inbox_of,
    raw_connection,
    read_exactly,
    read_to_end,
)
from tests.support.wires import UPGRADE, frame, masked, to_json

pytestmark = [pytest.mark.anyio, pytest.mark.feature("slow_consumer", "outbox_limit")]

KIB = 1024
LIMIT = 256 * KIB
SIZE = 16 * KIB
COUNT = 512
"""Of messages: more than the system holds for a client that does not read, and its outbox."""


class Scene:
    """A server, a healthy client on each wire, and one by hand that does not read."""

    def __init__(self, server: Server, healthy: list[Inbox], slow: ByteStream, slow_id: str) -> None:
        self.server = server
        self.slow = slow
        self.slow_id = slow_id
        peer = server.hub.get(slow_id)
        assert peer is not None
        self.session = peer.session
        self._healthy = healthy

    async def flood(self) -> None:
        """Send everybody so much that who does not read falls behind, and no faster than the others read."""
        for number in range(COUNT):
            self.server.broadcast("chunk", f"<{number}>" + "x" * SIZE)
            assert self.session.outbox.size <= LIMIT
            if number % 8 == 7:
                for inbox in self._healthy:
                    messages = await inbox.take(8)
                    assert [number_of(message) for message in messages] == list(range(number - 7, number + 1))

    def warnings(self, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
        """What was reported of the slow client."""
        records = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert {record.__dict__["client_id"] for record in records} <= {self.slow_id}
        return records


@asynccontextmanager
async def scene_of(world: World, wire: str, **options: Any) -> AsyncIterator[Scene]:
    ids: list[str] = []
    server = world.server(outbox_limit=LIMIT, heartbeat_interval=None, **options)
    server.on_connection(lambda ctx: ids.append(ctx.id))
    server.on_ack("how", lambda ctx: "fine")
    async with world.conversation("ws", "tcp", server=server) as (_, *clients):
        healthy = [inbox_of(client, "chunk") for client in clients]
        async with raw_connection(server, wire) as slow:
            if wire == "ws":
                await slow.send(UPGRADE)
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += await slow.receive(1)
            await read_frame(slow, wire)  # its id
            yield Scene(server, healthy, slow, ids[-1])


async def read_frame(stream: ByteStream, wire: str) -> bytes:
    """The payload of the next frame that the server sent."""
    if wire == "tcp":
        size = int.from_bytes(await read_exactly(stream, 4), "big") - 4
    else:
        size = (await read_exactly(stream, 2))[1]
        if size >= 126:
            size = int.from_bytes(await read_exactly(stream, {126: 2, 127: 8}[size]), "big")
    return await read_exactly(stream, size)


def number_of(message: str | bytes) -> int:
    text = message if isinstance(message, str) else message.decode("latin-1")
    return int(text.partition("<")[2].partition(">")[0])


def request(wire: str) -> bytes:
    if wire == "ws":
        return masked(1, to_json({"event": "how", "data": 0, "_ackName": "how"}))
    return frame(4, "how", to_json({"event": "how", "data": 0}))


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_a_client_that_does_not_read_misses_events_and_nothing_else(
    world: World, wire: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene_of(world, wire, slow_consumer=policy) as scene:
        await scene.flood()
        dropped = scene.session.messages_dropped
        assert dropped == scene.server.get_stats().dropped_messages > 0
        await scene.slow.send(request(wire))
        numbers = []
        while b"fine" not in (message := await read_frame(scene.slow, wire)):
            numbers.append(number_of(message))
        assert numbers == sorted(set(numbers))
        assert COUNT - len(numbers) == scene.session.messages_dropped
        assert (numbers[-1] == COUNT - 1) is (policy == "drop_oldest")
        if policy == "drop_oldest" and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # What is old is what its system holds; ours has not been filled with what could be dropped.
            old = [number for place, number in enumerate(numbers) if number == place]
            assert len(old) * SIZE <= 2 * LIMIT  # and not megabytes
        [record] = scene.warnings(caplog)  # one, however many were dropped
        assert record.getMessage() == f"messages for {scene.slow_id} are dropped: the peer does not read"
        assert record.__dict__["slow_consumer"] == policy
        assert scene.server.to_id(scene.slow_id, "chunk", "<0>")
        assert number_of(await read_frame(scene.slow, wire)) == 0


async def test_a_client_that_does_not_read_is_closed_unless_it_is_said_otherwise(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene_of(world, wire) as scene:
        await scene.flood()
        assert scene.slow_id not in scene.server.get_clients()
        assert len(scene.server.get_clients()) == 2
        assert scene.server.get_stats().dropped_messages == scene.session.messages_dropped > 0
        [record] = scene.warnings(caplog)
        assert f"does not read: more than {LIMIT} bytes wait for it" in record.getMessage()
        assert len(await read_to_end(scene.slow)) < COUNT * SIZE  # and then it is cut


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "drop_newest"])
async def test_a_message_larger_than_an_outbox_costs_nobody_the_connection(
    world: World, wire: str, policy: str
) -> None:
    large = "x" * 2000
    with anyio.fail_after(PATIENCE):
        async with (
            world.server(outbox_limit=1024, slow_consumer=policy) as server,
            world.client(server, wire, outbox_limit=1024) as client,
        ):
            news = inbox_of(client, "news")
            with pytest.raises(MessageError, match="larger than outbox_limit, 1024") as caught:
                client.emit("chat", large)
            assert caught.value.code == "PAYLOAD_TOO_LARGE"
            assert server.broadcast("news", large) == 0
            assert server.broadcast("news", "small") == 1
            assert await news.next() == "small"
            assert server.get_stats().dropped_messages == 1

"""Calls of a client that are cancelled at each of their checkpoints: nothing hangs, nothing is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
import trio

from tests.conformance.world import PATIENCE, Client, Server, World
from tests.support.cancelling import Steps

pytestmark = pytest.mark.anyio

Call: TypeAlias = Callable[[Client, Path | None], Coroutine[Any, Any, None]]

LARGE = bytes(300_000)
"""More than a socket takes at once."""


async def connect(client: Client, path: Path | None) -> None:
    await client.connect()


async def live(client: Client, path: Path | None) -> None:
    async with client:
        client.join_room("hall")
        client.emit("n", 1)
        assert await client.request("double", 2) == 4


async def drain(client: Client, path: Path | None) -> None:
    client.join_room("hall")
    for _ in range(3):
        client.emit_binary("b", LARGE)
        await client.drain()


async def request(client: Client, path: Path | None) -> None:
    for number in range(3):
        client.emit("n", number)
        assert await client.request("double", number) == 2 * number


async def send_file(client: Client, path: Path | None) -> None:
    assert path is not None
    await client.send_file(path)


async def iterate(client: Client, path: Path | None) -> None:
    seen = 0
    messages = client.messages()
    client.emit("echo", 1)
    async for _ in messages:
        client.emit("echo", 2)
        seen += 1
        if seen == 3:
            break


async def disconnect(client: Client, path: Path | None) -> None:
    client.emit_binary("b", LARGE)
    await client.disconnect()


OFFLINE = (connect, live)
ONLINE = (drain, request, iterate, disconnect)

MOST_CHECKPOINTS = 200


def living() -> int:
    """How many tasks there are."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return trio.lowlevel.current_statistics().tasks_living


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


async def run_once(
    world: World, server: Server, wire: str, call: Call, steps: Steps, path: Path | None
) -> None:
    """Cancel ``call`` in its time; the client must be of use behind that, or of use once connected."""
    client = world.client(server, wire)
    if call not in OFFLINE:
        await client.connect()
    run = steps.on_asyncio if world.backend == "asyncio" else steps.on_trio
    await run(lambda: call(client, path))
    if not client.is_connected():
        assert client.get_state() == "disconnected"
        await client.connect()
    assert await client.request("double", 21) == 42
    client.emit_binary("b", LARGE)
    await client.disconnect()
    await client.wait_closed()


async def cancel_everywhere(world: World, wire: str, call: Call, path: Path | None = None) -> None:
    """Run ``call`` once for each of its checkpoints, and in each manner that the loop has of cancelling."""
    async with world.conversation() as (server,):
        server.on_ack("double", lambda ctx: ctx.data * 2)
        server.on("echo", lambda ctx: ctx.emit("echo", ctx.data))
        await run_once(world, server, wire, call, Steps(0), path)
        tasks, files = living(), open_files()
        for late in (False, True) if world.backend == "asyncio" else (False,):
            for at in range(1, MOST_CHECKPOINTS):
                steps = Steps(at, late=late)
                with anyio.fail_after(PATIENCE):
                    await run_once(world, server, wire, call, steps, path)
                    while server.get_clients() or living() > tasks or open_files() > files:
                        await anyio.lowlevel.checkpoint()
                if steps.taken < at:
                    break
            assert 1 < at < MOST_CHECKPOINTS - 1


@pytest.mark.feature("client: connect", "client: disconnect", "client: request", "client: drain",
                     "client: async with client")  # fmt: skip
@pytest.mark.parametrize("call", OFFLINE + ONLINE, ids=lambda call: str(call.__name__))
async def test_a_call_that_is_cancelled_at_any_checkpoint_leaves_a_client_of_use(
    world: World, wire: str, call: Call
) -> None:
    await cancel_everywhere(world, wire, call)


@pytest.mark.sockets  # virtual time does not stand still while a thread reads
@pytest.mark.feature("client: send_file")
async def test_a_file_whose_sending_is_cancelled_at_any_checkpoint_is_closed(
    world: World, wire: str, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    await cancel_everywhere(world, wire, send_file, path)

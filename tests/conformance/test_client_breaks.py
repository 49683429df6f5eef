"""A client whose connection breaks at any byte of a conversation, over loopback, in either manner."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from itertools import cycle, product
from typing import Any

import anyio
import pytest

from stelar_proto.errors import AckTimeout, ConnectionLost, StateError
from tests.conformance.grounds import SOCKETS, Ground
from tests.conformance.world import PATIENCE, Client, Inbox, Server, World, url_of
from tests.support.cutting import MANNERS, WAYS, CuttingProxy

pytestmark = [pytest.mark.anyio, pytest.mark.sockets]

IS_EXHAUSTIVE = bool(os.environ.get("STELAR_EXHAUSTIVE"))
"""Whether every loop is cut at every byte in both manners, as ``make fuzz`` has it. Else the loops share the
bytes and the manners take turns; in virtual time, every byte has its turn in tests/client/test_breaks.py."""


class Conversation:
    """One server that all conversations of a test are with, and the proxy in between."""

    def __init__(self, server: Server, proxy: CuttingProxy, url: str, world: World) -> None:
        self.server, self.proxy, self.url, self.world = server, proxy, url, world
        self.heard: dict[str, list[int]] = defaultdict(list)  # by connection
        self.rooms: list[str] = []
        server.on("n", lambda ctx: self.heard[ctx.id].append(ctx.data))
        server.on_ack("double", self.double)

    def double(self, ctx: Any) -> int:
        self.rooms = sorted(ctx.client_info.rooms)
        number: int = ctx.data * 2
        return number

    async def hold(self) -> tuple[list[Any], list[int], Client]:
        """Have it; return how requests ended, what was emitted without a connection, and the client."""
        self.heard.clear()
        answers: list[Any] = []
        kept: list[int] = []
        client = self.world.client_of(
            self.url,
            reconnection=True,
            retry_first_connect=True,
            custom_reconnect_delay=lambda attempt, base, maximum: 0.0,
        )
        connects = Inbox()
        client.on("connect", lambda: connects("connect"))
        client.emit("n", 0)
        client.join_room("hall")
        await client.connect()
        for number in (1, 2):
            if not client.is_connected():
                kept.append(number)
            client.emit("n", number)
            answers.append(await outcome(client.request("double", number)))
        client.emit_binary("picture", bytes(8))
        await client.drain()
        while (last := await outcome(client.request("double", 21))) != 42:
            answers.append(last)
            while not client.is_connected():
                await connects.next()
        return answers, kept, client


async def outcome(request: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await request
    except (ConnectionLost, StateError, AckTimeout) as error:
        return type(error)


async def check(talk: Conversation, way: str, after: int, how: str) -> None:
    """Have a conversation that is cut there, and see that it came to a good end."""
    talk.proxy.cut_next(way, after, how)
    answers, kept, client = await talk.hold()
    assert talk.proxy.is_cut
    assert talk.proxy.dials == 2
    assert client.is_connected()
    assert talk.rooms == ["hall"]
    assert all(answer in (2 * n, ConnectionLost, StateError) for n, answer in enumerate(answers[:2], 1))
    assert len(answers) <= 3  # one cut costs the last question one attempt at most
    parts = list(talk.heard.values())
    assert all(part == sorted(part) for part in parts)
    heard = [number for part in parts for number in part]
    assert len(set(heard)) == len(heard)
    assert set(kept) <= set(heard)  # what waited for a connection came over the next
    assert client.get_queue_size() == 0
    if (
        how == "fin"
    ):  # the proxy has read all that left, so that what is missing was on its way or is reported
        missing = {0, 1, 2} - set(heard)
        assert len(missing - set(numbers_in(talk.proxy.said[WAYS[0]]))) <= client.get_messages_dropped()
    await client.disconnect()


def numbers_in(said: bytes) -> Iterator[int]:
    """What the messages ``n`` say among those that a client has sent, the last one in part."""
    if said.startswith(b"GET"):
        said = said.partition(b"\r\n\r\n")[2]
        while len(said) > 6:
            size, mask, said = said[1] & 127, said[2:6], said[6:]
            text = bytes(byte ^ mask[place % 4] for place, byte in enumerate(said[:size]))
            if text.startswith(b'{"event":"n"'):
                yield json.loads(text)["data"]
            said = said[size:]
    while len(said) >= 7:
        size = int.from_bytes(said[:4])
        if said[5:8] == b"\0\1n":
            yield int(said[8:size])
        said = said[size:]


def places(size: int, ground: Ground) -> list[tuple[int, str]]:
    """After how many bytes of so many to cut, and how."""
    if IS_EXHAUSTIVE:
        return list(product(range(size), MANNERS))
    mine = range(SOCKETS.index(ground), size, len(SOCKETS))
    return list(zip(mine, cycle(MANNERS)))


@pytest.mark.feature("client: reconnection", "client: request", "client: message_queue_size")
@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_that_breaks_at_any_byte_is_replaced_and_nothing_hangs(
    world: World, ground: Ground, wire: str, way: str
) -> None:
    async with AsyncExitStack() as stack:
        server = world.server(max_connections_per_ip=1000)
        await stack.enter_async_context(server)
        proxy = CuttingProxy(int(url_of(server, wire).rpartition(":")[2]))
        port = await stack.enter_async_context(proxy.serve())
        talk = Conversation(server, proxy, f"{wire}://127.0.0.1:{port}", world)
        proxy.cut_next(None)
        answers, kept, client = await talk.hold()
        assert (answers, kept, proxy.dials) == ([2, 4], [], 1)
        assert list(numbers_in(proxy.said[WAYS[0]])) == [0, 1, 2]
        size = len(proxy.said[way])
        await client.disconnect()
        for after, how in places(size, ground):
            with anyio.fail_after(PATIENCE):
                await check(talk, way, after, how)

"""Those who take their time: nobody waits for them longer than it was said, and nobody else waits at all.

All of it in virtual time, so that the limits are the ones that servers really have: their defaults. What is
in ``test_slow_sockets`` is the same over sockets, with limits of a moment.
"""

from __future__ import annotations

import tracemalloc
from contextlib import AsyncExitStack
from itertools import cycle

import anyio
import pytest
from anyio.abc import ByteStream

from tests.attacks.siege import besieged, closed_with, intruder, speaker
from tests.conformance.grounds import MEMORY
from tests.conformance.world import World, raw_connection, read_exactly, read_to_end
from tests.support.wires import UPGRADE, frame

pytestmark = pytest.mark.anyio

GROUNDS = tuple(place for place in MEMORY if place.chunk_size is None)

MIB = 1024 * 1024


async def drip(stream: ByteStream, data: bytes) -> int:
    """Send a byte a second for as long as it is taken; return how many were."""
    for index in range(len(data)):
        try:
            await stream.send(data[index : index + 1])
            with anyio.move_on_after(1):
                await stream.receive()  # it would be our end
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return index + 1
    return len(data)


async def test_a_handshake_of_a_byte_a_second_ends_at_the_connect_deadline(world: World) -> None:
    """Costs one connection for ``connect_timeout``, 10 s, and the bytes of it; an INFO line tells."""
    async with besieged(world) as siege, raw_connection(siege.server) as stream:
        began_at = siege.now
        assert await drip(stream, UPGRADE[:-2] + b"X: " + b"x" * 1000) <= 11
        assert siege.now - began_at <= 11
        await siege.only_the_honest_are_left()


async def test_a_websocket_connection_that_says_nothing_ends_at_the_connect_deadline(world: World) -> None:
    """Costs one connection for ``connect_timeout``, 10 s; an INFO line tells."""
    async with besieged(world) as siege, raw_connection(siege.server) as stream:
        began_at = siege.now
        assert await read_to_end(stream) == b""
        assert siege.now - began_at == pytest.approx(10)


async def test_a_peer_that_never_answers_a_ping_is_gone_after_90_seconds(world: World, wire: str) -> None:
    """Costs a client's place for ``heartbeat_interval + heartbeat_timeout``; hooks and an INFO line tell."""
    async with besieged(world) as siege, intruder(siege, wire) as deaf:
        began_at = siege.now
        assert await siege.ends.next() == (1011, "Heartbeat timeout")
        assert siege.now - began_at == pytest.approx(90)
        await read_to_end(deaf)
        await siege.only_the_honest_are_left()


async def test_a_tcp_connection_that_says_nothing_is_a_client_like_any_other(world: World) -> None:
    """Over TCP nothing has to be said: the silent one is asked after 30 s, and gone after 90."""
    async with besieged(world) as siege, raw_connection(siege.server, "tcp") as silent:
        began_at = siege.now
        received = await read_to_end(silent)
        assert received.endswith(frame(2, "", b""))  # a Ping, and nothing behind it
        assert siege.now - began_at == pytest.approx(90)


async def test_a_close_that_is_never_answered_is_over_after_the_close_timeout(
    world: World, wire: str
) -> None:
    """Costs a socket for ``close_timeout``, 5 s; the client's place is free at once over TCP."""
    async with besieged(world) as siege, intruder(siege, wire) as deaf:
        [client_id] = set(siege.server.get_clients()) - {client.get_id() for client in siege.honest}
        began_at = siege.now
        assert siege.server.disconnect(client_id, 1008, "go")
        received = await read_to_end(deaf)  # which does not end its side
        assert closed_with(wire, received, 1008, b"go")
        await siege.all_others_have_gone()
        assert siege.now - began_at <= 5.5
        await siege.only_the_honest_are_left()


@pytest.mark.parametrize("said", [0, 1, 40])
async def test_a_half_open_peer_is_answered_and_gone_at_once(world: World, wire: str, said: int) -> None:
    """Who has ended its side, wherever in a message, can still read; it costs nothing but that."""
    async with besieged(world) as siege, intruder(siege, wire) as half_open:
        began_at = siege.now
        await half_open.send(speaker(wire).event("chat", "x" * 100)[:said])
        await half_open.send_eof()
        await read_to_end(half_open)
        assert (await siege.ends.next())[0] == (1000 if wire == "tcp" and not said else 1006)
        assert siege.now == began_at
        await siege.only_the_honest_are_left()


async def test_a_fragment_every_second_for_ever_ends_at_the_limit_of_a_message(world: World) -> None:
    """A message may take as long as it likes: it costs what has come of it, up to ``max_payload_size``."""
    async with besieged(world, max_payload_size=3000) as siege, intruder(siege, "ws") as slow:
        began_at = siege.now
        opcode, close = 1, b""
        while not close:
            await slow.send(bytes((opcode, 0x8A)) + b"\0\0\0\0" + b"x" * 10)
            opcode = 0
            with anyio.move_on_after(1):
                close = await slow.receive()
        assert 299 <= siege.now - began_at <= 301
        assert close[2:4] == (1009).to_bytes(2)
        await siege.only_the_honest_are_left()


async def test_a_message_of_a_byte_a_second_costs_the_bytes_that_came_not_those_announced(
    world: World, wire: str
) -> None:
    """40 connections announce 10 MiB each: 400 MiB that are not reserved; each is alive as long as it drips.

    Holds down 40 of the 50 connections of an address, and a few KiB each.
    """
    start = b"\x82\xff" + (9 * MIB).to_bytes(8) + b"\0\0\0\0"
    if wire == "tcp":
        start = (9 * MIB).to_bytes(4) + b"\1\0\3big"
    async with besieged(world) as siege, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(intruder(siege, wire)) for _ in range(40)]
        tracemalloc.start()
        for stream in streams:
            await stream.send(start + b"x" * 1000)
        for _ in range(20):
            for stream in streams:
                await stream.send(b"x")
            await anyio.sleep(10)
            await siege.honest_are_served()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size < MIB
        assert len(siege.server.get_clients()) == 42


async def test_bytes_that_are_no_messages_keep_a_client_alive_and_cost_nothing_else(world: World) -> None:
    """An empty pong every 20 s: any byte is a sign of life. It costs one of the 50 places of an address."""
    async with besieged(world) as siege, intruder(siege, "ws") as idle:
        for _ in range(100):
            await idle.send(b"\x8a\x80\0\0\0\0")
            await anyio.sleep(20)
        assert len(siege.server.get_clients()) == 3
        siege.server.broadcast("news", 1)
        assert await read_exactly(idle, 2) == b"\x81\x19"


async def test_pings_whose_answers_are_not_read_end_at_the_outbox(world: World, wire: str) -> None:
    """Costs ``outbox_limit``, then the connection; a WARNING tells."""
    async with besieged(world, outbox_limit=64 * 1024) as siege, intruder(siege, wire) as deaf:
        ping = frame(2, "", b"") if wire == "tcp" else b"\x89\xfd\0\0\0\0" + b"x" * 125
        async with anyio.create_task_group() as tasks:

            async def flood() -> None:
                for _ in range(1000):
                    await deaf.send(ping * 200)
                    await anyio.lowlevel.checkpoint()

            tasks.start_soon(flood)
            await siege.honest_are_served()
            assert (await siege.ends.next())[0] == 1006
            tasks.cancel_scope.cancel()
        await siege.only_the_honest_are_left()
        assert siege.server.get_stats().dropped_messages == 0  # pongs are none


async def test_a_wall_clock_that_jumps_changes_no_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years forward and back at every look at it: only ``connected_at`` shows the time of day."""
    times = cycle([0.0, 2e9, -1e9, 1e9])
    monkeypatch.setattr("time.time", lambda: next(times))
    async with besieged(world) as siege, intruder(siege, "ws") as silent:
        began_at = siege.now
        for _ in range(8):
            await anyio.sleep(10)
            await siege.honest_are_served()
            assert len(siege.server.get_clients()) == 3
        assert (await siege.ends.next()) == (1011, "Heartbeat timeout")
        assert siege.now - began_at == pytest.approx(90)
        await silent.aclose()

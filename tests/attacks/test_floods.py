"""Attacks by number: what is asked for too often is refused, cut or dropped, and counted."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.server import RateLimit
from tests.attacks.siege import besieged, closed_with, intruder, read_frame, speaker
from tests.conformance.world import Inbox, World, raw_connection, read_exactly, read_to_end
from tests.support.wires import UPGRADE, frame, masked, to_json

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024
LIMITED = RateLimit(max_points=100, window=60)  # nothing is refilled while a test runs
WORDS = b"Rate limit exceeded"


async def send_all(stream: ByteStream, data: bytes) -> None:
    """Send, for as long as it is taken."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(data)


def ping(wire: str) -> bytes:
    return frame(2, "", b"") if wire == "tcp" else b"\x89\x80\0\0\0\0"


async def test_pings_are_answered_as_fast_as_they_are_read(world: World, wire: str) -> None:
    """Signs of life count for no limit: 20 000 cost the time to answer them, in turns with everybody else."""
    count = 20_000
    async with besieged(world) as siege, intruder(siege, wire) as stream:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_all, stream, ping(wire) * count)
            await siege.honest_are_served()
            pong = frame(3, "", b"") if wire == "tcp" else b"\x8a\0"
            assert await read_exactly(stream, len(pong) * count) == pong * count
        assert len(siege.server.get_clients()) == 3


def floods(wire: str) -> dict[str, bytes]:
    """What counts for ``rate_limit``, one message each."""
    hand = speaker(wire)
    answer = {"event": "nobody", "data": 1, "_isAck": True, "_correlationId": "x"}
    error = {"code": "X", "message": "x"}
    wrapped = {**answer, "_error": error}
    return {
        "events": hand.event("chat", 1),
        "bytes": hand.binary("chat", b"1"),
        "requests": hand.request("ack", "nothing", 1),
        "answers": frame(5, "nobody", b"1") if wire == "tcp" else masked(1, to_json(answer)),
        "errors": frame(10, "nobody", to_json(error)) if wire == "tcp" else masked(1, to_json(wrapped)),
        "joins": hand.room("join", "room"),
        "leaves": hand.room("leave", "room"),
        "broken": frame(0, "chat", b"{") if wire == "tcp" else masked(1, b"{"),
        "hellos": frame(6, "connect", b"me") if wire == "tcp" else hand.event("stelar:connect", {"id": "me"}),
    }


@pytest.mark.parametrize("what", floods("ws"))
async def test_a_flood_of_anything_that_is_handled_ends_at_the_rate_limit(
    world: World, wire: str, what: str
) -> None:
    """Costs 100 messages a second (the default), then the connection: 1008; log, hook and counter tell."""
    told = Inbox()
    hooks = {"on_rate_limit_exceeded": lambda limit, **_: told(limit)}
    async with besieged(world, rate_limit=LIMITED, hooks=hooks) as siege, intruder(siege, wire) as stream:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_all, stream, floods(wire)[what] * 5000)
            await siege.honest_are_served()
            assert await told.next() == LIMITED
            received = b""
            while not closed_with(wire, received, 1008, WORDS):
                received += await stream.receive()
            tasks.cancel_scope.cancel()
        stats = siege.server.get_stats()
        assert stats.rate_limited_messages >= 1
        assert told.waiting == 0
        assert len(received) < 40_000


async def test_joins_over_the_limits_of_rooms_are_refused_one_by_one(world: World) -> None:
    """20 000 rooms: half of them fit ``max_rooms``. A room costs 1 KiB until its last member has gone."""
    told: list[int] = []
    silent = logging.getLogger("silent")
    silent.disabled = True  # a WARNING for each
    options: dict[str, Any] = {
        "max_rooms": 10_000,
        "max_rooms_per_client": 20_000,
        "hooks": {"on_max_rooms_reached": lambda current, **_: told.append(current)},
        "logger": silent,
    }
    hand = speaker("tcp")
    async with besieged(world, **options) as siege, intruder(siege, "tcp") as stream:
        async with anyio.create_task_group() as tasks:
            joins = b"".join(hand.room("join", f"room {number}") for number in range(20_000))
            tasks.start_soon(send_all, stream, joins + hand.request("last", "echo", "done"))
            await siege.honest_are_served()
            received = b""
            while b"done" not in received:
                received = received[-4:] + await stream.receive()
        assert len(siege.server.get_rooms()) == siege.server.get_stats().total_rooms == 10_000
        assert told == [10_000] * 10_000
        await siege.honest_are_served()
        await stream.aclose()
        await siege.ends.next()
        assert siege.server.get_rooms() == []


async def test_joins_over_the_limit_of_a_client_are_refused_and_others_may_join(
    world: World, wire: str
) -> None:
    """Joining and leaving for ever costs nothing that stays: a room is gone with its last member."""
    hand = speaker(wire)
    async with besieged(world) as siege, intruder(siege, wire) as stream:
        for number in range(300):
            await stream.send(hand.room("join", f"room {number}") + hand.room("join", f"room {number}"))
        for number in range(40):
            await stream.send(hand.room("leave", f"room {number}"))
        for _ in range(200):
            await stream.send(hand.room("join", "coming") + hand.room("leave", "coming"))
        await stream.send(hand.request("last", "echo", "done"))
        while b"done" not in await read_frame(stream, wire):
            pass
        assert sorted(siege.server.get_rooms()) == sorted(f"room {number}" for number in range(40, 50))


async def test_connections_from_one_address_are_51_at_most(world: World, wire: str) -> None:
    """The 51st costs a refusal: 429, or an Error frame; the log and ``ip_tracker`` tell."""
    words = b"Too many connections from this IP"
    async with besieged(world) as siege, AsyncExitStack() as stack:
        for _ in range(48):
            await stack.enter_async_context(intruder(siege, wire))
        for _ in range(20):
            async with raw_connection(siege.server, wire) as stream:
                if wire == "ws":
                    await send_all(stream, UPGRADE)
                received = await read_to_end(stream)
                assert words in received
        await siege.honest_are_served()


async def test_requests_to_a_handler_that_takes_its_time_wait_at_their_senders(
    world: World, wire: str
) -> None:
    """Costs ``inbox_limit`` messages, 64, and what one read brings; then that client is read no further."""
    hand = speaker(wire)
    async with besieged(world) as siege, intruder(siege, wire) as stream:
        gate, begun = anyio.Event(), anyio.Event()

        @siege.server.on_ack("slow")
        async def slow(ctx: Any) -> None:
            begun.set()
            await gate.wait()

        async with anyio.create_task_group() as tasks:
            question = hand.request("ack", "slow", "x" * 10_000)
            tasks.start_soon(send_all, stream, question * 2000)
            await begun.wait()
            for _ in range(5):
                await siege.honest_are_served()
            [peer] = [peer for peer in siege.server._peers if peer.paused]
            assert len(peer._inbox) < 64 + 1 + 256 * KIB // len(question)
            tasks.cancel_scope.cancel()
            gate.set()

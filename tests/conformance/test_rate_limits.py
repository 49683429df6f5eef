"""How much a client may say, and what becomes of one that says more."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.errors import RemoteError
from stelar_proto.server import RateLimit
from tests.conformance.world import PATIENCE, Inbox, World, inbox_of

pytestmark = pytest.mark.anyio

ENDED = (1008, "Rate limit exceeded")
LONG = 3600.0
"""Seconds in which nothing worth a message is refilled."""


class Limiter:
    """One of the application's own; :meth:`answer` decides."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: dict[str, int] = {}
        self.forgotten = Inbox()

    def check(self, key: str, cost: int = 1) -> Any:
        self.counts[key] = self.counts.get(key, 0) + cost
        return self.counts[key] <= self.limit

    def reset(self, key: str) -> Any:
        self.forgotten(key)

    def cleanup(self) -> Any:
        pass

    def size(self) -> Any:
        return len(self.counts)


class AsyncLimiter(Limiter):
    """The same, which takes its time."""

    async def check(self, key: str, cost: int = 1) -> bool:
        await anyio.lowlevel.checkpoint()
        return bool(super().check(key, cost))

    async def reset(self, key: str) -> None:
        await anyio.lowlevel.checkpoint()
        super().reset(key)


@pytest.mark.feature("rate_limit")
async def test_a_client_over_the_limit_is_told_so_and_disconnected_and_the_others_are_served(
    world: World, wire: str
) -> None:
    async with world.conversation(wire, wire, rate_limit=RateLimit(5, LONG)) as (server, client, other):
        handled = Inbox()
        server.on("chat", lambda ctx: handled(ctx.data))
        server.on_ack("echo", lambda ctx: ctx.data)
        ended = inbox_of(client, "disconnect")
        for number in range(8):
            client.emit("chat", number)
        assert await handled.take(5) == [0, 1, 2, 3, 4]
        assert await ended.next() == ENDED
        assert handled.waiting == 0
        assert await other.request("echo", "still") == "still"
        assert server.get_stats().rate_limited_messages == 3


@pytest.mark.feature("rate_limit")
async def test_a_hundred_messages_a_second_is_the_default(world: World, wire: str) -> None:
    server = world.package.StelarServer(port=0, tcp_port=0, network=world.network)
    assert server.get_config().rate_limit == RateLimit(max_points=100, window=1.0)
    async with world.conversation(wire, server=server) as (_, client):
        handled, ended = Inbox(), inbox_of(client, "disconnect")
        server.on("chat", lambda ctx: handled(ctx.data))
        for number in range(1000):
            client.emit("chat", number)
        assert await handled.take(100) == list(range(100))
        assert await ended.next() == ENDED


@pytest.mark.feature("rate_limit")
async def test_what_is_refilled_may_be_said(world: World, wire: str) -> None:
    async with world.conversation(wire, rate_limit=RateLimit(1, 0.01)) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        for number in range(5):
            assert await client.request("echo", number) == number
            await anyio.sleep(0.011)  # at least as long as the bucket takes
        assert server.get_stats().rate_limited_messages == 0


@pytest.mark.feature("rate_limit")
async def test_none_is_no_limit(world: World, wire: str) -> None:
    async with world.conversation(wire, rate_limit=None) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        for number in range(500):
            client.emit("chat", number)
        assert await client.request("echo", "all") == "all"
        assert server.get_stats().rate_limiter_entries == 0


@pytest.mark.feature("rate_limit", "on_ack")
async def test_a_request_over_the_limit_is_answered_before_its_client_goes(world: World, wire: str) -> None:
    async with world.conversation(wire, rate_limit=RateLimit(1, LONG)) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        ended = inbox_of(client, "disconnect")
        assert await client.request("echo", 1) == 1
        with pytest.raises(RemoteError) as caught:
            await client.request("echo", 2)
        assert (caught.value.code, caught.value.message) == ("RATE_LIMITED", "Rate limit exceeded")
        assert await ended.next() == ENDED


@pytest.mark.feature("event_rate_limits", "set_event_rate_limit", "remove_event_rate_limit")
async def test_an_event_may_have_a_limit_of_its_own_which_is_the_only_one_it_counts_for(
    world: World, wire: str
) -> None:
    limits = {"chat": RateLimit(2, LONG)}
    async with world.conversation(wire, rate_limit=RateLimit(3, LONG), event_rate_limits=limits) as (
        server,
        client,
    ):
        server.on_ack("echo", lambda ctx: ctx.data)
        ended = inbox_of(client, "disconnect")
        client.emit("chat")
        client.emit("chat")
        assert await client.request("echo", 1) == 1
        assert await client.request("echo", 2) == 2
        assert server.remove_event_rate_limit("chat")
        client.emit("chat")
        server.set_event_rate_limit("echo", RateLimit(1, LONG))
        assert await client.request("echo", 3) == 3
        client.emit("chat")
        assert await ended.next() == ENDED


@pytest.mark.feature("event_rate_limits")
async def test_joining_is_limited_under_the_name_of_its_event(world: World, wire: str) -> None:
    async with world.conversation(wire, event_rate_limits={"join-room": RateLimit(2, LONG)}) as (_, client):
        joined, ended = inbox_of(client, "joined-room"), inbox_of(client, "disconnect")
        for room in "abc":
            client.join_room(room)
        assert await joined.take(2) == ["a", "b"]
        assert await ended.next() == ENDED


@pytest.mark.feature("set_client_rate_limit", "remove_client_rate_limit")
async def test_a_client_may_have_a_limit_of_its_own_which_goes_before_all_others(
    world: World, wire: str
) -> None:
    limits = {"chat": RateLimit(1, LONG)}
    async with world.conversation(wire, wire, rate_limit=RateLimit(1, LONG), event_rate_limits=limits) as (
        server,
        client,
        other,
    ):
        ids = server.get_clients()
        assert client.get_id() == ids[0]
        handled, ended = Inbox(), inbox_of(client, "disconnect")
        others_end = inbox_of(other, "disconnect")
        server.on("chat", lambda ctx: handled((ctx.id, ctx.data)))
        assert server.set_client_rate_limit(ids[0], RateLimit(4, LONG))
        for number in range(4):
            client.emit("chat", number)
        assert await handled.take(4) == [(ids[0], number) for number in range(4)]
        other.emit("chat", 0)
        other.emit("chat", 1)
        assert await others_end.next() == ENDED
        assert server.remove_client_rate_limit(ids[0])
        client.emit("chat", "the event's own")
        client.emit("chat", "one too many")
        assert await ended.next() == ENDED
        assert await handled.take(2) == [(ids[1], 0), (ids[0], "the event's own")]
        assert not server.set_client_rate_limit("nobody", RateLimit())


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
@pytest.mark.feature("rate_limiter")
async def test_a_limiter_of_the_applications_own_decides_in_order(
    world: World, wire: str, kind: type[Limiter]
) -> None:
    limiter = kind(50)
    async with world.conversation(wire, wire, rate_limiter=limiter) as (server, client, other):
        handled, ended = Inbox(), inbox_of(client, "disconnect")
        server.on("chat", lambda ctx: handled(ctx.data))
        server.on_ack("echo", lambda ctx: ctx.data)
        for number in range(60):
            client.emit("chat", number)
        assert await handled.take(50) == list(range(50))
        assert await ended.next() == ENDED
        assert await other.request("echo", "still") == "still"
        client_id = next(key for key, count in limiter.counts.items() if count > 1)
        assert await limiter.forgotten.next() == client_id
        assert server.get_stats().rate_limiter_entries == 2
        assert server.get_stats().rate_limited_messages == 10


@pytest.mark.feature("rate_limiter", "rate_limit")
async def test_a_general_limit_goes_before_the_applications_limiter(world: World, wire: str) -> None:
    limiter = Limiter(0)
    async with world.conversation(wire, rate_limiter=limiter, rate_limit=RateLimit()) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        assert await client.request("echo", 1) == 1
        assert limiter.counts == {}


@pytest.mark.feature("rate_limiter")
async def test_a_limiter_that_hangs_holds_up_its_client_only(world: World, wire: str) -> None:
    class Hanging(Limiter):
        async def check(self, key: str, cost: int = 1) -> bool:
            if key == slow.get_id():
                asked.set()
                await gate.wait()
            return True

    asked, gate = anyio.Event(), anyio.Event()
    async with world.conversation(wire, wire, rate_limiter=Hanging(0)) as (server, slow, quick):
        server.on_ack("echo", lambda ctx: ctx.data)
        answers = Inbox()

        async def ask() -> None:
            answers(await slow.request("echo", "at last", timeout=PATIENCE))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await asked.wait()
            assert await quick.request("echo", "at once") == "at once"
            assert answers.waiting == 0
            gate.set()
        assert await answers.next() == "at last"


@pytest.mark.parametrize("how", ["plain", "async"])
@pytest.mark.feature("rate_limiter")
async def test_a_limiter_that_raises_is_logged_and_messages_pass(
    world: World, wire: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Limiter):
        def check(self, key: str, cost: int = 1) -> Any:
            return self.fail() if how == "async" else 1 // 0

        async def fail(self) -> bool:
            raise ZeroDivisionError

    async with world.conversation(wire, rate_limiter=Broken(0)) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        for number in range(3):
            assert await client.request("echo", number) == number
    assert caplog.text.count("rate_limiter.check raised") == 1

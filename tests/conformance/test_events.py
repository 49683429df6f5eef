"""Events from clients to handlers and back, in both forms, in order."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.conformance.world import Inbox, World, inbox_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "data",
    [
        None,
        True,
        0,
        -1,
        2.5,
        "",
        "ñandú ☃ 😀",
        [],
        [1, [2, {"a": None}]],
        {},
        {"_correlationId": "x", "_isAck": True},
    ],
    ids=repr,
)
async def test_an_event_arrives_with_its_data_and_its_answer_returns(
    world: World, wire: str, data: Any
) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("echo", lambda ctx: ctx.emit("echo", ctx.data))
        echoes = inbox_of(client, "echo")
        client.emit("echo", data)
        assert await echoes.next() == data


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\1\2\xff\0\7", bytes(range(256)) * 4096], ids=len)
async def test_a_binary_event_arrives_byte_for_byte(world: World, wire: str, payload: bytes) -> None:
    async with world.conversation(wire) as (server, client):

        @server.on("blob")
        def echo(ctx: Any) -> None:
            assert ctx.is_binary
            ctx.emit_binary("blob", ctx.data)

        blobs = inbox_of(client, "blob")
        client.emit_binary("blob", payload)
        assert await blobs.next() == payload


async def test_events_keep_their_order_whatever_handles_them(world: World, wire: str) -> None:
    handled: list[int] = []

    async with world.conversation(wire) as (server, client):

        @server.on("sync")
        def note(ctx: Any) -> None:
            handled.append(ctx.data)

        @server.on("async")
        async def note_later(ctx: Any) -> None:
            await anyio.lowlevel.checkpoint()
            handled.append(ctx.data)

        for number in range(300):
            client.emit("async" if number % 3 else "sync", number)
        server.on_ack("count", lambda ctx: len(handled))
        assert await client.request("count") == 300
    assert handled == list(range(300))


async def test_a_handler_that_waits_holds_up_its_own_client_only(world: World, wire: str) -> None:
    async with world.conversation(wire, wire) as (server, patient, other):
        gate = anyio.Event()

        @server.on("wait")
        async def wait(ctx: Any) -> None:
            await gate.wait()
            ctx.emit("done")

        server.on("quick", lambda ctx: ctx.emit("done"))
        done, patient_done = inbox_of(other, "done"), inbox_of(patient, "done")
        patient.emit("wait")
        patient.emit("quick")
        other.emit("quick")
        await done.next()
        assert patient_done.waiting == 0
        gate.set()
        await patient_done.take(2)


async def test_a_handler_that_raises_disturbs_nothing(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation(wire) as (server, client):

        @server.on("fail")
        def fail(ctx: Any) -> None:
            raise RuntimeError("sync")

        @server.on("fail")
        async def fail_later(ctx: Any) -> None:
            await anyio.lowlevel.checkpoint()
            raise RuntimeError("async")

        @server.on("fail")
        def answer(ctx: Any) -> None:
            ctx.emit("answer", ctx.data)

        answers = inbox_of(client, "answer")
        client.emit("fail", 1)
        client.emit("fail", 2)
        assert await answers.take(2) == [1, 2]
    raised = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert raised == ["sync", "async", "sync", "async"]


async def test_handlers_for_everything_hear_every_event(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        heard = Inbox()
        server.on_all(lambda ctx: heard((ctx.event, ctx.data, ctx.is_binary)))
        server.on("known", lambda ctx: heard("known first"))
        client.emit("known", 1)
        client.emit("unknown")
        client.emit_binary("raw", b"\1")
        assert await heard.take(4) == [
            "known first",
            ("known", 1, False),
            ("unknown", None, False),
            ("raw", b"\1", True),
        ]


async def test_a_client_hears_events_in_all_its_handlers(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("ask", lambda ctx: [ctx.emit("answer", n) for n in range(3)])
        first, second, once, every = Inbox(), Inbox(), Inbox(), Inbox()
        client.on("answer", first)
        client.on("answer", second)
        client.once("answer", once)
        client.on_all(lambda event, data: every((event, data)))
        client.emit("ask")
        assert await first.take(3) == [0, 1, 2]
        assert await second.take(3) == [0, 1, 2]
        assert once.waiting == 1
        assert await every.take(3) == [("answer", 0), ("answer", 1), ("answer", 2)]


async def test_the_client_knows_the_id_that_the_server_gave_it(world: World, wire: str) -> None:
    async with world.conversation(wire, generate_client_id=lambda: "client-7") as (server, client):
        assert client.get_id() == "client-7"
        assert server.get_clients() == ["client-7"]


async def test_connection_and_disconnect_handlers_frame_a_client(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        log = Inbox()

        @server.on_connection
        def hello(ctx: Any) -> None:
            log(("hello", ctx.id, ctx.transport))
            ctx.join_room("hall")

        server.on_disconnect(lambda ctx: log(("gone", ctx.id, ctx.data, server.get_rooms())))
        client = world.client(server, wire)
        async with client:
            client_id = client.get_id()
            assert await log.next() == ("hello", client_id, wire)
        assert await log.next() == ("gone", client_id, {"code": 1000, "reason": ""}, [])


async def test_what_the_context_knows_of_a_client(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):

        @server.on_ack("who")
        def who(ctx: Any) -> dict[str, Any]:
            ctx.set_metadata("user", "ana")
            info = ctx.client_info
            return {
                "protocol": info.protocol,
                "address": info.remote_address,
                "path": None if ctx.request is None else ctx.request.path,
                "user": ctx.get_metadata("user"),
                "rooms": sorted(info.rooms),
                "received": info.messages_received,
            }

        assert await client.request("who") == {
            "protocol": wire,
            "address": "127.0.0.1",
            "path": "/" if wire == "ws" else None,
            "user": "ana",
            "rooms": [],
            "received": 1,
        }


async def test_a_thousand_messages_both_ways_lose_nothing(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("number", lambda ctx: ctx.emit("number", ctx.data))
        numbers = inbox_of(client, "number")
        for number in range(1000):
            client.emit("number", number)
        assert await numbers.take(1000) == list(range(1000))
        stats = server.get_stats()
        assert (stats.total_messages_received, stats.dropped_messages) == (1000, 0)

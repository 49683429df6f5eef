"""Events from clients to handlers and back, in both forms, in order."""

from __future__ import annotations

import json
import logging
import sys
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.errors import ConnectError, RemoteError
from stelar_proto.server import HttpResponse
from tests.conformance.world import Inbox, World, inbox_of, raw_connection, read_to_end

pytestmark = pytest.mark.anyio


@pytest.mark.feature("on", "ctx.data", "ctx.emit")
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


@pytest.mark.feature("ctx.emit_binary", "ctx.is_binary")
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


@pytest.mark.feature("order")
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


@pytest.mark.feature("order")
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


@pytest.mark.feature("raising handlers", "logs")
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


@pytest.mark.feature("on_all", "ctx.event")
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


@pytest.mark.feature("generate_client_id", "ctx.id")
async def test_the_client_knows_the_id_that_the_server_gave_it(world: World, wire: str) -> None:
    async with world.conversation(wire, generate_client_id=lambda: "client-7") as (server, client):
        assert client.get_id() == "client-7"
        assert server.get_clients() == ["client-7"]


@pytest.mark.feature("on_connection", "on_disconnect", "ctx.id", "ctx.transport")
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


@pytest.mark.feature("ctx.client_info", "ctx.request", "ctx.set_metadata", "ctx.get_metadata")
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


@pytest.mark.feature("nothing is lost", "get_stats")
async def test_a_thousand_messages_both_ways_lose_nothing(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("number", lambda ctx: ctx.emit("number", ctx.data))
        numbers = inbox_of(client, "number")
        for number in range(1000):
            client.emit("number", number)
        assert await numbers.take(1000) == list(range(1000))
        stats = server.get_stats()
        assert (stats.total_messages_received, stats.dropped_messages) == (1000, 0)


@pytest.mark.feature("serializer")
async def test_json_is_said_by_a_serializer_of_the_applications_own(world: World, wire: str) -> None:
    class Decimals:
        """JSON whose numbers are exact."""

        @staticmethod
        def dumps(value: Any) -> str:
            return json.dumps(value, default=str, separators=(",", ":"))

        @staticmethod
        def loads(data: str) -> Any:
            return json.loads(data, parse_float=Decimal)

    async with world.conversation(serializer=Decimals) as (server,):
        heard = Inbox()
        server.on("price", lambda ctx: heard(ctx.data))
        async with world.client(server, wire, serializer=Decimals) as client:
            client.emit("price", 0.1)
            assert await heard.next() == Decimal("0.1")


@pytest.mark.feature("generate_client_id")
async def test_an_id_that_somebody_has_is_given_to_nobody_else(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation(wire, generate_client_id=lambda: "same") as (server, first):
        with pytest.raises(ConnectError, match=r"500|No client id"):
            await world.client(server, wire).connect()
        assert server.get_clients() == ["same"]
        assert first.is_connected()
        assert "same" in caplog.text


@pytest.mark.feature("logger", "logs")
async def test_records_carry_what_they_speak_of(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine = logging.getLogger("mine")
    caplog.set_level(logging.INFO, "mine")
    async with world.conversation(wire, logger=mine) as (server, client):

        @server.on("fail")
        def fail(ctx: Any) -> None:
            raise LookupError("on purpose")

        server.on_ack("sync", lambda ctx: None)
        client_id = client.get_id()
        client.emit("fail")
        await client.request("sync")
    records = [record for record in caplog.records if record.name == "mine"]
    connected, raised, left = (
        [record for record in records if words in record.getMessage()]
        for words in ("connected", "raised", "left")
    )
    for [record] in (connected, raised, left):
        assert vars(record)["client_id"] == client_id
    assert vars(raised[0])["event"] == "fail"
    assert raised[0].exc_info is not None
    assert vars(left[0])["reason"] == ""


@pytest.mark.feature("ctx.drain")
async def test_a_handler_waits_until_its_client_has_read(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        size, count = 64 * 1024, 40

        @server.on("pour")
        async def pour(ctx: Any) -> None:
            for _ in range(count):
                ctx.emit_binary("drop", bytes(size))
                await ctx.drain()
            ctx.emit("poured")

        drops, poured = inbox_of(client, "drop"), inbox_of(client, "poured")
        client.emit("pour")
        await poured.next()
        assert [len(drop) for drop in await drops.take(count)] == [size] * count


@pytest.mark.feature("on_http")
async def test_pages_are_served_beside_the_websocket(world: World) -> None:
    async with world.conversation("ws") as (server, client):

        @server.on_http("/page")
        async def page(request: Any) -> HttpResponse:
            await anyio.lowlevel.checkpoint()
            return HttpResponse.of_text(f"{request.method} for {len(server.get_clients())}")

        async with raw_connection(server, "ws") as stream:
            await stream.send(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nGET for 1")
        assert client.is_connected()


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_handler_that_wants_to_exit_is_one_that_raises(
    world: World, wire: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_: Any) -> None:
        sys.exit("enough")

    async def leave_later(ctx: Any) -> None:
        await anyio.lowlevel.checkpoint()
        leave(ctx)

    async with world.conversation(wire) as (server, client):
        server.on("leave", leave_later if is_async else leave)
        server.on_ack("leave", leave_later if is_async else leave)
        server.on_ack("stay", lambda ctx: "here")
        client.emit("leave")
        with pytest.raises(RemoteError, match="HANDLER_ERROR"):
            await client.request("leave")
        assert await client.request("stay") == "here"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info[0] for record in errors if record.exc_info] == [SystemExit] * 2

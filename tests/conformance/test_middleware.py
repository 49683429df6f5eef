"""Middleware and origins: who is let in, decided in front of the 101 or of the Connect frame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.errors import ConnectError, PeerFailure, UpgradeRefused
from stelar_proto.server import ConnectContext
from tests.conformance.world import (
    PATIENCE,
    Client,
    Inbox,
    Server,
    World,
    raw_connection,
    read_to_end,
    url_of,
)

pytestmark = pytest.mark.anyio

Next = Callable[[], Awaitable[None]]


async def refusal(client: Client) -> tuple[int | None, str]:
    """The status and the words with which ``client`` is refused; TCP has words only."""
    with pytest.raises(ConnectError) as caught:
        await client.connect()
    match caught.value.__cause__:
        case UpgradeRefused(response=response):
            return response.status, response.body.decode().removesuffix("\n")
        case PeerFailure(reason=reason):
            return None, reason
    raise AssertionError(caught.value.__cause__)


def expected(wire: str, status: int, words: str) -> tuple[int | None, str]:
    return (status if wire == "ws" else None), words


@pytest.mark.feature("use", "ctx.set_metadata", "ctx.get_metadata", "ctx.request")
async def test_middleware_runs_in_order_before_a_client_is_taken_in(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        log = Inbox()

        @server.use
        async def first(ctx: ConnectContext, go_on: Next) -> None:
            await anyio.lowlevel.checkpoint()
            ctx.set_metadata("user", ctx.request.query["user"][0] if ctx.request else "service")
            log(("first", server.get_clients()))
            await go_on()
            log(("first again", server.get_clients()))

        @server.use
        def second(ctx: ConnectContext, go_on: Next) -> None:
            log(("second", ctx.get_metadata("user"), ctx.transport))
            go_on()

        @server.use
        def third(ctx: ConnectContext, go_on: Next) -> Awaitable[None]:
            return go_on()

        server.on_connection(lambda ctx: log(("connected", ctx.get_metadata("user"))))
        server.on_ack("who", lambda ctx: ctx.client_info.metadata)
        async with server:
            query = "/?user=ana" if wire == "ws" else ""
            async with world.client_of(url_of(server, wire) + query) as client:
                user = "ana" if wire == "ws" else "service"
                assert await client.request("who") == {"user": user}
                assert await log.take(4) == [
                    ("first", []),
                    ("second", user, wire),
                    ("first again", []),
                    ("connected", user),
                ]


@pytest.mark.feature("ctx.reject", "use")
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_not_calling_next_refuses_and_reject_does_so_with_words(
    world: World, wire: str, is_async: bool
) -> None:
    async with world.conversation() as (server,):
        rejections: list[tuple[int, str] | None] = [None, (401, "who are you?"), (429, "ñ ☃"), (503, "")]

        def plain(ctx: ConnectContext, go_on: Next) -> None:
            rejection = rejections[0]
            if rejection is not None:
                ctx.reject(*rejection)

        async def later(ctx: ConnectContext, go_on: Next) -> None:
            await anyio.lowlevel.checkpoint()
            plain(ctx, go_on)

        server.use(later if is_async else plain)
        server.use(lambda ctx, go_on: pytest.fail("it was refused"))
        while rejections:
            status, words = rejections[0] or (403, "Forbidden")
            assert await refusal(world.client(server, wire)) == expected(wire, status, words)
            rejections.pop(0)
        assert server.get_stats().total_connections == 0


@pytest.mark.feature("use")
async def test_middleware_that_raises_refuses_and_tells_the_log_alone(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation() as (server,):

        @server.use
        async def fails(ctx: ConnectContext, go_on: Next) -> None:
            await go_on()
            raise RuntimeError("secret")

        assert await refusal(world.client(server, wire)) == expected(wire, 500, "Internal server error")
        [record] = [record for record in caplog.records if record.exc_info]
        assert "fails raised" in record.getMessage()


@pytest.mark.feature("use", "namespace")
async def test_each_namespace_has_middleware_of_its_own(world: World) -> None:
    async with world.conversation() as (server,):
        server.of("/open")
        server.of("/closed").use(lambda ctx, go_on: ctx.reject(401, "closed"))
        for path in ("", "/open"):
            async with world.client_of(url_of(server, "ws") + path):
                pass
        assert await refusal(world.client_of(url_of(server, "ws") + "/closed")) == (401, "closed")


@pytest.mark.feature("use", "max_connections")
async def test_a_client_whose_middleware_is_under_way_has_a_place(world: World, wire: str) -> None:
    async with world.conversation(max_connections=1) as (server,):
        entered, opened = anyio.Event(), anyio.Event()

        @server.use
        async def wait(ctx: ConnectContext, go_on: Next) -> None:
            entered.set()
            await opened.wait()
            await go_on()

        first = world.client(server, wire)
        async with anyio.create_task_group() as group:
            group.start_soon(first.connect)
            await entered.wait()
            assert await refusal(world.client(server, wire)) == expected(wire, 503, "Server full")
            opened.set()
        assert server.get_clients() == [first.get_id()]
        await first.disconnect()


@pytest.mark.feature("use")
async def test_a_client_that_goes_meanwhile_stops_its_middleware(world: World, wire: str) -> None:
    async with world.conversation(max_connections=1) as (server,):
        log = Inbox()

        @server.use
        async def hang(ctx: ConnectContext, go_on: Next) -> None:
            log("entered")
            try:
                await anyio.sleep_forever()
            finally:
                log("left")

        for _ in range(2):
            async with raw_connection(server, wire) as stream:
                if wire == "ws":
                    await stream.send(upgrade(server))
                assert await log.next() == "entered"
            assert await log.next() == "left"


@pytest.mark.feature("use", "connect_timeout")
async def test_middleware_that_hangs_has_what_is_left_of_connect_timeout(world: World, wire: str) -> None:
    async with world.conversation(connect_timeout=0.1) as (server,):
        log = Inbox()

        @server.use
        async def hang(ctx: ConnectContext, go_on: Next) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log("left")

        async with raw_connection(server, wire) as stream:
            if wire == "ws":
                await stream.send(upgrade(server))
            assert await read_to_end(stream) == b""
        assert await log.next() == "left"


@pytest.mark.feature("use", "graceful_shutdown")
async def test_a_server_that_stops_meanwhile_says_so(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        entered = anyio.Event()

        @server.use
        async def hang(ctx: ConnectContext, go_on: Next) -> None:
            entered.set()
            await anyio.sleep_forever()

        await server.start()
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await entered.wait()
                await server.stop()

            group.start_soon(stop)
            told = await refusal(world.client(server, wire))
            assert told == expected(wire, 503, "Server shutting down")


@pytest.mark.feature("use")
async def test_what_a_client_says_before_it_is_taken_in_is_handled_behind_its_welcome(world: World) -> None:
    async with world.conversation() as (server,):
        log, entered, opened = Inbox(), anyio.Event(), anyio.Event()

        @server.use
        async def wait(ctx: ConnectContext, go_on: Next) -> None:
            entered.set()
            await opened.wait()
            await go_on()

        server.on_connection(lambda ctx: log("connected"))
        server.on("x", lambda ctx: log(ctx.data))
        async with raw_connection(server, "tcp") as stream:
            await entered.wait()
            await stream.send(b"\0\0\0\7\2\0\0" + b"\0\0\0\x09\0\0\1x7")  # a ping and an event
            opened.set()
            assert await log.take(2) == ["connected", 7]
            assert (await stream.receive(7))[4:5] == b"\6"  # the Connect frame comes first


def upgrade(server: Server) -> bytes:
    fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
    host, key = f"Host: localhost:{server.get_port()}", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return f"GET / HTTP/1.1\r\n{host}\r\n{fields}\r\n{key}\r\n\r\n".encode()


@pytest.mark.feature("allowed_origins")
async def test_pages_of_origins_that_are_not_allowed_are_refused_before_the_upgrade(world: World) -> None:
    async with world.conversation(allowed_origins=["https://app.example", "null"]) as (server,):
        for origin in ("https://app.example", "https://APP.example", "null"):
            async with world.client(server, "ws", headers={"Origin": origin}) as client:
                assert client.is_connected()
        for origin in (
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "",
        ):
            client = world.client(server, "ws", headers={"Origin": origin})
            assert await refusal(client) == (403, "Origin not allowed")


@pytest.mark.feature("allowed_origins")
async def test_whoever_is_no_page_has_no_origin_and_may_come(world: World, wire: str) -> None:
    async with world.conversation(wire, allowed_origins=["https://app.example"]) as (_, client):
        assert client.is_connected()


@pytest.mark.feature("allowed_origins")
async def test_without_allowed_origins_every_page_may_come(world: World) -> None:
    async with world.conversation() as (server,):
        headers: Any = {"Origin": "https://anywhere.example"}
        async with world.client(server, "ws", headers=headers) as client:
            assert client.is_connected()

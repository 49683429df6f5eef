"""Starting, stopping and ending, of servers and clients."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import anyio
import pytest

from stelar_proto.errors import ConnectError, StateError
from tests.conformance.world import (
    PATIENCE,
    Inbox,
    World,
    inbox_of,
    raw_connection,
    read_exactly,
    read_to_end,
    url_of,
)

pytestmark = pytest.mark.anyio


@pytest.mark.feature("start", "stop", "get_port")
async def test_a_server_starts_stops_and_starts_again(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        for _ in range(2):
            port = await server.start()
            assert port == server.get_port()
            async with world.client(server, wire) as client:
                assert client.is_connected()
            await server.stop()
            await server.stop()
            with pytest.raises(StateError, match="start"):
                server.get_port()


@pytest.mark.feature("start")
async def test_starting_twice_is_an_error_that_says_so(world: World) -> None:
    async with world.conversation() as (server,):
        with pytest.raises(StateError, match="running already"):
            await server.start()


@pytest.mark.feature("port", "tcp_port", "host")
async def test_a_port_in_use_is_an_error_that_names_it(world: World) -> None:
    async with world.conversation() as (server,):
        port = server.get_port()
        second = world.server(port=port)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*in use"):
            await second.start()
        third = world.server(tcp_port=port)
        with pytest.raises(OSError, match=rf"{port}"):
            await third.start()
        third = world.server()  # and nothing is left of the attempt
        await third.start()
        await third.stop()


@pytest.mark.feature("stop")
async def test_stopping_tells_every_client(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        async with world.client(server, wire, reconnection=False) as client:
            ended = inbox_of(client, "disconnect")
            await server.stop()
            assert await ended.next() == (1001, "Server shutting down")
            await client.wait_closed()
            assert client.get_state() == "disconnected"


@pytest.mark.feature("stop", "nothing is lost")
async def test_what_was_emitted_before_the_stop_arrives(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        async with world.client(server, wire) as client:
            numbers = inbox_of(client, "number")
            for number in range(500):
                server.broadcast("number", number)
            await server.stop()
            assert await numbers.take(500) == list(range(500))


@pytest.mark.feature("shutdown_timeout")
async def test_stopping_cuts_who_does_not_go_and_cancels_handlers_that_do_not_end(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server(shutdown_timeout=0.1)
        cancelled = Inbox()

        @server.on("hang")
        async def hang(ctx: Any) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled("cancelled")

        server.on_ack("sync", lambda ctx: None)
        await server.start()
        async with raw_connection(server, "tcp") as deaf:
            await read_exactly(deaf, 22)
            async with world.client(server, "ws") as client:
                client.emit("hang")
                async with raw_connection(server):
                    await anyio.wait_all_tasks_blocked()
                    await server.stop()
        assert await cancelled.next() == "cancelled"
        assert server.get_clients() == []


@pytest.mark.feature("serve_forever")
async def test_serve_forever_ends_with_stop(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        async with anyio.create_task_group() as tasks:
            await server.start()
            tasks.start_soon(server.serve_forever)
            async with world.client(server, wire) as client:
                assert client.is_connected()
                await server.stop()


@pytest.mark.feature("serve_forever")
async def test_serve_forever_that_is_cancelled_stops_the_server(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        client = world.client(server, wire)
        await client.connect()
        ended = inbox_of(client, "disconnect")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert await ended.next() == (1001, "Server shutting down")
        await client.disconnect()


@pytest.mark.feature("start")
async def test_several_servers_live_in_one_process(world: World, wire: str) -> None:
    async with (
        world.conversation(wire) as (first, client_of_first),
        world.conversation(wire) as (second, client_of_second),
    ):
        first.on_ack("who", lambda ctx: "first")
        second.on_ack("who", lambda ctx: "second")
        assert await client_of_first.request("who") == "first"
        assert await client_of_second.request("who") == "second"


async def test_a_client_connects_disconnects_and_connects_again(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire)
        log = Inbox()
        client.on("connect", lambda: log("connect"))
        client.on("disconnect", lambda code, reason: log((code, reason)))
        assert client.get_state() == "disconnected"
        for _ in range(2):
            await client.connect()
            assert client.get_state() == "connected"
            with pytest.raises(StateError, match="already"):
                await client.connect()
            await client.disconnect()
            await client.disconnect()
            assert client.get_state() == "disconnected"
            assert await log.take(2) == ["connect", (1000, "")]


class Mark:
    """Something that a server keeps with a client."""


@pytest.mark.sockets
async def test_the_server_keeps_nothing_of_a_client_that_has_gone(world: World, wire: str) -> None:
    kept: list[weakref.ref[Mark]] = []

    def keep(ctx: Any) -> None:
        mark = Mark()
        kept.append(weakref.ref(mark))
        ctx.set_metadata("mark", mark)

    server = world.server()
    server.on_connection(keep)
    server.on_ack("who", lambda ctx: ctx.id)
    async with world.conversation(server=server):
        async with world.client(server, wire) as client:
            await client.request("who")
        for _ in range(100):
            if kept[0]() is None:
                break
            await anyio.sleep(0.001)
            gc.collect()
        assert kept[0]() is None


@pytest.mark.feature("ctx.disconnect")
async def test_the_server_disconnects_a_client_behind_what_it_sent(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):

        @server.on("leave")
        def leave(ctx: Any) -> None:
            for number in range(100):
                ctx.emit("last", number)
            ctx.disconnect(4000, "that is all")
            assert not ctx.emit("last", 100)

        last, ended = inbox_of(client, "last"), inbox_of(client, "disconnect")
        client.emit("leave")
        assert await last.take(100) == list(range(100))
        assert await ended.next() == (4000, "that is all")


@pytest.mark.parametrize("end", [(1008, "Rate limit exceeded"), (1013, "later"), (4999, "{}")])
@pytest.mark.feature("ctx.disconnect", "client: disconnect", "client: error")
async def test_a_server_that_sends_a_client_away_is_heard_alike_on_both_wires(
    world: World, wire: str, end: tuple[int, str]
) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("leave", lambda ctx: ctx.disconnect(*end))
        errors, ended = inbox_of(client, "error"), inbox_of(client, "disconnect")
        client.emit("leave")
        assert await ended.next() == end
        assert errors.waiting == 0
        assert client.get_last_error() is None


async def test_nobody_listening_is_a_connect_error_with_the_address(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        url = url_of(server, wire)
        await server.stop()
        client = world.client_of(url)
        with pytest.raises(ConnectError, match=rf"cannot connect to {url}"):
            await client.connect()
        assert client.get_state() == "disconnected"
        with pytest.raises(ConnectError):
            async with world.client_of(url):
                pytest.fail("it must not get here")


@pytest.mark.feature("max_connections")
async def test_a_refused_client_learns_why(world: World, wire: str) -> None:
    async with world.conversation(wire, max_connections=1) as (server, _):
        with pytest.raises(ConnectError, match=r"503|Server full") as caught:
            await world.client(server, wire).connect()
        assert caught.value.__cause__ is not None


@pytest.mark.feature("namespace")
async def test_a_namespace_that_is_not_there_is_refused_with_404(world: World) -> None:
    async with world.conversation(namespace="/chat") as (server,):
        with pytest.raises(ConnectError, match="404"):
            await world.client(server, "ws").connect()
        async with world.client_of(f"{url_of(server, 'ws')}/chat?token=1") as client:
            assert client.is_connected()


async def test_a_cancelled_connect_leaves_nothing_behind(world: World, wire: str) -> None:
    async with world.raw_server(read_to_end) as port:
        client = world.client_of(f"{wire}://127.0.0.1:{port}")
        with anyio.move_on_after(0.05):  # nobody accepts, nobody answers
            await client.connect()
        assert client.get_state() == "disconnected"


async def test_a_server_that_never_answers_is_given_up(world: World, wire: str) -> None:
    async with world.raw_server(read_to_end) as port:
        client = world.client_of(f"{wire}://127.0.0.1:{port}", connect_timeout=0.05)
        with anyio.fail_after(PATIENCE), pytest.raises(ConnectError, match=r"within 0\.05 s"):
            await client.connect()


async def test_a_body_that_raises_raises_what_it_raised(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE), pytest.raises(ZeroDivisionError):
        async with world.server() as server, world.client(server, wire):
            raise ZeroDivisionError


@pytest.mark.feature("disconnect")
async def test_the_server_closes_one_client_by_its_id(world: World, wire: str) -> None:
    async with world.conversation(wire, wire) as (server, client, bystander):
        ended = inbox_of(client, "disconnect")
        assert server.disconnect(str(client.get_id()), 1000, "that is all")
        # The binary protocol has one frame for every orderly end, and no words in it.
        assert await ended.next() == (
            (1000, "that is all") if wire == "ws" else (1001, "Server shutting down")
        )
        assert not server.disconnect("nobody")
        assert bystander.is_connected()


@pytest.mark.feature("get_tcp_port", "tcp_port")
async def test_without_a_tcp_port_there_is_no_second_listener(world: World) -> None:
    async with world.conversation(tcp_port=None) as (server,):
        assert server.get_tcp_port() is None
        async with world.client(server, "ws") as client:
            assert client.is_connected()


async def test_a_client_that_is_left_by_a_cancellation_says_goodbye(world: World, wire: str) -> None:
    ended = Inbox()
    with anyio.fail_after(PATIENCE):
        async with world.server() as server:
            server.on_disconnect(ended)
            with anyio.CancelScope() as scope:
                async with world.client(server, wire):
                    scope.cancel()
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
            assert (await ended.next()).data["code"] == 1000

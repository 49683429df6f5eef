"""Plain WebSocket servers: who is let in, who cannot connect, and stopping."""

from __future__ import annotations

import errno
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.channel import HttpResponse
from stelar_proto.errors import ConnectError, ConnectionClosed, UpgradeRefused
from tests.conformance.test_plain import Keeper, echo, raw_client, serve, url_of
from tests.conformance.world import PATIENCE, Inbox, World, raw_connection, read_to_end
from tests.support.wires import UPGRADE

pytestmark = pytest.mark.anyio


async def ask(server: Any, request: bytes) -> bytes:
    async with raw_connection(server) as stream:
        await stream.send(request)
        return await read_to_end(stream)


@pytest.mark.feature("process_request")
async def test_process_request_answers_http_refuses_and_lets_in(world: World) -> None:
    async def process(request: Any) -> HttpResponse | None:
        await anyio.lowlevel.checkpoint()
        if request.path == "/healthz":
            return HttpResponse.of_text("fine\n")
        if request.headers.get("Authorization") is None:
            return HttpResponse.of_text("who are you?\n", status=401)
        return None

    with anyio.fail_after(PATIENCE):
        async with serve(world, echo, process_request=process) as server:
            answer = await ask(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nfine\n")
            with pytest.raises(ConnectError, match="401") as caught:
                await world.connect_websocket(url_of(server)).__aenter__()
            cause = caught.value.__cause__
            assert isinstance(cause, UpgradeRefused)
            assert cause.response is not None
            assert cause.response.body == b"who are you?\n"
            url = url_of(server).replace("ws://", "ws://user:pass@")
            async with world.connect_websocket(url) as client:
                await client.send("hola")
                assert await client.recv() == "hola"


@pytest.mark.feature("origins", "ws.subprotocol")
async def test_origins_subprotocols_and_plain_http(world: World) -> None:
    options: dict[str, Any] = {"origins": ["https://a.example"], "subprotocols": ["v2", "v1"]}
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo, **options) as server:
            assert (await ask(server, UPGRADE)).startswith(b"HTTP/1.1 403 Forbidden\r\n")
            answer = await ask(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
            headers = {"Origin": "https://a.example"}
            async with world.connect_websocket(
                url_of(server), headers=headers, subprotocols=["v1", "v2"]
            ) as client:
                assert client.subprotocol == "v2"


async def test_one_connection_too_many_is_refused(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo, max_connections=1) as server:
            async with world.connect_websocket(url_of(server)):
                with pytest.raises(ConnectError, match="503"):
                    await world.connect_websocket(url_of(server)).__aenter__()


async def test_why_there_is_no_connection(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo) as server:
            url = url_of(server)
        with pytest.raises(ConnectError, match=rf"cannot connect to {url}/?: connection refused"):
            await world.connect_websocket(url).__aenter__()
        async with world.raw_server(read_to_end) as port:
            silent = world.connect_websocket(f"ws://127.0.0.1:{port}", connect_timeout=0.05)
            for _ in range(2):
                with pytest.raises(ConnectError, match=r"within 0\.05 s"):
                    await silent.__aenter__()
            with anyio.move_on_after(0.02) as scope:
                await world.connect_websocket(f"ws://127.0.0.1:{port}").__aenter__()
            assert scope.cancelled_caught


@pytest.mark.feature("serve_websocket")
async def test_stopping_tells_the_clients_and_lets_handlers_end(world: World) -> None:
    ended = Inbox()

    async def receive(connection: Any) -> None:
        ended([message async for message in connection])
        await anyio.sleep(0.01)
        ended("and what it does then")

    with anyio.fail_after(PATIENCE):
        server = serve(world, receive)
        await server.start()
        async with world.connect_websocket(url_of(server)) as client:
            await client.send("hola")
            assert await client.ping() >= 0
            await server.stop()
            assert await ended.take(2) == [["hola"], "and what it does then"]
            with pytest.raises(ConnectionClosed, match="1001: Server shutting down"):
                await client.recv()
            assert [message async for message in client] == []


async def test_stopping_cancels_handlers_that_do_not_end_and_cuts_who_does_not_go(world: World) -> None:
    keeper = Keeper()
    with anyio.fail_after(PATIENCE):
        server = serve(world, keeper, shutdown_timeout=0.05)
        for _ in range(2):
            await server.start()
            async with raw_client(server), raw_connection(server):
                connection = await keeper.connections.next()
                await server.stop()
                await server.stop()
                assert await keeper.ended.next() is connection
            assert server.connections == ()


async def test_stopping_survives_handlers_whose_tasks_raise_while_they_are_cancelled(world: World) -> None:
    receiving = Inbox()

    async def handle(connection: Any) -> None:
        async with anyio.create_task_group() as tasks:  # some of them hear of the end, others are cancelled
            tasks.start_soon(anyio.sleep_forever)
            tasks.start_soon(connection.recv)
            receiving(connection)

    with anyio.fail_after(PATIENCE):
        server = serve(world, handle, shutdown_timeout=0.05)
        for _ in range(2):
            await server.start()
            async with raw_client(server), raw_client(server):
                await receiving.take(2)
                await server.stop()
            assert server.connections == ()


async def test_a_task_of_a_handler_may_stop_the_server(world: World) -> None:
    stopped = Inbox()

    async def handle(connection: Any) -> None:
        async def stop() -> None:
            try:
                await server.stop()
            finally:
                stopped()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)

    with anyio.fail_after(PATIENCE):
        server = serve(world, handle, shutdown_timeout=0.05)
        await server.start()
        async with raw_client(server):
            await stopped.next()
        await server.stop()
        async with server:
            assert server.get_port() > 0


async def test_a_server_whose_stop_is_cancelled_has_stopped_and_can_start_again(world: World) -> None:
    keeper = Keeper()
    with anyio.fail_after(PATIENCE):
        server = serve(world, keeper, shutdown_timeout=0.05)
        for _ in range(2):
            with anyio.CancelScope() as scope:
                async with server, raw_client(server):
                    await keeper.connections.next()
                    scope.cancel()
            await keeper.ended.next()
            await server.stop()
        async with server:
            assert server.connections == ()


async def test_the_end_of_another_connection_is_a_fault_of_the_handler(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def relay(connection: Any) -> None:
        raise ConnectionClosed(1001, "upstream is gone", received=None, sent=None, error=None)

    with anyio.fail_after(PATIENCE):
        async with serve(world, relay) as server, world.connect_websocket(url_of(server)) as client:
            with pytest.raises(ConnectionClosed, match="1011"):
                await client.recv()
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ConnectionClosed)


async def test_serve_forever_ends_with_request_stop(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = serve(world, echo)
        await server.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            async with world.connect_websocket(url_of(server)) as client:
                await client.send("hola")
                assert await client.recv() == "hola"
                await anyio.wait_all_tasks_blocked()
                server.request_stop()
                assert [message async for message in client] == []
                assert client.close_code == 1001


async def test_serve_forever_that_is_cancelled_stops_the_server(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = serve(world, echo)
        await server.start()
        async with world.connect_websocket(url_of(server)) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve_forever)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            await client.wait_closed()
            assert client.close_code == 1001


async def test_on_trio_a_nursery_starts_the_server_and_learns_the_port(world: World) -> None:
    if world.backend != "trio":
        assert not hasattr(world.package.WebSocketServer, "serve")
        return
    import trio

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = serve(world, echo)
            port = await nursery.start(server.serve)
            async with world.connect_websocket(f"ws://127.0.0.1:{port}") as client:
                await client.send("hola")
                assert await client.recv() == "hola"
            nursery.cancel_scope.cancel()
        assert server.connections == ()


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_handler_that_stops_its_server_is_not_waited_for(world: World, in_a_task: bool) -> None:
    stopped = Inbox()

    async def stop(connection: Any) -> None:
        try:
            if in_a_task:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(server.stop)
            else:
                await server.stop()
        finally:  # stopping cancels handlers, and may cancel this one
            stopped(connection)

    with anyio.fail_after(PATIENCE):
        server = serve(world, stop, shutdown_timeout=1000)
        await server.start()
        async with world.connect_websocket(url_of(server)) as client:
            with pytest.raises(ConnectionClosed, match="1001: Server shutting down"):
                await client.recv()
            connection = await stopped.next()
            assert connection.close_code == 1001


async def test_a_handler_of_another_server_is_waited_for(world: World) -> None:
    """Who stops a server from a handler of a second one is no handler of the first."""
    keeper = Keeper()

    async def stop_other(_: Any) -> None:
        await other.stop()

    with anyio.fail_after(PATIENCE):
        other = serve(world, keeper, shutdown_timeout=1000)
        async with other, serve(world, stop_other) as server:
            async with world.connect_websocket(url_of(other)) as client:
                await keeper.connections.next()
                async with world.connect_websocket(url_of(server)):
                    with pytest.raises(ConnectionClosed, match="1001: Server shutting down"):
                        await client.recv()
                    assert keeper.ended.waiting == 0
                    keeper.released.set()
                    await keeper.ended.next()


async def test_a_system_that_gives_up_in_front_of_us_is_not_said_to_be_our_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give_up(*_: object, **__: object) -> None:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    if world.backend == "trio":
        monkeypatch.setattr("trio.open_tcp_stream", give_up)
    else:
        monkeypatch.setattr("stelar_runtime_asyncio.dialing._reach", give_up)
    with pytest.raises(ConnectError, match=r"cannot connect to ws://192\.0\.2\.1/?: Connection timed out"):
        await world.package.connect_websocket("ws://192.0.2.1").__aenter__()


async def test_a_server_is_shown_with_its_address(world: World) -> None:
    assert repr(world.package.serve_websocket(echo, "::1", 80)) == "<WebSocketServer on [::1]:80>"
    assert "on [::1]:0, " in repr(world.server(host="::1"))
    with pytest.raises(TypeError, match="a WebSocket server has no option 'ping_interval'"):
        world.package.serve_websocket(echo, ping_interval=20)
    with pytest.raises(TypeError, match="a WebSocket client has no option 'subprotocol'; did you mean 'sub"):
        world.package.connect_websocket("ws://localhost", subprotocol="chat")

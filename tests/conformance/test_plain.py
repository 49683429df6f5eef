"""Plain WebSocket: messages, flow control, cancellation, pings and the end."""

from __future__ import annotations

import contextlib
import gc
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme
from anyio.abc import ByteStream

from stelar_proto.errors import ConnectError, ConnectionClosed, StateError
from tests.conformance.world import (
    PATIENCE,
    Inbox,
    World,
    raw_connection,
    read_exactly,
    read_head,
    read_to_end,
)
from tests.support.wires import UPGRADE, masked

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def echo(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


class Keeper:
    """A handler that hands its connections to the test, and keeps them until it is told."""

    def __init__(self) -> None:
        self.connections = Inbox()
        self.released = anyio.Event()
        self.ended = Inbox()

    async def __call__(self, connection: Any) -> None:
        self.connections(connection)
        try:
            await self.released.wait()
        finally:
            self.ended(connection)


def serve(world: World, handler: Any, **options: Any) -> Any:
    return world.serve_websocket(handler, **options)


def url_of(server: Any, path: str = "") -> str:
    return f"ws://127.0.0.1:{server.get_port()}{path}"


@asynccontextmanager
async def conversation(world: World, handler: Any, **options: Any) -> AsyncIterator[Any]:
    """A server with ``handler``, and a connection to it."""
    connect = {name: options.pop(name) for name in ("max_size", "inbox_limit") if name in options}
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(PATIENCE))
        server = await stack.enter_async_context(serve(world, handler, **options))
        yield (
            server,
            await stack.enter_async_context(world.connect_websocket(url_of(server), **connect)),
        )


@asynccontextmanager
async def raw_client(server: Any) -> AsyncIterator[ByteStream]:
    """A client by hand, let in."""
    async with raw_connection(server) as stream:
        await stream.send(UPGRADE)
        assert (await read_head(stream)).startswith(b"HTTP/1.1 101 ")
        yield stream


# --- Messages -----------------------------------------------------------------------------------------------


@pytest.mark.feature("serve_websocket", "connect_websocket", "ws.recv", "ws.send")
async def test_messages_are_echoed_in_order(world: World) -> None:
    async with conversation(world, echo) as (server, client):
        messages = ["hola", b"\x00\xff", "", b"", "ñandú", "x" * 100_000, *map(str, range(200))]
        for message in messages:
            await client.send(message)
        assert [await client.recv() for _ in messages] == messages
        assert len(server.connections) == 1
        assert client.remote_address == ("127.0.0.1", server.get_port())
        assert server.connections[0].remote_address == client.local_address
        assert server.connections[0].request.path == "/"


@pytest.mark.feature("ws.send_fragments", "ws.recv")
async def test_a_message_of_5_mib_goes_in_fragments_and_comes_in_parts(world: World) -> None:
    async def send_back(connection: Any) -> None:
        async def parts() -> AsyncIterator[Any]:
            async for part in connection.recv_parts():
                yield part

        while True:
            await connection.send_fragments(parts())

    fragments = [bytes([number]) * 65_536 for number in range(80)]
    async with conversation(world, send_back, max_size=None) as (_, client):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send_fragments, fragments)
            received = b"".join([part async for part in client.recv_parts()])
        assert received == b"".join(fragments)
        await client.send("and text")
        assert await client.recv() == "and text"


@pytest.mark.feature("serve_websocket", "connect_websocket")
@pytest.mark.sockets
async def test_a_conversation_over_tls(world: World) -> None:
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo, tls=server_tls) as server:
            url = f"wss://localhost:{server.get_port()}"
            async with world.connect_websocket(url, tls=client_tls) as client:
                for message in ("hola", b"x" * MIB):
                    await client.send(message)
                    assert await client.recv() == message
                assert await client.ping() >= 0
            with pytest.raises(ConnectError, match="certificate"):
                await world.connect_websocket(url).__aenter__()


# --- Flow control -------------------------------------------------------------------------------------------


@pytest.mark.feature("ws.send")
async def test_a_client_that_does_not_read_stops_the_servers_send(world: World) -> None:
    sent = 0
    all_sent = anyio.Event()

    async def flood(connection: Any) -> None:
        nonlocal sent
        for _ in range(400):
            await connection.send(b"x" * 65_532)  # a frame of 64 KiB
            sent += 1
        all_sent.set()

    with anyio.fail_after(PATIENCE):
        async with serve(world, flood) as server, raw_client(server) as stream:
            before = -1
            while before != sent:  # until it has come to a stand
                before = sent
                await anyio.wait_all_tasks_blocked()
            assert not all_sent.is_set()
            received = 0
            while received < 400 * 65_536:
                received += len(await stream.receive(400 * 65_536 - received))
            await all_sent.wait()
            assert await read_exactly(stream, 4) == b"\x88\x02\x03\xe8"
            await stream.send(masked(8, b"\x03\xe8"))
            assert await read_to_end(stream) == b""


@pytest.mark.feature("ws.recv")
async def test_a_server_that_does_not_recv_stops_the_client(world: World) -> None:
    keeper = Keeper()
    sent = 0
    async with conversation(world, keeper, shutdown_timeout=0) as (_, client):

        async def flood() -> None:
            nonlocal sent
            for number in range(400):
                await client.send(bytes([number % 256]) * 65_536)
                sent += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flood)
            connection = await keeper.connections.next()
            before = -1
            while before != sent:
                before = sent
                await anyio.wait_all_tasks_blocked()
            assert sent < 400
            for number in range(400):
                assert await connection.recv() == bytes([number % 256]) * 65_536
        assert sent == 400
        keeper.released.set()


# --- Cancellation -------------------------------------------------------------------------------------------


@pytest.mark.feature("ws.recv")
async def test_a_cancelled_recv_loses_nothing(world: World) -> None:
    async with conversation(world, echo) as (_, client):
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await client.recv()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.recv()
        await client.send("still there")
        assert await client.recv() == "still there"


@pytest.mark.feature("ws.send")
async def test_a_cancelled_send_has_sent_nothing(world: World) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(PATIENCE))
        keeper = Keeper()
        server = await stack.enter_async_context(serve(world, keeper, shutdown_timeout=0))
        stream = await stack.enter_async_context(raw_client(server))
        connection = await keeper.connections.next()
        sent = 0
        with anyio.move_on_after(0.2):
            while True:
                await connection.send(b"x" * 65_532)
                sent += 1
        frame = b"\x82\x7e\xff\xfc" + b"x" * 65_532
        for _ in range(sent):
            assert await read_exactly(stream, len(frame)) == frame
        await connection.send("after")
        assert await read_exactly(stream, 7) == b"\x81\x05after"
        await stream.aclose()
        await connection.wait_closed()
        keeper.released.set()


async def test_a_cancelled_message_in_fragments_closes_with_1011(world: World) -> None:
    async def never_ends() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await anyio.sleep_forever()

    async with conversation(world, echo) as (server, client):
        connection = server.connections[0]
        with anyio.move_on_after(0.02):
            await client.send_fragments(never_ends())
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.code == 1011
        await connection.wait_closed()
        assert connection.close_reason == "a message could not be ended"


async def test_fragments_that_raise_or_are_wrong_leave_nothing_behind(world: World) -> None:
    def raises() -> Any:
        yield "a"
        yield "b"
        raise ZeroDivisionError

    for fragments, error in ((raises(), ZeroDivisionError), (["a", b"b", "c"], TypeError)):
        async with conversation(world, echo) as (_, client):
            try:  # pytest.raises() would keep the frames of it alive
                await client.send_fragments(fragments)
            except error:
                assert not client.is_open
            else:
                pytest.fail("it must not be sent")
            gc.collect()  # trio warns of asynchronous generators that were dropped, and a warning is an error
            await anyio.wait_all_tasks_blocked()


# --- Pings and the end --------------------------------------------------------------------------------------


@pytest.mark.feature("ws.ping")
async def test_ping_measures_the_latency(world: World) -> None:
    async with conversation(world, echo) as (_, client):
        latency = await client.ping()
        assert 0 <= latency < PATIENCE
        assert client.latency == latency


@pytest.mark.feature("ws.ping")
async def test_a_heartbeat_keeps_a_silent_connection_alive_and_measures(world: World) -> None:
    async with conversation(world, echo, heartbeat_interval=0.02) as (server, client):
        connection = server.connections[0]
        while connection.latency is None:  # noqa: ASYNC110  # nothing tells when it is measured
            await anyio.sleep(0.01)
        assert client.is_open


@pytest.mark.feature("ws.close", "ws.close_code")
async def test_both_sides_know_the_code_and_the_reason(world: World) -> None:
    closed = Inbox()

    async def receive(connection: Any) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as error:
            closed(error)

    async with conversation(world, receive) as (_, client):
        await client.close(4000, "enough")
        error = await closed.next()
        assert (error.code, error.reason) == (4000, "enough")
        assert error.received == error.sent == (4000, "enough")
        assert (client.close_code, client.close_reason) == (4000, "enough")
        with pytest.raises(ConnectionClosed, match="4000"):
            await client.send("late")


async def test_a_handler_that_returns_or_raises_decides_the_code(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(connection: Any) -> None:
        if connection.request.path == "/raise":
            raise ZeroDivisionError
        await connection.send("bye")

    with anyio.fail_after(PATIENCE):
        async with serve(world, handle) as server:
            async with world.connect_websocket(url_of(server)) as client:
                assert [message async for message in client] == ["bye"]
                assert client.close_code == 1000
            async with world.connect_websocket(url_of(server, "/raise")) as client:
                with pytest.raises(ConnectionClosed, match="1011"):
                    await client.recv()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info[0] for record in errors if record.exc_info] == [ZeroDivisionError]
    assert len(errors) == 1


async def test_a_handler_of_several_tasks_ends_with_its_connection_without_an_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ended = Inbox()

    async def receive(connection: Any) -> None:
        while True:
            await connection.recv()

    async def handle(connection: Any) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(receive, connection)
        finally:
            ended(connection)

    async with conversation(world, handle) as (_, client):
        await client.close(4000)
        assert (await ended.next()).close_code == 4000
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_message_in_front_of_a_fault_is_answered_before_it_is(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo) as server, raw_client(server) as stream:
            await stream.send(masked(1, b"good") + masked(3, b""))
            answer = await read_to_end(stream)
            assert answer.startswith(b"\x81\x04good\x88")
            assert answer[8:10] == b"\x03\xea"


async def test_a_peer_that_vanishes_ends_the_handler(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ended = Inbox()

    async def receive(connection: Any) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as error:
            ended(error.code)
            raise

    with anyio.fail_after(PATIENCE):
        async with serve(world, receive) as server:
            async with raw_client(server):
                pass
            assert await ended.next() == 1006
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_handler_that_wants_to_exit_is_one_that_raises(
    world: World, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_: Any) -> None:
        sys.exit("enough")

    async def leave_later(connection: Any) -> None:
        await anyio.lowlevel.checkpoint()
        leave(connection)

    async with conversation(world, leave_later if is_async else leave) as (_, client):
        with pytest.raises(ConnectionClosed, match="1011"):
            await client.recv()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info[0] for record in errors if record.exc_info] == [SystemExit]


@pytest.mark.parametrize("how", ["send", "wait_closed"])
async def test_a_close_behind_messages_that_nobody_reads_is_answered(world: World, how: str) -> None:
    unread = Inbox()

    async def handle(connection: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            while how == "send":
                await connection.send("tick")
                await anyio.lowlevel.checkpoint()
        await connection.wait_closed()
        messages = []
        with pytest.raises(ConnectionClosed, match="4000"):  # noqa: PT012
            while True:
                messages.append(await connection.recv())
        unread(messages)

    numbers = [str(number) for number in range(300)]
    async with conversation(world, handle, close_timeout=1000) as (_, client):
        for number in numbers:
            await client.send(number)
        await client.close(4000)
        assert client.close_code == 4000
        assert await unread.next() == numbers


async def test_a_body_that_raises_or_is_cancelled_closes_the_connection(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo) as server:
            with pytest.raises(ZeroDivisionError):
                async with world.connect_websocket(url_of(server)):
                    raise ZeroDivisionError
            with anyio.move_on_after(0.02) as scope:
                async with world.connect_websocket(url_of(server)) as client:
                    await client.recv()
            assert scope.cancelled_caught
            await client.wait_closed()
            assert client.close_code == 1000
            while server.connections:
                await anyio.wait_all_tasks_blocked()


@pytest.mark.feature("connect_websocket")
async def test_a_connector_can_be_used_again_and_not_twice_at_once(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        async with serve(world, echo) as server:
            connector = world.connect_websocket(url_of(server))
            for _ in range(2):
                async with connector as client:
                    with pytest.raises(StateError, match="already"):
                        await connector.__aenter__()
                    await client.send("hola")
                    assert await client.recv() == "hola"

"""Stopping servers: what is delivered, who is waited for and how long, and the signals that ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from stelar_proto.errors import StateError
from tests.conformance.world import PATIENCE, Inbox, World, inbox_of, raw_connection, read_to_end
from tests.support.programs import running
from tests.support.wires import UPGRADE

pytestmark = pytest.mark.anyio

CANCELLED = (asyncio.CancelledError, trio.Cancelled)
LOADED = 3.0
"""Seconds by which a machine that has other things to do may be late. That half a second is enough otherwise
is shown in ``tests/server``, with a clock that stands still while something is done."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


# --- Clients and handlers -----------------------------------------------------------------------------------


@pytest.mark.feature("stop", "shutdown_timeout")
@pytest.mark.sockets
async def test_stop_ends_in_time_whatever_a_thousand_handlers_do(world: World) -> None:
    """Half of them never return, the others do not want to be cancelled, once."""
    timeout = 0.5
    server = world.server(shutdown_timeout=timeout, max_connections_per_ip=1000)
    started, cancelled = Inbox(), Inbox()

    @server.on("hang")
    async def hang(ctx: Any) -> None:
        started(ctx.id)
        await anyio.sleep_forever()

    @server.on("insist")
    async def insist(ctx: Any) -> None:
        started(ctx.id)
        for _ in range(2):
            try:
                await sleep_forever()
            except CANCELLED:
                cancelled(ctx.id)

    async def say(name: str) -> None:
        stream = await anyio.connect_tcp("127.0.0.1", server.get_tcp_port() or 0)
        streams.append(stream)
        await stream.send(b"\0\0\0" + bytes([7 + len(name)]) + b"\0\0" + bytes([len(name)]) + name.encode())

    sleep_forever = trio.sleep_forever if world.backend == "trio" else asyncio.Event().wait
    streams: list[Any] = []
    with anyio.fail_after(4 * PATIENCE):
        await server.start()
        async with anyio.create_task_group() as tasks:
            for index in range(1000):
                tasks.start_soon(say, "hang" if index % 2 else "insist")
        await started.take(1000)
        began_at = anyio.current_time()
        await server.stop()
        took = anyio.current_time() - began_at
        assert timeout <= took <= timeout + 0.5 + LOADED
        assert len(set(await cancelled.take(500))) == 500
        for stream in streams:
            await stream.aclose()


@pytest.mark.feature("stop", "nothing is lost")
async def test_a_handler_that_runs_may_end_and_its_client_has_gone_meanwhile(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        began, gate, done = anyio.Event(), anyio.Event(), Inbox()

        @server.on("save")
        async def save(ctx: Any) -> None:
            began.set()
            await gate.wait()
            done(ctx.data)

        server.on_disconnect(lambda ctx: done("gone"))
        await server.start()
        async with world.client(server, wire, reconnection=False) as client:
            client.emit("save", 1)
            client.emit("save", 2)
            await began.wait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.stop)
                await client.wait_closed()
                assert done.waiting == 0
                gate.set()
            assert await done.take(3) == [1, 2, "gone"]


@pytest.mark.feature("on_disconnect", "stop")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("goes", [False, True])
async def test_on_disconnect_is_called_for_who_stands_behind_a_handler_that_is_cancelled(
    world: World, wire: str, is_async: bool, goes: bool
) -> None:
    """Whether the client says goodbye, and its end waits behind the handler, or has to be cut."""
    with anyio.fail_after(PATIENCE):
        server = world.server(shutdown_timeout=0.05)
        began, handled, gone = anyio.Event(), Inbox(), Inbox()

        @server.on("hang")
        async def hang(ctx: Any) -> None:
            began.set()
            await anyio.sleep_forever()

        server.on("later", lambda ctx: handled(ctx.data))

        async def leave(ctx: Any) -> None:
            await anyio.lowlevel.checkpoint()
            gone(ctx.id)

        server.on_disconnect(leave if is_async else lambda ctx: gone(ctx.id))
        await server.start()
        client = world.client(server, wire, reconnection=False)
        await client.connect()
        name = client.get_id()
        client.emit("hang")
        client.emit("later")
        await began.wait()
        if goes:
            await client.disconnect()
        await server.stop()
        assert gone.waiting == 1
        assert await gone.next() == name
        assert handled.waiting == 0
        await client.disconnect()


@pytest.mark.feature("on_shutdown")
async def test_callbacks_are_called_in_order_when_everybody_has_gone(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        log = Inbox()
        server.on_disconnect(lambda ctx: log("gone"))

        @server.on_shutdown
        def first() -> None:
            log("first")
            raise ZeroDivisionError

        @server.on_shutdown
        async def second() -> None:
            await anyio.lowlevel.checkpoint()
            log(("second", server.get_clients()))
            raise ZeroDivisionError

        server.on_shutdown(lambda: log("third"))
        for _ in range(2):
            await server.start()
            async with world.client(server, wire, reconnection=False):
                await server.stop()
            assert await log.take(4) == ["gone", "first", ("second", []), "third"]
        await server.stop()
        assert log.waiting == 0
        assert caplog.text.count("of on_shutdown raised") == 4
        with pytest.raises(TypeError, match="a handler is a function"):
            server.on_shutdown("close")  # type: ignore[type-var]  # that is the point


@pytest.mark.feature("on_shutdown", "shutdown_timeout")
async def test_a_callback_that_does_not_end_is_cancelled(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server(shutdown_timeout=0.05)
        cancelled = Inbox()

        @server.on_shutdown
        async def hang() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled()

        await server.start()
        await server.stop()
        assert cancelled.waiting == 1


# --- Starting and stopping at the same time -----------------------------------------------------------------


@pytest.mark.feature("start", "stop")
@pytest.mark.sockets
async def test_a_server_that_is_stopped_while_it_starts_leaves_no_listener(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of its second port takes long to resolve."""
    with anyio.fail_after(PATIENCE):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        asked, gate = anyio.Event(), anyio.Event()

        async def resolve(host: str, port: int, **options: Any) -> list[Any]:
            asked.set()
            await gate.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

        if world.backend == "trio":
            monkeypatch.setattr(trio.socket, "getaddrinfo", resolve)
        else:
            loop: Any = asyncio.get_running_loop()
            monkeypatch.setattr(type(loop), "getaddrinfo", lambda self, *a, **o: resolve(*a, **o))
        server = world.server(tcp_host="slow.example", tcp_port=port)

        async def start() -> None:
            with pytest.raises(StateError, match="stopped while it was starting"):
                await server.start()
            refused()

        refused = Inbox()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            await asked.wait()
            await server.stop()
            monkeypatch.undo()
            second = world.server()
            async with second:  # nor does it disturb others, or itself
                gate.set()
                await refused.next()
                async with world.client(second, "tcp", reconnection=False):
                    pass
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
        async with server_on(world, port) as third, world.client(third, "tcp", reconnection=False):
            pass


def server_on(world: World, tcp_port: int) -> Any:
    return world.server(tcp_port=tcp_port)


@pytest.mark.feature("start", "stop")
async def test_a_server_that_is_stopped_in_the_first_moment_of_its_start_can_start_again(
    world: World,
) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()

        async def start(begun: anyio.Event) -> None:
            begun.set()
            with contextlib.suppress(StateError):  # it may have started by the time it is stopped
                await server.start()

        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                begun = anyio.Event()
                tasks.start_soon(start, begun)
                await begun.wait()
                await server.stop()
            with pytest.raises(StateError, match="not running"):
                server.get_port()
        async with server, world.client(server, "tcp", reconnection=False) as client:
            assert client.is_connected()


@pytest.mark.feature("serve")
async def test_on_trio_a_nursery_starts_the_server_and_learns_the_port(world: World, wire: str) -> None:
    if world.backend != "trio":
        assert not hasattr(world.package.StelarServer, "serve")
        return
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server: Any = world.server()
            before = handlers()
            assert await nursery.start(server.serve) == server.get_port()
            assert handlers() == before
            async with world.client(server, wire, reconnection=False) as client:
                ended = inbox_of(client, "disconnect")
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    assert await ended.next() == (1001, "Server shutting down")


# --- Signals ------------------------------------------------------------------------------------------------


@pytest.mark.feature("graceful_shutdown", "serve_forever")
@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_stops_every_server_that_serves_and_the_old_handlers_come_back(
    world: World, wire: str, number: signal.Signals
) -> None:
    with anyio.fail_after(PATIENCE):
        before = handlers()
        servers = [world.server(), world.server()]
        for server in servers:
            await server.start()
        clients = [world.client(server, wire, reconnection=False) for server in servers]
        ended = [inbox_of(client, "disconnect") for client in clients]
        async with anyio.create_task_group() as tasks:
            for server in servers:
                tasks.start_soon(server.serve_forever)
            for client in clients:
                await client.connect()
            await anyio.wait_all_tasks_blocked()
            assert all(one is not other for one, other in zip(handlers(), before, strict=True))
            os.kill(os.getpid(), number)
            for inbox in ended:
                assert await inbox.next() == (1001, "Server shutting down")
        assert handlers() == before
        for client in clients:
            await client.disconnect()


@pytest.mark.feature("graceful_shutdown", "serve_forever")
async def test_a_server_that_ends_first_leaves_the_signals_to_the_others(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        before = handlers()
        first, second = world.server(), world.server()
        await first.start()
        await second.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.serve_forever)
            tasks.start_soon(second.serve_forever)
            await anyio.wait_all_tasks_blocked()
            await first.stop()
            await anyio.wait_all_tasks_blocked()
            assert handlers() != before
            os.kill(os.getpid(), signal.SIGTERM)
        assert handlers() == before


@pytest.mark.feature("graceful_shutdown")
async def test_a_second_signal_cuts_who_is_left_and_cancels_what_runs(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server(shutdown_timeout=10 * PATIENCE)
        began, cancelled = anyio.Event(), Inbox()

        @server.on("hang")
        async def hang(ctx: Any) -> None:
            began.set()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled()

        await server.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve_forever)
            async with (
                world.client(server, "tcp", reconnection=False) as client,
                raw_connection(server, "ws") as deaf,
            ):
                client.emit("hang")
                await began.wait()
                await deaf.send(UPGRADE)
                await deaf.receive(1)
                os.kill(os.getpid(), signal.SIGTERM)
                await client.wait_closed()
                assert cancelled.waiting == 0
                os.kill(os.getpid(), signal.SIGINT)
                await read_to_end(deaf)
        assert cancelled.waiting == 1


@pytest.mark.feature("graceful_shutdown")
async def test_without_graceful_shutdown_signals_are_left_alone(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        before = handlers()
        for server in (
            world.server(graceful_shutdown=False),
            world.serve_websocket(print, graceful_shutdown=False),
        ):
            await server.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve_forever)
                await anyio.wait_all_tasks_blocked()
                assert handlers() == before
                await server.stop()


# --- A process under load -----------------------------------------------------------------------------------

CLIENTS = 500


@pytest.mark.feature("graceful_shutdown", "nothing is lost", "stop")
@pytest.mark.sockets
async def test_a_process_that_is_terminated_under_load_delivers_everything_and_says_goodbye(
    world: World, anyio_backend_options: dict[str, Any]
) -> None:
    """500 clients of both wires, who talk and are talked to; what was accepted for them arrives."""
    loop = "uvloop" if anyio_backend_options.get("use_uvloop") else world.backend
    with anyio.fail_after(4 * PATIENCE), running("tests.support.loaded", loop, str(CLIENTS)) as program:
        ports = program.read()
        heard: list[list[int]] = [[] for _ in range(CLIENTS)]
        ends: list[Any] = [None] * CLIENTS
        clients = []
        enough = anyio.Event()

        def listen(index: int) -> Callable[[int], None]:
            def hear(number: int) -> None:
                heard[index].append(number)
                if index == CLIENTS - 1 and number == 20:
                    enough.set()

            return hear

        def note_end(index: int) -> Callable[[int, str], None]:
            return lambda code, reason: ends.__setitem__(index, (code, reason))

        for index in range(CLIENTS):
            wire = ("ws", "tcp")[index % 2]
            client = world.client_of(f"{wire}://127.0.0.1:{ports[wire]}", reconnection=False)
            client.on("number", listen(index))
            client.on("disconnect", note_end(index))
            clients.append(client)
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.connect)
        for client in clients:
            client.emit("go", "x" * 100)
        await enough.wait()
        program.terminate()
        for client in clients:
            await client.wait_closed()
        accepted = program.read()["accepted"]
        assert accepted > 20
        assert heard == [list(range(accepted))] * CLIENTS
        assert ends == [(1001, "Server shutting down")] * CLIENTS
        assert program.wait() == (0, "")

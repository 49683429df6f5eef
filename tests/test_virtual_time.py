"""Both runtimes in memory and in virtual time: as over sockets, and as one another."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import stelar_runtime_asyncio.testing
import stelar_runtime_trio.testing
from stelar_proto.errors import ConnectError
from stelar_proto.testing import MemoryNetwork

RUNTIMES: dict[str, Any] = {"asyncio": stelar_runtime_asyncio, "trio": stelar_runtime_trio}


@pytest.fixture(params=RUNTIMES)
def package(request: pytest.FixtureRequest) -> Any:
    return RUNTIMES[request.param]


def test_both_runtimes_have_the_same_names_and_signatures() -> None:
    first, second = (runtime.testing for runtime in RUNTIMES.values())
    assert set(first.__all__) - {"VirtualTimeLoop"} == set(second.__all__)
    for name in second.__all__:
        assert inspect.signature(getattr(first, name)) == inspect.signature(getattr(second, name))


# --- The clock ----------------------------------------------------------------------------------------------


def test_a_day_takes_no_time_and_what_is_due_comes_in_order(package: Any) -> None:
    async def main(hours: int) -> list[float]:
        async def sleep(seconds: float) -> None:
            await anyio.sleep(seconds)
            woken.append(anyio.current_time())

        woken: list[float] = []
        async with anyio.create_task_group() as tasks:
            for hour in range(hours, 0, -1):
                tasks.start_soon(sleep, hour * 3600)
        return woken

    began = time.monotonic()
    assert package.testing.run(main, 23) == [hour * 3600 for hour in range(1, 24)]
    assert time.monotonic() - began < 60


def test_what_main_returns_and_raises_comes_from_run(package: Any) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def answer(first: int, second: int) -> int:
        return first + second

    assert package.testing.run(answer, 20, 22) == 42
    with pytest.raises(ZeroDivisionError):
        package.testing.run(fail, ZeroDivisionError())
    with pytest.raises(TimeoutError, match="mine"):
        package.testing.run(fail, TimeoutError("mine"))


def test_what_waits_for_ever_is_given_up(package: Any) -> None:
    async def main() -> None:
        await anyio.Event().wait()

    with pytest.raises(TimeoutError, match="not done in 86400 s of virtual time"):
        package.testing.run(main)
    with pytest.raises(TimeoutError, match="not done in 10 s of virtual time"):
        package.testing.run(main, time_limit=10)


def test_while_a_thread_works_the_clock_stands_still_on_asyncio() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        def work() -> None:
            for _ in range(3):  # the loop runs meanwhile, and has nothing to do
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

        await asyncio.to_thread(work)
        before = loop.time()
        await asyncio.sleep(5)
        assert loop.time() == before + 5
        return before

    assert stelar_runtime_asyncio.testing.run(main, time_limit=100) == 0


def test_without_a_timer_the_loop_waits_for_the_world() -> None:
    async def main() -> bytes:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.send(b"hello")
        data = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return data

    ours, theirs = socket.socketpair()
    with theirs, asyncio.Runner(loop_factory=stelar_runtime_asyncio.testing.VirtualTimeLoop) as runner:
        assert runner.run(main()) == b"hello"
        assert runner.get_loop().time() == 0


# --- Conversations ------------------------------------------------------------------------------------------


def test_a_server_that_falls_silent_is_noticed_in_its_time(package: Any) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with (
            package.StelarServer(network=network) as server,
            package.StelarClient("localhost:3000", network=network, reconnection=False) as client,
        ):
            ended: list[Any] = []
            client.on("disconnect", lambda *end: ended.append(end))
            await anyio.sleep(3600)
            assert client.is_connected()  # heartbeats, all of the time
            assert server.get_stats().uptime == 3600
            network.hold()
            await client.wait_closed()
            assert 3600 + 60 <= anyio.current_time() <= 3600 + 90
            assert ended == [(1011, "Heartbeat timeout")]
            network.release()
            await anyio.lowlevel.checkpoint()

    package.testing.run(main)


def test_a_ping_measures_virtual_time(package: Any) -> None:
    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async def main() -> float:
        network = MemoryNetwork(latency=0.25)
        async with (
            package.serve_websocket(echo, port=80, network=network),
            package.connect_websocket("ws://localhost", network=network) as ws,
        ):
            await ws.send("hola")
            assert await ws.recv() == "hola"
            return float(await ws.ping())

    assert package.testing.run(main) == pytest.approx(0.5)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_in_real_time_too_memory_is_as_sockets_are(loop: str) -> None:
    package = RUNTIMES["trio" if loop == "trio" else "asyncio"]

    async def refusals(network: MemoryNetwork | None) -> list[tuple[str, type[object]]]:
        async with package.StelarServer(port=0, network=network) as server:
            port = server.get_port()
            server.on_ack("echo", lambda ctx: ctx.data)
            async with package.StelarClient(port, network=network) as client:
                assert await client.request("echo", "x" * 200_000) == "x" * 200_000
            with pytest.raises(OSError, match="in use") as in_use:
                await package.StelarServer(port=port, network=network).start()
        with pytest.raises(ConnectError) as refused:
            await package.StelarClient(f"ws://127.0.0.1:{port}", network=network).connect()
        errors = (in_use.value, refused.value)
        return [(str(error).replace(str(port), "PORT"), type(error.__cause__)) for error in errors]

    def run(main: Any, *arguments: Any) -> Any:
        options = {"use_uvloop": loop == "uvloop"} if loop != "trio" else {}
        backend = package.__name__.rpartition("_")[2]
        return anyio.run(main, *arguments, backend=backend, backend_options=options)

    assert run(refusals, MemoryNetwork()) == run(refusals, None)


def test_tls_is_taken_as_read(package: Any) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        async with package.StelarServer(tls=tls, network=network):
            async with package.StelarClient("wss://localhost:3000", network=network) as client:
                assert client.is_connected()
            with pytest.raises(ConnectError, match="the server speaks TLS: wss:// and tcps:// reach it"):
                await package.StelarClient("ws://localhost:3000", network=network).connect()

    package.testing.run(main)


def test_the_same_happens_every_time_on_asyncio() -> None:
    async def main() -> list[Any]:
        network, log = MemoryNetwork(chunk_size=3, latency=0.01), list[Any]()
        server = stelar_runtime_asyncio.StelarServer(tcp_port=3001, network=network)
        time_now = asyncio.get_running_loop().time
        server.on("say", lambda ctx: ctx.broadcast("said", ctx.data))
        async with server:
            clients = [
                stelar_runtime_asyncio.StelarClient(url, network=network)
                for url in ("localhost:3000", "tcp://localhost:3001") * 3
            ]
            for client in clients:
                client.on_all(lambda *event, client=client: log.append((time_now(), client.get_url(), event)))
                await client.connect()
            for client in clients:
                client.emit("say", clients.index(client))
            await asyncio.sleep(1)
            for client in clients:
                await client.disconnect()
        return log

    first, second = (stelar_runtime_asyncio.testing.run(main) for _ in range(2))
    assert first == second
    assert len(first) == 30


def test_anyio_runs_tests_in_virtual_time(package: Any) -> None:
    async def main() -> float:
        await anyio.sleep(3600)
        return anyio.current_time()

    backend = package.__name__.rpartition("_")[2]
    assert anyio.run(main, backend=backend, backend_options=package.testing.anyio_options()) == 3600


def test_trio_reads_its_clock_and_no_other() -> None:
    async def main() -> None:
        before = trio.current_time()
        with trio.move_on_after(100):
            await trio.sleep_forever()
        assert trio.current_time() == before + 100

    stelar_runtime_trio.testing.run(main)

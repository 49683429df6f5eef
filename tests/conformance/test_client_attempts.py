"""Which attempts a client makes, when, and how they end: what it is told about them and by whom."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.errors import AckTimeout, ConnectError, UpgradeRefused
from tests.conformance.world import PATIENCE, Inbox, World, inbox_of, read_head, read_to_end

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"reconnection": True, "custom_reconnect_delay": lambda attempt, base, maximum: 0.0}


@pytest.mark.virtual_time
@pytest.mark.feature("client: reconnection_attempts")
async def test_attempts_are_counted_anew_after_a_connection_that_was_stable(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire, reconnection_attempts=2, **QUICK)
        trying, connected = inbox_of(client, "reconnecting"), inbox_of(client, "connect")
        failed = inbox_of(client, "reconnect_failed")
        async with client:
            await connected.next()
            for lasts, attempt in ((0, 1), (0, 2), (6, 1), (4, 2)):
                await anyio.sleep(lasts)
                server.disconnect(str(client.get_id()), 1001)
                assert await trying.next() == attempt
                await connected.next()
            server.disconnect(str(client.get_id()), 1001)
            await failed.next()
            assert client.get_state() == "disconnected"


@pytest.mark.feature("client: reconnection_delay", "client: on_reconnect_delay")
async def test_a_server_that_restarts_or_is_busy_is_left_alone_for_a_while(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        delays = Inbox()

        def hurry(attempt: int, delay: float) -> float:
            delays(delay)
            return 0.0

        client = world.client(server, wire, reconnection=True, hooks={"on_reconnect_delay": hurry})
        connected = inbox_of(client, "connect")
        async with client:
            await connected.next()
            for code, least, most in ((1012, 5, 30), (1013, 5, 30), (1001, 0, 5)):
                server.disconnect(str(client.get_id()), code, "later")
                assert least <= await delays.next() <= most
                await connected.next()


@pytest.mark.feature("client: reconnection", "client: connect")
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_is_taken_for_final_unless_it_is_asked_for_more(world: World, status: int) -> None:
    heads: list[bytes] = []

    async def refuse(stream: ByteStream) -> None:
        heads.append(await read_head(stream))
        await stream.send(f"HTTP/1.1 {status} No\r\nContent-Length: 4\r\n\r\nwhy?".encode())
        await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(refuse) as port:
            for retry_refused, attempts in ((False, 1), (True, 4)):
                heads.clear()
                client = world.client_of(
                    f"ws://127.0.0.1:{port}",
                    retry_first_connect=True,
                    retry_refused=retry_refused,
                    reconnection_attempts=3,
                    **QUICK,
                )
                with pytest.raises(
                    ConnectError, match=f"ws://127.0.0.1:{port}: .* HTTP {status} No"
                ) as caught:
                    await client.connect()
                assert len(heads) == attempts
                refusal = caught.value.__cause__
                assert isinstance(refusal, UpgradeRefused)
                assert (refusal.status, refusal.response.body) == (status, b"why?")


@pytest.mark.feature("client: connect")
@pytest.mark.sockets
async def test_a_host_that_is_none_is_named(world: World, wire: str) -> None:
    url = f"{wire}://no.such.invalid:1"
    with anyio.fail_after(PATIENCE):
        with pytest.raises(ConnectError, match=f"cannot connect to {url}: ") as caught:
            await world.client_of(url).connect()
    assert isinstance(caught.value.__cause__, socket.gaierror)


@pytest.mark.feature("client: disconnect", "client: connect", "client: get_state")
@pytest.mark.parametrize("silent", [True, False], ids=["in the handshake", "between attempts"])
async def test_disconnect_ends_a_connect_that_is_under_way(world: World, wire: str, silent: bool) -> None:
    came = anyio.Event()

    async def serve(stream: ByteStream) -> None:
        came.set()
        if silent:
            await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port, anyio.create_task_group() as tasks:
            client = world.client_of(
                f"{wire}://127.0.0.1:{port}",
                reconnection=True,
                retry_first_connect=True,
                reconnection_delay=20,
            )
            trying = inbox_of(client, "reconnecting")

            async def connect() -> None:
                with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
                    await client.connect()

            tasks.start_soon(connect)
            await came.wait()
            if not silent:
                await trying.next()
            assert client.get_state() == ("connecting" if silent else "reconnecting")
            await client.disconnect()
            assert client.get_state() == "disconnected"


@pytest.mark.feature("client: ack_timeout", "client: request")
async def test_an_answer_that_comes_too_late_is_counted_and_no_other(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        gate = anyio.Event()

        @server.on_ack("slow")
        async def slow(ctx: Any) -> str:
            if ctx.data == "first":
                await gate.wait()
            return str(ctx.data)

        async with world.client(server, wire, ack_timeout=0.02) as client:
            with pytest.raises(AckTimeout):
                await client.request("slow", "first")
            gate.set()
            assert await client.request("slow", "second", timeout=PATIENCE) == "second"
            assert client.get_unmatched_answers() == 1

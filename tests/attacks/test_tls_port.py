"""Attacks on a port that speaks TLS, where nothing is known of a peer at first but its address."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme

from tests.conformance.grounds import SOCKETS
from tests.conformance.world import PATIENCE, Client, Server, World, raw_connection, read_to_end
from tests.support.wires import UPGRADE, frame

pytestmark = pytest.mark.anyio

GROUNDS = SOCKETS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def secure_house(
    world: World, wire: str, authority: trustme.CA, **options: Any
) -> AsyncIterator[tuple[Server, Client, ssl.SSLContext]]:
    """A server with TLS, an honest client, and what other clients need."""
    tls, trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(trust)
    with anyio.fail_after(PATIENCE):
        server = world.server(tls=tls, **options)
        server.on_ack("echo", lambda ctx: ctx.data)
        async with server, world.client(server, wire, tls=trust) as honest:
            yield server, honest, trust
            assert await honest.request("echo", "still") == "still"


async def test_tls_handshakes_that_do_not_come_count_for_their_address(
    world: World, wire: str, authority: trustme.CA
) -> None:
    """Costs a socket of the 50 of an address for ``connect_timeout``; one more is cut at once, and logged."""
    limits: dict[str, Any] = {"max_connections_per_ip": 4}
    async with AsyncExitStack() as stack:
        house = secure_house(world, wire, authority, **limits)
        server, honest, trust = await stack.enter_async_context(house)
        silent = [await stack.enter_async_context(raw_connection(server, wire)) for _ in range(3)]
        while server.gate.counts.get_count("127.0.0.1") < 4:
            await anyio.lowlevel.checkpoint()
        for _ in range(3):
            async with raw_connection(server, wire) as stream:
                assert await read_to_end(stream) == b""
        assert await honest.request("echo", 1) == 1
        for stream in silent:
            await stream.aclose()
        while server.gate.counts.get_count("127.0.0.1") > 1:
            await anyio.lowlevel.checkpoint()
        async with world.client(server, wire, tls=trust) as another:  # there is room again
            assert await another.request("echo", 2) == 2


async def test_what_is_no_tls_costs_its_sender_the_connection(
    world: World, wire: str, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Plain HTTP, frames, zeros and half a ClientHello: cut at once, an INFO line each, and no place kept."""
    caplog.set_level("INFO", "stelar")
    junk = [
        UPGRADE,
        frame(0, "chat", b"1"),
        b"\0" * 500,
        b"\xff" * 500,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01",
    ]
    async with secure_house(world, wire, authority) as (server, honest, _):
        for data in junk:
            async with raw_connection(server, wire) as stream:
                await stream.send(data)
                await stream.send_eof()
                await read_to_end(stream)  # an alert, if anything
            assert await honest.request("echo", 1) == 1
        while server.gate.counts.get_count("127.0.0.1") > 1:
            await anyio.lowlevel.checkpoint()
        assert server.get_clients() == [honest.get_id()]
    assert caplog.text.count("the TLS handshake with 127.0.0.1 failed") >= 4

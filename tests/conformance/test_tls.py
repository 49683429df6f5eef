"""TLS on both wires: certificates verified, and plain and encrypted bytes on each other's ports."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
import pytest
import trustme

from stelar_proto.errors import ConnectError
from tests.conformance.world import PATIENCE, World, inbox_of, raw_connection, read_to_end, url_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.feature("tls")
async def test_a_conversation_over_tls(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with (
        world.conversation(tls=server_tls) as (server,),
        world.client(server, wire, tls=client_tls) as client,
    ):
        server.on("echo", lambda ctx: ctx.emit_binary("echo", ctx.data))
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        echoes = inbox_of(client, "echo")
        payload = bytes(range(256)) * 8192
        client.emit_binary("echo", payload)
        assert await client.request("sum", [1, 2]) == 3
        assert await echoes.next() == payload
    assert client.get_state() == "disconnected"


async def test_stopping_says_goodbye_over_tls(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server(tls=server_tls)
        await server.start()
        async with world.client(server, wire, tls=client_tls) as client:
            ended, numbers = inbox_of(client, "disconnect"), inbox_of(client, "number")
            for number in range(100):
                server.broadcast("number", number)
            await server.stop()
            assert await numbers.take(100) == list(range(100))
            assert await ended.next() == (1001, "Server shutting down")


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    world: World, wire: str, server_tls: ssl.SSLContext
) -> None:
    async with world.conversation(tls=server_tls) as (server,):
        with pytest.raises(ConnectError, match=r"wss?://|tcps://.*") as caught:
            await world.client(server, wire, tls=True).connect()
        assert "certificate verify failed" in str(caught.value)
        assert server.get_clients() == []


async def test_a_certificate_for_another_name_is_refused(
    world: World, wire: str, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    async with world.conversation(tls=context) as (server,):
        with pytest.raises(ConnectError, match=r"certificate is not valid for|[Hh]ostname mismatch"):
            await world.client(server, wire, tls=client_tls).connect()


async def test_verification_can_be_turned_off_and_that_is_logged(
    world: World, wire: str, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        world.conversation(tls=server_tls) as (server,),
        world.client(server, wire, tls=True, reject_unauthorized=False) as client,
    ):
        assert client.is_connected()
    assert "is not verified" in caplog.text


@pytest.mark.feature("tls")
async def test_certificate_files_can_be_given_by_their_paths(
    world: World, wire: str, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    issued = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    async with (
        world.conversation(tls=(chain, key)) as (server,),
        world.client(server, wire, tls=client_tls) as client,
    ):
        assert client.is_connected()


def test_a_certificate_file_that_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(OSError, match=r"missing\.pem"):
        world.server(tls=(missing, missing))


async def test_plain_bytes_on_a_tls_port_end_that_connection_only(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with (
        world.conversation(tls=server_tls) as (server,),
        world.client(server, wire, tls=client_tls) as client,
    ):
        server.on_ack("echo", lambda ctx: ctx.data)
        async with raw_connection(server, wire) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await read_to_end(stream)
        assert await client.request("echo", 1) == 1


async def test_tls_on_a_plain_port_is_a_connect_error(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        with pytest.raises(ConnectError):
            await world.client_of(url_of(server, wire, secure=True)).connect()


@pytest.mark.feature("connect_timeout")
async def test_a_tls_handshake_that_never_comes_is_given_up(
    world: World, wire: str, server_tls: ssl.SSLContext
) -> None:
    async with world.conversation(tls=server_tls, connect_timeout=0.1) as (server,):
        async with raw_connection(server, wire) as stream:
            assert await read_to_end(stream) == b""

"""TLS on both wires: certificates verified, and plain and encrypted bytes on each other's ports."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream
from cryptography.hazmat.primitives import serialization

from stelar_proto.errors import ConnectError, StateError
from stelar_proto.tcp import Dialect, FrameType, encode_frame
from tests.conformance.world import PATIENCE, Server, World, inbox_of, raw_connection, read_to_end, url_of
from tests.support.wires import UPGRADE

pytestmark = [pytest.mark.anyio, pytest.mark.sockets]


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


@pytest.mark.feature("tls", "client: tls")
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


@pytest.mark.feature("client: tls", "client: mode")
async def test_every_form_of_url_finds_the_server_over_tls(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with world.conversation(tls=server_tls) as (server,):
        port = server.get_port() if wire == "ws" else server.get_tcp_port()
        forms = [f"https://localhost:{port}"] if wire == "ws" else []
        for url in (*forms, f"{port}", f"localhost:{port}", f"{wire}s://LOCALHOST:{port}"):
            async with world.client_of(url, mode=wire, tls=client_tls) as client:
                assert client.get_url() == f"{wire}s://localhost:{port}"
        with pytest.raises(ValueError, match=f"TLS is asked for, and {wire}:// is without"):
            world.client_of(f"{wire}://localhost:{port}", tls=client_tls)


@pytest.mark.feature("client: tls", "client: reject_unauthorized")
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    world: World, wire: str, server_tls: ssl.SSLContext
) -> None:
    async with world.conversation(tls=server_tls) as (server,):
        with pytest.raises(ConnectError, match=r"wss?://|tcps://.*") as caught:
            await world.client(server, wire, tls=True).connect()
        assert "certificate verify failed" in str(caught.value)
        assert server.get_clients() == []


@pytest.mark.feature("client: tls", "client: reject_unauthorized")
async def test_a_certificate_for_another_name_is_refused(
    world: World, wire: str, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    async with world.conversation(tls=context) as (server,):
        with pytest.raises(ConnectError, match=r"certificate is not valid for|[Hh]ostname mismatch"):
            await world.client(server, wire, tls=client_tls).connect()


@pytest.mark.feature("client: reject_unauthorized")
async def test_verification_can_be_turned_off_and_that_is_logged(
    world: World, wire: str, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation(tls=server_tls) as (server,):
        client = world.client(server, wire, tls=True, reject_unauthorized=False)
        for _ in range(2):
            async with client:
                assert client.is_connected()
        assert caplog.text.count("is not verified") == 1  # for all connections of this client
        client.update_options(reject_unauthorized=True)
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await client.connect()


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


# --- New certificates ---------------------------------------------------------------------------------------


def write_certificate(authority: trustme.CA, chain: Path, key: Path) -> None:
    """Issue a certificate, and put it and its key into the files."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))


@pytest.fixture
def paths(authority: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    """Of a certificate and its key."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    write_certificate(authority, chain, key)
    return chain, key


async def certificate_of(server: Server, wire: str, context: ssl.SSLContext) -> object:
    """The serial number of the certificate that a new connection is shown."""
    port = server.get_port() if wire == "ws" else server.get_tcp_port()
    assert port is not None
    stream = await anyio.connect_tcp("127.0.0.1", port, ssl_context=context, tls_standard_compatible=False)
    async with stream:
        certificate = stream.extra(TLSAttribute.peer_certificate)
        assert certificate is not None
        return certificate["serialNumber"]


@pytest.mark.feature("reload_tls", "tls")
async def test_a_new_certificate_is_for_new_connections_and_the_old_ones_go_on(
    world: World, wire: str, authority: trustme.CA, client_tls: ssl.SSLContext, paths: tuple[Path, Path]
) -> None:
    async with (
        world.conversation(tls=paths, shutdown_timeout=0.05) as (server,),
        world.client(server, wire, tls=client_tls) as client,
    ):
        server.on_ack("echo", lambda ctx: ctx.data)
        before = await certificate_of(server, wire, client_tls)
        assert await certificate_of(server, wire, client_tls) == before
        write_certificate(authority, *paths)
        assert await certificate_of(server, wire, client_tls) == before
        server.reload_tls()
        after = await certificate_of(server, wire, client_tls)
        assert after != before
        assert await client.request("echo", 1) == 1
        async with world.client(server, wire, tls=client_tls) as second:
            assert await second.request("echo", 2) == 2
        server.reload_tls()
        assert await certificate_of(server, wire, client_tls) == after


@pytest.mark.feature("reload_tls", "tls")
async def test_a_handshake_that_is_under_way_ends_with_the_certificate_it_began_with_or_the_new_one(
    world: World, wire: str, authority: trustme.CA, client_tls: ssl.SSLContext, paths: tuple[Path, Path]
) -> None:
    async with world.conversation(tls=paths, shutdown_timeout=0.05) as (server,):
        server.on_ack("echo", lambda ctx: ctx.data)
        async with anyio.create_task_group() as tasks:

            async def converse() -> None:
                async with world.client(server, wire, tls=client_tls) as client:
                    assert await client.request("echo", 1) == 1

            for _ in range(10):
                tasks.start_soon(converse)
                tasks.start_soon(converse)
                await anyio.lowlevel.checkpoint()
                write_certificate(authority, *paths)
                server.reload_tls()


@pytest.mark.feature("reload_tls", "tls")
async def test_a_bad_certificate_is_an_error_and_the_old_one_stays(
    world: World, wire: str, authority: trustme.CA, client_tls: ssl.SSLContext, paths: tuple[Path, Path]
) -> None:
    chain, key = paths
    other = chain.with_name("other.pem")
    write_certificate(authority, other, key.with_name("other-key.pem"))
    garbage = chain.with_name("garbage.pem")
    garbage.write_text("this is no certificate")  # a few bytes
    async with world.conversation(tls=paths, shutdown_timeout=0.05) as (server,):
        before = await certificate_of(server, wire, client_tls)
        for bad, kind, words in (
            ((chain.with_name("missing.pem"), key), FileNotFoundError, r"missing\.pem"),
            (
                (other, key),
                ssl.SSLError,
                r"the certificate .*other\.pem with .*key\.pem: .*mismatch",
            ),
            ((garbage, key), ssl.SSLError, r"cannot use the certificate .*garbage\.pem"),
            (chain, TypeError, r"tls is an ssl\.SSLContext, or \(certificate path, key path\)"),
        ):
            with pytest.raises(kind, match=words):
                server.reload_tls(bad)
            assert await certificate_of(server, wire, client_tls) == before
        server.reload_tls()


@pytest.mark.feature("reload_tls", "tls")
async def test_a_context_is_followed_by_a_new_one_or_by_paths(
    world: World,
    wire: str,
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    paths: tuple[Path, Path],
) -> None:
    async with world.conversation(tls=server_tls, shutdown_timeout=0.05) as (server,):
        with pytest.raises(ValueError, match=r"an ssl\.SSLContext cannot be read again"):
            server.reload_tls()
        seen = [await certificate_of(server, wire, client_tls)]
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        for tls in (context, paths, None):
            if tls is None:
                write_certificate(authority, *paths)
            server.reload_tls(tls)
            seen.append(await certificate_of(server, wire, client_tls))
        assert len(set(seen)) == 4


@pytest.mark.feature("reload_tls", "tls", "serve_websocket")
async def test_plain_websocket_servers_reload_too_and_one_without_tls_cannot(
    world: World, authority: trustme.CA, client_tls: ssl.SSLContext, paths: tuple[Path, Path]
) -> None:
    async def wait(connection: Any) -> None:
        await connection.recv()

    async with world.package.serve_websocket(wait, port=0, tls=paths, shutdown_timeout=0.05) as server:
        before = await certificate_of(server, "ws", client_tls)
        write_certificate(authority, *paths)
        server.reload_tls()
        assert await certificate_of(server, "ws", client_tls) != before
    for server in (world.server(), world.package.serve_websocket(wait)):
        with pytest.raises(StateError, match="the server has no TLS"):
            server.reload_tls(paths)


@pytest.mark.feature("tls")
def test_a_key_with_a_passphrase_is_refused_in_place_of_asking_for_it(world: World, tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    write_certificate(trustme.CA(), chain, key)
    unlocked = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        unlocked.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(OSError, match="the key is encrypted"):
        world.server(tls=(chain, key))


# --- One deadline for TLS and handshake ---------------------------------------------------------------------


async def feed_slowly(stream: ByteStream, data: bytes) -> None:
    """Send ``data`` byte by byte, until nobody listens any more."""
    try:
        for index in range(len(data)):
            await stream.send(data[index : index + 1])
            await anyio.sleep(0.02)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
    pytest.fail("all of it was listened to")


@pytest.mark.feature("connect_timeout", "tls")
async def test_tls_and_the_handshake_behind_it_have_one_deadline_which_bytes_do_not_move(
    world: World, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with world.conversation(tls=server_tls, connect_timeout=1.0) as (server,):
        async with raw_connection(server, "ws") as plain:
            await anyio.sleep(0.05)
            tls_began_at = server.runtime.now()
            stream = await TLSStream.wrap(plain, hostname="localhost", ssl_context=client_tls)
            while not server._peers:
                await anyio.lowlevel.checkpoint()
            [peer] = server._peers
            transport = peer.transport
            assert transport is not None
            deadline = transport.opened_at + 1.0
            assert transport.opened_at < tls_began_at
            assert peer.next_deadline() == deadline
            await stream.send(UPGRADE[:1])
            await anyio.wait_all_tasks_blocked()
            assert peer.next_deadline() == deadline
            await feed_slowly(stream, UPGRADE[1:-1] * 5)
            assert server.runtime.now() >= deadline


@pytest.mark.feature("connect_timeout", "tls")
async def test_a_tls_handshake_byte_by_byte_is_given_up(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with world.conversation(tls=server_tls, connect_timeout=0.2) as (server,):
        began_at = server.runtime.now()
        async with raw_connection(server, wire) as stream:
            outgoing = ssl.MemoryBIO()
            tls = client_tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            await feed_slowly(stream, outgoing.read())
            assert server.runtime.now() - began_at >= 0.15


@pytest.mark.feature("connect_timeout")
async def test_a_websocket_handshake_byte_by_byte_is_given_up(world: World) -> None:
    async with world.conversation(connect_timeout=0.2) as (server,):
        async with raw_connection(server, "ws") as stream:
            await feed_slowly(stream, UPGRADE[:-1])


@pytest.mark.feature("connect_timeout", "tls")
@pytest.mark.parametrize("secure", [False, True])
async def test_a_server_that_answers_byte_by_byte_is_given_up(
    world: World, wire: str, secure: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    hello = encode_frame(FrameType.CONNECT, "connect", b"x" * 1000, dialect=Dialect.DOCUMENTED)

    async def serve(plain: SocketStream) -> None:
        async with plain:
            stream: ByteStream = plain
            if secure:
                stream = await TLSStream.wrap(plain, server_side=True, ssl_context=server_tls)
            answer = b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 1000
            await feed_slowly(stream, answer if wire == "ws" else hello)
            tasks.cancel_scope.cancel()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        url = f"{wire}{'s' if secure else ''}://localhost:{port}"
        options: dict[str, Any] = {"tls": client_tls} if secure else {}
        client = world.client_of(url, connect_timeout=0.3, **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            with anyio.fail_after(PATIENCE), pytest.raises(ConnectError, match=r"within 0\.3 s"):
                await client.connect()


async def test_who_speaks_tls_to_a_plain_port_or_the_reverse_is_told(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with world.conversation() as (plain,), world.conversation(tls=server_tls) as (secure,):
        with pytest.raises(ConnectError, match="the server does not speak TLS on this port"):
            await world.client(plain, wire, tls=client_tls, connect_timeout=1000).connect()
        if wire == "ws":  # over TCP a client does not speak first, so nothing comes
            url = url_of(secure, wire)
            with pytest.raises(ConnectError, match=r"(speaks|looks like) TLS(, |; )use wss://"):
                await world.client_of(url).connect()

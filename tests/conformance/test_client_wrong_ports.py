"""What ``connect()`` says of a server of another kind than was asked for: what is wrong, what to change."""

from __future__ import annotations

import ssl

import anyio
import pytest
import trustme
from anyio.abc import ByteStream

from stelar_proto.errors import ConnectError
from tests.conformance.world import PATIENCE, Client, Server, World, read_head, read_to_end

pytestmark = [pytest.mark.anyio, pytest.mark.feature("client: connect")]


async def what_went_wrong(client: Client) -> str:
    """What ``connect()`` raises, without the address, which it names."""
    with anyio.fail_after(PATIENCE):
        with pytest.raises(ConnectError) as caught:
            await client.connect()
    address = f"cannot connect to {client.get_url()}: "
    assert str(caught.value).startswith(address)
    assert client.get_last_error() is caught.value
    return str(caught.value).removeprefix(address)


def port_of(server: Server, wire: str) -> int:
    port = server.get_port() if wire == "ws" else server.get_tcp_port()
    assert port is not None
    return port


async def test_a_websocket_client_at_the_tcp_port(world: World) -> None:
    async with world.conversation() as (server,):
        words = await what_went_wrong(world.client_of(f"ws://localhost:{server.get_tcp_port()}"))
    assert "looks like the TCP protocol of stelar; use tcp:// or tcps://" in words


async def test_the_server_says_what_came_to_its_tcp_port(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stelar.server")
    async with world.conversation() as (server,):
        left = anyio.Event()
        server.on_disconnect(lambda ctx: left.set())
        await what_went_wrong(world.client_of(f"ws://localhost:{server.get_tcp_port()}"))
        with anyio.fail_after(PATIENCE):
            await left.wait()
    assert "it looks like HTTP" in caplog.text


async def test_a_tcp_client_at_the_websocket_port(world: World) -> None:
    async with world.conversation(connect_timeout=0.05) as (server,):
        words = await what_went_wrong(world.client_of(f"tcp://localhost:{server.get_port()}"))
    assert words.startswith("the server ended the stream")
    assert words.endswith("if this is its WebSocket port, use ws://; if it speaks TLS, use tcps://")


async def test_a_tcp_client_at_an_http_server_that_gives_up(world: World) -> None:
    async def serve(stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")

    async with world.raw_server(serve) as port:
        words = await what_went_wrong(world.client_of(f"tcp://localhost:{port}"))
    assert words == "the server speaks HTTP on this port: use ws://, or the port of its TCP protocol"


@pytest.mark.feature("tcp_dialect", "client: tcp_dialect")
async def test_the_other_dialect(world: World) -> None:
    for ours, theirs in (("documented", "npm"), ("npm", "documented")):
        async with world.conversation(tcp_dialect=theirs) as (server,):
            url = f"tcp://localhost:{server.get_tcp_port()}"
            words = await what_went_wrong(world.client_of(url, tcp_dialect=ours))
        assert words.endswith(f"tcp_dialect={theirs!r} is what it speaks")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            b"200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            "HTTP 200 OK; something other than a WebSocket server answers there: check the port and the path",
        ),
        (
            b"403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\nwho are you?\r\nx",
            "HTTP 403 Forbidden: who are you?",
        ),
    ],
)
async def test_an_http_server_that_does_not_switch_protocols(
    world: World, answer: bytes, expected: str
) -> None:
    async def serve(stream: ByteStream) -> None:
        await read_head(stream)
        await stream.send(b"HTTP/1.1 " + answer)
        await read_to_end(stream)

    async with world.raw_server(serve) as port:
        words = await what_went_wrong(world.client_of(f"ws://localhost:{port}"))
    assert words == f"the server refused the upgrade: {expected}"


async def test_a_namespace_that_is_not_there_is_named_by_the_server(world: World) -> None:
    async with world.conversation() as (server,):
        words = await what_went_wrong(world.client_of(f"ws://localhost:{server.get_port()}/nowhere"))
    assert words.endswith("HTTP 404 Not Found: there is no namespace '/nowhere' here")


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.sockets
async def test_tls_to_a_plain_port(world: World, authority: trustme.CA) -> None:
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    async with world.conversation() as (server,):
        for wire in ("ws", "tcp"):
            for port in (server.get_port(), server.get_tcp_port()):
                client = world.client_of(f"{wire}s://localhost:{port}", tls=client_tls)
                words = await what_went_wrong(client)
                assert words == (
                    f"the server does not speak TLS on this port: use {wire}://, or the port on which it does"
                )


@pytest.mark.sockets
async def test_plain_words_to_a_tls_port(world: World, wire: str, authority: trustme.CA) -> None:
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_tls)
    async with world.conversation(tls=server_tls, connect_timeout=0.05) as (server,):
        words = await what_went_wrong(world.client_of(f"{wire}://localhost:{port_of(server, wire)}"))
    hint = r"use wss:// or https://" if wire == "ws" else "if it speaks TLS, use tcps://"
    assert words.endswith(hint)

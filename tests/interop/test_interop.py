"""Plain WebSocket with other libraries, in both directions, over plain streams and TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trustme

from stelar_proto.errors import ConnectionClosed
from stelar_proto.plain import WebSocketConnection

from .conversation import SUBPROTOCOL, Ended, Message, serve, talk
from .peers import (
    Peer,
    connect_aiohttp,
    connect_picows,
    connect_trio_websocket,
    connect_websockets,
    connect_websockets_sync,
    connect_websockets_trio,
    run_asyncio,
    run_trio,
    serve_aiohttp,
    serve_picows,
    serve_trio_websocket,
    serve_websockets,
    serve_websockets_trio,
)
from .wsproto_peer import connect_wsproto, serve_wsproto

pytestmark = [
    pytest.mark.anyio,
    # That our own sockets are closed is the business of the conformance tests.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PATIENCE = 30.0

PEERS = [
    Peer("websockets", run_asyncio, connect_websockets, serve_websockets),
    Peer("websockets-trio", run_trio, connect_websockets_trio, serve_websockets_trio),
    Peer("websockets-threads", run_asyncio, connect_websockets_sync, None),
    Peer("aiohttp", run_asyncio, connect_aiohttp, serve_aiohttp, echoes_close_code=False),  # with 1000
    Peer("picows", run_asyncio, connect_picows, serve_picows),
    Peer("trio-websocket", run_trio, connect_trio_websocket, serve_trio_websocket),
    Peer("wsproto", run_asyncio, connect_wsproto, serve_wsproto),
]


COMPRESSING_PEERS = [
    Peer(
        "websockets",
        run_asyncio,
        partial(connect_websockets, compression="deflate"),
        partial(serve_websockets, compression="deflate"),
    ),
    Peer(
        "websockets-trio",
        run_trio,
        partial(connect_websockets_trio, compression="deflate"),
        partial(serve_websockets_trio, compression="deflate"),
    ),
    Peer("aiohttp", run_asyncio, partial(connect_aiohttp, compress=15), serve_aiohttp),
    Peer(
        "wsproto",
        run_asyncio,
        partial(connect_wsproto, compressed=True),
        partial(serve_wsproto, compressed=True),
    ),
]


class OurTalker:
    can_fragment = True
    can_ping = True

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol

    async def send(self, message: Message) -> None:
        await self._connection.send(message)

    async def send_fragments(self, fragments: Sequence[str]) -> None:
        await self._connection.send_fragments(fragments)

    async def recv(self) -> Message:
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise Ended(*(error.received or (None, str(error)))) from None

    async def ping(self) -> None:
        assert await self._connection.ping() > 0

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, authority: trustme.CA) -> Any:
    """The contexts of the server and of the client."""
    if request.param == "plain":
        return None, None
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def package(anyio_backend_name: str) -> Any:
    return import_module(f"stelar_runtime_{anyio_backend_name}")


async def handle(connection: WebSocketConnection) -> None:
    await serve(OurTalker(connection))


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
async def test_their_client_talks_to_our_server(peer: Peer, package: Any, tls: Any) -> None:
    server_tls, client_tls = tls
    with anyio.fail_after(PATIENCE):
        async with package.serve_websocket(
            handle, "localhost", 0, tls=server_tls, subprotocols=[SUBPROTOCOL]
        ) as server:
            url = f"{'ws' if client_tls is None else 'wss'}://localhost:{server.get_port()}/"
            await anyio.to_thread.run_sync(peer.converse, url, client_tls)


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.has_server], ids=lambda peer: peer.name)
async def test_our_client_talks_to_their_server(peer: Peer, package: Any, tls: Any) -> None:
    server_tls, client_tls = tls
    with anyio.fail_after(PATIENCE), peer.serving(server_tls) as port:
        url = f"{'ws' if client_tls is None else 'wss'}://localhost:{port}/"
        async with package.connect_websocket(url, tls=client_tls, subprotocols=[SUBPROTOCOL]) as connection:
            await talk(OurTalker(connection))
        assert (connection.close_code, connection.close_reason) == (3000, "that was all")


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.has_server], ids=lambda peer: peer.name)
async def test_their_server_hears_our_goodbye(peer: Peer, package: Any) -> None:
    with anyio.fail_after(PATIENCE), peer.serving(None) as port:
        async with package.connect_websocket(f"ws://localhost:{port}/", subprotocols=[SUBPROTOCOL]) as ws:
            await ws.send("hola")
            assert await ws.recv() == "hola"
            await ws.close(3001, "enough")
        assert ws.close_code == (3001 if peer.echoes_close_code else 1000)


# --- Compressed ---------------------------------------------------------------------------------------------


def settings(package: Any, takes_over: bool) -> Any:
    return package.PerMessageDeflate(
        server_no_context_takeover=not takes_over, client_no_context_takeover=not takes_over, min_size=0
    )


@pytest.mark.parametrize("takes_over", [False, True])
@pytest.mark.parametrize("peer", COMPRESSING_PEERS, ids=lambda peer: peer.name)
async def test_their_client_talks_to_our_server_compressed(
    peer: Peer, package: Any, takes_over: bool
) -> None:
    agreements = []

    async def record(connection: WebSocketConnection) -> None:
        agreements.append(connection.compression)
        await handle(connection)

    options = {"subprotocols": [SUBPROTOCOL], "compression": settings(package, takes_over)}
    with anyio.fail_after(PATIENCE):
        async with package.serve_websocket(record, "localhost", 0, **options) as server:
            url = f"ws://localhost:{server.get_port()}/"
            await anyio.to_thread.run_sync(peer.converse, url, None)
    [agreement] = agreements
    assert agreement is not None
    assert agreement.server_no_context_takeover is not takes_over


@pytest.mark.parametrize("takes_over", [False, True])
@pytest.mark.parametrize("peer", COMPRESSING_PEERS, ids=lambda peer: peer.name)
async def test_our_client_talks_to_their_server_compressed(
    peer: Peer, package: Any, takes_over: bool
) -> None:
    options = {"subprotocols": [SUBPROTOCOL], "compression": settings(package, takes_over)}
    with anyio.fail_after(PATIENCE), peer.serving(None) as port:
        async with package.connect_websocket(f"ws://localhost:{port}/", **options) as connection:
            await talk(OurTalker(connection))
        assert (connection.close_code, connection.close_reason) == (3000, "that was all")
        assert connection.compression is not None
        assert connection.compression.client_no_context_takeover is not takes_over


def node_command() -> list[str] | str:
    """How to run Node with its own WebSocket client, or why that cannot be."""
    node = shutil.which("node")
    if node is None:
        return "Node.js is not installed: apt-get install nodejs"
    for options in ([], ["--experimental-websocket"]):
        probe = [node, *options, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
        if subprocess.run(probe, capture_output=True, timeout=30).returncode == 0:
            return [node, *options]
    return "this Node.js has no WebSocket client of its own; version 20.10 or newer does"


async def test_nodes_client_talks_to_our_server(package: Any, tls: Any, authority: trustme.CA) -> None:
    command = node_command()
    if isinstance(command, str):
        pytest.skip(command)
    server_tls, client_tls = tls
    script = Path(__file__).with_name("node_client.mjs")
    with anyio.fail_after(PATIENCE), authority.cert_pem.tempfile() as ca:
        async with package.serve_websocket(
            handle, "localhost", 0, tls=server_tls, subprotocols=[SUBPROTOCOL]
        ) as server:
            url = f"{'ws' if client_tls is None else 'wss'}://localhost:{server.get_port()}/"
            environment = {"NODE_EXTRA_CA_CERTS": ca}
            result = await anyio.run_process([*command, str(script), url], check=False, env=environment)
    assert (result.returncode, result.stdout) == (0, b"good\n"), result.stderr.decode()

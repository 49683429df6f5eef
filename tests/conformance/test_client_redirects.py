"""Handshakes that are answered with a redirect: followed on the same host, with one deadline."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream

from stelar_proto.channel import HttpResponse
from stelar_proto.errors import ConnectError, UpgradeRefused
from tests.conformance.world import PATIENCE, World, read_head, read_to_end, url_of

pytestmark = [pytest.mark.anyio, pytest.mark.feature("client: redirects")]


def redirecting(
    heads: list[bytes], location: str, status: int = 302
) -> Callable[[ByteStream], Awaitable[object]]:
    """A server that sends everybody to ``location``, and notes what they said."""

    async def serve(stream: ByteStream) -> None:
        heads.append(await read_head(stream))
        answer = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        await stream.send(answer.encode())
        await read_to_end(stream)

    return serve


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(message)


async def test_a_client_goes_where_the_same_host_sends_it_and_says_the_same_there(world: World) -> None:
    heads: list[bytes] = []
    got: list[str | None] = []
    async with world.conversation() as (server,):
        server.on_connection(lambda ctx: got.append(ctx.request.headers.get("cookie")))
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        async with world.raw_server(redirecting(heads, url_of(server, "ws"))) as port:
            client = world.client_of(f"ws://localhost:{port}/old", headers={"Cookie": "token=1"})
            async with client:
                assert await client.request("sum", [1, 2]) == 3
            assert client.get_url() == f"ws://localhost:{port}/old"
    assert b"\r\nCookie: token=1\r\n" in heads[0]
    assert got == ["token=1"]


async def test_another_host_is_named_in_the_error_and_hears_nothing(world: World) -> None:
    heads: list[bytes] = []
    with anyio.fail_after(PATIENCE):
        async with (
            world.raw_server(redirecting(heads, "unreachable")) as other,
            world.raw_server(redirecting(heads, f"http://127.0.0.1:{other}/token", 307)) as port,
        ):
            client = world.client_of(f"ws://localhost:{port}", headers={"Authorization": "Bearer secret"})
            with pytest.raises(
                ConnectError, match=rf"another host.* ws://127\.0\.0\.1:{other}/token"
            ) as caught:
                await client.connect()
    assert isinstance(caught.value.__cause__, UpgradeRefused)
    assert len(heads) == 1


async def test_redirects_in_a_circle_end(world: World) -> None:
    heads: list[bytes] = []
    with anyio.fail_after(PATIENCE):
        async with world.raw_server(redirecting(heads, "/again", 301)) as port:
            with pytest.raises(ConnectError, match="as did 5 before it, and no more are followed"):
                await world.client_of(f"ws://localhost:{port}").connect()
    assert len(heads) == 6


@pytest.mark.feature("client: connect_timeout")
async def test_redirects_have_one_deadline_with_all_else(world: World) -> None:
    heads: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        await anyio.sleep(0.06)
        await redirecting(heads, "/again")(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port:
            with pytest.raises(ConnectError, match=r"within 0\.1 s"):
                await world.client_of(f"ws://localhost:{port}", connect_timeout=0.1).connect()


@pytest.mark.feature("connect_websocket")
async def test_plain_websocket_follows_redirects_by_the_same_code(world: World) -> None:
    def process_request(request: Any) -> HttpResponse | None:
        targets = {"/old": "/new", "/out": "ws://other.example/"}
        if request.target in targets:
            return HttpResponse(308, headers=[("Location", targets[request.target])])
        return None

    with anyio.fail_after(PATIENCE):
        async with world.serve_websocket(echo, process_request=process_request) as server:
            url = f"ws://localhost:{server.get_port()}"
            async with world.connect_websocket(f"{url}/old") as ws:
                await ws.send("hola")
                assert await ws.recv() == "hola"
                assert ws.request.target == "/new"
            with pytest.raises(ConnectError, match=r"another host.* ws://other\.example/"):
                async with world.connect_websocket(f"{url}/out"):
                    pass


@pytest.mark.sockets
async def test_a_redirect_may_lead_into_tls_and_never_out_of_it(world: World) -> None:
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    heads: list[bytes] = []
    back = ""

    def process_request(request: Any) -> HttpResponse | None:
        return HttpResponse(302, headers=[("Location", back)]) if request.target == "/back" else None

    serve = partial(world.serve_websocket, echo, tls=server_tls, process_request=process_request)
    with anyio.fail_after(PATIENCE):
        async with serve() as server:
            secure = f"wss://localhost:{server.get_port()}"
            async with world.raw_server(redirecting(heads, secure)) as port:
                back = f"ws://localhost:{port}/"
                async with world.connect_websocket(back, tls=client_tls) as ws:
                    await ws.send("hola")
                    assert await ws.recv() == "hola"
                with pytest.raises(ConnectError, match="which would give up TLS"):
                    async with world.connect_websocket(f"{secure}/back", tls=client_tls):
                        pass
    assert len(heads) == 1

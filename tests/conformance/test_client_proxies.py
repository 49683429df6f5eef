"""Through an HTTP proxy: on both wires, with TLS and without, by option and by environment."""

from __future__ import annotations

import ssl

import anyio
import pytest
import trustme
from anyio.abc import ByteStream

from stelar_proto.channel import Closed
from stelar_proto.errors import ConnectError, ProxyError
from stelar_proto.testing import MemoryNetwork
from tests.conformance.world import PATIENCE, Server, World, inbox_of, read_to_end, url_of
from tests.support.proxy import RESET, ConnectProxy

pytestmark = [pytest.mark.anyio, pytest.mark.sockets, pytest.mark.feature("client: proxy")]

HOST = "chat.example"
"""A name that only the proxy knows."""
NOBODY = "192.0.2.1"
"""An address of documentation (RFC 5737): it answers nobody."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)


def far(server: Server, wire: str, *, secure: bool = False) -> str:
    """Where ``server`` is reached by whoever asks the proxy."""
    return url_of(server, wire, secure=secure).replace("localhost", HOST)


async def test_a_conversation_goes_through_the_proxy_which_alone_knows_the_host(
    world: World, wire: str
) -> None:
    proxy = ConnectProxy(credentials="user:p@ss", server_speaks_first=wire == "tcp")
    async with world.conversation() as (server,), proxy.serving():
        server.on("echo", lambda ctx: ctx.emit_binary("echo", ctx.data))
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        url = f"http://user:p%40ss@127.0.0.1:{proxy.port}"
        async with world.client_of(far(server, wire), proxy=url) as client:
            echoes = inbox_of(client, "echo")
            payload = bytes(range(256)) * 4096
            client.emit_binary("echo", payload)
            assert await client.request("sum", [1, 2]) == 3
            assert await echoes.next() == payload
        port = server.get_port() if wire == "ws" else server.get_tcp_port()
        assert proxy.asked_for == [f"{HOST}:{port}"]


async def test_tls_is_spoken_to_the_server_through_the_proxy(
    world: World, wire: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    proxy = ConnectProxy()
    async with world.conversation(tls=server_tls) as (server,), proxy.serving():
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        url = far(server, wire, secure=True)
        async with world.client_of(url, tls=client_tls, proxy=proxy.url) as client:
            assert await client.request("sum", [1, 2]) == 3
        assert len(proxy.asked_for) == 1
        server_of_another_name = url.replace(HOST, "other.example")
        with pytest.raises(ConnectError, match=r"certificate is not valid for|[Hh]ostname mismatch"):
            await world.client_of(server_of_another_name, tls=client_tls, proxy=proxy.url).connect()


@pytest.fixture(scope="module")
def proxy_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authorities(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("proxy") / "authorities.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls-in-tls"])
async def test_a_proxy_may_be_reached_over_tls_with_tls_to_the_server_within(
    world: World,
    wire: str,
    secure: bool,
    proxy_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    authorities: str,
) -> None:
    first = wire == "tcp" and not secure
    proxy = ConnectProxy(credentials="user:secret", tls=proxy_tls, server_speaks_first=first)
    async with world.conversation(tls=server_tls if secure else None) as (server,), proxy.serving():
        server.on("echo", lambda ctx: ctx.emit_binary("echo", ctx.data))
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        url = far(server, wire, secure=secure)
        tls = {"tls": client_tls} if secure else {}
        with pytest.raises(ConnectError, match=rf"the proxy 127\.0\.0\.1:{proxy.port}: .*verify failed"):
            await world.client_of(url, proxy=proxy.url, **tls).connect()
        monkeypatch.setenv("SSL_CERT_FILE", authorities)
        with pytest.raises(ConnectError, match=r"the proxy .* 407"):
            await world.client_of(url, proxy=proxy.url.replace("secret", "wrong"), **tls).connect()
        if secure:
            with pytest.raises(ConnectError, match=r"certificate is not valid for|[Hh]ostname mismatch"):
                await world.client_of(url.replace(HOST, "x.example"), proxy=proxy.url, **tls).connect()
        client = world.client_of(url, proxy=proxy.url, **tls)
        for _ in range(2):
            async with client:
                echoes = inbox_of(client, "echo")
                payload = bytes(range(256)) * 8192
                client.emit_binary("echo", payload)
                assert await client.request("sum", [1, 2]) == 3
                assert await echoes.next() == payload
                ended = inbox_of(client, "disconnect")
            assert await ended.next() == (1000, "")
        async with client:
            ended = inbox_of(client, "disconnect")
            server.disconnect(str(client.get_id()), 4000, "enough")
            assert await ended.next() == (4000, "enough")
        async with client:
            ended = inbox_of(client, "disconnect")
            [peer] = server._peers
            peer.abort(Closed(1006, "", None))
            assert (await ended.next())[0] == 1006
        for steps in range(12):
            with anyio.move_on_after(steps / 500):
                await client.connect()
            await client.disconnect()
        while server.get_clients():
            await anyio.lowlevel.checkpoint()


async def test_the_environment_names_a_proxy_and_false_ignores_it(
    world: World, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ConnectProxy(credentials="user:pass")
    async with world.conversation() as (server,), proxy.serving():
        monkeypatch.setenv("HTTP_PROXY" if wire == "ws" else "all_proxy", proxy.url)
        async with world.client_of(far(server, wire)):
            pass
        assert len(proxy.asked_for) == 1
        monkeypatch.setenv("NO_PROXY", f"{NOBODY}/24")
        nobody = far(server, wire).replace(HOST, NOBODY)
        for url, option in ((nobody, None), (nobody, False)):
            with pytest.raises(ConnectError, match=NOBODY):  # whom the proxy alone would find
                await world.client_of(url, proxy=option, connect_timeout=0.02).connect()
        async with world.client(server, wire):  # this machine
            pass
        assert len(proxy.asked_for) == 1


async def test_a_proxy_that_refuses_is_named_with_its_status_and_without_credentials(
    world: World, wire: str
) -> None:
    for credentials, answer, words in (
        ("user:secret", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "HTTP 403 Forbidden"),
        ("user:secret", b"SSH-2.0-OpenSSH_9.6\r\n", "no valid HTTP/1.1 response"),
        ("user:secret", b"HTTP/1.1 200", "the connection ended before a complete HTTP response"),
        ("user:secret", RESET, "Connection reset by peer"),
    ):
        proxy = ConnectProxy(credentials=credentials, answer=answer)
        with anyio.fail_after(PATIENCE):
            async with proxy.serving():
                client = world.client_of(f"{wire}://{HOST}:1", proxy=proxy.url)
                with pytest.raises(ConnectError, match=words) as caught:
                    await client.connect()
        cause = caught.value.__cause__
        assert isinstance(cause, ProxyError)
        assert str(caught.value).startswith(
            f"cannot connect to {wire}://{HOST}:1: the proxy 127.0.0.1:{proxy.port}"
        )
        assert "secret" not in f"{caught.value!r} {cause!r} {client!r} {client.get_options()!r}"


async def test_tls_within_tls_to_a_server_that_does_not_read_is_left_in_time(
    world: World,
    wire: str,
    proxy_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    authorities: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authorities)
    proxy = ConnectProxy(tls=proxy_tls)
    server = world.server(tls=server_tls, inbox_limit=1, shutdown_timeout=0.01)
    async with world.conversation(server=server), proxy.serving():

        @server.on("n")
        async def hang(ctx: object) -> None:
            await anyio.sleep_forever()

        url = far(server, wire, secure=True)
        client = world.client_of(url, tls=client_tls, proxy=proxy.url, close_timeout=0.05)
        await client.connect()
        for _ in range(150):
            client.emit_binary("n", bytes(100_000))
        with anyio.fail_after(PATIENCE / 2):
            await client.disconnect()
        assert client.get_state() == "disconnected"


async def test_what_a_proxy_over_tls_says_is_told_like_what_others_say(
    world: World, wire: str, proxy_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, authorities: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authorities)
    for answer, words in (
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "HTTP 403 Forbidden"),
        (b"HTTP/1.1 200", "the connection ended before a complete HTTP response"),
        (RESET, "ended before|reset"),
        (b"", "no connection within"),
    ):
        proxy = ConnectProxy(answer=answer, tls=proxy_tls)
        with anyio.fail_after(PATIENCE):
            async with proxy.serving():
                timeout = PATIENCE if answer else 0.1
                client = world.client_of(f"{wire}://{HOST}:1", proxy=proxy.url, connect_timeout=timeout)
                with pytest.raises(ConnectError, match=rf"{words}") as caught:
                    await client.connect()
        assert f"the proxy 127.0.0.1:{proxy.port}" in str(caught.value)


async def test_a_proxy_that_does_not_speak_tls_is_named(world: World, wire: str) -> None:
    async def serve(stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port:
            client = world.client_of(f"{wire}://{HOST}:1", proxy=f"https://127.0.0.1:{port}")
            with pytest.raises(ConnectError, match=rf"the proxy .*:{port}: .* does not speak TLS on this"):
                await client.connect()


async def test_wrong_credentials_are_a_407_that_is_not_tried_again(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = ConnectProxy(credentials="user:right")
    with anyio.fail_after(PATIENCE):
        async with proxy.serving():
            for url, words in (
                (proxy.url.replace("right", "secret"), "407 .*does not accept the user and password"),
                (f"http://127.0.0.1:{proxy.port}", "407 .*wants a user and a password"),
            ):
                client = world.client_of(
                    f"{wire}://{HOST}:1", proxy=url, reconnection=True, retry_first_connect=True
                )
                with pytest.raises(ConnectError, match=words):
                    await client.connect()
            assert len(proxy.asked_for) == 2
    assert "secret" not in caplog.text


async def test_a_proxy_that_is_not_there_is_named(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        async with ConnectProxy().serving() as proxy:
            pass
        with pytest.raises(ConnectError) as caught:
            await world.client_of(f"{wire}://{HOST}:1", proxy=proxy.url).connect()
    address = f"{wire}://{HOST}:1"
    assert str(caught.value) == (
        f"cannot connect to {address}: the proxy 127.0.0.1:{proxy.port}: connection refused"
    )


@pytest.mark.feature("client: connect_timeout")
async def test_a_proxy_that_does_not_answer_is_given_up_in_time(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        async with ConnectProxy(answer=b"").serving() as proxy:
            client = world.client_of(f"{wire}://{HOST}:1", proxy=proxy.url, connect_timeout=0.05)
            with pytest.raises(
                ConnectError, match=rf"within 0\.05 s through the proxy 127\.0\.0\.1:{proxy.port}"
            ):
                await client.connect()


async def test_another_proxy_is_for_the_next_connection(world: World, wire: str) -> None:
    proxy = ConnectProxy()
    async with world.conversation() as (server,), proxy.serving():
        client = world.client_of(far(server, wire), proxy="http://127.0.0.1:1")
        with pytest.raises(ConnectError, match="the proxy"):
            await client.connect()
        client.update_options(proxy=proxy.url)
        async with client:
            assert len(proxy.asked_for) == 1


async def test_a_network_in_memory_has_no_proxies(world: World, wire: str) -> None:
    network = MemoryNetwork()
    async with world.server(network=network) as server:
        client = world.client_of(far(server, wire), network=network, proxy="http://127.0.0.1:1")
        async with client:
            assert client.is_connected()


def test_what_is_no_proxy_is_refused_when_the_client_is_made(world: World, wire: str) -> None:
    with pytest.raises(ValueError, match=r"SOCKS proxies .* are not supported") as caught:
        world.client_of(f"{wire}://{HOST}:1", proxy="socks5://user:secret@127.0.0.1:1080")
    assert "secret" not in str(caught.value)


async def test_socks_in_the_environment_is_an_error_that_names_the_variable(
    world: World, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(
        ConnectError, match=r"environment variable all_proxy .*SOCKS .*proxy=False ignores it"
    ):
        await world.client_of(f"{wire}://{HOST}:1").connect()


@pytest.mark.feature("connect_websocket")
async def test_plain_websocket_goes_through_a_proxy_by_the_same_code(world: World) -> None:
    async def echo(ws):  # type: ignore[no-untyped-def]
        async for message in ws:
            await ws.send(message)

    proxy = ConnectProxy(credentials="user:secret")
    with anyio.fail_after(PATIENCE):
        async with world.serve_websocket(echo) as server, proxy.serving():
            url = f"ws://{HOST}:{server.get_port()}"
            async with world.connect_websocket(url, proxy=proxy.url) as ws:
                await ws.send("hola")
                assert await ws.recv() == "hola"
            with pytest.raises(ConnectError, match=r"the proxy .* 407") as caught:
                async with world.connect_websocket(url, proxy=proxy.url.replace("secret", "wrong")):
                    pass
            assert "wrong" not in str(caught.value)

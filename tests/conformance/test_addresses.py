"""Where clients come from: how many may come from one address, and whose word about it is taken."""

from __future__ import annotations

import socket
import tempfile
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.errors import ConnectError, PeerFailure, UpgradeRefused
from tests.conformance.world import (
    PATIENCE,
    Client,
    Inbox,
    Server,
    World,
    raw_connection,
    read_exactly,
    read_to_end,
)
from tests.support.wires import UPGRADE

pytestmark = pytest.mark.anyio

WORDS = "Too many connections from this IP"


async def assert_refused(client: Client, wire: str) -> None:
    """It is told why, before it is taken in."""
    with pytest.raises(ConnectError) as caught:
        await client.connect()
    cause = caught.value.__cause__
    if wire == "ws":
        assert isinstance(cause, UpgradeRefused)
        assert (cause.status, cause.response.body) == (429, f"{WORDS}\n".encode())
    else:
        assert isinstance(cause, PeerFailure)
        assert cause.reason == WORDS


def addresses_of(server: Server) -> Inbox:
    """Where those come from who are taken in."""
    seen = Inbox()
    server.on_connection(lambda ctx: seen(ctx.client_info.remote_address))
    return seen


def error_frame(words: str) -> bytes:
    return (12 + len(words)).to_bytes(4, "big") + b"\x0a\0\5error" + words.encode()


@pytest.mark.feature("max_connections_per_ip")
async def test_one_connection_too_many_from_an_address_is_refused_until_another_has_left(
    world: World, wire: str
) -> None:
    async with world.conversation("ws", "tcp", max_connections_per_ip=2) as (server, first, _):
        await assert_refused(world.client(server, wire), wire)
        await first.disconnect()
        async with AsyncExitStack() as stack:
            while True:  # its stream may take a moment to end
                try:
                    await stack.enter_async_context(world.client(server, wire))
                    break
                except ConnectError:
                    await anyio.sleep(0.001)
            await assert_refused(world.client(server, wire), wire)


@pytest.mark.feature("max_connections_per_ip")
async def test_connections_that_have_not_said_anything_count(world: World, wire: str) -> None:
    async with world.conversation(max_connections_per_ip=2) as (server,):
        async with raw_connection(server, "tcp") as silent, raw_connection(server, "ws"):
            await read_exactly(silent, 50)
            await assert_refused(world.client(server, wire), wire)


@pytest.mark.feature("trusted_proxies", "max_connections_per_ip", "ctx.client_info")
async def test_a_trusted_proxys_word_is_taken_for_where_its_clients_come_from(world: World) -> None:
    async with world.conversation(trusted_proxies=["127.0.0.0/8"], max_connections_per_ip=1) as (server,):
        seen = addresses_of(server)
        first = {"X-Forwarded-For": "6.6.6.6, 198.51.100.7"}
        second = {"X-Forwarded-For": "198.51.100.7, [2001:db8::1]:443, 127.0.0.9"}
        async with world.client(server, "ws", headers=first), world.client(server, "ws", headers=second):
            assert await seen.take(2) == ["198.51.100.7", "2001:db8::1"]
            await assert_refused(world.client(server, "ws", headers=first), "ws")


@pytest.mark.feature("trusted_proxies")
async def test_nobody_else_is_believed(world: World) -> None:
    async with world.conversation(trusted_proxies=["10.0.0.0/8"]) as (server,):
        seen = addresses_of(server)
        async with world.client(server, "ws", headers={"X-Forwarded-For": "198.51.100.7"}):
            assert await seen.next() == "127.0.0.1"


class Tracker:
    """One of the application's own."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.changed = Inbox()

    def check(self, ip: str) -> Any:
        return self.counts.get(ip, 0) < 1

    def add(self, ip: str) -> Any:
        self.counts[ip] = self.counts.get(ip, 0) + 1

    def remove(self, ip: str) -> Any:
        self.counts[ip] -= 1
        self.changed(self.counts[ip])

    def get_count(self, ip: str) -> Any:
        return self.counts.get(ip, 0)

    def cleanup(self) -> Any:
        pass


class AsyncTracker(Tracker):
    """The same, which takes its time."""

    async def check(self, ip: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return bool(super().check(ip))

    async def add(self, ip: str) -> None:
        await anyio.lowlevel.checkpoint()
        super().add(ip)

    async def remove(self, ip: str) -> None:
        await anyio.lowlevel.checkpoint()
        super().remove(ip)


@pytest.mark.parametrize("kind", [Tracker, AsyncTracker])
@pytest.mark.feature("ip_tracker")
async def test_a_tracker_of_the_applications_own_decides_and_counts(
    world: World, wire: str, kind: type[Tracker]
) -> None:
    tracker = kind()
    async with world.conversation(wire, ip_tracker=tracker) as (server, client):
        assert tracker.get_count("127.0.0.1") == 1
        await assert_refused(world.client(server, wire), wire)
        await client.disconnect()
        assert await tracker.changed.next() == 0
        async with world.client(server, wire):
            assert tracker.counts == {"127.0.0.1": 1}
    assert tracker.counts == {"127.0.0.1": 0}, "a server that stopped has told it of everybody"


@pytest.mark.parametrize("broken", ["check", "add", "remove"])
@pytest.mark.feature("ip_tracker")
async def test_a_tracker_that_raises_is_logged_and_keeps_nobody_out(
    world: World, wire: str, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(AsyncTracker):
        async def fail(self, ip: str) -> None:
            raise ConnectionError("the database is gone")

    tracker = Broken()
    setattr(tracker, broken, tracker.fail)
    async with world.conversation(wire, ip_tracker=tracker) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        assert await client.request("echo", 1) == 1
        if broken == "add":
            tracker.counts["127.0.0.1"] = 1  # for remove, which is called all the same
    assert f"ip_tracker.{broken} raised" in caplog.text


HEADERS = {
    "line": b"PROXY TCP4 198.51.100.7 10.0.0.9 50000 3001\r\n",
    "binary": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\x0a\x00\x00\x09\xc3\x50\x0b\xb9",
}


@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.feature("proxy_protocol", "trusted_proxies")
async def test_a_proxys_header_says_whom_a_tcp_connection_stands_for(world: World, version: str) -> None:
    options: Any = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1"]}
    async with world.conversation("ws", **options) as (server, _):
        seen = addresses_of(server)
        heard = Inbox()
        server.on("chat", lambda ctx: heard(ctx.data))
        async with raw_connection(server, "tcp") as stream:
            header = HEADERS[version]
            await stream.send(header[:20])
            await anyio.lowlevel.checkpoint()
            await stream.send(header[20:] + b"\0\0\0\x0d\0\0\4chat42")
            assert (await read_exactly(stream, 50))[4:14] == b"\6\0\7connect"
            assert await seen.next() == "198.51.100.7"
            assert await heard.next() == 42


@pytest.mark.parametrize(
    ("proxies", "sent", "words"),
    [
        (["127.0.0.1"], b"\0\0\0\x0d\0\0\4chat42", "the stream does not begin with a PROXY header"),
        (["127.0.0.1"], b"PROXY TCP4 a b 1 2\r\n", "a PROXY line with a bad address: "),
        (["10.0.0.0/8"], HEADERS["line"], "connections are taken from trusted proxies only"),
    ],
)
@pytest.mark.feature("proxy_protocol", "trusted_proxies")
async def test_what_has_no_header_of_a_trusted_proxy_is_refused(
    world: World, proxies: list[str], sent: bytes, words: str
) -> None:
    async with world.conversation(proxy_protocol=True, trusted_proxies=proxies) as (server,):
        async with raw_connection(server, "tcp") as stream:
            await stream.send(sent)
            told = await read_to_end(stream)
        size = int.from_bytes(told[:4], "big")
        assert size == len(told)
        assert told[4:].startswith(error_frame(words)[4:])
        assert server.get_stats().total_connections == 0


@pytest.mark.sockets
@pytest.mark.feature("unix_path", "trusted_proxies", "proxy_protocol")
async def test_a_proxy_on_a_unix_socket_is_believed_if_that_is_said(world: World) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as sock:
        path = f"{folder}/s"
        sock.bind(f"{folder}/t")
        server = world.package.StelarServer(
            unix_path=path,
            tcp_sock=sock,
            proxy_protocol=True,
            trusted_proxies=["unix"],
            shutdown_timeout=0.05,
        )
        seen = addresses_of(server)
        with anyio.fail_after(PATIENCE):
            async with (
                server,
                await anyio.connect_unix(path) as web,
                await anyio.connect_unix(f"{folder}/t") as tcp,
            ):
                await web.send(UPGRADE[:-2] + b"X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\n\r\n")
                assert await seen.next() == "198.51.100.7"
                await tcp.send(b"PROXY TCP4 198.51.100.8 127.0.0.1 5 6\r\n")
                assert await seen.next() == "198.51.100.8"


@pytest.mark.feature("proxy_protocol", "use")
async def test_a_middleware_whose_client_breaks_off_at_once_is_begun_and_cancelled(world: World) -> None:
    told = Inbox()
    server = world.server(proxy_protocol=True, trusted_proxies=["127.0.0.1"])

    @server.use
    async def wait(ctx: Any, next_: Any) -> None:
        told("begun")
        try:
            await anyio.sleep(1000)
        finally:
            told("cancelled")

    with anyio.fail_after(PATIENCE):
        async with server, raw_connection(server, "tcp") as stream:
            await stream.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 5 6\r\n" + bytes(7))  # no frame is so short
            assert await read_to_end(stream) == error_frame("INVALID_FRAME_SIZE")
            assert await told.take(2) == ["begun", "cancelled"]


@pytest.mark.feature("proxy_protocol", "connect_timeout")
async def test_a_header_that_does_not_come_is_not_waited_for_longer_than_the_handshake(world: World) -> None:
    options: Any = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1"], "connect_timeout": 0.05}
    async with world.conversation(**options) as (server,):
        async with raw_connection(server, "tcp") as stream:
            await stream.send(HEADERS["line"][:20])
            with anyio.fail_after(PATIENCE):
                assert await read_to_end(stream) == b""

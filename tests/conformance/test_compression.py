"""Compression over real sockets, on both layers: what is agreed upon, what is heard, what is refused."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketStream

from stelar_proto.errors import ConnectionClosed
from tests.conformance.world import (
    PATIENCE,
    Inbox,
    World,
    inbox_of,
    raw_connection,
    read_exactly,
    read_to_end,
    url_of,
)
from tests.plain.house import accept
from tests.support.wires import UPGRADE, masked

pytestmark = [pytest.mark.anyio, pytest.mark.feature("compression")]

NEWS = {"text": "hola, ¿qué tal? " * 1000}
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
ANSWER = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"


@asynccontextmanager
async def raw_client(server: Any, *fields: bytes) -> AsyncIterator[tuple[ByteStream, bytes]]:
    """A WebSocket client by hand, let in; and the head of the answer."""
    async with raw_connection(server, "ws") as stream:
        await stream.send(UPGRADE[:-2] + b"".join(fields) + b"\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield stream, head


async def read_frame(stream: ByteStream) -> tuple[int, bytes]:
    """The next frame of a server: its first byte, and its payload."""
    first_byte, size = await read_exactly(stream, 2)
    extra = {126: 2, 127: 8}.get(size, 0)
    if extra:
        size = int.from_bytes(await read_exactly(stream, extra))
    return first_byte, await read_exactly(stream, size)


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(payload: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")


# --- Server and client --------------------------------------------------------------------------------------


@asynccontextmanager
async def house(world: World, *clients: tuple[str, Any], **options: Any) -> AsyncIterator[Any]:
    """A server, and a client for each wire and option ``compression``."""
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(PATIENCE))
        server = world.server(**options)
        await stack.enter_async_context(server)
        connected = []
        for wire, compression in clients:
            client = world.client_of(url_of(server, wire), compression=compression)
            connected.append(await stack.enter_async_context(client))
        yield server, *connected


async def test_events_bytes_and_answers_go_both_ways_compressed_or_not(world: World) -> None:
    clients = [("ws", True), ("ws", False), ("tcp", True)]
    async with house(world, *clients, compression=True) as (server, *connected):
        server.on("say", lambda ctx: ctx.broadcast("said", ctx.data))
        server.on("bytes", lambda ctx: ctx.emit_binary("bytes", ctx.data * 2))
        server.on_ack("double")(lambda ctx: ctx.data * 2)
        inboxes = [inbox_of(client, "said") for client in connected]
        for client in connected:
            client.emit("say", NEWS)
            for inbox, other in zip(inboxes, connected, strict=True):
                if other is not client:
                    assert await inbox.next() == NEWS
            assert await client.request("double", ["x" * 5000]) == ["x" * 5000] * 2
            received = inbox_of(client, "bytes")
            client.emit_binary("bytes", bytes(5000))
            assert await received.next() == bytes(10_000)
        assert server.broadcast("said", NEWS) == 3
        assert [await inbox.next() for inbox in inboxes] == [NEWS] * 3


async def test_a_broadcast_is_one_compressed_frame_for_all_who_have_agreed(world: World) -> None:
    async with house(world, compression=True) as (server,):
        async with raw_client(server, OFFER) as (first, head), raw_client(server, OFFER) as (second, _):
            assert b"Sec-WebSocket-Extensions: " + ANSWER in head
            async with raw_client(server) as (plain, plain_head):
                assert b"Extensions" not in plain_head
                for stream in (first, second, plain):
                    await read_frame(stream)  # its id
                server.broadcast("news", NEWS)
                first_byte, payload = await read_frame(first)
                assert await read_frame(second) == (first_byte, payload)
                whole = await read_frame(plain)
        assert (first_byte, whole[0]) == (0xC1, 0x81)
        assert inflate(payload) == whole[1]
        assert len(payload) < len(whole[1]) / 50


async def test_compression_is_off_unless_both_sides_want_it(world: World) -> None:
    async with house(world) as (server,):
        async with raw_client(server, OFFER) as (stream, head):
            assert b"Extensions" not in head
            await read_frame(stream)
            server.broadcast("news", NEWS)
            assert (await read_frame(stream))[0] == 0x81
    async with house(world, ("ws", True)) as (server, client):
        received = inbox_of(client, "news")
        server.broadcast("news", NEWS)
        assert await received.next() == NEWS


async def test_a_bomb_ends_its_own_connection_and_nobody_elses(world: World) -> None:
    async with house(world, ("ws", True), compression=True, max_payload_size=10_000) as (server, client):
        handled = Inbox()
        server.on_all(handled)
        async with raw_client(server, OFFER) as (stream, _):
            await read_frame(stream)
            bomb = masked(1, deflate(b'{"event":"x","data":"' + b"x" * 5_000_000 + b'"}'))
            await stream.send(b"\xc1" + bomb[1:])
            assert await read_frame(stream) == (
                0x88,
                (1009).to_bytes(2) + b"a compressed message inflates to more than 10000 bytes",
            )
            assert await read_to_end(stream) == b""
        client.emit("fine", "x" * 5000)
        assert (await handled.next()).event == "fine"
        assert handled.waiting == 0


# --- Plain WebSocket ----------------------------------------------------------------------------------------


@asynccontextmanager
async def plain(world: World, ours: Any, theirs: Any, **options: Any) -> AsyncIterator[Any]:
    """A connection to a server that echoes; and the server's end of it."""
    accepted = Inbox()

    async def echo(connection: Any) -> None:
        accepted(connection)
        async for message in connection:
            await connection.send(message)

    with anyio.fail_after(PATIENCE):
        async with world.package.serve_websocket(echo, port=0, compression=theirs, **options) as server:
            url = f"ws://127.0.0.1:{server.get_port()}"
            async with world.package.connect_websocket(url, compression=ours) as connection:
                yield connection, await accepted.next()


MESSAGES = ["hola", "", b"", "hola, ¿qué tal? " * 5000, bytes(300_000), "x" * 1023, "x" * 1024, b"y" * 2000]


@pytest.mark.parametrize("takes_over", [False, True])
async def test_plain_connections_compress_as_they_have_agreed(world: World, takes_over: bool) -> None:
    settings = world.package.PerMessageDeflate(
        server_no_context_takeover=not takes_over,
        client_no_context_takeover=not takes_over,
        client_max_window_bits=12,
        min_size=10,
    )
    async with plain(world, settings, settings) as (connection, served):
        assert connection.compression == served.compression == (not takes_over, not takes_over, 15, 12)
        for message in MESSAGES * 2:
            await connection.send(message)
            assert await connection.recv() == message
        await connection.send_fragments(["hola, ", "", "hola, " * 1000])
        assert await connection.recv() == "hola, " * 1001


async def test_plain_connections_are_not_compressed_unless_both_sides_want_it(world: World) -> None:
    for ours, theirs in ((True, False), (False, True)):
        async with plain(world, ours, theirs) as (connection, served):
            assert connection.compression is served.compression is None
            await connection.send("x" * 100_000)
            assert await connection.recv() == "x" * 100_000


async def test_a_message_that_inflates_beyond_max_size_ends_a_plain_connection(world: World) -> None:
    async with plain(world, True, True, max_size=10_000) as (connection, _):
        await connection.send("x" * 10_000)
        assert await connection.recv() == "x" * 10_000
        await connection.send("x" * 10_001)
        with pytest.raises(ConnectionClosed) as caught:
            await connection.recv()
        assert caught.value.received == (1009, "a compressed message inflates to more than 10000 bytes")


async def test_a_client_refuses_an_answer_that_is_none_to_its_offer(world: World) -> None:
    async def answer(stream: SocketStream) -> None:
        async with stream:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += await stream.receive()
            assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; " in request
            await stream.send(accept(request, b"Sec-WebSocket-Extensions: permessage-deflate; mode=fast"))
            await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            with pytest.raises(world.package.ConnectError, match="the unknown parameter mode"):
                async with world.package.connect_websocket(f"ws://127.0.0.1:{port}", compression=True):
                    pass
            tasks.cancel_scope.cancel()

"""A server that lies to a client is named, by an event, a hook and a method, and left for another."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.client import ClientConfig
from stelar_proto.errors import (
    ConnectError,
    ConnectionLost,
    FrameError,
    FrameTooLarge,
    HandshakeError,
    PeerTimeout,
    UpgradeRefused,
    WebSocketError,
)
from tests.conformance.world import (
    PATIENCE,
    SWITCH,
    Client,
    Inbox,
    World,
    read_head,
    read_to_end,
    url_of,
    welcome,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.feature(
        "client: error", "client: on_error", "client: get_last_error", "client: reconnection"
    ),
]

QUICK: dict[str, Any] = {"reconnection": True, "custom_reconnect_delay": lambda attempt, base, maximum: 0.0}
ENDLESS = 500
"""Pieces that are said to whoever listens to them all."""


class Lie(NamedTuple):
    wire: str
    name: str
    said: bytes
    error: type[Exception]
    is_endless: bool = False
    """Whether it is said again and again until the client has gone."""

    def __str__(self) -> str:
        return f"{self.wire}-{self.name.replace(' ', '-')}"


INSTEAD_OF_A_WELCOME = [
    Lie("ws", "a wrong accept", SWITCH + b"Sec-WebSocket-Accept: AAAA\r\n\r\n", HandshakeError),
    Lie("ws", "a plain answer", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", UpgradeRefused),
    Lie("ws", "an endless answer", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 9999, UpgradeRefused, True),
    Lie("ws", "endless headers", SWITCH + b"X: y\r\n" * 99, HandshakeError, True),
    Lie("ws", "silence", b"", PeerTimeout),
    Lie("tcp", "an answer of HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", FrameTooLarge),
    Lie("tcp", "endless pings", b"\0\0\0\7\2\0\0", PeerTimeout, True),
    Lie("tcp", "silence", b"", PeerTimeout),
]
IN_A_CONVERSATION = [
    Lie("ws", "a masked frame", b"\x81\x8d\0\0\0\0" + b'{"event":"x"}', WebSocketError),
    Lie("ws", "an unknown frame", b"\x83\0", WebSocketError),
    Lie("ws", "unknown frames without end", b"\x83\0" * 9999, WebSocketError, True),
    Lie("ws", "silence", b"", PeerTimeout),
    Lie("tcp", "an unknown frame", b"\0\0\0\7\xee\0\0", FrameError),
    Lie("tcp", "a frame without end", b"\xff" * 9999, FrameTooLarge, True),
    Lie("tcp", "silence", b"", PeerTimeout),
]


async def tell(stream: ByteStream, lie: Lie) -> None:
    """Say it, and stay until the client has gone."""
    try:
        for _ in range(ENDLESS if lie.is_endless else 1):
            if lie.said:
                await stream.send(lie.said)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # it has heard enough
    await read_to_end(stream)


def text(payload: bytes) -> bytes:
    return bytes((0x81, len(payload))) + payload


class Told:
    """What a client tells of itself."""

    def __init__(self, world: World, url: str, **options: Any) -> None:
        self.log, self.hooked = Inbox(), Inbox()
        hooks = {"on_error": lambda error: self.hooked(error)}
        self.client = world.client_of(url, hooks=hooks, **QUICK, **options)
        for event in ("connect", "error", "disconnect", "reconnecting"):
            self.client.on(event, self._note(event))

    def _note(self, event: str) -> Any:
        return lambda *arguments: self.log((event, *arguments))

    async def error(self) -> Exception:
        """The error that is told next, in every way."""
        error: Exception = await self.hooked.next()
        assert await self.log.next() == ("error", error)
        assert self.client.get_last_error() is error
        return error


def leave_for(client: Client, url: str, short: dict[str, float]) -> None:
    """Have the client's next connection go to ``url``, where no time is ``short``: that was for the liar."""
    defaults = {name: getattr(ClientConfig(), name) for name in short}

    @client.on("reconnecting")
    def leave(attempt: int) -> None:
        client.set_url(url)
        client.update_options(**defaults)


@asynccontextmanager
async def honest_server(world: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    """A server to go to; nothing is left behind, and nobody's traceback was logged."""
    async with world.conversation() as (server,):
        server.on_ack("double", lambda ctx: ctx.data * 2)
        yield server
        while server.get_clients():
            await anyio.lowlevel.checkpoint()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("lie", INSTEAD_OF_A_WELCOME, ids=str)
async def test_who_is_no_server_is_named_and_another_is_tried(
    world: World, lie: Lie, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(stream: ByteStream) -> None:
        if lie.wire == "ws" and lie.said:  # who is silent may be left before all was asked
            await read_head(stream)
        await tell(stream, lie)

    async with honest_server(world, caplog) as server, world.raw_server(serve) as port:
        short = {"connect_timeout": 0.05} if lie.error is PeerTimeout else {}
        told = Told(world, f"{lie.wire}://127.0.0.1:{port}", retry_first_connect=True, **short)
        client = told.client
        leave_for(client, url_of(server, lie.wire), short)
        with anyio.fail_after(PATIENCE):
            async with client:
                error = await told.error()
                assert isinstance(error, ConnectError)
                # Over sockets of a loaded machine, a short time may be over before there is a connection.
                hasty = (TimeoutError,) if short and world.network is None else ()
                assert type(error.__cause__) in (lie.error, *hasty)
                assert await told.log.take(2) == [("reconnecting", 1), ("connect",)]
                assert await client.request("double", 21) == 42
        assert told.hooked.waiting == 0


@pytest.mark.parametrize("lie", IN_A_CONVERSATION, ids=str)
async def test_a_server_that_breaks_the_protocol_is_named_and_left_for_another(
    world: World, lie: Lie, caplog: pytest.LogCaptureFixture
) -> None:
    asked = anyio.Event()

    async def serve(stream: ByteStream) -> None:
        await welcome(stream, lie.wire)
        await asked.wait()
        await tell(stream, lie)

    async with honest_server(world, caplog) as server, world.raw_server(serve) as port:
        short = {} if lie.said else {"heartbeat_interval": 0.02, "heartbeat_timeout": 0.02}
        told = Told(world, f"{lie.wire}://127.0.0.1:{port}", close_timeout=0.05, **short)
        client = told.client
        leave_for(client, url_of(server, lie.wire), short)

        async def ask() -> None:
            asked.set()
            with pytest.raises(ConnectionLost):
                await client.request("double", 1)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                client.once("connect", lambda: tasks.start_soon(ask))
                async with client:
                    assert await told.log.next() == ("connect",)
                    error = await told.error()
                    assert type(error) is lie.error
                    steps = await told.log.take(3)
                    assert [step[0] for step in steps] == ["disconnect", "reconnecting", "connect"]
                    assert await client.request("double", 21) == 42
        assert told.hooked.waiting == 0


async def test_what_is_no_message_is_named_and_the_connection_stays(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    if wire == "tcp":
        lies = [b"\0\0\0\x0b\0\0\1x{no", b"\0\0\0\x0b\x0a\0\1x[1]", b"\0\0\0\x0f\6\0\7connecty"]
        unasked, event = b"\0\0\0\x09\5\0\1x1", b"\0\0\0\x0c\0\0\4good1"
        again = b"\0\0\0\x0f\6\0\7connectx"
    else:
        lies = [text(b"{no"), text(b'{"event":"x","_isAck":true,"_error":5}'), text(b'{"event":["x"]}')]
        unasked, event = text(b'{"event":"x","_isAck":true}'), text(b'{"event":"good","data":1}')
        again = text(b'{"event":"stelar:connect","data":{"id":"x"}}')

    async def serve(stream: ByteStream) -> None:
        await welcome(stream, wire)
        await stream.send(b"".join(lies) + unasked + again * 2 + event)
        await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port:
            told = Told(world, f"{wire}://127.0.0.1:{port}", close_timeout=0.05)
            good = Inbox()
            told.client.on("good", good)
            async with told.client as client:
                assert await good.next() == 1
                errors = await told.hooked.take(len(lies))
                assert [error.code for error in errors] == ["INVALID_MESSAGE"] * len(lies)
                assert await told.log.take(1 + len(lies)) == [
                    ("connect",), *(("error", error) for error in errors)
                ]  # fmt: skip
                assert client.get_last_error() is errors[-1]
                assert client.get_unmatched_answers() == 1
                assert client.is_connected()
                assert (told.log.waiting, told.hooked.waiting) == (0, 0)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []

"""Connections that no good client makes, each bounded in time; what becomes of them is up to the server."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any, TypeAlias

import anyio
from anyio.abc import SocketAttribute, SocketStream

from stelar_proto import tcp
from stelar_proto.messages import AckRequest, Event, Join, Message
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Role
from stelar_proto.ws.frames import encode_frame

_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_PATIENCE = 15.0
_READ_SIZE = 64 * 1024


class Wire:
    """How to say things on one of the wires, byte by byte."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        self.port = port
        self._websocket = WebSocketFormat(Role.CLIENT)
        self._tcp = TcpFormat(Role.CLIENT)

    def encode(self, message: Message) -> bytes:
        if self.kind == "tcp":
            return self._tcp.encode_frame(message)
        opcode, payload = self._websocket.encode(message)
        return encode_frame(opcode, payload, mask=b"mask")

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)

    async def shake_hands(self) -> SocketStream:
        """Connect and wait for the first words of the server, which may be a refusal."""
        stream = await self.connect()
        if self.kind == "ws":
            await stream.send(_UPGRADE)
        await stream.receive(_READ_SIZE)
        return stream


def _reset(stream: SocketStream) -> None:
    """Have the end of ``stream`` be a reset."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _read_all(stream: SocketStream) -> None:
    try:
        while True:
            await stream.receive(_READ_SIZE)
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass


def _words(wire: Wire, chance: Random) -> bytes:
    return b"".join(
        chance.choice(
            [
                wire.encode(Event("stray", [chance.random()])),
                wire.encode(AckRequest("sum", "sum", [1, 2], "q1")),
                wire.encode(Join(f"stray {chance.randrange(5)}")),
            ]
        )
        for _ in range(chance.randint(1, 5))
    )


async def reset(wire: Wire, chance: Random) -> None:
    """Say something and reset the connection, before any answer or behind it."""
    async with await wire.shake_hands() as stream:
        await stream.send(_words(wire, chance))
        await anyio.sleep(chance.choice([0, 0, 0.2]))
        _reset(stream)


async def reset_at_once(wire: Wire, chance: Random) -> None:
    """Reset a connection over which nothing was said, or half of the handshake."""
    async with await wire.connect() as stream:
        await stream.send(_UPGRADE[: chance.randrange(1, len(_UPGRADE))])
        _reset(stream)


async def half_close(wire: Wire, chance: Random) -> None:
    """Say something, end this side, and read on."""
    async with await wire.shake_hands() as stream:
        await stream.send(_words(wire, chance))
        await stream.send_eof()
        await _read_all(stream)


async def vanish(wire: Wire, chance: Random) -> None:
    """Be there, and neither read nor write."""
    async with await wire.shake_hands() as stream:
        await stream.send(_words(wire, chance))
        await anyio.sleep(_PATIENCE - 1)
        _reset(stream)


async def say_nothing(wire: Wire, chance: Random) -> None:
    """Connect, and leave it at that until it is enough for one of the two."""
    async with await wire.connect() as stream:
        with anyio.move_on_after(chance.choice([0.5, _PATIENCE])):
            await _read_all(stream)


async def drip(wire: Wire, chance: Random) -> None:
    """Take for ever with the handshake."""
    async with await wire.connect() as stream:
        for byte in _UPGRADE:
            await stream.send(bytes([byte]))
            await anyio.sleep(0.1)


async def babble(wire: Wire, chance: Random) -> None:
    """Begin with bytes that mean nothing."""
    async with await wire.connect() as stream:
        await stream.send(chance.randbytes(chance.randint(1, 300)))
        await _read_all(stream)


async def babble_later(wire: Wire, chance: Random) -> None:
    """Go on with damaged words, as a good client would not."""
    async with await wire.shake_hands() as stream:
        words = bytearray(_words(wire, chance) + _words(wire, chance))
        for _ in range(chance.randint(1, 4)):
            words[chance.randrange(len(words))] = chance.randrange(256)
        await stream.send(bytes(words))
        with anyio.move_on_after(3):
            await _read_all(stream)


async def break_rules(wire: Wire, chance: Random) -> None:
    """Say in good order what is not allowed: a message that is none, and one that is too large."""
    async with await wire.shake_hands() as stream:
        if wire.kind == "ws":
            await stream.send(encode_frame(1, b"[1, 2]", mask=b"mask"))
        else:
            await stream.send(tcp.encode_frame(tcp.FrameType.JSON, "stray", b"{no json"))
        await stream.send(wire.encode(Event("stray", "x" * 300_000)))
        await _read_all(stream)


async def flood(wire: Wire, chance: Random) -> None:
    """Say more than the rate limit allows."""
    async with await wire.shake_hands() as stream:
        await stream.send(wire.encode(Event("stray", None)) * 300)
        await _read_all(stream)


async def be_deaf(wire: Wire, chance: Random) -> None:
    """Ask for more than an outbox holds, do not read it, and then read on or not."""
    async with await wire.shake_hands() as stream:
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stream.send(wire.encode(Event("talk", 400)))
        await anyio.sleep(2)
        if chance.random() < 0.5:
            with anyio.move_on_after(2):
                await _read_all(stream)


async def ask_http(wire: Wire, chance: Random) -> None:
    """Ask for a page, or for a namespace that does not exist."""
    async with await wire.connect() as stream:
        line = chance.choice([b"GET /health", b"GET /nowhere", b"POST /health", b"OPTIONS /health"])
        head = b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        await stream.send(chance.choice([line + head, _UPGRADE.replace(b"GET /", b"GET /nowhere")]))
        await _read_all(stream)


async def stop_in_a_frame(wire: Wire, chance: Random) -> None:
    """Go in the middle of a word."""
    async with await wire.shake_hands() as stream:
        word = wire.encode(Event("stray", "x" * 2000))
        await stream.send(word[: chance.randrange(1, len(word))])
        if chance.random() < 0.5:
            _reset(stream)


Kind: TypeAlias = Callable[[Wire, Random], Awaitable[None]]

KINDS: list[Kind] = [
    reset,
    reset_at_once,
    half_close,
    vanish,
    say_nothing,
    drip,
    babble,
    babble_later,
    break_rules,
    flood,
    be_deaf,
    ask_http,
    stop_in_a_frame,
]


async def misbehave(kind: Kind, wire: Wire, chance: Random) -> Any:
    """Be such a client, whatever the server does about it, and not for long."""
    ends = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
    with anyio.move_on_after(_PATIENCE), suppress(*ends):
        await kind(wire, chance)

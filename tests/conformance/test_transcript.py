"""The recorded conversation of the npm package's client and server, replayed over sockets, both ways."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto import ws
from stelar_proto.tcp import Connection, Dialect, FrameReceived, FrameType
from tests.conformance.world import (
    PATIENCE,
    Inbox,
    World,
    raw_connection,
    read_exactly,
    read_head,
    read_to_end,
)

pytestmark = pytest.mark.anyio

VECTORS = Path(__file__).parent.parent / "vectors" / "transcript_npm_3_2_0.json"
CONNECTIONS = {
    connection["wire"]: [
        (who, b"" if chunk == "EOF" else bytes.fromhex(chunk)) for who, chunk in connection["chunks"]
    ]
    for connection in json.loads(VECTORS.read_text())["connections"]
}
RECORDED_KEY = b"gDHQyYZGhwPDSQA27Vn7Zw=="
HEARTBEATS = {
    "tcp": (bytes.fromhex("00000007030000"), bytes.fromhex("00000007040000")),
    "ws": (b"\x89\x00", b"\x8a\x80"),
}


HANDLER_FAILED = {
    "tcp": b'\0\0\0\x42\x0b\0\4boom{"code":"HANDLER_ERROR","message":"the handler failed"}',
    "ws": b'\x81\x6b{"event":"boom","data":null,"_isAck":true,'
    b'"_error":{"code":"HANDLER_ERROR","message":"the handler failed"}}',
}


def unmasked(chunk: bytes) -> bytes:
    """What a recorded client chunk says: short text frames are masked, all others are not."""
    if chunk[:1] not in (b"\x81", b"\x82"):
        return chunk
    mask, payload = chunk[2:6], chunk[6:]
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def is_heartbeat(wire: str, chunk: bytes) -> bool:
    return chunk[:7] in HEARTBEATS["tcp"] if wire == "tcp" else chunk[:2] in HEARTBEATS["ws"]


def scenario_server(world: World) -> Any:
    """The application that the recorded server ran."""
    server = world.server(
        tcp_dialect="npm", announce_id=False, generate_client_id=iter(["client-1", "client-2"]).__next__
    )
    server.on_connection(lambda ctx: ctx.emit("welcome", {"id": ctx.id}))
    server.on("echo", lambda ctx: ctx.emit("echo", ctx.data))
    server.on("blob", lambda ctx: ctx.emit_binary("blob", ctx.data))
    server.on_ack("getSum", lambda ctx: {"total": sum(ctx.data)})
    server.on("room-say", lambda ctx: ctx.to("general", "said", ctx.data))

    @server.on_ack("x")
    def boom(ctx: Any) -> None:
        raise RuntimeError("boom")

    server.on("reply", lambda ctx: ctx.send("custom-ack", {"x": 1}))
    server.on("chat", lambda ctx: ctx.broadcast("chat", ctx.data))
    return server


@pytest.mark.feature("tcp_dialect")
@pytest.mark.parametrize("recorded", ["tcp", "ws"])
async def test_recorded_client_bytes_draw_the_recorded_server_bytes(world: World, recorded: str) -> None:
    """What only another client's doing brought (`said`, `chat`) is left out: this client is alone."""
    chunks = CONNECTIONS[recorded]
    async with world.conversation(server=scenario_server(world)) as (server,):
        if recorded == "ws":
            server.config.generate_client_id()  # the recording's first client is the one over TCP
        async with raw_connection(server, recorded) as stream:
            for who, chunk in chunks:
                if not chunk or is_heartbeat(recorded, chunk):
                    continue
                if who == "client":
                    await stream.send(chunk)
                    if b"boom" in unmasked(chunk):
                        # The npm server answers nothing when a handler throws; ours says so.
                        answer = HANDLER_FAILED[recorded]
                        assert await read_exactly(stream, len(answer)) == answer
                elif chunk.startswith(b"HTTP/1.1 101"):
                    await expect_handshake(stream)
                elif b"said" not in chunk and b'"from"' not in chunk:
                    assert await read_exactly(stream, len(chunk)) == chunk


async def expect_handshake(stream: ByteStream) -> None:
    lines = (await read_head(stream)).decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    # The accept value that is right for the recorded key, where the npm package's is wrong.
    accept = base64.b64encode(hashlib.sha1(RECORDED_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    assert f"Sec-WebSocket-Accept: {accept.decode()}" in lines


@pytest.mark.feature("client: tcp_dialect", "client: accept_npm_handshake")
@pytest.mark.parametrize("recorded", ["tcp", "ws"])
async def test_recorded_server_bytes_give_the_events_of_the_scenario(world: World, recorded: str) -> None:
    """A recorded server: it waits for what the recording says the client sent, then says its next chunk."""
    chunks = [chunk for chunk in CONNECTIONS[recorded] if chunk[1] and not is_heartbeat(recorded, chunk[1])]
    ours: list[Any] = []

    async def serve(stream: ByteStream) -> None:
        codec = ScriptReader(recorded)
        for who, chunk in chunks:
            if who == "server":
                await stream.send(codec.handshake or chunk)
                codec.handshake = b""
            elif b'"pong"' not in unmasked(chunk):
                ours.append(await codec.read(stream))
        await stream.send_eof()
        await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port:
            log = Inbox()
            client = world.client_of(
                f"{recorded}://127.0.0.1:{port}",
                tcp_dialect="npm",
                accept_npm_handshake=True,
                reconnection=False,
            )
            client.on_all(lambda event, data: log((event, data)))
            async with client:
                await play_the_client(client, recorded, log)
                await client.wait_closed()
    assert len(ours) == sum(who == "client" and b'"pong"' not in unmasked(chunk) for who, chunk in chunks)


async def play_the_client(client: Any, recorded: str, log: Inbox) -> None:
    me, other = ("client-1", "ws") if recorded == "tcp" else ("client-2", "tcp")
    data = {"n": 1, "s": "ñandú ☃", "list": [1, 2.5, None, True]}
    assert await log.next() == ("welcome", {"id": me})
    client.emit("echo", data)
    assert await log.next() == ("echo", data)
    client.emit_binary("blob", b"\0\1\2\xff\0\7")
    assert await log.next() == ("blob", b"\0\1\2\xff\0\7")
    assert await client.request("getSum", [1, 2, 3], "sum") == {"total": 6}
    client.emit("x", {}, ack="boom")  # the npm server answers nothing when a handler throws
    client.join_room("general")
    assert await log.next() == ("joined-room", "general")
    if recorded == "ws":  # the two recorded clients spoke at different moments
        client.emit("room-say", "hi")
    assert await log.next() == ("said", "hi")
    if recorded == "tcp":
        client.emit("room-say", "hi")
    client.leave_room("general")
    assert await log.next() == ("left-room", "general")
    client.emit("reply", 1)
    assert await log.next() == ("custom-ack", {"data": {"x": 1}, "_isAck": True})
    client.emit("chat", {"from": recorded})
    assert await log.next() == ("chat", {"from": other})
    if recorded == "tcp":
        assert client.get_id() == me


class ScriptReader:
    """Reads one message of our client at a time, as the recorded server would."""

    def __init__(self, wire: str) -> None:
        self.handshake = b""
        self._wire = wire
        self._ws = ws.Connection(ws.Role.SERVER)
        self._tcp = Connection(dialect=Dialect.NPM)
        self._events: list[Any] = []

    async def read(self, stream: ByteStream) -> Any:
        while not self._events:
            data = await stream.receive()
            if self._wire == "tcp":
                self._events += [
                    event
                    for event in self._tcp.receive_data(data)
                    if isinstance(event, FrameReceived) and event.type is not FrameType.PING
                ]
            else:
                self._events += self._ws.receive_data(data)
                if isinstance(self._events[-1], ws.UpgradeRequested):
                    self._ws.accept()
                    self.handshake = self._ws.data_to_send()
        return self._events.pop(0)

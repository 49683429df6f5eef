"""What the npm package 3.2.0 really said, held against the formats: a whole conversation, on both wires.

Recorded with the npm package's own client and server, in the npm dialect. What each side said is read by our
other side, and what our formats say in its place has the recorded bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stelar_proto.messages import (
    AckRequest,
    AckResponse,
    Alive,
    Binary,
    Event,
    Hello,
    Join,
    Leave,
    Message,
)
from stelar_proto.tcp import Connection, Dialect, FrameReceived
from stelar_proto.wire import Format, TcpFormat, WebSocketFormat
from stelar_proto.ws import Opcode, Role

VECTORS = Path(__file__).parent / "vectors" / "transcript_npm_3_2_0.json"
CHUNKS: dict[str, list[tuple[str, bytes]]] = {
    connection["wire"]: [(who, bytes.fromhex(chunk)) for who, chunk in connection["chunks"] if chunk != "EOF"]
    for connection in json.loads(VECTORS.read_text("utf-8"))["connections"]
}
LIST = {"n": 1, "s": "ñandú ☃", "list": [1, 2.5, None, True]}
BLOB = Binary("blob", b"\0\1\2\xff\0\7")


def said_by_client(wire: str) -> list[Message]:
    """The scenario, heartbeats aside."""
    return [
        Event("echo", LIST),
        BLOB,
        AckRequest("sum", "getSum", [1, 2, 3], None),
        AckRequest("boom", "x", {}, None),
        Join("general"),
        Event("room-say", "hi"),
        Leave("general"),
        Event("reply", 1),
        Event("chat", {"from": wire}),
    ]


def said_by_server(wire: str) -> list[Message]:
    """What the scenario draws, heartbeats aside; the npm server tells only TCP clients their id."""
    return [
        *([Hello("client-1")] if wire == "tcp" else []),
        Event("welcome", {"id": "client-1" if wire == "tcp" else "client-2"}),
        Event("echo", LIST),
        BLOB,
        AckResponse("sum", {"total": 6}, None),
        Event("joined-room", "general"),
        Event("said", "hi"),
        Event("left-room", "general"),
        Event("custom-ack", {"data": {"x": 1}, "_isAck": True}),
        Event("chat", {"from": "ws" if wire == "tcp" else "tcp"}),
    ]


def format_of(wire: str, role: Role) -> Format:
    return WebSocketFormat(role) if wire == "ws" else TcpFormat(role, dialect=Dialect.NPM)


def recorded(wire: str, who: str) -> list[bytes]:
    """The frames of ``who`` without masks; the WebSocket handshake and control frames are left out."""
    frames = []
    for speaker, chunk in CHUNKS[wire]:
        if speaker == who and (wire == "tcp" or chunk[0] in (0x81, 0x82)):
            frames.append(unmasked(chunk) if wire == "ws" and who == "client" else chunk)
    return frames


def unmasked(frame: bytes) -> bytes:
    """A short frame of a WebSocket client as a server would have sent it."""
    assert frame[1] & 0x7F < 126
    payload = bytes(byte ^ frame[2 + index % 4] for index, byte in enumerate(frame[6:]))
    return bytes((frame[0], frame[1] & 0x7F)) + payload


def read(reader: Format, frames: list[bytes]) -> list[Message]:
    if isinstance(reader, TcpFormat):
        events = Connection(dialect=reader.dialect).receive_data(b"".join(frames))
        return [reader.decode(*event) for event in events if isinstance(event, FrameReceived)]
    return [
        reader.decode_text(frame[2:].decode()) if frame[0] == 0x81 else reader.decode_binary(frame[2:])
        for frame in frames
    ]


wires = pytest.mark.parametrize("wire", ["ws", "tcp"])


@wires
def test_the_server_reads_what_the_npm_client_said(wire: str) -> None:
    messages = read(format_of(wire, Role.SERVER), recorded(wire, "client"))
    assert [message for message in messages if message != Alive()] == said_by_client(wire)
    assert messages.count(Alive()) == (2 if wire == "ws" else 5)


@wires
def test_the_client_reads_what_the_npm_server_said(wire: str) -> None:
    messages = read(format_of(wire, Role.CLIENT), recorded(wire, "server"))
    assert [message for message in messages if message != Alive()] == said_by_server(wire)


def is_heartbeat(frame: bytes) -> bool:
    return frame in (b"\0\0\0\7\3\0\0", b"\0\0\0\7\4\0\0") or b'"pong"' in frame


@wires
def test_our_server_says_the_same_with_the_same_bytes(wire: str) -> None:
    server = format_of(wire, Role.SERVER)
    said = b"".join(server.encode_frame(message) for message in said_by_server(wire))
    assert said == b"".join(frame for frame in recorded(wire, "server") if not is_heartbeat(frame))


@wires
def test_our_client_says_the_same_with_the_same_bytes(wire: str) -> None:
    client = format_of(wire, Role.CLIENT)
    said = [client.encode_frame(message) for message in said_by_client(wire)]
    assert said == [frame for frame in recorded(wire, "client") if not is_heartbeat(frame)]
    if isinstance(client, WebSocketFormat):
        assert client.encode(BLOB)[0] is Opcode.BINARY

"""What the npm client and the npm server of stelar-time-real 3.2.0 really said to each other.

The recorded client chunks are fed to our server, the recorded server chunks to our client. What the messages
mean is tested a layer above; here they are text and bytes.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from stelar_proto.errors import HandshakeError, StreamEnded
from stelar_proto.ws import (
    BinaryReceived,
    Closed,
    Connection,
    Event,
    Opened,
    PingReceived,
    PongReceived,
    Role,
    TextReceived,
    UpgradeRequested,
)

from .chunking import cuts
from .feeding import comparable, cut, feed, frame

TRANSCRIPT = Path(__file__).parent.parent / "vectors" / "transcript_npm_3_2_0.json"


def recorded(side: str) -> list[bytes]:
    """The chunks that one side sent over WebSocket, up to its end of stream."""
    connections = json.loads(TRANSCRIPT.read_text())["connections"]
    [chunks] = [connection["chunks"] for connection in connections if connection["wire"] == "ws"]
    sent: list[str] = [data for sender, data in chunks if sender == side]
    assert sent[-1] == "EOF"
    return [bytes.fromhex(data) for data in sent[:-1]]


CLIENT_HEAD, *CLIENT_CHUNKS = recorded("client")
SERVER_HEAD, *SERVER_CHUNKS = recorded("server")
NPM_NONCE = base64.b64decode(b"gDHQyYZGhwPDSQA27Vn7Zw==")  # the recorded accept value answers it
LOST = (1006, "", StreamEnded, "the stream ended without a close frame", None)

CLIENT_SAID: list[Event] = [
    TextReceived('{"event":"echo","data":{"n":1,"s":"ñandú ☃","list":[1,2.5,null,true]}}'),
    BinaryReceived(b'{"event":"blob"}\x00\x00\x01\x02\xff\x00\x07'),
    TextReceived('{"event":"getSum","data":[1,2,3],"_ackName":"sum"}'),
    TextReceived('{"event":"x","data":{},"_ackName":"boom"}'),
    PongReceived(b""),
    TextReceived('{"event":"join-room","data":"general"}'),
    TextReceived('{"event":"room-say","data":"hi"}'),
    TextReceived('{"event":"leave-room","data":"general"}'),
    TextReceived('{"event":"reply","data":1}'),
    TextReceived('{"event":"chat","data":{"from":"ws"}}'),
    TextReceived('{"event":"pong","data":1795411651060}'),
    PongReceived(b""),
    PongReceived(b""),
    TextReceived('{"event":"pong","data":1795411653060}'),
]
SERVER_SAID: list[Event] = [
    TextReceived('{"event":"welcome","data":{"id":"client-2"}}'),
    TextReceived('{"event":"echo","data":{"n":1,"s":"ñandú ☃","list":[1,2.5,null,true]}}'),
    BinaryReceived(b'{"event":"blob","_binary":true}\x00\x00\x01\x02\xff\x00\x07'),
    TextReceived('{"event":"sum","data":{"total":6},"_isAck":true}'),
    PingReceived(b""),
    TextReceived('{"event":"joined-room","data":"general"}'),
    TextReceived('{"event":"said","data":"hi"}'),
    TextReceived('{"event":"left-room","data":"general"}'),
    TextReceived('{"event":"custom-ack","data":{"data":{"x":1},"_isAck":true}}'),
    TextReceived('{"event":"chat","data":{"from":"tcp"}}'),
    PingReceived(b""),
    PingReceived(b""),
]


def test_our_server_understands_the_npm_client_in_any_chunks() -> None:
    frames = b"".join(CLIENT_CHUNKS)
    for chunks in [CLIENT_CHUNKS, *cuts(frames), cut(frames, list(range(0, len(frames), 7)))]:
        conn = Connection(Role.SERVER)
        [requested] = conn.receive_data(CLIENT_HEAD)
        assert isinstance(requested, UpgradeRequested)
        assert (requested.request.path, requested.request.headers["host"]) == ("/", "localhost:3500")
        conn.accept()
        # The same head, the correct accept value.
        assert conn.data_to_send() == SERVER_HEAD.replace(
            b"pDyuwAcuejLCkBVb72gpy42D450=", b"YSF1XYXOfW/CtajhXmH7S9GPlR8="
        )
        assert feed(conn, chunks) == CLIENT_SAID
        assert comparable(conn.receive_data(b"")) == [LOST]
        assert conn.data_to_send() == b""


def test_our_server_says_the_same_bytes_as_the_npm_server() -> None:
    conn = Connection(Role.SERVER)
    conn.receive_data(CLIENT_HEAD)
    conn.accept()
    conn.data_to_send()
    for event, chunk in zip(SERVER_SAID, SERVER_CHUNKS, strict=True):
        match event:
            case TextReceived(text):
                conn.send_text(text)
            case BinaryReceived(data):
                conn.send_binary(data)
            case _:
                conn.ping()
        assert conn.data_to_send() == chunk


def npm_client(**options: bool) -> Connection:
    """Our client, with the key of the recorded one."""
    conn = Connection(Role.CLIENT, entropy=lambda size: NPM_NONCE if size == 16 else bytes(size))
    conn.request_upgrade("ws://localhost:3500/", **options)  # type: ignore[arg-type]
    # The same fields in another order.
    assert sorted(conn.data_to_send().split(b"\r\n")) == sorted(CLIENT_HEAD.split(b"\r\n"))
    return conn


def test_our_client_understands_the_npm_server_in_any_chunks() -> None:
    stream = SERVER_HEAD + b"".join(SERVER_CHUNKS)
    pong = frame(0x8A, masked=True)[:2] + bytes(4)
    for chunks in [[SERVER_HEAD, *SERVER_CHUNKS], *cuts(stream), cut(stream, list(range(0, len(stream), 7)))]:
        conn = npm_client(accept_npm_handshake=True)
        opened, *rest = feed(conn, chunks)
        assert isinstance(opened, Opened)
        assert opened.response.headers["sec-websocket-accept"] == "pDyuwAcuejLCkBVb72gpy42D450="
        assert rest == SERVER_SAID
        assert conn.data_to_send() == pong * 3
        assert comparable(conn.receive_data(b"")) == [LOST]


@pytest.mark.parametrize("chunk_size", [1, 10_000])
def test_our_client_refuses_the_npm_server_unless_it_was_told_to_expect_it(chunk_size: int) -> None:
    conn = npm_client()
    stream = SERVER_HEAD + SERVER_CHUNKS[0]
    [closed] = feed(conn, [stream[i : i + chunk_size] for i in range(0, len(stream), chunk_size)])
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, HandshakeError)
    assert closed.error.status == 101
    assert "accept_npm_handshake=True accepts it" in closed.error.reason
    assert conn.data_to_send() == b""

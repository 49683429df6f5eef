"""The TCP example, spoken to with frames that are put together by hand."""

from __future__ import annotations

import socket
import struct
from queue import Queue

import pytest

from .support.embedding import PATIENCE, raw, read_all, read_exactly, serving_threads, tcp_frames

CONNECT = b"\0\0\0\x16\x06\0\x07connectclient-1"
JSON = b"\0\0\0\x0f\0\0\x04chatnull"
BINARY = b"\0\0\0\x0d\x01\0\x04file\0\xff"
REQUEST = b"\0\0\0\x11\x04\0\x04echo" + b'"hola"'
RESPONSE = b"\0\0\0\x11\x05\0\x04echo" + b'"hola"'
PING, PONG = b"\0\0\0\x07\x02\0\0", b"\0\0\0\x07\x03\0\0"
WRONG_FRAME, ERROR = b"\0\0\0\0", b"\0\0\0\x1e\x0a\0\x05errorINVALID_FRAME_SIZE"


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (JSON + BINARY, JSON + BINARY),
        (PING, PONG),
        (REQUEST, RESPONSE),
        (PONG, b""),
        (JSON[:-1], b""),
        (b"", b""),
    ],
    ids=["echo", "ping", "request", "pong", "truncated", "nothing"],
)
def test_the_tcp_server_answers_frames_until_the_stream_ends(sent: bytes, answered: bytes) -> None:
    with serving_threads(tcp_frames.serve) as port, raw(port) as stream:
        stream.sendall(sent)
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == CONNECT + answered


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (WRONG_FRAME, ERROR),
        (JSON + WRONG_FRAME + JSON, JSON + ERROR),
        (b"\0\0\0\x07\x0b\0\0", b"\0\0\0\x1e\x0a\0\x05errorUNKNOWN_FRAME_TYPE"),
        (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x1b\x0a\0\x05errorFRAME_TOO_LARGE"),
    ],
    ids=["too short", "behind another", "unknown type", "HTTP"],
)
def test_the_tcp_server_says_what_is_wrong_and_ends_the_stream(sent: bytes, answered: bytes) -> None:
    with serving_threads(tcp_frames.serve) as port, raw(port) as stream:
        stream.sendall(sent)
        assert read_all(stream) == CONNECT + answered


def test_the_tcp_server_echoes_a_frame_of_a_mebibyte() -> None:
    frame = (11 + 1_048_576).to_bytes(4, "big") + b"\x01\0\x04file" + bytes(1_048_576)
    with serving_threads(tcp_frames.serve) as port, raw(port) as stream:
        stream.sendall(frame)
        assert read_exactly(stream, len(CONNECT) + len(frame)) == CONNECT + frame


def test_the_tcp_server_outlives_a_client_that_resets_the_connection() -> None:
    with serving_threads(tcp_frames.serve) as port:
        with raw(port) as stream:
            stream.sendall(JSON[:-1])
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with raw(port) as stream:
            stream.sendall(JSON)
            assert read_exactly(stream, len(CONNECT + JSON)) == CONNECT + JSON


@pytest.mark.parametrize(
    ("answer", "said"),
    [(RESPONSE, b""), (PING + RESPONSE, PONG), (WRONG_FRAME, ERROR), (b"", b"")],
    ids=["answer", "ping", "wrong frame", "end"],
)
def test_the_tcp_client_asks_and_leaves(answer: bytes, said: bytes) -> None:
    heard: Queue[bytes] = Queue()

    def serve(stream: socket.socket, *_: object) -> None:
        stream.sendall(CONNECT)
        heard.put(read_exactly(stream, len(REQUEST)))
        stream.sendall(answer)
        if not answer:
            stream.shutdown(socket.SHUT_WR)
        heard.put(read_all(stream))

    with serving_threads(serve) as port:
        tcp_frames.converse(raw(port), tcp_frames.Connection())
        assert heard.get(timeout=PATIENCE) == REQUEST
        assert heard.get(timeout=PATIENCE) == said

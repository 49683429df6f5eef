"""The guide to embedding is true, and the WebSocket examples beside it talk to another library."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import websockets
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from stelar_proto import ws

from .support.embedding import (
    PATIENCE,
    ROOT,
    asking_asyncio,
    asking_sync,
    asking_trio,
    raw,
    read_all,
    read_exactly,
    serving_asyncio,
    serving_threads,
    serving_trio,
    serving_websockets,
    sync_socket,
)
from .ws.feeding import REQUEST, RESPONSE, close_frame, rfc_entropy

GARBAGE = b"\x16\x03\x01\x02\x00"
REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 76\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"this looks like TLS, on a port that speaks plain HTTP; use ws:// or http://\n"
)

# --- The guide ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guide() -> dict[str, Any]:
    """What the blocks of the guide define; each is run behind those in front of it, with its assertions."""
    text = (ROOT / "docs" / "embedding.md").read_text()
    namespace: dict[str, Any] = {}
    for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        exec(compile("\n" * line + match[1], "docs/embedding.md", "exec"), namespace)
    return namespace


def test_what_the_guide_asserts_holds(guide: dict[str, Any]) -> None:
    assert {"carry", "pair", "Shared", "echo", "exchange"} <= guide.keys()


def test_several_threads_send_on_a_connection_that_another_reads(guide: dict[str, Any]) -> None:
    client, server = guide["pair"]()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        shared = guide["Shared"](client, ours)

        def send(number: int) -> None:
            for _ in range(50):
                shared.send_text(str(number))

        threads = [threading.Thread(target=send, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        received: list[ws.Event] = []
        theirs.settimeout(PATIENCE)
        server.ping(b"?")
        theirs.sendall(server.data_to_send())
        assert shared.receive() == [ws.PingReceived(b"?")]
        while len(received) < 201:
            received += server.receive_data(theirs.recv(65536))
        for thread in threads:
            thread.join(PATIENCE)
    texts = sorted(event.text for event in received if isinstance(event, ws.TextReceived))
    assert texts == ["0"] * 50 + ["1"] * 50 + ["2"] * 50 + ["3"] * 50
    assert ws.PongReceived(b"?") in received


# --- The examples as programs ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/embed_*.py")), ids=lambda path: path.stem)
def test_an_example_has_at_most_forty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 40


GOODBYES = [
    "<ws.Connection server closed> Closed(code=1000, reason='hola', error=None)",
    "<ws.Connection client closed> Closed(code=1000, reason='hola', error=None)",
]
FRAMES = [
    "FrameReceived(type=<FrameType.CONNECT: 6>, event='connect', payload=b'client-1')",
    "FrameReceived(type=<FrameType.ACK_REQUEST: 4>, event='echo', payload=b'\"hola\"')",
    "FrameReceived(type=<FrameType.ACK_RESPONSE: 5>, event='echo', payload=b'\"hola\"')",
    "Closed(error=None)",
]


@pytest.mark.parametrize(
    ("name", "said"),
    [("asyncio_streams", GOODBYES), ("trio", GOODBYES), ("sync_socket", GOODBYES), ("tcp_frames", FRAMES)],
)
def test_an_example_lets_its_two_ends_talk_and_ends(name: str, said: list[str]) -> None:
    command = [sys.executable, "-W", "error", f"examples/embed_{name}.py"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3 * PATIENCE)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == said


# --- The servers ---


@contextmanager
def guided(connection_handler: Callable[..., object], namespace: dict[str, Any]) -> Iterator[int]:
    """The loop of the guide as a server."""

    def serve(stream: socket.socket, *_: object) -> None:
        stream.settimeout(PATIENCE)
        namespace["carry"](ws.Connection(ws.Role.SERVER), stream, connection_handler)

    with serving_threads(serve) as port:
        yield port


@pytest.fixture(params=["asyncio", "trio", "sync", "guide"])
def echo_port(request: pytest.FixtureRequest, guide: dict[str, Any]) -> Iterator[int]:
    """The port of an echo server: that of each example, and the guide's."""
    servers: dict[str, Callable[[], AbstractContextManager[int]]] = {
        "asyncio": serving_asyncio,
        "trio": serving_trio,
        "sync": lambda: serving_threads(sync_socket.serve),
        "guide": lambda: guided(guide["echo"], guide),
    }
    with servers[request.param]() as port:
        yield port


def test_a_server_echoes_another_library(echo_port: int) -> None:
    with connect(f"ws://127.0.0.1:{echo_port}", max_size=None) as client:
        for message in ("hola ☃", "", b"\x00\xff", b"", "x" * 1_048_576, bytes(range(256)) * 4096):
            client.send(message)
            assert client.recv(timeout=PATIENCE) == message
        assert client.ping(b"42").wait(PATIENCE)
        client.close(3000, "enough")
        assert client.protocol.close_rcvd == client.protocol.close_sent
        assert (client.close_code, client.close_reason) == (3000, "enough")


def test_a_server_answers_what_came_in_front_of_a_close(echo_port: int) -> None:
    client = new_client()
    with raw(echo_port) as stream:
        stream.sendall(client.data_to_send())
        [_] = client.receive_data(stream.recv(65536))
        client.send_text("hola")
        client.send_binary(bytes(300_000))
        client.close(4000)
        stream.sendall(client.data_to_send())
        events = client.receive_data(read_all(stream))  # the server ends its stream first
    whole = [event for event in events if isinstance(event, ws.TextReceived | ws.Closed)]
    assert whole == [ws.TextReceived("hola"), ws.Closed(4000, "", None)]
    assert b"".join(event.data for event in events if isinstance(event, ws.BinaryReceived)) == bytes(300_000)


def test_a_server_tells_a_peer_that_it_sends_garbage_and_ends_the_stream(echo_port: int) -> None:
    with raw(echo_port) as stream:
        stream.sendall(GARBAGE)
        assert read_all(stream) == REFUSAL


def test_a_server_tells_a_client_what_is_wrong_with_its_frames_and_ends_the_stream(echo_port: int) -> None:
    with raw(echo_port) as stream:
        stream.sendall(REQUEST)
        assert read_exactly(stream, len(RESPONSE)) == RESPONSE
        stream.sendall(b"\x81\x04hola")
        assert read_all(stream) == b"\x88\x25\x03\xeaframes from a client must be masked"


def test_a_server_of_websocket_refuses_plain_http(echo_port: int) -> None:
    with raw(echo_port) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_all(stream)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in answer


def test_a_server_outlives_clients_that_go_without_a_word(echo_port: int) -> None:
    for start in (b"", REQUEST[:20], REQUEST):
        raw_stream = raw(echo_port)
        raw_stream.sendall(start)
        raw_stream.close()
        resetting = raw(echo_port)
        resetting.sendall(start)
        resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        resetting.close()
    with connect(f"ws://127.0.0.1:{echo_port}") as client:
        client.send("still there?")
        assert client.recv(timeout=PATIENCE) == "still there?"


def test_the_loop_of_the_guide_lets_a_peer_finish_that_is_told_of_its_mistake(guide: dict[str, Any]) -> None:
    with guided(guide["echo"], guide) as port, raw(port) as stream:
        stream.sendall(GARBAGE + bytes(4_000_000))
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == REFUSAL


# --- The clients ---


asking = pytest.mark.parametrize(
    "ask", [asking_asyncio, asking_trio, asking_sync], ids=["asyncio", "trio", "sync"]
)


HOLA = b"\x81\x84\x37\xfa\x21\x3d\x5f\x95\x4d\x5c"  # masked


def new_client() -> ws.Connection:
    client = ws.Connection(ws.Role.CLIENT, entropy=rfc_entropy)
    client.request_upgrade("ws://localhost/chat")
    return client


@asking
def test_a_client_talks_to_another_library(
    ask: Callable[[int, ws.Connection], None], capsys: pytest.CaptureFixture[str]
) -> None:
    heard: Queue[object] = Queue()

    def handler(connection: Any) -> None:
        message = connection.recv(timeout=PATIENCE)
        heard.put(message)
        connection.ping()
        connection.send(message)
        try:
            connection.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            heard.put(closed.rcvd)

    client = new_client()
    with serving_websockets(handler) as port:
        ask(port, client)
    assert heard.get(timeout=PATIENCE) == "hola"
    assert heard.get(timeout=PATIENCE) == websockets.frames.Close(1000, "hola")
    assert client.close_received == ws.Close(1000, "hola")
    assert client.wants_eof
    assert GOODBYES[1] in capsys.readouterr().out.splitlines()


@asking
def test_a_client_answers_a_close(ask: Callable[[int, ws.Connection], None]) -> None:
    heard: Queue[object] = Queue()

    def handler(connection: Any) -> None:
        connection.close(3001, "no time")
        heard.put(connection.protocol.close_rcvd)

    client = new_client()
    with serving_websockets(handler) as port:
        ask(port, client)
    assert heard.get(timeout=PATIENCE) == websockets.frames.Close(3001, "no time")
    assert client.close_received == ws.Close(3001, "no time")


@asking
def test_a_client_tells_why_it_was_refused(
    ask: Callable[[int, ws.Connection], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(connection: Any, _: object) -> Any:
        return connection.respond(HTTPStatus.FORBIDDEN, "not you\n")

    client = new_client()
    with serving_websockets(lambda _: None, process_request=refuse) as port:
        ask(port, client)
    assert client.response is not None
    assert client.response.body == b"not you\n"
    assert "the server refused the upgrade: HTTP 403 Forbidden" in capsys.readouterr().out


@asking
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RESPONSE + b"\x83\x00", HOLA + close_frame(ws.Role.CLIENT, 1002, "opcode 0x3 is reserved")),
        (RESPONSE, HOLA),
        (b"garbage", b""),
    ],
    ids=["frame", "end", "head"],
)
def test_a_client_comes_to_its_end_with_a_server_that_breaks_the_protocol(
    ask: Callable[[int, ws.Connection], None],
    answer: bytes,
    said: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard: Queue[bytes] = Queue()

    def serve(stream: socket.socket, *_: object) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += stream.recv(65536)
        stream.sendall(answer)
        stream.shutdown(socket.SHUT_WR)
        heard.put(read_all(stream))

    with serving_threads(serve) as port:
        ask(port, new_client())
        assert heard.get(timeout=PATIENCE) == said
    assert "<ws.Connection client closed> Closed(" in capsys.readouterr().out

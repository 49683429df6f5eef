"""``python -m stelar_runtime_… serve | connect``, as a person or a script meets it."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.programs import Program, running, serving


@pytest.fixture(params=["asyncio", "trio"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connecting(runtime: str, url: str, *arguments: str) -> Program:
    return Program(f"stelar_runtime_{runtime}", "connect", url, *arguments)


@contextmanager
def connected(runtime: str, url: str, *arguments: str) -> Iterator[Program]:
    with running(f"stelar_runtime_{runtime}", "connect", url, "--json", *arguments) as program:
        program.read_until("entered")
        yield program


def test_the_server_says_where_it_is_and_serves_the_page_and_its_health(runtime: str) -> None:
    command = (f"stelar_runtime_{runtime}", "serve", "--port", "0", "--tcp-port", "0")
    with running(*command) as server:
        lines = [server.read_line() or "" for _ in range(5)]
        url = lines[0].split()[-1]
        assert any("connect ws://" in line for line in lines)
        assert any("connect tcp://" in line for line in lines)
        with urllib.request.urlopen(url, timeout=10) as page:
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            assert b"new WebSocket(" in page.read()
        with urllib.request.urlopen(f"{url}health", timeout=10) as health:
            assert b'"status":"ok"' in health.read()
        server.interrupt()
        assert server.wait() == (0, "")


def test_sigterm_says_goodbye_to_everybody_and_ends_with_0(runtime: str) -> None:
    with serving(runtime) as (server, ws_port, tcp_port):
        with (
            connected("asyncio", f"ws://localhost:{ws_port}") as over_ws,
            connected("trio", f"tcp://localhost:{tcp_port}") as over_tcp,
        ):
            server.terminate()
            for program in (over_ws, over_tcp):
                lost = program.read_until("lost")
                assert (lost["code"], lost["reason"]) == (1001, "Server shutting down")
                assert program.wait() == (1, "")
        assert server.wait() == (0, "")


@pytest.mark.parametrize("wire", ["ws", "tcp"])
def test_ctrl_c_leaves_cleanly(runtime: str, wire: str) -> None:
    with serving(runtime) as (_, ws_port, tcp_port):
        url = f"{wire}://localhost:{ws_port if wire == 'ws' else tcp_port}"
        with connected(runtime, url, "--name", "stays") as stays:
            with connected(runtime, url, "--name", "goes") as goes:
                assert stays.read_until("presence")["entered"] == ["goes"]
                goes.interrupt()
                assert goes.read_until("left") == {"type": "left"}
                assert goes.wait() == (0, "")
            assert stays.read_until("presence")["left"] == ["goes"]


def test_a_killed_terminal_is_noticed_and_the_room_goes_on(runtime: str) -> None:
    with serving(runtime) as (_, ws_port, tcp_port):
        with connected("trio", f"tcp://localhost:{tcp_port}", "--name", "stays") as stays:
            with connected("asyncio", f"ws://localhost:{ws_port}", "--name", "killed") as killed:
                assert stays.read_until("presence")["entered"] == ["killed"]
                killed.kill()
                assert stays.read_until("presence")["left"] == ["killed"]
            stays.type("still here")
            assert stays.read_until("sent")["text"] == "still here"


def test_the_end_of_input_ends_the_chat_after_what_was_typed(runtime: str) -> None:
    with (
        serving(runtime) as (_, ws_port, _tcp_port),
        connected(runtime, f"ws://localhost:{ws_port}") as program,
    ):
        for line in ("hola", "/rooms", "/request nonsense", "/ping"):
            program.type(line)
        program.end_of_input()
        assert program.read_until("sent")["text"] == "hola"
        assert program.read_until("rooms")["rooms"] == [{"room": "lobby", "members": 1}]
        assert program.read_until("error")["code"] == "NO_HANDLER"
        assert program.read_until("pong")["ms"] >= 0
        assert program.read() == {"type": "left"}
        assert program.wait() == (1, "")  # a script wants to know that something it asked for failed


def test_people_read_plain_lines(runtime: str) -> None:
    with serving(runtime) as (_, ws_port, tcp_port):
        with connected(runtime, f"tcp://localhost:{tcp_port}", "--name", "bea") as bea:
            ana = connecting(runtime, f"ws://localhost:{ws_port}", "--name", "ana")
            bea.read_until("presence")
            bea.type("hola \x1b[31m rojo")
            shown: list[str] = []
            while not any("rojo" in line for line in shown):
                shown.append(ana.read_line() or "")
            ana.interrupt()
            status, errors = ana.wait()
            ana.close()
    assert (status, errors) == (0, "")
    assert "\x1b" not in "".join(shown)
    assert "bea" in shown[-1]


# --- What goes wrong is one line on standard error and exit status 1 ----------------------------------


def complaint_of(program: Program) -> str:
    try:
        status, errors = program.wait()
    finally:
        program.close()
    assert status == 1
    assert errors.startswith("stelar: ")
    assert errors.count("\n") == 1
    return errors


def test_a_port_in_use(runtime: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        complaint = complaint_of(
            Program(f"stelar_runtime_{runtime}", "serve", "--port", "0", "--tcp-port", port)
        )
        assert f"127.0.0.1:{port}" in complaint
        assert "in use" in complaint


@pytest.mark.parametrize(
    "url", ["ftp://localhost", "ws://", "tcp://localhost", "ws://localhost:99999", "ws://a b/"]
)
def test_a_bad_url(runtime: str, url: str) -> None:
    assert complaint_of(connecting(runtime, url))


@pytest.mark.parametrize("wire", ["ws", "tcp", "wss", "tcps"])
def test_nobody_there(runtime: str, wire: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    complaint = complaint_of(connecting(runtime, f"{wire}://127.0.0.1:{port}"))
    assert complaint == f"stelar: cannot connect to {wire}://127.0.0.1:{port}: connection refused\n"


@pytest.mark.parametrize(
    ("wire", "answer", "words"),
    [
        ("ws", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 Forbidden"),
        (
            "ws",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: wrong\r\n\r\n",
            "Sec-WebSocket-Accept",
        ),
        ("ws", b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
        ("ws", b"", "ended before"),
        ("tcp", b"HTTP/1.1 400 Bad Request\r\n\r\n", "use ws://"),
        ("tcp", b"\0\0\0\x17\x0a\0\5errorServer full", "Server full"),
        ("tcp", b"", "ended"),
    ],
)
def test_a_server_that_refuses_or_is_none(runtime: str, wire: str, answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                if wire == "ws":
                    stream.recv(65536)
                stream.sendall(answer)
                stream.shutdown(socket.SHUT_WR)
                stream.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        complaint = complaint_of(connecting(runtime, f"{wire}://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join(timeout=10)
    assert words in complaint


def test_a_certificate_that_cannot_be_read(runtime: str) -> None:
    program = Program(f"stelar_runtime_{runtime}", "serve", "--port", "0", "--tls-cert", "missing.pem")
    assert "missing.pem" in complaint_of(program)

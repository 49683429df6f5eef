"""``python -m stelar_runtime_… serve | connect``, as a person or a script meets it.

What the processes have in common is tested in tests/demo, without any; here is what only a process has:
signals, standard streams, an exit status, and a server that dies under its clients.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import select
import socket
import subprocess
import sys
import termios
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect

from stelar_proto.demo.cli import main
from tests.support.foreigner import Foreigner
from tests.support.programs import ROOT, Program, running, serving


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ports(runtime: str) -> Iterator[tuple[int, int]]:
    """A server for all tests that do not end it: its WebSocket and its TCP port."""
    with serving(runtime) as (_, ws_port, tcp_port):
        yield ws_port, tcp_port


@pytest.fixture
def watcher(ports: tuple[int, int]) -> Iterator[Foreigner]:
    """Somebody who was in the room before."""
    with connect(f"ws://127.0.0.1:{ports[0]}/") as connection:
        foreigner = Foreigner(connection)
        foreigner.ask("enter", {"name": "watcher", "room": "lobby"})
        yield foreigner


def names_until(watcher: Foreigner, condition: Callable[[set[str]], bool]) -> None:
    """Read until the names of those who are in the room meet ``condition``."""
    while True:
        message = watcher.read()
        if message["event"] != "presence":
            continue
        if condition({member["name"] for member in message["data"]["members"]}):
            return


@contextmanager
def connected(runtime: str, url: str, *arguments: str) -> Iterator[Program]:
    with running(f"stelar_runtime_{runtime}", "connect", url, "--json", *arguments) as program:
        program.read_until("entered")
        yield program


def test_the_server_serves_the_page_and_its_health(ports: tuple[int, int]) -> None:
    url = f"http://127.0.0.1:{ports[0]}/"
    with urllib.request.urlopen(url, timeout=10) as page:
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert b"new WebSocket(" in page.read()
    with urllib.request.urlopen(f"{url}health", timeout=10) as health:
        assert b'"status":"ok"' in health.read()


def test_garbage_on_either_port_hurts_nobody_else(ports: tuple[int, int], watcher: Foreigner) -> None:
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
            stream.sendall(b"\xff\x00garbage\r\n" * 64 + b"\r\n\r\n")
            while stream.recv(65536):  # until it is thrown out
                pass
    watcher.ask("say", {"text": "still here"})


def test_ctrl_c_leaves_cleanly(runtime: str, ports: tuple[int, int], watcher: Foreigner) -> None:
    with connected(runtime, f"ws://localhost:{ports[0]}", "--name", "goes") as goes:
        names_until(watcher, lambda names: "goes" in names)
        goes.interrupt()
        assert goes.read_until("left") == {"type": "left"}
        assert goes.wait() == (0, "")
    names_until(watcher, lambda names: "goes" not in names)


def test_a_killed_terminal_is_noticed_and_the_room_goes_on(
    runtime: str, ports: tuple[int, int], watcher: Foreigner
) -> None:
    with connected(runtime, f"tcp://localhost:{ports[1]}", "--name", "killed") as killed:
        names_until(watcher, lambda names: "killed" in names)
        killed.kill()
        names_until(watcher, lambda names: "killed" not in names)
    watcher.ask("say", {"text": "still here"})


def test_the_end_of_input_ends_the_chat_after_what_was_typed(runtime: str, ports: tuple[int, int]) -> None:
    with connected(runtime, f"ws://localhost:{ports[0]}", "--room", "empty") as program:
        for line in ("hola", "/rooms", "/request nonsense", "/ping"):
            program.type(line)
        program.end_of_input()
        assert program.read_until("sent")["text"] == "hola"
        assert {"room": "empty", "members": 1} in program.read_until("rooms")["rooms"]
        assert program.read_until("error")["code"] == "NO_HANDLER"
        assert program.read_until("pong")["ms"] >= 0
        assert program.read() == {"type": "left"}
        assert program.wait() == (1, "")  # a script wants to know that something it asked for failed


def test_people_read_plain_lines_and_leave_with_ctrl_c(
    runtime: str, ports: tuple[int, int], watcher: Foreigner
) -> None:
    command = (f"stelar_runtime_{runtime}", "connect", f"tcp://localhost:{ports[1]}", "--name", "ana")
    with on_a_terminal(*command) as (process, terminal):
        read_until(terminal, b"* You are ana in lobby")
        watcher.ask("say", {"text": "hola \x1b[31m rojo"})
        read_until(terminal, b"<watcher> hola \\x1b[31m rojo\r\n")
        os.write(terminal, b"\x03")
        shown = read_until(terminal, b"* You left.\r\n")
        assert process.wait(timeout=10) == 0
    assert b"Traceback" not in shown


def test_people_leave_with_ctrl_d(runtime: str, ports: tuple[int, int]) -> None:
    command = (f"stelar_runtime_{runtime}", "connect", f"ws://localhost:{ports[0]}")
    with on_a_terminal(*command) as (process, terminal):
        read_until(terminal, b"* You are guest in lobby")
        os.write(terminal, b"\x04")
        shown = read_until(terminal, b"* You left.\r\n")
        assert process.wait(timeout=10) == 0
    assert b"Traceback" not in shown


@contextmanager
def on_a_terminal(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program whose standard streams are a terminal; yields it with the terminal's other end."""
    terminal, inner = os.openpty()
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
    ) as process:
        os.close(inner)
        try:
            yield process, terminal
        finally:
            process.kill()
            os.close(terminal)


def read_until(terminal: int, words: bytes) -> bytes:
    """What the terminal shows until it has shown ``words``."""
    shown = b""
    while words not in shown:
        assert select.select([terminal], [], [], 20)[0], shown
        shown += os.read(terminal, 4096)
    return shown


# --- What goes wrong is one line on standard error and exit status 1 ----------------------------------


@pytest.fixture
def complain(runtime: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Run a command line in this process, which must fail, and return what it complains about."""
    root, logger = logging.getLogger(), logging.getLogger("stelar")
    before, level = list(root.handlers), logger.level
    module = importlib.import_module(f"stelar_runtime_{runtime}.__main__")
    demo = {"asyncio": "AsyncioDemo", "trio": "TrioDemo"}[runtime]

    def run(*arguments: str) -> str:
        assert main(getattr(module, demo)(), arguments) == 1
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith("stelar: ")
        assert errors.count("\n") == 1
        return errors

    yield run
    root.handlers[:] = before
    logger.setLevel(level)


def test_a_process_that_fails_ends_with_1(runtime: str) -> None:
    with running(f"stelar_runtime_{runtime}", "connect", "ftp://localhost") as program:
        status, errors = program.wait()
    assert status == 1
    assert errors.startswith("stelar: ")
    assert errors.count("\n") == 1


def test_a_port_in_use(complain: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        complaint = complain("serve", "--port", "0", "--tcp-port", str(port))
    assert f"127.0.0.1:{port}" in complaint
    assert "in use" in complaint
    assert "--tcp-port" in complaint


@pytest.mark.parametrize(
    "url", ["ftp://localhost", "ws://", "tcp://localhost", "ws://localhost:99999", "ws://a b/"]
)
def test_a_bad_url(complain: Callable[..., str], url: str) -> None:
    assert complain("connect", url)


@pytest.mark.parametrize("wire", ["ws", "tcp", "wss", "tcps"])
def test_nobody_there(complain: Callable[..., str], wire: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"{wire}://127.0.0.1:{port}"
    complaint = complain("connect", url)
    assert complaint == f"stelar: cannot connect to {url}: connection refused (--wait keeps trying)\n"


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
def test_a_server_that_refuses_or_is_none(
    complain: Callable[..., str], wire: str, answer: bytes, words: str
) -> None:
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
        complaint = complain("connect", f"{wire}://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(timeout=10)
    assert words in complaint
    assert "--wait" not in complaint, "waiting does not help"


def test_a_certificate_that_cannot_be_read(complain: Callable[..., str]) -> None:
    assert "missing.pem" in complain("serve", "--port", "0", "--tls-cert", "missing.pem")


# --- A server that dies under its clients -------------------------------------------------------------


def test_a_server_that_is_restarted_has_its_terminals_back_with_what_they_said() -> None:
    with serving("asyncio") as (server, ws_port, tcp_port):
        with (
            connected("asyncio", f"tcp://localhost:{tcp_port}", "--room", "a") as over_tcp,
            connected("trio", f"ws://localhost:{ws_port}", "--room", "b") as over_ws,
        ):
            terminals = {"a": over_tcp, "b": over_ws}
            server.terminate()
            for terminal in terminals.values():
                lost = terminal.read_until("lost")
                assert (lost["code"], lost["reason"]) == (1001, "Server shutting down")
                terminal.type("hola")
                assert terminal.read_until("queued")["waiting"] == 1
            assert server.wait() == (0, "")
            again = ("--port", str(ws_port), "--tcp-port", str(tcp_port))
            with running("stelar_runtime_trio", "serve", *again) as server:
                for room, terminal in terminals.items():
                    came_back(terminal, room)
                server.interrupt()
                assert server.wait() == (0, "")
            for terminal in terminals.values():
                terminal.read_until("lost")
                terminal.type("too late")
                terminal.read_until("queued")
                terminal.interrupt()
                assert terminal.read_until("left") == {"type": "left", "unsent": 1}
                assert terminal.wait() == (1, "")


def came_back(terminal: Program, room: str) -> None:
    """Read that it is connected again, in its room, and that what waited was said; in whatever order."""
    records: dict[str, dict[str, Any]] = {}
    while not {"back", "drained", "sent", "entered"} <= records.keys():
        record = terminal.read()
        records[record["type"]] = record
    assert records["back"]["attempts"] >= 1
    assert records["entered"]["room"] == room
    assert [member["name"] for member in records["entered"]["members"]] == ["guest"]
    assert (records["sent"]["text"], records["sent"]["seq"]) == ("hola", 1)

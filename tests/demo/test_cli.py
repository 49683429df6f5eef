"""The demo's command line: what it hands to a runtime, what it prints, and the status it ends with."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stelar_proto.demo.cli import Runtime, main
from stelar_proto.demo.page import page_body
from stelar_proto.errors import ConnectError, RemoteError
from tests.demo.fakes import FakeClient, FakeLines, Step, finish
from tests.demo.test_chat import FakeServer

T = TypeVar("T")


class FakeDemoServer(FakeServer):
    def __init__(self, options: dict[str, Any], trouble: BaseException | None) -> None:
        super().__init__()
        self.options = options
        self.pages: dict[str, Callable[[object], Any]] = {}
        self.log: list[str] = []
        self._trouble = trouble

    def on_http(self, path: str, /) -> Callable[[Callable[[object], Any]], None]:
        return lambda handler: self.pages.update({path: handler})

    def get_port(self) -> int:
        return int(self.options["port"]) or 49152

    def get_tcp_port(self) -> int:
        return int(self.options["tcp_port"]) or 49153

    async def serve_forever(self) -> None:
        self.log.append("serving")
        if isinstance(self._trouble, KeyboardInterrupt):
            raise self._trouble

    async def __aenter__(self) -> FakeDemoServer:
        if self._trouble is not None and not isinstance(self._trouble, KeyboardInterrupt):
            raise self._trouble
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.log.append("stopped")


class FakeDemoClient(FakeClient):
    def __init__(self, trouble: BaseException | None, **answers: Any) -> None:
        super().__init__(**answers)
        self.log: list[str] = []
        self._trouble = trouble

    async def __aenter__(self) -> FakeDemoClient:
        if self._trouble is not None:
            raise self._trouble
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.log.append("disconnected")


class FakeRuntime:
    """A runtime whose event loop never waits, and whose server and client do as the test says."""

    name = "fake"

    def __init__(
        self, *steps: Step, trouble: BaseException | None = None, wrap: bool = False, **answers: Any
    ) -> None:
        self.steps = list(steps)
        self.the_client = FakeDemoClient(trouble, **answers)
        self.the_server: FakeDemoServer | None = None
        self.url = ""
        self.client_options: dict[str, Any] = {}
        self._trouble = trouble
        self._wrap = wrap

    def server(self, **options: Any) -> FakeDemoServer:
        self.the_server = FakeDemoServer(options, self._trouble)
        return self.the_server

    def client(self, url: str, *, ca_file: str | None = None, **options: Any) -> FakeDemoClient:
        if url == "nonsense://":
            raise ValueError("nonsense:// is no address")
        self.the_client.hooks = options.pop("hooks")
        self.url, self.client_options = url, {"ca_file": ca_file, **options}
        return self.the_client

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        try:
            return finish(main())
        except BaseException as error:
            if self._wrap:
                raise BaseExceptionGroup("unhandled errors in a nursery", [error]) from None
            raise

    def lines(self) -> FakeLines:
        return FakeLines(self.steps)

    def now(self) -> float:
        return self.the_client.clock


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, logger = logging.getLogger(), logging.getLogger("stelar")
    before, level = list(root.handlers), logger.level
    yield
    root.handlers[:] = before
    logger.setLevel(level)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_fake_is_what_the_command_line_asks_for() -> None:
    runtime: Runtime = FakeRuntime()
    assert runtime.name == "fake"


# --- serve --------------------------------------------------------------------------------------------


def test_serve_says_where_the_page_is_and_how_to_join(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime()
    assert main(runtime, ["serve"]) == 0
    assert capsys.readouterr().out == (
        "The chat is at  http://127.0.0.1:3000/\n"
        "Its health at   http://127.0.0.1:3000/health\n"
        "Join it with    python3 -m stelar_runtime_fake connect ws://127.0.0.1:3000 --name YOU\n"
        "or over TCP     python3 -m stelar_runtime_fake connect tcp://127.0.0.1:3001 --name YOU\n"
        "Ctrl-C stops it.\n"
    )
    assert runtime.the_server is not None
    assert runtime.the_server.log == ["serving", "stopped"]
    assert runtime.the_server.options == {
        "host": "127.0.0.1",
        "port": 3000,
        "tcp_port": 3001,
        "tcp_dialect": "documented",
        "tls": None,
        "health_endpoint": "/health",
    }


def test_serve_installs_the_chat_and_the_page() -> None:
    runtime = FakeRuntime()
    main(runtime, ["serve", "--json"])
    assert runtime.the_server is not None
    assert set(runtime.the_server.requests) == {"enter", "say", "rooms", "latency"}
    response = runtime.the_server.pages["/"](object())
    assert (response.status, response.body) == (200, page_body())
    assert dict(response.headers)["Content-Type"] == "text/html; charset=utf-8"


def test_serve_tells_a_script_the_ports_it_got(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FakeRuntime(), ["serve", "--json", "--port", "0", "--tcp-port", "0"]) == 0
    assert capsys.readouterr().out == '{"type":"listening","port":49152,"tcp_port":49153}\n'


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "localhost"), ("::", "localhost"), ("::1", "[::1]"), ("chat.local", "chat.local")],
)
def test_serve_names_an_address_that_can_be_dialled(
    host: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(FakeRuntime(), ["serve", "--host", host])
    assert f"http://{address}:3000/\n" in capsys.readouterr().out


def test_serve_with_tls_names_the_secure_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime()
    arguments = ["serve", "--tls-cert", "c.pem", "--tls-key", "k.pem", "--tcp-dialect", "npm"]
    assert main(runtime, arguments) == 0
    assert runtime.the_server is not None
    assert runtime.the_server.options["tls"] == ("c.pem", "k.pem")
    assert runtime.the_server.options["tcp_dialect"] == "npm"
    output = capsys.readouterr().out
    assert "https://127.0.0.1:3000/" in output
    assert "wss://127.0.0.1:3000 " in output
    assert "tcps://127.0.0.1:3001 " in output


def test_a_certificate_may_stand_in_one_file_with_its_key() -> None:
    runtime = FakeRuntime()
    main(runtime, ["serve", "--tls-cert", "both.pem"])
    assert runtime.the_server is not None
    assert runtime.the_server.options["tls"] == ("both.pem", "both.pem")


def test_interrupting_the_server_is_no_failure() -> None:
    runtime = FakeRuntime(trouble=KeyboardInterrupt())
    assert main(runtime, ["serve"]) == 0
    assert runtime.the_server is not None
    assert runtime.the_server.log == ["serving", "stopped"]


# --- connect ------------------------------------------------------------------------------------------


def test_connect_joins_the_lobby_and_leaves_at_the_end_of_input(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime("hello", say={"seq": 1})
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 0
    assert capsys.readouterr().out == (
        "* Connected to ws://localhost:3000; /help lists what can be typed.\n"
        "* You are Ana in lobby (1 here: Ana)\n"
        "  ✓ 12 ms\n"
        "* You left.\n"
    )
    assert runtime.the_client.asked[0] == ("enter", {"name": "guest", "room": "lobby"})
    assert runtime.the_client.log == ["disconnected"]
    assert runtime.url == "ws://localhost:3000"
    assert runtime.client_options == {
        "ca_file": None,
        "reject_unauthorized": True,
        "tcp_dialect": "documented",
        "reconnection": True,
        "reconnection_attempts": None,
        "retry_first_connect": False,
        "reconnection_delay": 0.5,
        "max_reconnection_delay": 10.0,
        "message_queue_size": 50,
    }


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--attempts", "3"], {"reconnection": True, "reconnection_attempts": 3}),
        (["--attempts", "forever"], {"reconnection": True, "reconnection_attempts": None}),
        (["--attempts", "0"], {"reconnection": False}),
        (["--wait"], {"retry_first_connect": True}),
    ],
)
def test_connect_tries_as_often_as_it_was_told(arguments: list[str], options: dict[str, Any]) -> None:
    runtime = FakeRuntime()
    main(runtime, ["connect", "ws://localhost:3000", *arguments])
    assert options.items() <= runtime.client_options.items()


def test_connect_hands_on_what_it_was_told() -> None:
    runtime = FakeRuntime()
    options = ["--name", "Ana", "--room", "garden", "--insecure", "--ca", "ca.pem", "--tcp-dialect", "npm"]
    assert main(runtime, ["connect", "tcps://localhost:3001", *options]) == 0
    assert runtime.the_client.asked[0] == ("enter", {"name": "Ana", "room": "garden"})
    assert runtime.client_options["ca_file"] == "ca.pem"
    assert runtime.client_options["reject_unauthorized"] is False
    assert runtime.client_options["tcp_dialect"] == "npm"


def test_connect_speaks_json_to_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime("hello", say={"seq": 1})
    assert main(runtime, ["connect", "ws://localhost:3000", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0] == {"type": "connected", "url": "ws://localhost:3000", "id": "1"}
    assert [record["type"] for record in records] == ["connected", "entered", "sent", "left"]


def test_interrupting_a_chat_leaves_cleanly(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime(interrupt)
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 0
    assert capsys.readouterr().out.endswith("\n\n* You left.\n")
    assert runtime.the_client.log == ["disconnected"]


def test_interrupting_a_chat_says_what_was_never_sent(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime()
    runtime.steps += [runtime.the_client.break_off, "hello", interrupt]
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 1
    assert capsys.readouterr().out.endswith("\n\n* You left; 1 message never sent.\n")


def test_on_a_terminal_a_transfer_is_one_line_that_is_written_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    picture = tmp_path / f"{'cat' * 30}.png"
    picture.write_bytes(bytes(4096))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(FakeRuntime(f"/picture {picture}"), ["connect", "ws://localhost:3000"]) == 0
    shown = terminal.getvalue()
    line, *_ = shown[shown.index("  … ") :].split("\n")
    updates = line.split("\r\x1b[K")
    assert [len(update) for update in updates[:4]] == [79] * 4, "a longer line would not be erased"
    assert updates[4] == "  ✓ picture, 4.0 KiB, 2012 ms"


def test_elsewhere_a_transfer_is_told_in_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(bytes(4096))
    assert main(FakeRuntime(f"/picture {picture}"), ["connect", "ws://localhost:3000"]) == 0
    assert f"  … {picture}: 2.0 KiB of 4.0 KiB, 50 %\n" in capsys.readouterr().out


def test_interrupting_a_script_ends_its_output_with_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FakeRuntime(interrupt), ["connect", "ws://localhost:3000", "--json"]) == 0
    assert capsys.readouterr().out.endswith('\n{"type":"left"}\n')


def test_an_interrupt_reported_in_a_group_is_the_same() -> None:
    assert main(FakeRuntime(interrupt, wrap=True), ["connect", "ws://localhost:3000"]) == 0


def test_an_interrupt_before_there_was_a_connection_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime(trouble=KeyboardInterrupt())
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_lost_connection_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime()
    runtime.steps.append(runtime.the_client.lose)
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 1
    assert capsys.readouterr().out.endswith("! The connection ended: Server shutting down (1001).\n")


def test_when_nobody_reads_the_output_any_more_the_session_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenPipe(io.StringIO):
        def flush(self) -> None:
            if "/help" in self.getvalue():
                raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", BrokenPipe())
    runtime = FakeRuntime("said before anybody noticed", say={"seq": 1})
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 0
    assert runtime.the_client.log == ["disconnected"]


def test_a_letter_that_the_terminal_cannot_show_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(FakeRuntime("hello", say={"seq": 1}), ["connect", "ws://localhost:3000"]) == 0
    assert b"  \\u2713 12 ms" in raw.getvalue()


# --- Failures -----------------------------------------------------------------------------------------


def _refused() -> ConnectError:
    error = ConnectError("localhost:1: connection refused")
    error.__cause__ = ConnectionRefusedError()
    return error


@pytest.mark.parametrize(
    ("arguments", "trouble", "complaint"),
    [
        (
            ["serve"],
            OSError(errno.EADDRINUSE, "cannot listen on h:3000: Address already in use"),
            "stelar: cannot listen on h:3000: Address already in use; "
            "another --port or --tcp-port may be free, and 0 picks one that is\n",
        ),
        (["serve"], FileNotFoundError(2, "No such file", "k.pem"), "stelar: k.pem: No such file\n"),
        (
            ["connect", "ws://localhost:1"],
            ConnectError("localhost:1: connection refused"),
            "stelar: localhost:1: connection refused\n",
        ),
        (
            ["connect", "ws://localhost:1"],
            _refused(),
            "stelar: localhost:1: connection refused (--wait keeps trying)\n",
        ),
        (["connect", "nonsense://"], None, "stelar: nonsense:// is no address\n"),
        (["connect", "ws://h"], OSError("two\nlines \x1b[2J"), "stelar: two lines \\x1b[2J\n"),
        (["connect", "ws://h"], TimeoutError(), "stelar: TimeoutError\n"),
    ],
)
@pytest.mark.parametrize("wrap", [False, True])
def test_an_expected_failure_is_one_line_and_status_1(
    arguments: list[str],
    trouble: BaseException | None,
    complaint: str,
    wrap: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(FakeRuntime(trouble=trouble, wrap=wrap), arguments) == 1
    assert capsys.readouterr() == ("", complaint)


def test_a_refused_name_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime(enter=RemoteError("BAD_REQUEST", "The name has 41 characters."))
    assert main(runtime, ["connect", "ws://localhost:3000"]) == 1
    assert capsys.readouterr().err == "stelar: BAD_REQUEST: The name has 41 characters.\n"
    assert runtime.the_client.log == ["disconnected"]


def test_an_unexpected_failure_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        main(FakeRuntime(trouble=ZeroDivisionError()), ["serve"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required"),
        (["dance"], "invalid choice"),
        (["serve", "--port", "65536"], "'65536' is no port; it is a number from 0 to 65535"),
        (["serve", "--port", "-1"], "is no port"),
        (["serve", "--tcp-port", "http"], "'http' is no port"),
        (["serve", "--tcp-dialect", "latin"], "invalid choice"),
        (["serve", "--tls-key", "k.pem"], "--tls-key needs --tls-cert"),
        (["connect"], "required"),
        (["connect", "ws://h", "--attempts", "-1"], "'-1' is no number of attempts"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(FakeRuntime(), arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


# --- Logging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (["serve"], logging.WARNING),
        (["connect", "ws://h"], logging.CRITICAL),
        (["serve", "--verbose"], logging.DEBUG),
        (["connect", "ws://h", "--verbose"], logging.DEBUG),
    ],
)
def test_a_log_is_kept_as_far_as_it_was_asked_for(arguments: list[str], level: int) -> None:
    main(FakeRuntime(), arguments)
    assert logging.getLogger("stelar.server").getEffectiveLevel() == level

"""The command line of the demo, the same for every runtime: ``serve`` and ``connect``.

Responsible for arguments, for what is printed, and for turning what may go wrong (a port in use, a bad URL,
a server that refuses or breaks) into one line and an exit status. What needs an event loop, a socket or a
terminal comes from the :class:`Runtime` that a runtime's ``__main__`` hands in.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from stelar_proto.errors import ConnectError, StelarError
from stelar_proto.server import HttpResponse

from .chat import ChatServer, install_chat
from .page import page_body, page_headers
from .rendering import render, render_json, visible
from .terminal import ChatClient, ChatSession, Lines

T = TypeVar("T")

INTERRUPTED = 130
"""The exit status when Ctrl-C came before there was anything to leave: 128 + SIGINT, as shells count."""

_WAITS = {"reconnection_delay": 0.5, "max_reconnection_delay": 10.0}
"""Seconds between attempts: shorter than usual, as somebody sits there and waits."""
_MAX_WAITING = 50
"""Messages kept without a connection: the server's rate limit takes twice as many at once."""


class DemoServer(ChatServer, Protocol):
    """What ``serve`` asks of a ``StelarServer``."""

    def on_http(self, path: str, /) -> Any: ...
    def get_port(self) -> int | None: ...
    def get_tcp_port(self) -> int | None: ...
    async def serve_forever(self) -> object: ...
    def __aenter__(self) -> Awaitable[object]: ...
    def __aexit__(self, *exc_info: Any) -> Awaitable[object]: ...


class DemoClient(ChatClient, Protocol):
    """What ``connect`` asks of a ``StelarClient``."""

    def __aenter__(self) -> Awaitable[object]: ...
    def __aexit__(self, *exc_info: Any) -> Awaitable[object]: ...


class Runtime(Protocol):
    """What a runtime's ``__main__`` brings along."""

    @property
    def name(self) -> str:
        """``asyncio`` or ``trio``; the package is called ``stelar_runtime_`` and this."""
        ...

    def server(self, **options: Any) -> DemoServer:
        """A ``StelarServer`` of this runtime, with its options."""
        ...

    def client(self, url: str, *, ca_file: str | None = None, **options: Any) -> DemoClient:
        """A ``StelarClient`` of this runtime, with its options.

        ``ca_file`` names certificates (PEM) that it trusts as well.
        """
        ...

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """Run ``main`` in an event loop; Ctrl-C cancels it, lets it finish, and raises KeyboardInterrupt."""
        ...

    def lines(self) -> Lines:
        """The lines of standard input. Called inside :meth:`run`."""
        ...

    def now(self) -> float:
        """Seconds, from a clock that only goes forward."""
        ...


def main(runtime: Runtime, argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``, by default the process's, and return the exit status.

    0: served or chatted until told to stop, by Ctrl-C too. 1: an expected failure, told in one line on
    standard error. 130: Ctrl-C before the server listened or the client was connected. A command line
    that cannot be understood ends in argparse's SystemExit with status 2.
    """
    parser = _parser(runtime.name)
    arguments = parser.parse_args(argv)
    if arguments.command is _Serve and arguments.tls_key and not arguments.tls_cert:
        parser.error("--tls-key needs --tls-cert")
    _configure_logging(arguments)
    output = _Output()
    command: _Command = arguments.command(runtime, arguments, output)
    try:
        return runtime.run(command.run)
    except BaseException as error:  # whatever is not expected goes on below
        causes = list(_causes(error))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            return command.interrupted()
        if not all(isinstance(cause, StelarError | OSError | ValueError) for cause in causes):
            raise
        _complain(causes)
        return 1


# --- The two commands ---------------------------------------------------------------------------------


class _Command(ABC):
    """One run of a subcommand."""

    def __init__(self, runtime: Runtime, arguments: argparse.Namespace, output: _Output) -> None:
        self._runtime = runtime
        self._arguments = arguments
        self._output = output
        self._started = False

    @abstractmethod
    async def run(self) -> int:
        """Do it, and return the exit status."""

    def interrupted(self) -> int:
        """The exit status after Ctrl-C, which has cleanly ended whatever had begun."""
        return 0 if self._started else INTERRUPTED


class _Serve(_Command):
    async def run(self) -> int:
        arguments = self._arguments
        server = self._runtime.server(
            host=arguments.host,
            port=arguments.port,
            tcp_port=arguments.tcp_port,
            tcp_dialect=arguments.tcp_dialect,
            tls=_certificate(arguments),
            health_endpoint="/health",
        )
        install_chat(server)
        server.on_http("/")(_serve_page)
        async with server:
            self._started = True
            self._announce(server)
            await server.serve_forever()
        return 0

    def _announce(self, server: DemoServer) -> None:
        port, tcp_port = server.get_port(), server.get_tcp_port()
        if self._arguments.json:
            self._output(render_json({"type": "listening", "port": port, "tcp_port": tcp_port}))
            return
        host = _reachable(self._arguments.host)
        s = "s" if self._arguments.tls_cert else ""
        join = f"python3 -m stelar_runtime_{self._runtime.name} connect"
        self._output(
            f"The chat is at  http{s}://{host}:{port}/\n"
            f"Its health at   http{s}://{host}:{port}/health\n"
            f"Join it with    {join} ws{s}://{host}:{port} --name YOU\n"
            f"or over TCP     {join} tcp{s}://{host}:{tcp_port} --name YOU\n"
            "Ctrl-C stops it."
        )


class _Connect(_Command):
    async def run(self) -> int:
        arguments = self._arguments
        self._session = ChatSession(
            self._output,
            name=arguments.name,
            room=arguments.room,
            now=self._runtime.now,
            json=arguments.json,
        )
        attempts = arguments.attempts
        client = self._runtime.client(
            arguments.url,
            ca_file=arguments.ca,
            reject_unauthorized=not arguments.insecure,
            tcp_dialect=arguments.tcp_dialect,
            reconnection=attempts != 0,
            reconnection_attempts=attempts or None,
            retry_first_connect=arguments.wait,
            message_queue_size=_MAX_WAITING,
            hooks=self._session.hooks,
            **_WAITS,
        )
        async with client:
            self._started = True
            self._show("connected", url=arguments.url, id=client.get_id())
            lines = self._runtime.lines()
            self._output.on_broken = lines.close
            return await self._session.run(client, lines)

    def interrupted(self) -> int:
        if not self._started:
            return INTERRUPTED
        if not self._arguments.json:
            self._output("")  # the terminal has put ^C where the next line would begin
        return self._session.leave()

    def _show(self, type_: str, **fields: Any) -> None:
        record = {"type": type_, **fields}
        self._output(render_json(record) if self._arguments.json else render(record))


def _certificate(arguments: argparse.Namespace) -> tuple[str, str] | None:
    if arguments.tls_cert is None:
        return None
    return arguments.tls_cert, arguments.tls_key or arguments.tls_cert


def _serve_page(_request: object) -> HttpResponse:
    return HttpResponse(200, body=page_body(), headers=page_headers())


def _reachable(host: str) -> str:
    """``host`` as it stands in a URL; an address that means every address becomes one that can be dialled."""
    if host in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


# --- Arguments ----------------------------------------------------------------------------------------


def _parser(runtime_name: str) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--tcp-dialect", choices=("documented", "npm"), default="documented")
    common.add_argument("--json", action="store_true", help="one JSON object a line, for scripts")
    common.add_argument("--verbose", action="store_true", help="log what happens, to standard error")
    parser = argparse.ArgumentParser(
        prog=f"python3 -m stelar_runtime_{runtime_name}",
        description=f"The stelar demo, on {runtime_name}: a chat.",
    )
    commands = parser.add_subparsers(required=True, metavar="serve | connect")

    serve = commands.add_parser("serve", parents=[common], help="serve the chat")
    serve.set_defaults(command=_Serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one")
    serve.add_argument("--port", type=_port, default=3000, help="page, health and WebSocket; 0 picks one")
    serve.add_argument("--tcp-port", type=_port, default=3001, help="the binary protocol; 0 picks one")
    serve.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM")
    serve.add_argument("--tls-key", metavar="FILE", help="its private key, PEM; by default in the same file")

    connect = commands.add_parser("connect", parents=[common], help="join the chat from this terminal")
    connect.set_defaults(command=_Connect)
    connect.add_argument("url", help="ws://HOST:PORT, wss://, tcp:// or tcps://")
    connect.add_argument("--name", default="guest")
    connect.add_argument("--room", default="lobby")
    connect.add_argument("--wait", action="store_true", help="keep trying when there is no server yet")
    connect.add_argument(
        "--attempts",
        type=_attempts,
        default=None,
        metavar="N",
        help="to connect again, in a row; 0 to end with the connection; by default 'forever'",
    )
    connect.add_argument("--ca", metavar="FILE", help="trust the certificates in this file too, PEM")
    connect.add_argument("--insecure", action="store_true", help="do not verify the server's certificate")
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; it is a number from 0 to 65535")


def _attempts(text: str) -> int | None:
    if text == "forever":
        return None
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of attempts; it is 0, 1, 2 … or 'forever'")


def _configure_logging(arguments: argparse.Namespace) -> None:
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    if arguments.verbose:
        level = logging.DEBUG
    else:
        # In a terminal what goes wrong is shown by the session itself; said twice, it would be unclear.
        level = logging.CRITICAL if arguments.command is _Connect else logging.WARNING
    logging.getLogger("stelar").setLevel(level)


# --- Output and failures ------------------------------------------------------------------------------


_STATUS_WIDTH = 79  # a longer line would not be erased


class _Output:
    """Standard output; when whoever read it has gone, it calls ``on_broken`` once and stays silent."""

    def __init__(self) -> None:
        self.on_broken: Callable[[], object] = lambda: None
        self.is_live = sys.stdout.isatty()
        self._erase = ""
        self._broken = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that cannot show a letter shows its number; a message never fails for its letters.
            sys.stdout.reconfigure(errors="backslashreplace")

    def __call__(self, line: str) -> None:
        erase, self._erase = self._erase, ""
        self._print(f"{erase}{line}\n")

    def update(self, line: str) -> None:
        """Show ``line`` in place of the last such on a terminal, and as a line of its own elsewhere."""
        if not self.is_live:
            self(line)
            return
        erase, self._erase = self._erase, "\r\x1b[K"  # ECMA-48: to the end of the line
        self._print(f"{erase}{line[:_STATUS_WIDTH]}")

    def _print(self, text: str) -> None:
        if self._broken:
            return
        try:
            print(text, end="", flush=True)
        except BrokenPipeError:
            self._broken = True
            # The line still stands in the buffer, and the interpreter would try to write it at exit.
            sys.stdout = io.StringIO()
            self.on_broken()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` itself, or, of a group, what is in it: structured concurrency reports failures in groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


def _complain(causes: Sequence[BaseException]) -> None:
    sentences = dict.fromkeys(visible(" ".join(_words(cause).split())) for cause in causes)
    print(f"stelar: {'; '.join(sentences)}", file=sys.stderr)


def _words(cause: BaseException) -> str:
    """What ``cause`` says to a person, who has no use for error numbers."""
    if isinstance(cause, ConnectError) and isinstance(cause.__cause__, OSError):
        return f"{cause} (--wait keeps trying)"
    if isinstance(cause, OSError) and cause.strerror:
        if cause.errno == errno.EADDRINUSE:
            return f"{cause.strerror}; another --port or --tcp-port may be free, and 0 picks one that is"
        return f"{cause.filename}: {cause.strerror}" if cause.filename else cause.strerror
    return str(cause) or type(cause).__name__

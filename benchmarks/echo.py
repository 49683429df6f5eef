"""What an echo costs a server: ``serve_websocket`` on its three loops, beside the servers of other libraries.

``python benchmarks/echo.py`` prints tables, ``--quick`` a short run in less than 40 seconds; README.md in
this folder says how to read them. Times are the machine's, and only ratios travel. A server that does not
send back every byte it was sent ends the run.

The servers (``echo_servers.py``) are processes of their own and report their own processor time. The load
comes from this one: frames that were encoded beforehand, over plain sockets, the same for every server. A
turn is one server under load for a moment, on new connections; the servers take turns, round after round,
so that whatever else the machine does hits all of them, and a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from echo_servers import SERVERS

from stelar_proto.ws import Opcode
from stelar_proto.ws.frames import encode_frame

KIB = 1024
SIZES = {16: "16 B", 125: "125 B", KIB: "1 KiB", 64 * KIB: "64 KiB"}
CONNECTIONS = 20
PATIENCE = 10.0  # seconds without an answer after which a server has failed
READ_SIZE = 64 * KIB  # a larger buffer is mapped anew for each read, which costs more than reading
MASK = b"\x37\xfa\x21\x3d"
CLOSE = encode_frame(Opcode.CLOSE, b"\x03\xe8", mask=MASK)  # 1000
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class ServerFailed(Exception):
    """A server did not do its work; the run is worth nothing."""


# --- The servers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """What a server has taken since it began: processor time in seconds, memory in bytes."""

    cpu: float
    memory: int


class ServerProcess:
    """One echo server.

    Arguments:
        library, loop: which; see :data:`echo_servers.SERVERS`.
    """

    def __init__(self, library: str, loop: str) -> None:
        self.library, self.loop = library, loop
        self.port = 0
        self._control, theirs = socket.socketpair()
        self._control.settimeout(PATIENCE)
        self._answers = self._control.makefile("rb")
        command = [sys.executable, str(Path(__file__).with_name("echo_servers.py")), library, loop]
        self._process = subprocess.Popen(command, stdin=theirs)
        theirs.close()

    def __str__(self) -> str:
        return f"{self.library}-{self.loop}"

    def started(self) -> bool:
        """Wait until it listens; False if it cannot, because something is not installed."""
        answer = self._answer()
        if "missing" in answer:
            print(f"{self} is left out: {answer['missing']} is not installed")
            return False
        self.port = answer["port"]
        return True

    def mark(self) -> Mark:
        """Ask what it has taken so far."""
        self._control.sendall(b"?")
        return Mark(**self._answer())

    def _answer(self) -> Any:
        try:
            line = self._answers.readline()
        except TimeoutError:
            line = b""
        if not line:
            raise ServerFailed(f"{self} says nothing")
        return json.loads(line)

    def end(self) -> None:
        self._answers.close()
        self._control.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# --- The load ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What goes over each connection: ``outstanding`` messages at once, and the next when all are back."""

    size: int
    is_text: bool
    outstanding: int

    def __str__(self) -> str:
        kind = "text" if self.is_text else "binary"
        return f"{SIZES[self.size]:>6} {kind}, {self.outstanding} outstanding"

    def encoded(self, mask: bytes | None) -> bytes:
        """Return the frames of the messages: masked as they are sent, or unmasked as they come back."""
        payload = (b'{"event":"chat","data":"hola"} ' * (self.size // 31 + 1))[: self.size]
        opcode = Opcode.TEXT if self.is_text else Opcode.BINARY
        return encode_frame(opcode, payload, mask=mask) * self.outstanding


class Connection:
    """One client: it upgrades at once, and is then driven by :func:`exchange`."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(UPGRADE)
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            response += self._read()
        if not response.startswith(b"HTTP/1.1 101 "):
            raise ServerFailed(f"{server} does not upgrade: {response!r}")
        self.socket.setblocking(False)
        self._unsent = memoryview(b"")
        self._expected = b""
        self._received = 0
        self.sent_at = 0.0

    def send(self, messages: bytes, answers: bytes) -> bool:
        """Send ``messages``, to which ``answers`` is to come back; as :meth:`send_rest`."""
        self._unsent, self._expected, self._received = memoryview(messages), answers, 0
        self.sent_at = perf_counter()
        return self.send_rest()

    def send_rest(self) -> bool:
        """Send what the socket takes; return whether that was all."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        return not self._unsent

    def receive(self) -> bool:
        """Take what has come, which is compared byte by byte; return whether it is complete."""
        data = self._read()
        end = self._received + len(data)
        if data != self._expected and data != self._expected[self._received : end]:
            raise ServerFailed(f"{self._server} sends back something else: {data[:100]!r}")
        self._received = end
        return end == len(self._expected)

    def say_goodbye(self) -> None:
        """Close in good order: there is nothing for the server to report, and nothing of us is left there."""
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(CLOSE)
        answer = self._read()
        if answer != b"\x88\x02\x03\xe8":
            raise ServerFailed(f"{self._server} answers a close with {answer[:100]!r}")

    def _read(self) -> bytes:
        try:
            data = self.socket.recv(READ_SIZE)
        except OSError as error:
            raise ServerFailed(f"{self._server} cannot be read: {error!r}") from error
        if not data:
            raise ServerFailed(f"{self._server} has hung up")
        return data


@contextlib.contextmanager
def connected(server: ServerProcess, count: int) -> Iterator[list[Connection]]:
    """So many open connections; they are closed in good order at the end."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(Connection(server))
            stack.enter_context(connections[-1].socket)
        yield connections
        for connection in connections:
            connection.say_goodbye()


def exchange(connections: Sequence[Connection], load: Load, seconds: float) -> list[float]:
    """Put ``load`` on the connections for so long, and until every message is back.

    Returns:
        How long it took until the messages that were sent at once were all back, for each time; seconds.
    """
    messages, answers = load.encoded(MASK), load.encoded(None)
    latencies: list[float] = []
    reading, both = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            everything = connection.send(messages, answers)
            selector.register(connection.socket, reading if everything else both, connection)
        end = perf_counter() + seconds
        busy = len(connections)
        while busy:
            ready = selector.select(PATIENCE)
            if not ready:
                raise ServerFailed(f"nothing comes back from a server: {connections[0]}")
            for key, events in ready:
                connection = key.data
                if events & selectors.EVENT_WRITE and connection.send_rest():
                    selector.modify(connection.socket, reading, connection)
                if events & reading and connection.receive():
                    now = perf_counter()
                    latencies.append(now - connection.sent_at)
                    if now >= end:
                        busy -= 1
                    elif not connection.send(messages, answers):
                        selector.modify(connection.socket, both, connection)
    return latencies


# --- Measuring --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One server under load for a moment; all in seconds."""

    cpu: float
    """The server's processor time per message."""
    latency: float
    """The time that 99 % of the messages that were sent at once needed to come back."""
    load_cpu: float
    """What the load took per message."""


def take_turn(server: ServerProcess, load: Load, seconds: float) -> Turn:
    with connected(server, CONNECTIONS) as connections:
        load_before, before = process_time(), server.mark()
        latencies = sorted(exchange(connections, load, seconds))
        after, load_after = server.mark(), process_time()
    count = len(latencies) * load.outstanding
    return Turn(
        (after.cpu - before.cpu) / count,
        latencies[ceil(len(latencies) * 0.99) - 1],
        (load_after - load_before) / count,
    )


def measure(
    servers: Sequence[ServerProcess], load: Load, rounds: int, seconds: float
) -> dict[ServerProcess, list[Turn]]:
    """Put ``load`` on all servers in turn, ``rounds`` times."""
    turns: dict[ServerProcess, list[Turn]] = {server: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            turns[server].append(take_turn(server, load, seconds))
    return turns


def memory_per_connection(server: ServerProcess, count: int) -> float:
    """Return how many bytes a server grows by with each connection that has seen one message."""
    hello = Load(125, True, 1)
    with connected(server, 1) as connections:
        exchange(connections, hello, 0)
    before = server.mark()
    with connected(server, count) as connections:
        exchange(connections, hello, 0)
        after = server.mark()
    return (after.memory - before.memory) / count


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """What fraction of theirs ours is, compared round by round."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))


# --- The tables -------------------------------------------------------------------------------------------


class Table:
    """Rows that show one figure of the first server of a loop, and what fraction of each other's that is."""

    def __init__(self, servers: Sequence[ServerProcess], title: str, unit: str) -> None:
        self._loops: dict[str, list[ServerProcess]] = {}
        for server in servers:
            self._loops.setdefault(server.loop, []).append(server)
        others = (server.library for chosen in self._loops.values() for server in chosen[1:])
        self._columns = list(dict.fromkeys(others))
        print(f"\n{title}")
        self._print_row("", [unit, *(f"/ {library}" for library in self._columns)])

    def print_rows(
        self, name: str, values: dict[ServerProcess, list[float]], form: Callable[[float], str]
    ) -> None:
        """Print a row for every loop; ``values`` has one of each round, alike for all servers."""
        for first, *others in self._loops.values():
            cells = dict.fromkeys(self._columns, "")
            for other in others:
                cells[other.library] = f"{ratio(values[first], values[other]):.2f}"
            self._print_row(f"{first} {name}", [form(median(values[first])), *cells.values()])

    def _print_row(self, name: str, cells: Iterable[str]) -> None:
        print(f"{name:<54}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def compare(servers: Sequence[ServerProcess], loads: Sequence[Load], rounds: int, seconds: float) -> None:
    memory = {server: [memory_per_connection(server, 100)] for server in servers}
    results = {}
    table = Table(servers, "Processor time of the server per message", "µs")
    for load in loads:
        results[load] = turns = measure(servers, load, rounds, seconds)
        cpu = {server: [turn.cpu for turn in turns[server]] for server in servers}
        table.print_rows(str(load), cpu, lambda seconds: f"{seconds * 1e6:.2f}")
    table = Table(servers, f"p99 of the latency, {CONNECTIONS} connections at once", "ms")
    for load in loads:
        if load.outstanding == 1:
            latency = {server: [turn.latency for turn in results[load][server]] for server in servers}
            table.print_rows(str(load), latency, lambda seconds: f"{seconds * 1e3:.2f}")
    if all(bytes_ > 0 for (bytes_,) in memory.values()):
        table = Table(servers, "Memory of the server per connection", "KiB")
        table.print_rows("", memory, lambda amount: f"{amount / KIB:.1f}")
    print()
    for outstanding in sorted({load.outstanding for load in loads}):
        costs = [
            turn.load_cpu
            for load, turns in results.items()
            if load.outstanding == outstanding
            for server in servers
            for turn in turns[server]
        ]
        print(f"The load, {outstanding} outstanding: {median(costs) * 1e6:.2f} µs per message")


# --- The command ------------------------------------------------------------------------------------------


def comma_separated(known: Iterable[str]) -> Callable[[str], list[str]]:
    names = list(known)

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in names:
                raise argparse.ArgumentTypeError(f"no {name!r} among {', '.join(names)}")
        return chosen

    return parse


def a_few_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 10:  # some servers send pings after 20
        raise argparse.ArgumentTypeError("more than 0, and 10 at most")
    return seconds


def arguments() -> argparse.Namespace:
    targets = [f"{library}-{loop}" for loop, libraries in SERVERS.items() for library in libraries]
    sizes = [name.replace(" ", "") for name in SIZES.values()]
    parser = argparse.ArgumentParser(description="What an echo costs a server, beside others.")
    parser.add_argument("--quick", action="store_true", help="a short run: less than 40 seconds")
    parser.add_argument("--seconds", type=a_few_seconds, help="how long a turn is")
    parser.add_argument("--rounds", type=int, help="how many turns each server takes")
    parser.add_argument(
        "--only", type=comma_separated(targets), default=targets, metavar="TARGETS", help=", ".join(targets)
    )
    parser.add_argument(
        "--sizes", type=comma_separated(sizes), default=sizes[:2], help=f"of messages: {','.join(sizes)}"
    )
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    rounds = chosen.rounds or (3 if chosen.quick else 9)
    seconds = chosen.seconds or (0.07 if chosen.quick else 0.2)
    loads = [
        Load(size, is_text, outstanding)
        for size, name in SIZES.items()
        if name.replace(" ", "") in chosen.sizes
        for outstanding in (1, 32)
        for is_text in (True, False)
    ]
    with contextlib.ExitStack() as stack:
        servers = []
        for loop, libraries in SERVERS.items():
            for library in libraries:
                if f"{library}-{loop}" in chosen.only:
                    servers.append(ServerProcess(library, loop))
                    stack.callback(servers[-1].end)
        servers = [server for server in servers if server.started()]
        names = dict.fromkeys([server.library for server in servers] + [server.loop for server in servers])
        peers = [name for name in names if name not in ("stelar", "asyncio")]
        python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
        print(f"{python}; {', '.join(f'{name} {version(name)}' for name in peers)}")
        print("/ x: as a fraction of x's on the same loop, so that below 1 the first is better")
        compare(servers, loads, rounds, seconds)


if __name__ == "__main__":
    try:
        main()
    except ServerFailed as error:
        sys.exit(str(error))

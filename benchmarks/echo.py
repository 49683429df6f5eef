"""What an echo costs a server: ``serve_websocket`` on its three loops, beside the servers of other libraries.

``python benchmarks/echo.py`` prints tables, ``--quick`` a short run in less than 40 seconds; README.md in
this folder says how to read them. Times are the machine's, and only ratios travel. A server that does not
send back every byte it was sent ends the run.

The servers (``echo_servers.py``) are processes of their own and report their own processor time. The load
(``echo_load.py``) comes from this one: frames that were encoded beforehand, over plain sockets, the same for
every server. A turn is one server under load for a moment, on new connections; the servers take turns, round
after round, so that whatever else the machine does hits all of them, and a ratio is the median over the
rounds. Where the system lets us, the load and the servers share one processor: whether they do would else be
the scheduler's choice, turn by turn, and what a message costs depends on it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import ceil
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from echo_load import KIB, PATIENCE, SIZES, Load, ServerFailed, connected, exchange
from echo_servers import SERVERS

CONNECTIONS = 20


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
        self._process = subprocess.Popen(command, stdin=theirs.fileno())
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
    with connected(server.port, str(server), CONNECTIONS) as connections:
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
    with connected(server.port, str(server), 1) as connections:
        exchange(connections, hello, 0)
    before = server.mark()
    with connected(server.port, str(server), count) as connections:
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


def share_a_processor() -> None:
    """Keep this process, and those that it starts from now on, on one processor."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


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


def at_least_one(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("1 at least")
    return count


def arguments() -> argparse.Namespace:
    targets = [f"{library}-{loop}" for loop, libraries in SERVERS.items() for library in libraries]
    sizes = [name.replace(" ", "") for name in SIZES.values()]
    parser = argparse.ArgumentParser(description="What an echo costs a server, beside others.")
    parser.add_argument("--quick", action="store_true", help="a short run: less than 40 seconds")
    parser.add_argument("--seconds", type=a_few_seconds, help="how long a turn is")
    parser.add_argument("--rounds", type=at_least_one, help="how many turns each server takes")
    parser.add_argument(
        "--only", type=comma_separated(targets), default=targets, metavar="TARGETS", help=", ".join(targets)
    )
    parser.add_argument(
        "--sizes", type=comma_separated(sizes), default=sizes[:2], help=f"of messages: {','.join(sizes)}"
    )
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    rounds = chosen.rounds or (3 if chosen.quick else 7)
    seconds = chosen.seconds or (0.07 if chosen.quick else 0.2)
    loads = [
        Load(size, is_text, outstanding)
        for size, name in SIZES.items()
        if name.replace(" ", "") in chosen.sizes
        for outstanding in (1, 32)
        for is_text in (True, False)
    ]
    share_a_processor()
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
    except (ServerFailed, OSError) as error:
        sys.exit(str(error))

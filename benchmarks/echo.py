"""What an echo costs a server: ``serve_websocket`` on its three loops, beside the servers of other libraries.

``python benchmarks/echo.py`` prints tables, ``--quick`` a short run in less than 40 seconds; README.md in
this folder says how to read them. Times are the machine's, and only ratios travel. A server that does not
send back every byte it was sent ends the run.

The servers (``echo_servers.py``) are processes of their own and report their own processor time. The load
(``load.py``) comes from this one: frames that were encoded beforehand, over plain sockets, the same for
every server. A turn is one server under load for a moment, on new connections; the servers take turns, round
after round, so that whatever else the machine does hits all of them, and a ratio is the median over the
rounds. Where the system lets us, the load and the servers share one processor: whether they do would else be
the scheduler's choice, turn by turn, and what a message costs depends on it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from echo_servers import SERVERS
from load import KIB, MASK, ServerFailed, connected, exchange
from measuring import Turn, running, share_a_processor, take_turn
from processes import ServerProcess
from reporting import (
    Table,
    a_few_seconds,
    at_least_one,
    comma_separated,
    print_versions,
)

from stelar_proto.ws import Opcode
from stelar_proto.ws.frames import encode_frame

CONNECTIONS = 20
SIZES = {16: "16 B", 125: "125 B", KIB: "1 KiB", 64 * KIB: "64 KiB"}


@dataclass(frozen=True)
class Load:
    """What goes over each connection: ``outstanding`` messages at once, and the next when all are back."""

    size: int
    is_text: bool
    outstanding: int

    def __str__(self) -> str:
        kind = "text" if self.is_text else "binary"
        return f"{SIZES[self.size]:>6} {kind}, {self.outstanding} outstanding"

    def encoded(self) -> tuple[bytes, bytes]:
        """Return the frames of the messages: masked as they are sent, and unmasked as they come back."""
        payload = (b'{"event":"chat","data":"hola"} ' * (self.size // 31 + 1))[: self.size]
        opcode = Opcode.TEXT if self.is_text else Opcode.BINARY
        sent, returned = encode_frame(opcode, payload, mask=MASK), encode_frame(opcode, payload)
        return sent * self.outstanding, returned * self.outstanding


# --- Measuring --------------------------------------------------------------------------------------------


def measure(
    servers: Sequence[ServerProcess], load: Load, rounds: int, seconds: float
) -> dict[ServerProcess, list[Turn]]:
    """Put ``load`` on all servers in turn, ``rounds`` times."""
    turns: dict[ServerProcess, list[Turn]] = {server: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            with connected(server.port, str(server), CONNECTIONS) as connections:
                drive = partial(exchange, connections, *load.encoded(), seconds)
                turns[server].append(take_turn(server, drive, load.outstanding))
    return turns


def memory_per_connection(server: ServerProcess, count: int) -> float:
    """Return how many bytes a server grows by with each connection that has seen one message."""
    hello = Load(125, True, 1).encoded()
    with connected(server.port, str(server), 1) as connections:
        exchange(connections, *hello, 0)
    before = server.mark()
    with connected(server.port, str(server), count) as connections:
        exchange(connections, *hello, 0)
        after = server.mark()
    return (after.memory - before.memory) / count


# --- The tables -------------------------------------------------------------------------------------------


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
    targets = [
        (library, loop)
        for loop, libraries in SERVERS.items()
        for library in libraries
        if f"{library}-{loop}" in chosen.only
    ]
    with running("echo_servers.py", targets) as servers:
        names = [server.library for server in servers] + [server.loop for server in servers]
        print_versions(name for name in names if name not in ("stelar", "asyncio"))
        compare(servers, loads, rounds, seconds)


if __name__ == "__main__":
    try:
        main()
    except (ServerFailed, OSError) as error:
        sys.exit(str(error))

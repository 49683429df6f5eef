"""What ``StelarServer`` costs, on its three loops and both wires, beside servers that do the same work.

``python benchmarks/server.py`` prints tables, and at the end what was wanted and what came of it; ``--quick``
is a short run; README.md in this folder says how to read them. The servers are in ``server_peers.py``, what
their clients say in ``server_load.py``; how it is measured is what ``echo.py`` says of itself.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple, TypeAlias

from load import KIB, ServerFailed, connected, exchange, fan_out
from measuring import ratio, running, share_a_processor, take_turn
from processes import ServerProcess
from reporting import Table, a_few_seconds, at_least_one, comma_separated, print_versions
from server_load import DATA, encode, silent, wire_of
from server_peers import ECHO, NEWS, OUTBOX_LIMIT, SERVERS

PROGRAM = "server_peers.py"
CONNECTIONS = 20
CROWD = 200  # who hear a broadcast, and who never read
ASKED, STEP = 1024 * KIB, 16 * KIB  # answers that are not read: of each client altogether, and at once

ONE, MANY, FAN_OUT = "echo, 1 outstanding", "echo, 32 outstanding", f"fan-out to {CROWD}, each"
IDLE, STUCK, CALM = "memory, idle", "memory, never reads", "p99 beside those who never read"

Figures: TypeAlias = dict[tuple[str, str, str], list[float]]
"""By case, library and loop: one of each round."""


class Goal(NamedTuple):
    """What ours was to cost at most, on one loop: so much, or so much of what another's does."""

    case: str
    loop: str
    other: str | None
    limit: float
    library: str = "stelar"


GOALS = [
    *(Goal(ONE, loop, "websockets", 0.75) for loop in ("uvloop", "asyncio")),
    Goal(MANY, "uvloop", "picows", 0.9),
    Goal(FAN_OUT, "uvloop", "picows", 1.0),
    Goal(ONE, "trio", "websockets", 0.6),
    *(
        Goal(case, loop, "stelar", 1.0, "stelar-tcp")
        for case in (ONE, MANY, FAN_OUT)
        for loop in ("uvloop", "asyncio", "trio")
    ),
    Goal(IDLE, "asyncio", None, 8 * KIB),
    Goal(IDLE, "trio", None, 14 * KIB),
    *(Goal(STUCK, loop, None, OUTBOX_LIMIT) for loop in ("uvloop", "asyncio", "trio")),
    *(Goal(CALM, loop, None, 1.1) for loop in ("uvloop", "asyncio", "trio")),
]


class Run:
    """One run: its servers, its figures and its tables.

    Arguments:
        targets: the servers, by library and loop.
        rounds: how many turns each takes.
        seconds: how long a turn is.
        idle: how many idle connections there are.
    """

    def __init__(self, targets: Sequence[tuple[str, str]], rounds: int, seconds: float, idle: int) -> None:
        self._targets, self._rounds, self._seconds, self._idle = targets, rounds, seconds, idle
        self.figures: Figures = {}

    def measure(self) -> None:
        with running(PROGRAM, self._targets) as servers:
            names = [server.library for server in servers] + [server.loop for server in servers]
            print_versions(name for name in names if name not in ("stelar", "stelar-tcp", "asyncio"))
            self._measure_idle(servers)
            table = Table(servers, "Processor time of the server per message", "µs")
            latencies = {
                ONE: self._measure_echo(table, servers, ONE, 1),
                MANY: self._measure_echo(table, servers, MANY, 32),
                FAN_OUT: self._measure_fan_out(table, servers),
            }
            table = Table(servers, "p99 of the latency; of a broadcast, until the last has it", "ms")
            for case, values in latencies.items():
                table.print_rows(case, values, as_ms)
        self._measure_silent()

    def _keep(self, case: str, server: ServerProcess, value: float) -> None:
        self.figures.setdefault((case, server.library, server.loop), []).append(value)

    def _of(self, case: str, servers: Iterable[ServerProcess]) -> dict[ServerProcess, list[float]]:
        return {server: self.figures[case, server.library, server.loop] for server in servers}

    def _measure_idle(self, servers: Sequence[ServerProcess]) -> None:
        for server in servers:
            wire = wire_of(server)
            with connected(server.port, str(server), 10, wire) as connections:
                exchange(connections, *encode(server, ECHO, DATA), 0)  # so that all is imported
            before = server.mark()
            with connected(server.port, str(server), self._idle, wire):
                self._keep(IDLE, server, (server.mark().memory - before.memory) / self._idle)
        table = Table(servers, f"Memory of the server per connection, {self._idle} that say nothing", "KiB")
        table.print_rows(IDLE, self._of(IDLE, servers), as_kib)

    def _measure_echo(
        self, table: Table, servers: Sequence[ServerProcess], case: str, outstanding: int
    ) -> dict[ServerProcess, list[float]]:
        latencies: dict[ServerProcess, list[float]] = {server: [] for server in servers}
        for _ in range(self._rounds):
            for server in servers:
                sent, returned = encode(server, ECHO, DATA)
                with connected(server.port, str(server), CONNECTIONS, wire_of(server)) as connections:
                    drive = partial(
                        exchange, connections, sent * outstanding, returned * outstanding, self._seconds
                    )
                    turn = take_turn(server, drive, outstanding)
                self._keep(case, server, turn.cpu)
                latencies[server].append(turn.latency)
        table.print_rows(case, self._of(case, servers), as_us)
        return latencies

    def _measure_fan_out(
        self, table: Table, servers: Sequence[ServerProcess]
    ) -> dict[ServerProcess, list[float]]:
        latencies: dict[ServerProcess, list[float]] = {server: [] for server in servers}
        for _ in range(self._rounds):
            for server in servers:
                with connected(server.port, str(server), CROWD, wire_of(server)) as connections:
                    drive = partial(fan_out, connections, *encode(server, NEWS, DATA), self._seconds)
                    turn = take_turn(server, drive, CROWD)
                self._keep(FAN_OUT, server, turn.cpu)
                latencies[server].append(turn.latency)
        table.print_rows(FAN_OUT, self._of(FAN_OUT, servers), as_us)
        return latencies

    # --- Clients that never read --------------------------------------------------------------------------

    def _measure_silent(self) -> None:
        """Each server twice: one has such clients and one has not; the others of both take turns."""
        with running(PROGRAM, self._targets) as burdened, running(PROGRAM, self._targets) as free:
            alone: dict[ServerProcess, list[float]] = {}
            for server, other in zip(burdened, free, strict=True):
                self._echo_latency(server)
                before = server.mark().memory
                # Enough that something waits in the server, and not so much that anybody is cut.
                with silent(server, CROWD) as clients:
                    clients.ask(OUTBOX_LIMIT // 2)
                    server.settle()
                    alone[server] = []
                    for _ in range(self._rounds):
                        alone[server].append(self._echo_latency(other))
                        self._keep(CALM, server, self._echo_latency(server) / alone[server][-1])
                    for _ in range(ASKED // STEP):
                        clients.ask(STEP)
                        server.settle()
                    self._keep(STUCK, server, (server.mark().peak - before) / CROWD)
            title = f"Memory of the server per client, {CROWD} that ask for {ASKED // KIB} KiB and never read"
            table = Table(burdened, title, "KiB")
            table.print_rows(STUCK, self._of(STUCK, burdened), as_kib)
            print(f"\np99 of the latency of {CONNECTIONS} others, and with those as a multiple of without")
            for server in burdened:
                calm = median(self.figures[CALM, server.library, server.loop])
                print(f"{server!s:<54}{as_ms(median(alone[server])):>17}{calm:>17.2f}")

    def _echo_latency(self, server: ServerProcess) -> float:
        sent, returned = encode(server, ECHO, DATA)
        with connected(server.port, str(server), CONNECTIONS, wire_of(server)) as connections:
            return take_turn(server, partial(exchange, connections, sent, returned, self._seconds), 1).latency


# --- What came of it --------------------------------------------------------------------------------------


def print_goals(figures: Figures) -> None:
    print("\nWhat was wanted, and what came of it")
    for goal in GOALS:
        ours = figures.get((goal.case, goal.library, goal.loop))
        theirs = figures.get((goal.case, goal.other or "", goal.loop))
        if ours is None or (goal.other is not None and theirs is None):
            continue
        name = f"{goal.library}-{goal.loop} {goal.case}"
        value, form, unit = median(ours), as_ratio, ""
        if theirs is not None:
            value, unit = ratio(ours, theirs), f" of {goal.other}"
        elif goal.case != CALM:
            form, unit = as_kib, " KiB"
        verdict = "met" if value <= goal.limit else "missed"
        print(f"{name:<54}{form(value):>10}  at most {form(goal.limit)}{unit}: {verdict}")


def as_us(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}"


def as_ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def as_kib(amount: float) -> str:
    return f"{amount / KIB:.1f}"


def as_ratio(value: float) -> str:
    return f"{value:.2f}"


# --- The command ------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    targets = [f"{library}-{loop}" for loop, libraries in SERVERS.items() for library in libraries]
    parser = argparse.ArgumentParser(description="What a server costs, beside others that do the same work.")
    parser.add_argument("--quick", action="store_true", help="a short run: about a minute")
    parser.add_argument("--seconds", type=a_few_seconds, help="how long a turn is")
    parser.add_argument("--rounds", type=at_least_one, help="how many turns each server takes")
    parser.add_argument(
        "--only", type=comma_separated(targets), default=targets, metavar="TARGETS", help=", ".join(targets)
    )
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    targets = [
        (library, loop)
        for loop, libraries in SERVERS.items()
        for library in libraries
        if f"{library}-{loop}" in chosen.only
    ]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    share_a_processor()
    run = Run(
        targets,
        chosen.rounds or (3 if chosen.quick else 7),
        chosen.seconds or (0.07 if chosen.quick else 0.3),
        300 if chosen.quick else 2000,
    )
    run.measure()
    print_goals(run.figures)


if __name__ == "__main__":
    try:
        main()
    except (ServerFailed, OSError) as error:
        sys.exit(str(error))

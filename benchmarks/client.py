"""What ``StelarClient`` and ``StelarServer`` cost together, beside the client and the server of websockets.

``python benchmarks/client.py`` prints tables, and at the end what was wanted and what came of it; ``--quick``
is a short run; README.md in this folder says how to read them. The pairs, each a process with one event loop,
are in ``client_peers.py``; how it is measured is what ``echo.py`` says of itself.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from functools import partial

from client_peers import PAIRS
from load import PATIENCE, ServerFailed
from measuring import Turn, ratio, running, share_a_processor, take_turn
from processes import ServerProcess
from reporting import Table, a_few_seconds, at_least_one, comma_separated, print_versions

OUTSTANDING = (1, 32)
LIMIT = 0.7
"""Of what websockets takes."""


def talk(pair: ServerProcess, outstanding: int, seconds: float) -> list[float]:
    """Have the clients of ``pair`` talk for so long; return how long each exchange took."""
    with socket.create_connection(("127.0.0.1", pair.port), PATIENCE) as control:
        control.sendall(json.dumps([outstanding, seconds]).encode() + b"\n")
        control.settimeout(PATIENCE + seconds)
        try:
            line = control.makefile("rb").readline()
        except TimeoutError:
            line = b""
    if not line:
        raise ServerFailed(f"{pair} did not bring back what was sent")
    latencies: list[float] = json.loads(line)
    return latencies


def measure(
    pairs: Sequence[ServerProcess], outstanding: int, rounds: int, seconds: float
) -> dict[ServerProcess, list[Turn]]:
    """Have each pair talk in turn, ``rounds`` times; before that once to be warm."""
    for pair in pairs:
        talk(pair, outstanding, seconds / 2)
    turns: dict[ServerProcess, list[Turn]] = {pair: [] for pair in pairs}
    for _ in range(rounds):
        for pair in pairs:
            turns[pair].append(take_turn(pair, partial(talk, pair, outstanding, seconds), outstanding))
    return turns


def print_goals(cpu: dict[str, dict[ServerProcess, list[float]]]) -> None:
    print("\nWhat was wanted, and what came of it")
    for case, values in cpu.items():
        for theirs in (pair for pair in values if pair.library == "websockets"):
            for ours in (pair for pair in values if pair.loop == theirs.loop and pair is not theirs):
                came = ratio(values[ours], values[theirs])
                verdict = "met" if came <= LIMIT else "missed"
                print(f"{f'{ours} {case}':<54}{came:>10.2f}  at most {LIMIT} of websockets: {verdict}")


def arguments() -> argparse.Namespace:
    targets = [f"{library}-{loop}" for loop, libraries in PAIRS.items() for library in libraries]
    parser = argparse.ArgumentParser(description="What a client and a server cost together.")
    parser.add_argument("--quick", action="store_true", help="a short run: about half a minute")
    parser.add_argument("--seconds", type=a_few_seconds, help="how long a turn is")
    parser.add_argument("--rounds", type=at_least_one, help="how many turns each pair takes")
    parser.add_argument(
        "--only", type=comma_separated(targets), default=targets, metavar="TARGETS", help=", ".join(targets)
    )
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    targets = [
        (library, loop)
        for loop, libraries in PAIRS.items()
        for library in libraries
        if f"{library}-{loop}" in chosen.only
    ]
    rounds = chosen.rounds or (3 if chosen.quick else 9)
    seconds = chosen.seconds or (0.1 if chosen.quick else 0.4)
    share_a_processor()
    with running("client_peers.py", targets) as pairs:
        names = [pair.library for pair in pairs] + [pair.loop for pair in pairs]
        print_versions(name for name in names if name not in ("stelar", "stelar-tcp", "asyncio"))
        turns = {
            f"echo, {outstanding} outstanding": measure(pairs, outstanding, rounds, seconds)
            for outstanding in OUTSTANDING
        }
        cpu = {
            case: {pair: [turn.cpu for turn in of_pair] for pair, of_pair in values.items()}
            for case, values in turns.items()
        }
        table = Table(pairs, "Processor time of client and server per echoed message", "µs")
        for case, figures in cpu.items():
            table.print_rows(case, figures, lambda seconds: f"{seconds * 1e6:.2f}")
        print_goals(cpu)


if __name__ == "__main__":
    try:
        main()
    except (ServerFailed, OSError) as error:
        sys.exit(str(error))

"""What the benchmarks of servers share: the tables that they print, and the options that they take."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from statistics import median

from measuring import ratio
from processes import ServerProcess


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
        self, name: str, values: Mapping[ServerProcess, Sequence[float]], form: Callable[[float], str]
    ) -> None:
        """Print a row for every loop; ``values`` has one of each round, alike for all servers."""
        for first, *others in self._loops.values():
            cells = dict.fromkeys(self._columns, "")
            for other in others:
                if min(values[other]) > 0:
                    cells[other.library] = f"{ratio(values[first], values[other]):.2f}"
            self._print_row(f"{first!s:<17} {name}", [form(median(values[first])), *cells.values()])

    def _print_row(self, name: str, cells: Iterable[str]) -> None:
        print(f"{name:<54}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def print_versions(names: Iterable[str]) -> None:
    """Print what the numbers below are of; ``names`` are of packages."""
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    print(f"{python}; {', '.join(f'{name} {version(name)}' for name in dict.fromkeys(names))}")
    print("/ x: as a fraction of x's on the same loop, so that below 1 the first is better")


# --- Options ----------------------------------------------------------------------------------------------


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

"""Turns: one server under load for a moment, what that took, and how the turns of two compare."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from statistics import median
from time import process_time

from processes import ServerProcess


@dataclass(frozen=True)
class Turn:
    """One server under load for a moment; all in seconds."""

    cpu: float
    """The server's processor time per message."""
    latency: float
    """The time that 99 % of the messages that were sent at once needed to come back."""
    load_cpu: float
    """What the load took per message."""


def take_turn(server: ServerProcess, drive: Callable[[], list[float]], messages: int) -> Turn:
    """Have ``drive`` put load on ``server``; it returns how long each exchange of so many messages took."""
    load_before, before = process_time(), server.mark()
    latencies = sorted(drive())
    after, load_after = server.mark(), process_time()
    count = len(latencies) * messages
    return Turn(
        (after.cpu - before.cpu) / count,
        latencies[ceil(len(latencies) * 0.99) - 1],
        (load_after - load_before) / count,
    )


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """What fraction of theirs ours is, compared round by round."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))


@contextlib.contextmanager
def running(program: str, targets: Iterable[tuple[str, str]]) -> Iterator[list[ServerProcess]]:
    """The servers of ``program`` that can run, each named by library and loop, until they are not needed."""
    with contextlib.ExitStack() as stack:
        servers = []
        for library, loop in targets:
            servers.append(ServerProcess(program, library, loop))
            stack.callback(servers[-1].end)
        yield [server for server in servers if server.started()]


def share_a_processor() -> None:
    """Keep this process, and those that it starts from now on, on one processor."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

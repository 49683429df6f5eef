"""What a process holds: memory, descriptors, tasks, timers and objects; and how it tells when asked."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PAGE = os.sysconf("SC_PAGE_SIZE")


def census(runtime: str) -> dict[str, Any]:
    """Count what is there now, garbage aside; to be called in the loop of that name."""
    gc.collect()
    _give_back()
    objects = gc.get_objects()
    ours = Counter(type(thing).__qualname__ for thing in objects if _is_ours(thing))
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": _count_tasks(runtime),
        "timers": _count_timers(runtime, objects),
        "objects": len(objects),
        "our objects": ours,
    }


def _give_back() -> None:
    """Have the allocator return what is free to the system: what it keeps for later is nobody's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _is_ours(thing: object) -> bool:
    return str(type(thing).__module__).startswith("stelar_")


def _count_tasks(runtime: str) -> int:
    if runtime == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def _count_timers(runtime: str, objects: list[object]) -> int:
    """Timers that will go off; no loop tells them, so its own books are looked at."""
    if runtime == "trio":
        from trio._core._run import GLOBAL_RUN_CONTEXT

        return int(GLOBAL_RUN_CONTEXT.runner.deadlines._active)
    handles: list[Any] = [thing for thing in objects if type(thing).__name__ == "TimerHandle"]
    return sum(not handle.cancelled() for handle in handles)


class Control:
    """Answers what the parent types in: each line is a question, each answer one JSON line.

    Arguments:
        answer: called in the loop with each question; returns what to say.
        call_soon: has the loop call something, from another thread.
    """

    def __init__(
        self, call_soon: Callable[..., object], answer: Callable[[str], dict[str, Any] | None]
    ) -> None:
        self._call_soon = call_soon
        self._answer = answer
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._call_soon(self._handle, line.strip())
        os._exit(1)  # the parent is gone

    def _handle(self, question: str) -> None:
        answer = self._answer(question)
        if answer is not None:
            say(**answer)


def say(**what: Any) -> None:
    """Print one JSON line."""
    print(json.dumps({"type": "report", **what}), flush=True)


def soon(runtime: str) -> Callable[..., object]:
    """Return what has the loop that runs here call a function, from any thread."""
    if runtime == "trio":
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe


class Errors(logging.Handler):
    """Counts what is logged as an error, and keeps the first few."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0
        self.first: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(logging.ERROR)
        sys.unraisablehook = lambda what: self.note(f"{what.err_msg} {what.object!r}: {what.exc_value!r}")

    def emit(self, record: logging.LogRecord) -> None:
        self.note(self.format(record))

    def note(self, words: str) -> None:
        """Something went wrong."""
        self.count += 1
        if len(self.first) < 5:
            self.first.append(words)


def allow_many_files() -> None:
    """Let this process open as many files as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""The process: how large it is, and the signals that ask it to end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any


def memory_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_watchers: list[Callable[[], object]] = []
_previous: dict[signal.Signals, Any] = {}


def watch_signals(wake: Callable[[], object]) -> Callable[[], None]:
    """Call ``wake`` at each SIGINT and SIGTERM until the returned function is called.

    Any number may watch at once: all are called, and what was there before is put back behind the last. In
    any thread but the main one, which alone gets signals, nothing happens.

    Arguments:
        wake: called between two instructions of whatever runs, so all it may do is wake its event loop.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    if not _watchers:
        for number in (signal.SIGINT, signal.SIGTERM):
            _previous[number] = signal.signal(number, _handle)
    _watchers.append(wake)

    def unwatch() -> None:
        _watchers.remove(wake)
        if not _watchers:
            for number, handler in _previous.items():
                if signal.getsignal(number) is _handle:  # else somebody has put their own in its place
                    # None is a handler that does not come from Python, and cannot be put back from it.
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
            _previous.clear()

    return unwatch


def _handle(_number: int, _frame: object) -> None:
    for wake in tuple(_watchers):
        wake()

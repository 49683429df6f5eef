"""How fast what waited for a connection is sent: a server takes only so many messages a second."""

from __future__ import annotations

_ONE = 1.0 - 1e-9
"""A whole message, but for what sums of floats may be short of one."""


class Pace:
    """So many messages a second, and at most a second's worth at once; it begins with that.

    What is emitted meanwhile, and waits only because it must not overtake, goes beside it: the application
    sets the pace of that itself, and would else never be caught up with.

    Arguments:
        rate: messages a second; None for no limit.
        now: the time.
    """

    __slots__ = ("_burst", "_points", "_rate", "_updated_at")

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._burst = self._points = 0.0 if rate is None else max(1.0, rate)
        self._updated_at = now

    def __repr__(self) -> str:
        return f"<Pace {self._rate} a second, {self._points:g} now>"

    def add(self) -> None:
        """One more may go, beside the others."""
        self._points += 1.0

    def take(self, now: float) -> bool:
        """Have one message go; False if it is too early for it."""
        if self._rate is None:
            return True
        refilled = self._points + (now - self._updated_at) * self._rate
        self._points = max(self._points, min(refilled, self._burst))
        self._updated_at = now
        if self._points < _ONE:
            return False
        self._points -= 1.0
        return True

    def next_at(self) -> float:
        """Return when the next may go, after :meth:`take` returned False."""
        assert self._rate is not None
        return self._updated_at + (1.0 - self._points) / self._rate

"""How much a client may say: token buckets, kept by client, with the time passed in.

Which limit decides, for each message: the client's own, else that of the event, else the general one, else
the application's own limiter. The first that is set decides alone, and a message is counted once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

_ONE = 1.0 - 1e-9
"""A whole point, but for what sums of floats may be short of one."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many messages in so much time.

    A token bucket: it holds ``max_points``, each message takes one, and it is refilled evenly, all of it
    within ``window``. A client may so send ``max_points`` at once, and ``max_points / window`` a second for
    ever.

    Arguments:
        max_points: messages, 1 or more.
        window: seconds.

    Raises:
        ValueError: a value makes no sense.
    """

    max_points: int = 100
    window: float = 1.0

    def __post_init__(self) -> None:
        points, window = self.max_points, self.window
        if not (type(points) is int and points > 0):
            raise ValueError(f"max_points must be a positive whole number, not {points!r}")
        if not (type(window) in (int, float) and window > 0 and isfinite(window)):
            raise ValueError(f"window must be a positive number of seconds, not {window!r}")


class RateLimiter(Protocol):
    """A limiter of the application's own; each method may be ``async``. Keys are client ids."""

    def check(self, key: str, cost: int = 1) -> bool | Awaitable[bool]:
        """Count a message of ``key``; return whether it may pass."""
        ...

    def reset(self, key: str) -> object:
        """Forget ``key``: the client has left."""
        ...

    def cleanup(self) -> object:
        """Forget what has run out; called once a minute."""
        ...

    def size(self) -> int | Awaitable[int]:
        """Return how many keys are remembered."""
        ...


class Limits(Protocol):
    """The part of a server's configuration that concerns rates."""

    @property
    def rate_limit(self) -> RateLimit | None: ...
    @property
    def event_rate_limits(self) -> Mapping[str, RateLimit]: ...
    @property
    def rate_limiter(self) -> RateLimiter | None: ...


class TokenBucket:
    """What is left of one limit, for one client; full at first."""

    __slots__ = ("_capacity", "_points", "_rate", "_updated_at", "limit")

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._points = self._capacity = float(limit.max_points)
        self._rate = limit.max_points / limit.window
        self._updated_at = now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._points:g} of {self._capacity:g}>"

    def take(self, now: float) -> bool:
        """Take a point, if there is one; return whether there was."""
        points = self._points + (now - self._updated_at) * self._rate
        self._updated_at = now
        if points > self._capacity:
            points = self._capacity
        if points < _ONE:
            self._points = points
            return False
        self._points = points - 1.0
        return True


class Allowance:
    """The buckets of one client; they go with it."""

    __slots__ = ("_by_event", "_general", "_own")

    def __init__(self) -> None:
        self._own: TokenBucket | None = None
        self._general: TokenBucket | None = None
        self._by_event: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._by_event) + (self._own is not None) + (self._general is not None)

    def set_own(self, limit: RateLimit | None, now: float) -> None:
        """Give the client a limit of its own, in place of all others; None takes it away."""
        self._own = None if limit is None else TokenBucket(limit, now)

    @property
    def has_own(self) -> bool:
        """Whether the client has a limit of its own."""
        return self._own is not None

    def take(self, limits: Limits, event: str, now: float) -> bool | None:
        """Count a message; return whether it may pass, None if ``limits.rate_limiter`` is to say so."""
        bucket = self._own
        if bucket is None:
            if limits.event_rate_limits and (limit := limits.event_rate_limits.get(event)) is not None:
                bucket = self._by_event.get(event)
                if bucket is None or bucket.limit is not limit:
                    bucket = self._add(limits.event_rate_limits, event, now)
            elif (limit := limits.rate_limit) is not None:
                bucket = self._general
                if bucket is None or bucket.limit is not limit:
                    bucket = self._general = TokenBucket(limit, now)
            else:
                return True if limits.rate_limiter is None else None
        return bucket.take(now)

    def limit_of(self, limits: Limits, event: str) -> RateLimit | None:
        """Return the limit that concerns ``event``; None if ``limits.rate_limiter`` decides, or nobody."""
        if self._own is not None:
            return self._own.limit
        return limits.event_rate_limits.get(event, limits.rate_limit)

    def _add(self, limits: Mapping[str, RateLimit], event: str, now: float) -> TokenBucket:
        # Limits may come and go while the client stays; what is kept for it must not grow with them.
        self._by_event = {name: bucket for name, bucket in self._by_event.items() if name in limits}
        bucket = self._by_event[event] = TokenBucket(limits[event], now)
        return bucket


class Revoked(Allowance):
    """The allowance of a client that is being disconnected for what it said: nothing more passes."""

    __slots__ = ()

    def take(self, limits: Limits, event: str, now: float) -> bool:
        return False

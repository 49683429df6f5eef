"""How long a client waits before it connects again, how often it tries, and what ends the trying.

Time and chance are arguments: the same call gives the same answer.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from stelar_proto.errors import HandshakeError, ProxyError, UpgradeRefused

GROWTH = 1.5
"""Each wait is so much longer than the one before, up to the maximum."""

STABLE_AFTER = 5.0
"""A connection that has lasted so long, in seconds, was a success: the attempts are counted anew."""

LONGEST_HINT = 3600.0
"""No server can put a client off for longer than this at a time, seconds."""

_HOPELESS = frozenset({401, 403, 404, 407})
_RESTARTING = frozenset({1012, 1013})
_RESTART_DELAYS = (5.0, 30.0)
_ENOUGH_GROWTH = 100  # 1.5 to this power is more than any maximum


def exponential_delay(attempt: int, base: float, maximum: float, chance: float) -> float:
    """Return how long to wait before an attempt: half of it is certain, the other half is chance.

    Arguments:
        attempt: 1 is the first.
        base: what the first attempt waits at most, seconds.
        maximum: what any attempt waits at most, seconds.
        chance: 0 to 1; clients that lost one server together must not come back together.
    """
    delay = min(base * GROWTH ** min(attempt - 1, _ENOUGH_GROWTH), maximum)
    return delay * (0.5 + chance / 2)


def restart_delay(code: int, maximum: float, chance: float) -> float | None:
    """Return how long to stay away from a server that closed with ``code``; None for as long as one likes.

    1012 (Service Restart) and 1013 (Try Again Later) ask for a random delay of 5 to 30 seconds (the registry
    of RFC 6455, section 11.7); ``maximum`` makes that shorter where it is less.
    """
    if code not in _RESTARTING:
        return None
    least, most = (min(bound, maximum) for bound in _RESTART_DELAYS)
    return least + (most - least) * chance


def retry_after(error: BaseException | None, wall_clock: float) -> float | None:
    """Return the seconds that a refusal asks to wait (RFC 9110, section 10.2.3), if it does.

    Arguments:
        error: why the handshake failed, or what the proxy said in front of it.
        wall_clock: the time of day, seconds since 1970: the header may hold a date.
    """
    if not isinstance(error, UpgradeRefused | ProxyError) or error.response is None:
        return None
    value = (error.response.headers.get("retry-after") or "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:10]), LONGEST_HINT)
    try:
        seconds = parsedate_to_datetime(value).timestamp() - wall_clock
    except (ValueError, OverflowError):
        return None
    return max(0.0, min(seconds, LONGEST_HINT))


def is_hopeless(error: BaseException | None) -> bool:
    """Tell whether we were refused in a way that waiting does not heal: 401, 403, 404, or a proxy's 407."""
    return isinstance(error, HandshakeError | ProxyError) and error.status in _HOPELESS


class Backoff:
    """The attempts since the last stable connection."""

    __slots__ = ("_opened_at", "attempt")

    def __init__(self) -> None:
        self.attempt = 0
        """Which attempt was begun last; 0 for none."""
        self._opened_at: float | None = None

    def __repr__(self) -> str:
        return f"<Backoff attempt={self.attempt}>"

    def begin(self, limit: int | None) -> bool:
        """Count one more attempt; False if there have been ``limit`` already."""
        if limit is not None and self.attempt >= limit:
            return False
        self.attempt += 1
        return True

    def opened(self, now: float) -> None:
        """There is a connection."""
        self._opened_at = now

    def ended(self, now: float) -> None:
        """The connection has ended; if it was stable, the next attempt is the first."""
        if self._opened_at is not None and now - self._opened_at >= STABLE_AFTER:
            self.attempt = 0
        self._opened_at = None

    def reset(self) -> None:
        """Whoever uses the client begins anew."""
        self.attempt = 0
        self._opened_at = None

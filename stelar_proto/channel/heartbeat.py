"""The heartbeat of one connection: when to ask for a sign of life, and when to give up.

Any received byte is a sign of life. After ``interval`` seconds of silence a ping is due; if nothing at all
comes within ``timeout`` seconds of it, the peer is dead. A dead peer is so noticed within
``interval + timeout``, and a live one is never dropped, however the two relate.
"""

from __future__ import annotations

from enum import Enum


class Beat(Enum):
    """What a deadline of the heartbeat asks for."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"


class Heartbeat:
    """Arguments: ``interval`` and ``timeout`` in seconds; an interval of None turns the heartbeat off."""

    __slots__ = ("_interval", "_paused", "_pinged_at", "_received_at", "_timeout", "_wake_at")

    def __init__(self, interval: float | None, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._received_at = now
        self._paused = False
        self._pinged_at: float | None = None  # a ping that nothing has answered yet
        # With a ping out we look again after an interval, not only at the timeout: an answer must never make
        # the deadline nearer than what was announced, so that nobody needs to be told of every answer.
        self._wake_at = 0.0

    def received(self, now: float) -> None:
        """Something came in."""
        self._received_at = now
        self._pinged_at = None

    def pause(self, paused: bool, now: float) -> None:
        """Stop judging a peer that is not read, or begin anew."""
        self._paused = paused
        self.received(now)

    def next_deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called; None for never."""
        if self._interval is None or self._paused:
            return None
        return self._received_at + self._interval if self._pinged_at is None else self._wake_at

    def handle_deadline(self, now: float) -> Beat:
        """Say what is due; after :attr:`Beat.PING` the caller sends one."""
        if self._interval is None or self._paused:
            return Beat.NOTHING
        beat = Beat.NOTHING
        if self._pinged_at is None:
            if now < self._received_at + self._interval:
                return Beat.NOTHING
            self._pinged_at = now
            beat = Beat.PING
        elif now >= self._pinged_at + self._timeout:
            return Beat.DEAD
        self._wake_at = min(self._pinged_at + self._timeout, now + self._interval)
        return beat

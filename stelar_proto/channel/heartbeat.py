"""The heartbeat of one connection: when to ask for a sign of life, and when to give up.

Any received byte is a sign of life. After ``interval`` seconds of silence a ping is due; if nothing at all
comes within ``timeout`` seconds of it, the peer is dead. A dead peer is so noticed within
``interval + timeout``, and a live one is never dropped, however the two relate:

- A ping that waits behind other bytes cannot be answered yet. As long as those leave, the peer reads, and its
  time begins anew. Bytes count only if they had been waiting for the peer: the system takes some for anybody.
- A peer that we do not read cannot be heard. It is asked, because a write finds a stream that was reset, and
  not judged.
- While the loop stood still nobody was heard; see :meth:`Heartbeat.postpone`.

So the bound for a peer that neither reads nor sends anything is the same as for one that is gone. What the
system has taken and not delivered cannot be seen from here.
"""

from __future__ import annotations

from enum import Enum

# We look at half of the time, to see bytes leave, and these seconds before its end: a loop that stands still
# at the end is found out by the timer for one of the two.
_NOTICE = 1.0


class Beat(Enum):
    """What a deadline of the heartbeat asks for."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"


class Heartbeat:
    """Arguments: ``interval`` and ``timeout`` in seconds; an interval of None turns the heartbeat off."""

    __slots__ = ("_interval", "_paused", "_pinged_at", "_received_at", "_stuck_at", "_timeout", "_wake_at")

    def __init__(self, interval: float | None, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._received_at = now  # or when we began to wait for something
        self._paused = False
        self._pinged_at: float | None = (
            None  # a ping that nothing has answered yet, or the last bytes that left
        )
        self._stuck_at: int | None = None  # how many bytes had left when we looked and more were waiting
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

    def postpone(self, seconds: float, now: float) -> None:
        """Give the peer the ``seconds`` for which the loop stood still, but no more than if we asked now."""
        self._received_at = min(now, self._received_at + seconds)
        if self._pinged_at is not None:
            self._pinged_at = min(now, self._pinged_at + seconds)
            self._wake_at = self._next_look(now)

    def next_deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called; None for never."""
        if self._interval is None:
            return None
        return self._received_at + self._interval if self._pinged_at is None else self._wake_at

    def handle_deadline(self, now: float, bytes_left: int = 0, *, is_stuck: bool = False) -> Beat:
        """Say what is due; after :attr:`Beat.PING` the caller sends one.

        Arguments:
            now: the time.
            bytes_left: how many bytes have left for the peer, ever.
            is_stuck: whether more of them wait until it reads.
        """
        if self._interval is None:
            return Beat.NOTHING
        beat = Beat.NOTHING
        if self._pinged_at is None:
            if now < self._received_at + self._interval:
                return Beat.NOTHING
            if self._paused:
                self._received_at = now
                return Beat.NOTHING if is_stuck else Beat.PING  # what is stuck finds a reset as well
            self._pinged_at = now
            beat = Beat.PING
        elif self._stuck_at is not None and bytes_left > self._stuck_at:
            self._pinged_at = now
        elif now >= self._pinged_at + self._timeout:
            return Beat.DEAD
        self._stuck_at = bytes_left if is_stuck else None
        self._wake_at = self._next_look(now)
        return beat

    def _next_look(self, now: float) -> float:
        assert self._interval is not None
        assert self._pinged_at is not None
        end, half = self._pinged_at + self._timeout, self._timeout / 2
        looks = (end - half, end - min(_NOTICE, half), end)
        return min(next((at for at in looks if at > now), end), now + self._interval)

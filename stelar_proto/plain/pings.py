"""Pings in flight, and the latency that their pongs show (RFC 6455, section 5.5.2 and 5.5.3)."""

from __future__ import annotations

from collections.abc import Callable

from stelar_proto.channel import WaitableEvent


class Ping:
    """One ping that was sent: ``sent_at`` is when, and ``latency`` seconds, once its pong came.

    ``answered`` is set then, and also when the connection ends first.
    """

    __slots__ = ("answered", "latency", "sent_at")

    def __init__(self, sent_at: float, answered: WaitableEvent | None) -> None:
        self.sent_at = sent_at
        self.answered = answered
        self.latency: float | None = None


class PingLedger:
    """The pings of one connection; ``latency`` is the last that was measured, seconds.

    Arguments:
        clock: as fine as there is; that of an event loop may stand still while the loop is busy.
    """

    __slots__ = ("_clock", "_count", "_keepalive", "_pending", "latency")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count = 0
        self._keepalive = b""  # the ping that nobody waits for: there is one at most
        self._pending: dict[bytes, Ping] = {}  # by payload, oldest first
        self.latency: float | None = None

    def open(self, answered: WaitableEvent | None = None) -> tuple[bytes, Ping]:
        """Enter a new ping; return the payload that tells its pong from others, and the entry."""
        self._count += 1
        payload = self._count.to_bytes(8, "big")
        if answered is None:
            self.discard(self._keepalive)
            self._keepalive = payload
        ping = self._pending[payload] = Ping(self._clock(), answered)
        return payload, ping

    def receive_pong(self, payload: bytes) -> None:
        """A pong came. It answers the pings before its own too: section 5.5.3 lets a peer skip those."""
        pending = self._pending
        while payload in pending:  # or nobody asked for it, which is allowed
            ping = pending.pop(next(iter(pending)))
            ping.latency = self.latency = self._clock() - ping.sent_at
            if ping.answered is not None:
                ping.answered.set()

    def discard(self, payload: bytes) -> None:
        """Forget a ping that nobody waits for any more."""
        self._pending.pop(payload, None)

    def fail_all(self) -> None:
        """The connection has ended: there will be no pongs."""
        pending, self._pending = self._pending, {}
        for ping in pending.values():
            if ping.answered is not None:
                ping.answered.set()

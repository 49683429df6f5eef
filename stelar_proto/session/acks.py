"""Requests in flight: each is matched with its answer, or ends with its deadline or the connection.

Every request carries a correlation id of its own. An answer that echoes it is matched by it; one that does
not (stelar-time-real 3.2.0) goes to the oldest request of its ack name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stelar_proto.errors import AckTimeout, RemoteError, StateError, StelarError
from stelar_proto.messages import AckError, AckResponse


class PendingAck:
    """One request that waits for its answer."""

    __slots__ = ("_error", "_result", "ack", "correlation_id", "deadline", "done", "on_done", "timeout")

    def __init__(self, ack: str, correlation_id: str, now: float, timeout: float) -> None:
        self.ack = ack
        self.correlation_id = correlation_id
        self.timeout = timeout
        self.deadline = now + timeout
        self.done = False
        self.on_done: Callable[[], object] | None = None
        self._result: Any = None
        self._error: StelarError | None = None

    def __repr__(self) -> str:
        return f"<PendingAck {self.ack!r} id={self.correlation_id} {'done' if self.done else 'waiting'}>"

    def finish(self, result: Any = None, error: StelarError | None = None) -> None:
        """Set the outcome and tell who waits."""
        self._result, self._error = result, error
        self.done = True
        if self.on_done is not None:
            self.on_done()

    def result(self) -> Any:
        """Return the answer's data.

        Raises:
            RemoteError: the answer is an error.
            AckTimeout: there was none in time.
            ConnectionLost: the connection ended first.
        """
        if self._error is not None:
            raise self._error
        return self._result


class AckLedger:
    """The requests in flight of one connection, at most ``limit`` of them."""

    __slots__ = ("_earliest", "_limit", "_next_id", "_pending")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next_id = 1
        # No request runs out before this. Answers do not move it, so that it costs nothing per request.
        self._earliest: float | None = None
        self._pending: dict[str, PendingAck] = {}  # by correlation id, oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def open(self, ack: str, now: float, timeout: float) -> PendingAck:
        """Enter a new request.

        Raises:
            StateError: there are ``limit`` requests in flight already.
        """
        if len(self._pending) >= self._limit:
            raise StateError(f"{self._limit} requests are in flight already: await some of them first")
        pending = PendingAck(ack, self.new_id(), now, timeout)
        self._pending[pending.correlation_id] = pending
        if self._earliest is None or pending.deadline < self._earliest:
            self._earliest = pending.deadline
        return pending

    def new_id(self) -> str:
        """Return a correlation id that this connection has not used."""
        self._next_id += 1
        return str(self._next_id - 1)

    def discard(self, pending: PendingAck) -> None:
        """Forget a request that nobody waits for any more."""
        self._pending.pop(pending.correlation_id, None)

    def resolve(self, answer: AckResponse | AckError) -> bool:
        """Finish the request that ``answer`` belongs to; False if there is none."""
        pending = self._match(answer)
        if pending is None:
            return False
        if isinstance(answer, AckError):
            pending.finish(error=RemoteError(answer.code, answer.message))
        else:
            pending.finish(answer.data)
        return True

    def _match(self, answer: AckResponse | AckError) -> PendingAck | None:
        if answer.correlation_id is not None:
            return self._pending.pop(answer.correlation_id, None)
        for pending in self._pending.values():
            if pending.ack == answer.ack:
                return self._pending.pop(pending.correlation_id)
        return None

    def next_deadline(self) -> float | None:
        """When to call :meth:`expire`: no later than the first request runs out; None if there is none."""
        return self._earliest if self._pending else None

    def postpone(self, seconds: float, now: float) -> None:
        """Give each request the ``seconds`` for which the loop stood still, but no more than a new one."""
        for pending in self._pending.values():
            pending.deadline = min(pending.deadline + seconds, now + pending.timeout)

    def expire(self, now: float) -> None:
        """Finish every request whose deadline has passed with :class:`AckTimeout`."""
        for pending in [pending for pending in self._pending.values() if pending.deadline <= now]:
            if pending.done:
                continue  # whoever was told of an earlier one has ended the rest
            self.discard(pending)
            pending.finish(error=AckTimeout(f"no answer to {pending.ack!r} within {pending.timeout:g} s"))
        self._earliest = min((pending.deadline for pending in self._pending.values()), default=None)

    def fail_all(self, error: StelarError) -> None:
        """Finish every request with ``error``."""
        pending, self._pending = self._pending, {}
        for request in pending.values():
            request.finish(error=error)

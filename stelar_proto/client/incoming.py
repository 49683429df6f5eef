"""What the server sends as something to iterate over, beside the handlers."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, Self

from stelar_proto.channel import Runtime, WaitableEvent
from stelar_proto.errors import SlowConsumer

POLICIES = ("close", "drop_oldest", "drop_newest")


class Received(NamedTuple):
    """One message of the server: an event with JSON data, or with raw bytes."""

    event: str
    data: Any
    is_binary: bool


class MessageStream:
    """An asynchronous iterator over messages; it ends when the client is disconnected for good.

    Arguments:
        runtime: the loop.
        limit: how many messages may wait to be taken.
        slow_consumer: what becomes of more: ``"close"`` ends the iteration with an error behind those that
            wait; ``"drop_oldest"`` and ``"drop_newest"`` lose messages, which :attr:`dropped` counts.
    """

    def __init__(self, runtime: Runtime, limit: int, slow_consumer: str) -> None:
        if not (type(limit) is int and limit > 0):
            raise ValueError(f"limit must be a positive whole number, not {limit!r}")
        if slow_consumer not in POLICIES:
            raise ValueError(f"slow_consumer must be one of {', '.join(POLICIES)}, not {slow_consumer!r}")
        self.dropped = 0
        """How many messages were not taken and are gone."""
        self._runtime = runtime
        self._limit = limit
        self._policy = slow_consumer
        self._messages: deque[Received] = deque()
        self._news: WaitableEvent | None = None
        self._has_ended = False
        self._error: SlowConsumer | None = None

    def __repr__(self) -> str:
        return f"<MessageStream {len(self._messages)} waiting, {self.dropped} dropped>"

    def put(self, message: Received) -> None:
        """A message came."""
        if self._has_ended:
            return
        if len(self._messages) >= self._limit:
            self.dropped += 1
            if self._policy == "close":
                words = f"more than {self._limit} messages waited: iterate faster, or allow for more"
                self._error = SlowConsumer(words)
                self.close()
            if self._policy != "drop_oldest":
                return
            self._messages.popleft()
        self._messages.append(message)
        self._tell()

    def close(self) -> None:
        """Take no more messages; the iteration ends behind those that wait."""
        self._has_ended = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        """Return the next message; a cancelled call has taken none.

        Raises:
            SlowConsumer: too many waited, and the policy is ``"close"``.
        """
        if self._runtime.checkpoint is not None:
            await self._runtime.checkpoint()
        while not self._messages:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._has_ended:
                raise StopAsyncIteration
            if self._news is None:
                self._news = self._runtime.make_event()
            await self._news.wait()
        return self._messages.popleft()

"""One timer for any number of sessions.

A heap of instants at which somebody *may* have something to do. A deadline that moved later (every received
byte moves the heartbeat's) is not touched: when its old instant comes, it is asked for its new one. So a
message costs nothing here, and an idle session one heap operation per heartbeat interval.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Protocol


class _HasDeadline(Hashable, Protocol):
    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...


class Deadlines:
    """The deadlines of many; ``set_timer`` is told when :meth:`run` is to be called next."""

    def __init__(self, set_timer: Callable[[float | None], object]) -> None:
        self._set_timer = set_timer
        self._heap: list[tuple[float, int, _HasDeadline]] = []
        self._scheduled: dict[_HasDeadline, float] = {}  # the valid heap entry of each
        self._counter = 0

    def __len__(self) -> int:
        return len(self._scheduled)

    def schedule(self, member: _HasDeadline) -> None:
        """Look at ``member``'s deadline again: it is new, or came nearer."""
        deadline = member.next_deadline()
        if deadline is None:
            return
        known = self._scheduled.get(member)
        if known is not None and known <= deadline:
            return
        self._scheduled[member] = deadline
        self._counter += 1
        heapq.heappush(self._heap, (deadline, self._counter, member))
        if self._heap[0][1] == self._counter:
            self._set_timer(deadline)

    def remove(self, member: _HasDeadline) -> None:
        """Forget ``member``."""
        self._scheduled.pop(member, None)
        # Entries that became invalid go when their time comes, or here when they are the majority.
        if len(self._heap) > 2 * len(self._scheduled) + 64:
            self._heap = [entry for entry in self._heap if self._scheduled.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def run(self, now: float) -> None:
        """Let everybody whose deadline has come handle it, and set the timer for the next."""
        for member in self._due(now):
            member.handle_deadline(now)
            self.schedule(member)
        self._set_timer(self._heap[0][0] if self._heap else None)

    def _due(self, now: float) -> list[_HasDeadline]:
        """Take out the entries whose instant has come; only the deadline itself tells whether it is due."""
        due: list[_HasDeadline] = []
        while self._heap and self._heap[0][0] <= now:
            instant, _, member = heapq.heappop(self._heap)
            if self._scheduled.get(member) == instant:
                del self._scheduled[member]
                due.append(member)
        return due

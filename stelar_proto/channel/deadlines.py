"""One timer for any number of sessions.

A heap of instants at which somebody *may* have something to do. A deadline that moved later (every received
byte moves the heartbeat's) is not touched: when its old instant comes, it is asked for its new one. So a
message costs nothing here, and an idle session one heap operation per heartbeat interval.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from math import inf
from typing import Protocol


class HasDeadline(Hashable, Protocol):
    """A member: it says when it wants to be called, and is called then."""

    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...


class Deadlines:
    """The deadlines of many.

    Arguments:
        set_timer: told when :meth:`run` is to be called next, in place of what it was told before; None for
            never. It may be early, never late.
    """

    def __init__(self, set_timer: Callable[[float | None], object]) -> None:
        self._set_timer = set_timer
        self._heap: list[tuple[float, int, HasDeadline]] = []
        # The instant of each member's valid heap entry; infinity while it has none because it is being run.
        self._scheduled: dict[HasDeadline, float] = {}
        self._counter = 0

    def __len__(self) -> int:
        return len(self._scheduled)

    def schedule(self, member: HasDeadline) -> None:
        """Look at ``member``'s deadline again: it is new, or came nearer."""
        deadline = member.next_deadline()
        if deadline is None or deadline >= self._scheduled.get(member, inf):
            return
        self._scheduled[member] = deadline
        self._counter += 1
        heapq.heappush(self._heap, (deadline, self._counter, member))
        if self._heap[0][1] == self._counter:
            self._set_timer(deadline)
        self._drop_invalid_entries()

    def remove(self, member: HasDeadline) -> None:
        """Forget ``member``."""
        self._scheduled.pop(member, None)
        self._drop_invalid_entries()

    def run(self, now: float) -> None:
        """Let everybody whose deadline has come handle it, and set the timer for the next."""
        due = self._take_due(now)
        try:
            for member in due:
                # Those before it may have removed it, and only the deadline itself tells whether it is due.
                deadline = member.next_deadline() if member in self._scheduled else None
                if deadline is not None and deadline <= now:
                    member.handle_deadline(now)
        finally:
            for member in due:
                if self._scheduled.get(member) == inf:
                    del self._scheduled[member]
                    self.schedule(member)
            self._set_timer(self._heap[0][0] if self._heap else None)

    def _take_due(self, now: float) -> list[HasDeadline]:
        due: list[HasDeadline] = []
        while self._heap and self._heap[0][0] <= now:
            instant, _, member = heapq.heappop(self._heap)
            if self._scheduled.get(member) == instant:
                self._scheduled[member] = inf
                due.append(member)
        return due

    def _drop_invalid_entries(self) -> None:
        """Entries that became invalid go when their time comes, or here when they are the majority."""
        if len(self._heap) > 2 * len(self._scheduled) + 64:
            self._heap = [entry for entry in self._heap if self._scheduled.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

"""One timer for any number of connections.

A heap of instants at which somebody *may* have something to do. A deadline that moved later (every received
byte moves the heartbeat's) is not touched: when its old instant comes, it is asked for its new one. So a
message costs nothing here, and an idle connection one heap operation per heartbeat interval.

A timer that comes late shows that the loop stood still. Meanwhile nobody could be heard, so everybody gets
the time back before anything is done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from math import inf
from typing import Any, Protocol, TypeAlias

_STALL = 0.5  # seconds; a timer that comes later than that was held up by more than a busy loop

_Entry: TypeAlias = list[Any]  # the instant, a number to tell equal ones apart, and who; None: it is invalid


class HasDeadline(Hashable, Protocol):
    """A member: it says when it wants to be called, and is called then."""

    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...

    def postpone(self, seconds: float, now: float) -> None: ...


class Deadlines:
    """The deadlines of many.

    Arguments:
        set_timer: told when :meth:`run` is to be called next, in place of what it was told before; None for
            never. It may be early, never late.
    """

    def __init__(self, set_timer: Callable[[float | None], object]) -> None:
        self._set_timer = set_timer
        self._heap: list[_Entry] = []
        # Each member's valid entry; that of one that is being run is not in the heap.
        self._scheduled: dict[HasDeadline, _Entry] = {}
        self._counter = 0
        self._timer_at = inf
        self._ran_at = -inf

    def __len__(self) -> int:
        return len(self._scheduled)

    def schedule(self, member: HasDeadline) -> None:
        """Look at ``member``'s deadline again: it is new, or came nearer."""
        deadline, known = member.next_deadline(), self._scheduled.get(member)
        if deadline is None or deadline >= (inf if known is None else known[0]):
            return
        if known is not None:
            known[2] = None
        self._counter += 1
        entry = self._scheduled[member] = [deadline, self._counter, member]
        heapq.heappush(self._heap, entry)
        if self._heap[0][1] == self._counter:
            self._set_timer_at(deadline)
        self._drop_invalid_entries()

    def remove(self, member: HasDeadline) -> None:
        """Forget ``member``, at once: it may have kept much."""
        entry = self._scheduled.pop(member, None)
        if entry is None:
            return
        entry[2] = None
        self._drop_invalid_entries()
        if not self._heap:
            self._set_timer_at(inf)

    def run(self, now: float) -> None:
        """Let everybody whose deadline has come handle it, and set the timer for the next.

        When this comes late, everybody is first given the time since the last run: the loop stood still for a
        part of it, and nothing tells for how large a part.
        """
        if now > self._timer_at + _STALL:
            for member in tuple(self._scheduled):
                member.postpone(now - self._ran_at, now)
        self._ran_at = now
        due = self._take_due(now)
        try:
            for member in due:
                # Those before it may have removed it, and only the deadline itself tells whether it is due.
                deadline = member.next_deadline() if member in self._scheduled else None
                if deadline is not None and deadline <= now:
                    member.handle_deadline(now)
        finally:
            for member in due:
                entry = self._scheduled.get(member)
                if entry is not None and entry[0] == inf:
                    del self._scheduled[member]
                    self.schedule(member)
            self._drop_invalid_entries()
            self._set_timer_at(self._heap[0][0] if self._heap else inf)

    def _set_timer_at(self, deadline: float) -> None:
        self._timer_at = deadline
        self._set_timer(None if deadline == inf else deadline)

    def _take_due(self, now: float) -> list[HasDeadline]:
        due: list[HasDeadline] = []
        while self._heap and self._heap[0][0] <= now:
            member = heapq.heappop(self._heap)[2]
            if member is not None:
                self._scheduled[member] = [inf, 0, member]
                due.append(member)
        return due

    def _drop_invalid_entries(self) -> None:
        """Entries that became invalid go when their time comes, or here when they are the majority."""
        if not self._scheduled:
            self._heap.clear()
        elif len(self._heap) > 2 * len(self._scheduled) + 64:
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)

"""What is to be sent and has not left yet: whole frames in order, counted in bytes.

The bound is hard: a frame that does not fit is not taken, and the caller decides what that means. Each frame
counts :data:`FRAME_COST` bytes more than it has: a million of a few bytes each take memory, too. Above the
high-water mark the outbox is *congested* until it falls to the low-water mark; ``drain()`` waits for that.

Bytes that have left count still while they wait for the system, which takes no more from a peer that does not
read: the limit is all that one can cost.

There are two kinds of frames. Those that were *pushed* may be dropped again, the oldest first, to make room;
those that are *kept*, the protocol's own, may not. A frame that has begun to leave is not here any more.
"""

from __future__ import annotations

from collections import deque

FRAME_COST = 48
"""Bytes that a frame takes beside its own: what CPython keeps with a ``bytes`` object, and its place here."""

_WRITE_SIZE = 64 * 1024  # frames are joined up to about this many bytes: one system call, no giant copy


# The kept frames of all who have none; nothing is ever put into it. A deque of one's own takes 760 bytes.
_NONE: deque[tuple[int, bytes, bool]] = deque()


class Outbox:
    """Arguments, all in bytes: ``limit``, and the two water marks.

    The marks are at most a half and an eighth of the limit: who waits for the outbox to drain must begin to
    wait before it overflows.
    """

    __slots__ = (
        "_frames",
        "_gone",
        "_high_water",
        "_kept",
        "_low_water",
        "congested",
        "is_dropping",
        "kept_size",
        "largest",
        "limit",
        "size",
        "taken",
        "unsent",
    )

    def __init__(self, limit: int, *, high_water: int = 64 * 1024, low_water: int = 16 * 1024) -> None:
        self._frames: deque[bytes] = deque()
        # The kept ones stand apart, so that dropping need not look for the oldest other. Each knows how many
        # frames must have gone before it is its turn; they are counted while there is one.
        self._kept = _NONE
        self._gone = 0
        self._high_water = min(high_water, limit // 2)
        self._low_water = min(low_water, limit // 8)
        self.limit = limit
        """Bytes that may wait."""
        self.largest = limit - FRAME_COST
        """Bytes of the largest frame that finds room, if nothing waits."""
        self.size = 0
        """Bytes that wait, here or where they were taken to, and what the frames cost."""
        self.unsent = 0
        """How many of them were taken, and wait for the system; :meth:`note_unsent` tells of them."""
        self.kept_size = 0
        """How many of them are of frames that are kept."""
        self.congested = False
        """Whether the outbox rose above the high-water mark and has not fallen to the low one since."""
        self.is_dropping = False
        """Whether something was dropped, as its owner notes here, since it was last at the low mark."""
        self.taken = 0
        """Bytes that :meth:`take` ever gave."""

    def __len__(self) -> int:
        return len(self._frames) + len(self._kept)

    def has_room_for(self, frame: bytes, spare: int = 0) -> bool:
        """Tell whether :meth:`push` would take ``frame``, were the limit ``spare`` bytes higher."""
        return self.size + len(frame) + FRAME_COST <= self.limit + spare

    def push(self, frame: bytes) -> bool:
        """Append ``frame``; False if it would exceed the limit, and then nothing happened."""
        size = self.size + len(frame) + FRAME_COST
        if size > self.limit:
            return False
        self._frames.append(frame)  # as below, without the call
        self.size = size
        if size > self._high_water:
            self.congested = True
        return True

    def append(self, frame: bytes) -> None:
        """Append ``frame`` whatever the limit: for a caller who waits while the outbox is congested."""
        self._frames.append(frame)
        self.size = size = self.size + len(frame) + FRAME_COST
        if size > self._high_water:
            self.congested = True

    def keep(self, frame: bytes, *, is_message: bool = False) -> None:
        """Append ``frame``, which is never dropped, whatever the limit; a message, or the protocol's own."""
        if self._kept is _NONE:
            self._kept = deque()
        self._kept.append((self._gone + len(self._frames), frame, is_message))
        self.kept_size += len(frame) + FRAME_COST
        self.size = size = self.size + len(frame) + FRAME_COST
        if size > self._high_water:
            self.congested = True

    def make_room_for(self, frame: bytes) -> int:
        """Drop the oldest frames that may be, until ``frame`` fits; return how many those were.

        None are dropped where that would not help: the kept ones do not leave enough room. Each frame is
        dropped once at most, so this costs O(1) a frame.
        """
        room = self.limit - len(frame) - FRAME_COST
        if self.kept_size + self.unsent > room:
            return 0
        frames, before = self._frames, len(self._frames)
        while self.size > room:
            self.size -= len(frames.popleft()) + FRAME_COST
        dropped = before - len(frames)
        self._gone += dropped
        return dropped

    def take(self) -> bytes:
        """Cut off the frames to write next, about 64 KiB of them or one that is larger; ``b""`` if empty."""
        frames = self._frames
        count = len(frames)
        if self._kept:
            taken = self._take_of_both()
            data, count = b"".join(taken), len(taken)
        elif not count:
            return b""
        elif count == 1:
            data = frames.popleft()
        elif self.size <= _WRITE_SIZE:
            data = b"".join(frames)
            frames.clear()
        else:
            taken = [frames.popleft()]
            size = len(taken[0])
            while frames and size + len(frames[0]) <= _WRITE_SIZE:
                size += len(frames[0])
                taken.append(frames.popleft())
            data, count = b"".join(taken), len(taken)
        self.size -= len(data) + count * FRAME_COST
        self.taken += len(data)
        if self.size <= self._low_water:
            self.congested = self.is_dropping = False
        return data

    def _take_of_both(self) -> list[bytes]:
        frames, kept = self._frames, self._kept
        taken: list[bytes] = []
        size = 0
        while kept or frames:
            is_kept = bool(kept) and kept[0][0] <= self._gone
            frame = kept[0][1] if is_kept else frames[0]
            size += len(frame)
            if taken and size > _WRITE_SIZE:
                break
            taken.append(frame)
            if is_kept:
                kept.popleft()
                self.kept_size -= len(frame) + FRAME_COST
            else:
                frames.popleft()
                self._gone += 1
        if not kept:
            self._kept = _NONE
        return taken

    def note_unsent(self, size: int) -> None:
        """Count ``size`` bytes of what was taken as waiting, instead of those that did until now."""
        self.size += size - self.unsent
        self.unsent = size
        if self.size > self._high_water:
            self.congested = True
        elif self.size <= self._low_water:
            self.congested = self.is_dropping = False

    def clear(self) -> int:
        """Throw everything away; return how many messages were among it."""
        dropped = len(self._frames) + sum(is_message for _, _, is_message in self._kept)
        self._frames.clear()
        self._kept = _NONE
        self.size = self.kept_size = self.unsent = 0
        self.congested = self.is_dropping = False
        return dropped

"""What is to be sent and has not left yet: whole frames in order, counted in bytes.

The bound is hard: a frame that does not fit is not taken, and the caller decides what that means. Above the
high-water mark the outbox is *congested* until it falls to the low-water mark; ``drain()`` waits for that.
"""

from __future__ import annotations

from collections import deque

_WRITE_SIZE = 64 * 1024  # frames are joined up to about this many bytes: one system call, no giant copy


class Outbox:
    """Arguments, all in bytes: ``limit``, and the two water marks.

    The marks are at most a half and an eighth of the limit: who waits for the outbox to drain must begin to
    wait before it overflows.
    """

    __slots__ = ("_frames", "_high_water", "_limit", "_low_water", "congested", "size", "taken")

    def __init__(self, limit: int, *, high_water: int = 64 * 1024, low_water: int = 16 * 1024) -> None:
        self._frames: deque[bytes] = deque()
        self._limit = limit
        self._high_water = min(high_water, limit // 2)
        self._low_water = min(low_water, limit // 8)
        self.size = 0
        """Bytes that wait."""
        self.congested = False
        """Whether the outbox rose above the high-water mark and has not fallen to the low one since."""
        self.taken = 0
        """Bytes that were ever taken, by :meth:`take` or past it."""

    def __len__(self) -> int:
        return len(self._frames)

    def has_room_for(self, frame: bytes) -> bool:
        """Tell whether :meth:`push` would take ``frame``."""
        return self.size + len(frame) <= self._limit

    def push(self, frame: bytes) -> bool:
        """Append ``frame``; False if it would exceed the limit, and then nothing happened."""
        if self.size + len(frame) > self._limit:
            return False
        self.append(frame)
        return True

    def append(self, frame: bytes) -> None:
        """Append ``frame`` whatever the limit: for a caller who waits while the outbox is congested."""
        self._frames.append(frame)
        self.size = size = self.size + len(frame)
        if size > self._high_water:
            self.congested = True

    def take(self) -> bytes:
        """Cut off the frames to write next, about 64 KiB of them or one that is larger; ``b""`` if empty."""
        frames = self._frames
        if not frames:
            return b""
        if len(frames) == 1 or self.size <= _WRITE_SIZE:
            data = frames.popleft() if len(frames) == 1 else b"".join(frames)
            frames.clear()
        else:
            taken = [frames.popleft()]
            size = len(taken[0])
            while frames and size + len(frames[0]) <= _WRITE_SIZE:
                size += len(frames[0])
                taken.append(frames.popleft())
            data = b"".join(taken)
        self.size -= len(data)
        self.taken += len(data)
        if self.size <= self._low_water:
            self.congested = False
        return data

    def clear(self) -> int:
        """Throw everything away; return how many frames that were."""
        dropped = len(self._frames)
        self._frames.clear()
        self.size = 0
        self.congested = False
        return dropped

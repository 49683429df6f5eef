"""One direction of a connection in memory: bounded, in order, cut into the chunks that a test asks for.

What is written may take its time, arrives, and waits to be read. Nothing here calls an endpoint: both sides
are told when to look again, and they do so in a turn of their own loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

ChunkSize: TypeAlias = int | Callable[[int], int] | None
"""How much is read at once: so many bytes; what a function returns when it is told how many wait; or, for
None, each write as it was written."""

_END = b""


def _ignore() -> None:
    """Nobody wants to be told."""


class Pipe:
    """Bytes on their way from a writer to a reader, and the end of them.

    Arguments:
        capacity: bytes that it holds, on their way and unread together; then the writer has to wait.
        chunk_size: how much is read at once.
        travel: calls what it is given when something that is written now arrives; by default, at once.
    """

    def __init__(
        self,
        *,
        capacity: int,
        chunk_size: ChunkSize = None,
        travel: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.capacity = capacity
        self.is_closed = False
        """Whether nobody will read any more, or the stream was cut."""
        self.on_arrival: Callable[[], object] = _ignore
        """Called when there is more to read."""
        self.on_room: Callable[[], object] = _ignore
        """Called when there is room to write again."""
        self.on_cut: Callable[[], object] = _ignore
        """Called once, when the stream is cut: what :meth:`read` may be about to return is the last of it."""
        self._chunk_size = chunk_size
        self._travel = travel
        self._size = 0
        self._is_full = False
        self._on_the_way: deque[bytes | None] = deque()
        self._due = 0  # how many of those have had their time, and are held
        self._is_held = False
        self._chunks: deque[bytes] = deque()  # as they were written
        self._bytes = bytearray()  # or, where they are read in other pieces, all in one
        self._has_ended = False
        self._end_was_read = False
        self._cut_was_sent = False
        self._is_cut = False  # behind what is unread

    # --- For the writer ---------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the writer is to wait: until half of it is free, lest pieces get smaller and smaller."""
        return (self._is_full or self._size >= self.capacity) and not self.is_closed

    @property
    def is_broken(self) -> bool:
        """Whether the writer can know that nobody will read any more."""
        return self.is_closed and not self._is_held

    def write(self, data: bytes) -> bytes:
        """Send as much of ``data`` as there is room for; return the rest. What nobody will read is lost."""
        if self.is_closed or self._cut_was_sent:
            return b""
        room = max(self.capacity - self._size, 0)
        if data[:room]:
            self._size += min(room, len(data))
            self._is_full = self._size >= self.capacity
            self._send(data[:room])
        return data[room:]

    def end(self) -> None:
        """End the stream behind what was written."""
        self._send(_END)

    def cut(self) -> None:
        """Cut the stream, behind what was written: its end will be no end in good order."""
        if not self._cut_was_sent:
            self._send(None)
            self._cut_was_sent = True

    # --- For the reader ---------------------------------------------------------------------------------

    @property
    def is_readable(self) -> bool:
        """Whether :meth:`read` would return something."""
        return bool(self._chunks or self._bytes or (self._has_ended and not self._end_was_read))

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait, or are on their way."""
        return self._size > 0

    def read(self) -> bytes | None:
        """Return the next chunk, ``b""`` once at the end of the stream; None when there is nothing now."""
        if not self.is_readable:
            return None
        data = self._take()
        self._size -= len(data)
        if self._is_full and self._size <= self.capacity // 2:
            self._is_full = False
            self.on_room()
        self._break_off_if_due()
        return data

    def _take(self) -> bytes:
        if self._chunks:
            return self._chunks.popleft()
        if not self._bytes:
            self._end_was_read = True
            return _END
        size = self._chunk_size(len(self._bytes)) if callable(self._chunk_size) else self._chunk_size
        size = max(size or 1, 1)  # else it would never end
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        return data

    def close(self) -> None:
        """Read no more: whatever is unread, and whatever will be written, is lost."""
        self.is_closed = True
        self._forget()
        self.on_room()  # the writer finds out

    # --- For the network --------------------------------------------------------------------------------

    def hold(self) -> None:
        """Have nothing arrive until :meth:`release`; the writer notices only that its peer is silent."""
        self._is_held = True

    def release(self) -> None:
        """Have arrive what was held."""
        self._is_held = False
        self._arrive_all()

    def break_off(self) -> None:
        """Cut the stream at once."""
        if not self.is_closed:
            self.is_closed = True
            self._forget()
            self.on_cut()
            self.on_room()

    def _send(self, item: bytes | None) -> None:
        if self.is_closed:
            return
        self._on_the_way.append(item)
        if self._travel is None:
            self._arrive()
        else:
            self._travel(self._arrive)

    def _arrive(self) -> None:
        self._due += 1
        self._arrive_all()

    def _arrive_all(self) -> None:
        while self._due and self._on_the_way and not self._is_held:
            self._due -= 1
            self._take_in(self._on_the_way.popleft())

    def _take_in(self, item: bytes | None) -> None:
        if item is None:
            self._is_cut = True
            self._break_off_if_due()
            return
        if item == _END:
            self._has_ended = True
        elif self._chunk_size is None:
            self._chunks.append(item)
        else:
            self._bytes += item
        self.on_arrival()

    def _break_off_if_due(self) -> None:
        if self._is_cut and not self.is_readable:
            self.break_off()

    def _forget(self) -> None:
        self._size = 0
        self._is_full = False
        self._on_the_way.clear()
        self._chunks.clear()
        self._bytes.clear()
        self._has_ended = False

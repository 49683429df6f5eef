"""The receive buffer: bytes that came in and cannot be understood yet.

It never scans a byte twice and never copies what it already holds: a message of *n* bytes costs O(n),
whether it comes whole or a byte at a time. It does not bound itself: its owner refuses what is too long
as soon as it is announced, before it is stored.
"""

from __future__ import annotations


class ReceiveBuffer:
    """A queue of bytes: fed at one end, cut from the other.

    ``bytearray`` drops a consumed front without moving the rest, so :meth:`take` is O(taken).
    """

    __slots__ = ("_data", "_delimiter", "_scanned")

    def __init__(self) -> None:
        self._data = bytearray()
        self._delimiter = b""  # what the last search was for
        self._scanned = 0  # no such delimiter begins before this offset

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"<ReceiveBuffer of {len(self._data)} bytes>"

    def feed(self, data: bytes) -> None:
        """Append what arrived."""
        self._data += data

    def find(self, delimiter: bytes) -> int:
        """Return the offset of the first ``delimiter``, or -1.

        The next search for the same delimiter goes on where this one ended; one for another starts anew,
        because what has been passed over says nothing about it.
        """
        if delimiter != self._delimiter:
            self._delimiter = delimiter
            self._scanned = 0
        found = self._data.find(delimiter, self._scanned)
        self._scanned = found if found >= 0 else max(0, len(self._data) - len(delimiter) + 1)
        return found

    def take(self, size: int) -> bytes:
        """Cut the first ``size`` bytes off and return them (fewer, if there are fewer)."""
        if size >= len(self._data):
            return self.take_all()
        taken = bytes(self._data[:size])
        del self._data[:size]
        self._scanned = max(0, self._scanned - size)
        return taken

    def take_all(self) -> bytes:
        """Cut everything off and return it."""
        taken = bytes(self._data)
        self._data.clear()
        self._scanned = 0
        return taken

"""What was emitted while there was no connection, in order, until it is written to one."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from stelar_proto.messages import Message
from stelar_proto.wire import Format, TcpFormat, WebSocketFormat


class Queued(NamedTuple):
    """A message that waits, encoded when it was accepted: what the caller does to its data later is too late.

    Attributes:
        message: what it says.
        encoded: for WebSocket the opcode and the payload, for TCP the whole frame.
        format: how that was encoded; a connection with another one encodes the message again.
        size: about how many bytes it is.
    """

    message: Message
    encoded: Any = None
    format: Format | None = None
    size: int = 0


def encode(message: Message, wire: WebSocketFormat | TcpFormat) -> Queued:
    """Encode ``message`` without a connection.

    Raises:
        MessageError: it may not be sent, or is too large.
    """
    if isinstance(wire, TcpFormat):
        frame = wire.encode_frame(message)
        return Queued(message, frame, wire, len(frame))
    opcode, payload = wire.encode(message)
    return Queued(message, (opcode, payload), wire, len(payload))


class OfflineQueue:
    """Messages first in, first out; of those that are too many the oldest go.

    Arguments:
        limit: how many may wait.
    """

    __slots__ = ("_items", "dropped", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        """How many messages were given up."""
        self.size = 0
        """Bytes that wait."""
        self._items: deque[Queued] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<OfflineQueue {len(self)}/{self.limit} dropped={self.dropped}>"

    def append(self, item: Queued) -> None:
        """Put ``item`` behind the others, whatever the limit; see :meth:`trim`."""
        self._items.append(item)
        self.size += item.size

    def trim(self) -> list[Queued]:
        """Take out the oldest of those that are too many, count them and return them."""
        dropped = [self.popleft() for _ in range(len(self) - self.limit)]
        self.dropped += len(dropped)
        return dropped

    def first(self) -> Queued:
        """Return the oldest, which stays; there must be one."""
        return self._items[0]

    def popleft(self) -> Queued:
        """Take out the oldest; there must be one."""
        item = self._items.popleft()
        self.size -= item.size
        return item

    def discard(self, *kinds: type) -> None:
        """Take out messages that only the connection needed that has ended."""
        self._items = deque(item for item in self._items if not isinstance(item.message, kinds))
        self.size = sum(item.size for item in self._items)

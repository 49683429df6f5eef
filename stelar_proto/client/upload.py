"""A message that leaves while it is read: its frame says how long it is, and its pieces follow."""

from __future__ import annotations

from collections.abc import Callable

from stelar_proto.channel import Runtime, WaitableEvent


class Upload:
    """Between whoever reads and the transport: one piece waits at most.

    Arguments:
        runtime: the loop.
        head: what leaves in front of the first piece.
        encode_piece: makes a piece of the payload, in order, what leaves.
        size: bytes of the whole payload.
        flush_soon: tells the transport that there is something to send.
    """

    __slots__ = (
        "_encode_piece",
        "_error",
        "_flush_soon",
        "_is_taken",
        "_runtime",
        "_waiting",
        "_waiting_size",
        "has_begun",
        "left",
        "size",
        "taken",
    )

    def __init__(
        self,
        runtime: Runtime,
        head: bytes,
        encode_piece: Callable[[bytes], bytes],
        size: int,
        flush_soon: Callable[[], object],
    ) -> None:
        self._runtime = runtime
        self._encode_piece = encode_piece
        self._flush_soon = flush_soon
        self._waiting = head
        self._waiting_size = 0  # how much of that is payload
        self.left = size
        """How many bytes are to be put in yet."""
        self._is_taken: WaitableEvent | None = None
        self._error: Exception | None = None
        self.size = size
        self.taken = 0
        """Bytes of the payload that the transport has taken."""
        self.has_begun = False
        """Whether it has taken anything."""

    def __repr__(self) -> str:
        return f"<Upload {self.taken}/{self.size}>"

    @property
    def is_over(self) -> bool:
        """Whether all of it was taken."""
        return self.taken == self.size

    def put(self, piece: bytes | memoryview) -> None:
        """Have ``piece`` sent, the next ``len(piece)`` bytes of those that are left; nothing may wait."""
        assert not self._waiting_size
        self._waiting += self._encode_piece(bytes(piece))
        self._waiting_size = len(piece)
        self.left -= len(piece)
        self._flush_soon()

    async def wait_taken(self) -> None:
        """Wait until the transport has taken what was put in.

        Raises:
            ConnectionLost: the connection ended first.
        """
        if self._waiting_size and self._error is None:
            self._is_taken = self._runtime.make_event()
            await self._is_taken.wait()
        if self._error is not None:
            raise self._error

    # --- For the connection -------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return what is to be sent next, ``b""`` while there is nothing."""
        if not self._waiting_size:
            return b""
        data, self._waiting = self._waiting, b""
        self.taken += self._waiting_size
        self._waiting_size = 0
        self.has_begun = True
        self._wake()
        return data

    def fail(self, error: Exception) -> None:
        """Nothing more will be taken, for ``error``."""
        self._error = error
        self._waiting, self._waiting_size = b"", 0
        self._wake()

    def _wake(self) -> None:
        if self._is_taken is not None:
            self._is_taken.set()
            self._is_taken = None

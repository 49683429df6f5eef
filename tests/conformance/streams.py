"""A connection by hand in memory, as the conformance tests use one over a socket."""

from __future__ import annotations

import anyio
from anyio.abc import ByteStream

from stelar_proto.testing import MemoryStream


class MemoryByteStream(ByteStream):
    """What ``anyio.connect_tcp`` returns, in memory."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self._buffer = b""
        self._changed = anyio.Event()
        stream.on_change = self._note
        stream.stop_reading()

    def _note(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, at most so many."""
        stream = self._stream
        while not self._buffer:
            stream.read_on()
            stream.stop_reading()
            self._buffer = stream.take()
            if self._buffer:
                break
            if stream.is_cut:
                raise anyio.BrokenResourceError
            if stream.has_ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        data, self._buffer = self._buffer[:max_bytes], self._buffer[max_bytes:]
        return data

    async def send(self, item: bytes) -> None:
        """Send ``item``, when the other side reads it."""
        self._stream.send(item)
        while self._stream.unsent:
            await self._changed.wait()

    async def send_eof(self) -> None:
        """End this side."""
        self._stream.end()

    async def aclose(self) -> None:
        """Close it."""
        self._stream.close()

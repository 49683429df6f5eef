"""Reading what is to be sent, piece by piece and beside the event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from stelar_proto.channel import Runtime
from stelar_proto.channel.handlers import is_awaitable
from stelar_proto.errors import MessageError

CHUNK_SIZE = 256 * 1024


class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


Source: TypeAlias = "str | Path | bytes | bytearray | memoryview | BinaryFile"
"""A path, the bytes themselves, or an open file, which is read from where it stands and left open."""

Progress: TypeAlias = Callable[[int, int], Any]
"""Told how many bytes have been handed over, and how many there are; plain or async."""


class Content(ABC):
    """What is to be sent, from its beginning to its end; there are pieces of up to :data:`CHUNK_SIZE` bytes.

    Attributes:
        size: bytes, or None if only reading to the end will tell.
    """

    size: int | None

    @abstractmethod
    async def read(self, size: int) -> bytes | memoryview:
        """Return the next bytes, at most ``size`` of them and none only at the end."""

    async def read_all(self, limit: int) -> bytes:
        """Return all that is left.

        Raises:
            MessageError: with code ``PAYLOAD_TOO_LARGE``: there are more than ``limit`` bytes. No more are
                read.
        """
        content = bytearray()
        while piece := await self.read(CHUNK_SIZE):
            content += piece
            check_size(len(content), limit)
        return bytes(content)


class BytesContent(Content):
    """Bytes that are there already."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size: int = len(self._data)

    async def read(self, size: int) -> memoryview:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


class FileContent(Content):
    """A file, read in a thread."""

    def __init__(self, file: BinaryFile, runtime: Runtime, size: int | None) -> None:
        self._file = file
        self._runtime = runtime
        self.size = size

    async def read(self, size: int) -> bytes:
        piece = await self._runtime.run_in_thread(self._file.read, size)
        if not isinstance(piece, bytes | bytearray):
            raise TypeError(f"the file gives {type(piece).__name__}: open it for reading bytes, as in 'rb'")
        return piece


@asynccontextmanager
async def open_source(source: Source, runtime: Runtime) -> AsyncIterator[Content]:
    """Open ``source`` for reading, as long as this lasts.

    Raises:
        OSError: the file cannot be opened.
        TypeError: it is nothing of the kind.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield BytesContent(source)
    elif hasattr(source, "read"):
        yield FileContent(source, runtime, await runtime.run_in_thread(_size_of, source))
    else:
        path = Path(source)
        size = (await runtime.run_in_thread(path.stat)).st_size
        with ExitStack() as stack:
            # It is entered in the thread: who is cancelled meanwhile does not get what the thread returns.
            file: Any = await runtime.run_in_thread(lambda: stack.enter_context(path.open("rb")))
            yield FileContent(file, runtime, size)


def _size_of(file: Any) -> int | None:
    """Return how many bytes are left of an open file; None where it does not tell."""
    try:
        if not file.seekable():
            return None
        start = file.tell()
        try:
            end: int = file.seek(0, 2)
            return end - int(start)
        finally:
            file.seek(start)
    except (AttributeError, OSError, ValueError):  # it has no such methods, or does not support them
        return None


def check_size(size: int, limit: int) -> None:
    """Raise :class:`MessageError` if there are more than ``limit`` bytes."""
    if size > limit:
        raise MessageError("PAYLOAD_TOO_LARGE", f"{size} bytes are over max_payload_size ({limit})")


async def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell ``progress``, if anybody wants to know."""
    if progress is not None:
        result = progress(done, total)
        if is_awaitable(result):
            await result

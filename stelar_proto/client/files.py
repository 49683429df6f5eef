"""Reading what is to be sent, piece by piece and beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
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

Progress: TypeAlias = Callable[[int, int | None], Any]
"""Told how many bytes have been read, and how many there are, if that is known; plain or async."""


async def read_all(source: Source, runtime: Runtime, *, limit: int, progress: Progress | None) -> bytearray:
    """Return all of ``source``; files are read in a thread, a piece at a time.

    Raises:
        OSError: the file cannot be read.
        MessageError: with code ``PAYLOAD_TOO_LARGE``: there are more than ``limit`` bytes. No more are read.
        TypeError: it is nothing of the kind, or the file gives text.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytearray(source)
        _check_size(len(content), limit)
        await _report(progress, len(content), len(content))
        return content
    if hasattr(source, "read"):
        return await _read(source, runtime, None, limit, progress)
    path = Path(source)
    size = (await runtime.run_in_thread(path.stat)).st_size
    _check_size(size, limit)
    with ExitStack() as stack:
        # It is entered in the thread: who is cancelled meanwhile does not get what the thread returns.
        file: Any = await runtime.run_in_thread(lambda: stack.enter_context(path.open("rb")))
        return await _read(file, runtime, size, limit, progress)


async def _read(
    file: BinaryFile, runtime: Runtime, size: int | None, limit: int, progress: Progress | None
) -> bytearray:
    content = bytearray()
    while chunk := await runtime.run_in_thread(file.read, CHUNK_SIZE):
        if not isinstance(chunk, bytes | bytearray):
            raise TypeError(f"the file gives {type(chunk).__name__}: open it for reading bytes, as in 'rb'")
        content += chunk
        _check_size(len(content), limit)
        await _report(progress, len(content), size)
    return content


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise MessageError("PAYLOAD_TOO_LARGE", f"{size} bytes are over max_payload_size ({limit})")


async def _report(progress: Progress | None, done: int, total: int | None) -> None:
    if progress is not None:
        result = progress(done, total)
        if is_awaitable(result):
            await result

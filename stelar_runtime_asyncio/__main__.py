"""``python -m stelar_runtime_asyncio serve | connect``: the demo, on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stelar_proto.demo.cli import main

from .client import StelarClient
from .server import StelarServer

T = TypeVar("T")

_MAX_WAITING_LINES = 64


class StdinLines:
    """The lines of standard input, whatever that is: a terminal, a pipe or a file."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._free = threading.Semaphore(_MAX_WAITING_LINES)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # Not sys.stdin: a thread that waits in it holds its lock, and the interpreter could not exit.
        with contextlib.suppress(RuntimeError):  # the loop has ended
            with contextlib.suppress(OSError), open(0, "rb", buffering=0, closefd=False) as raw:
                for line in raw:
                    self._free.acquire()
                    self._loop.call_soon_threadsafe(self._queue.put_nowait, line.decode("utf-8", "replace"))
            self._loop.call_soon_threadsafe(self.close)  # behind the last line

    def __aiter__(self) -> StdinLines:
        return self

    async def __anext__(self) -> str:
        line = await self._queue.get()
        if line is None:
            self.close()
            raise StopAsyncIteration
        self._free.release()
        return line

    def close(self) -> None:
        """End the iteration, even while it waits."""
        self._queue.put_nowait(None)


class AsyncioDemo:
    """What the command line needs of asyncio."""

    name = "asyncio"

    def server(self, **options: Any) -> StelarServer:
        return StelarServer(**options)

    def client(self, url: str, *, ca_file: str | None = None, **options: Any) -> StelarClient:
        tls = None if ca_file is None else ssl.create_default_context(cafile=ca_file)
        return StelarClient(url, tls=tls, **options)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(main())

    def lines(self) -> StdinLines:
        return StdinLines()

    def now(self) -> float:
        return time.monotonic()


if __name__ == "__main__":
    sys.exit(main(AsyncioDemo()))

"""``python -m stelar_runtime_trio serve | connect``: the demo, on trio."""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import trio

from stelar_proto.demo.cli import main

from .client import StelarClient
from .server import StelarServer

T = TypeVar("T")

_MAX_WAITING_LINES = 64


class StdinLines:
    """The lines of standard input, whatever that is: a terminal, a pipe or a file."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[str](_MAX_WAITING_LINES)
        self._token = trio.lowlevel.current_trio_token()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # Not sys.stdin: a thread that waits in it holds its lock, and the interpreter could not exit.
        with contextlib.suppress(trio.RunFinishedError, trio.BrokenResourceError, trio.Cancelled):
            with contextlib.suppress(OSError), open(0, "rb", buffering=0, closefd=False) as raw:
                for line in raw:
                    text = line.decode("utf-8", "replace")
                    trio.from_thread.run(self._send.send, text, trio_token=self._token)
            trio.from_thread.run_sync(self._send.close, trio_token=self._token)

    def __aiter__(self) -> StdinLines:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None

    def close(self) -> None:
        """End the iteration, even while it waits."""
        self._receive.close()


class TrioDemo:
    """What the command line needs of trio."""

    name = "trio"

    def server(self, **options: Any) -> StelarServer:
        return StelarServer(**options)

    def client(self, url: str, *, ca_file: str | None = None, **options: Any) -> StelarClient:
        tls = None if ca_file is None else ssl.create_default_context(cafile=ca_file)
        return StelarClient(url, tls=tls, **options)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return trio.run(main)

    def lines(self) -> StdinLines:
        return StdinLines()

    def now(self) -> float:
        return time.monotonic()


if __name__ == "__main__":
    sys.exit(main(TrioDemo()))

"""A server in a process that may open few files; the argument is asyncio, uvloop or trio."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

_FILES = 30
"""How many it may open beside those it has when it listens."""
_FAILURES = 3


def run(loop: str, main: Callable[[], Awaitable[Any]]) -> None:
    """Run ``main`` on the event loop of that name."""
    if loop == "trio":
        import trio

        trio.run(main)
    elif loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())  # type: ignore[arg-type]  # it is a coroutine
    else:
        asyncio.run(main())  # type: ignore[arg-type]  # it is a coroutine


def say(**what: Any) -> None:
    """Print one JSON record."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(loop: str) -> None:
    runtime = import_module(f"stelar_runtime_{'trio' if loop == 'trio' else 'asyncio'}")

    class Counting(runtime.StelarServer):  # type: ignore[misc, name-defined]  # of either runtime
        def accept_failed(self, error: OSError) -> float:
            failures.append(time.monotonic())
            if len(failures) == _FAILURES:
                enough.set()
            pause: float = super().accept_failed(error)
            return pause

    failures: list[float] = []
    server = Counting(port=0)

    async def count(ctx: Any) -> list[float]:
        await enough.wait()
        return failures

    server.on_ack("failures", count)

    await server.start()
    enough = server.runtime.make_event()
    limit = max(int(name) for name in os.listdir("/proc/self/fd")) + _FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    say(type="listening", port=server.get_port())
    await server.serve_forever()


if __name__ == "__main__":
    run(sys.argv[1], lambda: main(sys.argv[1]))

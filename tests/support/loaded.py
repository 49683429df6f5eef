"""A server that talks to its clients until it is terminated; the arguments are a loop, and how many."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any

from tests.support.crowded import run, say


async def main(loop: str, clients: int) -> None:
    """Broadcast numbers as soon as all have asked for it, and tell at the end how many were accepted."""
    runtime = import_module(f"stelar_runtime_{'trio' if loop == 'trio' else 'asyncio'}")
    server = runtime.StelarServer(port=0, tcp_port=0, max_connections_per_ip=clients + 1)
    asked = 0
    accepted = 0

    async def go(ctx: Any) -> None:
        nonlocal asked, accepted
        asked += 1
        if asked < clients:
            return
        while not server.is_shutting_down:
            if server.broadcast("number", accepted) == clients:
                accepted += 1
            await ctx.drain()
            await tick()

    async def tick() -> None:
        await server.runtime.wait_for(server.runtime.make_event(), 0.001)

    server.on("go", go)
    server.on_shutdown(lambda: say(type="stopped", accepted=accepted))
    await server.start()
    say(type="listening", ws=server.get_port(), tcp=server.get_tcp_port())
    await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    run(sys.argv[1], lambda: main(sys.argv[1], int(sys.argv[2])))

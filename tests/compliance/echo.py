"""The echo servers and echo clients that the Autobahn suite tests, one a process.

``python -m tests.compliance.echo asyncio-server PORT`` serves on that port until SIGTERM;
``python -m tests.compliance.echo trio-client PORT`` asks the fuzzing server there for its cases, one after
another, and then to write its report.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from importlib import import_module
from typing import Any

import trio
import uvloop

MAX_SIZE = 16 * 1024 * 1024  # the longest message of group 9


class EchoPrograms:
    """The two programs in the words of one runtime, ``stelar_runtime_asyncio`` or ``stelar_runtime_trio``."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        # What the suite does not ask for it does not get, and what it does is for it to decide.
        self._compression = runtime.PerMessageDeflate(
            server_no_context_takeover=False, client_no_context_takeover=False, min_size=0
        )

    async def echo(self, connection: Any) -> None:
        """Send every message back, until the connection ends in whatever way the case wants."""
        with contextlib.suppress(self._runtime.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async def server(self, port: int, agent: str) -> None:
        """Echo on ``port`` until a signal comes."""
        options = {"max_size": MAX_SIZE, "compression": self._compression}
        server = self._runtime.serve_websocket(self.echo, "127.0.0.1", port, **options)
        await server.start()
        await server.serve_forever()

    async def client(self, port: int, agent: str) -> None:
        """Run all cases of the fuzzing server on ``port``."""
        connect, url = self._runtime.connect_websocket, f"ws://127.0.0.1:{port}"
        async with connect(f"{url}/getCaseCount") as connection:
            count = int(await connection.recv())
        for case in range(1, count + 1):
            options = {"max_size": MAX_SIZE, "compression": self._compression}
            async with connect(f"{url}/runCase?case={case}&agent={agent}", **options) as connection:
                await self.echo(connection)
        async with connect(f"{url}/updateReports?agent={agent}") as connection:
            await self.echo(connection)  # the server says nothing, and closes when the report is written


def main(target: str, port: int) -> None:
    """Run one target, "asyncio-server" for example."""
    loop, role = target.split("-")
    programs = EchoPrograms(import_module(f"stelar_runtime_{'trio' if loop == 'trio' else 'asyncio'}"))
    program = programs.server if role == "server" else programs.client
    match loop:
        case "asyncio":
            asyncio.run(program(port, target))
        case "uvloop":
            uvloop.run(program(port, target))
        case "trio":
            trio.run(program, port, target)
        case _:
            raise ValueError(f"no such loop: {loop}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

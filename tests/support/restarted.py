"""A server that echoes on two given ports until it is killed; the arguments are a loop and the ports."""

from __future__ import annotations

import sys
from importlib import import_module

from tests.support.crowded import run, say


async def main(loop: str, port: int, tcp_port: int) -> None:
    """Serve, and tell when it listens."""
    runtime = import_module(f"stelar_runtime_{'trio' if loop == 'trio' else 'asyncio'}")
    server = runtime.StelarServer(port=port, tcp_port=tcp_port, max_connections_per_ip=1000)
    server.on_ack("echo", lambda ctx: ctx.data)
    await server.start()
    say(type="listening", ws=server.get_port(), tcp=server.get_tcp_port())
    await server.serve_forever()


if __name__ == "__main__":
    run(sys.argv[1], lambda: main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

"""The clients of a soak, in a process of their own.

The arguments are a loop, the file of the ledger, how many there are at a time, a seed, and the server's
ports. The parent types for how many seconds they are to come and go; it gets the census when all have gone.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import anyio

from .census import Errors, allow_many_files, census, say
from .honest import Honest
from .hostile import KINDS, Wire, misbehave

_PATIENCE = 60.0
"""Seconds until the last has gone."""
_HONEST = 0.8
"""Which part of all clients means well."""


class Crowd:
    """So many clients at a time; who has gone is replaced.

    Arguments:
        runtime: the loop that runs this.
        ledger: where lives are written down.
        size: how many there are at a time.
        seed: decides everything that can be decided.
        ports: of the server, WebSocket and TCP.
    """

    def __init__(self, runtime: str, ledger: Path, size: int, seed: int, ports: tuple[int, int]) -> None:
        module = import_module(f"stelar_runtime_{'trio' if runtime == 'trio' else 'asyncio'}")
        self.runtime = runtime
        self.make_client = module.StelarClient
        self.ledger = ledger.open("w", encoding="utf-8")
        self.size = size
        self.chance = Random(seed)
        self.wires = [Wire("ws", ports[0]), Wire("tcp", ports[1])]
        self.born = 0
        self.alive: dict[str, Honest] = {}
        self.came: Counter[str] = Counter()

    def record(self, **what: Any) -> None:
        self.ledger.write(json.dumps(what) + "\n")

    async def run(self, seconds: float) -> None:
        """Come and go for so long, and then until the last has gone."""
        ends_at = time.monotonic() + seconds
        with anyio.move_on_after(seconds + _PATIENCE):
            async with anyio.create_task_group() as group:
                for _ in range(self.size):
                    group.start_soon(self.be_some, Random(self.chance.random()), ends_at)
        for name, client in self.alive.items():
            self.record(kind="fault", name=name, words=f"does not come to an end: {client}")
        self.ledger.flush()

    async def be_some(self, chance: Random, ends_at: float) -> None:
        """Be one client after another."""
        await anyio.sleep(chance.random() * 2)
        while (left := ends_at - time.monotonic()) > 0:
            wire = chance.choice(self.wires)
            if chance.random() < _HONEST:
                self.came["honest"] += 1
                await self.live_honestly(wire, chance, min(left, chance.uniform(1, 20)))
            else:
                kind = chance.choice(KINDS)
                self.came[kind.__name__] += 1
                await misbehave(kind, wire, chance)

    async def live_honestly(self, wire: Wire, chance: Random, seconds: float) -> None:
        self.born += 1
        url = f"{wire.kind}://127.0.0.1:{wire.port}"
        client = Honest(f"h{self.born}", self.make_client, url, chance, self.record)
        self.alive[client.name] = client
        try:
            await client.live(seconds)
        except Exception as error:
            self.record(kind="fault", name=client.name, words=f"raised {error!r}")
        del self.alive[client.name]


async def main(*arguments: str) -> None:
    runtime, ledger, size, seed, *ports = arguments
    errors = Errors()
    ws, tcp = map(int, ports)
    crowd = Crowd(runtime, Path(ledger), int(size), int(seed), (ws, tcp))
    say(ready=True)
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        await crowd.run(float(line))
        await anyio.sleep(1)
        say(census=census(runtime), came=crowd.came, errors=errors.count, **{"first errors": errors.first})


if __name__ == "__main__":
    allow_many_files()
    chosen = sys.argv[1]
    anyio.run(
        main,
        *sys.argv[1:],
        backend="trio" if chosen == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if chosen == "uvloop" else {},
    )

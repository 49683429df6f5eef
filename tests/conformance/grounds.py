"""Where the conformance tests run: on which loop, over what, by which clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from stelar_proto.testing import ChunkSize, MemoryNetwork


def almost_bytewise(waiting: int) -> int:
    """Read byte by byte, but for the front of what is long."""
    return max(waiting - 64, 1)


@dataclass(frozen=True)
class Ground:
    """A place for a test.

    Attributes:
        name: for the ids of tests.
        backend: ``"asyncio"`` or ``"trio"``.
        options: for anyio's plugin.
        in_memory: whether connections are in memory, and time is virtual.
        chunk_size: how much is read there at once.
    """

    name: str
    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    in_memory: bool = False
    chunk_size: ChunkSize = None

    def __str__(self) -> str:
        return self.name

    def anyio_options(self) -> dict[str, Any]:
        """What anyio's plugin is to run a test with."""
        if not self.in_memory:
            return self.options
        options: dict[str, Any] = import_module(f"stelar_runtime_{self.backend}.testing").anyio_options()
        return options

    def make_network(self) -> MemoryNetwork | None:
        """What carries the connections of a test; None for sockets."""
        return MemoryNetwork(chunk_size=self.chunk_size) if self.in_memory else None


SOCKETS = (
    Ground("asyncio", "asyncio", {"use_uvloop": False}),
    Ground("uvloop", "asyncio", {"use_uvloop": True}),
    Ground("trio", "trio"),
)
MEMORY = (
    Ground("asyncio-memory", "asyncio", in_memory=True),
    Ground("trio-memory", "trio", in_memory=True),
    Ground("asyncio-bytewise", "asyncio", in_memory=True, chunk_size=almost_bytewise),
)

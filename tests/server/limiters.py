"""Limiters and trackers as applications write them, plain and ``async``, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.virtual import VirtualEvent


class Limiter:
    """A limiter that allows what :attr:`allow` says, and notes what it is asked."""

    def __init__(self, allow: Callable[[str], Any] = lambda key: True) -> None:
        self.allow = allow
        self.calls: list[Any] = []
        self.keys: set[str] = set()

    def check(self, key: str, cost: int = 1) -> Any:
        self.calls.append(("check", key, cost))
        self.keys.add(key)
        return self.allow(key)

    def reset(self, key: str) -> Any:
        self.calls.append(("reset", key))
        self.keys.discard(key)

    def cleanup(self) -> Any:
        self.calls.append("cleanup")

    def size(self) -> Any:
        return len(self.keys)


class AsyncLimiter(Limiter):
    """The same; a check waits for :attr:`gate` if there is one."""

    gate: VirtualEvent | None = None

    async def check(self, key: str, cost: int = 1) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        return bool(super().check(key, cost))

    async def reset(self, key: str) -> None:
        super().reset(key)

    async def cleanup(self) -> None:
        super().cleanup()

    async def size(self) -> int:
        if self.gate is not None:
            await self.gate.wait()
        return len(self.keys)


class Tracker:
    """A tracker that allows :attr:`limit` connections.

    What :attr:`broken` names raises :attr:`error` when it is done.
    """

    error: type[BaseException] = RuntimeError

    def __init__(self, limit: int = 2, *broken: str) -> None:
        self.limit = limit
        self.broken = broken
        self.counts: dict[str, int] = {}
        self.calls: list[str] = []

    def _done(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise self.error(f"{name} is broken")

    def check(self, ip: str) -> Any:
        self._done("check")
        return self.counts.get(ip, 0) < self.limit

    def add(self, ip: str) -> Any:
        self.counts[ip] = self.counts.get(ip, 0) + 1
        self._done("add")

    def remove(self, ip: str) -> Any:
        self.counts[ip] -= 1
        self._done("remove")

    def get_count(self, ip: str) -> Any:
        return self.counts.get(ip, 0)

    def cleanup(self) -> Any:
        self._done("cleanup")


class AsyncTracker(Tracker):
    """The same; whatever :attr:`gates` names waits for its event."""

    def __init__(self, limit: int = 2, *broken: str) -> None:
        super().__init__(limit, *broken)
        self.gates: dict[str, VirtualEvent] = {}

    async def _pass(self, name: str) -> None:
        if name in self.gates:
            await self.gates[name].wait()

    async def check(self, ip: str) -> bool:
        await self._pass("check")
        return bool(super().check(ip))

    async def add(self, ip: str) -> None:
        await self._pass("add")
        super().add(ip)

    async def remove(self, ip: str) -> None:
        await self._pass("remove")
        super().remove(ip)

    async def cleanup(self) -> None:
        super().cleanup()

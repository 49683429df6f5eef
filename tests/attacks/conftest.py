"""The grid: each attack runs on asyncio and trio over sockets, unless its module says where else."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import anyio_backend, ground, wire, world
from tests.conformance.grounds import SOCKETS, Ground

__all__ = ["anyio_backend", "ground", "wire", "world"]

_LOOPS = tuple(place for place in SOCKETS if place.name != "uvloop")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ground" in metafunc.fixturenames:
        grounds: tuple[Ground, ...] = getattr(metafunc.module, "GROUNDS", _LOOPS)
        metafunc.parametrize("ground", grounds, ids=str, indirect=True)

"""The grid: every test of this folder runs on asyncio, uvloop and trio over sockets, most over both wires.

Each also runs in memory and virtual time, if it gets its servers and clients from ``world``, its bare streams
from ``raw_connection`` and ``world.raw_server``. What needs more, as TLS does, is marked ``sockets``; what
takes long and shows nothing of sockets, ``virtual_time``.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.grounds import MEMORY, SOCKETS, Ground
from tests.conformance.world import World


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ground" in metafunc.fixturenames:
        metafunc.parametrize("ground", SOCKETS + MEMORY, ids=str, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if runs(item)]


def runs(item: Any) -> bool:
    return not item.get_closest_marker("sockets" if is_in_memory(item) else "virtual_time")


def is_in_memory(item: Any) -> bool:
    return "ground" in getattr(item, "fixturenames", ()) and item.callspec.params["ground"] in MEMORY


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def anyio_backend(ground: Ground) -> tuple[str, dict[str, Any]]:
    return ground.backend, ground.anyio_options()


@pytest.fixture(params=["ws", "tcp"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(ground: Ground) -> World:
    return World(ground.backend, ground.make_network())

"""The grid: every test of this folder runs on asyncio, on uvloop and on trio, most over both wires."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.world import World


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["ws", "tcp"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(anyio_backend_name: str) -> World:
    return World(anyio_backend_name)

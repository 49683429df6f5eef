"""Every test of this folder runs on asyncio, on uvloop and on trio."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import anyio_backend
from tests.conformance.grounds import SOCKETS

__all__ = ["anyio_backend"]


@pytest.fixture(params=SOCKETS, ids=str)
def ground(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _leave_nothing_to_the_next_test() -> Iterator[None]:
    """Some of the other libraries leave sockets open; they are found here, where nobody minds."""
    yield
    gc.collect()

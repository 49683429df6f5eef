"""A server in memory, and clients made by hand on either wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.house import House
from tests.support.strictness import assertions_raised


@pytest.fixture(params=["ws", "tcp"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    with assertions_raised():
        yield house
    house.close()

"""A client in memory, and a server made by hand on either wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.house import House
from tests.support.strictness import assertions_raised


@pytest.fixture(params=["ws", "tcp"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    house = House(request.param)
    with assertions_raised():
        yield house
    house.close()

"""A client in memory, and a server made by hand on either wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.house import House


@pytest.fixture(params=["ws", "tcp"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    house = House(request.param)
    yield house
    house.close()

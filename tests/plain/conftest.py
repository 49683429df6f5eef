"""Connections in memory, of either role, and peers made by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plain.house import House
from tests.support.strictness import assertions_raised


@pytest.fixture(params=["server", "client"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    """The role under test is one, then the other."""
    yield from _house(request.param)


@pytest.fixture
def serving() -> Iterator[House]:
    """The server is under test."""
    yield from _house("server")


@pytest.fixture
def connecting() -> Iterator[House]:
    """The client is under test."""
    yield from _house("client")


def _house(role: str) -> Iterator[House]:
    house = House(role)
    with assertions_raised():
        yield house
    house.close()

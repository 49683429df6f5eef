"""The package as its users see it."""

from __future__ import annotations

import doctest

from stelar_proto import ws


def test_the_example_of_the_package_holds() -> None:
    results = doctest.testmod(ws)
    assert results.attempted >= 7
    assert results.failed == 0


def test_the_package_exports_what_it_says() -> None:
    assert sorted(ws.__all__) == ws.__all__
    for name in ws.__all__:
        assert hasattr(ws, name)

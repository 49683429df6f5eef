"""The inputs that a guided fuzzer begins with do what they are there for."""

from __future__ import annotations

import pytest

from .targets import TARGETS, run


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_a_target_pass(name: str) -> None:
    seeds = TARGETS[name].seeds
    assert seeds
    for seed in seeds:
        run(name, seed)
    run(name, b"")

"""Token buckets against an exact model, and which limit decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.server import RateLimit
from stelar_proto.server.rate_limits import Allowance, RateLimiter, Revoked, TokenBucket


@dataclass
class Limits:
    """What a configuration says about rates."""

    rate_limit: RateLimit | None = None
    event_rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    rate_limiter: RateLimiter | None = None


# --- The values ---------------------------------------------------------------------------------------------


def test_a_limit_is_100_messages_a_second_unless_it_says_otherwise() -> None:
    assert (RateLimit().max_points, RateLimit().window) == (100, 1.0)
    assert RateLimit(5, 10) == RateLimit(max_points=5, window=10.0)


@pytest.mark.parametrize("points", [0, -1, 1.5, True, None, "5"])
def test_points_are_a_positive_whole_number(points: Any) -> None:
    with pytest.raises(ValueError, match="max_points must be a positive whole number, not"):
        RateLimit(max_points=points)


@pytest.mark.parametrize("window", [0, -1.0, float("inf"), float("nan"), True, None, "1"])
def test_the_window_is_a_positive_number_of_seconds(window: Any) -> None:
    with pytest.raises(ValueError, match="window must be a positive number of seconds, not"):
        RateLimit(window=window)


# --- The bucket ---------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_capacity_at_once_and_then_what_is_refilled() -> None:
    bucket = TokenBucket(RateLimit(max_points=4, window=2.0), 100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True] * 4 + [False]
    assert not bucket.take(100.25)
    assert bucket.take(100.5)  # half a second is one of four points
    assert not bucket.take(100.5)
    assert [bucket.take(1000.0) for _ in range(5)] == [True] * 4 + [False]
    assert repr(bucket) == "<TokenBucket 0 of 4>"


def test_a_client_at_exactly_the_allowed_rate_is_never_refused_for_a_rounding_error() -> None:
    bucket = TokenBucket(RateLimit(max_points=1, window=0.1), 0.0)
    assert all(bucket.take(tick * 0.1) for tick in range(10_000))


class ExactBucket:
    """The definition, in exact numbers."""

    def __init__(self, capacity: int, window: Fraction) -> None:
        self.capacity, self.rate = Fraction(capacity), Fraction(capacity) / window
        self.points, self.at = self.capacity, Fraction(0)

    def take(self, now: Fraction) -> bool:
        self.points = min(self.capacity, self.points + (now - self.at) * self.rate)
        self.at = now
        if self.points < 1:
            return False
        self.points -= 1
        return True


# Powers of two: then floats are exact too, and the two must agree in every single decision.
@given(
    capacity=st.integers(0, 6).map(lambda power: 2**power),
    window=st.integers(-4, 4).map(lambda power: Fraction(2) ** power),
    steps=st.lists(st.integers(0, 200).map(lambda number: Fraction(number, 64)), max_size=200),
)
def test_a_bucket_decides_as_the_exact_model_does(
    capacity: int, window: Fraction, steps: list[Fraction]
) -> None:
    exact = ExactBucket(capacity, window)
    bucket = TokenBucket(RateLimit(capacity, float(window)), 0.0)
    now = Fraction(0)
    for step in steps:
        now += step
        assert bucket.take(float(now)) == exact.take(now)


@given(
    capacity=st.integers(1, 50),
    window=st.floats(0.01, 100),
    start=st.floats(0, 1e6),
    steps=st.lists(st.floats(0, 10), max_size=200),
)
def test_in_no_stretch_of_time_more_passes_than_the_bucket_holds_and_is_refilled(
    capacity: int, window: float, start: float, steps: list[float]
) -> None:
    bucket = TokenBucket(RateLimit(capacity, window), start)
    passed: list[float] = []
    now = start
    for step in steps:
        now += step
        if bucket.take(now):
            passed.append(now)
    for first in range(0, len(passed), 7):
        allowed = capacity + (passed[-1] - passed[first]) * capacity / window
        assert len(passed) - first <= allowed + 1e-3


# --- Which limit decides ------------------------------------------------------------------------------------


def taken(allowance: Allowance, limits: Limits, event: str, count: int = 20) -> int:
    """How many of so many messages pass at once."""
    return sum(allowance.take(limits, event, 5.0) is True for _ in range(count))


def test_the_clients_own_limit_comes_first_then_the_events_then_the_general_one() -> None:
    limits = Limits(RateLimit(6), {"chat": RateLimit(3)})
    allowance = Allowance()
    assert taken(allowance, limits, "chat") == 3
    assert taken(allowance, limits, "other") == 6, (
        "an event with a limit of its own costs the general one nothing"
    )
    allowance.set_own(RateLimit(10), 5.0)
    assert allowance.has_own
    assert taken(allowance, limits, "chat", 4) + taken(allowance, limits, "other") == 10
    allowance.set_own(None, 5.0)
    assert not allowance.has_own
    assert taken(allowance, limits, "chat") == 0, "what was spent before is still spent"


def test_the_applications_limiter_is_asked_only_where_none_of_ours_is_set() -> None:
    limits = Limits(None, {"chat": RateLimit(1)}, rate_limiter=object())  # type: ignore[arg-type]  # not asked
    allowance = Allowance()
    assert allowance.take(limits, "other", 0.0) is None
    assert allowance.take(limits, "chat", 0.0) is True
    assert allowance.take(limits, "chat", 0.0) is False
    assert Allowance().take(Limits(), "chat", 0.0) is True, "no limit at all"


def test_a_limit_that_changes_begins_anew_and_one_that_stays_does_not() -> None:
    limits = Limits(RateLimit(2), {"chat": RateLimit(2)})
    allowance = Allowance()
    assert taken(allowance, limits, "chat") == taken(allowance, limits, "x") == 2
    changed = Limits(RateLimit(3), dict(limits.event_rate_limits))
    assert taken(allowance, changed, "x") == 3
    assert taken(allowance, changed, "chat") == 0
    assert taken(allowance, Limits(None, {"chat": RateLimit(2)}), "chat") == 2


def test_what_is_kept_for_a_client_does_not_grow_with_limits_that_come_and_go() -> None:
    allowance = Allowance()
    for number in range(100):
        assert taken(allowance, Limits(RateLimit(1), {f"e{number}": RateLimit(1)}), f"e{number}") == 1
    assert len(allowance) == 1
    assert taken(allowance, Limits(RateLimit(1)), "x") == 1
    allowance.set_own(RateLimit(1), 0.0)
    assert len(allowance) == 3


def test_a_revoked_allowance_lets_nothing_pass() -> None:
    allowance = Revoked()
    assert allowance.take(Limits(), "x", 0.0) is False
    allowance.set_own(RateLimit(), 0.0)
    assert allowance.take(Limits(), "x", 0.0) is False

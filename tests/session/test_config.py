"""Which values the sessions of a server or client may be given."""

from __future__ import annotations

from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest

from stelar_proto.session import SessionConfig


@pytest.mark.parametrize(
    "name", ["connect_timeout", "heartbeat_timeout", "close_timeout", "heartbeat_interval"]
)
@pytest.mark.parametrize("value", [0, -1, nan, True, "10", 1j])
def test_a_time_is_a_positive_number(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive number, not {value!r}"):
        SessionConfig(**{name: value})
    for time in (0.001, 7, inf):
        options: dict[str, Any] = {name: time}
        assert getattr(SessionConfig(**options), name) == time


def test_only_the_heartbeat_can_be_turned_off() -> None:
    assert SessionConfig(heartbeat_interval=None).heartbeat_interval is None
    with pytest.raises(ValueError, match="close_timeout must be a positive number, not None"):
        SessionConfig(close_timeout=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["max_payload_size", "max_frame_size", "outbox_limit", "max_pending_acks"])
@pytest.mark.parametrize("value", [0, -1, 1.5, inf, True, "10", None])
def test_a_size_is_a_positive_whole_number(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number, not {value!r}"):
        SessionConfig(**{name: value})


def test_a_frame_has_room_for_an_error_and_a_length_that_the_wire_can_say() -> None:
    for size in (12, 2**32 - 1):
        assert SessionConfig(max_frame_size=size).max_frame_size == size
    for size in (11, 2**32):
        with pytest.raises(ValueError, match=f"max_frame_size must be from 12 to 4294967295, not {size}"):
            SessionConfig(max_frame_size=size)


@pytest.mark.parametrize(
    ("serializer", "words"),
    [(None, "None has no dumps and no loads"), (SimpleNamespace(dumps=str, loads=5), ".* has no loads")],
)
def test_a_serializer_goes_both_ways(serializer: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"serializer must have the methods dumps and loads; {words}"):
        SessionConfig(serializer=serializer)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"connect_timeout.*; heartbeat_interval.*; outbox_limit"):
        SessionConfig(connect_timeout=0, heartbeat_interval=-1, outbox_limit=0)


@pytest.mark.parametrize("policy", ["block", None, 1, "CLOSE"])
def test_a_policy_for_slow_consumers_is_one_of_three(policy: Any) -> None:
    for known in ("close", "drop_oldest", "drop_newest"):
        assert SessionConfig(slow_consumer=known).slow_consumer == known
    allowed = "slow_consumer must be one of 'close', 'drop_oldest', 'drop_newest', not "
    with pytest.raises(ValueError, match=f"^{allowed}{policy!r}$"):
        SessionConfig(slow_consumer=policy)

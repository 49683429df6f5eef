"""How long a client waits: bounds and growth, against a model; what servers say about it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.client.backoff import (
    LONGEST_HINT,
    STABLE_AFTER,
    Backoff,
    exponential_delay,
    is_hopeless,
    restart_delay,
    retry_after,
)
from stelar_proto.errors import HandshakeError, ProxyError, StreamEnded, UpgradeRefused
from stelar_proto.ws import Headers
from stelar_proto.ws.http1 import Response

CHANCE = st.floats(0, 1)
SECONDS = st.floats(0.001, 1e6)
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC).timestamp()


def refusal(status: int = 503, **headers: str) -> UpgradeRefused:
    fields = Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
    return UpgradeRefused(Response(status, "No", fields, b""))


@given(st.integers(1, 10**9), SECONDS, SECONDS, CHANCE)
def test_a_delay_is_between_half_of_what_it_may_be_and_all_of_it(
    attempt: int, base: float, maximum: float, chance: float
) -> None:
    most = exponential_delay(attempt, base, maximum, 1.0)
    least = exponential_delay(attempt, base, maximum, 0.0)
    assert least == most / 2 <= exponential_delay(attempt, base, maximum, chance) <= most <= maximum
    assert most <= exponential_delay(attempt + 1, base, maximum, 1.0)


def test_delays_grow_by_half_up_to_the_maximum() -> None:
    delays = [exponential_delay(attempt, 1.0, 3.0, 1.0) for attempt in range(1, 6)]
    assert delays == [1.0, 1.5, 2.25, 3.0, 3.0]


@pytest.mark.parametrize("code", [1012, 1013])
def test_a_server_that_restarts_is_left_alone_for_5_to_30_seconds(code: int) -> None:
    assert [restart_delay(code, 30.0, chance) for chance in (0.0, 0.5, 1.0)] == [5.0, 17.5, 30.0]
    assert [restart_delay(code, 10.0, chance) for chance in (0.0, 1.0)] == [5.0, 10.0]
    assert [restart_delay(code, 2.0, chance) for chance in (0.0, 1.0)] == [2.0, 2.0]


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 4000])
def test_other_ends_ask_for_no_delay(code: int) -> None:
    assert restart_delay(code, 30.0, 0.5) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 400, LONGEST_HINT),
        (format_datetime(datetime.fromtimestamp(NOON + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOON - 90, UTC), usegmt=True), 0.0),
        (format_datetime(datetime.fromtimestamp(NOON + 1e6, UTC), usegmt=True), LONGEST_HINT),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("Mon, 99 Jan 2024 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(refusal(Retry_After=value), NOON) == seconds


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.floats(-1e9, 1e10))
def test_whatever_a_server_says_the_wait_is_bounded(value: str, now: float) -> None:
    seconds = retry_after(refusal(Retry_After=value), now)
    assert seconds is None or 0 <= seconds <= LONGEST_HINT


def test_only_a_refusal_says_when_to_come_back() -> None:
    for error in (None, StreamEnded("x"), HandshakeError(0, "broken"), refusal(), ProxyError("no answer")):
        assert retry_after(error, NOON) is None
    assert retry_after(ProxyError("busy", response=refusal(Retry_After="9").response), NOON) == 9.0


def test_refusals_that_waiting_does_not_heal() -> None:
    assert [status for status in range(300, 600) if is_hopeless(refusal(status))] == [401, 403, 404, 407]
    assert is_hopeless(ProxyError("who?", response=refusal(407).response))
    assert not is_hopeless(ProxyError("no answer"))
    assert not is_hopeless(StreamEnded("x"))
    assert not is_hopeless(None)


@given(
    st.lists(st.one_of(st.just("begin"), st.floats(0, 2 * STABLE_AFTER))),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_attempts_are_counted_until_a_connection_was_stable(
    steps: list[str | float], limit: int | None
) -> None:
    """``"begin"`` is an attempt, a number a connection that lasted so long."""
    backoff, model, now = Backoff(), 0, 1000.0
    for step in steps:
        if isinstance(step, str):
            allowed = limit is None or model < limit
            assert backoff.begin(limit) == allowed
            model += allowed
        else:
            backoff.opened(now)
            began, now = now, now + step
            backoff.ended(now)
            if now - began >= STABLE_AFTER:
                model = 0
        assert backoff.attempt == model
    backoff.ended(now + 100)  # there was none
    assert backoff.attempt == model
    assert repr(backoff) == f"<Backoff attempt={model}>"
    backoff.reset()
    assert backoff.attempt == 0

"""How fast what waited is sent: never over the rate, and as soon as it allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.client.pace import Pace


@given(
    rate=st.floats(0.1, 1000),
    waits=st.lists(st.floats(0, 10), max_size=50),
)
def test_no_stretch_of_time_has_more_than_the_rate_and_a_second_s_worth(
    rate: float, waits: list[float]
) -> None:
    now = 100.0
    pace = Pace(rate, now)
    sent: list[float] = []
    for wait in waits:
        now += wait
        for _ in range(30):
            if pace.take(now):
                sent.append(now)
    burst = max(1.0, rate)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            assert last - first + 1 <= burst + (sent[last] - sent[first]) * rate + 1e-6


@given(rate=st.floats(0.1, 1000), count=st.integers(0, 5))
def test_the_next_goes_when_it_was_said_to(rate: float, count: int) -> None:
    now = 5.0
    pace = Pace(rate, now)
    for _ in range(count):
        pace.add()
    sent = 0
    while pace.take(now):
        sent += 1
    assert sent == int(max(1.0, rate) + 1e-9) + count
    now = pace.next_at()
    assert pace.take(now)


def test_without_a_rate_everything_goes_at_once() -> None:
    pace = Pace(None, 0.0)
    assert all(pace.take(0.0) for _ in range(1000))
    assert repr(Pace(50.0, 0.0)) == "<Pace 50.0 a second, 50 now>"

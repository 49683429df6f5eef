"""When a heartbeat pings, when it gives up, and when it wants to be asked."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stelar_proto.channel.heartbeat import Beat, Heartbeat

NOTHING, PING, DEAD = Beat.NOTHING, Beat.PING, Beat.DEAD


def test_silence_of_an_interval_asks_for_a_ping_and_not_earlier() -> None:
    beat = Heartbeat(30, 60, 100)
    assert beat.next_deadline() == 130
    assert beat.handle_deadline(129.9) is NOTHING
    assert beat.next_deadline() == 130
    assert beat.handle_deadline(130) is PING


@pytest.mark.parametrize(("interval", "timeout"), [(30, 60), (60, 30), (30, 30), (1, 1000), (1000, 1)])
def test_a_silent_peer_is_pinged_once_and_dead_an_interval_and_a_timeout_later(
    interval: float, timeout: float
) -> None:
    assert beats(interval, timeout, []) == [(interval, PING), (interval + timeout, DEAD)]


def test_whatever_comes_in_puts_the_ping_off() -> None:
    beat = Heartbeat(30, 60, 0)
    beat.received(20)
    assert beat.handle_deadline(30) is NOTHING
    assert beat.next_deadline() == 50
    assert beat.handle_deadline(50) is PING


def test_whatever_comes_in_answers_the_ping() -> None:
    beat = Heartbeat(30, 60, 0)
    assert beat.handle_deadline(30) is PING
    beat.received(89)
    assert beat.next_deadline() == 119
    assert beat.handle_deadline(90) is NOTHING
    assert beat.handle_deadline(119) is PING


def test_an_answer_never_makes_the_deadline_nearer_than_was_announced() -> None:
    beat = Heartbeat(30, 1000, 0)
    assert beat.handle_deadline(30) is PING
    assert beat.next_deadline() == 60  # to see whether there was an answer, long before the timeout
    assert beat.handle_deadline(60) is NOTHING
    assert beat.next_deadline() == 90
    beat.received(70)
    assert beat.next_deadline() == 100


def test_a_deadline_that_is_handled_late_still_leaves_the_peer_its_time() -> None:
    beat = Heartbeat(30, 60, 0)
    assert beat.handle_deadline(1000) is PING
    assert beat.handle_deadline(1059) is NOTHING
    assert beat.handle_deadline(1060) is DEAD


def test_without_an_interval_there_is_no_heartbeat() -> None:
    beat = Heartbeat(None, 60, 0)
    assert beat.next_deadline() is None
    assert beat.handle_deadline(10_000) is NOTHING


def test_a_peer_that_is_not_read_is_not_judged_and_then_judged_anew() -> None:
    beat = Heartbeat(30, 60, 0)
    assert beat.handle_deadline(30) is PING
    beat.pause(True, 40)
    assert beat.next_deadline() is None
    assert beat.handle_deadline(500) is NOTHING
    beat.pause(False, 500)
    assert beat.next_deadline() == 530
    assert beat.handle_deadline(530) is PING


# --- against a model that knows everything, asked only at the deadlines that were announced ---

Change: TypeAlias = tuple[int, str]


def beats(interval: float, timeout: float, changes: list[Change]) -> list[tuple[float, Beat]]:
    """What a heartbeat does when it is asked at announced deadlines only.

    As sessions and their timer do it, the deadline is read anew after it was handled and after a pause, not
    after something came in.
    """
    beat = Heartbeat(interval, timeout, 0)
    done: list[tuple[float, Beat]] = []
    timer = beat.next_deadline()
    for at, change in [*changes, (10**6, "received")]:
        while timer is not None and timer < at:
            what = beat.handle_deadline(timer)
            if what is not NOTHING:
                done.append((timer, what))
            if what is DEAD:
                return done
            following = beat.next_deadline()
            assert following is None or following > timer
            timer = following
        if change == "received":
            beat.received(at)
        else:
            beat.pause(change == "paused", at)
            following = beat.next_deadline()
            if following is not None:
                timer = following if timer is None else min(timer, following)
    return done


def model(interval: float, timeout: float, changes: list[Change]) -> list[tuple[float, Beat]]:
    """The same from the definition: what happens between two signs of life."""
    done: list[tuple[float, Beat]] = []
    silent_since, paused = 0, False
    for at, change in [*changes, (10**6, "received")]:
        if not paused and silent_since + interval < at:
            done.append((silent_since + interval, PING))
            if silent_since + interval + timeout < at:
                done.append((silent_since + interval + timeout, DEAD))
                return done
        paused = {"received": paused, "paused": True, "resumed": False}[change]
        silent_since = at
    return done


def in_time(steps: list[tuple[int, str]]) -> list[Change]:
    now, changes = 0, []
    for delay, change in steps:
        now += delay
        changes.append((now, change))
    return changes


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from(["received", "received", "paused", "resumed"])),
        max_size=30,
    ).map(in_time),
)
@example(30, 1000, [(31, "received")])
@example(10, 5, [(12, "received"), (21, "paused"), (22, "resumed")])
def test_no_beat_is_missed_early_or_late(interval: int, timeout: int, changes: list[Change]) -> None:
    assert beats(interval, timeout, changes) == model(interval, timeout, changes)

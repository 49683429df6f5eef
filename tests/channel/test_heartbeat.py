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


@pytest.mark.parametrize(("interval", "timeout"), [(30, 60), (60, 30), (30, 30), (1, 150), (150, 1)])
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


def test_a_ping_that_waits_behind_bytes_has_its_time_from_when_they_were_seen_to_leave() -> None:
    beat = Heartbeat(30, 60, 0)
    assert beat.handle_deadline(30, 1000, is_stuck=True) is PING
    assert beat.next_deadline() == 60
    assert beat.handle_deadline(60, 1001, is_stuck=True) is NOTHING
    assert beat.handle_deadline(90, 1001, is_stuck=True) is NOTHING
    assert beat.handle_deadline(119, 1002) is NOTHING  # and now it has left
    assert beat.handle_deadline(178, 1100) is NOTHING
    assert beat.handle_deadline(179, 1100) is DEAD


def test_bytes_that_the_system_takes_at_once_are_no_sign_of_life() -> None:
    beat = Heartbeat(30, 60, 0)
    assert beat.handle_deadline(30, 1000) is PING
    assert beat.handle_deadline(60, 2000) is NOTHING
    assert beat.handle_deadline(90, 3000) is DEAD


def test_a_peer_that_is_not_read_and_does_not_read_is_asked_once() -> None:
    beat = Heartbeat(30, 60, 0)
    beat.pause(True, 0)
    assert beat.handle_deadline(30) is PING
    assert beat.handle_deadline(60, is_stuck=True) is NOTHING
    assert beat.handle_deadline(90, is_stuck=True) is NOTHING


def test_the_last_look_before_the_end_is_a_second_in_front_of_it() -> None:
    beat = Heartbeat(30, 10, 0)
    looks = [30.0]
    while beat.handle_deadline(looks[-1]) is not DEAD:
        following = beat.next_deadline()
        assert following is not None
        looks.append(following)
    assert looks == [30, 35, 39, 40]


def test_the_time_in_which_nobody_could_be_heard_is_given_back() -> None:
    beat = Heartbeat(30, 60, 0)
    beat.postpone(20, 20)
    assert beat.next_deadline() == 50
    assert beat.handle_deadline(50) is PING
    beat.postpone(40, 95)
    assert beat.next_deadline() == 120  # half of the time, which began at 90
    assert beat.handle_deadline(149) is NOTHING
    assert beat.handle_deadline(150) is DEAD


def test_no_more_time_is_given_back_than_a_new_ping_would_have() -> None:
    beat = Heartbeat(30, 60, 0)
    beat.postpone(1000, 10)
    assert beat.next_deadline() == 40
    assert beat.handle_deadline(40) is PING
    beat.postpone(1000, 45)
    assert beat.handle_deadline(104) is NOTHING
    assert beat.handle_deadline(105) is DEAD


def test_without_an_interval_there_is_no_heartbeat() -> None:
    beat = Heartbeat(None, 60, 0)
    assert beat.next_deadline() is None
    assert beat.handle_deadline(10_000) is NOTHING


def test_a_peer_that_is_not_read_is_asked_and_not_judged_and_then_judged_anew() -> None:
    beat = Heartbeat(30, 60, 0)
    assert beat.handle_deadline(30) is PING
    beat.pause(True, 40)
    assert beat.next_deadline() == 70
    assert beat.handle_deadline(69) is NOTHING
    assert [beat.handle_deadline(at) for at in range(70, 500, 30)] == [PING] * 15
    assert beat.next_deadline() == 520
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
    for at, change in [*changes, (changes[-1][0] + 200 if changes else 200, "received")]:
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


def model(interval: int, timeout: int, changes: list[Change]) -> list[tuple[float, Beat]]:
    """The same from the definition: what happens between two signs of life."""
    done: list[tuple[float, Beat]] = []
    silent_since, paused = 0, False
    for at, change in [*changes, (changes[-1][0] + 200 if changes else 200, "received")]:
        if paused:
            done += [(ping, PING) for ping in range(silent_since + interval, at, interval)]
        elif silent_since + interval < at:
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


# --- bytes that wait for a peer to read ---

Step: TypeAlias = tuple[int, str]


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(["received", "queued", "left", "left", "emptied"])),
        max_size=40,
    ).map(in_time),
)
@example(10, 30, [(9, "queued"), (20, "left"), (40, "left"), (60, "left")])
def test_who_reads_is_alive_and_who_is_dead_is_found_in_time(
    interval: int, timeout: int, steps: list[Step]
) -> None:
    """Asked at its deadlines only, it drops nobody who has read within the timeout, and everybody else."""
    beat = Heartbeat(interval, timeout, 0)
    bytes_left, stuck_since = 0, None
    last_received = last_left = last_life = 0
    for at, step in [*steps, (10**6, "")]:
        while (deadline := beat.next_deadline()) is not None and deadline < at:
            if beat.handle_deadline(deadline, bytes_left, is_stuck=stuck_since is not None) is DEAD:
                assert last_received + interval + timeout <= deadline
                if stuck_since is not None and stuck_since <= deadline - timeout:
                    assert last_left <= deadline - timeout
                assert deadline <= last_life + interval + timeout
                return
        if step == "received":
            beat.received(at)
            last_received = last_life = at
        elif step == "queued":
            stuck_since = at if stuck_since is None else stuck_since
        elif stuck_since is not None:
            bytes_left += 1
            last_left = last_life = at
            if step == "emptied":
                stuck_since = None
    raise AssertionError("it was never found")

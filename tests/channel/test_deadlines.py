"""One timer for many: nobody is handled early, nobody is missed, and the timer is never late."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stelar_proto.channel import Deadlines


class Member:
    """A deadline that moves, and what came of it."""

    def __init__(self, deadline: float | None, *, repeats: list[float | None] | None = None) -> None:
        self.deadline = deadline
        self.handled: list[float] = []
        self.asked = 0
        self.also: Callable[[float], object] = lambda now: None
        self.postponed: list[float] = []
        self._repeats = iter(repeats or [])

    def next_deadline(self) -> float | None:
        self.asked += 1
        return self.deadline

    def handle_deadline(self, now: float) -> None:
        assert self.deadline is not None
        assert self.deadline <= now
        self.handled.append(now)
        self.deadline = next(self._repeats, None)
        self.also(now)

    def postpone(self, seconds: float, now: float) -> None:
        self.postponed.append(seconds)
        if self.deadline is not None:
            self.deadline = min(self.deadline + seconds, now + 60)


class Timer:
    """The timer of a runtime, in virtual time."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.deadlines = Deadlines(self.set)

    def set(self, at: float | None) -> None:
        self.at = at

    def advance(self, now: float) -> list[float]:
        """Let the timer come as often as it is due until ``now``; return when it did."""
        runs: list[float] = []
        while self.at is not None and self.at <= now:
            runs.append(max(self.at, runs[-1] if runs else self.at))
            self.deadlines.run(runs[-1])
        return runs


def test_the_nearest_deadline_sets_the_timer() -> None:
    timer = Timer()
    timer.deadlines.schedule(Member(None))
    assert timer.at is None
    timer.deadlines.schedule(Member(20))
    assert timer.at == 20
    timer.deadlines.schedule(Member(30))
    assert timer.at == 20
    timer.deadlines.schedule(Member(10))
    assert timer.at == 10
    assert len(timer.deadlines) == 3


def test_each_is_handled_at_its_deadline_again_and_again() -> None:
    timer = Timer()
    ticking, once = Member(10, repeats=[20, 30]), Member(15)
    timer.deadlines.schedule(ticking)
    timer.deadlines.schedule(once)
    assert timer.advance(100) == [10, 15, 20, 30]
    assert (ticking.handled, once.handled) == ([10, 20, 30], [15])
    assert (timer.at, len(timer.deadlines)) == (None, 0)


def test_many_at_one_instant_are_handled_in_one_run_in_the_order_in_which_they_came() -> None:
    timer = Timer()
    order: list[int] = []
    for number in range(5):
        member = Member(10)
        member.also = partial(lambda number, now: order.append(number), number)
        timer.deadlines.schedule(member)
    assert timer.advance(10) == [10]
    assert order == [0, 1, 2, 3, 4]


def test_a_run_that_comes_too_early_does_nothing() -> None:
    timer, member = Timer(), Member(10)
    timer.deadlines.schedule(member)
    timer.deadlines.run(9.9)
    assert (member.handled, timer.at) == ([], 10)


def test_a_timer_that_comes_late_gives_everybody_the_time_since_it_last_came() -> None:
    timer, often, seldom = Timer(), Member(10, repeats=[20, 100]), Member(25)
    for member in (often, seldom):
        timer.deadlines.schedule(member)
    timer.deadlines.run(10.5)
    assert (often.postponed, often.handled) == ([], [10.5])
    timer.deadlines.run(50.5)
    assert (often.postponed, seldom.postponed) == ([40], [40])
    assert (often.handled, seldom.handled, timer.at) == ([10.5], [], 60)
    timer.advance(70)
    assert (often.handled, seldom.handled) == ([10.5, 60], [65])


def test_the_first_run_gives_back_whatever_time_there_was() -> None:
    timer, member = Timer(), Member(10)
    timer.deadlines.schedule(member)
    timer.deadlines.run(70)
    assert (member.postponed, member.handled, timer.at) == ([inf], [], 130)


def test_nobody_is_given_time_by_a_run_that_nobody_waited_for() -> None:
    timer, member = Timer(), Member(None)
    timer.deadlines.schedule(member)
    timer.deadlines.run(70)
    assert member.postponed == []


def test_a_deadline_that_moved_later_costs_nothing_until_its_old_instant() -> None:
    timer, member = Timer(), Member(10)
    timer.deadlines.schedule(member)
    member.deadline = 40
    assert member.asked == 1
    assert timer.advance(39) == [10]
    assert (member.handled, timer.at) == ([], 40)
    assert timer.advance(40) == [40]
    assert member.handled == [40]


def test_a_deadline_that_came_nearer_is_seen_when_it_is_scheduled() -> None:
    timer, member = Timer(), Member(40)
    timer.deadlines.schedule(member)
    member.deadline = 10
    timer.deadlines.schedule(member)
    timer.deadlines.schedule(member)
    assert timer.advance(100)[0] == 10
    assert member.handled == [10]


def test_who_has_no_deadline_any_more_is_forgotten_at_its_old_instant() -> None:
    timer, member = Timer(), Member(10)
    timer.deadlines.schedule(member)
    member.deadline = None
    assert timer.advance(10) == [10]
    assert (member.handled, len(timer.deadlines)) == ([], 0)
    member.deadline = 20
    timer.deadlines.schedule(member)
    timer.advance(20)
    assert member.handled == [20]


def test_who_was_removed_is_not_handled() -> None:
    timer, member, other = Timer(), Member(10), Member(10)
    for each in (member, other):
        timer.deadlines.schedule(each)
    timer.deadlines.remove(member)
    timer.deadlines.remove(Member(5))  # which was never there
    timer.advance(100)
    assert (member.handled, other.handled) == ([], [10])


def test_who_was_removed_is_forgotten_at_once_and_the_last_takes_the_timer_along() -> None:
    timer, member, other = Timer(), Member(10), Member(20)
    remembered = weakref.ref(member)
    timer.deadlines.schedule(other)
    timer.deadlines.schedule(member)
    member.deadline = 5
    timer.deadlines.schedule(member)
    timer.deadlines.remove(member)
    del member
    assert remembered() is None
    timer.deadlines.remove(other)
    assert timer.at is None


def test_who_has_no_deadline_any_more_takes_the_timer_along_too() -> None:
    timer, member, other = Timer(), Member(10, repeats=[None]), Member(20)
    timer.deadlines.schedule(other)
    timer.deadlines.schedule(member)
    timer.deadlines.remove(other)
    assert timer.advance(10) == [10]
    assert timer.at is None


def test_who_is_removed_by_somebody_in_the_same_run_is_not_handled() -> None:
    timer, first, second = Timer(), Member(10), Member(10)
    first.also = lambda now: timer.deadlines.remove(second)
    for each in (first, second):
        timer.deadlines.schedule(each)
    timer.advance(100)
    assert (first.handled, second.handled) == ([10], [])


def test_who_removes_itself_while_it_is_handled_does_not_come_back() -> None:
    timer, member = Timer(), Member(10, repeats=[20])
    member.also = lambda now: timer.deadlines.remove(member)
    timer.deadlines.schedule(member)
    assert timer.advance(100) == [10]
    assert (member.handled, len(timer.deadlines)) == ([10], 0)


def test_who_is_scheduled_while_it_is_handled_is_scheduled_once() -> None:
    timer, member = Timer(), Member(10, repeats=[20])
    member.also = lambda now: timer.deadlines.schedule(member)
    timer.deadlines.schedule(member)
    assert timer.advance(100) == [10, 20]
    assert member.handled == [10, 20]


def test_who_is_due_again_at_once_waits_for_the_next_run() -> None:
    timer, member = Timer(), Member(10, repeats=[10, 10])
    timer.deadlines.schedule(member)
    assert timer.advance(10) == [10, 10, 10]


def test_one_that_raises_costs_the_others_nothing() -> None:
    timer, broken, other = Timer(), Member(10, repeats=[30]), Member(10)
    broken.also = lambda now: 1 / 0
    timer.deadlines.schedule(broken)
    timer.deadlines.schedule(other)
    with pytest.raises(ZeroDivisionError):
        timer.advance(10)
    assert timer.at == 10
    timer.advance(20)
    assert other.handled == [10]
    assert timer.at == 30


def test_a_deadline_at_infinity_is_none() -> None:
    timer, member = Timer(), Member(inf)
    timer.deadlines.schedule(member)
    assert timer.at is None


def test_what_is_remembered_is_bounded_by_the_number_of_members() -> None:
    timer = Timer()
    members = [Member(10**6 + number) for number in range(1000)]
    for member in members:
        timer.deadlines.schedule(member)
    for member in members[10:]:
        timer.deadlines.remove(member)
    assert len(timer.deadlines._heap) <= 2 * 10 + 64
    for nearer in range(10_000):
        members[0].deadline = 10**5 - nearer
        timer.deadlines.schedule(members[0])
    assert len(timer.deadlines._heap) <= 2 * 10 + 64
    timer.advance(2 * 10**6)
    assert [len(member.handled) for member in members] == [1] * 10 + [0] * 990


# --- against a model that looks at everybody all the time ---


class DeadlinesMachine(RuleBasedStateMachine):
    """Members whose deadlines move as sessions' do; each asserts by itself that it is not handled early."""

    def __init__(self) -> None:
        super().__init__()
        self.timer = Timer()
        self.now = 0.0
        self.members: list[Member] = []

    def member(self, index: int) -> Member | None:
        return self.members[index % len(self.members)] if self.members else None

    @rule(delay=st.none() | st.integers(0, 30), repeats=st.lists(st.none() | st.integers(0, 30), max_size=4))
    def add(self, delay: int | None, repeats: list[int | None]) -> None:
        member = Member(None if delay is None else self.now + delay)

        def repeat(now: float) -> None:
            delay = repeats.pop() if repeats else None
            member.deadline = None if delay is None else now + delay

        member.also = repeat
        self.members.append(member)
        self.timer.deadlines.schedule(member)

    @rule(index=st.integers(0), delay=st.integers(0, 30))
    def move_later_untold(self, index: int, delay: int) -> None:
        if (member := self.member(index)) is not None and member.deadline is not None:
            member.deadline += delay

    @rule(index=st.integers(0), delay=st.integers(0, 30))
    def move_anywhere_and_tell(self, index: int, delay: int) -> None:
        if (member := self.member(index)) is not None:
            member.deadline = self.now + delay
            self.timer.deadlines.schedule(member)

    @rule(index=st.integers(0))
    def end_untold(self, index: int) -> None:
        if (member := self.member(index)) is not None:
            member.deadline = None

    @rule(index=st.integers(0))
    def remove(self, index: int) -> None:
        if (member := self.member(index)) is not None:
            self.members.remove(member)
            self.timer.deadlines.remove(member)
            member.deadline = None  # and so it asserts that it is not handled

    @rule(index=st.integers(0), other=st.integers(0))
    def one_will_remove_another(self, index: int, other: int) -> None:
        first, second = self.member(index), self.member(other)
        if first is None or second is None or first is second:
            return

        def remove(now: float) -> None:
            if second in self.members:
                self.members.remove(second)
                self.timer.deadlines.remove(second)
                second.deadline = None

        first.also = remove

    @rule(delay=st.integers(0, 30))
    def wait(self, delay: int) -> None:
        end = self.now + delay
        expected = {id(member) for member in self.members if (member.deadline or inf) <= end}
        before = {id(member): len(member.handled) for member in self.members}
        for at in self.timer.advance(end):
            assert self.now <= at <= end
        for member in self.members:
            assert member.deadline is None or member.deadline > end, "it was missed"
            if id(member) in expected:
                assert len(member.handled) > before[id(member)]
        self.now = end

    @invariant()
    def the_timer_is_never_late(self) -> None:
        deadlines = [member.deadline for member in self.members if member.deadline is not None]
        if deadlines:
            assert self.timer.at is not None
            assert self.timer.at <= min(deadlines)


TestDeadlines = DeadlinesMachine.TestCase
TestDeadlines.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 20), st.integers(0, 5)), max_size=20))
def test_each_of_many_ticks_at_exactly_its_own_instants(clocks: list[tuple[int, int, int]]) -> None:
    timer = Timer()
    members = []
    for start, period, count in clocks:
        instants = [start + period * number for number in range(count + 1)]
        members.append((Member(instants[0], repeats=list(instants[1:])), instants))
        timer.deadlines.schedule(members[-1][0])
    timer.advance(1000)
    assert [member.handled for member, _ in members] == [instants for _, instants in members]

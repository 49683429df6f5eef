"""The tools of the other tests: virtual time and tasks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.virtual import Cancelled, Deadlock, VirtualEvent, VirtualLoop, VirtualRuntime, VirtualTask


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


def test_the_clock_moves_only_when_told_to_and_timers_come_in_order(loop: VirtualLoop) -> None:
    log: list[tuple[str, float]] = []

    def note(name: str) -> Any:
        return lambda: log.append((name, loop.now))

    loop.call_at(1003, note("third"))
    loop.call_at(1001, note("first"))
    loop.call_at(1002, note("cancelled")).cancel()
    loop.call_at(1001, note("second"))
    loop.run_until_idle()
    assert log == []
    loop.advance(2)
    assert (log, loop.now) == ([("first", 1001), ("second", 1001)], 1002)
    loop.advance(1)
    assert log[2:] == [("third", 1003)]
    assert loop.wall_clock() == 1_704_067_203


def test_a_timer_whose_time_has_passed_comes_at_once_and_the_clock_does_not_go_back(
    loop: VirtualLoop,
) -> None:
    times: list[float] = []
    loop.call_at(5, lambda: times.append(loop.now))
    loop.advance(0)
    assert times == [1000]


def test_a_coroutine_runs_to_its_end_and_the_clock_jumps(loop: VirtualLoop) -> None:
    async def sleep() -> str:
        await loop.sleep(100)
        await loop.sleep(200)
        return "slept"

    assert loop.run(sleep()) == "slept"
    assert loop.now == 1300


def test_what_a_coroutine_raises_comes_from_run(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loop.run(fail())
    task = loop.start(fail())
    loop.run_until_idle()
    with pytest.raises(ValueError, match="no"):
        task.result()


def test_what_a_task_raises_that_nobody_awaits_comes_from_the_loop(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise ValueError("no")

    VirtualRuntime(loop).spawn(fail())
    with pytest.raises(ValueError, match="no"):
        loop.run_until_idle()


def test_waiting_for_what_cannot_happen_is_a_deadlock(loop: VirtualLoop) -> None:
    with pytest.raises(Deadlock, match="waiting"):
        loop.run(VirtualEvent().wait())
    with pytest.raises(Deadlock):
        loop.run(loop.sleep(48 * 3600))


def test_an_event_wakes_everybody_and_stays_set(loop: VirtualLoop) -> None:
    event = VirtualEvent()
    tasks = [loop.start(event.wait()) for _ in range(3)]
    loop.run_until_idle()
    assert [task.is_done for task in tasks] == [False] * 3
    assert not event.is_set()
    event.set()
    loop.run_until_idle()
    assert [task.is_done for task in tasks] == [True] * 3
    loop.run(event.wait())


def test_a_task_is_cancelled_where_it_waits_and_once(loop: VirtualLoop) -> None:
    log: list[str] = []

    async def wait() -> None:
        try:
            await VirtualEvent().wait()
        except Cancelled:
            log.append("cancelled")
            raise

    task = loop.start(wait())
    loop.run_until_idle()
    task.cancel()
    loop.run_until_idle()
    task.cancel()
    loop.run_until_idle()
    assert log == ["cancelled"]
    with pytest.raises(Cancelled):
        task.result()


def test_a_task_may_be_cancelled_before_it_begins_or_by_itself(loop: VirtualLoop) -> None:
    async def cancel_myself() -> None:
        tasks[0].cancel()
        await VirtualEvent().wait()

    tasks: list[VirtualTask[None]] = [loop.start(cancel_myself())]
    tasks.append(loop.start(VirtualEvent().wait()))
    tasks[1].cancel()
    loop.run_until_idle()
    assert [type(task.error) for task in tasks] == [Cancelled, Cancelled]


def test_a_loop_cannot_be_run_by_what_it_runs(loop: VirtualLoop) -> None:
    loop.call_soon(loop.run_until_idle)
    with pytest.raises(AssertionError, match="runs already"):
        loop.run_until_idle()


def test_a_runtime_has_one_timer(loop: VirtualLoop) -> None:
    times: list[float] = []
    runtime = VirtualRuntime(loop, lambda: times.append(loop.now))
    runtime.set_timer(1001)
    runtime.set_timer(1002)
    assert runtime.deadline == 1002
    loop.advance(5)
    assert times == [1002]
    assert runtime.deadline is None
    runtime.set_timer(1010)
    runtime.set_timer(None)
    loop.advance(10)
    assert times == [1002]


def test_chance_is_the_same_every_time() -> None:
    assert VirtualLoop().entropy(16) == VirtualLoop().entropy(16) != VirtualLoop(seed=1).entropy(16)


def test_closing_a_loop_cancels_what_is_left(loop: VirtualLoop) -> None:
    task = loop.start(VirtualEvent().wait())
    loop.close()
    assert isinstance(task.error, Cancelled)
    assert loop.tasks == []

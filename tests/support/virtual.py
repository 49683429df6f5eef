"""Time, chance and tasks without an event loop: whatever runs here runs the same way every time.

A :class:`VirtualLoop` has a clock that only moves when it is told to, and steps coroutines by hand. A
:class:`VirtualRuntime` shows it to one server or client as the runtime that the pure layers ask for. Streams
between them are in ``memory``.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import copy_context
from random import Random
from types import coroutine as generator_coroutine
from typing import Any, Generic, TypeVar

from stelar_proto.channel import WaitableEvent
from stelar_proto.channel.runtime import Flushable

T = TypeVar("T")

_PATIENCE = 24 * 3600.0


class Cancelled(BaseException):
    """Raised inside a coroutine whose task is cancelled."""


class Deadlock(AssertionError):
    """What was waited for can no longer happen."""


class VirtualEvent:
    """Something that happens once; tasks wait for it."""

    def __init__(self) -> None:
        self._is_set = False
        self.waiting: list[VirtualTask[Any]] = []

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """It happens: whoever waits goes on in the loop's next turn."""
        self._is_set = True
        waiting, self.waiting = self.waiting, []
        for task in waiting:
            task.step_soon()

    async def wait(self) -> None:
        """Return when it has happened."""
        while not self._is_set:
            await _suspend_until(self)


@generator_coroutine
def _suspend_until(event: VirtualEvent) -> Generator[VirtualEvent, None, None]:
    yield event


class VirtualTask(Generic[T]):
    """A coroutine and how far it has come."""

    def __init__(
        self, loop: VirtualLoop, coroutine: Coroutine[Any, Any, T], *, is_awaited: bool = True
    ) -> None:
        self.is_awaited = is_awaited
        self._loop = loop
        self._coroutine = coroutine
        self._context = copy_context()
        self._waits_for: VirtualEvent | None = None
        self._has_begun = self._is_cancelled = False
        self._result: T
        self.is_done = False
        self.ended = VirtualEvent()
        self.error: BaseException | None = None
        """What the coroutine raised."""
        self.step_soon()

    def __repr__(self) -> str:
        state = "done" if self.is_done else "waiting"
        return f"<VirtualTask {self._coroutine!r} {state}>"

    def step_soon(self) -> None:
        """Let it run in the loop's next turn."""
        self._waits_for = None
        self._loop.call_soon(self._step)

    def cancel(self) -> None:
        """Raise :class:`Cancelled` where it waits, for the first time if it has not begun."""
        if not self.is_done:
            self._is_cancelled = True
            if self._waits_for is not None:
                self._waits_for.waiting.remove(self)
                self.step_soon()

    def result(self) -> T:
        """Return what the coroutine returned, or raise what it raised."""
        assert self.is_done
        if self.error is not None:
            raise self.error
        return self._result

    def _step(self) -> None:
        self._loop.current_task = self
        try:
            if self._is_cancelled and self._has_begun:
                self._is_cancelled = False
                event = self._context.run(self._coroutine.throw, Cancelled())
            else:
                self._has_begun = True
                event = self._context.run(self._coroutine.send, None)
        except StopIteration as stop:
            self._result, self.is_done = stop.value, True
        except BaseException as error:
            self.error, self.is_done = error, True
        else:
            assert isinstance(event, VirtualEvent), "only virtual events can be awaited here"
            if self._is_cancelled:
                self._loop.call_soon(self._step)  # it cancelled itself
            else:
                self._waits_for = event
                event.waiting.append(self)
        finally:
            self._loop.current_task = None
        if self.is_done:
            self.ended.set()


class Timer:
    """A callback that comes at its time, unless it is cancelled."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Let it not come."""
        self.callback = None


class VirtualLoop:
    """A clock, a queue of what is to be done next, and the tasks.

    Arguments:
        seed: of the chance that :meth:`entropy` gives.
        now: where the clock begins, seconds.
    """

    def __init__(self, *, seed: int = 0, now: float = 1000.0) -> None:
        self.now = now
        self.entropy = Random(seed).randbytes
        self.tasks: list[VirtualTask[Any]] = []
        """What was started and has not ended."""
        self.current_task: VirtualTask[Any] | None = None
        self._started_at = now
        self._ready: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._is_running = False

    # --- What is to be done -----------------------------------------------------------------------------

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` behind everything that is to be done already."""
        self._ready.append(callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` when the clock has come to ``when``."""
        timer = Timer(callback)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def start(self, coroutine: Coroutine[Any, Any, T], *, is_awaited: bool = True) -> VirtualTask[T]:
        """Run ``coroutine`` beside everything else.

        What it raises comes from :meth:`VirtualTask.result`, or, if nobody will ask for that
        (``is_awaited=False``), from whatever call runs the loop.
        """
        task = VirtualTask(self, coroutine, is_awaited=is_awaited)
        self.tasks.append(task)
        return task

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has moved on by ``seconds``."""
        event = VirtualEvent()
        timer = self.call_at(self.now + seconds, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()

    # --- Running ----------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Do everything that can be done without moving the clock.

        Raises whatever a task raised whose result nobody will ask for.
        """
        assert not self._is_running, "the loop runs already; a handler may not run it again"
        self._is_running = True
        try:
            while self._ready:
                self._ready.popleft()()
        finally:
            self._is_running = False
        ended = [task for task in self.tasks if task.is_done]
        self.tasks = [task for task in self.tasks if not task.is_done]
        for task in ended:
            if not task.is_awaited and task.error is not None and not isinstance(task.error, Cancelled):
                raise task.error

    def advance(self, seconds: float) -> None:
        """Move the clock, and do on the way what is to be done."""
        until = self.now + seconds
        self.run_until_idle()
        while (when := self._next_timer()) is not None and when <= until:
            self._fire(when)
        self.now = until

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` to its end and return what it returns; the clock jumps over what is only waiting.

        Raises:
            Deadlock: it waits for something that cannot happen any more, or not within a day.
        """
        task = VirtualTask(self, coroutine)
        until = self.now + _PATIENCE
        self.run_until_idle()
        while not task.is_done:
            when = self._next_timer()
            if when is None or when > until:
                stuck = repr(task)
                task.cancel()
                self.run_until_idle()
                raise Deadlock(stuck)
            self._fire(when)
        return task.result()

    def _next_timer(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _fire(self, when: float) -> None:
        self.now = max(self.now, when)
        callback = heapq.heappop(self._timers)[2].callback
        if callback is not None:
            self.call_soon(callback)
        self.run_until_idle()

    def close(self) -> None:
        """Cancel every task."""
        for task in self.tasks:
            task.cancel()
        self.run_until_idle()

    def wall_clock(self) -> float:
        """The time of day: the loop began at 2024-01-01T00:00:00Z."""
        return 1_704_067_200.0 + self.now - self._started_at


class VirtualRuntime:
    """The loop as one server or client sees it.

    Arguments:
        on_deadline: called when the timer that was set comes.
    """

    def __init__(self, loop: VirtualLoop, on_deadline: Callable[[], None] = lambda: None) -> None:
        self.loop = loop
        self.deadline: float | None = None
        """When ``on_deadline`` will be called."""
        self.clock = self.now
        self.wall_clock = loop.wall_clock
        self.entropy = loop.entropy
        self.make_event = VirtualEvent
        self.checkpoint: Callable[[], Awaitable[object]] | None = None
        """What is awaited where nothing has been done yet; a cancelled task is stopped where it waits."""
        self.spawned = 0
        """How many tasks there have ever been."""
        self._on_deadline = on_deadline
        self._timer: Timer | None = None
        self._tasks: list[VirtualTask[None]] = []

    def now(self) -> float:
        return self.loop.now

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        self._tasks = [task for task in self._tasks if not task.is_done]
        task = self.loop.start(coroutine, is_awaited=False)
        self._tasks.append(task)
        self.spawned += 1
        return task.cancel

    def flush_soon(self, transport: Flushable) -> None:
        self.loop.call_soon(transport.flush)

    def set_timer(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.deadline = deadline
        self._timer = None if deadline is None else self.loop.call_at(deadline, self._fire)

    def _fire(self) -> None:
        self.deadline = None
        self._on_deadline()

    async def start(self) -> None:
        """Nothing has to be prepared."""

    def set_when_rested(self, event: WaitableEvent) -> None:
        async def watch() -> None:
            while others := [task for task in self._others() if task is not caller]:
                await others[0].ended.wait()
            event.set()

        caller = self.loop.current_task
        self.loop.start(watch(), is_awaited=False)

    def cancel_tasks(self) -> None:
        for task in self._others():
            task.cancel()

    async def close(self, timeout: float | None = None) -> int:
        self.cancel_all()
        if timeout is None:
            for task in self._others():
                await task.ended.wait()
        else:
            await self._wait_for_others(timeout / 2)
            self.cancel_all()
            await self._wait_for_others(timeout / 2)
        return len(self._others())

    def _others(self) -> list[VirtualTask[None]]:
        return [task for task in self._tasks if not task.is_done and task is not self.loop.current_task]

    async def _wait_for_others(self, timeout: float) -> None:
        ends_at = self.loop.now + timeout
        while self.loop.now < ends_at and (others := self._others()):
            await self.wait_for(others[0].ended, ends_at - self.loop.now)

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        result = function(*arguments)  # whoever is cancelled meanwhile: the thread does it
        await self.loop.sleep(0.001)
        return result

    async def wait_for(self, event: WaitableEvent, timeout: float) -> None:
        either = VirtualEvent()

        async def watch() -> None:
            await event.wait()
            either.set()

        timer = self.loop.call_at(self.loop.now + timeout, either.set)
        watcher = self.loop.start(watch(), is_awaited=False)
        try:
            await either.wait()
        finally:
            timer.cancel()
            watcher.cancel()

    def cancel_all(self) -> None:
        """Stop the timer and cancel what was spawned, the caller aside."""
        self.set_timer(None)
        for task in self._tasks:
            if task is not self.loop.current_task:
                task.cancel()

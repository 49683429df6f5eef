"""The asyncio loop as the pure layers see it: a clock, a timer, tasks, events, and what is to be flushed.

What several connections have to send in one turn of the loop leaves in one write each, at its end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, TypeVar

from stelar_proto.channel import WaitableEvent
from stelar_proto.channel.runtime import Flushable

_logger = logging.getLogger("stelar.asyncio")

T = TypeVar("T")

_spawned: ContextVar[asyncio.Task[Any] | None] = ContextVar("_spawned", default=None)
"""The task that was spawned here, or that has begun this one: whoever runs in it does not wait for it."""


class AsyncioRuntime:
    """The loop of one server or client.

    Arguments:
        on_deadline: called when the timer that was set comes.
    """

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_deadline = on_deadline
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # what was spawned
        self._own_tasks: set[asyncio.Task[None]] = set()
        self._resting: tuple[WaitableEvent, asyncio.Task[Any] | None] | None = None  # and who asked for it
        self._dirty: list[Flushable] = []
        # A loop that keeps a time of its own, in tests, is measured by that.
        self.clock = getattr(self._loop, "virtual_time", time.perf_counter)
        self.wall_clock = time.time
        self.entropy = os.urandom
        self.checkpoint = None
        self.now = self._loop.time

    async def start(self) -> None:
        """Begin to run timers and tasks; asyncio needs no preparation for it."""

    def make_event(self) -> Event:
        """Return an event that tasks can wait for."""
        return Event(self._loop)

    async def wait_for(self, event: WaitableEvent, timeout: float) -> None:
        """Wait until ``event`` is set, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            pass

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` where it may block; return what it returns.

        Who is cancelled meanwhile learns of it when it is done: nothing goes on behind the caller's back.
        """
        return await finish(asyncio.to_thread(function, *arguments))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run ``coroutine`` as a task; :meth:`close` cancels it, and so does what is returned."""
        task = self._loop.create_task(_run_coroutine(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)
        task.add_done_callback(lambda _: coroutine.close())  # if the loop ended before it began
        return partial(self._cancel, task)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel ``task`` when it has begun, as trio does: what it was handed ends in good order."""
        if getcoroutinestate(task.get_coro()) == CORO_CREATED:  # type: ignore[arg-type]  # it has a coroutine
            self._loop.call_soon(task.cancel)
        else:
            task.cancel()

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._note_rest()

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine``, which belongs to the runtime: nobody waits for it; :meth:`close` cancels it."""
        task = self._loop.create_task(coroutine)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)
        return task

    def set_when_rested(self, event: WaitableEvent) -> None:
        """Set ``event`` as soon as nothing runs that was spawned, the caller aside."""
        self._resting = (event, _spawned.get())
        self._note_rest()

    def _note_rest(self) -> None:
        if self._resting is not None:
            event, caller = self._resting
            if len(self._tasks) == (caller in self._tasks):
                event.set()

    def set_timer(self, deadline: float | None) -> None:
        """Call ``on_deadline`` at ``deadline``, and not when it was to be called before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._on_deadline)

    def flush_soon(self, transport: Flushable) -> None:
        """Flush ``transport`` at the end of this turn of the loop."""
        if not self._dirty:
            self._loop.call_soon(self._flush_all)
        self._dirty.append(transport)

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        for transport in dirty:
            transport.flush()

    def cancel_tasks(self) -> None:
        """Cancel what was spawned until now, the caller aside."""
        for task in _but_current(self._tasks):
            self._cancel(task)

    async def close(self, timeout: float | None = None) -> int:
        """Stop the timer and cancel what was spawned, the caller aside; return how much has not ended."""
        self.set_timer(None)
        # What ends behind it may have been spawned meanwhile; and some who are cancelled go on, once.
        for _ in range(2):
            for task in _but_current(self._tasks | self._own_tasks):
                self._cancel(task)
            await self._wait_for_tasks(None if timeout is None else timeout / 2)
        return sum(not task.done() for task in _but_current(self._tasks | self._own_tasks))

    async def _wait_for_tasks(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                while tasks := _but_current(self._tasks | self._own_tasks):
                    await asyncio.wait(tasks)
        except TimeoutError:
            pass


def _but_current(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    # Also those whose callbacks have yet to be called, with which they are really over.
    current = asyncio.current_task(), _spawned.get()
    return {task for task in tasks if task not in current}


async def _run_coroutine(coroutine: Coroutine[Any, Any, None]) -> None:
    _spawned.set(asyncio.current_task())
    try:
        await coroutine
    except SystemExit as error:  # would end the whole of the loop's run, which it does not on trio
        _logger.error("a task wanted to exit, which only the main task can do", exc_info=error)


async def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end, whatever cancels the caller meanwhile, who learns of it then.

    For goodbyes that are bounded by themselves, and for threads. It is what a shielded scope is to trio: some
    cancel once, others whatever waits in their scope, again and again.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


_MANY = 16


class Event:
    """What ``asyncio.Event`` is, for what happens once and mostly has one who waits: a third of its cost."""

    __slots__ = ("_is_set", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """It happens: whoever waits goes on."""
        self._is_set = True
        for future in self._waiting:
            if not future.done():  # cancelled, that is
                future.set_result(None)
        self._waiting.clear()

    def wait(self) -> asyncio.Future[None]:
        """Return what to await until it has happened."""
        future = self._loop.create_future()
        if self._is_set:
            future.set_result(None)
        else:
            if len(self._waiting) >= _MANY:  # those who were cancelled are still among them
                self._waiting = [waiting for waiting in self._waiting if not waiting.done()]
            self._waiting.append(future)
        return future

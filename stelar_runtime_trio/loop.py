"""The trio loop as the pure layers see it: a clock, a timer, tasks, events, and what is to be flushed.

What several connections have to send in one turn of the loop leaves in one write each, behind it.
"""

from __future__ import annotations

import contextvars
import logging
import os
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, TypeVar

import trio

from stelar_proto.channel import WaitableEvent
from stelar_proto.channel.runtime import Flushable

_logger = logging.getLogger("stelar.trio")

T = TypeVar("T")


class TrioRuntime:
    """The loop of one server or client; its tasks live from :meth:`start` to :meth:`close`.

    Arguments:
        on_deadline: called when the timer that was set comes.
    """

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        self._on_deadline = on_deadline
        self._timer_scope = trio.CancelScope()
        self._deadline = inf
        self._dirty: list[Flushable] = []
        self._dirty_event = trio.Event()
        self.nursery: trio.Nursery
        self._started, self._ended = trio.Event(), trio.Event()
        self._spawned: dict[trio.CancelScope, trio.lowlevel.Task | None] = {}  # whose it is, once it runs
        # What is set when nothing that was spawned is left, but for whose task asked for it.
        self._resting: tuple[WaitableEvent, trio.lowlevel.Task | None] | None = None
        self.now = trio.current_time
        self.clock = trio.current_time
        self.wall_clock = time.time
        self.entropy = os.urandom
        self.make_event = trio.Event
        self.checkpoint = trio.lowlevel.checkpoint_if_cancelled

    async def start(self) -> None:
        """Have tasks run from now on, until :meth:`close` or the end of trio's run.

        They run beside the caller's tasks, not under one of its nurseries: what goes wrong in the caller is
        so not wrapped into a group, and entering and leaving are plain calls, as they are on asyncio. Each of
        them is protected against KeyboardInterrupt, which is so raised in trio's main task.
        """
        trio.lowlevel.spawn_system_task(self._run, context=contextvars.copy_context())
        with trio.CancelScope(shield=True):  # a tick; without it, close() would find nothing to close yet
            await self._started.wait()

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self._run_timer)
                self.nursery.start_soon(self._run_flushes)
                self._started.set()
        finally:
            self._ended.set()

    async def wait_for(self, event: WaitableEvent, timeout: float) -> None:
        """Wait until ``event`` is set, or for ``timeout`` seconds."""
        with trio.move_on_after(timeout):
            await event.wait()

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` where it may block; return what it returns."""
        return await trio.to_thread.run_sync(function, *arguments)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run ``coroutine`` as a task; :meth:`close` cancels it, and so does what is returned."""
        scope = trio.CancelScope()
        self._spawned[scope] = None
        self.nursery.start_soon(self._run_spawned, coroutine, scope)
        return scope.cancel

    @trio.lowlevel.enable_ki_protection
    async def _run_spawned(self, coroutine: Coroutine[Any, Any, None], scope: trio.CancelScope) -> None:
        self._spawned[scope] = trio.lowlevel.current_task()
        try:
            with scope:
                await coroutine
        except BaseExceptionGroup as group:
            # Cancelled, and tasks of its own raised on their way out. What is let out of here but a
            # cancellation would end the whole of trio's run.
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                _logger.error("a task raised while it was cancelled", exc_info=rest)
            if cancelled is not None:
                raise cancelled from None
        except SystemExit as error:
            _logger.error("a task wanted to exit, which only the main task can do", exc_info=error)
        finally:
            del self._spawned[scope]
            self._note_rest()

    def set_when_rested(self, event: WaitableEvent) -> None:
        """Set ``event`` as soon as nothing runs that was spawned, the caller aside."""
        self._resting = (event, self._task_of_the_caller())
        self._note_rest()

    def _note_rest(self) -> None:
        if self._resting is not None:
            event, caller = self._resting
            if all(task is not None and task is caller for task in self._spawned.values()):
                event.set()

    def cancel_tasks(self) -> None:
        """Cancel what was spawned until now, the caller aside."""
        caller = self._task_of_the_caller()
        for scope, task in self._spawned.items():
            if task is None or task is not caller:
                scope.cancel()

    async def close(self, timeout: float | None = None) -> int:
        """Cancel everything that still runs; return how much has not ended, unless it is the caller."""
        if not self._started.is_set():  # start() is still under way; it takes a tick
            with trio.CancelScope(shield=True):
                await self._started.wait()
        self.nursery.cancel_scope.cancel()
        if self._task_of_the_caller() is None:
            deadline = inf if timeout is None else trio.current_time() + timeout
            with trio.CancelScope(shield=True, deadline=deadline):
                await self._ended.wait()
        return 0 if self._ended.is_set() else len(self.nursery.child_tasks)

    def _task_of_the_caller(self) -> trio.lowlevel.Task | None:
        """Return which of the tasks in the nursery the caller is, or belongs to."""
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        while task is not None and task.parent_nursery is not None:
            if task.parent_nursery is self.nursery:
                return task
            task = task.parent_nursery.parent_task
        return None

    def set_timer(self, deadline: float | None) -> None:
        """Call ``on_deadline`` at ``deadline``, and not when it was to be called before."""
        self._deadline = self._timer_scope.deadline = inf if deadline is None else deadline

    @trio.lowlevel.enable_ki_protection
    async def _run_timer(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._deadline) as self._timer_scope:
                await trio.sleep_forever()
            self._deadline = inf
            self._on_deadline()

    def flush_soon(self, transport: Flushable) -> None:
        """Flush ``transport`` behind this turn of the loop."""
        self._dirty.append(transport)
        self._dirty_event.set()

    @trio.lowlevel.enable_ki_protection
    async def _run_flushes(self) -> None:
        while True:
            await self._dirty_event.wait()
            self._dirty_event = trio.Event()
            self._flush_all()

    def _flush_all(self) -> None:
        # In a call of its own: a task that waits would keep its last transport, and all that belongs to it.
        dirty, self._dirty = self._dirty, []
        for transport in dirty:
            transport.flush()

"""Cancelling a task at a chosen checkpoint, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

import trio


class Steps:
    """Awaits ``call``, and has it cancelled when it is suspended for the ``at``-th time; 0 for never.

    On asyncio that is what ``task.cancel()`` does, once; with ``late``, when what the task waits for has come
    and the task has not heard of it yet. On trio it is a cancel scope, which does not let go.
    """

    def __init__(self, at: int, *, late: bool = False) -> None:
        self._at, self._late = at, late
        self.taken = 0
        """How many times it was suspended."""
        self.was_cancelled = False
        """Whether the call ended by being cancelled."""

    async def on_asyncio(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run it in a task of its own."""

        async def run() -> None:
            task = asyncio.current_task()
            assert task is not None
            await self._watch(call(), lambda: task.cancel())

        try:
            await asyncio.create_task(run())
        except asyncio.CancelledError:
            self.was_cancelled = True

    async def on_trio(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run it in a cancel scope of its own."""
        with trio.CancelScope() as scope:
            await self._watch(call(), scope.cancel)
        self.was_cancelled = scope.cancelled_caught

    @coroutine
    def _watch(
        self, call: Coroutine[Any, Any, Any], cancel: Callable[[], object]
    ) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: call.send(None)  # noqa: E731
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            self.taken += 1
            if self.taken == self._at:
                if not self._late:
                    cancel()
                elif waits_for is None:
                    asyncio.get_running_loop().call_soon(cancel)
                else:
                    waits_for.add_done_callback(lambda _: cancel())
            try:
                value = yield waits_for
            except BaseException as error:
                step = _thrower(call, error)
            else:
                step = _sender(call, value)


def _thrower(call: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: call.throw(error)


def _sender(call: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: call.send(value)

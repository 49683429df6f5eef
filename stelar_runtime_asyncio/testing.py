"""Virtual time for tests on asyncio: nobody waits for a timer, and every run is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DAY = 24 * 3600.0

__all__ = ["VirtualTimeLoop", "anyio_options", "run"]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock begins at 0, and jumps to the next timer when there is nothing else to do.

    While a thread works for it (``asyncio.to_thread``) the clock stands still. Real sockets and other
    processes are not waited for while a timer is set.
    """

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self._threads_at_work = 0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Return the virtual time, seconds."""
        return self._virtual_time

    virtual_time = time

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Have a thread call ``func(*args)``; the clock stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(self._note_done)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """Wait for the threads, for as long as it takes them."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._threads_at_work -= 1

    def _note_done(self, _: object) -> None:
        self._threads_at_work -= 1

    def _jump(self, seconds: float) -> bool:
        if self._threads_at_work:
            return False
        self._virtual_time += seconds
        return True


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, it calls ``jump`` with the seconds, and waits only if that returns False."""

    def __init__(self, jump: Callable[[float], bool]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # no timer: only the world can go on
            return super().select(None)
        events = super().select(0)
        if not events and timeout > 0 and not self._jump(timeout):
            return super().select(None)  # a thread that is done wakes the loop
        return events


def run(main: Callable[..., Awaitable[T]], *arguments: Any, time_limit: float = _DAY) -> T:
    """Call ``main(*arguments)``, await it in virtual time, and return what it returns.

    ::

        def test_a_silent_server_is_noticed():
            run(talk_to_a_silent_server)

    Arguments:
        main: an ``async def``.
        arguments: what it is called with.
        time_limit: seconds of virtual time.

    Raises:
        TimeoutError: it was not done by then; what waits for something that cannot happen gets there at once.
    """

    async def call() -> T:
        try:
            async with asyncio.timeout(time_limit) as limit:
                return await main(*arguments)
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"not done in {time_limit:g} s of virtual time") from error
            raise

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(call())


def anyio_options() -> dict[str, Any]:
    """Return what makes anyio's pytest plugin run a test in virtual time.

    ::

        @pytest.fixture
        def anyio_backend():
            return "asyncio", anyio_options()
    """
    return {"loop_factory": VirtualTimeLoop}

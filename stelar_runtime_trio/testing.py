"""Virtual time for tests on trio: nobody waits for a timer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")

_DAY = 24 * 3600.0

__all__ = ["anyio_options", "run"]


def run(main: Callable[..., Awaitable[T]], *arguments: Any, time_limit: float = _DAY) -> T:
    """Call ``main(*arguments)``, await it in virtual time, and return what it returns.

    The clock begins at 0, and jumps to the next timer when there is nothing else to do. What takes time
    outside of trio, as threads and real sockets do, is not waited for while a timer is set.

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
        with trio.move_on_after(time_limit):
            return await main(*arguments)
        raise TimeoutError(f"not done in {time_limit:g} s of virtual time")

    return trio.run(call, clock=MockClock(autojump_threshold=0))


def anyio_options() -> dict[str, Any]:
    """Return what makes anyio's pytest plugin run a test in virtual time.

    ::

        @pytest.fixture
        def anyio_backend():
            return "trio", anyio_options()
    """
    return {"clock": MockClock(autojump_threshold=0)}

"""Calls to objects of the application's own, which may be plain or ``async``, and may raise or hang."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import Logger
from typing import TYPE_CHECKING, Any

from stelar_proto.channel import Runtime, WaitableEvent
from stelar_proto.channel.handlers import FAULTS, is_awaitable

from .reports import fields_of

if TYPE_CHECKING:
    from .peer import Peer

SWEEP_INTERVAL = 60.0
"""Seconds between two calls of ``cleanup()``."""

Call = tuple[str, Callable[[], object]]
"""A function, and its name for the log."""


async def outcome(result: Any) -> Any:
    """Return ``result``, awaited if it has to be."""
    return await result if is_awaitable(result) else result


class Background:
    """Calls that nobody waits for, but the server when it stops. One that raises is logged.

    Arguments:
        logger: where that is reported.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._runtime: Runtime | None = None
        self._pending = 0
        self._settled: WaitableEvent | None = None

    def begin(self, runtime: Runtime) -> None:
        """The server starts."""
        self._runtime = runtime
        self._pending = 0

    def call(
        self, name: str, function: Callable[..., object], *arguments: object, peer: Peer | None = None
    ) -> None:
        """Call ``function``, and await what it returns in a task of its own if it has to be.

        Arguments:
            name: for the log.
            function, arguments: what is called.
            peer: whom it is about, if it is about one client.
        """
        try:
            result = function(*arguments)
        except FAULTS as error:
            self._report(name, peer, error)
            return
        if is_awaitable(result):
            assert self._runtime is not None
            self._pending += 1
            self._runtime.spawn(self._finish(name, peer, result))  # type: ignore[arg-type]  # it is awaitable

    async def _finish(self, name: str, peer: Peer | None, result: Awaitable[object]) -> None:
        try:
            await result
        except FAULTS as error:
            self._report(name, peer, error)
        finally:
            self._end_one()

    def _report(self, name: str, peer: Peer | None, error: BaseException) -> None:
        extra = fields_of(peer, reason=type(error).__name__)
        self._logger.error("%s raised", name, exc_info=error, extra=extra)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is under way that a server that stops waits for."""
        self._pending += 1
        try:
            yield
        finally:
            self._end_one()

    def _end_one(self) -> None:
        self._pending -= 1
        if not self._pending and self._settled is not None:
            self._settled.set()

    async def settle(self, timeout: float) -> None:
        """Wait until nothing is under way any more, or for ``timeout`` seconds."""
        if self._pending and self._runtime is not None:
            self._settled = self._runtime.make_event()
            await self._runtime.wait_for(self._settled, timeout)
            self._settled = None


class Sweep:
    """What is called once a minute, as a member of the server's deadlines.

    Arguments:
        calls: returns what is to be called, as it is configured now.
        background: calls it.
        now: the time.
    """

    def __init__(self, calls: Callable[[], Iterable[Call]], background: Background, now: float) -> None:
        self._calls = calls
        self._background = background
        self._due_at = now + SWEEP_INTERVAL

    def next_deadline(self) -> float | None:
        """When it is due; never if there is nothing to call."""
        return self._due_at if any(self._calls()) else None

    def postpone(self, seconds: float, now: float) -> None:
        """The loop stood still, which is nothing to it."""

    def handle_deadline(self, now: float) -> None:
        """Call it."""
        self._due_at = now + SWEEP_INTERVAL
        for name, function in self._calls():
            self._background.call(name, function)

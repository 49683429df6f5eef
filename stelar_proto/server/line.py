"""What waits for an ``async`` hook to decide about it, and for those in front of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from stelar_proto.channel import Runtime, WaitableEvent
from stelar_proto.session import Deferred

from .hooks import Hooks
from .reports import fields_of

if TYPE_CHECKING:
    from .peer import Peer


class Action(NamedTuple):
    """Something that a hook may refuse."""

    hook: str
    """Its name."""
    arguments: dict[str, Any]
    """Of the hook."""
    is_possible: Callable[[], bool]
    """Asked before the hook is, and once more when it has let it happen."""
    act: Callable[[], int]
    """Does it; returns for how many, or whether."""


class Line:
    """The actions of one client, or of one namespace, in the order in which they were asked for.

    While no hook has to be awaited, each is done at the call. Else it, and all that are asked for meanwhile,
    are done by a task.

    Arguments:
        hooks: who decide.
        runtime: the loop.
        limit: how many may wait.
        on_full: called when one more would, which is refused; with whether it is the first of these since
            all was done.
        peer: whose actions they are; None for those of a namespace.
    """

    __slots__ = (
        "_emptied",
        "_hooks",
        "_is_overrun",
        "_limit",
        "_on_full",
        "_peer",
        "_runtime",
        "_waiting",
        "is_busy",
    )

    def __init__(
        self,
        hooks: Hooks,
        runtime: Runtime,
        limit: int,
        on_full: Callable[[bool], object],
        peer: Peer | None = None,
    ) -> None:
        self.is_busy = False
        """Whether the task runs: what is asked for now has to wait its turn."""
        self._hooks = hooks
        self._runtime = runtime
        self._limit = limit
        self._on_full = on_full
        self._is_overrun = False
        self._peer = peer
        self._waiting: deque[Callable[[], Deferred]] = deque()
        self._emptied: WaitableEvent | None = None

    def do(self, action: Action) -> int:
        """Do ``action`` if it is possible and its hook lets it happen; 0 if not, or while that is open."""
        if self.is_busy:
            self._add(partial(self._do_later, action))
        elif action.is_possible():
            answer = self._hooks.ask(action.hook, **action.arguments)
            if not isinstance(answer, bool):
                self._add(partial(self._finish, action, answer))
            elif answer and action.is_possible():
                return action.act()
        return 0

    def tell(self, hook: str, arguments: dict[str, Any]) -> None:
        """Call a hook whose answer means nothing."""
        if self.is_busy:
            self._add(partial(self._tell_later, hook, arguments))
            return
        rest = self._hooks.tell((hook, arguments))
        if rest is not None:
            self._add(partial(_await, rest))

    def settle(self) -> Deferred | None:
        """Return what waits until nothing waits here any more, if something does; for one that waits."""
        if not self.is_busy:
            return None
        self._emptied = self._runtime.make_event()
        return _await(self._emptied.wait())

    # --- The task -----------------------------------------------------------------------------------------

    def _add(self, step: Callable[[], Deferred]) -> None:
        if len(self._waiting) >= self._limit:
            self._on_full(not self._is_overrun)
            self._is_overrun = True
            return
        self._waiting.append(step)
        if not self.is_busy:
            self.is_busy = True
            self._runtime.spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._waiting.popleft()()
                except Exception as error:  # of the action: it was possible at the call, and is no more
                    extra = fields_of(self._peer, reason=type(error).__name__)
                    self._hooks.logger.exception("what waited for a hook could not be done", extra=extra)
        finally:  # cancelled with the server, or by a hook; then nobody is there for those behind
            self._waiting.clear()
            self.is_busy = self._is_overrun = False
            if self._emptied is not None:
                self._emptied.set()
                self._emptied = None

    async def _do_later(self, action: Action) -> None:
        if action.is_possible():
            await self._finish(action, self._hooks.ask(action.hook, **action.arguments))

    async def _finish(self, action: Action, answer: bool | Awaitable[bool]) -> None:
        if (answer if isinstance(answer, bool) else await answer) and action.is_possible():
            action.act()

    async def _tell_later(self, hook: str, arguments: dict[str, Any]) -> None:
        rest = self._hooks.tell((hook, arguments))
        if rest is not None:
            await rest


async def _await(awaitable: Awaitable[object]) -> None:
    await awaitable

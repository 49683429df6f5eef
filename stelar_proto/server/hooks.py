"""Hooks: functions of the application that are told what a server does, and some of which may refuse it.

Each is called with keyword arguments; which ones, stands in :data:`HOOKS`. Hooks may be plain or ``async``.
One that raises is logged, and has said nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from logging import Logger
from typing import TYPE_CHECKING, Any, TypeAlias

from stelar_proto.channel.handlers import FAULTS, Handler, is_awaitable
from stelar_proto.session import Deferred

from .reports import fields_of

if TYPE_CHECKING:
    from .peer import Peer

HOOKS: dict[str, tuple[str, ...]] = {
    "on_rate_limit_exceeded": ("client_id", "event", "limit", "ctx"),
    "on_max_connections_reached": ("limit", "current", "remote_address", "transport"),
    "on_max_rooms_reached": ("client_id", "room", "limit", "current"),
    "on_max_rooms_per_client_reached": ("client_id", "room", "limit", "current"),
    "on_payload_too_large": ("client_id", "size", "limit"),
    "on_invalid_message": ("client_id", "reason"),
    "on_client_join_room": ("client_id", "room", "namespace", "ctx"),
    "on_client_leave_room": ("client_id", "room", "namespace", "ctx", "is_disconnect"),
    "on_before_broadcast": ("event", "data", "is_binary", "room", "exclude_id", "namespace"),
    "on_client_connect": ("client_id", "remote_address", "transport", "namespace", "ctx"),
    "on_client_disconnect": ("client_id", "code", "reason", "remote_address", "namespace", "ctx"),
}
"""The hooks, and the names of the arguments of each.

Arguments:
    client_id: whom it is about. ``ctx`` is a :class:`~stelar_proto.server.Context` of that client.
    namespace: the path of the client's namespace, or of the one that is broadcast in.
    limit, current: the option that was reached and how many there are; of ``on_payload_too_large`` bytes, as
        ``size`` is; of ``on_rate_limit_exceeded`` the :class:`RateLimit`, None if a ``rate_limiter`` decided.
    is_disconnect: whether the client leaves the room because it has gone; the answer means nothing then.
    event, data, is_binary: what is sent; ``room`` is None if it goes to all, ``exclude_id`` gets nothing.
    code, reason: how the connection ended, in the terms of WebSocket on either wire.
    transport: ``"ws"`` or ``"tcp"``.
"""

Call: TypeAlias = tuple[str, dict[str, Any]]
"""The name of a hook, and its arguments."""


class Hooks:
    """Calls the hooks of a server.

    What a hook does itself, the same hook is not asked about: so a broadcast in ``on_before_broadcast`` goes
    out. Tasks that it starts are others.

    Arguments:
        get_hooks: returns the option ``hooks``, which may change.
        logger: where hooks that raise are reported.
        find: returns the client of an id, for that report.
    """

    def __init__(
        self,
        get_hooks: Callable[[], Mapping[str, Handler]],
        logger: Logger,
        find: Callable[[str], Peer | None],
    ) -> None:
        self._get_hooks = get_hooks
        self._find = find
        self.logger = logger
        self._running: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._get_hooks()

    def is_running(self, name: str) -> bool:
        """Whether this is the hook itself calling."""
        return name in self._running

    def ask(self, name: str, /, **arguments: Any) -> bool | Coroutine[Any, Any, bool]:
        """Return whether the hook lets it happen, or what to await for that; all answers but ``False`` do."""
        hook = self._get_hooks().get(name)
        if hook is None or name in self._running:
            return True
        self._running.add(name)
        try:
            answer = hook(**arguments)
        except FAULTS as error:
            self._report(name, arguments, error)
            return True
        finally:
            self._running.discard(name)
        return self._await_answer(name, arguments, answer) if is_awaitable(answer) else answer is not False

    async def _await_answer(self, name: str, arguments: dict[str, Any], answer: Awaitable[object]) -> bool:
        try:
            return await _Steps(answer, name, self._running) is not False
        except FAULTS as error:
            self._report(name, arguments, error)
            return True

    def _report(self, name: str, arguments: dict[str, Any], error: BaseException) -> None:
        context = arguments.get("ctx")
        peer = context._peer if context is not None else self._find(arguments.get("client_id", ""))
        extra = fields_of(peer, reason=type(error).__name__, hook=name)
        # What the hook was told, of whatever it was about.
        extra |= {name: arguments[name] for name in extra.keys() & arguments.keys() if name != "reason"}
        self.logger.error("hook %s raised", name, exc_info=error, extra=extra)

    def tell(self, *calls: Call) -> Deferred | None:
        """Call hooks whose answers mean nothing, in order; return the rest if one is to be awaited."""
        for index, (name, arguments) in enumerate(calls):
            answer = self.ask(name, **arguments)
            if not isinstance(answer, bool):
                return self._tell_rest(answer, calls[index + 1 :])
        return None

    async def _tell_rest(self, answer: Awaitable[bool], calls: Sequence[Call]) -> None:
        await answer
        rest = self.tell(*calls)
        if rest is not None:
            await rest


class _Steps:
    """Awaits ``answer``, and has ``name`` among those that are running exactly while its own code runs."""

    def __init__(self, answer: Awaitable[object], name: str, running: set[str]) -> None:
        self._answer = answer
        self._name = name
        self._running = running

    def __await__(self) -> Generator[Any, Any, object]:
        iterator: Any = self._answer.__await__()
        step, argument = iterator.send, None
        while True:
            self._running.add(self._name)
            try:
                waited_for = step(argument)
            except StopIteration as end:
                return end.value
            finally:
                self._running.discard(self._name)
            try:
                step, argument = iterator.send, (yield waited_for)
            except BaseException as error:  # cancelled
                step, argument = iterator.throw, error


def hook_problems(hooks: object) -> Iterator[str]:
    """Say what is wrong with the option, if anything is."""
    if not isinstance(hooks, Mapping):
        yield f"hooks must be a mapping from names to functions, not {hooks!r}"
        return
    for name, hook in hooks.items():
        if name not in HOOKS:
            yield f"hooks: there is no {name!r}; there are {', '.join(HOOKS)}"
        elif not callable(hook):
            yield f"hooks: {name} must be a function, not {hook!r}"
        elif not _takes(hook, HOOKS[name]):
            names = ", ".join(HOOKS[name])
            yield f"hooks: {name} is called with {names}; take those you need, and the others as **_"


def _takes(hook: Handler, names: tuple[str, ...]) -> bool:
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # a builtin that does not tell
        return True
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True

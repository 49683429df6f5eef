"""Middleware: functions between a client that wants to be taken in and the server that takes it in.

``middleware(ctx, next)`` lets the client on by calling ``next()``. In an ``async`` one ``await next()`` runs
those behind it at that point; otherwise they run when it has returned. The client is taken in when all of
them have returned and called ``next``, and none of them has called ``ctx.reject``: so each has its say until
the end, and one that fails keeps nobody's door open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from logging import Logger
from typing import TYPE_CHECKING, Any, TypeAlias

from stelar_proto.channel.handlers import FAULTS, is_awaitable
from stelar_proto.errors import StateError
from stelar_proto.session import Deferred

from .context import ClientContext
from .reports import fields_of

if TYPE_CHECKING:
    from .peer import Peer

Refusal: TypeAlias = tuple[int, str]
"""The HTTP status and the words with which a client is turned away; TCP has the words only."""

_NOT_LET_ON: Refusal = (403, "Forbidden")
_FAILED: Refusal = (500, "Internal server error")


class ConnectContext(ClientContext):
    """What a middleware is given: a client that is not taken in yet, so that nothing can be sent to it.

    It has no id yet: ids are drawn for those who are taken in.
    """

    __slots__ = ("_chain",)

    def __init__(self, peer: Peer, chain: MiddlewareChain) -> None:
        super().__init__(peer)
        self._chain = chain

    def __repr__(self) -> str:
        return f"<ConnectContext of {self.client_info.remote_address} over {self.transport}>"

    def reject(self, status: int, message: str) -> None:
        """Turn the client away; the middleware may then return.

        Arguments:
            status: of the HTTP answer, 400 to 599; for example 401, 403, 429 or 503.
            message: the body of the answer, or what the Error frame says on TCP.

        Raises:
            ValueError: the status says something else than an error.
            TypeError: the message is no str.
            StateError: it was rejected already, or all middleware has returned.
        """
        if not (type(status) is int and 400 <= status <= 599):
            raise ValueError(f"a client is rejected with a status from 400 to 599, not {status!r}")
        if not isinstance(message, str):
            raise TypeError(f"a client is rejected with words in a str, not {type(message).__name__}")
        self._chain.reject((status, message))


class Next:
    """What a middleware calls to let the client on; what that returns may be awaited."""

    __slots__ = ("_chain", "_index", "_was_called", "is_due")

    def __init__(self, chain: MiddlewareChain, index: int) -> None:
        self._chain = chain
        self._index = index
        self._was_called = False
        self.is_due = False
        """Whether it was called, and those behind have not run yet."""

    def __call__(self) -> Awaitable[None]:
        """Let the client on.

        Raises:
            StateError: that was said already, or the client was rejected, or all middleware has returned.
        """
        if self._was_called:
            raise StateError("next() was called already; a middleware lets a client on once")
        self._chain.demand_undecided("next() cannot let the client on")
        self._was_called = self.is_due = True
        return self

    def __await__(self) -> Generator[Any, Any, None]:
        if not self._was_called:
            raise StateError("next is a function: await next(), or return next()")
        rest = self.go_on()
        if rest is not None:
            yield from rest.__await__()

    def go_on(self) -> Deferred | None:
        """Run those behind, if it is their turn and they have not run; return the rest of that."""
        if not self.is_due:
            return None
        self.is_due = False
        return self._chain.run(self._index)


Middleware: TypeAlias = Callable[[ConnectContext, Callable[[], Awaitable[None]]], object]
"""``middleware(ctx, next)``, plain or ``async``; what it returns is not looked at."""


class MiddlewareChain:
    """One client's way through the middleware of its namespace.

    Arguments:
        peer: the client.
        middleware: in order.
        logger: where those that raise are reported.
    """

    def __init__(self, peer: Peer, middleware: tuple[Middleware, ...], logger: Logger) -> None:
        self._peer = peer
        self._middleware = middleware
        self._context = ConnectContext(peer, self)
        self._logger = logger
        self._under_way = 0
        self._is_through = False
        self._is_decided = False
        self._rejection: Refusal | None = None
        self._error: BaseException | None = None

    def run(self, index: int = 0) -> Deferred | None:
        """Call the middleware from ``index`` on until one is to be awaited; return the rest then.

        Raises what they raise, which has been reported.
        """
        while index < len(self._middleware):
            middleware = self._middleware[index]
            index += 1
            step = Next(self, index)
            self._under_way += 1
            try:
                result = middleware(self._context, step)
            except FAULTS as error:
                self._report(middleware, error)
                raise
            is_plain = result is None or (result is step and step.is_due)  # which `return next()` is, too
            if not is_plain and is_awaitable(result):
                return self._finish(middleware, result, step)  # type: ignore[arg-type]  # so it is
            self._under_way -= 1
            if not step.is_due:
                return None
            step.is_due = False
        self._is_through = True
        return None

    async def _finish(self, middleware: Middleware, result: Awaitable[object], step: Next) -> None:
        try:
            await result
        except FAULTS as error:
            self._report(middleware, error)
            raise
        self._under_way -= 1
        rest = step.go_on()
        if rest is not None:
            await rest

    def _report(self, middleware: Middleware, error: BaseException) -> None:
        if error is not self._error:  # which comes by once more when the one in front lets it through
            self._error = error
            name = getattr(middleware, "__qualname__", repr(middleware))
            extra = fields_of(self._peer, reason=type(error).__name__)
            self._logger.error("middleware %s raised", name, exc_info=error, extra=extra)

    def reject(self, refusal: Refusal) -> None:
        """Have the client turned away."""
        self.demand_undecided("reject() cannot turn the client away")
        self._rejection = refusal

    def demand_undecided(self, what: str) -> None:
        """Raise a StateError about ``what`` if it comes too late."""
        if self._rejection is not None:
            raise StateError(f"{what}: it was rejected already")
        if self._is_decided:
            raise StateError(f"{what}: all middleware has returned, and it was decided")

    def decide(self) -> Refusal | None:
        """All middleware has returned: return how the client is turned away, or None if it is taken in."""
        self._is_decided = True
        if self._rejection is not None:
            return self._rejection
        if self._error is not None:
            return _FAILED
        # Whoever is still under way was left behind: cancelled, or awaited in a task that nobody waits for.
        return None if self._is_through and self._under_way == 0 else _NOT_LET_ON

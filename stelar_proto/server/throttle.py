"""What happens to each message of a client before it is handled: it is counted, and may be one too many.

Events, binary events, requests, joins, leaves, messages that break the rules and answers that nobody asked
for cost one each. Signs of life cost nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from logging import Logger
from typing import TYPE_CHECKING

from stelar_proto.channel.handlers import FAULTS, is_awaitable
from stelar_proto.messages import AckError, AckRequest, AckResponse, Invalid, Join, Leave
from stelar_proto.session import Deferred
from stelar_proto.session import Event as SessionEvent

from .background import Background
from .context import Context
from .rate_limits import RateLimiter, Revoked
from .reply import Reply
from .reports import fields_of

if TYPE_CHECKING:
    from .peer import Peer

WORDS = "Rate limit exceeded"
_CODE = 1008


def costly_name(event: SessionEvent) -> str | None:
    """Return under which name ``event``, if it is neither JSON nor binary, is counted; None if it is not."""
    match event:
        case AckRequest(_, name, _, _):
            return name
        case Join():
            return "join-room"
        case Leave():
            return "leave-room"
        case Invalid() | AckResponse() | AckError():  # an answer that was asked for does not come here
            return ""
    return None


class Throttle:
    """The slow part of the rate limits: messages that no limit of ours concerns, and those over one.

    Arguments:
        background: for what nobody waits for.
        logger: where a limiter that raises is reported, once until it works again; meanwhile messages pass.
    """

    def __init__(self, background: Background, logger: Logger) -> None:
        self.limited_messages = 0
        """Messages that were dropped."""
        self._background = background
        self._logger = logger
        self._is_failing = False
        self._size = 0
        self._is_measuring = False

    def begin(self) -> None:
        """The server starts: its count begins anew, and what was asked before is not waited for."""
        self.limited_messages = 0
        self._is_measuring = False

    def judge(self, peer: Peer, event: SessionEvent, name: str, verdict: bool | None) -> Deferred | None:
        """Decide about an ``event`` that did not simply pass, and handle it or what that means.

        Arguments:
            verdict: of the client's :class:`~.rate_limits.Allowance`.
        """
        limiter = peer.server.config.rate_limiter
        if verdict is False or limiter is None:
            return self._exceed(peer, event, name)
        try:
            allowed = limiter.check(peer.id)
        except FAULTS as error:
            self._report(peer, name, error)
            return peer.handle_counted(event)
        if not isinstance(allowed, bool) and is_awaitable(allowed):
            return self._await_answer(peer, allowed, event, name)
        self._is_failing = False
        return peer.handle_counted(event) if allowed else self._exceed(peer, event, name)

    async def _await_answer(
        self, peer: Peer, answer: Awaitable[bool], event: SessionEvent, name: str
    ) -> None:
        is_allowed = True
        try:
            is_allowed = bool(await answer)
            self._is_failing = False
        except FAULTS as error:
            self._report(peer, name, error)
        rest = peer.handle_counted(event) if is_allowed else self._exceed(peer, event, name)
        if rest is not None:
            await rest

    def _report(self, peer: Peer, name: str, error: BaseException) -> None:
        if not self._is_failing:  # it may well fail for every message
            self._is_failing = True
            extra = fields_of(peer, event=name, reason=type(error).__name__)
            self._logger.error("rate_limiter.check raised; messages pass", exc_info=error, extra=extra)

    def _exceed(self, peer: Peer, event: SessionEvent, name: str) -> Deferred | None:
        self.limited_messages += 1
        if isinstance(peer.allowance, Revoked):
            return None  # it is being disconnected already
        self._answer(peer, event)
        answer = peer.server.hooks.ask(
            "on_rate_limit_exceeded",
            client_id=peer.id,
            event=name,
            limit=peer.allowance.limit_of(peer.server.config, name),
            ctx=Context(peer, name),
        )
        if not isinstance(answer, bool):
            return self._await_verdict(peer, name, answer)
        if answer:
            self._disconnect(peer, name)
        return None

    async def _await_verdict(self, peer: Peer, name: str, answer: Awaitable[bool]) -> None:
        if await answer:
            self._disconnect(peer, name)

    def _answer(self, peer: Peer, event: SessionEvent) -> None:
        if isinstance(event, AckRequest):
            Reply(peer, event).give_error("RATE_LIMITED", WORDS)

    def _disconnect(self, peer: Peer, name: str) -> None:
        peer.allowance = Revoked()
        extra = fields_of(peer, event=name, reason=WORDS)
        self._logger.warning("client %s is disconnected: %s", peer.id, WORDS.lower(), extra=extra)
        peer.close(_CODE, WORDS)

    # --- The application's limiter ------------------------------------------------------------------------

    def forget(self, peer: Peer) -> None:
        """A client has left."""
        limiter = peer.server.config.rate_limiter
        if limiter is not None and peer.id:
            self._background.call("rate_limiter.reset", limiter.reset, peer.id, peer=peer)

    def count_entries(self, limiter: RateLimiter | None) -> int:
        """Return how many keys ``limiter`` remembers; of an ``async`` one, what it said last."""
        if limiter is None:
            return 0
        if not self._is_measuring:
            self._background.call("rate_limiter.size", self._measure, limiter)
        return self._size

    def _measure(self, limiter: RateLimiter) -> Deferred | None:
        size = limiter.size()
        if isinstance(size, int):
            self._size = size
            return None
        self._is_measuring = True
        return self._await_size(size)

    async def _await_size(self, size: Awaitable[int]) -> None:
        try:
            self._size = int(await size)
        finally:
            self._is_measuring = False

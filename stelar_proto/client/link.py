"""One connection of a client: its session, and what the server's messages set off."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from stelar_proto.channel import Closed, Runtime, WaitableEvent
from stelar_proto.channel.dialing import Route
from stelar_proto.channel.handlers import Handler, is_awaitable
from stelar_proto.channel.logs import Repeats
from stelar_proto.errors import MessageError, PeerError, RemoteError, StateError
from stelar_proto.messages import AckError, AckRequest, AckResponse, Binary, Event, Invalid
from stelar_proto.session import Deferred, Opened, Session
from stelar_proto.session import Event as SessionEvent

from .incoming import Received
from .outgoing import Outgoing

if TYPE_CHECKING:
    from .application import ClientApplication

_GRACE = 1.0  # seconds for each further handler of a connection whose time is over

Call: TypeAlias = tuple[Handler, tuple[Any, ...]]
"""A handler, and what it is to be called with."""


class Told(NamedTuple):
    """Something of the client's own for handlers to know, in its turn behind what the server sent."""

    event: str
    arguments: tuple[Any, ...]


class Link(Outgoing):
    """One attempt at a connection, and the connection it becomes.

    Events of one client are handled in one order over all of its links: a link begins when its predecessor
    has handled everything.

    Arguments:
        client: whose connection it is.
        session: its protocol.
        runtime: the loop.
        route: where it leads.
    """

    __slots__ = ("_next", "_previous", "_repeats", "_taken_over", "goodbye", "lost", "route", "settled")

    def __init__(self, client: ClientApplication, session: Session, runtime: Runtime, route: Route) -> None:
        super().__init__(client, session, runtime)
        self.route = route
        self._previous: Link | None = None
        self._next: Link | None = None
        self._taken_over: WaitableEvent | None = None  # set when it waits for its predecessor no longer
        self._repeats = Repeats()  # what the server set off in the log
        self.goodbye: WaitableEvent | None = None
        """Set when the handlers of the end are done; there while they run."""
        self.settled = runtime.make_event()
        """Set when it is known whether the connection could be opened."""
        self.lost = runtime.make_event()
        """Set when the connection is gone, socket and all."""

    # --- One order over all links -----------------------------------------------------------------------

    def follow(self, previous: Link) -> None:
        """Handle nothing before ``previous``, which gets nothing more, has handled everything."""
        if previous._busy:
            self._busy = True
            self._previous, previous._next = previous, self
            self._taken_over = self._runtime.make_event()
            self._runtime.spawn(self._wait_for(previous, self._taken_over))

    async def _wait_for(self, previous: Link, taken_over: WaitableEvent) -> None:
        """Cancel what hangs in ``previous``: links that wait for each other must not pile up for ever."""
        timeout = self._client.config.handler_timeout
        cancelled: object = None
        while self._previous is not None and timeout is not None:
            await self._runtime.wait_for(taken_over, timeout)
            timeout = min(timeout, _GRACE)
            if self._previous is None or previous._previous is not None:
                continue  # it has nothing running either, and is seen to as this one is
            if previous._cancel_work is not cancelled:  # else it has been told, and goes on
                cancelled = previous._cancel_work
                self._client.handler_hangs()
            previous._cancel_work()

    def tell(self, event: str, *arguments: Any) -> None:
        """Have the handlers of an event of the client's own called, behind everything that waits."""
        self._take([Told(event, arguments)])  # type: ignore[list-item]  # _handle() knows it

    def _handle_waiting(self) -> Deferred | None:
        rest = super()._handle_waiting()
        if rest is None and self._next is not None:
            following, self._next = self._next, None
            following._previous = None
            following._take_over()
        return rest

    def _take_over(self) -> None:
        assert self._taken_over is not None
        self._taken_over.set()
        self._busy = False
        self._take(())

    def _goes_on_when_cancelled(self) -> bool:
        return self._client.is_running  # it was cancelled alone, and must not take others with it

    def last_words(self) -> list[Call]:
        """Take out the client's own events that were not handled, now that handlers run no more."""
        calls = self._previous.last_words() if self._previous is not None else []
        left, self._inbox = self._inbox, deque()
        for event in left:
            match event:
                case Closed():
                    calls += [(handler, ()) for handler in self._goodbyes(event)]
                case Opened():
                    calls += [(handler, ()) for handler in self._client.handlers_of("connect")]
                case Told(name, arguments):
                    calls += [(handler, arguments) for handler in self._client.handlers_of(name)]
                case _:
                    pass
        return calls

    async def say(self, calls: Sequence[Call]) -> None:
        """Call what :meth:`last_words` returned, one after the other."""
        for handler, arguments in calls:
            try:
                result = handler(*arguments)
                if is_awaitable(result):
                    await result
            except Exception as error:
                self._handler_raised(handler, error, arguments)

    def connection_lost(self) -> None:
        try:
            super().connection_lost()
        finally:
            self._client.forget(self)
            self.lost.set()

    # --- What happens -----------------------------------------------------------------------------------

    def _take(self, events: Sequence[SessionEvent]) -> None:
        if not self.was_open and any(type(event) is Opened for event in events):
            self.was_open = True
            self._client.opened(self)
            self.settled.set()
        if self._client.has_streams:
            for event in events:
                if isinstance(event, Event | Binary):
                    self._client.to_streams(Received(event[0], event[1], isinstance(event, Binary)))
        super()._take(events)

    def _on_closed(self, event: Closed) -> None:
        self.settled.set()
        super()._on_closed(event)
        self._client.ended(self, event)

    def _handle(self, event: SessionEvent) -> Deferred | None:
        client, kind = self._client, type(event)
        if kind is Event or kind is Binary:  # the cheapest test, for what most are
            name, data = event[:2]  # type: ignore[misc]  # kind is its type; so below
            return self._call(client.receivers_of(name, data, kind is Binary), data)  # type: ignore[arg-type]
        match event:
            case AckResponse(ack, data, _):
                handlers = client.ack_handlers_of(ack)
                if not handlers:
                    client.unmatched_answers += 1
                    self._logger.debug("an answer under %r came that nobody waits for", ack)
                return self._call(handlers, data)
            case AckError(_, code, message, _):
                refusal = RemoteError(code, message)
                client.note_error(refusal)
                return self._call(client.handlers_of("error"), refusal)
            case AckRequest(ack, name, _, correlation_id):
                words = f"a client does not answer {name!r}"
                with suppress(StateError, MessageError):  # the server is gone, or asks and does not read
                    self.session.send(AckError(ack, "NO_HANDLER", words, correlation_id))
                self.flush_soon()
            case Invalid(reason):
                level = self._repeats.level_of("invalid messages")
                extra = {**self._log_fields(), "reason": reason}
                self._logger.log(level, "from the server: %s", reason, extra=extra)
                invalid = PeerError(reason, code="INVALID_MESSAGE")
                client.note_error(invalid)
                return self._call(client.handlers_of("error"), invalid)
            case Opened():
                return self._call(client.handlers_of("connect"))
            case Closed():
                rest = self._call(self._goodbyes(event))
                return None if rest is None else self._finish_goodbye(rest)
            case _:
                assert isinstance(event, Told)
                return self._call(client.handlers_of(event.event), *event.arguments)
        return None

    async def _finish_goodbye(self, rest: Deferred) -> None:
        self.goodbye = self._runtime.make_event()
        try:
            await rest
        finally:
            self.goodbye.set()

    def _goodbyes(self, end: Closed) -> list[Handler]:
        """Return whom to tell of the end, behind which nothing more is handled."""
        quiet, words = self._repeats.quiet(), str(self._repeats)
        if quiet:
            extra = {**self._log_fields(), "reason": words, "repeats": quiet}
            place = f"{self.route.host}:{self.route.port}"
            self._logger.warning("the server at %s had more: %s", place, words, extra=extra)
        if not self.was_open:
            return []  # whoever asked for the connection is told
        client = self._client
        errors = client.handlers_of("error") if end.error is not None else ()
        return [
            *(partial(handler, end.error) for handler in errors),
            *(partial(handler, end.code, end.reason) for handler in client.handlers_of("disconnect")),
        ]

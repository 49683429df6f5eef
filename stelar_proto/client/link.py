"""One connection of a client: its session, what the server's messages set off, and what waits to be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from stelar_proto.channel import Closed, Runtime, WaitableEvent
from stelar_proto.channel.handlers import Handler, is_awaitable
from stelar_proto.errors import AckTimeout, ConnectionLost, MessageError, PeerError, RemoteError, StateError
from stelar_proto.messages import AckError, AckRequest, AckResponse, Binary, Event, Invalid, Join, Message
from stelar_proto.session import Deferred, Dispatcher, Opened, Session
from stelar_proto.session import Event as SessionEvent

from .incoming import Received
from .pace import Pace
from .queue import Queued, encode

if TYPE_CHECKING:
    from .application import ClientApplication

Call: TypeAlias = tuple[Handler, tuple[Any, ...]]
"""A handler, and what it is to be called with."""

_WRITE_SIZE = 64 * 1024  # what waits is written in pieces of about this many bytes
_LARGEST_JOIN = 2048  # the name of a room has 256 bytes, each of which JSON may have to escape


class Told(NamedTuple):
    """Something of the client's own for handlers to know, in its turn behind what the server sent."""

    event: str
    arguments: tuple[Any, ...]


class Link(Dispatcher):
    """One attempt at a connection, and the connection it becomes.

    Events of one client are handled in one order over all of its links: a link begins when its predecessor
    has handled everything.

    Arguments:
        client: whose connection it is.
        session: its protocol.
        runtime: the loop.
    """

    __slots__ = (
        "_caught_up",
        "_client",
        "_joins",
        "_left_off",
        "_next",
        "_pace",
        "_previous",
        "_resume_at",
        "goodbye",
        "lost",
        "settled",
        "was_open",
    )

    def __init__(self, client: ClientApplication, session: Session, runtime: Runtime) -> None:
        super().__init__(session, runtime, client.logger, inbox_limit=client.config.inbox_limit)
        self._client = client
        self._joins: deque[str] = deque()  # rooms
        self._caught_up: WaitableEvent | None = None
        self._left_off = 0  # messages that had been sent when the outbox was last empty
        self._pace: Pace  # from when it is open
        self._resume_at: float | None = None  # when more of what waits may be sent
        self._previous: Link | None = None
        self._next: Link | None = None
        self.was_open = False
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

    # --- For the transport ------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> bool:
        return super().receive_data(data) or (self._client.queue.size > 0 or bool(self._joins))

    def data_to_send(self) -> bytes:
        data = super().data_to_send()
        if not data and (self._client.queue.size or self._joins) and self.is_usable:
            self._fill_outbox()
            data = super().data_to_send()
        if not self.session.outbox.size:
            self._left_off = self.session.messages_sent
        return data

    def next_deadline(self) -> float | None:
        deadline, resume_at = super().next_deadline(), self._resume_at
        if resume_at is None or not self._has_more:
            return deadline
        return resume_at if deadline is None else min(deadline, resume_at)

    def handle_deadline(self, now: float) -> None:
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None  # the transport, which is told in any case, comes for more when it can
        super().handle_deadline(now)

    def connection_lost(self) -> None:
        try:
            super().connection_lost()
        finally:
            self._client.forget(self)
            self.lost.set()

    # --- What waits to be sent --------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether messages can be sent; its end, once it has come to be handled, is the end of that."""
        return self.was_open and self.end is None and self.session.can_send

    @property
    def _has_more(self) -> bool:
        return (self._client.queue.size > 0 or bool(self._joins)) and self.is_usable

    def send(self, message: Message) -> None:
        """Send ``message`` behind what waits.

        Raises:
            MessageError: it may not be sent, or is too large.
            StateError: the outbox is full.
        """
        if self._client.queue.size or self._joins:
            self.put(encode(message, self._client.format))
        else:
            self.session.send(message)
            self.flush_soon()

    def put(self, item: Queued) -> None:
        """Have ``item`` sent behind what waits.

        Raises:
            MessageError: it was accepted for another wire or other limits, and cannot be sent over this one.
            StateError: too much waits.
        """
        queue = self._client.queue
        if not (queue.size or self._joins):
            frame = self._frame_of(item)
            if self.session.outbox.has_room_for(frame):  # so it does not wait at all
                self.session.send_frame(frame, droppable=False)
                self.flush_soon()
                return
        if queue.size + item.size > self.session.config.outbox_limit:
            raise StateError(f"the outbox is full ({queue.size} bytes): await drain() before sending more")
        queue.append(item)
        self._pace.add()
        self.flush_soon()

    def rejoin(self, rooms: Sequence[str]) -> None:
        """Have the client join its rooms again, in front of everything that waits."""
        self._joins.extend(rooms)
        self._pace = Pace(self._client.config.queue_rate, self._runtime.now())

    def _fill_outbox(self) -> None:
        """Put into the empty outbox what the transport takes at once: what is written waits no longer."""
        outbox, queue, joins = self.session.outbox, self._client.queue, self._joins
        limit = min(_WRITE_SIZE, self.session.config.outbox_limit)
        while joins and (not outbox.size or outbox.size < limit - _LARGEST_JOIN) and self._is_due():
            self._send_waiting(Queued(Join(joins.popleft())))
        while (
            not joins
            and queue
            and (not outbox.size or outbox.size + queue.first().size < limit)
            and self._is_due()
        ):
            if self._send_waiting(queue.popleft()):
                self._client.sent_from_queue()
        if not joins and not queue:
            self._client.queue_is_empty()
            self._wake_caught_up()

    def _is_due(self) -> bool:
        """Tell whether the next of what waits may be sent; if not, see to it that it is in time."""
        if self._pace.take(self._runtime.now()):
            return True
        self._resume_at = self._pace.next_at()
        if self.session.on_deadline_changed is not None:
            self.session.on_deadline_changed()
        return False

    def _send_waiting(self, item: Queued) -> bool:
        """Send ``item``; False if that cannot be done, and then it is given up."""
        try:
            frame = self._frame_of(item)
            self.session.send_frame(frame, droppable=False)
        except MessageError as error:  # another wire or other limits than it was accepted for
            self._client.give_up(item, error)
            return False
        return True

    def _frame_of(self, item: Queued) -> bytes:
        if item.format is not self.session.format:
            item = encode(item.message, self.session.format)
        if isinstance(item.encoded, bytes):
            return item.encoded
        frame: bytes = self.session.codec.encode_message(*item.encoded)  # type: ignore[union-attr]  # of WebSocket
        return frame

    @property
    def runtime(self) -> Runtime:
        """The loop."""
        return self._runtime

    async def ask(self, ack: str, event: str, data: object, *, timeout: float) -> Any:
        if self._has_more:
            until = self._runtime.now() + timeout
            await self._runtime.wait_for(self._make_caught_up(), timeout)
            left = until - self._runtime.now()
            if self._has_more or left <= 0:
                raise AckTimeout(f"{ack!r} was not asked within {timeout:g} s: earlier messages still wait")
            if not self.is_usable:
                raise ConnectionLost("the connection ended before the question was sent")
            timeout = left
        return await super().ask(ack, event, data, timeout=timeout)

    async def catch_up(self) -> None:
        """Wait until nothing is queued in front of what is sent next, or the connection has ended."""
        while self._has_more:
            await self._make_caught_up().wait()

    async def drain(self) -> None:
        await self.catch_up()
        await super().drain()

    def _make_caught_up(self) -> WaitableEvent:
        if self._caught_up is None:
            self._caught_up = self._runtime.make_event()
        return self._caught_up

    def _wake_caught_up(self) -> None:
        if self._caught_up is not None:
            self._caught_up.set()
            self._caught_up = None

    @property
    def messages_lost(self) -> int:
        """How many messages were accepted and never left, once the connection is gone."""
        session = self.session
        return min(session.messages_dropped, session.messages_sent - self._left_off)

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
        self._wake_caught_up()
        self._client.ended(self, event)

    def _handle(self, event: SessionEvent) -> Deferred | None:
        client = self._client
        match event:
            case Event(name, data) | Binary(name, data):
                is_binary = type(event) is Binary
                return self._call(client.receivers_of(name, data, is_binary), data)
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
                self._logger.warning("from the server: %s", reason, extra={"reason": reason})
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
        if not self.was_open:
            return []  # whoever asked for the connection is told
        client = self._client
        errors = client.handlers_of("error") if end.error is not None else ()
        return [
            *(partial(handler, end.error) for handler in errors),
            *(partial(handler, end.code, end.reason) for handler in client.handlers_of("disconnect")),
        ]

"""One client as the server sees it: its session, its place in the hub, and what its messages set off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from stelar_proto.channel import Closed, State
from stelar_proto.channel.handlers import FAULTS, Handler, is_awaitable
from stelar_proto.channel.logs import Repeats
from stelar_proto.errors import HandlerError, MessageError
from stelar_proto.messages import (
    AckError,
    AckRequest,
    AckResponse,
    Binary,
    Event,
    Invalid,
    Join,
    Leave,
    Message,
    check_event_name,
)
from stelar_proto.session import Deferred, Dispatcher, Session
from stelar_proto.session import Event as SessionEvent
from stelar_proto.session.arguments import check_payload
from stelar_proto.wire import Format
from stelar_proto.ws import Request, RequestReceived, UpgradeRequested

from . import moves
from .context import Context
from .ip_tracking import Place
from .line import Line
from .rate_limits import Allowance
from .reply import Reply
from .reports import fields_of, warn
from .throttle import costly_name

_TOO_LARGE = ("PAYLOAD_TOO_LARGE", "FRAME_TOO_LARGE")

if TYPE_CHECKING:
    from .application import ServerApplication
    from .namespace import Namespace


class Peer(Dispatcher):
    """A connection from its first byte, and a client from the moment it is admitted.

    Arguments:
        server: whose client it is.
        session: its protocol.
        remote_address: its IP address.
    """

    __slots__ = (
        "_metadata",
        "allowance",
        "connected_at",
        "id",
        "is_admitted",
        "is_pending",
        "left_rooms",
        "line",
        "namespace",
        "place",
        "protocol",
        "remote_address",
        "repeats",
        "request",
        "rooms",
        "server",
    )

    def __init__(self, server: ServerApplication, session: Session, remote_address: str | None) -> None:
        super().__init__(session, server.runtime, server.logger, inbox_limit=server.config.inbox_limit)
        self.server = server
        self.namespace: Namespace = server
        """The server's own, until the path that a WebSocket client asks for says otherwise."""
        self.id = ""
        self.protocol: str = session.format.kind
        self.remote_address = remote_address
        self.request: Request | None = None
        self.rooms: set[str] = set()
        self.connected_at = 0.0
        self.is_admitted = False
        self.is_pending = False
        """Whether its middleware is under way."""
        self.left_rooms: tuple[str, ...] = ()
        """Where it was when it went."""
        self.line: Line | None = None
        """What waits for a hook; there from the first time that something may have to."""
        self.allowance = Allowance()
        self.place: Place | None = None
        """Its place among the connections of its address, from when that is known."""
        self.repeats: Repeats | None = None
        """What it set off that is a warning once; see ``reports``."""
        self._metadata: dict[str, Any] | None = None
        session.on_dropped = self._report_drops

    @property
    def metadata(self) -> dict[str, Any]:
        """The application's own notes on this client."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    # --- Sending ----------------------------------------------------------------------------------------

    def emit(self, event: str, data: Any) -> bool:
        """Send an event; False if the client is gone, or the event was dropped."""
        return self.send(Event(check_event_name(event), data), droppable=True)

    def emit_binary(self, event: str, payload: bytes) -> bool:
        """Send a binary event; False as above."""
        return self.send(Binary(check_event_name(event), check_payload(payload)), droppable=True)

    def send(self, message: Message, *, droppable: bool = False) -> bool:
        """Send any message; False if the client is gone, just ran out of its outbox, or it was dropped.

        Raises:
            MessageError: it cannot be said, or is too large.
        """
        session = self.session
        # Once its end has come to be handled, it is gone, even if our last words have not left yet.
        if self.end is not None or not session.can_send:
            return False
        return self.send_frame(session.format.encode_frame(message), droppable=droppable)

    def send_frame(self, frame: bytes, *, droppable: bool = True) -> bool:
        """Send what was encoded by the session's format, maybe for many; False as above."""
        is_taken = self.session.send_frame(frame, droppable=droppable)
        if self.transport is not None:
            self.transport.flush_soon()
        return is_taken

    def _report_drops(self, reason: str) -> None:
        policy, session = self.server.config.slow_consumer, self.session
        warn(
            self,
            "dropped messages",
            "messages for %s are dropped: %s",
            self.id,
            reason,
            reason=reason,
            slow_consumer=policy,
            outbox_size=session.outbox.size,
            messages_dropped=session.messages_dropped,
        )

    def _log_fields(self, event: str | None = None, error: BaseException | None = None) -> dict[str, Any]:
        return fields_of(self, event=event, reason=None if error is None else type(error).__name__)

    # --- Rooms ------------------------------------------------------------------------------------------

    def join_room(self, room: str) -> bool:
        """Enter ``room`` and confirm it; False if it did not, or if a hook has yet to say whether it may."""
        return moves.join(self, room)

    def leave_room(self, room: str) -> bool:
        """Leave ``room`` and confirm it; False as above."""
        return moves.leave(self, room)

    # --- What comes in ----------------------------------------------------------------------------------

    def _handle(self, event: SessionEvent, is_within_limits: bool = False) -> Deferred | None:
        """Handle ``event``, which is counted first, unless that has been done."""
        server, namespace = self.server, self.namespace
        kind = type(event)
        if kind is Event or kind is Binary:
            name, data = cast("tuple[str, Any]", event)
            if not is_within_limits:
                verdict = self.allowance.take(server.config, name, self.session._now)
                if verdict is not True:
                    return server.throttle.judge(self, event, name, verdict)
            handlers = namespace.handlers.get(name, namespace.catch_all)
            if handlers:
                return self._call(handlers, Context(self, name, data, is_binary=kind is Binary))
            return None
        if not is_within_limits and (cost := costly_name(event)) is not None:
            verdict = self.allowance.take(server.config, cost, self.session._now)
            if verdict is not True:
                return server.throttle.judge(self, event, cost, verdict)
        match event:
            case AckRequest():
                return self._answer(event)
            case Join(room):
                try:
                    self.join_room(room)
                except MessageError as error:
                    return server.receive_invalid(self, f"a room could not be joined: {error}")
                return moves.settle(self)
            case Leave(room):
                self.leave_room(room)
                return moves.settle(self)
            case UpgradeRequested(request):
                go_on = partial(server.admission.ask, self, request)
                return self.after(server.gate.identify(self, request), go_on)
            case RequestReceived(request):
                return server.receive_request(self, request)
            case Invalid(reason):
                return server.receive_invalid(self, reason)
            case AckResponse(ack) | AckError(ack):
                return server.receive_invalid(self, f"an answer that nobody asked for: {ack!r}")
            case Closed() if self.is_admitted:
                return self._part(event)
            case _:
                pass
        return None

    def handle_counted(self, event: SessionEvent) -> Deferred | None:
        """Handle ``event``, which is within all limits; return the rest if an awaitable came up."""
        return self._handle(event, is_within_limits=True)

    def _on_closed(self, event: Closed) -> None:
        if self.is_pending or (self.place is not None and self.place.is_being_checked):
            self._forget_waiting()
            self._cancel_work()
        self.server.remove(self, event)

    def connection_lost(self) -> None:
        try:
            super().connection_lost()
        finally:
            self.server.forget(self)

    def _goes_on_when_cancelled(self) -> bool:
        if self.server.is_cut:
            self._abandon()
        return True  # it was cancelled alone, and must not hold up what stands behind it

    def begin(self) -> None:
        """The connection is there: it is counted, and over TCP, which knows no handshake, asks to come in."""
        server = self.server
        rest = server.gate.arrive(self)
        if self.protocol == "tcp":
            rest = self.after(rest, partial(server.admission.ask, self))
        if rest is not None:
            self._start(rest)

    def refuse(self, status: int, message: str) -> None:
        """Turn the client away; what it has said already is not looked at."""
        self._forget_waiting()
        self.session.refuse(status, message)
        self.flush_soon()

    def close(self, code: int, reason: str) -> None:
        # One that is not taken in is known only to a server that shuts down.
        if self.is_pending and self.session.state is State.CONNECTING:
            self.server.admission.shut_out(self)
            self._cancel_work()
        else:
            super().close(code, reason)

    def _forget_waiting(self) -> None:
        self.is_pending = False
        self._inbox.clear()
        if self.paused:
            self._pause(False)

    def after(self, counting: Deferred | None, go_on: Callable[[], Deferred | None]) -> Deferred | None:
        """Go on when the connection has been counted; return what takes a while of both."""
        if counting is not None:
            return self._go_on_after(counting, go_on)
        rest = go_on()
        self.flush_soon()  # it may be a task that does this
        return rest

    async def _go_on_after(self, counting: Deferred, go_on: Callable[[], Deferred | None]) -> None:
        await counting
        if self.session.state is not State.CONNECTING:
            return  # it has gone meanwhile, or the server shut down
        rest = go_on()
        self.flush_soon()
        if rest is not None:
            await rest

    def greet(self) -> Deferred | None:
        """Run the hook and the handlers of a new client, in front of everything it says."""
        context = Context(self, "connect")
        return self._call_behind(moves.tell_arrival(context), self.namespace.connection_handlers, context)

    def _part(self, end: Closed) -> Deferred | None:
        """Run the hooks and the handlers of a client that has gone, behind everything it said."""
        context = Context(self, "disconnect", {"code": end.code, "reason": end.reason})
        told = moves.tell_departure(context, end)
        return self._call_behind(told, self.namespace.disconnect_handlers, context)

    def _call_behind(
        self, told: Deferred | None, handlers: Sequence[Handler], context: Context
    ) -> Deferred | None:
        return self._call(handlers, context) if told is None else self._call_later(told, handlers, context)

    async def _call_later(self, told: Deferred, handlers: Sequence[Handler], context: Context) -> None:
        await told
        rest = self._call(handlers, context)
        if rest is not None:
            await rest

    # --- Requests ---------------------------------------------------------------------------------------

    def _answer(self, request: AckRequest) -> Deferred | None:
        reply = Reply(self, request)
        context = Context(self, request.event, request.data, reply=reply)
        handler = self.namespace.ack_handlers.get(request.event)
        if handler is None:
            handlers = self.namespace.handlers.get(request.event)
            if handlers is not None:  # an ordinary handler may answer with ctx.ack()
                return self._call(handlers, context)
            reply.give_error("NO_HANDLER", f"nothing here answers {request.event!r}")
            return None
        try:
            result = handler(context)
        except FAULTS as error:
            self._handler_raised(handler, error, (context,))
        else:
            if result is not None and is_awaitable(result):
                return self._await_answer(handler, result, context)
            self._give(handler, result, context)
        return None

    async def _await_answer(self, handler: Handler, result: Awaitable[Any], context: Context) -> None:
        try:
            answer = await result
        except FAULTS as error:
            self._handler_raised(handler, error, (context,))
        except BaseException as error:
            self._handler_cancelled(handler, error, (context,))
            raise
        else:
            self._give(handler, answer, context)

    def _give(self, handler: Handler, answer: Any, context: Context) -> None:
        reply = context._reply
        assert reply is not None
        if not reply.given:  # by ctx.ack()
            try:
                reply.give(answer)
            except MessageError as error:
                # What the handler returned cannot be sent; the requester learns that, and not more.
                if error.code in _TOO_LARGE:
                    reply.give_error("PAYLOAD_TOO_LARGE", "the answer is too large")
                self._handler_raised(handler, error, (context,))

    def _handler_raised(
        self, handler: Handler, error: BaseException, arguments: tuple[Any, ...], event: str | None = None
    ) -> None:
        context: Context = arguments[0]
        reply = context._reply
        asked = None if reply is None or reply.given else reply
        if asked is not None and isinstance(error, HandlerError):
            asked.give_error(error.code, error.message)
            return
        super()._handler_raised(handler, error, arguments, context.event)
        if asked is not None:
            asked.give_failure()

    def _handler_cancelled(self, handler: Handler, error: BaseException, arguments: tuple[Any, ...]) -> None:
        if isinstance(error, GeneratorExit):
            return  # the loop has ended
        if not self.server.is_cut:
            self._report_handler(handler, "was cancelled", error, arguments[0].event)
        reply = arguments[0]._reply
        if reply is not None and not reply.given:
            reply.give_failure()


def send_at_once(peers: Iterable[Peer], frames: Mapping[Format, bytes]) -> int:
    """Send each peer the frame of its format, past an outbox that is empty; return to how many.

    This is the hottest loop there is: of what it costs, the system's part is to be nearly all.
    """
    count, wire, frame, size = 0, None, b"", 0
    for peer in peers:
        session, transport = peer.session, peer.transport
        if session.format is not wire:
            wire = session.format
            frame = frames[wire]
            size = len(frame)
        outbox = session.outbox
        if (
            outbox.size
            or size > outbox.largest
            or transport is None
            or not session.can_send
            or not transport.write(frame)
        ):
            count += peer.send_frame(frame)
        else:
            session.messages_sent += 1
            count += 1
    return count

"""One client as the server sees it: its session, its place in the hub, and what its messages set off."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

from ..errors import HandlerError, MessageError
from ..messages import (
    JOINED_ROOM,
    LEFT_ROOM,
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
from ..session import Closed, Endpoint, Session, State
from ..session import Event as SessionEvent
from ..session.endpoint import Deferred, Handler, is_awaitable
from ..wire import is_room_name
from ..ws import Request, RequestReceived, UpgradeRequested
from ..ws.close import encode_close
from .context import Context

if TYPE_CHECKING:
    from .application import ServerApplication


class Peer(Endpoint):
    """A connection from its first byte, and a client from the moment it is admitted.

    Arguments:
        server: whose client it is.
        session: its protocol.
        remote_address: its IP address.
    """

    __slots__ = (
        "_metadata",
        "connected_at",
        "id",
        "is_admitted",
        "protocol",
        "remote_address",
        "request",
        "rooms",
        "server",
    )

    def __init__(self, server: ServerApplication, session: Session, remote_address: str | None) -> None:
        super().__init__(session, server.runtime, server.logger, inbox_limit=server.config.inbox_limit)
        self.server = server
        self.id = ""
        self.protocol: str = session.format.kind
        self.remote_address = remote_address
        self.request: Request | None = None
        self.rooms: set[str] = set()
        self.connected_at = 0.0
        self.is_admitted = False
        self._metadata: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """The application's own notes on this client."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    # --- Sending ------------------------------------------------------------------------------------------

    def emit(self, event: str, data: Any) -> bool:
        """Send an event; False if the client is gone."""
        return self.send(Event(check_event_name(event), data))

    def emit_binary(self, event: str, payload: bytes) -> bool:
        """Send a binary event; False if the client is gone."""
        return self.send(Binary(check_event_name(event), bytes(payload)))

    def send(self, message: Message) -> bool:
        """Send any message; False if the client is gone."""
        if self.session.state is not State.OPEN:
            return False
        self.session.send(message)
        self.flush_soon()
        return True

    def send_frame(self, frame: bytes) -> None:
        """Send what was encoded once for many."""
        self.session.send_frame(frame)
        self.flush_soon()

    def disconnect(self, code: int, reason: str) -> None:
        """Close the connection behind everything that was sent."""
        encode_close(code)  # raises for a code that must not be sent, on either wire
        self.session.close(code, reason, self._runtime.now())
        self.flush_soon()

    # --- Rooms --------------------------------------------------------------------------------------------

    def join_room(self, room: str) -> bool:
        """Enter ``room`` and confirm it; False if the client is in it already or a limit is reached."""
        if not is_room_name(room):
            raise ValueError(f"a room name is a text of 1 to 256 bytes, not {room[:64]!r}")
        if not self.server.join(self, room):
            return False
        self.send(Event(JOINED_ROOM, room))
        return True

    def leave_room(self, room: str) -> bool:
        """Leave ``room`` and confirm it; False if the client was not in it."""
        if not self.server.hub.leave(self, room):
            return False
        self.send(Event(LEFT_ROOM, room))
        return True

    # --- What comes in ------------------------------------------------------------------------------------

    def _handle(self, event: SessionEvent) -> Deferred | None:
        server = self.server
        kind = type(event)
        if kind is Event or kind is Binary:
            name, data = cast("tuple[str, Any]", event)
            handlers = server.handlers.get(name, server.catch_all)
            if handlers:
                return self._call(handlers, Context(self, name, data, is_binary=kind is Binary))
            return None
        match event:
            case AckRequest():
                return self._answer(event)
            case Join(room):
                self.join_room(room)
            case Leave(room):
                self.leave_room(room)
            case UpgradeRequested(request):
                return server.receive_upgrade(self, request)
            case RequestReceived(request):
                return server.receive_request(self, request)
            case Invalid(reason):
                server.receive_invalid(self, reason)
            case Closed(code, reason, _) if self.is_admitted:
                how = {"code": code, "reason": reason}
                return self._call(server.disconnect_handlers, Context(self, "disconnect", how))
            case _:
                pass
        return None

    def _on_closed(self, event: Closed) -> None:
        super()._on_closed(event)
        self.server.remove(self, event)

    def connection_lost(self) -> None:
        super().connection_lost()
        self.server.forget(self)

    def begin(self) -> None:
        """TCP: there is no handshake to wait for; the server speaks first."""
        rest = self.server.admit(self)
        if rest is not None:
            self._start(rest)

    def greet(self) -> Deferred | None:
        """Run the handlers of a new client, in front of everything it says."""
        return self._call(self.server.connection_handlers, Context(self, "connect"))

    # --- Requests -----------------------------------------------------------------------------------------

    def _answer(self, request: AckRequest) -> Deferred | None:
        handler = self.server.ack_handlers.get(request.event)
        if handler is None:
            handlers = self.server.handlers.get(request.event)
            if handlers is not None:  # an ordinary handler may answer with ctx.ack()
                return self._call(handlers, Context(self, request.event, request.data, request=request))
            self._answer_error(request, "NO_HANDLER", f"nothing here answers {request.event!r}")
            return None
        try:
            result = handler(Context(self, request.event, request.data, request=request))
        except Exception as error:
            self._answer_raised(request, handler, error)
            return None
        if result is not None and is_awaitable(result):
            return self._await_answer(request, handler, result)
        self._answer_result(request, handler, result)
        return None

    async def _await_answer(self, request: AckRequest, handler: Handler, result: Awaitable[Any]) -> None:
        try:
            answer = await result
        except Exception as error:
            self._answer_raised(request, handler, error)
        else:
            self._answer_result(request, handler, answer)

    def _answer_result(self, request: AckRequest, handler: Handler, result: Any) -> None:
        try:
            self.send(AckResponse(request.ack, result, request.correlation_id))
        except MessageError as error:
            # What the handler returned cannot be sent; the requester learns that, and not more.
            self._answer_raised(request, handler, error)

    def _answer_raised(self, request: AckRequest, handler: Handler, error: Exception) -> None:
        if isinstance(error, HandlerError):
            self._answer_error(request, error.code, error.message)
            return
        self._log_handler(handler)
        self._answer_error(request, "HANDLER_ERROR", "the handler failed")

    def _answer_error(self, request: AckRequest, code: str, message: str) -> None:
        self.send(AckError(request.ack, code, message, request.correlation_id))

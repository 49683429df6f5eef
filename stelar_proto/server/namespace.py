"""One namespace of a server: its handlers, clients and rooms, and all that is said to its clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from stelar_proto.channel.handlers import check_handler
from stelar_proto.messages import Binary, Event, Message, check_event_name
from stelar_proto.session.arguments import check_payload

from .handlers import HandlerRegistry
from .hub import Hub
from .middleware import Middleware

if TYPE_CHECKING:
    from .application import ServerApplication
    from .peer import Peer

M = TypeVar("M", bound=Middleware)


class Namespace(HandlerRegistry):
    """The clients that connected to one path, apart from those of all others.

    :meth:`ServerApplication.of` makes them. The server itself is the namespace of its option ``namespace``,
    and of all TCP clients, which have no path.

    Attributes:
        path: where WebSocket clients connect.
    """

    def __init__(self, server: ServerApplication, path: str) -> None:
        super().__init__()
        self.path = path
        self.hub: Hub[Peer] = Hub()
        self.middleware: tuple[Middleware, ...] = ()
        self._server = server

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}, {len(self.hub)} clients>"

    def use(self, middleware: M) -> M:
        """Ask ``middleware(ctx, next)`` about each client that wants to be taken in here; also a decorator.

        Several are asked in order, in front of the 101, or of the Connect frame. Not calling ``next()``
        refuses with 403, ``ctx.reject(status, message)`` with words of its own, raising with 500; all of them
        together have what is left of ``connect_timeout``. See :class:`ConnectContext`.

        Raises:
            TypeError: the middleware is no function.
        """
        self.middleware += (check_handler(middleware),)
        return middleware

    # --- Sending ----------------------------------------------------------------------------------------

    def broadcast(self, event: str, data: Any = None, exclude_id: str | None = None) -> int:
        """Send an event to every client of the namespace; return to how many.

        It is encoded once per wire, not once per client.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        return self._send_to_many(None, Event(check_event_name(event), data), exclude_id)

    def broadcast_binary(self, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to every client of the namespace; return to how many."""
        return self._send_to_many(None, Binary(check_event_name(event), check_payload(payload)), exclude_id)

    def to(self, room: str, event: str, data: Any = None, exclude_id: str | None = None) -> int:
        """Send an event to everyone in ``room``; return to how many."""
        return self._send_to_many(room, Event(check_event_name(event), data), exclude_id)

    def to_binary(self, room: str, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to everyone in ``room``; return to how many."""
        return self._send_to_many(room, Binary(check_event_name(event), check_payload(payload)), exclude_id)

    def to_id(self, client_id: str, event: str, data: Any = None) -> bool:
        """Send to one client; return whether there is such a client in the namespace.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        check_event_name(event)
        peer = self.hub.get(client_id)
        return peer is not None and peer.emit(event, data)

    def _send_to_many(self, room: str | None, message: Message, exclude_id: str | None) -> int:
        recipients = [peer for peer in self.hub.members(room) if peer.id != exclude_id]
        # Encoded for every wire before it goes to anybody: what one of them cannot say must not reach half.
        frames = {wire: wire.encode_frame(message) for wire in {peer.session.format for peer in recipients}}
        if not frames:  # what cannot be said is wrong even if nobody listens
            self._server.ws_format.encode_frame(message)
        return sum(peer.send_frame(frames[peer.session.format]) for peer in recipients)

    def disconnect(self, client_id: str, code: int = 1000, reason: str = "") -> bool:
        """Close one client's connection; return whether there is such a client in the namespace.

        Raises:
            MessageError: the close code must not be sent.
        """
        peer = self.hub.get(client_id)
        if peer is None:
            return False
        peer.close(code, reason)
        return True

    # --- Information ------------------------------------------------------------------------------------

    def get_clients(self, room: str | None = None) -> list[str]:
        """Return the ids of the namespace's clients, or of those in ``room``, in the order they came."""
        return [peer.id for peer in self.hub.members(room)]

    def get_room_members(self, room: str) -> list[str]:
        """Return the ids of the clients in ``room``, in the order they came."""
        return self.get_clients(room)

    def get_rooms(self) -> list[str]:
        """Return the names of the namespace's rooms; a room exists as long as somebody is in it."""
        return self.hub.rooms()

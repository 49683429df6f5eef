"""One namespace of a server: its handlers, clients and rooms, and all that is said to its clients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from stelar_proto.channel.handlers import check_handler
from stelar_proto.messages import Binary, Event, Message, check_event_name
from stelar_proto.session.arguments import check_client_id, check_payload, check_room_name
from stelar_proto.wire import Format
from stelar_proto.ws.close import check_close

from .handlers import HandlerRegistry
from .hub import Hub
from .line import Action, Line
from .middleware import Middleware
from .peer import send_at_once

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
        self._line: Line | None = None
        self._is_gathering = False  # something was said to many in this turn of the loop

    def begin_anew(self) -> None:
        """The server starts: nothing is left of an earlier time."""
        self._line = None
        self._is_gathering = False

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
        self.middleware += (check_handler(middleware, "ctx", "next"),)
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
        """Send an event to everyone in ``room``; return to how many.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
            ValueError, TypeError: nothing can be a room of that name.
        """
        return self._send_to_many(check_room_name(room), Event(check_event_name(event), data), exclude_id)

    def to_binary(self, room: str, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to everyone in ``room``; return to how many."""
        return self._send_to_many(
            check_room_name(room), Binary(check_event_name(event), check_payload(payload)), exclude_id
        )

    def to_id(self, client_id: str, event: str, data: Any = None) -> bool:
        """Send to one client; return whether there is such a client in the namespace.

        Also False, as with :meth:`Context.emit`, if it is just going or its message was dropped.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
            TypeError: the id is no str.
        """
        peer = self.hub.get(check_client_id(client_id))
        if peer is None:  # what cannot be said is wrong even if nobody listens
            self._server.ws_format.encode_frame(Event(check_event_name(event), data))
            return False
        return peer.emit(event, data)

    def _send_to_many(self, room: str | None, message: Event | Binary, exclude_id: str | None) -> int:
        if exclude_id is not None:
            check_client_id(exclude_id)
        hooks, hook = self._server.hooks, "on_before_broadcast"
        if hook in hooks and not hooks.is_running(hook) and self._server.is_running:
            return self._ask_and_send(hook, room, message, exclude_id)
        return self._send_frames(room, message, exclude_id, {})

    def _ask_and_send(
        self, hook: str, room: str | None, message: Event | Binary, exclude_id: str | None
    ) -> int:
        name, data = message
        arguments = {
            "event": name,
            "data": data,
            "is_binary": type(message) is Binary,
            "room": room,
            "exclude_id": exclude_id,
            "namespace": self.path,
        }
        # Encoded now: what cannot be said is wrong at the call, and what is said is what it was then.
        frames = self._encode(message, self._recipients(room, exclude_id), {})
        if self._line is None:
            self._line = self._server.make_line()
        act = partial(self._send_frames, room, message, exclude_id, frames)
        return self._line.do(Action(hook, arguments, lambda: True, act))

    def _recipients(self, room: str | None, exclude_id: str | None) -> list[Peer]:
        members = self.hub.members(room)
        return list(members) if exclude_id is None else [peer for peer in members if peer.id != exclude_id]

    def _encode(
        self, message: Message, recipients: list[Peer], known: dict[Format, bytes]
    ) -> dict[Format, bytes]:
        # Encoded for every wire before it goes to anybody: what one of them cannot say must not reach half.
        wires = {peer.session.format for peer in recipients}
        frames = {wire: known.get(wire) or wire.encode_frame(message) for wire in wires}
        if not frames:  # what cannot be said is wrong even if nobody listens
            self._server.ws_format.encode_frame(message)
        return frames

    def _send_frames(
        self, room: str | None, message: Message, exclude_id: str | None, known: dict[Format, bytes]
    ) -> int:
        recipients = self._recipients(room, exclude_id)
        frames = self._encode(message, recipients, known)
        if self._is_gathering or not recipients:
            return sum([peer.send_frame(frames[peer.session.format]) for peer in recipients])
        self._is_gathering = True
        self._server.runtime.flush_soon(self)
        return send_at_once(recipients, frames)

    def flush(self) -> None:
        """The turn of the loop is over. What is said first in one leaves at once, the shortest way; what
        follows in it is joined, so that each client gets it in one write."""
        self._is_gathering = False

    def disconnect(self, client_id: str, code: int = 1000, reason: str = "") -> bool:
        """Close one client's connection; return whether there is such a client in the namespace.

        Raises:
            MessageError: the close code must not be sent.
            TypeError: an argument is of the wrong type.
        """
        check_close(code, reason)
        peer = self.hub.get(check_client_id(client_id))
        if peer is None:
            return False
        peer.close(code, reason)
        return True

    # --- Information ------------------------------------------------------------------------------------

    def get_clients(self, room: str | None = None) -> list[str]:
        """Return the ids of the namespace's clients, or of those in ``room``, in the order they came.

        Raises:
            ValueError, TypeError: nothing can be a room of that name.
        """
        members = self.hub.members(None if room is None else check_room_name(room))
        return [peer.id for peer in members]

    def get_room_members(self, room: str) -> list[str]:
        """Return the ids of the clients in ``room``, in the order they came.

        Raises:
            ValueError, TypeError: nothing can be a room of that name.
        """
        return self.get_clients(check_room_name(room))

    def get_rooms(self) -> list[str]:
        """Return the names of the namespace's rooms; a room exists as long as somebody is in it."""
        return self.hub.rooms()

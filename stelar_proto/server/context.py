"""What a handler is given: the client that spoke, what it said, and the ways to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stelar_proto.messages import AckResponse, Event, check_event_name
from stelar_proto.session.arguments import check_ack_name
from stelar_proto.ws import Request

if TYPE_CHECKING:
    from .peer import Peer
    from .reply import Reply


class ClientInfo:
    """What is known of a client; alive, not a copy."""

    __slots__ = ("_peer",)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __repr__(self) -> str:
        return f"<ClientInfo {self.protocol} {self.remote_address} rooms={sorted(self.rooms)}>"

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in."""
        return frozenset(self._peer.rooms)

    @property
    def metadata(self) -> dict[str, Any]:
        """What :meth:`Context.set_metadata` stored."""
        return self._peer.metadata

    @property
    def remote_address(self) -> str | None:
        """Its IP address; None over a Unix socket."""
        return self._peer.remote_address

    @property
    def protocol(self) -> str:
        """``"ws"`` or ``"tcp"``."""
        return self._peer.protocol

    @property
    def connected_at(self) -> float:
        """When it was taken in, seconds since 1970."""
        return self._peer.connected_at

    @property
    def messages_received(self) -> int:
        """Messages from it, heartbeats aside."""
        return self._peer.session.messages_received

    @property
    def messages_sent(self) -> int:
        """Messages to it, heartbeats aside."""
        return self._peer.session.messages_sent

    @property
    def messages_dropped(self) -> int:
        """Messages for it that were dropped because it did not read: see ``slow_consumer``."""
        return self._peer.session.messages_dropped


class ClientContext:
    """What handlers and middleware know of a client."""

    __slots__ = ("_peer",)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @property
    def transport(self) -> str:
        """``"ws"`` or ``"tcp"``."""
        return self._peer.protocol

    @property
    def request(self) -> Request | None:
        """The HTTP request of the WebSocket handshake; None on TCP."""
        return self._peer.request

    @property
    def subprotocol(self) -> str | None:
        """What was chosen of the subprotocols that the client offered; None if nothing, and on TCP."""
        return self._peer.session.subprotocol

    @property
    def client_info(self) -> ClientInfo:
        """Rooms, metadata, address, counters."""
        return ClientInfo(self._peer)

    def set_metadata(self, key: str, value: Any) -> None:
        """Keep ``value`` with the client as long as it is connected."""
        self._peer.metadata[key] = value

    def get_metadata(self, key: str, default: Any = None) -> Any:
        """Return what :meth:`set_metadata` stored."""
        return self._peer.metadata.get(key, default)


class Context(ClientContext):
    """The argument of every handler.

    Sending is a plain call that never waits: it encodes, puts the bytes into the client's outbox and returns
    whether they are there: not if the client is gone, or did not read and ``slow_consumer`` has them dropped.
    ``await ctx.drain()`` waits for a slow one.

    Attributes:
        event: the event's name; ``connect`` and ``disconnect`` in those handlers.
        data: its data: JSON, or ``bytes`` if :attr:`is_binary`. In an ``on_disconnect`` handler
            ``{"code": …, "reason": …}``, in the terms of WebSocket on either wire.
        is_binary: whether :attr:`data` is the payload of a binary event.
    """

    __slots__ = ("_reply", "data", "event", "is_binary")

    def __init__(
        self,
        peer: Peer,
        event: str,
        data: Any = None,
        *,
        is_binary: bool = False,
        reply: Reply | None = None,
    ) -> None:
        self._peer = peer
        self._reply = reply
        self.event = event
        self.data = data
        self.is_binary = is_binary

    def __repr__(self) -> str:
        return f"<Context {self.event!r} from {self.id} over {self.transport}>"

    # --- Who spoke --------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The client's id."""
        return self._peer.id

    # --- To the client ----------------------------------------------------------------------------------

    def emit(self, event: str, data: Any = None) -> bool:
        """Send the client an event with JSON data.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        return self._peer.emit(event, data)

    def emit_binary(self, event: str, payload: bytes) -> bool:
        """Send the client an event with raw bytes.

        Raises:
            MessageError: the name breaks the rules, or the payload is too large.
        """
        return self._peer.emit_binary(event, payload)

    def ack(self, ack_name: str, data: Any = None) -> bool:
        """Answer a request by its ack name: the one being handled if it goes by it, else the client's oldest.

        In an ``on_ack`` handler, return the answer instead.

        Raises:
            MessageError: the name is empty or longer than 256 bytes, or the data is not JSON or too large.
        """
        if self._reply is not None and self._reply.ack == ack_name:
            return self._reply.give(data)
        return self._peer.send(AckResponse(check_ack_name(ack_name), data, None))

    def send(self, ack_name: str, data: Any = None) -> bool:
        """Send ``{"data": data, "_isAck": true}`` as an event, as the npm package's ``ctx.send`` does.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        return self._peer.send(Event(check_event_name(ack_name), {"data": data, "_isAck": True}))

    async def drain(self) -> None:
        """Wait until the client's outbox is below its low-water mark, or the client is gone."""
        await self._peer.drain()

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """Close the client's connection, behind everything that was sent to it.

        Raises:
            MessageError: the close code must not be sent.
        """
        self._peer.close(code, reason)

    # --- To others --------------------------------------------------------------------------------------

    def broadcast(self, event: str, data: Any = None) -> int:
        """Send to everyone in the client's namespace but this client; return to how many."""
        return self._peer.namespace.broadcast(event, data, exclude_id=self.id)

    def broadcast_binary(self, event: str, payload: bytes) -> int:
        """Send raw bytes to everyone in the namespace but this client; return to how many."""
        return self._peer.namespace.broadcast_binary(event, payload, exclude_id=self.id)

    def to(self, room: str, event: str, data: Any = None) -> int:
        """Send to everyone in ``room`` but this client; return to how many."""
        return self._peer.namespace.to(room, event, data, exclude_id=self.id)

    def to_binary(self, room: str, event: str, payload: bytes) -> int:
        """Send raw bytes to everyone in ``room`` but this client; return to how many."""
        return self._peer.namespace.to_binary(room, event, payload, exclude_id=self.id)

    def to_id(self, client_id: str, event: str, data: Any = None) -> bool:
        """Send to one client of the namespace; return whether there is such a client."""
        return self._peer.namespace.to_id(client_id, event, data)

    # --- Rooms ------------------------------------------------------------------------------------------

    def join_room(self, room: str) -> bool:
        """Put the client into ``room``, which it is told.

        Returns False, and nothing happened, if it is there already, a limit is reached, or it is gone.

        Raises:
            ValueError: the name is empty or longer than 256 bytes, or too long for ``max_payload_size``.
        """
        return self._peer.join_room(room)

    def leave_room(self, room: str) -> bool:
        """Take the client out of ``room``, which it is told; False if it was not in it.

        Raises:
            ValueError, TypeError: nothing can be a room of that name.
        """
        return self._peer.leave_room(room)

    def get_clients(self, room: str | None = None) -> list[str]:
        """Return the ids of the namespace's clients, or of those in ``room``."""
        return self._peer.namespace.get_clients(room)

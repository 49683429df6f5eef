"""A client's way into rooms and out of them, and in and out of the house: limits, hooks, confirmations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from stelar_proto.channel import Closed
from stelar_proto.errors import FrameTooLarge, MessageTooBig
from stelar_proto.messages import JOINED_ROOM, LEFT_ROOM, Event
from stelar_proto.session import Deferred
from stelar_proto.session.arguments import check_room_name

from .context import Context
from .hooks import Call
from .line import Action, Line
from .reports import warn

if TYPE_CHECKING:
    from .peer import Peer


def join(peer: Peer, room: str) -> bool:
    """Put a client into ``room``, and confirm it; False if that did not happen, or has to wait for a hook.

    Raises:
        ValueError: the name cannot name a room.
        MessageError: it cannot be confirmed.
    """
    check_room_name(room)
    # What cannot be confirmed must not happen, so the words come first.
    confirmation = peer.session.format.encode_frame(Event(JOINED_ROOM, room))
    peer.session.demand_small(confirmation)

    def act() -> bool:
        return peer.namespace.hub.join(peer, room) and peer.send_frame(confirmation, droppable=False)

    return _do(
        peer, "on_client_join_room", Context(peer, "join-room", room), partial(_may_join, peer, room), act
    )


def leave(peer: Peer, room: str) -> bool:
    """Take a client out of ``room``, and confirm it; False as above.

    Raises:
        ValueError, TypeError: the name cannot name a room.
    """
    check_room_name(room)

    def act() -> bool:
        peer.namespace.hub.leave(peer, room)
        peer.send(Event(LEFT_ROOM, room))
        return True

    context = Context(peer, "leave-room", room)
    return _do(peer, "on_client_leave_room", context, lambda: room in peer.rooms, act, is_disconnect=False)


def settle(peer: Peer) -> Deferred | None:
    """Return what waits for all that was asked for, if something waits for a hook."""
    return None if peer.line is None else peer.line.settle()


def _do(
    peer: Peer,
    hook: str,
    context: Context,
    is_possible: Callable[[], bool],
    act: Callable[[], bool],
    **arguments: Any,
) -> bool:
    """Do what ``hook`` may refuse, behind what waits for such a hook already."""
    hooks = peer.server.hooks
    is_waiting = peer.line is not None and peer.line.is_busy
    if hooks.is_running(hook) or not (hook in hooks or is_waiting):
        return is_possible() and act()
    arguments |= {**_about(context), "room": context.data}
    return _line_of(peer).do(Action(hook, arguments, is_possible, act)) > 0


def _may_join(peer: Peer, room: str) -> bool:
    """Tell whether a client can be put into ``room`` within the limits."""
    if room in peer.rooms or not peer.session.can_send:
        return False
    config, hub = peer.server.config, peer.namespace.hub
    current, limit = len(peer.rooms), config.max_rooms_per_client
    if current >= limit:
        _refuse(peer, room, f"it is in {current} rooms")
        _tell(peer, "on_max_rooms_per_client_reached", room=room, limit=limit, current=current)
        return False
    if hub.has_room(room):
        return True
    current, limit = peer.server.count_rooms(), config.max_rooms
    if current >= limit:
        _refuse(peer, room, f"there are {current} rooms")
        _tell(peer, "on_max_rooms_reached", room=room, limit=limit, current=current)
        return False
    return True


def _refuse(peer: Peer, room: str, reason: str) -> None:
    words = "%s may not join %r: %s"
    warn(peer, "refused rooms", words, peer.id, room, reason, event="join-room", reason=reason, room=room)


def _tell(peer: Peer, hook: str, **arguments: Any) -> None:
    if hook in peer.server.hooks:
        _line_of(peer).tell(hook, {"client_id": peer.id, **arguments})


def _line_of(peer: Peer) -> Line:
    if peer.line is None:
        peer.line = peer.server.make_line(peer)
    return peer.line


def _about(context: Context) -> dict[str, Any]:
    peer = context._peer
    return {"client_id": peer.id, "namespace": peer.namespace.path, "ctx": context}


# --- Coming and going -------------------------------------------------------------------------------------


def tell_arrival(context: Context) -> Deferred | None:
    """Tell the hooks of a new client; return the rest if one is to be awaited."""
    peer = context._peer
    how = {"remote_address": peer.remote_address, "transport": peer.protocol}
    return peer.server.hooks.tell(("on_client_connect", {**_about(context), **how}))


def tell_departure(context: Context, end: Closed) -> Deferred | None:
    """Tell the hooks of a client that has gone; return the rest if one is to be awaited."""
    peer, about = context._peer, _about(context)
    calls: list[Call] = []
    if isinstance(end.error, MessageTooBig | FrameTooLarge):
        sizes = {"size": end.error.size, "limit": end.error.limit}
        calls.append(("on_payload_too_large", {"client_id": peer.id, **sizes}))
    for room in peer.left_rooms:
        calls.append(("on_client_leave_room", {**about, "room": room, "is_disconnect": True}))
    how = {"code": end.code, "reason": end.reason, "remote_address": peer.remote_address}
    calls.append(("on_client_disconnect", {**about, **how}))
    return peer.server.hooks.tell(*calls)

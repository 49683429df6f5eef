"""The chat that the demo serves: rooms, who is here, acknowledged messages, pictures as binary.

Responsible for the rules of the chat and for nothing else: it registers handlers on a server and never
sees a socket, a wire or an event loop. Who receives what a room is sent is the server's table; the
chat keeps only the name each client gave itself.

The protocol, from the client's side:

- event ``welcome``, on connection: ``{"id"}``
- request ``enter`` with ``{"name", "room"}``, which leaves the earlier room; the answer is
  ``{"room", "you": {"id", "name"}, "members": [{"id", "name"}, …]}``
- request ``say`` with ``{"text"}``; the answer is ``{"seq"}``, and the others in the room get event ``said``,
  ``{"id", "name", "room", "text", "seq"}``; with ``"name"`` and ``"room"`` as well it enters that room first,
  so that words which waited for a connection can come before anything else
- request ``rooms``; the answer is ``[{"room", "members": how many}, …]``
- request ``latency``; the answer is null, as soon as everything sent before it has been handled
- binary ``picture``; the others get event ``picture-from``, ``{"id", "name", "room", "size", "seq"}``, and
  then binary ``picture`` with the same bytes
- event ``refused``, ``{"event", "code", "message"}``: a picture that was not passed on, and why
- event ``presence``, ``{"room", "members"}``, to the whole room whenever somebody enters or leaves it
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, Protocol

from stelar_proto.errors import HandlerError

MAX_NAME_LENGTH = 40
"""The longest name, in characters."""
MAX_ROOM_LENGTH = 60
"""The longest name of a room, in characters."""
MAX_TEXT_LENGTH = 2000
"""The longest message, in characters."""
MAX_PICTURE_SIZE = 2 * 1024 * 1024
"""The largest picture, in bytes."""
MAX_LISTED_ROOMS = 100
"""How many rooms ``rooms`` answers with, the fullest first."""

ANONYMOUS = "anonymous"
"""Stands in the list of members for a client that joined the room without a name, by ``join-room`` alone."""

Handler = Callable[..., Any]
Member = dict[str, str]


class ChatClientInfo(Protocol):
    """What the chat asks of ``ctx.client_info``."""

    @property
    def rooms(self) -> Collection[str]: ...


class ChatContext(Protocol):
    """What the chat asks of the context that a handler is given."""

    @property
    def id(self) -> str: ...
    @property
    def data(self) -> Any: ...
    @property
    def is_binary(self) -> bool: ...
    @property
    def client_info(self) -> ChatClientInfo: ...
    def emit(self, event: str, data: Any, /) -> object: ...
    def to(self, room: str, event: str, data: Any, /) -> object: ...
    def to_binary(self, room: str, event: str, payload: bytes, /) -> object: ...
    def join_room(self, room: str, /) -> object: ...
    def leave_room(self, room: str, /) -> object: ...


class ChatServer(Protocol):
    """What the chat asks of a server; the ``StelarServer`` of either runtime has it."""

    def on(self, event: str, handler: Handler, /) -> object: ...
    def on_ack(self, name: str, handler: Handler, /) -> object: ...
    def on_connection(self, handler: Handler, /) -> object: ...
    def on_disconnect(self, handler: Handler, /) -> object: ...
    def to(self, room: str, event: str, data: Any, /) -> object: ...
    def get_rooms(self) -> Iterable[str]: ...
    def get_room_members(self, room: str, /) -> Iterable[str]: ...


class _Seat(NamedTuple):
    """Where a client sits, and under which name."""

    name: str
    room: str


class _Room:
    """What the chat remembers of a room while somebody sits in it."""

    __slots__ = ("seated", "seq")

    def __init__(self) -> None:
        self.seated: set[str] = set()
        self.seq = 0


class Chat:
    """The chat of one server.

    Its tables hold one entry per client that entered and one per room that somebody entered; both go
    with the client, so the server's own limits bound them.

    Arguments:
        server: the server whose clients chat; handlers are registered on it at once.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._seats: dict[str, _Seat] = {}
        self._rooms: dict[str, _Room] = {}
        server.on_connection(self._welcome)
        server.on_disconnect(self._gone)
        server.on_ack("enter", self._enter)
        server.on_ack("say", self._say)
        server.on_ack("rooms", self._list_rooms)
        server.on_ack("latency", self._latency)
        server.on("picture", self._picture)

    # --- Coming and going ---------------------------------------------------------------------------

    def _welcome(self, ctx: ChatContext) -> None:
        ctx.emit("welcome", {"id": ctx.id})

    def _gone(self, ctx: ChatContext) -> None:
        """The client has left its rooms by now; what is left is to tell those who stay."""
        seat = self._seats.pop(ctx.id, None)
        if seat is not None:
            self._stand_up(ctx.id, seat.room)
            self._announce(seat.room)

    def _enter(self, ctx: ChatContext) -> dict[str, Any]:
        data = ctx.data if isinstance(ctx.data, dict) else {}
        name = _label(data.get("name"), "name", MAX_NAME_LENGTH)
        room = _label(data.get("room"), "room", MAX_ROOM_LENGTH)
        # Joining comes before leaving: who is refused the new room keeps the old one.
        ctx.join_room(room)
        if room not in ctx.client_info.rooms:
            raise HandlerError(f"The server did not let you into the room {room!r}.", code="REFUSED")
        before = self._seats.get(ctx.id)
        self._seats[ctx.id] = _Seat(name, room)
        self._rooms.setdefault(room, _Room()).seated.add(ctx.id)
        if before is not None and before.room != room:
            ctx.leave_room(before.room)
            self._stand_up(ctx.id, before.room)
            self._announce(before.room)
        self._announce(room)
        return {"room": room, "you": {"id": ctx.id, "name": name}, "members": self._members(room)}

    def _stand_up(self, client_id: str, room: str) -> None:
        seated = self._rooms[room].seated
        seated.discard(client_id)
        if not seated:
            del self._rooms[room]

    def _announce(self, room: str) -> None:
        members = self._members(room)
        if members:
            self._server.to(room, "presence", {"room": room, "members": members})

    def _members(self, room: str) -> list[Member]:
        members = [
            {"id": member, "name": self._name(member)} for member in self._server.get_room_members(room)
        ]
        return sorted(members, key=lambda member: (member["name"].casefold(), member["id"]))

    def _name(self, client_id: str) -> str:
        seat = self._seats.get(client_id)
        return ANONYMOUS if seat is None else seat.name

    # --- Talking ------------------------------------------------------------------------------------

    def _say(self, ctx: ChatContext) -> dict[str, int]:
        data = ctx.data if isinstance(ctx.data, dict) else {}
        text = _text(data.get("text"))
        if "room" in data and self._seats.get(ctx.id) != (data.get("name"), data["room"]):
            self._enter(ctx)
        seat = self._seat(ctx)
        seq = self._next_seq(seat.room)
        ctx.to(
            seat.room, "said", {"id": ctx.id, "name": seat.name, "room": seat.room, "text": text, "seq": seq}
        )
        return {"seq": seq}

    def _picture(self, ctx: ChatContext) -> None:
        """A binary event has no answer on the wire, so a refusal goes back as an event of its own."""
        try:
            seat = self._seat(ctx)
            payload = _payload(ctx)
        except HandlerError as error:
            ctx.emit("refused", {"event": "picture", "code": error.code, "message": error.message})
            return
        seq = self._next_seq(seat.room)
        about = {"id": ctx.id, "name": seat.name, "room": seat.room, "size": len(payload), "seq": seq}
        ctx.to(seat.room, "picture-from", about)
        ctx.to_binary(seat.room, "picture", payload)

    def _seat(self, ctx: ChatContext) -> _Seat:
        seat = self._seats.get(ctx.id)
        # A client may also leave by `leave-room`, which asks nobody; the server's table decides.
        if seat is None or seat.room not in ctx.client_info.rooms:
            raise HandlerError("You are not in a room; enter one first.", code="NOT_IN_ROOM")
        return seat

    def _next_seq(self, room: str) -> int:
        entry = self._rooms[room]
        entry.seq += 1
        return entry.seq

    # --- Looking around -----------------------------------------------------------------------------

    def _list_rooms(self, _ctx: ChatContext) -> list[dict[str, Any]]:
        counts = [(room, len(list(self._server.get_room_members(room)))) for room in self._server.get_rooms()]
        counts.sort(key=lambda entry: (-entry[1], entry[0].casefold()))
        return [{"room": room, "members": members} for room, members in counts[:MAX_LISTED_ROOMS]]

    def _latency(self, _ctx: ChatContext) -> None:
        """Nothing but the answer: messages of one client are handled in order, so it also confirms them."""


def install_chat(server: ChatServer) -> Chat:
    """Register the chat on ``server``, of either runtime, and return it."""
    return Chat(server)


# --- What may be said: the requester is told which rule was broken -----------------------------------------


def _bad_request(message: str) -> HandlerError:
    return HandlerError(message, code="BAD_REQUEST")


def _label(value: object, field: str, longest: int) -> str:
    """A name of a person or a room: it stands in everyone's lists, so nothing invisible may be in it."""
    if not isinstance(value, str) or not value.strip():
        raise _bad_request(f"Give a {field}: 1 to {longest} characters.")
    label = value.strip()
    if len(label) > longest:
        raise _bad_request(f"The {field} has {len(label)} characters; at most {longest} are allowed.")
    if any(_is_treacherous(character) for character in label):
        raise _bad_request(f"The {field} has control characters in it; use letters, digits and signs.")
    return label


def _is_treacherous(character: str) -> bool:
    """Control characters, line separators, lone surrogates, and the marks that turn the direction of text."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(
        character
    ) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad_request(f"Say something: 1 to {MAX_TEXT_LENGTH} characters.")
    if len(value) > MAX_TEXT_LENGTH:
        raise _bad_request(f"The text has {len(value)} characters; at most {MAX_TEXT_LENGTH} are allowed.")
    # JSON can spell a lone surrogate, UTF-8 cannot; passed on, it would fail at every recipient.
    if any(unicodedata.category(character) == "Cs" for character in value):
        raise _bad_request("The text has half of a character in it (a lone surrogate).")
    return value


def _payload(ctx: ChatContext) -> bytes:
    if not ctx.is_binary:
        raise _bad_request("A picture is sent as a binary event.")
    payload = bytes(ctx.data)
    if not payload:
        raise _bad_request("The picture is empty.")
    if len(payload) > MAX_PICTURE_SIZE:
        raise HandlerError(
            f"The picture has {len(payload)} bytes; at most {MAX_PICTURE_SIZE} are allowed.",
            code="PAYLOAD_TOO_LARGE",
        )
    return payload

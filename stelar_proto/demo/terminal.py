"""The chat in a terminal: what the user types becomes a command, a command becomes messages.

Responsible for the conversation, not for its surroundings: the connected client, the typed lines, the
printing and the clock are handed in, so it runs on any event loop and in a test without one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, assert_never

from stelar_proto.errors import AckTimeout, ConnectionLost, LocalError, RemoteError, StateError

from .chat import MAX_PICTURE_SIZE
from .commands import (
    HELP,
    Action,
    CommandError,
    Emit,
    Help,
    JoinRoom,
    ListRooms,
    Ping,
    Quit,
    Request,
    Say,
    SendPicture,
    Who,
    parse_line,
)
from .rendering import render, render_json

# What the server also sends and the chat has said already: its own words, and the confirmations of joins.
_KNOWN_ALREADY = frozenset({"welcome", "stelar:connect", "joined-room", "left-room"})
_MAX_ANNOUNCED = 64
"""How many announced pictures are waited for: each is followed by its picture, if the server is honest."""


class ChatClient(Protocol):
    """What the session asks of a client; the ``StelarClient`` of either runtime has it."""

    def on(self, event: str, handler: Callable[..., Any], /) -> object: ...
    def on_all(self, handler: Callable[[str, Any], Any], /) -> object: ...
    def emit(self, event: str, data: Any = None, /) -> object: ...
    def emit_binary(self, event: str, payload: bytes, /) -> object: ...
    def request(self, event: str, data: Any = None, /) -> Awaitable[Any]: ...


class Lines(Protocol):
    """The typed lines, as a runtime reads them."""

    def __aiter__(self) -> Lines: ...
    def __anext__(self) -> Awaitable[str]: ...
    def close(self) -> None:
        """End the iteration now, even while ``__anext__`` waits.

        Called in the event loop, perhaps more than once.
        """
        ...


# --- The session --------------------------------------------------------------------------------------


async def chat_session(
    client: ChatClient,
    lines: Lines,
    write: Callable[[str], object],
    *,
    name: str,
    room: str,
    now: Callable[[], float],
    json: bool = False,
) -> int:
    """Enter ``room`` as ``name`` and chat until the user or the connection has had enough.

    Lines are carried out one after the other, each answered before the next begins; what others say is
    shown as it comes.

    Arguments:
        client: a connected client; the session neither connects nor disconnects it.
        lines: what the user types; the session closes it when the connection ends.
        write: shows one line (without its line end).
        now: the time in seconds, from a clock that only goes forward.
        json: show JSON objects instead of readable lines.

    Returns:
        The exit status: 0 when the user left, by ``/quit`` or the end of input; 1 when the connection
        ended, and, with ``json``, when a command failed.

    Raises:
        RemoteError: the server refused the name or the room at the beginning.
        AckTimeout, ConnectionLost: there was no answer to entering.
    """
    return await _Session(client, lines, write, now, as_json=json).run(name, room)


class _Session:
    def __init__(
        self,
        client: ChatClient,
        lines: Lines,
        write: Callable[[str], object],
        now: Callable[[], float],
        *,
        as_json: bool,
    ) -> None:
        self._client = client
        self._lines = lines
        self._write = write
        self._now = now
        self._as_json = as_json
        self._name = ""
        self._room: str | None = None
        self._members: list[dict[str, str]] = []
        self._announced: deque[dict[str, Any]] = deque(maxlen=_MAX_ANNOUNCED)
        self._over = False
        self._lost = False
        self._failed = False

    async def run(self, name: str, room: str) -> int:
        self._client.on_all(self._arrived)
        self._client.on("disconnect", self._disconnected)
        self._name = name
        try:
            await self._begin(room)
            while not self._lost:
                try:
                    line = await anext(self._lines)
                except StopAsyncIteration:
                    break
                if not await self._carry_out(line):
                    break
        finally:
            # From here on the connection ends because the user leaves, and nothing is lost.
            self._over = True
        if not self._lost:
            self._show("left")
        return int(self._lost or (self._as_json and self._failed))

    async def _begin(self, room: str) -> None:
        try:
            await self._enter(room)
        except RemoteError as error:
            if error.code != "NO_HANDLER":
                raise
            # Not a failure: events and questions of the user's own need no chat.
            self._show(
                "error", code="NO_CHAT", message="This server has no chat; /emit and /request reach it."
            )
        except (ConnectionLost, StateError):
            if not self._lost:
                raise

    def _show(self, type_: str, **fields: Any) -> None:
        record = {"type": type_, **fields}
        self._write(render_json(record) if self._as_json else render(record))

    def _fail(self, code: str, message: str) -> None:
        self._failed = True
        self._show("error", code=code, message=message)

    # --- What the user wants --------------------------------------------------------------------------

    async def _carry_out(self, line: str) -> bool:
        """Do what ``line`` says; False when it says to leave. What goes wrong is shown, not raised."""
        try:
            command = parse_line(line)
            if isinstance(command, Quit):
                return False
            if command is not None:
                await self._do(command)
        except RemoteError as error:
            self._fail(error.code, error.message)
        except AckTimeout:
            self._fail("TIMEOUT", "No answer came in time; it may have been carried out all the same.")
        except (ConnectionLost, StateError) as error:
            # Usually the connection's own end has been shown by now, and says more.
            if not self._lost:
                self._fail("CONNECTION_LOST", str(error))
        except (LocalError, ValueError, OSError) as error:
            code = getattr(error, "code", None) or "BAD_COMMAND"
            self._fail(code, str(error))
        return True

    async def _do(self, action: Action) -> None:
        match action:
            case Say(text):
                answer, ms = await self._ask("say", {"text": text})
                self._show("sent", text=text, seq=_field(answer, "seq"), ms=ms)
            case JoinRoom(room):
                await self._enter(room)
            case ListRooms():
                answer, ms = await self._ask("rooms")
                rooms = [
                    {"room": entry.get("room"), "members": entry.get("members")} for entry in _records(answer)
                ]
                self._show("rooms", rooms=rooms, ms=ms)
            case Who():
                if self._room is None:
                    raise CommandError("You are not in a room; /join ROOM enters one.")
                self._show("who", room=self._room, members=self._members)
            case Emit(event, data):
                self._client.emit(event, data)
                self._show("emitted", event=event)
            case Request(event, data):
                answer, ms = await self._ask(event, data)
                self._show("answer", event=event, data=answer, ms=ms)
            case SendPicture(path):
                await self._send_picture(path)
            case Ping():
                _, ms = await self._ask("latency")
                self._show("pong", ms=ms)
            case Help():
                self._show("help", text=HELP)
            case _:
                assert_never(action)

    async def _ask(self, event: str, data: Any = None) -> tuple[Any, float]:
        """The answer, and the milliseconds it took."""
        asked_at = self._now()
        answer = await self._client.request(event, data)
        return answer, round((self._now() - asked_at) * 1000, 3)

    async def _enter(self, room: str) -> None:
        answer, ms = await self._ask("enter", {"name": self._name, "room": room})
        you = _field(answer, "you")
        self._name = str(_field(you, "name") or self._name)
        self._room = str(_field(answer, "room") or room)
        self._members = _members(_field(answer, "members"))
        self._announced.clear()
        self._show(
            "entered", room=self._room, id=_field(you, "id"), name=self._name, members=self._members, ms=ms
        )

    async def _send_picture(self, path: str) -> None:
        picture = _read_picture(path)
        self._client.emit_binary("picture", picture)
        # A binary event has no answer of its own. Messages of one client are handled in order, so the
        # answer to this question says that the picture has been handled as well.
        _, ms = await self._ask("latency")
        self._show("picture-sent", size=len(picture), sha256=hashlib.sha256(picture).hexdigest(), ms=ms)

    # --- What arrives ---------------------------------------------------------------------------------

    def _arrived(self, event: str, data: Any) -> None:
        if isinstance(data, bytes | bytearray | memoryview):
            self._binary_arrived(event, bytes(data))
        elif event == "said" and isinstance(data, dict):
            self._show("said", **{key: data.get(key, "") for key in ("id", "name", "room", "text", "seq")})
        elif event == "presence" and isinstance(data, dict):
            if data.get("room") == self._room:
                self._presence_changed(_members(data.get("members")))
        elif event == "picture-from" and isinstance(data, dict):
            self._announced.append(data)
        elif event == "refused" and isinstance(data, dict):
            self._failed = True
            self._show("refused", **{key: data.get(key, "") for key in ("event", "code", "message")})
        elif event not in _KNOWN_ALREADY:
            self._show("event", event=event, data=data)

    def _binary_arrived(self, event: str, payload: bytes) -> None:
        about = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        if event == "picture" and self._announced:
            said = self._announced.popleft()
            self._show(
                "picture", **{key: said.get(key, "") for key in ("id", "name", "room", "seq")}, **about
            )
        else:
            self._show("binary", event=event, **about)

    def _presence_changed(self, members: list[dict[str, str]]) -> None:
        before = {member["id"]: member["name"] for member in self._members}
        after = {member["id"]: member["name"] for member in members}
        self._members = members
        entered = [name for id_, name in after.items() if before.get(id_) != name]
        left = [name for id_, name in before.items() if after.get(id_) != name]
        if entered or left:
            self._show("presence", room=self._room, entered=entered, left=left, members=members)

    def _disconnected(self, code: int, reason: str) -> None:
        if self._over or self._lost:
            return
        self._lost = True
        self._show("lost", code=code, reason=reason)
        self._lines.close()


# --- What a server says may not be what it should say: taken apart with care -----------------------------


def _field(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _records(value: object) -> list[dict[str, Any]]:
    """The objects in the list ``value``, whatever else is in it."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _members(value: object) -> list[dict[str, str]]:
    return [{key: str(entry.get(key, "?")) for key in ("id", "name")} for entry in _records(value)]


def _read_picture(path: str) -> bytes:
    file = Path(path).expanduser()
    if not file.is_file():
        raise CommandError(f"There is no file {path}.")
    with file.open("rb") as stream:
        picture = stream.read(MAX_PICTURE_SIZE + 1)
    if not picture:
        raise CommandError(f"{path} is empty.")
    if len(picture) > MAX_PICTURE_SIZE:
        raise CommandError(f"{path} is larger than 2 MiB, and no picture may be.")
    return picture

"""The chat in a terminal: what the user types becomes a command, a command becomes messages.

Responsible for the conversation, not for its surroundings: the connected client, the typed lines, the
printing and the clock are handed in, so it runs on any event loop and in a test without one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
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
    Status,
    Who,
    parse_line,
)
from .connection import ConnectionWatch, WatchedClient
from .rendering import render, render_json

# What the server also sends and the chat has said already: its own words, and the confirmations of joins.
_KNOWN_ALREADY = frozenset({"welcome", "stelar:connect", "joined-room", "left-room"})
_MAX_ANNOUNCED = 64
"""How many announced pictures are waited for: each is followed by its picture, if the server is honest."""


_NOT_CONNECTED = "There is no connection just now; try again when it is back."
_PROGRESS_INTERVAL = 1.0
_LIVE_PROGRESS_INTERVAL = 0.1
"""Seconds between two looks at a transfer: as lines, and in place."""


class ChatClient(WatchedClient, Protocol):
    """What the session asks of a client; the ``StelarClient`` of either runtime has it."""

    def on_all(self, handler: Callable[[str, Any], Any], /) -> object: ...
    def request(self, event: str, data: Any = None, /) -> Awaitable[Any]: ...
    def send_image(
        self, source: str, *, event: str, progress: Callable[[int, int | None], Any]
    ) -> Awaitable[int]: ...
    def is_connected(self) -> bool: ...


class Screen(Protocol):
    """Where lines are shown."""

    @property
    def is_live(self) -> bool:
        """Whether a line can be written over; else each shows up as another line."""
        ...

    def __call__(self, line: str, /) -> object:
        """Show a line, without its line end; it may hold several."""
        ...

    def update(self, line: str, /) -> object:
        """Show a line in place of the last such, if :attr:`is_live`."""
        ...


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


class ChatSession:
    """One visit to the chat.

    Arguments:
        screen: where it shows what happens.
        name: of the user.
        room: that the user enters first.
        now: the time in seconds, from a clock that only goes forward.
        json: show JSON objects instead of readable lines.
    """

    def __init__(
        self, screen: Screen, *, name: str, room: str, now: Callable[[], float], json: bool = False
    ) -> None:
        self._screen = screen
        self._name = name
        self._first_room = room
        self._now = now
        self._as_json = json
        self._watch = ConnectionWatch(self._show, self._fail, now)
        self._client: ChatClient
        self._room: str | None = None
        self._members: list[dict[str, str]] = []
        self._is_seated = False  # entered the room over this connection
        self._announced: deque[dict[str, Any]] = deque(maxlen=_MAX_ANNOUNCED)
        self._unsent = 0
        self._failed = False

    @property
    def hooks(self) -> Mapping[str, Callable[..., Any]]:
        """What the client must be made with, as its option ``hooks``."""
        return self._watch.hooks

    async def run(self, client: ChatClient, lines: Lines) -> int:
        """Enter the room and chat until the user or the connection has had enough.

        Lines are carried out one after the other, each answered before the next begins; what others say is
        shown as it comes. When the connection ends and comes back, the session enters its room again.

        Arguments:
            client: a connected client with :attr:`hooks`; the session neither connects nor disconnects it.
            lines: what the user types; the session closes it when the connection has ended for good.

        Returns:
            The exit status: that of :meth:`leave` when the user left, by ``/quit`` or the end of input; 1
            when the connection ended for good, and, with ``json``, when a command failed.

        Raises:
            RemoteError: the server refused the name or the room at the beginning.
            AckTimeout, ConnectionLost: there was no answer to entering.
        """
        self._client = client
        self._watch.begin(client, on_end=lines.close)
        client.on_all(self._arrived)
        client.on("connect", self._connected)
        try:
            await self._begin(self._first_room)
            while not self._watch.is_lost:
                try:
                    line = await anext(lines)
                except StopAsyncIteration:
                    break
                if not await self._carry_out(line):
                    break
        finally:
            # From here on the connection ends because the user leaves, and nothing is lost.
            self._unsent = self._watch.leave()
        return 1 if self._watch.is_lost else self.leave()

    def leave(self) -> int:
        """Say that the user left. Returns the exit status: 1 if something was never sent, else 0."""
        unsent = {"unsent": self._unsent} if self._unsent else {}
        self._show("left", **unsent)
        return int(bool(self._unsent) or (self._as_json and self._failed))

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
            if self._client.get_state() == "connected":
                raise
            self._room = room  # entered as soon as the connection is back

    async def _connected(self) -> None:
        if self._watch.came_back():
            self._is_seated = False
            if self._room is not None:
                await self._try(self._enter(self._room))

    def _show(self, type_: str, **fields: Any) -> None:
        record = {"type": type_, **fields}
        self._screen(render_json(record) if self._as_json else render(record))

    def _fail(self, code: str, message: str) -> None:
        self._failed = True
        self._show("error", code=code, message=message)

    # --- What the user wants --------------------------------------------------------------------------

    async def _carry_out(self, line: str) -> bool:
        """Do what ``line`` says; False when it says to leave. What goes wrong is shown, not raised."""
        try:
            command = parse_line(line)
        except CommandError as error:
            self._fail("BAD_COMMAND", str(error))
            return True
        if isinstance(command, Quit):
            return False
        if command is not None:
            await self._try(self._do(command))
        return True

    async def _try(self, action: Awaitable[None]) -> None:
        try:
            await action
        except RemoteError as error:
            self._fail(error.code, error.message)
        except AckTimeout:
            self._fail("TIMEOUT", "No answer came in time; it may have been carried out all the same.")
        except ConnectionLost:
            self._fail(
                "CONNECTION_LOST", "The connection ended before the answer; it may have been carried out."
            )
        except StateError as error:
            words = _sentence(error) if self._client.is_connected() else _NOT_CONNECTED
            self._fail("NOT_CONNECTED", words)
        except (LocalError, ValueError, OSError) as error:
            self._fail(getattr(error, "code", None) or "BAD_COMMAND", _sentence(error))

    async def _do(self, action: Action) -> None:
        match action:
            case Say(text):
                await self._say(text)
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
                if self._client.is_connected():
                    self._client.emit(event, data)
                    self._show("emitted", event=event)
                else:
                    self._watch.send_later(event, data)
            case Request(event, data):
                answer, ms = await self._ask(event, data)
                self._show("answer", event=event, data=answer, ms=ms)
            case SendPicture(path):
                await self._send_picture(path)
            case Ping():
                _, ms = await self._ask("latency")
                self._show("pong", ms=ms)
            case Status():
                self._watch.show_status()
            case Help():
                self._show("help", text=HELP)
            case _:
                assert_never(action)

    async def _ask(self, event: str, data: Any = None) -> tuple[Any, float]:
        """The answer, and the milliseconds it took."""
        asked_at = self._now()
        answer = await self._client.request(event, data)
        return answer, round((self._now() - asked_at) * 1000, 3)

    async def _say(self, text: str) -> None:
        # With the name and the room: words that wait for a connection arrive in front of everything else.
        seat = {} if self._room is None else {"name": self._name, "room": self._room}
        if self._client.is_connected():
            answer, ms = await self._ask("say", {"text": text, **seat})
            self._show("sent", text=text, seq=_field(answer, "seq"), ms=ms)
        else:
            self._watch.send_later("say", {"text": text, **seat}, text=text)

    async def _enter(self, room: str) -> None:
        answer, ms = await self._ask("enter", {"name": self._name, "room": room})
        you = _field(answer, "you")
        self._name = str(_field(you, "name") or self._name)
        self._room = str(_field(answer, "room") or room)
        self._members = _members(_field(answer, "members"))
        self._is_seated = True
        self._announced.clear()
        self._show(
            "entered", room=self._room, id=_field(you, "id"), name=self._name, members=self._members, ms=ms
        )

    async def _send_picture(self, path: str) -> None:
        file, size = _check_picture(path)
        if not self._client.is_connected():
            # It could wait as everything can, but the server knows nobody's room before they entered it.
            raise StateError(_NOT_CONNECTED)
        began_at = shown_at = self._now()
        interval = _LIVE_PROGRESS_INTERVAL if self._screen.is_live else _PROGRESS_INTERVAL

        def progress(done: int, total: int | None) -> None:
            nonlocal shown_at
            if self._now() - shown_at >= interval:
                shown_at = self._now()
                self._show_progress(path, done, total or size)

        size = await self._client.send_image(file, event="picture", progress=progress)
        # A binary event has no answer of its own. Messages of one client are handled in order, so the
        # answer to this question says that the picture has been handled as well.
        await self._client.request("latency")
        self._show("picture-sent", size=size, ms=round((self._now() - began_at) * 1000, 3))

    def _show_progress(self, path: str, done: int, total: int) -> None:
        record = {"type": "progress", "path": path, "done": done, "total": total}
        if self._as_json:
            self._screen(render_json(record))
        else:
            self._screen.update(render(record))

    # --- What arrives ---------------------------------------------------------------------------------

    def _arrived(self, event: str, data: Any) -> None:
        if isinstance(data, bytes | bytearray | memoryview):
            self._binary_arrived(event, bytes(data))
        elif event == "said" and isinstance(data, dict):
            self._show("said", **{key: data.get(key, "") for key in ("id", "name", "room", "text", "seq")})
        elif event == "presence" and isinstance(data, dict):
            if self._is_seated and data.get("room") == self._room:
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


# --- What a server says may not be what it should say: taken apart with care -----------------------------


def _field(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _records(value: object) -> list[dict[str, Any]]:
    """The objects in the list ``value``, whatever else is in it."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _members(value: object) -> list[dict[str, str]]:
    return [{key: str(entry.get(key, "?")) for key in ("id", "name")} for entry in _records(value)]


def _check_picture(path: str) -> tuple[str, int]:
    """Where it really is, and its size in bytes."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise CommandError(f"There is no file {path}.")
    size = file.stat().st_size
    if not size:
        raise CommandError(f"{path} is empty.")
    if size > MAX_PICTURE_SIZE:
        raise CommandError(f"{path} is larger than 2 MiB, and no picture may be.")
    return str(file), size


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"

"""What the user of the terminal may type: one line, one command.

Responsible for reading the line, not for doing what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from stelar_proto.errors import LocalError
from stelar_proto.messages import JSON

HELP = """\
  TEXT                    say it to the room; //TEXT says /TEXT
  /join ROOM              go to another room
  /rooms                  which rooms there are
  /who                    who is here
  /picture PATH           send a picture, at most 2 MiB
  /ping                   how long an answer takes
  /status                 how the connection stands: its state, and what went over it, waits or was dropped
  /emit EVENT [JSON]      send an event of your own
  /request EVENT [JSON]   ask a question of your own and wait for the answer
  /help                   this
  /quit                   leave; so do Ctrl-C and the end of input (Ctrl-D)

  When the connection ends it is made again by itself, and you are put back into your room. What you say
  or emit meanwhile waits and is sent then, in order."""


class CommandError(LocalError, ValueError):
    """A typed line that is no command; the message says what would be one."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say ``text`` to the room."""

    text: str


@dataclass(frozen=True, slots=True)
class JoinRoom:
    """Go to ``room``."""

    room: str


@dataclass(frozen=True, slots=True)
class ListRooms:
    """Which rooms there are."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who is in the room."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Send an event of the user's own."""

    event: str
    data: Any


@dataclass(frozen=True, slots=True)
class Request:
    """Ask a question of the user's own."""

    event: str
    data: Any


@dataclass(frozen=True, slots=True)
class SendPicture:
    """Send the picture in the file at ``path``."""

    path: str


@dataclass(frozen=True, slots=True)
class Ping:
    """How long an answer takes."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the connection stands."""


@dataclass(frozen=True, slots=True)
class Help:
    """What can be typed."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Action: TypeAlias = Say | JoinRoom | ListRooms | Who | Emit | Request | SendPicture | Ping | Status | Help
Command: TypeAlias = Action | Quit

_PLAIN: dict[str, Command] = {
    "/rooms": ListRooms(),
    "/who": Who(),
    "/ping": Ping(),
    "/status": Status(),
    "/help": Help(),
    "/quit": Quit(),
}
_WITH_ARGUMENT: dict[str, tuple[str, Callable[[str], Command]]] = {
    "/join": ("ROOM", JoinRoom),
    "/picture": ("PATH", SendPicture),
    "/emit": ("EVENT [JSON]", lambda rest: Emit(*_event_and_data(rest))),
    "/request": ("EVENT [JSON]", lambda rest: Request(*_event_and_data(rest))),
}


def parse_line(line: str) -> Command | None:
    """The command that ``line`` means; None when it is blank.

    Raises:
        CommandError: it starts like a command and is none.
    """
    text = line.strip()
    if not text:
        return None
    if not text.startswith("/"):
        return Say(text)
    if text.startswith("//"):
        return Say(text[1:])
    word, rest = _first_word(text)
    if word in _PLAIN:
        if rest:
            raise CommandError(f"{word} takes nothing after it.")
        return _PLAIN[word]
    if word in _WITH_ARGUMENT:
        argument, make = _WITH_ARGUMENT[word]
        if not rest:
            raise CommandError(f"Something is missing: {word} {argument}")
        return make(rest)
    raise CommandError(f"There is no command {word}; /help lists those there are.")


def _event_and_data(rest: str) -> tuple[str, Any]:
    event, data = _first_word(rest)
    if not data:
        return event, None
    try:
        return event, JSON.loads(data)
    except ValueError as error:
        raise CommandError(f'The data is not JSON ({error}). Text needs quotes: "like this".') from None
    except RecursionError:
        raise CommandError("The data is not usable: it is nested too deeply.") from None


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.split(maxsplit=1)
    return word, "".join(rest)

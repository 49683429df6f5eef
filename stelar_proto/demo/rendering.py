"""What the terminal shows: one record per happening, as a readable line or as a line of JSON.

A record is a mapping with a ``type``; the type's other keys are stable, so a script can count on them.
Not responsible for when something is shown. Whatever a peer wrote passes through :func:`visible` first:
text from the network must not be able to paint on the terminal.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]

# Joiners are invisible but harmless, and part of correct spelling in some scripts and of many emoji.
_ALLOWED_FORMAT = "\u200c\u200d"
_JSON_LINE = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_CONTINUATION = "\n  \u2506 "


def visible(value: object) -> str:
    """``value`` as text in which everything that a terminal would obey or hide is spelled out.

    Escape sequences, other control characters, line ends, marks that turn the direction of text, lone
    surrogates and other invisible characters become ``\\x1b``, ``\\u202e`` and the like.
    """
    text = value if isinstance(value, str) else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _is_hidden(character) else character for character in text)


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character not in _ALLOWED_FORMAT
    return category in ("Cc", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def render(record: Record) -> str:
    """``record`` for people: one line, or several when what was said has several."""
    line = _LINES.get(record["type"])
    return line(record) if line is not None else render_json(record)


def render_json(record: Record) -> str:
    """``record`` for programs: one JSON object on one line, in ASCII, which cannot trick a terminal."""
    try:
        return _JSON_LINE.encode(dict(record))
    except ValueError:
        # A number like 1e999 arrives as an infinity, which JSON cannot say; then words have to do.
        return _JSON_LINE.encode(
            {key: value if isinstance(value, str) else repr(value) for key, value in record.items()}
        )


# --- The readable lines, one function per type ---------------------------------------------------------


def _value(value: object) -> str:
    return visible(json.dumps(value, ensure_ascii=False))


def _block(text: object) -> str:
    """Several lines stay several lines, but none of them can pass for a line of its own."""
    return _CONTINUATION.join(visible(line) for line in str(text).split("\n"))


def _milliseconds(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _messages(count: int) -> str:
    return _plural(count, "message", "messages")


def _attempts(count: int) -> str:
    return _plural(count, "attempt", "attempts")


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"


def _names(members: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(visible(member.get("name", "?")) for member in members)


def _entered(record: Record) -> str:
    members = record["members"]
    here = f"{len(members)} here: {_names(members)}"
    return f"* You are {visible(record['name'])} in {visible(record['room'])} ({here})"


def _presence(record: Record) -> str:
    changes = [f"{visible(name)} entered" for name in record["entered"]]
    changes += [f"{visible(name)} left" for name in record["left"]]
    return f"* {', '.join(changes)} ({len(record['members'])} here)"


def _picture(record: Record) -> str:
    return f"<{visible(record['name'])}> sent a picture, {_size(record['size'])}"


def _picture_sent(record: Record) -> str:
    return f"  \u2713 picture, {_size(record['size'])}, {_milliseconds(record['ms'])}"


def _rooms(record: Record) -> str:
    rooms = [f"  {visible(entry['room'])}  {entry['members']}" for entry in record["rooms"]]
    return "\n".join(["* Rooms:", *rooms]) if rooms else "* No rooms."


_ENDS = {
    1000: "the server closed it",
    1001: "the server goes away",
    1005: "the server closed it",
    1006: "it broke off",
    1008: "the server does not allow what was sent",
    1009: "a message was too large",
    1011: "the server failed",
    1012: "the server restarts",
    1013: "the server is too busy",
}
"""What close codes mean (RFC 6455, section 7.4.1, and its registry), where the server gives no reason."""


def _lost(record: Record) -> str:
    code = record["code"]
    why = visible(record["reason"]) or _ENDS.get(code, "it gave no reason")
    return f"! The connection ended: {why} ({code})."


def _reconnecting(record: Record) -> str:
    why = f"{visible(record['reason'])}; " if record["reason"] else ""
    return f"* {why}attempt {record['attempt']} in {_seconds(record['delay'])} \u2026"


def _given_up(record: Record) -> str:
    why = f": {visible(record['reason'])}" if record["reason"] else ""
    unsent = f" {_messages(record['unsent'])} never sent." if record["unsent"] else ""
    return f"! Given up after {_attempts(record['attempts'])}{why}.{unsent}"


def _back(record: Record) -> str:
    return f"* Connected again after {_attempts(record['attempts'])}, {_seconds(record['seconds'])}."


def _queued(record: Record) -> str:
    return f"  \u2026 no connection: it waits ({_messages(record['waiting'])} waiting)"


def _sent(record: Record) -> str:
    if record.get("queued"):  # which words it were is said again: they are long ago
        return f"  \u2713 {_block(record['text'])} (after {_seconds(record['ms'] / 1000)})"
    return f"  \u2713 {_milliseconds(record['ms'])}"


def _dropped(record: Record) -> str:
    if record["text"] is not None:
        return f"! Never sent, because {visible(record['reason'])}: {_block(record['text'])}"
    return f"! {_messages(record['count'])} never sent: {visible(record['reason'])}"


def _progress(record: Record) -> str:
    done, total = record["done"], record["total"]
    return f"  \u2026 {visible(record['path'])}: {_size(done)} of {_size(total)}, {100 * done // total} %"


def _status(record: Record) -> str:
    numbers = ", ".join(f"{record[key]} {key}" for key in ("sent", "received", "waiting", "dropped"))
    name = f" as {visible(record['id'])}" if record["id"] else ""
    return f"* {record['state']}, {visible(record['url'])}{name}\n  messages: {numbers}"


def _left(record: Record) -> str:
    unsent = record.get("unsent", 0)
    return f"* You left; {_messages(unsent)} never sent." if unsent else "* You left."


_LINES: dict[str, Callable[[Record], str]] = {
    "connected": lambda record: f"* Connected to {visible(record['url'])}; /help lists what can be typed.",
    "entered": _entered,
    "said": lambda record: f"<{visible(record['name'])}> {_block(record['text'])}",
    "sent": _sent,
    "queued": _queued,
    "drained": lambda record: f"* {_messages(record['count'])} that waited: sent",
    "dropped": _dropped,
    "presence": _presence,
    "picture": _picture,
    "picture-sent": _picture_sent,
    "refused": lambda record: f"! Not passed on: {visible(record['message'])}",
    "rooms": _rooms,
    "who": lambda record: f"* In {visible(record['room'])}: {_names(record['members'])}",
    "pong": lambda record: f"* {_milliseconds(record['ms'])}",
    "emitted": lambda record: f"  \u2713 emitted {visible(record['event'])}",
    "answer": lambda record: f"= {_value(record['data'])}  {_milliseconds(record['ms'])}",
    "error": lambda record: f"! {visible(record['message'])}",
    "event": lambda record: f"~ {visible(record['event'])} {_value(record['data'])}",
    "binary": lambda record: f"~ {visible(record['event'])}, binary, {_size(record['size'])}",
    "help": lambda record: str(record["text"]),
    "status": _status,
    "progress": _progress,
    "left": _left,
    "lost": _lost,
    "reconnecting": _reconnecting,
    "back": _back,
    "given-up": _given_up,
}

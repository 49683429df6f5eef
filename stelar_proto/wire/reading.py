"""What stands in incoming messages of either wire, checked: names, ids, errors."""

from __future__ import annotations

from typing import Any

from stelar_proto.errors import MessageError
from stelar_proto.messages import CORRELATION_FIELD, MAX_EVENT_SIZE, check_event_name


class BrokenMessageError(ValueError):
    """Inside this package: an incoming message is invalid, and why."""


def read_event_name(name: Any) -> str:
    if not isinstance(name, str):
        raise BrokenMessageError("it has no event name")
    try:
        return check_event_name(name)
    except MessageError as error:
        raise BrokenMessageError(str(error)) from None


def _read_short_text(kind: str, text: Any) -> str:
    if isinstance(text, str) and is_room_name(text):
        return text
    raise BrokenMessageError(f"{kind} is a text of 1 to {MAX_EVENT_SIZE} bytes")


def read_ack_name(name: Any) -> str:
    return _read_short_text("an ack name", name)


def read_correlation_id(fields: dict[str, Any]) -> str | None:
    # Bounded, because it is sent back and, by a client, kept.
    correlation_id = fields.get(CORRELATION_FIELD)
    return None if correlation_id is None else _read_short_text(CORRELATION_FIELD, correlation_id)


def read_room(room: Any) -> str:
    return _read_short_text("a room name", room)


def is_room_name(room: str) -> bool:
    """Tell whether ``room`` can name a room: 1 to 256 bytes of UTF-8."""
    try:
        return 0 < len(room.encode()) <= MAX_EVENT_SIZE
    except UnicodeEncodeError:
        return False


def read_error(error: Any) -> tuple[str, str]:
    if isinstance(error, dict) and isinstance(error.get("code"), str):
        words = error.get("message")
        return error["code"], words if isinstance(words, str) else ""
    raise BrokenMessageError("an error answer has no code")

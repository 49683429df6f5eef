"""What applications hand to a server or a client, checked at the call: rooms, ack names, payloads.

The rules are the same on both sides. Event names have theirs in ``messages``.
"""

from __future__ import annotations

from collections.abc import Callable

from stelar_proto.channel.handlers import H, Handler, check_handler
from stelar_proto.errors import MessageError
from stelar_proto.messages import MAX_EVENT_SIZE
from stelar_proto.wire import is_room_name


def register(add: Callable[[Handler], object], handler: H | None, *arguments: str) -> H | Callable[[H], H]:
    """Hand ``handler`` to ``add`` and return it; without one, return the decorator that does so.

    Arguments:
        arguments: what it will be called with, by name.

    Raises:
        TypeError: the handler is no function, or none that can be called so.
    """

    def decorate(handler: H) -> H:
        add(check_handler(handler, *arguments))
        return handler

    return decorate if handler is None else decorate(handler)


def check_room_name(room: str) -> str:
    """Return ``room`` if it can name a room: 1 to 256 bytes of UTF-8.

    Raises:
        ValueError: it cannot.
        TypeError: it is no str.
    """
    if not isinstance(room, str):
        raise TypeError(f"a room name is a str, not {type(room).__name__}")
    if not is_room_name(room):
        raise ValueError(f"a room name is a text of 1 to {MAX_EVENT_SIZE} bytes, not {room[:64]!r}")
    return room


def check_client_id(client_id: str) -> str:
    """Return ``client_id`` if somebody could go by it.

    Raises:
        TypeError: it is no str.
    """
    if not isinstance(client_id, str):
        raise TypeError(f"a client id is a str, not {type(client_id).__name__}")
    return client_id


def check_ack_name(name: str) -> str:
    """Return ``name`` if a request can go by it: 1 to 256 bytes of UTF-8, whatever characters.

    Raises:
        MessageError: it cannot, with code ``EMPTY_EVENT``, ``EVENT_TOO_LONG`` or ``INVALID_EVENT_CHARS``.
        TypeError: it is no str.
    """
    if not isinstance(name, str):
        raise TypeError(f"an ack name is a str, not {type(name).__name__}")
    if is_room_name(name):  # the same rule
        return name
    words = f"an ack name is a text of 1 to {MAX_EVENT_SIZE} bytes, not {name[:64]!r}"
    if not name:
        raise MessageError("EMPTY_EVENT", words)
    is_long = len(name.encode("utf-8", "surrogatepass")) > MAX_EVENT_SIZE
    raise MessageError("EVENT_TOO_LONG" if is_long else "INVALID_EVENT_CHARS", words)


def check_payload(payload: bytes | bytearray | memoryview) -> bytes:
    """Return ``payload`` as bytes.

    Raises:
        TypeError: it is nothing of the kind. (``bytes()`` would make five zeros of the number 5.)
    """
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise TypeError(f"a payload is bytes, bytearray or memoryview, not {type(payload).__name__}")

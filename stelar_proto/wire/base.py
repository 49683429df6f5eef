"""What the formats of both wires share: JSON, sizes, names, and who may say what."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from stelar_proto import messages as m
from stelar_proto.errors import MessageError
from stelar_proto.messages import Message, Serializer, check_event_name
from stelar_proto.ws import Role

from .reading import BrokenMessageError

CONNECT_EVENT = "stelar:connect"
JOIN_EVENT, LEAVE_EVENT = "join-room", "leave-room"
# Names that the WebSocket envelope gives a meaning of its own: no event can be told from it.
ENVELOPE_EVENTS = frozenset({CONNECT_EVENT, JOIN_EVENT, LEAVE_EVENT})

# Who may say what: the messages that only one side sends, on either wire.
_FROM_SERVERS_ONLY = frozenset({m.Hello, m.Goodbye})
_FROM_CLIENTS_ONLY = frozenset({m.Join, m.Leave})

# What the protocol prescribes leaves even where the limit is smaller than it: nobody could act on the error.
UNLIMITED = frozenset({m.Hello, m.AckError})

ALIVE = m.Alive()

new_tuple = tuple.__new__  # skips the Python-level __new__ of a NamedTuple: 0.1 µs per message


class BaseFormat:
    """What both formats share: JSON, the checks on incoming names, and the direction of messages."""

    def __init__(self, role: Role, *, serializer: Serializer, max_payload_size: int) -> None:
        self.role = role
        self.max_payload_size = max_payload_size
        self._dumps = serializer.dumps
        self._loads = serializer.loads
        self._wrong_direction = _FROM_SERVERS_ONLY if role is Role.SERVER else _FROM_CLIENTS_ONLY

    def dumps(self, value: Any) -> str:
        """Return ``value`` as compact JSON.

        Raises:
            MessageError: with code ``NOT_SERIALIZABLE``.
        """
        try:
            return self._dumps(value)
        except Exception as error:  # the serializer may be the user's
            raise MessageError("NOT_SERIALIZABLE", f"the data cannot be said in JSON: {error}") from error

    def loads(self, text: str) -> Any:
        try:
            return self._loads(text)
        except Exception as error:  # as above; RecursionError, too, is no more than what the peer sent
            raise BrokenMessageError(f"its JSON is broken: {error}") from None

    def _check_direction(self, message: Message) -> Message:
        if type(message) in self._wrong_direction:
            kind = type(message).__name__.lower()
            return m.Invalid(f"a {kind} message came from the side that does not send it")
        return message

    def _check_size(self, message: Message, payload: bytes) -> bytes:
        if len(payload) > self.max_payload_size and type(message) not in UNLIMITED:
            raise MessageError(
                "PAYLOAD_TOO_LARGE",
                f"a payload of {len(payload)} bytes is over max_payload_size ({self.max_payload_size})",
            )
        return payload


@lru_cache(maxsize=1024)
def check_plain_event_name(name: str) -> str:
    """The names of events without more: not those that mean joining, leaving or connecting on one wire."""
    if check_event_name(name) in ENVELOPE_EVENTS:
        raise MessageError("RESERVED_EVENT", f"{name!r} is a word of the protocol itself; choose another")
    return check_event_name(name)


def encode_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MessageError(
            "NOT_SERIALIZABLE", "the data holds a lone surrogate, which UTF-8 cannot say"
        ) from None

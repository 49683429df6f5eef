"""One alphabet for both wires: what two ends say to each other, whatever carries it.

The messages are the same for WebSocket and TCP; ``wire`` turns them into the bytes of either. The rules for
event names stand here too, because they hold on both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import isinf
from typing import Any, NamedTuple, Protocol, TypeAlias

from stelar_proto.errors import MessageError

MAX_EVENT_SIZE = 256
RESERVED_EVENTS = frozenset({"ping", "pong", "connect", "disconnect", "error"})
JOINED_ROOM, LEFT_ROOM = "joined-room", "left-room"

# The fields with which answers travel inside JSON, the same on both wires.
CORRELATION_FIELD = "_correlationId"

_EVENT_NAME = re.compile(r"[A-Za-z0-9_\-./:]+", re.ASCII)


class Event(NamedTuple):
    """An event with JSON data."""

    name: str
    data: Any


class Binary(NamedTuple):
    """An event with raw bytes."""

    name: str
    payload: bytes


class AckRequest(NamedTuple):
    """A question: ``event`` asks, the answer comes back under the name ``ack``."""

    ack: str
    event: str
    data: Any
    correlation_id: str | None


class AckResponse(NamedTuple):
    """The answer to an :class:`AckRequest`; without a correlation id it answers the oldest of its name."""

    ack: str
    data: Any
    correlation_id: str | None


class AckError(NamedTuple):
    """The answer that is an error: a code for programs and a sentence for people."""

    ack: str
    code: str
    message: str
    correlation_id: str | None


class Join(NamedTuple):
    """A client asks to enter a room."""

    room: str


class Leave(NamedTuple):
    """A client asks to leave a room."""

    room: str


class Hello(NamedTuple):
    """The server tells a client the id it goes by."""

    client_id: str


class Goodbye(NamedTuple):
    """The server shuts down; nothing follows."""


class Failure(NamedTuple):
    """The peer reports why it ends the conversation."""

    message: str


class Alive(NamedTuple):
    """A sign of life that asks for nothing: a pong, or the heartbeat texts of npm peers."""


class Invalid(NamedTuple):
    """A message that broke the rules of this page: reported, counted and dropped; the connection goes on."""

    reason: str


Message: TypeAlias = (
    Event
    | Binary
    | AckRequest
    | AckResponse
    | AckError
    | Join
    | Leave
    | Hello
    | Goodbye
    | Failure
    | Alive
    | Invalid
)


@lru_cache(maxsize=1024)
def check_event_name(name: str) -> str:
    """Return ``name``, as a plain str, if users may send events under it.

    Event names are 1 to 256 characters of ``A-Z a-z 0-9 _ - . / :``; ``ping``, ``pong``, ``connect``,
    ``disconnect`` and ``error`` are reserved.

    Raises:
        MessageError: with code ``EMPTY_EVENT``, ``EVENT_TOO_LONG``, ``INVALID_EVENT_CHARS`` or
            ``RESERVED_EVENT``.
    """
    if not isinstance(name, str):
        raise TypeError(f"an event name is a str, not {type(name).__name__}")
    name = str.__str__(name)  # a member of a str enum stands for its value
    if not name:
        raise MessageError("EMPTY_EVENT", "an event needs a name of at least one character")
    # Legal characters are ASCII, so that a legal name has as many bytes as characters.
    if len(name.encode("utf-8", "surrogatepass")) > MAX_EVENT_SIZE:
        raise MessageError(
            "EVENT_TOO_LONG", f"an event name has at most {MAX_EVENT_SIZE} bytes: {name[:32]!r}…"
        )
    if _EVENT_NAME.fullmatch(name) is None:
        raise MessageError(
            "INVALID_EVENT_CHARS", f"event names are made of A-Z a-z 0-9 _ - . / : only, not {name!r}"
        )
    if name in RESERVED_EVENTS:
        raise MessageError("RESERVED_EVENT", f"the event name {name!r} is reserved; choose another")
    return name


class Serializer(Protocol):
    """Turns values into JSON text and back.

    Whatever ``dumps`` raises means that the value cannot be sent, whatever ``loads`` raises, that the peer
    sent something else than JSON.
    """

    def dumps(self, value: Any) -> str: ...

    def loads(self, data: str) -> Any: ...


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"{text[:32]} is out of range")
    return value


class StandardJson:
    """The standard library's ``json``: compact and not ASCII-escaped, and the same values both ways.

    Neither way lets through what the other could not say again: NaN, infinities (``1e999`` included) and
    lone surrogates, which JSON can spell and UTF-8 cannot.
    """

    def __init__(self) -> None:
        encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_parse_float)
        self._encode, self._decode = encoder.encode, decoder.decode
        # What those two make anew for each value, and what they look for around it, costs as much as a small
        # value itself: the same parts, made once.
        self._encode_chunks = _chunk_encoder(encoder)
        self._scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]

    def dumps(self, value: Any) -> str:
        try:
            return "".join(self._encode_chunks(value, 0))
        except RecursionError:
            return self._encode(value)  # which knows a value that holds itself from one that is deep

    def loads(self, data: str) -> Any:
        try:
            value, end = self._scan(data, 0)
        except StopIteration:
            end = -1
        if end != len(data):
            value = self._decode(data)  # there is something around it, or no value
        if "\\" in data and ("\\ud" in data or "\\uD" in data):
            self.dumps(value).encode()  # only escapes can spell surrogates, in pairs or alone
        return value


def _chunk_encoder(encoder: json.JSONEncoder) -> Callable[[Any, int], Iterable[str]]:
    """Return what ``encoder.iterencode()`` would make, without a memory of what it is inside of."""
    make, encode_text = json.encoder.c_make_encoder, json.encoder.encode_basestring  # type: ignore[attr-defined]
    if make is None:  # an interpreter that is not CPython
        return lambda value, _: encoder.iterencode(value)
    chunks: Callable[[Any, int], Iterable[str]] = make(
        None, encoder.default, encode_text, None, ":", ",", False, False, False
    )
    return chunks


JSON: Serializer = StandardJson()

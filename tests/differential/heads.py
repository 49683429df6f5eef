"""Heads of handshakes: right ones in any spelling that HTTP allows, and ways to break them.

Responsible for the bytes that each codec is fed before a connection is open. A head is kept in its parts, so
that the known differences can say what they are about. There are no heads here that only try a limit or the
framing of a body: those are each library's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st

from .handshakes import ACCEPT, KEY


class Line(NamedTuple):
    """A header line, in latin-1. Where the colon is wrong or missing, it is ``separator`` that says so."""

    name: str
    value: str
    separator: str = ": "
    end: str = "\r\n"

    @property
    def is_broken(self) -> bool:
        """Whether it is not HTTP, whatever name and value say."""
        return not re.fullmatch(":[ \t]*", self.separator) or self.end != "\r\n" or "\r" in self.value

    @property
    def is_folded(self) -> bool:
        """Whether it goes on with the line before."""
        return f"{self.name}{self.separator}".startswith((" ", "\t"))


class Head(NamedTuple):
    """The head of a request or response.

    Attributes:
        start: the request line or status line, without its end.
        lines: the header lines.
        before: what stands in front of all that.
        start_end: the end of the first line.
    """

    start: str
    lines: tuple[Line, ...]
    before: str = ""
    start_end: str = "\r\n"

    def encode(self) -> bytes:
        """The bytes on the wire."""
        lines = (f"{line.name}{line.separator}{line.value}{line.end}" for line in self.lines)
        return f"{self.before}{self.start}{self.start_end}{''.join(lines)}\r\n".encode("latin-1")

    def values(self, name: str) -> list[str]:
        """What the lines of ``name`` say, without the white space around it."""
        return [line.value.strip(" \t") for line in self.lines if line.name.lower() == name]

    def without(self, name: str) -> Head:
        """The head without the lines of ``name``."""
        return self._replace(lines=tuple(line for line in self.lines if line.name.lower() != name))

    def with_values(self, name: str, *values: str) -> Head:
        """The head with these lines of ``name`` instead of those that are there, but for broken ones."""
        lines = (line for line in self.lines if line.is_broken or line.name.lower() != name)
        return self._replace(lines=(*lines, *(Line(name, value) for value in values)))

    def plus(self, *lines: Line) -> Head:
        """The head with more lines at its end."""
        return self._replace(lines=(*self.lines, *lines))


REQUEST = Head(
    "GET /chat HTTP/1.1",
    (
        Line("Host", "localhost"),
        Line("Upgrade", "websocket"),
        Line("Connection", "Upgrade"),
        Line("Sec-WebSocket-Key", KEY),
        Line("Sec-WebSocket-Version", "13"),
    ),
)
RESPONSE = Head(
    "HTTP/1.1 101 Switching Protocols",
    (Line("Upgrade", "websocket"), Line("Connection", "Upgrade"), Line("Sec-WebSocket-Accept", ACCEPT)),
)
INTERIM = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

# --- What is changed --------------------------------------------------------------------------------------

Edit: TypeAlias = Callable[[Head], Head]


def _started(start: str) -> Edit:
    return lambda head: head._replace(start=start)


def _answered(status: int) -> Edit:
    return lambda head: _started(f"HTTP/1.1 {status} x")(head).with_values("content-length", "0")


def _preceded(before: str) -> Edit:
    return lambda head: head._replace(before=before)


def _replaced(name: str, value: str) -> Edit:
    return lambda head: head.with_values(name.lower(), value)


def _dropped(name: str) -> Edit:
    return lambda head: head.without(name.lower())


def _added(*lines: Line, first: bool = False) -> Edit:
    return lambda head: head._replace(lines=(*lines, *head.lines) if first else (*head.lines, *lines))


def _one_line(at: int, line: Callable[[Line], Line]) -> Edit:
    def edit(head: Head) -> Head:
        lines = [*head.lines]
        if lines:
            lines[at % len(lines)] = line(lines[at % len(lines)])
        return head._replace(lines=tuple(lines))

    return edit


def _values(name: str, *values: str) -> list[Edit]:
    """Each value instead of the right one, and in a line on either side of it; and the right line dropped."""
    edits = [_dropped(name)]
    for value in values:
        edits += [_replaced(name, value), _added(Line(name, value)), _added(Line(name, value), first=True)]
    return edits


def _broken(line: Callable[[Line], Line]) -> list[Edit]:
    """Each of the first five lines broken in the same way."""
    return [_one_line(at, line) for at in range(5)]


_COMMON = [
    _broken(lambda line: line._replace(end="\n")),
    _broken(lambda line: line._replace(separator=" : ")),
    _broken(lambda line: line._replace(separator=" ")),
    _broken(lambda line: line._replace(value=line.value + "\rx")),
    _broken(lambda line: line._replace(value="\r\n " + line.value)),
    [lambda head: head._replace(start_end="\n")],
    [_added(Line("X", value)) for value in ("a\r\n\tb", "a\0b", "a\x01b", "a\xe4b", "")],
    [_added(line) for line in (Line("", "a"), Line("X(", "a"), Line(" X", "a"))],
    _values(
        "Connection",
        *("Upgrade", "upgrade", "close", "keep-alive, Upgrade", "Upgrade,", ",\tUpgrade , x", "", "xUpgrade"),
        *("keep alive, Upgrade", "Upgrade;x", '"x", Upgrade', "Upgrade, \xe4"),
    ),
    _values(
        "Upgrade",
        *("websocket", "WebSocket", "h2c", "websocket, h2c", "h2c,websocket", "websocket, websocket"),
        *("websocket/13", ",websocket", "web socket", "", "websocketx"),
    ),
]
# In groups, so that each group is drawn as often as another.
REQUEST_EDITS = [
    *_COMMON,
    [_started(f"{method} /chat HTTP/1.1") for method in ("POST", "HEAD", "get", "OPTIONS")],
    [_started(f"GET /chat HTTP/{version}") for version in ("1.0", "1.2", "2.0", "0.9", "1.1 ", "1", "x")],
    [
        _started(f"GET {target} HTTP/1.1")
        for target in ("*", "http://localhost/chat", "http://h", "/#x", "chat", "/\xe4", "/a b", "/?a=b")
    ],
    [_preceded("\r\n"), _preceded("\r\n\r\n")],
    _values("Host", "other:80", "", "[::1]", "local host", "a:99999", "a/b", "\xe4"),
    _values(
        "Sec-WebSocket-Key",
        *(
            KEY,
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "dGhlIHNhbXBsZSBub25jZR==",
            "",
            "short",
            KEY[:-1],
            "=" + KEY,
            KEY + "x",
        ),
        *("AAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA=", KEY.replace("Z", " "), "\xe4"),
    ),
    _values("Sec-WebSocket-Version", "13", "12", "8", "13, 8", "013", "13;", "+13"),
    _values(
        "Sec-WebSocket-Protocol",
        *("chat", "chat, superchat", "superchat", "other", "Chat", "chat,,other", "chat, chat", "", ","),
        *("a b", "chat/1", '"chat"', "ch\xe4t"),
    ),
    _values("Sec-WebSocket-Extensions", "permessage-deflate", "x; y=1, z", "", "\xe4"),
    _values("Origin", "http://localhost"),
    [_replaced("Content-Length", length) for length in ("0", "5", "x")],
    [_replaced("Transfer-Encoding", "chunked")],
]
RESPONSE_EDITS = [
    *_COMMON,
    [_answered(status) for status in (200, 204, 301, 400, 403, 426, 503, 599, 100, 102, 199, 99, 600, 1010)],
    [
        _started(f"{version} 101 x")
        for version in ("HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1", " HTTP/1.1", "HTTP/1.1 ")
    ],
    [_started(f"HTTP/1.1 101{reason}") for reason in ("", " ", " \xe4", " a\tb", " a\0b")],
    [_preceded(before) for before in ("\r\n", INTERIM, INTERIM * 2)],
    _values(
        "Sec-WebSocket-Accept",
        *(ACCEPT, ACCEPT.lower(), ACCEPT[:-1], ACCEPT + "=", ACCEPT + ", x", "", "\xe4"),
    ),
    _values(
        "Sec-WebSocket-Protocol",
        *("chat", "superchat", "other", "Chat", "chat, superchat", "chat,", ",chat", "", "\xe4"),
    ),
    _values("Sec-WebSocket-Extensions", "permessage-deflate", "", "\xe4"),
]

# --- What makes no difference -----------------------------------------------------------------------------

_DRESS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(
        _one_line,
        st.integers(0, 9),
        st.sampled_from(
            [
                lambda line: line._replace(name=line.name.lower()),
                lambda line: line._replace(name=line.name.swapcase()),
                lambda line: line._replace(separator=line.separator.replace(": ", ":")),
                lambda line: line._replace(separator=line.separator.replace(": ", ":\t ")),
                lambda line: line._replace(value=line.value + " \t"),
            ]
        ),
    ),
    st.sampled_from([Line("X-Trace", "1"), Line("Accept", "*/*"), Line("Cookie", "a=b, c; d=\xe9")]).map(
        _added
    ),
)


@st.composite
def _dressed(draw: st.DrawFn, head: Head) -> Head:
    """The same head in other case and white space, with lines of no matter, in any order."""
    for edit in draw(st.lists(_DRESS, max_size=4)):
        head = edit(head)
    return head._replace(lines=tuple(draw(st.permutations(head.lines))))


def heads(head: Head, edits: list[list[Edit]], max_edits: int) -> st.SearchStrategy[Head]:
    """``head`` with up to so many edits, spelled in any way."""

    def edited(drawn: list[Edit]) -> st.SearchStrategy[Head]:
        result = head
        for edit in drawn:
            result = edit(result)
        return _dressed(result)

    return st.lists(st.sampled_from(edits).flatmap(st.sampled_from), max_size=max_edits).flatmap(edited)

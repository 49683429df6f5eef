"""The grammar of Sec-WebSocket-Extensions (RFC 6455, section 9.1): a list of names, each with parameters.

Responsible for syntax only. What the one extension that is spoken here means stands in :mod:`.deflate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Extension(NamedTuple):
    """One element of the list: ``name; parameter; parameter=value``, the values unquoted."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A name, or a parameter with its value. The values have to be tokens behind their quotes, too, so that the
# backslashes are the only difference. White space may stand around everything (RFC 2616, section 2.1).
_ITEM = re.compile(rf'[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?(;|,|$)')
_EMPTY_ELEMENTS = re.compile(r"[ \t,]*")
_QUOTED_PAIR = re.compile(r"\\(.)")
_IS_TOKEN = re.compile(_TOKEN).fullmatch


def parse_extensions(lines: Iterable[str]) -> list[Extension]:
    """Return the extensions that all ``lines`` of the header field list, in order.

    Raises:
        ValueError: they break the grammar; there is at least one extension in each list.
    """
    text = ",".join(lines)
    extensions = []
    position = _skip_empty_elements(text, 0)
    while True:
        extension, position = _parse_extension(text, position)
        extensions.append(extension)
        position = _skip_empty_elements(text, position)
        if position == len(text):
            return extensions


def _skip_empty_elements(text: str, position: int) -> int:
    # RFC 2616, section 2.1: elements of a list may be empty, and do not count.
    match = _EMPTY_ELEMENTS.match(text, position)
    assert match is not None
    return match.end()


def _parse_extension(text: str, position: int) -> tuple[Extension, int]:
    name, value, separator, position = _parse_item(text, position)
    if value is not None:
        raise ValueError(f"the name of an extension has no value: {name}")
    parameters = []
    while separator == ";":
        parameter, value, separator, position = _parse_item(text, position)
        parameters.append((parameter, value))
    return Extension(name, tuple(parameters)), position


def _parse_item(text: str, position: int) -> tuple[str, str | None, str, int]:
    match = _ITEM.match(text, position)
    if match is None:
        raise ValueError("it is no list of extensions as in: name; parameter; parameter=value, name")
    name, token, quoted, separator = match.groups()
    value = token
    if quoted is not None:
        value = _QUOTED_PAIR.sub(r"\1", quoted)
        if not _IS_TOKEN(value):
            raise ValueError(f"the value of {name} is no token behind its quotes")
    return name, value, separator, match.end()

"""HTTP header fields as one immutable value (RFC 9110, section 5).

Responsible for which names and values may exist at all: what is made from :class:`Headers` cannot inject a
field. Not responsible for lines (:mod:`.http1`), nor for what a field means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

HeaderFields: TypeAlias = "Headers | Mapping[str, str] | Iterable[tuple[str, str]]"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_NOT_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")  # RFC 9110, section 5.5: no controls, latin-1 only
_HIDDEN = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})


def is_token(text: str) -> bool:
    """Return whether ``text`` is one or more letters, digits, ``!#$%&'*+-.^_`|~`` (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Return whether ``text`` is latin-1 without control characters but the tab (RFC 9110, section 5.5)."""
    return _NOT_IN_VALUE.search(text) is None


class Headers:
    """Header fields: ordered, case-insensitive, repeatable and immutable.

    Iterating gives each name once, in its first spelling; :meth:`items` gives every field as it came.

    Arguments:
        fields: (name, value) pairs, or a mapping. White space around a value is dropped, it is no part of it.

    Raises:
        ValueError: a name that is no token, or a value with control characters (CR, LF, NUL …) or with
            characters outside latin-1.
        TypeError: a name or value that is no str.
    """

    __slots__ = ("_fields", "_values")

    def __init__(self, fields: HeaderFields = ()) -> None:
        pairs = fields.items() if isinstance(fields, Headers | Mapping) else fields
        self._set([_checked_field(name, value) for name, value in pairs])

    @classmethod
    def of_checked(cls, pairs: list[tuple[str, str]]) -> Headers:
        """Make headers of fields that are known to pass :func:`is_token` and :func:`is_field_value`."""
        headers = cls.__new__(cls)
        headers._set(pairs)
        return headers

    def _set(self, pairs: list[tuple[str, str]]) -> None:
        self._fields = tuple(pairs)
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of ``name``, or ``default``.

        A repeated field is one list (RFC 9110, section 5.3), joined by ``", "``. So a field that may stand
        only once, such as ``Origin``, matches nothing when it is doubled. ``Set-Cookie`` is no list: it gives
        its first value.
        """
        values = self._values.get(name.lower())
        if values is None:
            return default
        return values[0] if name.lower() == "set-cookie" else ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """Return the value of every line of ``name``, in order; empty when there is none."""
        return list(self._values.get(name.lower(), ()))

    def tokens(self, name: str) -> tuple[str, ...]:
        """Return the elements of the comma-separated list ``name``, in lower case, empty ones left out."""
        elements = (part.strip(" \t").lower() for part in ",".join(self.get_all(name)).split(","))
        return tuple(element for element in elements if element)

    def items(self) -> tuple[tuple[str, str], ...]:
        """Return every (name, value), in order, repeated fields repeated."""
        return self._fields

    def keys(self) -> tuple[str, ...]:
        """Return each name once, in its first spelling (what ``dict(headers)`` needs)."""
        spelling = {name.lower(): name for name, _ in reversed(self._fields)}
        return tuple(spelling[key] for key in self._values)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._values)

    def _key(self) -> tuple[tuple[str, str], ...]:
        return tuple((name.lower(), value) for name, value in self._fields)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        """Show every field; credentials are hidden, for this ends up in logs."""
        shown = [(name, "[hidden]" if name.lower() in _HIDDEN else value) for name, value in self._fields]
        return f"Headers({shown!r})"


def _checked_field(name: str, value: str) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a header is a pair of str, not of {type(name).__name__} and {type(value).__name__}")
    if not is_token(name):
        raise ValueError(f"{name!r} is no header name: letters, digits and !#$%&'*+-.^_`|~ are allowed")
    if not is_field_value(value):
        # The value stays out of the message: it may be a credential.
        raise ValueError(f"the value of header {name!r} has to be latin-1 without CR, LF and other controls")
    return name, value.strip(" \t")

"""The lines of an HTTP/1.1 head (RFC 9112, sections 2 to 5): what requests and responses have in common.

Responsible for line ends, the syntax of header lines, and every limit of a head. Not responsible for the
first line and for what the fields mean: :mod:`.http1` derives its two readers from this one.

Theory of operation: a reader cuts its buffer into lines. A line's length is judged while it comes, its
content when it is complete; so the first fault in the order of the bytes is the one that is reported,
however the bytes were cut into chunks. The first bytes of all are judged one by one: binary junk and TLS
are refused without waiting for a line end that never comes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

from stelar_proto.buffer import ReceiveBuffer
from stelar_proto.errors import HandshakeError, StateError

from .headers import Headers, is_field_value, is_token

_DIGITS = re.compile(r"[0-9]+")  # not str.isdigit, which takes superscripts


def is_decimal(text: str) -> bool:
    """Return whether ``text`` is a Content-Length: one or more ASCII digits (RFC 9110, section 8.6)."""
    return _DIGITS.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How much of a head is read; refused while the bytes arrive, before they are stored.

    Arguments:
        max_request_line_size: bytes of the request line (or status line); more is answered with 414.
        max_header_line_size: bytes of one header line; more is answered with 431.
        max_headers: number of header lines; more is answered with 431.
        max_headers_size: bytes of all header lines, line ends included; more is answered with 431.

    Raises:
        ValueError: a limit under 64 bytes, or under one header line.
    """

    max_request_line_size: int = 8192
    max_header_line_size: int = 8192
    max_headers: int = 128
    max_headers_size: int = 65536

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 64 if field.name.endswith("_size") else 1  # a method must fit in
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} is at least {least}, not {getattr(self, field.name)}")


class HeadReader(ABC):
    """What both directions share: lines, header fields, limits."""

    _recognised_size: ClassVar[int]  # so many bytes are always enough for _recognise
    _unfolds: ClassVar[bool]  # whether a line that goes on in the next one is read, or else refused

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._buffer = ReceiveBuffer()
        self._first_bytes: bytes | None = b""  # None once they are recognised
        self._finished = False
        self._trailing = b""
        self._begin_head()

    def _begin_head(self) -> None:
        self._in_fields = False
        self._fields: list[tuple[str, str]] = []
        self._line_count = 0
        self._room = self._limits.max_headers_size

    @property
    def trailing(self) -> bytes:
        """What came behind the message that :meth:`feed` returned: the first frames, after an upgrade."""
        return self._trailing

    def _fault(self, status: int, reason: str) -> HandshakeError:
        self._finished = True
        return HandshakeError(status, reason)

    @abstractmethod
    def _recognise(self, start: bytes) -> bool:
        """Return whether these first bytes begin a head for sure; raise as soon as they cannot."""

    @abstractmethod
    def _read_start_line(self, line: str) -> None:
        """Take the first line of a head, and say that the fields follow."""

    def _receive(self, data: bytes) -> None:
        if self._finished:
            raise StateError("this reader has returned its message or failed; make a new one for the next")
        self._buffer.feed(data)
        if self._first_bytes is not None:
            self._first_bytes += data[: self._recognised_size - len(self._first_bytes)]
            if self._recognise(self._first_bytes):
                self._first_bytes = None

    def _read_head(self) -> Headers | None:
        """Read lines as far as they go; return the header fields when the empty line has come."""
        while (line := self._next_head_line()) is not None:
            if not self._in_fields:
                self._read_start_line(line)
            elif line:
                self._fields.append(self._parse_field(line))
            else:
                return Headers.of_checked(self._fields)
        return None

    def _next_head_line(self) -> str | None:
        limits = self._limits
        if not self._in_fields:
            size = limits.max_request_line_size
            return self._next_line(size + 1, 414, f"the first line is longer than {size} bytes")
        if self._room <= limits.max_header_line_size + 1:
            reason = f"the header fields together are larger than {limits.max_headers_size} bytes"
            line = self._next_line(self._room - 1, 431, reason)
        else:
            size = limits.max_header_line_size
            line = self._next_line(size + 1, 431, f"a header line is longer than {size} bytes")
        self._room -= 0 if line is None else len(line) + 2
        return line

    def _next_line(self, allowed: int, status: int, reason: str) -> str | None:
        """Cut off one line that has at most ``allowed`` bytes in front of its LF, or fail with the status."""
        end = self._buffer.find(b"\n")
        if (len(self._buffer) if end < 0 else end) > allowed:
            raise self._fault(status, reason)
        if end < 0:
            return None
        line = self._buffer.take(end + 1).decode("latin-1")
        # RFC 9112, section 2.2: a recipient MAY take a bare LF for a line end; those that do and those that
        # do not can be played against each other. A bare CR is invalid anyway.
        if line[-2:] != "\r\n":
            raise self._fault(400, "a line ends with a bare LF; CR LF is required")
        if "\r" in line[:-2]:
            raise self._fault(400, "a CR stands within a line; it is allowed only in front of LF")
        return line[:-2]

    def _parse_field(self, line: str) -> tuple[str, str]:
        self._line_count += 1
        if self._line_count > self._limits.max_headers:
            raise self._fault(431, f"there are more than {self._limits.max_headers} header lines")
        if line[0] in " \t":
            return self._unfold(line)
        name, colon, value = line.partition(":")
        if not colon:
            raise self._fault(400, "a header line has no colon")
        if name[-1:] in (" ", "\t"):  # RFC 9112, section 5.1: MUST be refused
            raise self._fault(400, "white space stands between a header name and its colon")
        if not is_token(name):
            raise self._fault(400, "a header name is empty or has characters that are not allowed in a name")
        if not is_field_value(value):
            raise self._fault(400, f"the value of header {name[:64]} has control characters")
        return name, value.strip(" \t")

    def _unfold(self, line: str) -> tuple[str, str]:
        """Take back the field before, and return it with ``line`` at its end (RFC 9112, section 5.2)."""
        if not self._unfolds or not self._fields:
            raise self._fault(400, "a header line is folded (begins with white space), which is obsolete")
        name, value = self._fields.pop()
        if not is_field_value(line):
            raise self._fault(400, f"the value of header {name[:64]} has control characters")
        more = line.strip(" \t")
        return name, f"{value} {more}".strip(" ")

    def _body_framing(self, headers: Headers) -> tuple[str | None, str | None]:
        """Return Content-Length and Transfer-Encoding, at most one of them (RFC 9112, section 6.3)."""
        lengths = headers.get_all("content-length")
        codings = headers.get_all("transfer-encoding")
        if len(lengths) + len(codings) > 1:
            raise self._fault(400, "only one Content-Length or one Transfer-Encoding is allowed")
        if lengths and not is_decimal(lengths[0]):
            raise self._fault(400, "Content-Length is not a decimal number")
        return lengths[0] if lengths else None, codings[0] if codings else None

"""HTTP/1.1 as far as a WebSocket handshake needs it (RFC 9110, RFC 9112): bytes to values, and back.

Responsible for the syntax of requests and responses, and for refusing what two parsers could read
differently, which is how requests are smuggled. Not responsible for what an upgrade means
(:mod:`.handshake`), nor for request bodies, keep-alive or pipelining: a connection has one exchange.
How a head is read line by line, and its limits, stand in :mod:`.heads`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

from stelar_proto.errors import HandshakeError

from .headers import HeaderFields, Headers, is_field_value, is_token
from .heads import HeadLimits, HeadReader, is_decimal

__all__ = [
    "HeadLimits",
    "HeaderFields",
    "Headers",
    "Request",
    "RequestReader",
    "Response",
    "ResponseReader",
    "encode_request",
    "encode_response",
    "is_token",
]

_TARGET = re.compile(r"/[!-\"$-~]*")  # origin-form in visible ASCII, no fragment (RFC 9112, section 3.2.1)
_ABSOLUTE_TARGET = re.compile(r"(?i:https?)://([^/?]+)/?(.*)")  # RFC 9112, section 3.2.2
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%]*)(?::([0-9]{0,5}))?")  # RFC 9110, section 7.2
# RFC 9112, section 4, except that many servers leave the space out together with the reason.
_STATUS_LINE = re.compile(r"(HTTP/1\.[0-9]) ([1-5][0-9]{2})(?: (.*))?")
_CHUNK_SIZE = re.compile(r"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")  # RFC 9112, section 7.1

_MAX_METHOD_SIZE = 32  # the longest registered one, UPDATEREDIRECTREF, has 17 characters
_MAX_CHUNK_LINE_SIZE = 256
_WITHOUT_BODY = frozenset({101, 204, 304})  # RFC 9112, section 6.3


@dataclass(frozen=True, slots=True)
class Request:
    """The head of an HTTP request.

    Attributes:
        target: path and query as they came; of an absolute URL these alone, its host stands in ``headers``.
        version: ``"1.0"``, or ``"1.1"`` for that and every later 1.x.
    """

    method: str
    target: str
    headers: Headers
    version: str = "1.1"

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8 (U+FFFD stands for what is none)."""
        return unquote(self.target.partition("?")[0])

    @property
    def query_string(self) -> str:
        """What stands behind the ``?``, as it came; empty when there is nothing."""
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, list[str]]:
        """The decoded parameters, each name with all its values; computed on each access."""
        return parse_qs(self.query_string, keep_blank_values=True)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; ``body`` holds as much of the body as the reader's limit let in."""

    status: int
    reason: str
    headers: Headers
    body: bytes = b""


class RequestReader(HeadReader):
    """Reads the head of one request. Its faults are :class:`HandshakeError` with the status to answer.

    HTTP/1.1 and 1.0 are read, the latter for the health checks of load balancers. A body is refused.

    Arguments:
        limits: what is answered with 414 or 431.
    """

    _recognised_size = 2 + _MAX_METHOD_SIZE + 1
    _unfolds = False  # a server may refuse it, and an intermediary could have read two fields

    def __init__(self, limits: HeadLimits = HeadLimits()) -> None:  # noqa: B008 - immutable
        super().__init__(limits)
        self._start_line = ("", "", "")
        self._authority: str | None = None  # of a target that is a whole URL

    def feed(self, data: bytes) -> Request | None:
        """Take bytes; return the request once its head is complete, ``None`` while it is not.

        Raises:
            HandshakeError: the bytes are no request that can be served; no more may be fed.
            StateError: the request was returned, or refused, before.
        """
        self._receive(data)
        headers = self._read_head()
        if headers is None:
            return None
        method, target, version = self._start_line
        self._check_host(headers, version)
        if self._authority is not None:
            # RFC 9112, section 3.2.2: the host of the target counts, what Host says is to be ignored.
            others = [field for field in headers.items() if field[0].lower() != "host"]
            headers = Headers.of_checked([("Host", self._authority), *others])
            self._check_host(headers, version)
        self._check_no_body(headers)
        self._finished = True
        self._trailing = self._buffer.take_all()
        return Request(method, target, headers, version)

    def _recognise(self, start: bytes) -> bool:
        if start[:1] == b"\x16":  # the record type of a TLS handshake (RFC 8446, section 5.1)
            raise self._fault(
                400, "this looks like TLS, on a port that speaks plain HTTP; use ws:// or http://"
            )
        if start == b"\r":
            return False
        # RFC 9112, section 2.2: at least one empty line in front of the request is to be ignored. One is.
        start = start.removeprefix(b"\r\n")[: _MAX_METHOD_SIZE + 1]
        method, space, _ = start.partition(b" ")
        if (method or space) and not is_token(method.decode("latin-1")):
            raise self._fault(400, "this is not HTTP/1.1: it does not begin with a method and a space")
        if len(method) > _MAX_METHOD_SIZE:  # RFC 9112, section 3
            raise self._fault(501, f"no method is longer than {_MAX_METHOD_SIZE} characters")
        return bool(space)

    def _read_start_line(self, line: str) -> None:
        if not line:
            return  # the one empty line that _recognise let through
        parts = line.split(" ")
        if len(parts) != 3:
            raise self._fault(400, "a request line is method, target and version, one space between")
        method, target, version = parts
        if not _VERSION.fullmatch(version):
            raise self._fault(400, "the request line does not end with an HTTP version")
        if not version.startswith("HTTP/1."):
            raise self._fault(505, "only HTTP/1.1 is spoken here")
        absolute = _ABSOLUTE_TARGET.fullmatch(target)
        if absolute is not None:
            self._authority = absolute[1]
            target = f"/{absolute[2]}"
        if not _TARGET.fullmatch(target):
            raise self._fault(
                400, "the request target is not a path from / on, in visible ASCII and without #"
            )
        # RFC 9110, section 2.5: a later minor version is read as the last one that is known.
        self._start_line = (method, target, "1.0" if version == "HTTP/1.0" else "1.1")
        self._in_fields = True

    def _check_host(self, headers: Headers, version: str) -> None:
        """RFC 9112, section 3.2: one Host, and valid, or 400. An empty one is valid."""
        hosts = headers.get_all("host")
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise self._fault(400, f"a request has exactly one Host header, not {len(hosts)}")
        if hosts:
            match = _HOST.fullmatch(hosts[0])
            if match is None or int(match[1] or 0) > 65535:
                raise self._fault(400, "the Host header is not a host name or address with an optional port")

    def _check_no_body(self, headers: Headers) -> None:
        length, coding = self._body_framing(headers)
        if coding is not None or (length is not None and length.strip("0")):
            raise self._fault(413, "the request has a body, and no request body is read here")


class ResponseReader(HeadReader):
    """Reads one response: the head, and, unless it is a 101, the body up to a limit.

    Its faults are :class:`HandshakeError` with status 0. Interim responses (1xx but 101) are skipped.

    Arguments:
        limits: the bounds of the head.
        max_body_size: bytes of the body that are kept; the response is complete when they have come.
        max_interim_responses: how many interim responses may come before the response.
    """

    _recognised_size = len(b"HTTP/1.")
    _unfolds = True  # RFC 9112, section 5.2: a user agent MUST
    _sender = "server"
    _tls_hint = "use wss:// or https://"

    def __init__(
        self,
        limits: HeadLimits = HeadLimits(),  # noqa: B008 - immutable
        *,
        max_body_size: int = 65536,
        max_interim_responses: int = 8,
    ) -> None:
        super().__init__(limits)
        self._max_body_size = max_body_size
        self._interim_left = max_interim_responses
        self._status_line = ("", 0, "")
        self._headers: Headers | None = None
        self._body = bytearray()
        self._wanted = max_body_size  # bytes of the body after which it is complete
        self._chunked = False
        self._chunk_left = 0
        self._chunk_ends = False  # the next line is the empty one behind a chunk

    def feed(self, data: bytes) -> Response | None:
        """Take bytes; return the response once it is complete, ``None`` while it is not.

        Raises:
            HandshakeError: the bytes are no response that can be understood; no more may be fed.
            StateError: the response was returned, or refused, before.
        """
        self._receive(data)
        if self._headers is None:
            self._headers = self._read_final_head()
            if self._headers is None:
                return None
        complete = self._read_chunks() if self._chunked else self._read_plain_body()
        return self._finish(self._headers) if complete else None

    def eof(self) -> Response:
        """Take the end of the stream: return the response with the body as far as it came.

        Raises:
            HandshakeError: not even the head is complete.
            StateError: the response was returned, or refused, before.
        """
        self._receive(b"")
        if self._headers is None:
            words = "the connection ended before a complete HTTP response had come"
            if not len(self._buffer):
                words += f"; if the {self._sender} speaks TLS, {self._tls_hint}"
            raise self._fault(0, words)
        return self._finish(self._headers)

    def _finish(self, headers: Headers) -> Response:
        self._finished = True
        self._trailing = self._buffer.take_all()
        _, status, reason = self._status_line
        return Response(status, reason, headers, bytes(self._body))

    def _fault(self, status: int, reason: str) -> HandshakeError:
        return super()._fault(0, f"the {self._sender}'s answer is no valid HTTP/1.1 response: {reason}")

    def _recognise(self, start: bytes) -> bool:
        if start[:1] in (b"\x15", b"\x16"):  # TLS alert, TLS handshake (RFC 8446, section 5.1)
            raise self._fault(0, f"it looks like TLS; {self._tls_hint}")
        if start[:1] == b"\0":  # the length of a frame
            words = "use tcp:// or tcps://, or the server's WebSocket port"
            raise self._fault(0, f"it looks like the TCP protocol of stelar; {words}")
        if not b"HTTP/1.".startswith(start):
            raise self._fault(0, "it does not begin with HTTP/1.1")
        return len(start) == self._recognised_size

    def _read_start_line(self, line: str) -> None:
        match = _STATUS_LINE.fullmatch(line)
        if match is None or not is_field_value(line):
            raise self._fault(0, "the first line is not HTTP/1.1, a status and a reason")
        self._status_line = (match[1], int(match[2]), match[3] or "")
        self._in_fields = True

    def _read_final_head(self) -> Headers | None:
        while (headers := self._read_head()) is not None:
            version, status, _ = self._status_line
            if status >= 200 or status == 101:
                self._begin_body(version, status, headers)
                return headers
            self._interim_left -= 1
            if self._interim_left < 0:
                raise self._fault(0, "there are too many interim responses in front of it")
            self._begin_head()
        return None

    def _begin_body(self, version: str, status: int, headers: Headers) -> None:
        length, coding = self._body_framing(headers)
        if status == 101 and version == "HTTP/1.0":  # RFC 9110, section 7.8
            raise self._fault(0, "HTTP/1.0 cannot switch protocols")
        if status in _WITHOUT_BODY:
            self._wanted = 0
        elif length is not None:
            # A number of more than 15 digits is over any limit; int() itself refuses the very long ones.
            digits = length.lstrip("0") or "0"
            self._wanted = min(self._max_body_size, int(digits[:16]))
        elif coding is not None:
            if coding.lower() != "chunked":
                raise self._fault(0, "its Transfer-Encoding is not chunked")
            self._chunked = True

    def _read_plain_body(self) -> bool:
        self._body += self._buffer.take(self._wanted - len(self._body))
        return len(self._body) == self._wanted

    def _read_chunks(self) -> bool:
        """Read chunks (RFC 9112, section 7.1) up to the last or the limit; trailer fields are not read."""
        while len(self._body) < self._wanted:
            if self._chunk_left:
                part = self._buffer.take(min(self._chunk_left, self._wanted - len(self._body)))
                if not part:
                    return False
                self._body += part
                self._chunk_left -= len(part)
                self._chunk_ends = not self._chunk_left
                continue
            line = self._next_line(_MAX_CHUNK_LINE_SIZE + 1, 0, "a chunk's first line is too long")
            if line is None:
                return False
            if self._chunk_ends and not line:
                self._chunk_ends = False
                continue
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None or self._chunk_ends:
                raise self._fault(0, "its chunked body is broken")
            self._chunk_left = int(match[1], 16)
            if not self._chunk_left:
                return True
        return True


def encode_request(method: str, target: str, headers: HeaderFields) -> bytes:
    """Return the bytes of a request without body.

    Arguments:
        method: a token, for example ``GET``.
        target: the path and query in visible ASCII.
        headers: the fields, ``Host`` included.

    Raises:
        ValueError: a part of it is not allowed in HTTP/1.1.
    """
    if not is_token(method) or len(method) > _MAX_METHOD_SIZE:
        raise ValueError(f"{method!r} is no method; a token of up to {_MAX_METHOD_SIZE} characters is")
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{target!r} is no target; a path from / on, in visible ASCII and without #, is")
    return _encode_head(f"{method} {target} HTTP/1.1", Headers(headers).items())


def encode_response(status: int, headers: HeaderFields = (), body: bytes = b"") -> bytes:
    """Return the bytes of a response, after which the connection is closed unless it is a 101.

    ``Content-Length`` and ``Connection: close`` are added. A ``Content-Length`` that ``headers`` brings along
    has to be true, or to stand without body, as in the answer to HEAD.

    Arguments:
        status: 101, or 200 to 599.
        headers: the other fields.
        body: what follows; empty for 101, 204 and 304.

    Raises:
        ValueError: another status, a body where none may be, or fields that contradict the framing.
    """
    if status != 101 and not 200 <= status <= 599:
        raise ValueError(f"an answer's status is 101 or from 200 to 599, not {status}")
    if body and status in _WITHOUT_BODY:
        raise ValueError(f"a response with status {status} has no body (RFC 9112, section 6.3)")
    headers = Headers(headers)
    added: list[tuple[str, str]] = []
    if status != 101:
        lengths = headers.get_all("content-length")
        allowed = lengths == [str(len(body))] or (len(lengths) == 1 and not body and is_decimal(lengths[0]))
        if "transfer-encoding" in headers or (lengths and not allowed):
            raise ValueError("leave Content-Length and Transfer-Encoding out; the length is added")
        if not lengths and status not in _WITHOUT_BODY:
            added.append(("Content-Length", str(len(body))))
        if "connection" in headers and "close" not in headers.tokens("connection"):
            raise ValueError("leave Connection out of the headers; Connection: close is added")
        if "connection" not in headers:
            # RFC 9110, section 7.8: who sends Upgrade (as in a 426) names it in Connection.
            added.append(("Connection", "close, Upgrade" if "upgrade" in headers else "close"))
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""  # RFC 9112, section 4: the reason may be empty, the space may not be missing
    return _encode_head(f"HTTP/1.1 {status} {reason}", (*headers.items(), *added)) + body


def _encode_head(start_line: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

"""HTTP CONNECT (RFC 9110, section 9.3.6): asking a proxy for a stream to somewhere else.

Responsible for the request and for the head of the answer, whatever is said over the stream later. Not
responsible for which proxy is asked, nor for any byte behind that head: it is never read here.
"""

from __future__ import annotations

import re

from stelar_proto.errors import HandshakeError, ProxyError

from .headers import Headers
from .http1 import Response, ResponseReader

_HOST = re.compile(r"[A-Za-z0-9._\-]{1,255}|[0-9A-Fa-f:.]{2,45}")
_END_OF_HEAD = b"\r\n\r\n"


class ConnectReader(ResponseReader):
    """Reads the head of a proxy's answer; what is called a body there is none, or is not for us."""

    _sender = "proxy"
    _tls_hint = "use https:// for it"

    def _begin_body(self, version: str, status: int, headers: Headers) -> None:
        # "A client MUST ignore any Content-Length or Transfer-Encoding" of a success; a refusal ends it all.
        self._wanted = 0


class Tunnel:
    """One CONNECT exchange: send :attr:`request`, feed the answer until :attr:`is_open`.

    Arguments:
        host: where to be connected to: a name, which the proxy resolves, or an address without brackets.
        port: the TCP port there.
        proxy: the proxy as messages name it, without credentials.
        authorization: the value of Proxy-Authorization, if there is one.

    Raises:
        ValueError: the host has characters that may not stand in a request.
    """

    def __init__(self, host: str, port: int, *, proxy: str, authorization: str | None = None) -> None:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no host name or address that a proxy can be asked for")
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._proxy = proxy
        self._has_credentials = authorization is not None
        fields = [("Host", self._target)]
        if authorization is not None:
            fields.append(("Proxy-Authorization", authorization))
        lines = [f"CONNECT {self._target} HTTP/1.1", *map(": ".join, Headers(fields).items())]
        self.request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        """The bytes to send."""
        self.is_open = False
        """Whether what is sent from now on goes to the host, and what comes is from there."""
        self._reader = ConnectReader()
        self._last_bytes = b""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._target} through {self._proxy}>"

    @property
    def wanted(self) -> int:
        """How many bytes may be read next: at least so many are missing, so none belongs to the host."""
        for size in (3, 2, 1):
            if self._last_bytes.endswith(_END_OF_HEAD[:size]):
                return len(_END_OF_HEAD) - size
        return len(_END_OF_HEAD)

    def receive_data(self, data: bytes) -> None:
        """Take at most :attr:`wanted` bytes of the answer; ``b""`` is the end of the stream.

        Raises:
            ProxyError: the proxy refused, or its answer is none.
        """
        self._last_bytes = (self._last_bytes + data)[-3:]
        try:
            response = self._reader.feed(data) if data else self._reader.eof()
        except HandshakeError as error:
            raise ProxyError(f"the proxy {self._proxy}: {error.reason}") from None
        if response is None:
            return
        if not 200 <= response.status <= 299:
            raise self._refusal(response)
        self.is_open = True

    def _refusal(self, response: Response) -> ProxyError:
        answer = f"HTTP {response.status} {response.reason}".rstrip()
        words = f"the proxy {self._proxy} refused to connect to {self._target}: {answer}"
        if response.status == 407 and self._has_credentials:
            words += "; it does not accept the user and password that it was given"
        elif response.status == 407:
            words += "; it wants a user and a password, as in proxy='http://user:password@host:port'"
        return ProxyError(words, response=response)

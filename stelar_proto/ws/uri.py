"""WebSocket URLs (RFC 6455, section 3; RFC 3986): from what a user writes to what a client needs.

Responsible for which URLs are allowed, and for making host and resource safe to put into a request. Not
responsible for resolving names, for connecting, or for short forms such as ``localhost:3000``.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import quote, unquote

_SECURE = {"ws": False, "http": False, "wss": True, "https": True}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?")
# White space, controls, surrogates: nothing of this may get into a head. The backslash is read as a slash by
# browsers and as part of the host by others.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[^\]]*\]|[^:\[\]@]*)(?::([0-9]*))?")
_HOST_NAME = re.compile(r"(?:[A-Za-z0-9_\-]{1,63}\.)*[A-Za-z0-9_\-]{1,63}\.?")
_MAX_HOST_SIZE = 253  # RFC 1035, section 2.3.4, as text
_KEPT = "%/?:@[]!$&'()*+,;="  # RFC 3986: reserved characters, and what is percent-encoded already


@dataclass(frozen=True, slots=True)
class WebSocketURL:
    """A WebSocket URL, taken apart.

    Attributes:
        secure: whether the connection uses TLS.
        host: the host name (ASCII, lower case) or IP address, without brackets.
        port: the TCP port, the default one of the scheme if the URL has none.
        resource: path and query, percent-encoded, as they stand in the request line.
        user_info: user and password, decoded, or ``None``; never shown in the repr.
    """

    secure: bool
    host: str
    port: int
    resource: str
    user_info: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def host_header(self) -> str:
        """The value of the Host header: brackets around IPv6, no default port (RFC 6455, section 4.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """The value of the Authorization header that the user info makes (RFC 7617, UTF-8), or ``None``."""
        if self.user_info is None:
            return None
        return "Basic " + b64encode(":".join(self.user_info).encode()).decode()

    def __str__(self) -> str:
        """The URL without user info, fit for logs."""
        return f"{'wss' if self.secure else 'ws'}://{self.host_header}{self.resource}"

    def with_credentials(self) -> str:
        """The whole URL, user and password included: not fit for logs."""
        if self.user_info is None:
            return str(self)
        user_info = ":".join(quote(part, safe="") for part in self.user_info)
        return str(self).replace("://", f"://{user_info}@", 1)


def parse_websocket_url(url: str) -> WebSocketURL:
    """Take a URL apart.

    Host names outside ASCII are encoded with the ``idna`` codec (IDNA 2003). Other characters outside ASCII
    are percent-encoded as UTF-8; what is percent-encoded already stays as it is.

    Arguments:
        url: ``ws://`` or ``wss://`` (or ``http://``, ``https://``, which mean the same), a host or
            ``user:password@host``, and optionally a port, a path and a query.

    Raises:
        ValueError: the URL is none of these, or has a fragment; the message says what is allowed. It does
            not repeat the URL, which may hold a password.
    """
    if _FORBIDDEN.search(url):
        raise ValueError("a WebSocket URL has no spaces, control characters, backslashes or lone surrogates")
    match = _URL.fullmatch(url)
    if match is None or match[1].lower() not in _SECURE:
        raise ValueError(
            "a WebSocket URL begins with ws://, wss://, http:// or https://, as in ws://host/path"
        )
    scheme, authority, path, query, fragment = match.groups()
    if fragment is not None:  # RFC 6455, section 3
        raise ValueError("a WebSocket URL has no fragment; write a # that belongs to path or query as %23")
    secure = _SECURE[scheme.lower()]
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise ValueError("between // and path a URL has host, host:port or [IPv6 address]:port")
    user_info, host, port = match.groups()
    return WebSocketURL(
        secure=secure,
        host=_parse_host(host),
        port=_parse_port(port) if port else (443 if secure else 80),
        resource=quote((path or "/") + (query or ""), safe=_KEPT),
        user_info=_parse_user_info(user_info) if user_info else None,
    )


def _parse_host(host: str) -> str:
    if host.startswith("["):
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(f"{host} is not an IPv6 address") from None
        if address.scope_id is not None:
            raise ValueError(f"{host}: an IPv6 address in a URL has no zone")
        return str(address)
    name = host
    if not host.isascii() and len(host) <= _MAX_HOST_SIZE:  # the codec is slow on very long names
        try:
            name = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"the host name {host!r} is not a valid international domain name") from None
    if len(name) > _MAX_HOST_SIZE or not _HOST_NAME.fullmatch(name):
        raise ValueError(
            f"{host[:_MAX_HOST_SIZE]!r} is no host name: labels of 1 to 63 letters, digits, - and _, joined "
            f"by dots, together at most {_MAX_HOST_SIZE} characters, are allowed"
        )
    return name.lower()


def _parse_port(port: str) -> int:
    digits = port.lstrip("0")
    if not digits or len(digits) > 5 or int(digits) > 65535:
        raise ValueError(f"a port is a number from 1 to 65535, not {port[:20]}")
    return int(digits)


def _parse_user_info(user_info: str) -> tuple[str, str]:
    user, _, password = (unquote(part) for part in user_info.partition(":"))
    # RFC 7617, section 2: the colon ends the user, and control characters are not allowed.
    if ":" in user or _CONTROLS.search(user + password):
        raise ValueError("user and password in a URL have no control characters, and the user no colon")
    return user, password

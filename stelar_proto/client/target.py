"""Where a client connects to: every form of URL that it understands."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from ..ws.uri import parse_websocket_url

_SCHEMES = {
    "ws": ("ws", False),
    "http": ("ws", False),
    "wss": ("ws", True),
    "https": ("ws", True),
    "tcp": ("tcp", False),
    "tcps": ("tcp", True),
}
_SCHEME_OF = {("ws", False): "ws", ("ws", True): "wss", ("tcp", False): "tcp", ("tcp", True): "tcps"}


class Target(NamedTuple):
    """A parsed URL.

    Attributes:
        wire: ``"ws"`` or ``"tcp"``.
        secure: whether TLS carries it.
        host: a name or an address, without brackets.
        port: the port to dial.
        url: the whole URL, in full; for TCP without a path.
    """

    wire: str
    secure: bool
    host: str
    port: int
    url: str


def parse_target(url: str | int, *, mode: str | None = None, secure: bool = False) -> Target:
    """Read where to connect to.

    Arguments:
        url: ``ws://``, ``wss://``, ``http://``, ``https://``, ``tcp://host:port``, ``tcps://host:port``,
            ``host:port``, or only a port of this machine.
        mode: ``"ws"`` or ``"tcp"`` where the URL does not say; None for what it says, else ``"ws"``.
        secure: use TLS where the URL does not say.

    Raises:
        ValueError: the URL makes no sense, or contradicts ``mode``.
    """
    if mode not in (None, "ws", "tcp"):
        raise ValueError(f"mode must be 'ws' or 'tcp', not {mode!r}")
    text = f"localhost:{url}" if isinstance(url, int) else url.strip()
    if text.isdecimal():
        text = f"localhost:{text}"
    if "://" not in text:
        text = f"{_SCHEME_OF[mode or 'ws', secure]}://{text}"
    scheme = text.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"{url!r} begins with {scheme}://, known are {', '.join(_SCHEMES)} and plain host:port")
    wire, is_secure = _SCHEMES[scheme]
    if mode == "tcp" and wire == "ws" and scheme.startswith("http"):
        raise ValueError(f"mode='tcp' and the URL {url!r} contradict each other; write tcp://host:port")
    if mode is not None and mode != wire:
        raise ValueError(f"mode={mode!r} and the URL {url!r} contradict each other")
    if wire == "tcp":
        return _parse_tcp(url, text, is_secure)
    parsed = parse_websocket_url(text)
    return Target(wire, is_secure, parsed.host, parsed.port, text)


def _parse_tcp(url: str | int, text: str, secure: bool) -> Target:
    parts = urlsplit(text)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from None
    if not host or port is None or port == 0:
        raise ValueError(f"{url!r} needs a host and a port, as in tcp://localhost:3001")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{url!r} has more than tcp://host:port, and TCP has no use for it")
    bracketed = f"[{host}]" if ":" in host else host
    return Target("tcp", secure, host, port, f"{_SCHEME_OF['tcp', secure]}://{bracketed}:{port}")

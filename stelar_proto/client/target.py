"""Where a client connects to: every form of URL that it understands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stelar_proto.ws.uri import WebSocketURL, parse_websocket_url

_SCHEMES = {
    "ws": ("ws", False),
    "http": ("ws", False),
    "wss": ("ws", True),
    "https": ("ws", True),
    "tcp": ("tcp", False),
    "tcps": ("tcp", True),
}
_SCHEME_OF = {("ws", False): "ws", ("ws", True): "wss", ("tcp", False): "tcp", ("tcp", True): "tcps"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_PORT_AT_END = re.compile(r":[0-9]+/?\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL.

    Attributes:
        wire: ``"ws"`` or ``"tcp"``.
        secure: whether TLS carries it.
        host: a name or an address, without brackets.
        port: the port to dial.
        url: the whole URL, fit for logs: without user and password, and for TCP without a path.
        handshake_url: for WebSocket: the URL with user and password, which become a header field.
    """

    wire: str
    secure: bool
    host: str
    port: int
    url: str
    handshake_url: str = field(repr=False)


def parse_target(url: str | int, *, mode: str | None = None, secure: bool = False) -> Target:
    """Read where to connect to.

    Arguments:
        url: ``ws://``, ``wss://``, ``http://``, ``https://``, ``tcp://host:port``, ``tcps://host:port``,
            ``host:port``, or only a port of this machine.
        mode: ``"ws"`` or ``"tcp"`` where the URL does not say; None for what it says, else ``"ws"``.
        secure: use TLS where the URL does not say.

    Raises:
        ValueError: the URL makes no sense, or contradicts ``mode`` or ``secure``. The message does not repeat
            the URL, which may hold a password.
        TypeError: it is neither a str nor an int.
    """
    if mode not in (None, "ws", "tcp"):
        raise ValueError(f"mode must be 'ws' or 'tcp', not {mode!r}")
    if isinstance(url, bool) or not isinstance(url, str | int):
        raise TypeError(f"a URL is a str, or an int for a port of this machine, not {type(url).__name__}")
    text = f"localhost:{url}" if isinstance(url, int) else url.strip()
    if text.isdecimal():
        text = f"localhost:{text}"
    match = _SCHEME.match(text)
    if match is None:
        scheme = _SCHEME_OF[mode or "ws", secure]
        text = f"{scheme}://{text}"
    else:
        scheme = match[1].lower()
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ValueError(f"the URL begins with {scheme}://; it may begin with {known} or be host:port")
    wire, is_secure = _SCHEMES[scheme]
    if mode not in (None, wire):
        raise ValueError(f"mode={mode!r} and a URL that begins with {scheme}:// contradict each other")
    if secure and not is_secure:
        # What was meant to be encrypted must not leave in the clear.
        raise ValueError(f"TLS is asked for, and {scheme}:// is without; write {_SCHEME_OF[wire, True]}://")
    # The rules for hosts and ports are the same on both wires.
    parsed = parse_websocket_url(text if wire == "ws" else f"ws{text[len(scheme) :]}")
    shown = str(parsed) if wire == "ws" else _tcp_url(scheme, parsed, text)
    if parsed.resource == "/":
        shown = shown.removesuffix("/")
    return Target(wire, is_secure, parsed.host, parsed.port, shown, text)


def _tcp_url(scheme: str, parsed: WebSocketURL, text: str) -> str:
    if parsed.resource != "/" or parsed.user_info is not None or _PORT_AT_END.search(text) is None:
        raise ValueError(
            f"a {scheme}:// URL has a host, a port and nothing else, as in {scheme}://localhost:3001"
        )
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{scheme}://{host}:{parsed.port}"

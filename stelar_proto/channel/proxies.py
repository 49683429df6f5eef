"""Which HTTP proxy a client goes through, if any: the ``proxy`` option and the usual environment variables.

Pure: the environment is handed in. What is said to the proxy stands in :mod:`stelar_proto.ws.connect`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from stelar_proto.errors import ProxyError
from stelar_proto.ws.connect import Tunnel
from stelar_proto.ws.uri import parse_websocket_url

from .words import words_for

ProxyOption: TypeAlias = str | bool | None
"""The URL of a proxy; None for what the environment says, False for no proxy."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_ALLOWED = "http://host:port or http://user:password@host:port, or https:// for TLS to the proxy itself"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: its name or address, without brackets.
        port: its TCP port.
        secure: whether it is spoken to over TLS, whatever is spoken through it.
        authorization: the value of Proxy-Authorization; never shown.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    secure: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def open_tunnel(
        self,
        host: str,
        port: int,
        *,
        send: Callable[[bytes], Awaitable[object]],
        receive: Callable[[int], Awaitable[bytes | bytearray]],
    ) -> None:
        """Have the proxy connect the stream, which leads to it, to somewhere else.

        Arguments:
            host, port: where to.
            send: sends all it is given.
            receive: returns at most so many bytes, ``b""`` at the end of the stream.

        Raises:
            ProxyError: the proxy refused, or its answer is none.
        """
        tunnel = Tunnel(host, port, proxy=str(self), authorization=self.authorization)
        await send(tunnel.request)
        while not tunnel.is_open:
            tunnel.receive_data(bytes(await receive(tunnel.wanted)))

    def unreachable(self, error: OSError) -> ProxyError:
        """Return what to raise from ``error``, which came of talking to the proxy."""
        return ProxyError(f"the proxy {self}: {words_for(error)}")


def parse_proxy(url: str) -> Proxy:
    """Read the URL of a proxy; ``http://`` may be left out.

    Raises:
        ValueError: it makes no sense, or is a kind of proxy that cannot be used. The message does not repeat
            the URL, which may hold a password.
    """
    match = _SCHEME.match(url)
    scheme = "http" if match is None else match[1].lower()
    if scheme.startswith("socks"):
        raise ValueError(f"SOCKS proxies ({scheme}://) are not supported; a proxy is {_ALLOWED}")
    if scheme not in ("http", "https"):
        raise ValueError(f"a proxy is {_ALLOWED}, and not {scheme}://")
    try:
        parsed = parse_websocket_url(f"http://{url}" if match is None else url)
    except ValueError as error:
        words = str(error).replace("a WebSocket URL", "its URL")
        raise ValueError(f"a proxy is {_ALLOWED}: {words}") from None
    if parsed.resource != "/":
        raise ValueError(f"a proxy is {_ALLOWED}, without a path; / ? # @ in a password are percent-encoded")
    return Proxy(parsed.host, parsed.port, parsed.authorization, parsed.secure)


def proxy_problems(option: object) -> Iterator[str]:
    """Say what is wrong with the ``proxy`` option, if anything is."""
    if isinstance(option, str):
        try:
            parse_proxy(option)
        except ValueError as error:
            yield f"proxy: {error}"
    elif option is not None and option is not False:
        words = "the URL of a proxy, False for none, or None for what the environment says"
        yield f"proxy must be {words}, not {type(option).__name__ if option is not True else True}"


def choose_proxy(
    option: ProxyOption, *, wire: str, secure: bool, host: str, environ: Mapping[str, str], port: int
) -> Proxy | None:
    """Return the proxy to connect through, or None.

    Arguments:
        option: the ``proxy`` option.
        wire: ``"ws"``, for which ``http_proxy`` or ``https_proxy`` counts, else only ``all_proxy``.
        secure: whether TLS carries the connection: ``https_proxy``.
        host, port: where to connect to.
        environ: the environment variables.

    Raises:
        ProxyError: an environment variable, which it names, is no URL of a proxy that can be used.
        ValueError: the option is none.
    """
    if isinstance(option, str):
        return parse_proxy(option)
    if option is False:
        return None
    names = ["all_proxy"] if wire != "ws" else ["https_proxy" if secure else "http_proxy", "all_proxy"]
    name, value = next(((name, value) for name in names if (value := _look_up(name, environ))), ("", ""))
    if not value or _goes_directly(host, port, _look_up("no_proxy", environ)):
        return None
    try:
        return parse_proxy(value)
    except ValueError as error:
        words = f"the environment variable {name} names no proxy that can be used: {error}"
        raise ProxyError(f"{words}; proxy=False ignores it") from None


def _look_up(name: str, environ: Mapping[str, str]) -> str:
    """Return the value of the variable ``name``, written in lower case or, if there is none, in upper case.

    Not all variables are looked through, which may be many: a client asks for each attempt.
    """
    if name == "http_proxy" and "REQUEST_METHOD" in environ and name not in tuple(environ):
        # A CGI program: HTTP_PROXY is what the request's field "Proxy" says, that is, anybody ("httpoxy").
        # Where the system ignores case, looking it up finds that too; walking through the names does not.
        return ""
    return environ.get(name, environ.get(name.upper(), "")).strip()


def _goes_directly(host: str, port: int, no_proxy: str) -> bool:
    """Tell whether no proxy is to be asked for ``host``: it is this machine, or ``no_proxy`` has it."""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
        return True  # to the proxy it would be the proxy's own machine
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        if address is not None:
            if _has_address(entry, host, port):
                return True
            continue
        name, _, wanted_port = entry.partition(":")
        name = name.removeprefix("*").removeprefix(".")
        is_it = host.removesuffix(".") == name or host.removesuffix(".").endswith(f".{name}")
        if name and is_it and wanted_port in ("", str(port)):
            return True
    return False


def _has_address(entry: str, host: str, port: int) -> bool:
    for suffix in ("", f":{port}"):
        if suffix and not entry.endswith(suffix):
            continue
        try:
            if ip_address(host) in ip_network(entry.removesuffix(suffix).strip("[]"), strict=False):
                return True
        except ValueError:
            pass
    return False

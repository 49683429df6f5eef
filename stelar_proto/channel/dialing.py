"""From a connection that was asked for to one that is open, or to the reason why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, Protocol, TypeAlias

from stelar_proto.errors import ConnectError, ProxyError, StelarError, printable

from .events import Closed
from .proxies import Proxy, ProxyOption, choose_proxy
from .runtime import Transport, WaitableEvent
from .words import explain

ATTEMPT_DELAY = 0.25
"""Seconds until the next address of a host is tried, too, while the last does not answer (RFC 8305, 5)."""

Address: TypeAlias = tuple[Any, Any, int, str, Any]
"""What ``getaddrinfo`` says of one: family, kind, protocol, name, and where it is."""


def take_turns(addresses: Iterable[Address]) -> list[Address]:
    """Return ``addresses`` with their families taking turns: where IPv6 is broken, IPv4 is the second."""
    families: dict[Any, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a client connects to, by which way, and how long that may take.

    Attributes:
        wire: ``"ws"`` or ``"tcp"``.
        secure: whether TLS carries it.
        host: a name or an address, without brackets.
        port: the TCP port.
        proxy: the ``proxy`` option.
        connect_timeout: seconds for all of it, from ``began_at`` on: redirects and proxies included.
        began_at: when it began, by the loop's clock.
    """

    wire: str
    secure: bool
    host: str
    port: int
    proxy: ProxyOption = field(default=None, repr=False)  # it may hold a password
    connect_timeout: float
    began_at: float

    def find_proxy(self, environ: Mapping[str, str]) -> Proxy | None:
        """Return the proxy to connect through, or None; see :func:`choose_proxy` for what it raises."""
        return choose_proxy(
            self.proxy, wire=self.wire, secure=self.secure, host=self.host, port=self.port, environ=environ
        )

    def time_left(self, now: float) -> float:
        """Return the seconds that are left."""
        return max(0.0, self.began_at + self.connect_timeout - now)

    def timed_out(self, proxy: Proxy | None) -> TimeoutError:
        """Return what to raise when none are; ``proxy`` is in between, if any is."""
        way = "" if proxy is None else f" through the proxy {proxy}"
        return TimeoutError(f"no connection within {self.connect_timeout:g} s{way}")


class Dialed(Protocol):
    """A client's endpoint while it is being connected."""

    end: Closed | None
    route: Route
    transport: Transport | None
    was_open: bool
    settled: WaitableEvent
    """Set when it is known whether the connection could be opened."""
    lost: WaitableEvent
    """Set when the connection is gone, socket and all."""

    def abort(self, end: Closed) -> None: ...

    def connection_lost(self) -> None: ...


async def establish(link: Dialed, url: str, dial: Callable[[], Awaitable[None]]) -> None:
    """Await ``dial()``, which has a stream drive ``link``, and return when messages can be sent.

    Raises:
        ConnectError: there is no stream, or the server refused, broke the protocol, ended it at once or was
            too slow. The message names ``url`` and what happened; ``__cause__`` says more.
    """
    try:
        await dial()
        await link.settled.wait()
    except BaseException as error:
        link.abort(Closed(1006, "", None))
        if link.transport is None:
            link.connection_lost()
        if isinstance(error, OSError | ProxyError):
            raise _connect_error(link, url, error) from error
        raise
    if not link.was_open:
        end = link.end
        assert end is not None
        link.abort(end)
        await link.lost.wait()
        reason = end.error or StelarError(printable(end.reason) or "the server ended it at once")
        raise _connect_error(link, url, reason) from end.error


def _connect_error(link: Dialed, url: str, error: Exception) -> ConnectError:
    words = explain(error, wire=link.route.wire, secure=link.route.secure)
    return ConnectError(f"cannot connect to {url}: {words}")

"""From a connection that was asked for to one that is open, or to the reason why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import chain, zip_longest
from typing import Any, Protocol, TypeAlias

from stelar_proto.errors import ConnectError, StelarError

from .events import Closed
from .runtime import Transport, WaitableEvent

# What OpenSSL, depending on its version, calls an answer that is no TLS record.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")

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


class Dialed(Protocol):
    """A client's endpoint while it is being connected."""

    end: Closed | None
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
        if isinstance(error, OSError):
            raise _connect_error(url, error) from error
        raise
    if not link.was_open:
        end = link.end
        assert end is not None
        link.abort(end)
        await link.lost.wait()
        reason = end.error or StelarError(end.reason or "the server ended it at once")
        raise _connect_error(url, reason) from end.error


def _connect_error(url: str, error: Exception) -> ConnectError:
    if isinstance(error, ConnectionRefusedError) or isinstance(error.__cause__, ConnectionRefusedError):
        words = "connection refused"
    elif getattr(error, "reason", None) in _NO_TLS:
        words = "the server does not speak TLS on this port"
    else:
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ConnectError(f"cannot connect to {url}: {words}")

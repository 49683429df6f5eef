"""From a connection that was asked for to one that is open, or to the reason why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from stelar_proto.errors import ConnectError, StelarError

from .events import Closed
from .runtime import Transport, WaitableEvent

# What OpenSSL, depending on its version, calls an answer that is no TLS record.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


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

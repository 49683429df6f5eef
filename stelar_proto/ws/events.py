"""What a :class:`~stelar_proto.ws.Connection` reports: things that happened, in order, immutable."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from stelar_proto.errors import PeerError

from .http1 import Request, Response


class RequestReceived(NamedTuple):
    """Server: a plain HTTP request, unless ``plain_http=False``. Answer with :meth:`Connection.respond`."""

    request: Request


class UpgradeRequested(NamedTuple):
    """Server: a valid WebSocket handshake. Call :meth:`Connection.accept` or :meth:`Connection.respond`."""

    request: Request
    subprotocols: tuple[str, ...]


class Opened(NamedTuple):
    """Client: the server accepted; messages may be sent."""

    response: Response
    subprotocol: str | None


class TextReceived(NamedTuple):
    """A whole text message."""

    text: str


class BinaryReceived(NamedTuple):
    """A whole binary message."""

    data: bytes


class PartReceived(NamedTuple):
    """The next piece of a message (``deliver_parts=True``): text if ``str``; ``final`` ends the message."""

    data: str | bytes
    final: bool


class PingReceived(NamedTuple):
    """A ping came; the pong is already in the outgoing buffer."""

    payload: bytes


class PongReceived(NamedTuple):
    """A pong came, asked for or not."""

    payload: bytes


class Closed(NamedTuple):
    """The end; always the last event, exactly once (unless :meth:`Connection.respond` made the end).

    ``code`` and ``reason`` are the peer's after a close handshake (1005 if it sent none), those of our answer
    after a mistake of the peer's, and 1006 when the stream or the handshake ended without a close frame.
    ``error`` is None only after an orderly close handshake.
    """

    code: int
    reason: str
    error: PeerError | None


Event: TypeAlias = (
    RequestReceived
    | UpgradeRequested
    | Opened
    | TextReceived
    | BinaryReceived
    | PartReceived
    | PingReceived
    | PongReceived
    | Closed
)

"""stelar on trio: ``StelarServer`` and ``StelarClient``."""

from stelar_proto.errors import (
    AckTimeout,
    ConnectError,
    ConnectionLost,
    HandlerError,
    MessageError,
    RemoteError,
    StateError,
    StelarError,
)
from stelar_proto.server import ClientInfo, Context, HttpResponse, Stats

from .client import StelarClient
from .server import StelarServer

__all__ = [
    "AckTimeout",
    "ClientInfo",
    "ConnectError",
    "ConnectionLost",
    "Context",
    "HandlerError",
    "HttpResponse",
    "MessageError",
    "RemoteError",
    "StateError",
    "Stats",
    "StelarClient",
    "StelarError",
    "StelarServer",
]

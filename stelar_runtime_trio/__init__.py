"""stelar on trio: servers and clients, and plain WebSocket."""

from stelar_proto.errors import (
    AckTimeout,
    ConnectError,
    ConnectionClosed,
    ConnectionLost,
    HandlerError,
    MessageDropped,
    MessageError,
    RemoteError,
    SlowConsumer,
    StateError,
    StelarError,
)
from stelar_proto.plain import PerMessageDeflate, WebSocketConnection
from stelar_proto.server import ClientInfo, ConnectContext, Context, HttpResponse, Namespace, RateLimit, Stats

from .client import StelarClient
from .server import StelarServer
from .websocket import WebSocketServer, connect_websocket, serve_websocket

__all__ = [
    "AckTimeout",
    "ClientInfo",
    "ConnectContext",
    "ConnectError",
    "ConnectionClosed",
    "ConnectionLost",
    "Context",
    "HandlerError",
    "HttpResponse",
    "MessageDropped",
    "MessageError",
    "Namespace",
    "PerMessageDeflate",
    "RateLimit",
    "RemoteError",
    "SlowConsumer",
    "StateError",
    "Stats",
    "StelarClient",
    "StelarError",
    "StelarServer",
    "WebSocketConnection",
    "WebSocketServer",
    "connect_websocket",
    "serve_websocket",
]

"""stelar on trio: servers and clients, and plain WebSocket."""

from stelar_proto.client import ClientConfig, MessageStream, Received
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
    UpgradeRefused,
)
from stelar_proto.plain import PerMessageDeflate, WebSocketConnection
from stelar_proto.server import (
    ClientInfo,
    ConnectContext,
    Context,
    HttpResponse,
    Namespace,
    RateLimit,
    ServerConfig,
    Stats,
)

from .client import StelarClient
from .server import StelarServer
from .websocket import WebSocketServer, connect_websocket, serve_websocket

__all__ = [
    "AckTimeout",
    "ClientConfig",
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
    "MessageStream",
    "Namespace",
    "PerMessageDeflate",
    "RateLimit",
    "Received",
    "RemoteError",
    "ServerConfig",
    "SlowConsumer",
    "StateError",
    "Stats",
    "StelarClient",
    "StelarError",
    "StelarServer",
    "UpgradeRefused",
    "WebSocketConnection",
    "WebSocketServer",
    "connect_websocket",
    "serve_websocket",
]

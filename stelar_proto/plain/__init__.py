"""WebSocket and nothing else: connections with ``recv`` and ``send``, for both roles, without a socket."""

from stelar_proto.ws import PerMessageDeflate

from .client import ConnectedEndpoint, WebSocketConnector
from .config import ConnectConfig, ConnectOptions, ServeConfig, ServeOptions
from .connection import WebSocketConnection
from .endpoint import WebSocketEndpoint
from .server import ConnectionHandler, PlainServer, ServedEndpoint

__all__ = [
    "ConnectConfig",
    "ConnectOptions",
    "ConnectedEndpoint",
    "ConnectionHandler",
    "PerMessageDeflate",
    "PlainServer",
    "ServeConfig",
    "ServeOptions",
    "ServedEndpoint",
    "WebSocketConnection",
    "WebSocketConnector",
    "WebSocketEndpoint",
]

"""One peer, either wire, either role: messages, acks, and their way to handlers."""

from .acks import AckLedger, PendingAck
from .compression import CompressingFormat
from .config import SessionConfig
from .dispatcher import Deferred, Dispatcher
from .events import Event, Opened
from .session import Session
from .tcp import TcpSession
from .websocket import CLIENT_ID_HEADER, WebSocketSession

__all__ = [
    "CLIENT_ID_HEADER",
    "AckLedger",
    "CompressingFormat",
    "Deferred",
    "Dispatcher",
    "Event",
    "Opened",
    "PendingAck",
    "Session",
    "SessionConfig",
    "TcpSession",
    "WebSocketSession",
]

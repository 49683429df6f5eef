"""One peer, either wire, either role: messages, acks, heartbeat, deadlines and the outbox."""

from .acks import AckLedger, PendingAck
from .config import SessionConfig
from .deadlines import Deadlines
from .endpoint import Endpoint
from .events import Closed, Event, Opened
from .outbox import Outbox
from .runtime import Runtime, Transport, WaitableEvent
from .session import Session
from .state import State
from .tcp import TcpSession
from .websocket import CLIENT_ID_HEADER, WebSocketSession

__all__ = [
    "CLIENT_ID_HEADER",
    "AckLedger",
    "Closed",
    "Deadlines",
    "Endpoint",
    "Event",
    "Opened",
    "Outbox",
    "PendingAck",
    "Runtime",
    "Session",
    "SessionConfig",
    "State",
    "TcpSession",
    "Transport",
    "WaitableEvent",
    "WebSocketSession",
]

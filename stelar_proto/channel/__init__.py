"""One connection and its clock, whatever is said over it; and what any server needs to come and go."""

from .channel import Channel
from .config import ChannelConfig
from .deadlines import Deadlines
from .endpoint import Endpoint
from .events import Closed
from .http import HttpResponse
from .lifecycle import Lifecycle
from .outbox import Outbox
from .places import Place
from .runtime import Runtime, Transport, WaitableEvent
from .state import State
from .websocket import WebSocketChannel

__all__ = [
    "Channel",
    "ChannelConfig",
    "Closed",
    "Deadlines",
    "Endpoint",
    "HttpResponse",
    "Lifecycle",
    "Outbox",
    "Place",
    "Runtime",
    "State",
    "Transport",
    "WaitableEvent",
    "WebSocketChannel",
]

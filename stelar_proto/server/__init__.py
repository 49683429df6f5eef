"""Many peers: clients, rooms, broadcasts, handlers, health; on both wires at once, without a socket."""

from stelar_proto.channel import HttpResponse

from .application import ServerApplication
from .config import ServerConfig, ServerOptions
from .context import ClientInfo, Context
from .health import Stats
from .hooks import HOOKS
from .ip_tracking import IpTracker
from .middleware import ConnectContext, Middleware
from .namespace import Namespace
from .peer import Peer
from .rate_limits import RateLimit, RateLimiter

__all__ = [
    "HOOKS",
    "ClientInfo",
    "ConnectContext",
    "Context",
    "HttpResponse",
    "IpTracker",
    "Middleware",
    "Namespace",
    "Peer",
    "RateLimit",
    "RateLimiter",
    "ServerApplication",
    "ServerConfig",
    "ServerOptions",
    "Stats",
]

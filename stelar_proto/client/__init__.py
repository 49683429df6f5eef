"""A client of one server, as an application uses it: events, requests, rooms, on either wire."""

from .application import ClientApplication
from .config import ClientConfig, ClientOptions
from .incoming import MessageStream, Received
from .target import Target, parse_target

__all__ = [
    "ClientApplication",
    "ClientConfig",
    "ClientOptions",
    "MessageStream",
    "Received",
    "Target",
    "parse_target",
]

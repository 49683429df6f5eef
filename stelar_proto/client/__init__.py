"""One connection to a server, as an application uses it: events, requests, rooms; on either wire."""

from .application import ClientApplication
from .config import ClientConfig
from .target import Target, parse_target

__all__ = ["ClientApplication", "ClientConfig", "Target", "parse_target"]

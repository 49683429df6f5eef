"""The alphabet of ``messages`` to and from the two wires, and nothing about connections.

A format turns a message into what the codec below carries and back. It has no state of its own, so that one
server needs one of each kind, and a broadcast is encoded once per format, not once per recipient.
"""

from __future__ import annotations

from typing import TypeAlias

from .reading import is_room_name
from .tcp import TcpFormat
from .websocket import WebSocketFormat

Format: TypeAlias = WebSocketFormat | TcpFormat

__all__ = ["Format", "TcpFormat", "WebSocketFormat", "is_room_name"]

"""What a session reports: the messages of the peer, and how the connection itself begins and ends."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from stelar_proto.channel import Closed
from stelar_proto.messages import Message
from stelar_proto.ws import RequestReceived, UpgradeRequested


class Opened(NamedTuple):
    """Client: the server took us in; messages may be sent."""


Event: TypeAlias = Message | Opened | Closed | UpgradeRequested | RequestReceived

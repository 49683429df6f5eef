"""How a connection ends, on either wire."""

from __future__ import annotations

from typing import NamedTuple

from stelar_proto.errors import PeerError


class Closed(NamedTuple):
    """The end, on either wire, in the terms of WebSocket; ``error`` is None if nothing went wrong."""

    code: int
    reason: str
    error: PeerError | None

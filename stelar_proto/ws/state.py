"""The states of a connection, and the two ends it has.

Theory of operation. The states are those of sections 4 and 7 of RFC 6455::

    CONNECTING ──accept / 101──▶ OPEN ──close sent──▶ CLOSING ──▶ CLOSED
         │                        └── close received, or failed ─────▲
         └───────────── refused, failed, or ended ───────────────────┘

Responsible for which state may follow which; who moves on, and why, stands in :mod:`.connection`.
"""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """Which end of the connection this is. It decides the handshake and the direction of masking."""

    SERVER = "server"
    CLIENT = "client"

    @property
    def peer(self) -> Role:
        """The other end."""
        return Role.CLIENT if self is Role.SERVER else Role.SERVER


class State(Enum):
    """Where the connection stands."""

    CONNECTING = "connecting"
    """The handshake is not done."""
    OPEN = "open"
    """Messages go both ways."""
    CLOSING = "closing"
    """A close frame was sent; messages are still received."""
    CLOSED = "closed"
    """Nothing is sent or received any more."""


TRANSITIONS: dict[State, set[State]] = {
    State.CONNECTING: {State.OPEN, State.CLOSED},
    State.OPEN: {State.CLOSING, State.CLOSED},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}

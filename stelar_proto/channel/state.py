"""The states of a connection, and which may follow which.

Theory of operation::

    CONNECTING ──accept() or the server's yes──▶ OPEN ──close()──▶ CLOSING ──the peer's close──▶ CLOSED
         │                                         └─── the peer's close or fault, a timeout ──────▲
         └───────────── refused, failed, timed out, stream ended, aborted ─────────────────────────┘

Who moves on, and why, stands in :mod:`.channel` and in those above it.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    """Nothing can be sent: the handshake is not done, or the server has not said yes."""
    OPEN = "open"
    """Messages go both ways."""
    CLOSING = "closing"
    """We said goodbye; messages are still received."""
    CLOSED = "closed"
    """Nothing is received any more."""


TRANSITIONS: dict[State, set[State]] = {
    State.CONNECTING: {State.OPEN, State.CLOSED},
    State.OPEN: {State.CLOSING, State.CLOSED},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}

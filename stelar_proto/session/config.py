"""What the sessions of one server or client have in common, and which values make sense."""

from __future__ import annotations

from dataclasses import dataclass

from stelar_proto.messages import JSON, Serializer
from stelar_proto.tcp import Dialect
from stelar_proto.tcp.frames import LARGEST_FRAME_SIZE

# The Error frame without words: what ends a connection must fit.
_SMALLEST_FRAME_LIMIT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """What all sessions of a server or client have in common. Times in seconds, sizes in bytes.

    Arguments:
        connect_timeout: from the first moment to the end of the handshake.
        heartbeat_interval: silence after which a ping is sent; None for never.
        heartbeat_timeout: how long an unanswered ping may stand.
        close_timeout: how long the peer may take to close.
        max_payload_size: of a message.
        max_frame_size: of a WebSocket frame's payload, or of a whole TCP frame; 12 to 2**32 - 1.
        outbox_limit: what may wait to be sent.
        max_pending_acks: requests in flight.
        tcp_dialect: the numbers of the TCP frame types.
        serializer: JSON to and from text.
        accept_npm_handshake: client: also accept the npm package's wrong Sec-WebSocket-Accept.

    Raises:
        ValueError: a value makes no sense; the message names every such one.
    """

    connect_timeout: float = 10.0
    heartbeat_interval: float | None = 30.0
    heartbeat_timeout: float = 60.0
    close_timeout: float = 5.0
    max_payload_size: int = 10 * 1024 * 1024
    max_frame_size: int = 10 * 1024 * 1024
    outbox_limit: int = 16 * 1024 * 1024
    max_pending_acks: int = 10_000
    tcp_dialect: Dialect = Dialect.DOCUMENTED
    serializer: Serializer = JSON
    accept_npm_handshake: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be a positive number, not {value!r}"
            for name in ("connect_timeout", "heartbeat_interval", "heartbeat_timeout", "close_timeout")
            if not _is_positive(value := getattr(self, name))
            and not (name == "heartbeat_interval" and value is None)
        ]
        problems += [
            f"{name} must be a positive whole number, not {value!r}"
            for name in ("max_payload_size", "max_frame_size", "outbox_limit", "max_pending_acks")
            if not (type(value := getattr(self, name)) is int and value > 0)
        ]
        if not problems and not _SMALLEST_FRAME_LIMIT <= self.max_frame_size <= LARGEST_FRAME_SIZE:
            allowed = f"from {_SMALLEST_FRAME_LIMIT} to {LARGEST_FRAME_SIZE}"
            problems.append(f"max_frame_size must be {allowed}, not {self.max_frame_size}")
        if problems:
            raise ValueError("; ".join(problems))


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0

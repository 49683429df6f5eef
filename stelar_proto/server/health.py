"""What a server counts, and how the health endpoint says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the start; what is lost is counted, never silent."""

    connections: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    invalid_messages: int = 0
    dropped_messages: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a server.

    Attributes:
        total_connections: clients taken in since the start.
        active_connections: clients now; ``ws_connections`` and ``tcp_connections`` of them by wire.
        total_messages_received, total_messages_sent: messages since the start, heartbeats aside.
        invalid_messages: received, but broken; each was dropped and reported in the log.
        dropped_messages: accepted for a client, but lost because it was cut for not reading.
        total_rooms: rooms now.
        uptime: seconds since the start.
    """

    total_connections: int
    active_connections: int
    ws_connections: int
    tcp_connections: int
    total_messages_received: int
    total_messages_sent: int
    invalid_messages: int
    dropped_messages: int
    total_rooms: int
    uptime: float


def health_json(stats: Stats, memory_bytes: int) -> dict[str, object]:
    """Return the health document under the keys of stelar-time-real 3.2.0, so that its monitors work."""
    return {
        "status": "ok",
        "totalConnections": stats.total_connections,
        "activeConnections": stats.active_connections,
        "totalMessagesReceived": stats.total_messages_received,
        "totalMessagesSent": stats.total_messages_sent,
        "totalRooms": stats.total_rooms,
        "uptime": round(stats.uptime * 1000),
        "uptimeSeconds": int(stats.uptime),
        "wsConnections": stats.ws_connections,
        "tcpConnections": stats.tcp_connections,
        "memoryMB": round(memory_bytes / 1024 / 1024, 2),
        "memoryUsage": {"rss": memory_bytes},
        "rateLimiterEntries": 0,
    }

"""What a server counts, and how the health endpoint says it, to monitors and to pages of other origins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from stelar_proto.channel import HttpResponse
from stelar_proto.channel.handlers import is_awaitable
from stelar_proto.ws import Request

from .origins import may_connect


@dataclass(slots=True)
class Counters:
    """Totals since the start; what is lost is counted, never silent."""

    connections: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    invalid_messages: int = 0
    dropped_messages: int = 0
    refused_actions: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a server.

    Attributes:
        total_connections: clients taken in since the start.
        active_connections: clients now; ``ws_connections`` and ``tcp_connections`` of them by wire.
        total_messages_received, total_messages_sent: messages since the start, heartbeats aside.
        invalid_messages: received, but broken; each was dropped and reported in the log.
        dropped_messages: for clients that did not read: dropped, or lost when such a client was cut.
        total_rooms: rooms now.
        uptime: seconds since the start.
        memory_bytes: resident memory of the process; 0 where the system does not tell.
        rate_limiter_entries: buckets of the built-in limiter, and keys that a custom one remembers.
        rate_limited_messages: received, but over a rate limit, and dropped.
        refused_actions: joins, leaves and broadcasts for which there was no room in ``hook_backlog``.
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
    memory_bytes: int
    rate_limiter_entries: int
    rate_limited_messages: int
    refused_actions: int


HealthHandler: TypeAlias = Callable[[Request, Stats], HttpResponse | Awaitable[HttpResponse]]
"""What ``health_handler`` may be: it is given the request and what the server has counted."""

_PREFLIGHT_SECONDS = "86400"


class HealthEndpoint:
    """Answers GET, HEAD and OPTIONS requests for the health of a server.

    Pages of allowed origins may read the answer (CORS, of the Fetch standard): those of all origins if none
    are named, which is safe because no cookie takes part in it.

    Arguments:
        get_stats: returns what the server has counted.
        allowed_origins: returns the origins whose pages may ask; None for all.
        handler: the application's own; None for the document of :func:`health_json`.
    """

    methods = ("GET", "HEAD", "OPTIONS")

    def __init__(
        self,
        get_stats: Callable[[], Stats],
        allowed_origins: Callable[[], Collection[str] | None],
        handler: HealthHandler | None = None,
    ) -> None:
        self._get_stats = get_stats
        self._allowed_origins = allowed_origins
        self._handler = handler

    def __call__(self, request: Request) -> HttpResponse | Awaitable[HttpResponse]:
        """Return the answer to ``request``."""
        if request.method == "OPTIONS":
            methods = ", ".join(self.methods)
            return self._share(request, HttpResponse(204, headers=[("Allow", methods)]))
        stats = self._get_stats()
        if self._handler is None:
            return self._share(request, HttpResponse.of_json(health_json(stats)))
        response = self._handler(request, stats)
        if isinstance(response, HttpResponse) or not is_awaitable(response):
            return self._share(request, response)
        return self._share_later(request, response)

    async def _share_later(self, request: Request, response: Awaitable[HttpResponse]) -> HttpResponse:
        return self._share(request, await response)

    def _share(self, request: Request, response: object) -> HttpResponse:
        """Add what lets a page of another origin read the answer, if it may."""
        if not isinstance(response, HttpResponse):
            raise TypeError(f"health_handler returns HttpResponse, not {type(response).__name__}")
        allowed, origin = self._allowed_origins(), request.headers.get("Origin")
        fields = []
        if allowed is None:
            fields.append(("Access-Control-Allow-Origin", "*"))
        else:
            fields.append(("Vary", "Origin"))  # a cache must not give one origin's answer to another
            if origin is None or not may_connect(origin, allowed):
                return response._replace(headers=(*response.headers, *fields))
            fields.append(("Access-Control-Allow-Origin", origin))
        if request.method == "OPTIONS":
            fields.append(("Access-Control-Allow-Methods", ", ".join(self.methods)))
            wanted = request.headers.get("Access-Control-Request-Headers")
            if wanted is not None:
                fields.append(("Access-Control-Allow-Headers", wanted))
            fields.append(("Access-Control-Max-Age", _PREFLIGHT_SECONDS))
        return response._replace(headers=(*response.headers, *fields))


def health_json(stats: Stats) -> dict[str, object]:
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
        "memoryMB": round(stats.memory_bytes / 1024 / 1024, 2),
        "memoryUsage": {"rss": stats.memory_bytes},
        "rateLimiterEntries": stats.rate_limiter_entries,
    }

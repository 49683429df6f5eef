"""What a server can be told, with its defaults, checked when it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from stelar_proto.channel.handlers import Handler
from stelar_proto.channel.logs import LoggerOption, logger_problems
from stelar_proto.messages import JSON, Serializer
from stelar_proto.session import SessionConfig
from stelar_proto.tcp import Dialect

from .health import HealthHandler
from .hooks import hook_problems
from .origins import origin_problems

_COUNTS = ("max_connections", "max_rooms", "max_rooms_per_client", "inbox_limit", "hook_backlog")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The options of a server. Times in seconds, sizes in bytes.

    Arguments:
        host: the address to listen on, for WebSocket and, unless ``tcp_host`` differs, for TCP.
        port: of HTTP and WebSocket; 0 picks a free one.
        tcp_port: of the binary protocol; None for none, 0 picks a free one.
        tcp_dialect: ``"documented"``, or ``"npm"`` for the peers of the npm package.
        namespace: the path of the server's own namespace, where WebSocket clients connect.
        max_connections: clients at once; one more is refused with 503, or an Error frame.
        max_rooms, max_rooms_per_client: a join over the limit is refused: it is not confirmed.
        max_payload_size, max_frame_size: larger ones are refused at their header.
        generate_client_id: returns the id of a new client; None for random UUIDs (version 4).
        announce_id: tell WebSocket clients their id in a first event too, not only in the 101.
        heartbeat_interval, heartbeat_timeout: seconds of silence before a ping, and from a ping to the end;
            an interval of None sends none.
        connect_timeout: for TLS and handshake together.
        close_timeout: how long a peer may take to close.
        shutdown_timeout: how long :meth:`stop` waits for the clients to go.
        outbox_limit: what may wait for one client to read; a client over it is cut.
        inbox_limit: messages of one client that may wait for its handler before it is read no further.
        health_endpoint: the path of the health document; None for none.
        health_handler: answers there in place of the document: ``handler(request, stats)`` returns an
            :class:`~stelar_proto.channel.HttpResponse`; plain or ``async``.
        allowed_origins: the origins whose pages may connect, and read the health document; None for all.
            Others are refused with 403. Who sends no Origin header is no page of a browser, and may connect.
        hooks: functions by name, plain or ``async``, that are told what happens, and some of which may refuse
            it; see :data:`~stelar_proto.server.HOOKS`.
        hook_backlog: joins and leaves of one client, and broadcasts in one namespace, that may wait for an
            ``async`` hook to decide; one more is refused.
        serializer: JSON to and from text.
        logger: where the server reports, or the name of a level for its own logger, ``stelar.server``.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    tcp_host: str | None = None
    tcp_port: int | None = None
    tcp_dialect: str = "documented"
    namespace: str = "/"
    max_connections: int = 10_000
    max_rooms: int = 10_000
    max_rooms_per_client: int = 50
    max_payload_size: int = 10 * 1024 * 1024
    max_frame_size: int = 10 * 1024 * 1024
    generate_client_id: Callable[[], str] | None = None
    announce_id: bool = True
    heartbeat_interval: float | None = 30.0
    heartbeat_timeout: float = 60.0
    connect_timeout: float = 10.0
    close_timeout: float = 5.0
    shutdown_timeout: float = 10.0
    outbox_limit: int = 16 * 1024 * 1024
    inbox_limit: int = 64
    health_endpoint: str | None = "/health"
    health_handler: HealthHandler | None = None
    allowed_origins: Collection[str] | None = None
    hooks: Mapping[str, Handler] = field(default_factory=dict)
    hook_backlog: int = 1000
    serializer: Serializer = JSON
    logger: LoggerOption = None

    def __post_init__(self) -> None:
        problems = [*self._port_problems(), *self._path_problems(), *self._number_problems()]
        try:
            self.session_config()
        except ValueError as error:
            problems.append(str(error))
        problems += origin_problems(self.allowed_origins)
        problems += hook_problems(self.hooks)
        problems += logger_problems(self.logger)
        problems += [
            f"{name} must be a function, not {function!r}"
            for name in ("generate_client_id", "health_handler")
            if (function := getattr(self, name)) is not None and not callable(function)
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def _port_problems(self) -> list[str]:
        return [
            f"{name} must be from 0 to 65535, not {port!r}"
            for name, port in (("port", self.port), ("tcp_port", self.tcp_port))
            if not (name == "tcp_port" and port is None) and not (type(port) is int and 0 <= port <= 0xFFFF)
        ]

    def _path_problems(self) -> list[str]:
        return [
            f"{name} must be a path that begins with a slash and has no query, not {path!r}"
            for name, path in (("namespace", self.namespace), ("health_endpoint", self.health_endpoint))
            if not (name == "health_endpoint" and path is None) and not is_path(path)
        ]

    def _number_problems(self) -> list[str]:
        problems = [
            f"{name} must be a positive whole number, not {value!r}"
            for name in (
                "max_connections",
                "max_rooms",
                "max_rooms_per_client",
                "inbox_limit",
                "hook_backlog",
            )
            if not (type(value := getattr(self, name)) is int and value > 0)
        ]
        timeout = self.shutdown_timeout
        if not (isinstance(timeout, int | float) and timeout >= 0):
            problems.append(f"shutdown_timeout must be 0 or more seconds, not {timeout!r}")
        return problems

    def session_config(self) -> SessionConfig:
        """Return what concerns each session.

        Raises:
            ValueError: a number is out of its range, or the dialect is unknown.
        """
        return SessionConfig(
            connect_timeout=self.connect_timeout,
            heartbeat_interval=self.heartbeat_interval,
            heartbeat_timeout=self.heartbeat_timeout,
            close_timeout=self.close_timeout,
            max_payload_size=self.max_payload_size,
            max_frame_size=self.max_frame_size,
            outbox_limit=self.outbox_limit,
            tcp_dialect=Dialect.named(self.tcp_dialect),
            serializer=self.serializer,
        )


def is_path(path: object) -> bool:
    """Tell whether a request can be for ``path``."""
    return isinstance(path, str) and path.startswith("/") and "?" not in path

"""What a server can be told, with its defaults, checked when it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict, cast

from stelar_proto.channel.handlers import Handler
from stelar_proto.channel.logs import LoggerOption, logger_problems
from stelar_proto.channel.places import place_problems
from stelar_proto.messages import JSON, Serializer, check_event_name
from stelar_proto.session import SessionConfig
from stelar_proto.ws import CompressionOption, choose_compression

from .addresses import IPNetwork, parse_networks
from .health import HealthHandler
from .hooks import hook_problems
from .ip_tracking import IpTracker
from .options import Options, fixed
from .origins import origin_problems
from .rate_limits import RateLimit, RateLimiter

_DEFAULT_RATE_LIMIT = RateLimit()
"""This very object: nobody asked for it, so it makes room for a ``rate_limiter``."""

_LIMITER_METHODS = ("check", "reset", "cleanup", "size")
_TRACKER_METHODS = ("check", "add", "remove", "get_count", "cleanup")
_COUNTS = (
    "max_connections",
    "max_connections_per_ip",
    "max_rooms",
    "max_rooms_per_client",
    "inbox_limit",
    "hook_backlog",
)

_UNIX = "unix"
"""Among the trusted proxies: those without an address, who may write to the file of the socket."""

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 3000


class ServerOptions(TypedDict, total=False):
    """The keywords of ``StelarServer``: see :class:`ServerConfig`."""

    host: str | None
    port: int | None
    unix_path: str | PurePath | None
    sock: Any
    tcp_host: str | None
    tcp_port: int | None
    tcp_sock: Any
    tcp_dialect: str
    namespace: str
    max_connections: int
    max_connections_per_ip: int
    trusted_proxies: Iterable[object]
    proxy_protocol: bool
    ip_tracker: IpTracker | None
    rate_limit: RateLimit | None
    event_rate_limits: Mapping[str, RateLimit]
    rate_limiter: RateLimiter | None
    max_rooms: int
    max_rooms_per_client: int
    max_payload_size: int
    max_frame_size: int
    generate_client_id: Callable[[], str] | None
    announce_id: bool
    heartbeat_interval: float | None
    heartbeat_timeout: float
    connect_timeout: float
    close_timeout: float
    graceful_shutdown: bool
    shutdown_timeout: float
    outbox_limit: int
    slow_consumer: str
    inbox_limit: int
    health_endpoint: str | None
    health_handler: HealthHandler | None
    allowed_origins: Collection[str] | None
    subprotocols: Sequence[str]
    hooks: Mapping[str, Handler]
    hook_backlog: int
    serializer: Serializer
    compression: CompressionOption
    logger: LoggerOption


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(Options):
    """The options of a server. Times in seconds, sizes in bytes.

    Arguments:
        host: the address to listen on, 127.0.0.1 by default, for WebSocket and, unless ``tcp_host`` differs,
            for TCP.
        port: of HTTP and WebSocket, 3000 by default; 0 picks a free one.
        unix_path: the path of a Unix socket, for HTTP and WebSocket in place of host and port.
        sock: a bound stream socket, likewise; it is the server's, which closes it when it stops.
        tcp_port: of the binary protocol; None for none, 0 picks a free one.
        tcp_sock: a bound stream socket in place of ``tcp_host`` and ``tcp_port``.
        tcp_dialect: ``"documented"``, or ``"npm"`` for the peers of the npm package.
        namespace: the path of the server's own namespace, where WebSocket clients connect.
        max_connections: clients at once; one more is refused with 503, or an Error frame.
        max_connections_per_ip: connections at once from one address, those in the handshake included; one
            more is refused with 429, or an Error frame. Connections without an address are not limited.
        trusted_proxies: networks, as texts or objects of :mod:`ipaddress`, and ``"unix"`` for all who connect
            through a Unix socket, whose ``X-Forwarded-For`` and
            PROXY headers are believed.
        proxy_protocol: the TCP port expects a PROXY header (version 1 or 2) in front of every connection, and
            refuses what comes without one or not from ``trusted_proxies``. Under TLS it stands inside.
        ip_tracker: counts connections by address in place of the server, which then leaves it to
            ``ip_tracker.check`` who may come; see :class:`~stelar_proto.server.IpTracker`.
        rate_limit: of all messages of a client that no other limit concerns; None for none. The default makes
            room for a ``rate_limiter``: with one, it is None unless it is given.
        event_rate_limits: limits of single events, by name; ``join-room`` and ``leave-room`` are such names.
        rate_limiter: decides about messages that no limit concerns; see
            :class:`~stelar_proto.server.RateLimiter`.
        max_rooms, max_rooms_per_client: a join over the limit is refused: it is not confirmed.
        max_payload_size, max_frame_size: larger ones are refused at their header.
        generate_client_id: returns the id of a new client; None for random UUIDs (version 4). It is a plain
            function: nobody is kept waiting for an id.
        announce_id: tell WebSocket clients their id in a first event too, not only in the 101.
        heartbeat_interval, heartbeat_timeout: seconds of silence before a ping, and from a ping to the end;
            an interval of None sends none.
        connect_timeout: for TLS and handshake together.
        close_timeout: how long a peer may take to close.
        graceful_shutdown: whether SIGINT and SIGTERM end :meth:`serve_forever`; else it leaves them alone.
        shutdown_timeout: how long :meth:`stop` waits for the clients to go and for their handlers to end.
        outbox_limit: what may wait for one client to read, 1024 or more.
        slow_consumer: what a client that does not read gets when that is full: ``"close"``, the end;
            ``"drop_oldest"`` or ``"drop_newest"``: events are dropped, and counted, to make room for newer
            ones or in place of them. Answers and what the protocol says are never dropped.
        inbox_limit: messages of one client that may wait for its handler before it is read no further.
        health_endpoint: the path of the health document; None for none.
        health_handler: answers there in place of the document: ``handler(request, stats)`` returns an
            :class:`~stelar_proto.channel.HttpResponse`; plain or ``async``.
        allowed_origins: the origins whose pages may connect, and read the health document; None for all.
            Others are refused with 403. Who sends no Origin header is no page of a browser, and may connect.
        subprotocols: names, the preferred one first: the first that a WebSocket client offers is agreed upon,
            see ``ctx.subprotocol``. Who offers none of them is taken in without one.
        hooks: functions by name, plain or ``async``, that are told what happens, and some of which may refuse
            it; see :data:`~stelar_proto.server.HOOKS`.
        hook_backlog: joins and leaves of one client, and broadcasts in one namespace, that may wait for an
            ``async`` hook to decide; one more is refused.
        serializer: JSON to and from text.
        compression: permessage-deflate (RFC 7692) for those WebSocket clients that offer it: True for its
            defaults, or a :class:`~stelar_proto.ws.PerMessageDeflate`, which must leave
            ``server_no_context_takeover`` on: what goes to many clients is compressed once.
        logger: where the server reports, or the name of a level for its own logger, ``stelar.server``.
    """

    host: str | None = fixed(None)
    port: int | None = fixed(None)
    unix_path: str | PurePath | None = fixed(None)
    sock: Any = fixed(None)
    tcp_host: str | None = fixed(None)
    tcp_port: int | None = fixed(None)
    tcp_sock: Any = fixed(None)
    tcp_dialect: str = fixed("documented")
    namespace: str = fixed("/", "of(path) gives another one beside it")
    max_connections: int = 10_000
    max_connections_per_ip: int = 50
    trusted_proxies: Iterable[object] = ()
    proxy_protocol: bool = False
    ip_tracker: IpTracker | None = fixed(None)
    rate_limit: RateLimit | None = _DEFAULT_RATE_LIMIT
    event_rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    rate_limiter: RateLimiter | None = None
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
    graceful_shutdown: bool = True
    shutdown_timeout: float = 10.0
    outbox_limit: int = 16 * 1024 * 1024
    slow_consumer: str = "close"
    inbox_limit: int = 64
    health_endpoint: str | None = "/health"
    health_handler: HealthHandler | None = None
    allowed_origins: Collection[str] | None = None
    subprotocols: Sequence[str] = ()
    hooks: Mapping[str, Handler] = field(default_factory=dict)
    hook_backlog: int = 1000
    serializer: Serializer = JSON
    compression: CompressionOption = False
    logger: LoggerOption = fixed(None, "set the level of the one it has, or make a new server")
    _is_rate_limit_given: bool = field(init=False, repr=False, compare=False)
    _instead: ClassVar[Mapping[str, str]] = {
        "tls": "reload_tls() reads the certificate again, or takes another",
        "network": "it takes a new server",
    }

    def __post_init__(self) -> None:
        problems = [
            *self._place_problems(),
            *self._path_problems(),
            *self._number_problems(),
            *self._rate_problems(),
            *self._address_problems(),
        ]
        try:
            self.session_config()
        except ValueError as error:
            problems.append(str(error))
        problems += origin_problems(self.allowed_origins)
        problems += hook_problems(self.hooks)
        if isinstance(self.hooks, Mapping):
            self._set("hooks", MappingProxyType(dict(self.hooks)))
        problems += logger_problems(self.logger)
        problems += [
            f"{name} must be a function, not {function!r}"
            for name in ("generate_client_id", "health_handler")
            if (function := getattr(self, name)) is not None and not callable(function)
        ]
        if iscoroutinefunction(self.generate_client_id):
            problems.append("generate_client_id must be a plain function, not an async one")
        if problems:
            raise ValueError("; ".join(problems))
        self._set("subprotocols", tuple(self.subprotocols))
        if self.sock is None and self.unix_path is None:
            object.__setattr__(self, "host", DEFAULT_HOST if self.host is None else self.host)
            object.__setattr__(self, "port", DEFAULT_PORT if self.port is None else self.port)

    def is_custom(self, name: str) -> bool:
        default = {"host": DEFAULT_HOST, "port": DEFAULT_PORT}.get(name)  # which depends on other options
        return Options.is_custom(self, name) and (default is None or getattr(self, name) != default)

    def _place_problems(self) -> list[str]:
        problems = [
            *place_problems(host=self.host, port=self.port, unix_path=self.unix_path, sock=self.sock),
            *place_problems(host=self.tcp_host, port=self.tcp_port, sock=self.tcp_sock, prefix="tcp_"),
        ]
        if self.tcp_port is None and self.tcp_sock is None:  # then these would be without effect
            if self.tcp_host is not None:
                problems.append("tcp_host needs a tcp_port: without one there is no TCP")
            if self.proxy_protocol is True:
                problems.append("proxy_protocol needs a tcp_port or tcp_sock: it concerns TCP only")
        return problems

    def _path_problems(self) -> list[str]:
        return [
            f"{name} must be a path that begins with a slash and has no query, not {path!r}"
            for name, path in (("namespace", self.namespace), ("health_endpoint", self.health_endpoint))
            if not (name == "health_endpoint" and path is None) and not is_path(path)
        ]

    def _number_problems(self) -> list[str]:
        problems = [
            f"{name} must be a positive whole number, not {value!r}"
            for name in _COUNTS
            if not (type(value := getattr(self, name)) is int and value > 0)
        ]
        problems += [
            f"{name} must be True or False, not {value!r}"
            for name in ("graceful_shutdown", "announce_id", "proxy_protocol")
            if not isinstance(value := getattr(self, name), bool)
        ]
        timeout = self.shutdown_timeout
        if not (type(timeout) in (int, float) and timeout >= 0):
            problems.append(f"shutdown_timeout must be 0 or more seconds, not {timeout!r}")
        return problems

    def _rate_problems(self) -> Iterator[str]:
        limit, limits = self.rate_limit, self.event_rate_limits
        is_given = limit is not _DEFAULT_RATE_LIMIT
        self._set("_is_rate_limit_given", is_given)
        if self.rate_limiter is not None and not is_given:
            self._set("rate_limit", None)
        if not isinstance(limit, RateLimit | None):
            yield f"rate_limit must be a RateLimit or None, not {limit!r}"
        if not isinstance(limits, Mapping):
            yield f"event_rate_limits must be a mapping from names to RateLimit, not {limits!r}"
        else:
            self._set("event_rate_limits", MappingProxyType(dict(limits)))
            for name, event_limit in limits.items():
                try:
                    check_event_name(name)
                except (TypeError, ValueError) as error:
                    yield f"event_rate_limits: {error}"
                if not isinstance(event_limit, RateLimit):
                    yield f"event_rate_limits: {name!r} must have a RateLimit, not {event_limit!r}"
        yield from _missing_methods("rate_limiter", self.rate_limiter, _LIMITER_METHODS)

    def _address_problems(self) -> Iterator[str]:
        networks = self.trusted_proxies
        if isinstance(networks, str | bytes) or not isinstance(networks, Iterable):
            yield f"trusted_proxies must be several networks, such as ['10.0.0.0/8'], not {networks!r}"
        else:
            given = tuple(networks)
            parsed, problems = parse_networks(network for network in given if network != _UNIX)
            unix = (_UNIX,) if _UNIX in given else ()
            self._set("trusted_proxies", parsed + unix)
            yield from (f"trusted_proxies: {problem}" for problem in problems)
            if unix and not (self.trusts_unix("ws") or self.trusts_unix("tcp")):
                yield "trusted_proxies: 'unix' needs a unix_path, or a sock or tcp_sock of that family"
            if self.proxy_protocol and not self.trusted_proxies and not problems:
                yield "proxy_protocol needs trusted_proxies: nobody else's header would be believed"
        yield from _missing_methods("ip_tracker", self.ip_tracker, _TRACKER_METHODS)

    def _set(self, name: str, value: object) -> None:
        """Keep ``value``, which may be a copy that nobody else can change, before anybody has seen this."""
        object.__setattr__(self, name, value)

    # --- For the parts ------------------------------------------------------------------------------------

    def _replaced(self, changes: dict[str, Any]) -> ServerConfig:
        if not self._is_rate_limit_given:
            changes = {"rate_limit": _DEFAULT_RATE_LIMIT, **changes}
        return Options._replaced(self, changes)  # super() does not know a dataclass with slots

    @property
    def proxy_networks(self) -> tuple[IPNetwork, ...]:
        """The networks of ``trusted_proxies``."""
        networks = tuple(network for network in self.trusted_proxies if network != _UNIX)
        return cast("tuple[IPNetwork, ...]", networks)

    def trusts_unix(self, kind: str) -> bool:
        """Tell whether connections of ``kind`` come through a Unix socket, and are believed."""
        if _UNIX not in self.trusted_proxies:
            return False
        if kind == "ws" and self.unix_path is not None:
            return True
        family = getattr(self.sock if kind == "ws" else self.tcp_sock, "family", None)
        return getattr(family, "name", None) == "AF_UNIX"

    def session_config(self) -> SessionConfig:
        """Return what concerns each session.

        Raises:
            ValueError: a number is out of its range, the dialect is unknown, or compression is none.
        """
        compression = choose_compression(self.compression)
        if compression is not None and not compression.server_no_context_takeover:
            raise ValueError(
                "compression must leave server_no_context_takeover on: a message to many is compressed once"
            )
        return SessionConfig.of(self, tcp_dialect=self.tcp_dialect, compression=compression)


def _missing_methods(name: str, value: object, methods: Iterable[str]) -> Iterator[str]:
    missing = [method for method in methods if not callable(getattr(value, method, None))]
    if value is not None and missing:
        yield f"{name} must have the methods {', '.join(methods)}; {value!r} has no {', '.join(missing)}"


def is_path(path: object) -> bool:
    """Tell whether a request can be for ``path``."""
    return isinstance(path, str) and path.startswith("/") and "?" not in path

"""The server's public face and its decisions: who is taken in, who hears what, what is counted.

:class:`ServerApplication` is loop-neutral. A runtime derives ``StelarServer`` from it, which adds listening,
serving and stopping, and tells it of connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from logging import DEBUG, INFO, WARNING
from typing import Any, Unpack, overload

from stelar_proto.channel import Closed, Lifecycle, Place, Runtime, Transport
from stelar_proto.channel.config import check_options
from stelar_proto.channel.logs import choose_logger
from stelar_proto.errors import SlowConsumer, printable
from stelar_proto.session import CompressingFormat, Deferred, TcpSession, WebSocketSession
from stelar_proto.session.arguments import register
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Request, Role

from .addresses import plain_address
from .admission import Admission
from .announced import AnnouncedPeer
from .background import Background, Call, Sweep
from .config import DEFAULT_HOST, ServerConfig, ServerOptions, is_path
from .configuring import Configurable
from .health import Counters, HealthEndpoint, Stats
from .hooks import Hooks
from .http import HttpHandler, HttpRouter, Route
from .ip_tracking import Gate
from .line import Line
from .namespace import Namespace
from .peer import Peer
from .reports import Pace, fields_of, tell_repeats, warn
from .throttle import Throttle

# For limiters and trackers that are told of the last clients, seconds; part of what a stop may take.
_SETTLE_TIME = 0.1

# What the bytes of a message depend on.
_FORMAT_OPTIONS = ("serializer", "compression", "max_payload_size", "max_frame_size")


class ServerApplication(Configurable, Namespace, Lifecycle[Peer]):
    """Rooms, broadcasts and handlers for clients of both wires.

    What a :class:`Namespace` can do, it does for the clients of its own path, and for those of TCP.

    Arguments: see :class:`ServerConfig`.

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        TypeError: there is no such option.
    """

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        check_options(ServerConfig, options, type(self).__name__)
        config = ServerConfig(**options)
        Namespace.__init__(self, self, config.namespace)
        Lifecycle.__init__(self, config, choose_logger(config.logger, "stelar.server"))
        self.config: ServerConfig = config
        self._namespaces: dict[str, Namespace] = {self.path: self}
        self.hooks = Hooks(lambda: self.config.hooks, self.logger, self._find)
        self.admission = Admission(self)
        self._http = HttpRouter(self.logger, self._own_routes())
        self._background = Background(self.logger)
        self.throttle = Throttle(self._background, self.logger)
        self.gate = Gate(self, self._background)
        self._session_config = config.session_config()
        self._make_formats()
        self._counters = Counters()
        self._started_at = 0.0

    def _make_formats(self) -> None:
        """How messages are said to all who connect from now on."""
        config = self.config
        self.ws_format = self._new_ws_format()
        self._tcp_format = TcpFormat(
            Role.SERVER,
            dialect=self._session_config.tcp_dialect,
            serializer=config.serializer,
            max_payload_size=config.max_payload_size,
            max_frame_size=config.max_frame_size,
        )

    def _configure(self, config: ServerConfig) -> None:
        before, self.config = self.config, config
        self._session_config = config.session_config()
        # Formats are shared, so that a broadcast is encoded once: new ones only where they would differ.
        if any(getattr(config, name) != getattr(before, name) for name in _FORMAT_OPTIONS):
            self._make_formats()
        self._http.own = self._own_routes()
        if self._runtime is not None:
            self._deadlines.schedule(self._sweep)

    def _find(self, client_id: str) -> Peer | None:
        found = (namespace.hub.get(client_id) for namespace in self._namespaces.values())
        return next((peer for peer in found if peer is not None), None)

    def _new_ws_format(self) -> WebSocketFormat:
        config, compression = self.config, self._session_config.compression
        limits: dict[str, Any] = {
            "serializer": config.serializer,
            "max_payload_size": config.max_payload_size,
        }
        if compression is None:
            return WebSocketFormat(Role.SERVER, **limits)
        return CompressingFormat(compression, **limits)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._address()}, {self.admission.client_count} clients>"

    # --- Plain HTTP -------------------------------------------------------------------------------------

    @overload
    def on_http(self, path: str) -> Callable[[HttpHandler], HttpHandler]: ...
    @overload
    def on_http(self, path: str, handler: HttpHandler) -> HttpHandler: ...
    def on_http(
        self, path: str, handler: HttpHandler | None = None
    ) -> HttpHandler | Callable[[HttpHandler], HttpHandler]:
        """Answer plain GET and HEAD requests for ``path`` with what ``handler(request)`` returns.

        Also a decorator. The whole exchange, an ``async`` handler included, has ``connect_timeout`` seconds.

        Raises:
            ValueError: that is no path.
            StateError: it has a handler already.
            TypeError: the handler is no function.
        """
        if not is_path(path):
            raise ValueError(f"a path begins with a slash and has no query, not {path!r}")
        return register(partial(self._http.add, path), handler, "request")

    def _own_routes(self) -> dict[str, Route]:
        if self.config.health_endpoint is None:
            return {}
        health = HealthEndpoint(
            self.get_stats, lambda: self.config.allowed_origins, self.config.health_handler
        )
        return {self.config.health_endpoint: Route(health, health.methods)}

    # --- Namespaces -------------------------------------------------------------------------------------

    def of(self, path: str) -> Namespace:
        """Return the namespace at ``path``, which is there from now on, whether the server runs or not.

        The same path gives the same namespace; the server's own path gives the server.

        Raises:
            ValueError: that is no path.
        """
        if not is_path(path):
            raise ValueError(f"a namespace is a path that begins with a slash and has no query, not {path!r}")
        namespace = self._namespaces.get(path)
        if namespace is None:
            namespace = self._namespaces[path] = Namespace(self, path)
        return namespace

    def get_namespaces(self) -> list[str]:
        """Return the paths of all namespaces, the server's own first."""
        return list(self._namespaces)

    # --- Information ------------------------------------------------------------------------------------

    def get_stats(self) -> Stats:
        """Return what the server has counted, in all namespaces together."""
        counters, sessions = self._counters, [peer.session for peer in self._peers]
        clients = self.admission.client_count
        on_tcp = sum(peer.protocol == "tcp" for peer in self.hub)  # they have no path to be elsewhere
        return Stats(
            total_connections=counters.connections,
            active_connections=clients,
            ws_connections=clients - on_tcp,
            tcp_connections=on_tcp,
            total_messages_received=counters.messages_received + sum(s.messages_received for s in sessions),
            total_messages_sent=counters.messages_sent + sum(s.messages_sent for s in sessions),
            invalid_messages=counters.invalid_messages,
            dropped_messages=counters.dropped_messages + sum(s.messages_dropped for s in sessions),
            refused_actions=counters.refused_actions,
            total_rooms=self.count_rooms(),
            uptime=self.runtime.now() - self._started_at if self._runtime is not None else 0.0,
            memory_bytes=self.memory_bytes(),
            rate_limited_messages=self.throttle.limited_messages,
            rate_limiter_entries=sum(len(peer.allowance) for peer in self._peers)
            + (self.throttle.count_entries(self.config.rate_limiter) if self._runtime is not None else 0),
        )

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; a runtime knows it."""
        return 0

    def get_tcp_port(self) -> int | None:
        """Return the TCP port that is listened on; None if there is none, 0 if it is a Unix socket."""
        return self._ports[1] if len(self._ports) > 1 else None

    # --- For the runtime --------------------------------------------------------------------------------

    def _places(self) -> Iterator[Place]:
        config = self.config
        yield Place("ws", config.host, config.port, config.unix_path, config.sock)
        if config.tcp_sock is not None:
            yield Place("tcp", sock=config.tcp_sock)
        elif config.tcp_port is not None:
            yield Place("tcp", config.tcp_host or config.host or DEFAULT_HOST, config.tcp_port)

    def begin(self, runtime: Runtime) -> None:
        super().begin(runtime)
        self._counters = Counters()
        self._started_at = runtime.now()
        for namespace in self._namespaces.values():
            namespace.begin_anew()
        self.throttle.begin()
        self.pace = Pace()
        self._background.begin(runtime)
        self._sweep = Sweep(self._sweeps, self._background, runtime.now())
        self._deadlines.schedule(self._sweep)

    def _sweeps(self) -> Iterator[Call]:
        if self.config.rate_limiter is not None:
            yield "rate_limiter.cleanup", self.config.rate_limiter.cleanup
        if self.config.ip_tracker is not None:
            yield "ip_tracker.cleanup", self.config.ip_tracker.cleanup

    def connected(self, kind: str, transport: Transport) -> Peer:
        """A connection came in; ``kind`` is ``"ws"`` or ``"tcp"``. Return what its transport is to drive."""
        now, remote = transport.opened_at, transport.remote_address
        session: WebSocketSession | TcpSession
        if kind == "ws":
            session = WebSocketSession(
                Role.SERVER,
                self._session_config,
                envelope=self.ws_format,
                now=now,
                announce_id=self.config.announce_id,
            )
        else:
            session = TcpSession(Role.SERVER, self._session_config, payloads=self._tcp_format, now=now)
        is_announced = kind == "tcp" and self.config.proxy_protocol
        make = AnnouncedPeer if is_announced else Peer
        peer = make(self, session, None if remote is None else plain_address(remote[0]))
        self._enroll(peer, transport)
        peer.begin()
        peer.flush_soon()
        return peer

    def begin_handshake(self, kind: str, ip: str) -> Callable[[], object] | None:
        return self.gate.begin_handshake(kind, ip)

    async def _end(self, runtime: Runtime) -> None:
        try:
            await self._background.settle(_SETTLE_TIME)
        finally:
            await super()._end(runtime)

    # --- For its peers ----------------------------------------------------------------------------------

    def find_namespace(self, path: str) -> Namespace | None:
        """Return the namespace at ``path``, if there is one."""
        return self._namespaces.get(path)

    def welcome(self, peer: Peer) -> None:
        """A client was taken in."""
        peer.namespace.hub.add(peer)
        self._counters.connections += 1
        self.logger.info(
            "client %s connected over %s from %s",
            peer.id,
            peer.protocol,
            peer.remote_address,
            extra=fields_of(peer),
        )

    def receive_request(self, peer: Peer, request: Request) -> Deferred | None:
        """Plain HTTP on the WebSocket port."""
        return self._http.answer(peer, request)

    def receive_invalid(self, peer: Peer, reason: str) -> Deferred | None:
        """A message that broke the rules was dropped; return the rest if the hook is to be awaited."""
        self._counters.invalid_messages += 1
        warn(peer, "invalid messages", "from %s: %s", peer.id, reason, reason=reason)
        return self.hooks.tell(("on_invalid_message", {"client_id": peer.id, "reason": reason}))

    def make_line(self, peer: Peer | None = None) -> Line:
        """Return a new line of actions that hooks decide about, of one client or of a namespace."""
        return Line(
            self.hooks, self.runtime, self.config.hook_backlog, partial(self._refuse_action, peer), peer
        )

    def _refuse_action(self, peer: Peer | None, is_first: bool) -> None:
        self._counters.refused_actions += 1
        words = f"{self.config.hook_backlog} wait for an async hook"
        level, extra = WARNING if is_first else DEBUG, fields_of(peer, reason=words)
        self.logger.log(level, "refused a join, a leave or a broadcast: %s", words, extra=extra)

    def count_rooms(self) -> int:
        """Return how many rooms there are, in all namespaces."""
        return sum(namespace.hub.room_count for namespace in self._namespaces.values())

    def remove(self, peer: Peer, end: Closed) -> None:
        """A session ended."""
        who = peer.id or peer.remote_address
        extra = fields_of(peer, reason=end.reason or (str(end.error) if end.error else ""), code=end.code)
        if end.error is not None:
            level = WARNING if isinstance(end.error, SlowConsumer) else INFO
            self.logger.log(level, "%s: connection ended: %s", who, end.error, extra=extra)
        elif peer.is_admitted:
            self.logger.info("client %s left: %d %s", who, end.code, printable(end.reason), extra=extra)
        if peer.is_admitted:
            peer.left_rooms = tuple(peer.rooms)
            peer.namespace.hub.remove(peer)
        self.admission.release(peer)

    def forget(self, peer: Peer) -> None:
        super().forget(peer)
        peer.session.on_dropped = None
        self._counters.messages_received += peer.session.messages_received
        self._counters.messages_sent += peer.session.messages_sent
        self._counters.dropped_messages += peer.session.messages_dropped
        tell_repeats(peer)
        self.throttle.forget(peer)
        self.gate.leave(peer)

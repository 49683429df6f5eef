"""The server's public face and its decisions: who is taken in, who hears what, what is counted.

:class:`ServerApplication` is loop-neutral. A runtime derives ``StelarServer`` from it, which adds listening,
serving and stopping, and tells it of connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, overload

from stelar_proto.channel import Closed, Lifecycle, Runtime, Transport
from stelar_proto.channel.logs import choose_logger
from stelar_proto.messages import Binary, Event, Message, check_event_name
from stelar_proto.session import Deferred, TcpSession, WebSocketSession
from stelar_proto.session.arguments import check_payload, register
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Request, Role

from .client_ids import new_client_id
from .config import ServerConfig
from .handlers import HandlerRegistry
from .health import Counters, HealthEndpoint, Stats
from .http import HttpHandler, HttpRouter, Route
from .hub import Hub
from .peer import Peer


class ServerApplication(HandlerRegistry, Lifecycle[Peer]):
    """Rooms, broadcasts and handlers for clients of both wires.

    Arguments: see :class:`ServerConfig`.

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        TypeError: there is no such option.
    """

    def __init__(self, **options: Any) -> None:
        HandlerRegistry.__init__(self)
        config = ServerConfig(**options)
        Lifecycle.__init__(self, config, choose_logger(config.logger, "stelar.server"))
        self.config: ServerConfig = config
        self.hub: Hub[Peer] = Hub()
        self._http = HttpRouter(self.logger, self._own_routes())
        self._session_config = self.config.session_config()
        self._ws_format = WebSocketFormat(
            Role.SERVER, serializer=self.config.serializer, max_payload_size=self.config.max_payload_size
        )
        self._tcp_format = TcpFormat(
            Role.SERVER,
            dialect=self._session_config.tcp_dialect,
            serializer=self.config.serializer,
            max_payload_size=self.config.max_payload_size,
            max_frame_size=self.config.max_frame_size,
        )
        self._counters = Counters()
        self._started_at = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.config.host}:{self.config.port}, {len(self.hub)} clients>"

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
            ValueError: the path does not begin with a slash.
            StateError: it has a handler already.
            TypeError: the handler is no function.
        """
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash, not {path!r}")
        return register(partial(self._http.add, path), handler)

    def _own_routes(self) -> dict[str, Route]:
        if self.config.health_endpoint is None:
            return {}
        health = HealthEndpoint(
            self.get_stats, lambda: self.config.allowed_origins, self.config.health_handler
        )
        return {self.config.health_endpoint: Route(health, health.methods)}

    # --- Sending ----------------------------------------------------------------------------------------

    def broadcast(self, event: str, data: Any = None, exclude_id: str | None = None) -> int:
        """Send an event to every client; return to how many.

        It is encoded once per wire, not once per client.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        return self._send_to_many(None, Event(check_event_name(event), data), exclude_id)

    def broadcast_binary(self, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to every client; return to how many."""
        return self._send_to_many(None, Binary(check_event_name(event), check_payload(payload)), exclude_id)

    def to(self, room: str, event: str, data: Any = None, exclude_id: str | None = None) -> int:
        """Send an event to everyone in ``room``; return to how many."""
        return self._send_to_many(room, Event(check_event_name(event), data), exclude_id)

    def to_binary(self, room: str, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to everyone in ``room``; return to how many."""
        return self._send_to_many(room, Binary(check_event_name(event), check_payload(payload)), exclude_id)

    def to_id(self, client_id: str, event: str, data: Any = None) -> bool:
        """Send to one client; return whether there is such a client.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        check_event_name(event)
        peer = self.hub.get(client_id)
        return peer is not None and peer.emit(event, data)

    def _send_to_many(self, room: str | None, message: Message, exclude_id: str | None) -> int:
        recipients = [peer for peer in self.hub.members(room) if peer.id != exclude_id]
        # Encoded for every wire before it goes to anybody: what one of them cannot say must not reach half.
        frames = {wire: wire.encode_frame(message) for wire in {peer.session.format for peer in recipients}}
        if not frames:  # what cannot be said is wrong even if nobody listens
            self._ws_format.encode_frame(message)
        return sum(peer.send_frame(frames[peer.session.format]) for peer in recipients)

    def disconnect(self, client_id: str, code: int = 1000, reason: str = "") -> bool:
        """Close one client's connection; return whether there is such a client.

        Raises:
            MessageError: the close code must not be sent.
        """
        peer = self.hub.get(client_id)
        if peer is None:
            return False
        peer.close(code, reason)
        return True

    # --- Information ------------------------------------------------------------------------------------

    def get_clients(self, room: str | None = None) -> list[str]:
        """Return the ids of all clients, or of those in ``room``, in the order they came."""
        return [peer.id for peer in self.hub.members(room)]

    def get_room_members(self, room: str) -> list[str]:
        """Return the ids of the clients in ``room``, in the order they came."""
        return self.get_clients(room)

    def get_rooms(self) -> list[str]:
        """Return the names of the rooms that somebody is in."""
        return self.hub.rooms()

    def get_stats(self) -> Stats:
        """Return what the server has counted."""
        counters, sessions = self._counters, [peer.session for peer in self._peers]
        on_tcp = sum(peer.protocol == "tcp" for peer in self.hub)
        return Stats(
            total_connections=counters.connections,
            active_connections=len(self.hub),
            ws_connections=len(self.hub) - on_tcp,
            tcp_connections=on_tcp,
            total_messages_received=counters.messages_received + sum(s.messages_received for s in sessions),
            total_messages_sent=counters.messages_sent + sum(s.messages_sent for s in sessions),
            invalid_messages=counters.invalid_messages,
            dropped_messages=counters.dropped_messages + sum(s.messages_dropped for s in sessions),
            total_rooms=self.hub.room_count,
            uptime=self.runtime.now() - self._started_at if self._runtime is not None else 0.0,
            memory_bytes=self.memory_bytes(),
            rate_limiter_entries=0,
        )

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; a runtime knows it."""
        return 0

    def get_tcp_port(self) -> int | None:
        """Return the TCP port that is listened on; None if there is none."""
        return self._ports[1] if len(self._ports) > 1 else None

    # --- For the runtime --------------------------------------------------------------------------------

    def _addresses(self) -> Iterator[tuple[str, str, int]]:
        config = self.config
        yield "ws", config.host, config.port
        if config.tcp_port is not None:
            yield "tcp", config.tcp_host or config.host, config.tcp_port

    def begin(self, runtime: Runtime) -> None:
        super().begin(runtime)
        self._counters = Counters()
        self._started_at = runtime.now()

    def connected(self, kind: str, transport: Transport) -> Peer:
        """A connection came in; ``kind`` is ``"ws"`` or ``"tcp"``. Return what its transport is to drive."""
        now, remote = transport.opened_at, transport.remote_address
        session: WebSocketSession | TcpSession
        if kind == "ws":
            session = WebSocketSession(
                Role.SERVER,
                self._session_config,
                envelope=self._ws_format,
                now=now,
                announce_id=self.config.announce_id,
            )
        else:
            session = TcpSession(Role.SERVER, self._session_config, payloads=self._tcp_format, now=now)
        peer = Peer(self, session, None if remote is None else remote[0])
        self._enroll(peer, transport)
        if kind == "tcp":
            peer.begin()
            peer.flush_soon()
        return peer

    # --- For its peers ----------------------------------------------------------------------------------

    def receive_upgrade(self, peer: Peer, request: Request) -> Deferred | None:
        """A WebSocket client asks to be taken in."""
        if request.path != self.config.namespace:
            peer.session.refuse(404, f"there is no namespace {request.path!r} here")
            return None
        peer.request = request
        return self.admit(peer)

    def admit(self, peer: Peer) -> Deferred | None:
        """Take a client in, or refuse it; return the rest of its ``on_connection`` handlers."""
        if self.is_shutting_down:
            peer.session.refuse(503, "Server shutting down")
            return None
        if len(self.hub) >= self.config.max_connections:
            self.logger.warning("refused %s: the server is full", peer.remote_address)
            peer.session.refuse(503, "Server full")
            return None
        client_id = new_client_id(
            self.config.generate_client_id, entropy=self.runtime.entropy, taken=self.hub, logger=self.logger
        )
        if client_id is None:
            peer.session.refuse(500, "No client id")
            return None
        peer.id = client_id
        peer.connected_at = self.runtime.wall_clock()
        peer.session.accept(client_id)
        peer.is_admitted = True
        self.hub.add(peer)
        self._counters.connections += 1
        self.logger.info(
            "client %s connected over %s from %s",
            client_id,
            peer.protocol,
            peer.remote_address,
            extra={"client_id": client_id},
        )
        return peer.greet()

    def receive_request(self, peer: Peer, request: Request) -> Deferred | None:
        """Plain HTTP on the WebSocket port."""
        return self._http.answer(peer, request)

    def receive_invalid(self, peer: Peer, reason: str) -> None:
        """A message that broke the rules was dropped."""
        self._counters.invalid_messages += 1
        self.logger.warning("from %s: %s", peer.id, reason, extra={"client_id": peer.id, "reason": reason})

    def join(self, peer: Peer, room: str) -> bool:
        """Put ``peer`` into ``room`` within the limits."""
        if room in peer.rooms:
            return False
        if len(peer.rooms) >= self.config.max_rooms_per_client:
            self.logger.warning("%s may not join %r: it is in %d rooms", peer.id, room, len(peer.rooms))
            return False
        if not self.hub.has_room(room) and self.hub.room_count >= self.config.max_rooms:
            self.logger.warning("%s may not join %r: there are %d rooms", peer.id, room, self.hub.room_count)
            return False
        return self.hub.join(peer, room)

    def remove(self, peer: Peer, end: Closed) -> None:
        """A session ended."""
        who = peer.id or peer.remote_address
        extra = {"client_id": peer.id, "reason": end.reason}
        if end.error is not None:
            self.logger.info("%s: connection ended: %s", who, end.error, extra=extra)
        elif peer.is_admitted:
            self.logger.info("client %s left: %d %s", who, end.code, end.reason, extra=extra)
        if peer.is_admitted:
            self.hub.remove(peer)

    def forget(self, peer: Peer) -> None:
        super().forget(peer)
        self._counters.messages_received += peer.session.messages_received
        self._counters.messages_sent += peer.session.messages_sent
        self._counters.dropped_messages += peer.session.messages_dropped

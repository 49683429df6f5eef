"""The server's public face and its decisions: who is taken in, who hears what, what is counted.

:class:`ServerApplication` is loop-neutral. A runtime derives ``StelarServer`` from it, which adds listening,
serving and stopping, and tells it of connections.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from ..errors import StateError
from ..messages import Binary, Event, Message, check_event_name
from ..session import Closed, Deadlines, Runtime, State, TcpSession, Transport, WebSocketSession
from ..session.endpoint import Deferred, Handler, is_awaitable
from ..session.runtime import WaitableEvent
from ..wire import Format, TcpFormat, WebSocketFormat
from ..ws import Request, Role
from .config import ServerConfig
from .health import Counters, Stats, health_json
from .http import HttpResponse
from .hub import Hub
from .peer import Peer

H = TypeVar("H", bound=Handler)
HttpHandler = Callable[[Request], HttpResponse | Awaitable[HttpResponse]]


class ServerApplication:
    """Rooms, broadcasts and handlers for clients of both wires.

    Arguments: see :class:`ServerConfig`.

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        TypeError: there is no such option.
    """

    def __init__(self, **options: Any) -> None:
        self.config = ServerConfig(**options)
        self.logger = self.config.logger or logging.getLogger("stelar.server")
        self.hub: Hub[Peer] = Hub()
        self.handlers: dict[str, tuple[Handler, ...]] = {}
        """By event: its own handlers, then those for all events."""
        self.catch_all: tuple[Handler, ...] = ()
        self.ack_handlers: dict[str, Handler] = {}
        self.connection_handlers: list[Handler] = []
        self.disconnect_handlers: list[Handler] = []
        self._own_handlers: dict[str, list[Handler]] = {}
        self._http_handlers: dict[str, HttpHandler] = {}
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
        self._peers: set[Peer] = set()  # every open connection, admitted or not
        self._runtime: Runtime | None = None
        self._deadlines = Deadlines(lambda _: None)
        self._started_at = 0.0
        self._stopping = False
        self._emptied: WaitableEvent | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.config.host}:{self.config.port}, {len(self.hub)} clients>"

    # --- Handlers -------------------------------------------------------------------------------------------

    @overload
    def on(self, event: str) -> Callable[[H], H]: ...
    @overload
    def on(self, event: str, handler: H) -> H: ...
    def on(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler(ctx)`` for each such event of a client; also a decorator. Several are called in order.

        Raises:
            MessageError: the name is not one that clients can send.
        """
        check_event_name(event)

        def register(handler: H) -> H:
            self._own_handlers.setdefault(event, []).append(_check_handler(handler))
            self._merge_handlers()
            return handler

        return register if handler is None else register(handler)

    def on_all(self, handler: H) -> H:
        """Call ``handler(ctx)`` for every event, after the event's own handlers; also a decorator."""
        self.catch_all += (_check_handler(handler),)
        self._merge_handlers()
        return handler

    @overload
    def on_ack(self, name: str) -> Callable[[H], H]: ...
    @overload
    def on_ack(self, name: str, handler: H) -> H: ...
    def on_ack(self, name: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Answer requests for ``name`` with what ``handler(ctx)`` returns; also a decorator.

        A handler that raises :class:`~stelar_proto.errors.HandlerError` answers with its words; any other
        exception is logged and answered without them.

        Raises:
            MessageError: the name is not one that clients can ask for.
            StateError: it has a handler already.
        """
        check_event_name(name)

        def register(handler: H) -> H:
            if name in self.ack_handlers:
                raise StateError(f"requests for {name!r} have a handler already, and only one can answer")
            self.ack_handlers[name] = _check_handler(handler)
            return handler

        return register if handler is None else register(handler)

    def on_connection(self, handler: H) -> H:
        """Call ``handler(ctx)`` for each client that was taken in; also a decorator."""
        self.connection_handlers.append(_check_handler(handler))
        return handler

    def on_disconnect(self, handler: H) -> H:
        """Call ``handler(ctx)`` for each client that has gone, its rooms left; also a decorator."""
        self.disconnect_handlers.append(_check_handler(handler))
        return handler

    def on_http(self, path: str) -> Callable[[HttpHandler], HttpHandler]:
        """Answer plain GET and HEAD requests for ``path`` with what ``handler(request)`` returns."""
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash, not {path!r}")

        def register(handler: HttpHandler) -> HttpHandler:
            self._http_handlers[path] = handler
            return handler

        return register

    def _merge_handlers(self) -> None:
        self.handlers = {name: (*own, *self.catch_all) for name, own in self._own_handlers.items()}

    # --- Sending --------------------------------------------------------------------------------------------

    def broadcast(self, event: str, data: Any = None, exclude_id: str | None = None) -> int:
        """Send an event to every client; return to how many.

        It is encoded once per wire, not once per client.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
        """
        return self._send_to_many(None, Event(check_event_name(event), data), exclude_id)

    def broadcast_binary(self, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to every client; return to how many."""
        return self._send_to_many(None, Binary(check_event_name(event), bytes(payload)), exclude_id)

    def to(self, room: str, event: str, data: Any = None, exclude_id: str | None = None) -> int:
        """Send an event to everyone in ``room``; return to how many."""
        return self._send_to_many(room, Event(check_event_name(event), data), exclude_id)

    def to_binary(self, room: str, event: str, payload: bytes, exclude_id: str | None = None) -> int:
        """Send raw bytes to everyone in ``room``; return to how many."""
        return self._send_to_many(room, Binary(check_event_name(event), bytes(payload)), exclude_id)

    def to_id(self, client_id: str, event: str, data: Any = None) -> bool:
        """Send to one client; return whether there is such a client."""
        peer = self.hub.get(client_id)
        return peer is not None and peer.emit(event, data)

    def _send_to_many(self, room: str | None, message: Message, exclude_id: str | None) -> int:
        frames: dict[Format, bytes] = {}
        # A recipient that is cut for not reading leaves the hub, though only when its turn comes: no copy.
        sent = 0
        for peer in self.hub.members(room):
            if peer.id == exclude_id:
                continue
            wire = peer.session.format
            frame = frames.get(wire)
            if frame is None:
                frame = frames[wire] = wire.encode_frame(message)
            peer.send_frame(frame)
            sent += 1
        if not sent:  # what cannot be said is wrong even if nobody listens
            self._ws_format.encode_frame(message)
        return sent

    def disconnect(self, client_id: str, code: int = 1000, reason: str = "") -> bool:
        """Close one client's connection; return whether there is such a client.

        Raises:
            MessageError: the close code must not be sent.
        """
        peer = self.hub.get(client_id)
        if peer is None:
            return False
        peer.disconnect(code, reason)
        return True

    # --- Information ----------------------------------------------------------------------------------------

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
            total_rooms=len(self.hub.rooms()),
            uptime=self.runtime.now() - self._started_at if self._runtime is not None else 0.0,
        )

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; a runtime knows it."""
        return 0

    # --- For the runtime --------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The event loop that the server runs in.

        Raises:
            StateError: the server was not started.
        """
        if self._runtime is None:
            raise StateError("the server is not running: start it first")
        return self._runtime

    def begin(self, runtime: Runtime) -> None:
        """The server starts.

        Raises:
            StateError: it runs already.
        """
        if self._runtime is not None:
            raise StateError("the server is running already; stop() it before starting it again")
        self._runtime = runtime
        self._deadlines = Deadlines(runtime.set_timer)
        self._started_at = runtime.now()
        self._stopping = False

    def connected(self, kind: str, transport: Transport, remote_address: str | None) -> Peer:
        """A connection came in; ``kind`` is ``"ws"`` or ``"tcp"``. Return what its transport is to drive."""
        now = self.runtime.now()
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
        peer = Peer(self, session, remote_address)
        peer.transport = transport
        self._peers.add(peer)
        session.on_deadline_changed = lambda: self._deadlines.schedule(peer)
        self._deadlines.schedule(peer)
        if kind == "tcp":
            peer.begin()
            peer.flush_soon()
        return peer

    def handle_deadlines(self) -> None:
        """The timer that :meth:`Runtime.set_timer` was asked for has come."""
        self._deadlines.run(self.runtime.now())

    def shut_down(self) -> WaitableEvent:
        """Say goodbye to every client and take no new ones; the returned event is set when all have gone."""
        self._stopping = True
        self._emptied = self.runtime.make_event()
        for peer in tuple(self._peers):
            if peer.session.state is State.OPEN:
                peer.disconnect(1001, "Server shutting down")
            elif peer.session.state is State.CONNECTING:
                peer.session.abort(Closed(1001, "Server shutting down", None))
                peer.flush_soon()
        if not self._peers:
            self._emptied.set()
        return self._emptied

    def cut_all(self) -> None:
        """Cut every connection that is left."""
        for peer in tuple(self._peers):
            peer.session.abort(Closed(1001, "Server shutting down", None))
            peer.flush_soon()

    def finish(self) -> None:
        """The server has stopped; it may be started again."""
        self._runtime = None

    # --- For its peers ----------------------------------------------------------------------------------------

    def receive_upgrade(self, peer: Peer, request: Request) -> Deferred | None:
        """A WebSocket client asks to be taken in."""
        if request.path != self.config.namespace:
            peer.session.refuse(404, f"there is no namespace {request.path!r} here")
            return None
        peer.request = request
        return self.admit(peer)

    def admit(self, peer: Peer) -> Deferred | None:
        """Take a client in, or refuse it; return the rest of its ``on_connection`` handlers."""
        if self._stopping:
            peer.session.refuse(503, "Server shutting down")
            return None
        if len(self.hub) >= self.config.max_connections:
            self.logger.warning("refused %s: the server is full", peer.remote_address)
            peer.session.refuse(503, "Server full")
            return None
        client_id = self._new_client_id()
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

    def _new_client_id(self) -> str | None:
        generate = self.config.generate_client_id
        if generate is None:
            return str(uuid.UUID(bytes=self.runtime.entropy(16), version=4))
        try:
            client_id = generate()
        except Exception:
            self.logger.exception("generate_client_id raised; the client is refused")
            return None
        # The id travels in a header field, a frame and log lines; only what is safe in all of them will do.
        if not (isinstance(client_id, str) and 0 < len(client_id) <= 256 and client_id.isascii()):
            problem = "is not a text of 1 to 256 ASCII characters"
        elif not client_id.isprintable() or client_id != client_id.strip():
            problem = "has characters that cannot be printed, or spaces around it"
        elif self.hub.get(client_id) is not None:
            problem = "is taken"
        else:
            return client_id
        self.logger.error("generate_client_id: %r %s; the client is refused", client_id, problem)
        return None

    def receive_request(self, peer: Peer, request: Request) -> Deferred | None:
        """Plain HTTP on the WebSocket port: the health document, a page, or 404."""
        handler = self._http_handlers.get(request.path)
        if handler is None and request.path == self.config.health_endpoint:
            handler = self._report_health
        if handler is None:
            self._respond(peer, request, HttpResponse.of_text("there is nothing here\n", status=404))
        elif request.method not in ("GET", "HEAD"):
            refusal = HttpResponse.of_text("GET and HEAD only\n", status=405, headers=[("Allow", "GET, HEAD")])
            self._respond(peer, request, refusal)
        else:
            try:
                response = handler(request)
            except Exception:
                self._http_failed(peer, request)
            else:
                if not isinstance(response, HttpResponse) and is_awaitable(response):
                    return self._await_response(peer, request, response)
                self._respond(peer, request, response)
        return None

    async def _await_response(self, peer: Peer, request: Request, response: Awaitable[HttpResponse]) -> None:
        try:
            answer = await response
        except Exception:
            self._http_failed(peer, request)
        else:
            self._respond(peer, request, answer)

    def _respond(self, peer: Peer, request: Request, response: object) -> None:
        session = peer.session
        if session.state is not State.CONNECTING or not isinstance(session, WebSocketSession):
            return  # it went while the handler was awaited
        try:
            if not isinstance(response, HttpResponse):
                raise TypeError(f"an HTTP handler returns HttpResponse, not {type(response).__name__}")
            session.respond(response.status, response.body, headers=response.headers)
        except (TypeError, ValueError):
            self._http_failed(peer, request)
        peer.flush_soon()

    def _http_failed(self, peer: Peer, request: Request) -> None:
        self.logger.exception("the HTTP handler of %r failed", request.path)
        if peer.session.state is State.CONNECTING:
            peer.session.refuse(500, "the handler failed")
            peer.flush_soon()

    def _report_health(self, _request: Request) -> HttpResponse:
        return HttpResponse.of_json(health_json(self.get_stats(), self.memory_bytes()))

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
        """A connection is gone for good."""
        self._peers.discard(peer)
        self._deadlines.remove(peer)
        peer.session.on_deadline_changed = None
        self._counters.messages_received += peer.session.messages_received
        self._counters.messages_sent += peer.session.messages_sent
        self._counters.dropped_messages += peer.session.messages_dropped
        if self._stopping and not self._peers and self._emptied is not None:
            self._emptied.set()


def _check_handler(handler: H) -> H:
    if not callable(handler):
        raise TypeError(f"a handler is a function, not {type(handler).__name__}")
    return handler


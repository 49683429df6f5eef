"""Who is taken in: the order in which that is decided, and the places that are kept for those under way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stelar_proto.channel import State
from stelar_proto.channel.handlers import FAULTS
from stelar_proto.session import Deferred
from stelar_proto.ws import Request

from .client_ids import new_client_id
from .middleware import Middleware, MiddlewareChain, Refusal
from .origins import may_connect
from .reports import fields_of

if TYPE_CHECKING:
    from .application import ServerApplication
    from .peer import Peer

_SHUTTING_DOWN: Refusal = (503, "Server shutting down")
_TOO_MANY: Refusal = (429, "Too many connections from this IP")
_FULL: Refusal = (503, "Server full")
_ORIGIN: Refusal = (403, "Origin not allowed")
_NO_ID: Refusal = (500, "No client id")


class Admission:
    """Takes the clients of a server in, or turns them away, in front of the 101 or of the Connect frame.

    Whether the server shuts down is asked first, then whether there are too many from one address, the path,
    the origin, whether there is a place, and the middleware; who has come so far gets an id. A place is taken
    before the middleware runs: those who wait for it are as many as the server takes, not more.
    """

    def __init__(self, server: ServerApplication) -> None:
        self._server = server
        self._places: set[Peer] = set()
        self._client_ids: set[str] = set()  # of every namespace: nobody goes by the same twice

    @property
    def client_count(self) -> int:
        """How many clients there are, in all namespaces."""
        return len(self._client_ids)

    def ask(self, peer: Peer, request: Request | None = None) -> Deferred | None:
        """A client asks to be taken in; TCP has no ``request``. Return the rest if that takes time."""
        refusal = self._find_place(peer, request)
        if refusal is not None:
            self._refuse(peer, refusal)
            return self._tell_full(peer) if refusal is _FULL else None
        middleware = peer.namespace.middleware
        return self._ask_middleware(peer, middleware) if middleware else self._take_in(peer)

    def shut_out(self, peer: Peer) -> None:
        """Turn a client away whose middleware is under way: the server shuts down."""
        self._refuse(peer, _SHUTTING_DOWN)

    def release(self, peer: Peer) -> None:
        """A client has gone, or one that never was: its place and its id are free."""
        self._places.discard(peer)
        if peer.is_admitted:
            self._client_ids.discard(peer.id)

    def _find_place(self, peer: Peer, request: Request | None) -> Refusal | None:
        server = self._server
        if server.is_shutting_down:
            return _SHUTTING_DOWN
        if peer.place is not None and peer.place.is_refused:
            return _TOO_MANY
        if request is not None:
            namespace = server.find_namespace(request.path)
            if namespace is None:
                return 404, f"there is no namespace {request.path!r} here"
            if not may_connect(request.headers.get("Origin"), server.config.allowed_origins):
                return _ORIGIN
            peer.request, peer.namespace = request, namespace
        if len(self._places) >= server.config.max_connections:
            if server.pace.may_warn("full", peer.session.now):
                extra = fields_of(peer, reason=_FULL[1], status=_FULL[0])
                server.logger.warning("refused %s: the server is full", peer.remote_address, extra=extra)
            return _FULL
        self._places.add(peer)
        return None

    def _tell_full(self, peer: Peer) -> Deferred | None:
        return self._server.hooks.tell(
            (
                "on_max_connections_reached",
                {
                    "limit": self._server.config.max_connections,
                    "current": len(self._places),
                    "remote_address": peer.remote_address,
                    "transport": peer.protocol,
                },
            )
        )

    def _ask_middleware(self, peer: Peer, middleware: tuple[Middleware, ...]) -> Deferred | None:
        chain = MiddlewareChain(peer, middleware, self._server.logger)
        peer.is_pending = True
        try:
            rest = chain.run()
        except FAULTS:  # which was reported, and is remembered
            rest = None
        return self._decide(peer, chain) if rest is None else self._await_middleware(peer, chain, rest)

    async def _await_middleware(self, peer: Peer, chain: MiddlewareChain, rest: Deferred) -> None:
        greeting = None
        try:
            await rest
        except FAULTS:  # as above
            pass
        finally:  # cancelled: that it did not come to its end is remembered, too
            greeting = self._decide(peer, chain)
            peer.flush_soon()
        if greeting is not None:
            await greeting

    def _decide(self, peer: Peer, chain: MiddlewareChain) -> Deferred | None:
        refusal = chain.decide()
        peer.is_pending = False
        if peer.session.state is not State.CONNECTING:
            return None  # it has gone meanwhile, or the server shut down
        if refusal is None:
            return self._take_in(peer)
        self._refuse(peer, refusal)
        return None

    def _refuse(self, peer: Peer, refusal: Refusal) -> None:
        self.release(peer)
        peer.refuse(*refusal)
        extra = fields_of(peer, reason=refusal[1], status=refusal[0])
        self._server.logger.info("refused %s: %d %s", peer.remote_address, *refusal, extra=extra)

    def _report_id(self, peer: Peer, message: str, error: BaseException | None) -> None:
        self._server.logger.error(message, exc_info=error, extra=fields_of(peer, reason=message))

    def _take_in(self, peer: Peer) -> Deferred | None:
        server = self._server
        client_id = new_client_id(
            server.config.generate_client_id,
            entropy=server.runtime.entropy,
            taken=self._client_ids,
            report=partial(self._report_id, peer),
        )
        if client_id is None:
            self._refuse(peer, _NO_ID)
            return None
        peer.id = client_id
        peer.connected_at = server.runtime.wall_clock()
        peer.session.accept(client_id)
        peer.is_admitted = True
        self._client_ids.add(client_id)
        server.welcome(peer)
        return peer.greet()

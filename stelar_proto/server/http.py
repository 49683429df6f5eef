"""Plain HTTP beside the WebSocket: the health peer, pages, and the answer where there is nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from logging import Logger
from typing import TYPE_CHECKING, NamedTuple

from stelar_proto.channel import HttpResponse, State
from stelar_proto.channel.handlers import FAULTS, is_awaitable
from stelar_proto.errors import StateError
from stelar_proto.session import Deferred, WebSocketSession
from stelar_proto.ws import Request

from .reports import fields_of

if TYPE_CHECKING:
    from .peer import Peer

HttpHandler = Callable[[Request], HttpResponse | Awaitable[HttpResponse]]

_NOT_FOUND = HttpResponse.of_text("there is nothing here\n", status=404)


class Route(NamedTuple):
    """What answers requests for one path, and which methods it knows."""

    handler: HttpHandler
    methods: tuple[str, ...] = ("GET", "HEAD")


class HttpRouter:
    """From a request to its handler, and from what that returns to the answer.

    Arguments:
        logger: where handlers that fail are reported.
        own: the server's own routes by path; the application may put others in their place.
    """

    def __init__(self, logger: Logger, own: Mapping[str, Route]) -> None:
        self._logger = logger
        self.own = own
        self._routes: dict[str, Route] = {}

    def add(self, path: str, handler: HttpHandler) -> None:
        """Have ``handler`` answer requests for ``path``.

        Raises:
            StateError: the path has a handler already.
        """
        if path in self._routes:
            raise StateError(f"requests for {path!r} have a handler already, and only one can answer")
        self._routes[path] = Route(handler)

    def answer(self, peer: Peer, request: Request) -> Deferred | None:
        """Answer ``request``, which came to ``peer``; return the rest if its handler is to be awaited."""
        route = self._routes.get(request.path) or self.own.get(request.path)
        if route is None:
            self._respond(peer, request, _NOT_FOUND)
        elif request.method not in route.methods:
            allowed = ", ".join(route.methods)
            words = f"only {allowed}\n"
            refusal = HttpResponse.of_text(words, status=405, headers=[("Allow", allowed)])
            self._respond(peer, request, refusal)
        else:
            try:
                response = route.handler(request)
            except FAULTS as error:
                self._fail(peer, request, error)
            else:
                if not isinstance(response, HttpResponse) and is_awaitable(response):
                    return self._await_response(peer, request, response)
                self._respond(peer, request, response)
        return None

    async def _await_response(self, peer: Peer, request: Request, response: Awaitable[HttpResponse]) -> None:
        try:
            answer = await response
        except FAULTS as error:
            self._fail(peer, request, error)
        else:
            self._respond(peer, request, answer)

    def _respond(self, peer: Peer, request: Request, response: object) -> None:
        session = peer.session
        assert isinstance(session, WebSocketSession)  # TCP knows no requests
        if session.state is not State.CONNECTING:
            return  # it went while the handler was awaited
        try:
            if not isinstance(response, HttpResponse):
                raise TypeError(f"an HTTP handler returns HttpResponse, not {type(response).__name__}")
            if len(response.body) > session.config.outbox_limit:
                raise ValueError(f"a body of {len(response.body)} bytes is over outbox_limit")
            session.respond(response.status, response.body, headers=response.headers)
        except Exception as error:  # whatever an application may take for a status, a body or a header
            self._fail(peer, request, error)
        else:
            peer.flush_soon()

    def _fail(self, peer: Peer, request: Request, error: BaseException) -> None:
        extra = fields_of(peer, reason=type(error).__name__, path=request.path)
        self._logger.error("the HTTP handler of %r failed", request.path, exc_info=error, extra=extra)
        if peer.session.state is State.CONNECTING:
            peer.session.refuse(500, "the handler failed")
            peer.flush_soon()

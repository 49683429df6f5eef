"""The server of plain WebSocket connections: who is let in, and a handler for each.

:class:`PlainServer` is loop-neutral; a runtime derives ``WebSocketServer`` from it, which adds listening.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeAlias, Unpack

from stelar_proto.channel import HttpResponse, Lifecycle, Place, State, Transport
from stelar_proto.channel.config import check_options
from stelar_proto.channel.handlers import FAULTS, check_handler, is_awaitable
from stelar_proto.channel.logs import choose_logger
from stelar_proto.channel.places import place_problems
from stelar_proto.errors import ConnectionClosed
from stelar_proto.ws import (
    CloseCode,
    Opened,
    Request,
    RequestReceived,
    Role,
    UpgradeRequested,
    select_subprotocol,
)

from .channel import PlainChannel
from .config import ServeConfig, ServeOptions
from .connection import WebSocketConnection
from .endpoint import WebSocketEndpoint

ConnectionHandler: TypeAlias = Callable[[WebSocketConnection], Awaitable[object] | object]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765

_UPGRADE_REQUIRED = HttpResponse.of_text(  # RFC 9110, section 15.5.22
    "this is a WebSocket server\n", status=426, headers=[("Upgrade", "websocket")]
)


class ServedEndpoint(WebSocketEndpoint):
    """One connection of a server.

    Arguments:
        server: whose it is.
        session: its protocol.
    """

    __slots__ = ("_server", "connection", "is_handled")

    def __init__(self, server: PlainServer, session: PlainChannel) -> None:
        super().__init__(session, server.runtime, server.logger, server.config)
        self._server = server
        self.connection: WebSocketConnection | None = None
        """What its handler is given; None until it is let in."""
        self.is_handled = False
        """Whether its handler runs."""

    def _open(self, event: UpgradeRequested | RequestReceived | Opened) -> None:
        assert not isinstance(event, Opened)
        self._server.receive_request(self, event)

    def connection_lost(self) -> None:
        super().connection_lost()
        self._server.forget_if_over(self)


_handled: ContextVar[ServedEndpoint | None] = ContextVar("_handled", default=None)
"""Whose handler runs here; the tasks that it starts are a part of it."""


class PlainServer(Lifecycle[ServedEndpoint]):
    """WebSocket connections, each with its own run of one handler.

    Arguments:
        handler: called with each connection, plain or ``async``. When it returns, the connection is closed
            with code 1000; when it raises, that is logged and the code is 1011.
        host, port: where to listen, 127.0.0.1 and 8765 by default; port 0 picks a free one.
        options: see :class:`ServeConfig`.

    Raises:
        ValueError: an option makes no sense; all problems are named at once.
        TypeError: the handler is no function, or there is no such option.
    """

    def __init__(
        self, handler: ConnectionHandler, host: str | None, port: int | None, **options: Unpack[ServeOptions]
    ) -> None:
        check_options(ServeConfig, options, "a WebSocket server")
        unix_path, sock = options.get("unix_path"), options.get("sock")
        problems = place_problems(host=host, port=port, unix_path=unix_path, sock=sock)
        try:
            config = ServeConfig(**options)
        except ValueError as error:
            problems.insert(0, str(error))
        if problems:
            raise ValueError("; ".join(problems))
        super().__init__(config, choose_logger(config.logger, "stelar.websocket"))
        self.config: ServeConfig = config
        self._handler = check_handler(handler, "connection")
        if unix_path is None and sock is None:
            host, port = host or DEFAULT_HOST, DEFAULT_PORT if port is None else port
        self._place = Place("ws", host, port, unix_path, sock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._address()}>"

    @property
    def connections(self) -> tuple[WebSocketConnection, ...]:
        """The connections that are open now, to send something to all of them, for example."""
        return tuple(
            peer.connection
            for peer in self._peers
            if peer.connection is not None and peer.session.state is State.OPEN
        )

    # --- For the runtime --------------------------------------------------------------------------------

    def _places(self) -> Iterator[Place]:
        yield self._place

    def connected(self, kind: str, transport: Transport) -> ServedEndpoint:
        clock = self.runtime.clock
        channel = PlainChannel(Role.SERVER, self.config, now=transport.opened_at, clock=clock)
        peer = ServedEndpoint(self, channel)
        self._enroll(peer, transport)
        return peer

    def cut_all(self) -> None:
        super().cut_all()
        for peer in tuple(self._peers):
            # Handlers that still run are cancelled with the runtime, not waited for.
            peer.is_handled = False
            self.forget_if_over(peer)

    def _excuse_caller(self) -> None:
        peer = _handled.get()
        if peer is not None and peer in self._peers:
            peer.is_handled = False
            self.forget_if_over(peer)

    # --- For its connections ----------------------------------------------------------------------------

    def receive_request(self, peer: ServedEndpoint, event: UpgradeRequested | RequestReceived) -> None:
        """A request came: answer it, or have ``process_request`` do so."""
        process = self.config.process_request
        if process is None:
            self._answer(peer, event, None)
            return
        try:
            response = process(event.request)
        except FAULTS:
            self._fail(peer, event.request)
        else:
            if isinstance(response, Awaitable):
                self.runtime.spawn(self._await_response(peer, event, response))
            else:
                self._answer(peer, event, response)

    async def _await_response(
        self, peer: ServedEndpoint, event: UpgradeRequested | RequestReceived, response: Awaitable[Any]
    ) -> None:
        try:
            answer = await response
        except FAULTS:
            self._fail(peer, event.request)
        else:
            self._answer(peer, event, answer)

    def _answer(
        self, peer: ServedEndpoint, event: UpgradeRequested | RequestReceived, response: object
    ) -> None:
        if peer.session.state is not State.CONNECTING:
            return  # it went while the application thought
        try:
            if response is None:
                response = self._refusal(event)
            if response is None:
                assert isinstance(event, UpgradeRequested)
                peer.session.accept(select_subprotocol(event.subprotocols, self.config.subprotocols))
                self._run_handler(peer)
            elif isinstance(response, HttpResponse):
                peer.session.respond(response.status, response.body, headers=response.headers)
            else:
                kind = type(response).__name__
                raise TypeError(f"process_request returns HttpResponse or None, not {kind}")
        except Exception:  # whatever an application may take for a status, a body or a header
            self._fail(peer, event.request)
        peer.flush_soon()

    def _refusal(self, event: UpgradeRequested | RequestReceived) -> HttpResponse | None:
        if self.is_shutting_down:
            return HttpResponse.of_text("Server shutting down\n", status=503)
        if isinstance(event, RequestReceived):
            return _UPGRADE_REQUIRED
        if len(self._peers) > self.config.max_connections:
            self.logger.warning("refused a connection: %d are open", len(self._peers) - 1)
            return HttpResponse.of_text("Server full\n", status=503)
        origin, origins = event.request.headers.get("Origin"), self.config.origins
        if origins is not None and origin not in origins:
            return HttpResponse.of_text("this origin is not let in\n", status=403)
        return None

    def _fail(self, peer: ServedEndpoint, request: Request) -> None:
        self.logger.exception("process_request failed for %r", request.path)
        if peer.session.state is State.CONNECTING:
            peer.session.refuse(500, "the request could not be processed")
            peer.flush_soon()

    # --- Handlers ---------------------------------------------------------------------------------------

    def _run_handler(self, peer: ServedEndpoint) -> None:
        peer.connection = WebSocketConnection(peer)
        peer.is_handled = True
        self.runtime.spawn(self._handle(peer, peer.connection))

    async def _handle(self, peer: ServedEndpoint, connection: WebSocketConnection) -> None:
        _handled.set(peer)
        code = CloseCode.INTERNAL_ERROR
        try:
            result = self._handler(connection)
            if is_awaitable(result):
                await result  # type: ignore[misc]  # which is_awaitable() has made sure of
            code = CloseCode.NORMAL_CLOSURE
        except FAULTS as error:
            self._report(peer, error)
        except BaseExceptionGroup as group:  # a handler's tasks were cancelled, and one raised on its way out
            errors, others = group.split(FAULTS)
            if errors is not None:
                self._report(peer, errors)
            if others is not None:
                raise others from None
        finally:
            peer.discard()
            peer.close(code, "")
            peer.is_handled = False
            self.forget_if_over(peer)

    def _report(self, peer: ServedEndpoint, error: BaseException) -> None:
        # That its own connection has ended is no fault of a handler; it may have others.
        if peer.session.state is not State.OPEN and _is_all_connection_closed(error):
            self.logger.debug("a handler ended with its connection: %s", error)
        else:
            self.logger.error("the handler of %r raised", peer.connection, exc_info=error)

    def forget_if_over(self, peer: ServedEndpoint) -> None:
        """Forget a connection when it is gone and its handler has ended."""
        if peer.transport is None and not peer.is_handled and peer in self._peers:
            self.forget(peer)


def _is_all_connection_closed(error: BaseException) -> bool:
    """Tell whether a connection's end is all that was raised, maybe by several tasks of a group."""
    if isinstance(error, ExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)

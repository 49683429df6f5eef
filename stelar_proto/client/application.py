"""The client's public face and its decisions: handlers, emitting, requests, and the state of the connection.

:class:`ClientApplication` is loop-neutral. A runtime derives ``StelarClient`` from it, which dials.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, overload

from ..errors import ConnectError, StateError, StelarError
from ..messages import (
    AckRequest,
    Binary,
    Event,
    Join,
    Leave,
    Message,
    check_event_name,
)
from ..session import Closed, Deadlines, Runtime, SessionConfig, State, TcpSession, WebSocketSession
from ..session.endpoint import Handler
from ..wire import TcpFormat, WebSocketFormat, is_room_name
from ..ws import Role
from .config import ClientConfig
from .link import Link
from .target import Target, parse_target

H = TypeVar("H", bound=Handler)
ClientState = Literal["disconnected", "connecting", "connected"]

LOCAL_EVENTS = frozenset({"connect", "disconnect", "error"})
"""Events of the client itself: connected; disconnected (code, reason); something went wrong (exception)."""


class ClientApplication:
    """One connection to a server.

    Arguments:
        url: see :func:`~stelar_proto.client.parse_target`.
        secure: TLS, where the URL does not say.
        options: see :class:`ClientConfig`.

    Raises:
        ValueError: the URL or an option makes no sense.
        TypeError: there is no such option.
    """

    def __init__(self, url: str | int, *, secure: bool = False, **options: Any) -> None:
        self.config = ClientConfig(**options)
        self.target: Target = parse_target(url, mode=self.config.mode, secure=secure)
        self.logger = self.config.logger or logging.getLogger("stelar.client")
        self._session_config: SessionConfig = self.config.session_config()
        self._handlers: dict[str, list[Handler]] = {}
        self._catch_all: list[Handler] = []
        self._ack_handlers: dict[str, list[Handler]] = {}
        self._runtime: Runtime | None = None
        self._deadlines = Deadlines(lambda _: None)
        self._link: Link | None = None
        self._last_link: Link | None = None
        self._last_error: Exception | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target.url} {self.get_state()}>"

    # --- Handlers -------------------------------------------------------------------------------------------

    @overload
    def on(self, event: str) -> Callable[[H], H]: ...
    @overload
    def on(self, event: str, handler: H) -> H: ...
    def on(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler(data)`` for each such event of the server; also a decorator. Several are called in order.

        ``connect`` (no argument), ``disconnect`` (code, reason) and ``error`` (the exception) are the
        client's own.

        Raises:
            MessageError: the name is not one that a server can send.
        """
        if event not in LOCAL_EVENTS:
            check_event_name(event)

        def register(handler: H) -> H:
            self._handlers.setdefault(event, []).append(_check_handler(handler))
            return handler

        return register if handler is None else register(handler)

    def once(self, event: str, handler: H) -> H:
        """Call ``handler`` for the next such event only."""

        def call_once(*arguments: object) -> object:
            self.off(event, call_once)
            return handler(*arguments)

        _check_handler(handler)
        call_once.__wrapped__ = handler  # type: ignore[attr-defined]  # so that off(event, handler) finds it
        self.on(event, call_once)
        return handler

    def off(self, event: str, handler: Handler | None = None) -> bool:
        """Take ``handler`` off ``event``, or all of its handlers; return whether there was one."""
        if handler is None:
            return self._handlers.pop(event, None) is not None
        for known in self._handlers.get(event, ()):
            if known is handler or getattr(known, "__wrapped__", None) is handler:
                remaining = [other for other in self._handlers[event] if other is not known]
                if remaining:
                    self._handlers[event] = remaining
                else:
                    del self._handlers[event]
                return True
        return False

    def on_all(self, handler: H) -> H:
        """Call ``handler(event, data)`` for every event of the server; also a decorator."""
        self._catch_all.append(_check_handler(handler))
        return handler

    @overload
    def on_ack(self, name: str) -> Callable[[H], H]: ...
    @overload
    def on_ack(self, name: str, handler: H) -> H: ...
    def on_ack(self, name: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler(data)`` with each answer under this ack name that no :meth:`request` waits for."""
        check_event_name(name)

        def register(handler: H) -> H:
            self._ack_handlers.setdefault(name, []).append(_check_handler(handler))
            return handler

        return register if handler is None else register(handler)

    def remove_all_listeners(self, event: str | None = None) -> None:
        """Take all handlers off ``event``, or off everything."""
        if event is not None:
            self._handlers.pop(event, None)
            self._ack_handlers.pop(event, None)
        else:
            self._handlers.clear()
            self._ack_handlers.clear()
            self._catch_all.clear()

    # --- Sending --------------------------------------------------------------------------------------------

    def emit(self, event: str, data: Any = None, *, ack: str | None = None) -> None:
        """Send an event; with ``ack``, ask for an answer that :meth:`on_ack` handlers of that name will get.

        A plain call that never waits; ``await drain()`` waits for a slow server.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
            StateError: there is no connection.
        """
        check_event_name(event)
        if ack is None:
            self._send(Event(event, data))
        else:
            link = self._open_link()
            self._send(AckRequest(check_event_name(ack), event, data, link.session.acks.new_id()))

    def emit_binary(self, event: str, payload: bytes) -> None:
        """Send an event with raw bytes.

        Raises:
            MessageError: the name breaks the rules, or the payload is too large.
            StateError: there is no connection.
        """
        self._send(Binary(check_event_name(event), bytes(payload)))

    async def request(
        self, event: str, data: Any = None, ack_name: str | None = None, *, timeout: float | None = None
    ) -> Any:
        """Ask the server and wait for its answer.

        Arguments:
            event: what is asked for: the name of the server's ``on_ack`` handler.
            data: JSON.
            ack_name: the name under which the answer travels; by default the event's.
            timeout: seconds; by default ``ack_timeout``.

        Raises:
            RemoteError: the answer is an error; ``code`` and ``message`` say which.
            AckTimeout: there was no answer in time.
            ConnectionLost: the connection ended first.
            MessageError: the request cannot be sent.
            StateError: there is no connection, or too many requests are in flight.
        """
        link = self._open_link()
        ack = check_event_name(event if ack_name is None else ack_name)
        if timeout is None:
            timeout = self.config.ack_timeout
        answered = self.runtime.make_event()
        pending = link.session.request(
            ack, check_event_name(event), data, self.runtime.now(), timeout=timeout
        )
        pending.on_done = answered.set
        link.flush_soon()
        try:
            if not pending.done:
                await answered.wait()
        finally:
            link.session.acks.discard(pending)
        return pending.result()

    def join_room(self, room: str) -> None:
        """Ask to be put into ``room``; the event ``joined-room`` confirms it.

        Raises:
            ValueError: the name is empty or longer than 256 bytes.
            StateError: there is no connection.
        """
        self._send(Join(_check_room(room)))

    def leave_room(self, room: str) -> None:
        """Ask to be taken out of ``room``; the event ``left-room`` confirms it.

        Raises:
            ValueError: the name is empty or longer than 256 bytes.
            StateError: there is no connection.
        """
        self._send(Leave(_check_room(room)))

    async def drain(self) -> None:
        """Wait until what was sent is below the outbox's low-water mark, or the connection has ended."""
        if self._link is not None:
            await self._link.drain()

    def _send(self, message: Message) -> None:
        link = self._open_link()
        link.session.send(message)
        link.flush_soon()

    def _open_link(self) -> Link:
        if self._link is None or self._link.session.state is not State.OPEN:
            raise StateError(f"there is no connection to {self.target.url}: await connect() first")
        return self._link

    # --- Information ----------------------------------------------------------------------------------------

    def is_connected(self) -> bool:
        """Tell whether messages can be sent."""
        return self.get_state() == "connected"

    def get_state(self) -> ClientState:
        """Return where the connection stands."""
        if self._link is None:
            return "disconnected"
        state = self._link.session.state
        if state is State.CONNECTING:
            return "connecting"
        return "connected" if state is State.OPEN else "disconnected"

    def get_id(self) -> str | None:
        """Return the id that the server gave this client; None while it is not known."""
        return None if self._link is None else self._link.session.client_id

    def get_url(self) -> str:
        """Return where the client connects to."""
        return self.target.url

    def get_messages_sent(self) -> int:
        """Return how many messages were sent over the current or last connection, heartbeats aside."""
        return 0 if self._last_link is None else self._last_link.session.messages_sent

    def get_messages_received(self) -> int:
        """Return how many messages came over the current or last connection, heartbeats aside."""
        return 0 if self._last_link is None else self._last_link.session.messages_received

    def get_last_error(self) -> Exception | None:
        """Return the last thing that went wrong with a connection."""
        return self._last_error

    # --- Connecting -----------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The event loop that the client runs in.

        Raises:
            StateError: there is no connection, and none is being made.
        """
        if self._runtime is None:
            raise StateError(f"there is no connection to {self.target.url}: await connect() first")
        return self._runtime

    def _demand_no_link(self) -> None:
        if self._link is not None:
            raise StateError(f"there is a connection to {self.target.url} already: disconnect() first")

    async def _dial(self, link: Link) -> None:
        """Open the stream and have it drive ``link``; a runtime's part. Raises OSError, with a helpful text."""
        raise NotImplementedError

    async def _open(self, runtime: Runtime) -> None:
        """Connect in ``runtime``, within ``connect_timeout``.

        Raises:
            StateError: there is a connection already.
            ConnectError: it could not be made.
        """
        self._runtime = runtime
        self._deadlines = Deadlines(runtime.set_timer)
        link = self._link = self._last_link = self._make_link(runtime)
        try:
            await self._dial(link)
            await link.settled.wait()
        except BaseException as error:
            link.session.abort(Closed(1006, "", None))
            link.flush_soon()
            if link.transport is None:
                link.connection_lost()
            if isinstance(error, OSError):
                raise self._connect_error(error) from error
            raise
        if not link.was_open:
            end = link.end
            link.session.abort(Closed(1006, "", None))
            link.flush_soon()
            await link.lost.wait()
            reason = None if end is None else end.error
            raise self._connect_error(reason or StelarError("the server ended it at once")) from reason

    def _make_link(self, runtime: Runtime) -> Link:
        config, now = self._session_config, runtime.now()
        limits: dict[str, Any] = {
            "serializer": self.config.serializer,
            "max_payload_size": self.config.max_payload_size,
        }
        session: WebSocketSession | TcpSession
        if self.target.wire == "ws":
            envelope = WebSocketFormat(Role.CLIENT, **limits)
            session = WebSocketSession(
                Role.CLIENT, config, envelope=envelope, now=now, entropy=runtime.entropy
            )
            session.request_upgrade(self.target.url, headers=self.config.headers.items())
        else:
            payloads = TcpFormat(
                Role.CLIENT, dialect=config.tcp_dialect, max_frame_size=self.config.max_frame_size, **limits
            )
            session = TcpSession(Role.CLIENT, config, payloads=payloads, now=now)
        link = Link(self, session)
        session.on_deadline_changed = partial(self._deadlines.schedule, link)
        self._deadlines.schedule(link)
        return link

    def _connect_error(self, error: Exception) -> ConnectError:
        return ConnectError(f"cannot connect to {self.target.url}: {_describe(error)}")

    async def disconnect(self) -> None:
        """End the connection: what was sent leaves first. Returns when it is gone; does nothing without one."""
        link = self._link
        if link is not None:
            link.session.close(1000, "", self.runtime.now())
            link.flush_soon()
            await link.lost.wait()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended, for whatever reason."""
        if self._link is not None:
            await self._link.lost.wait()

    # --- For the runtime and the link -----------------------------------------------------------------------

    def handle_deadlines(self) -> None:
        """The timer that :meth:`Runtime.set_timer` was asked for has come."""
        self._deadlines.run(self.runtime.now())

    def handlers_of(self, event: str) -> list[Handler]:
        """Return the handlers of an event, then those of all events."""
        own = self._handlers.get(event, [])
        if not self._catch_all or event in LOCAL_EVENTS:
            return own
        return [*own, *(partial(handler, event) for handler in self._catch_all)]

    def ack_handlers_of(self, name: str) -> list[Handler]:
        """Return the handlers of answers under an ack name."""
        handlers = self._ack_handlers.get(name, [])
        if not handlers:
            self.logger.debug("an answer under %r came that nobody waits for", name)
        return handlers

    def ended(self, link: Link, end: Closed) -> None:
        """The session of ``link`` ended."""
        if end.error is not None:
            self._last_error = end.error
            self.logger.info("connection to %s ended: %s", self.target.url, end.error)

    def forget(self, link: Link) -> None:
        """The connection of ``link`` is gone for good."""
        self._deadlines.remove(link)
        self.runtime.set_timer(None)
        link.session.on_deadline_changed = None
        if self._link is link:
            self._link = None


def _check_handler(handler: H) -> H:
    if not callable(handler):
        raise TypeError(f"a handler is a function, not {type(handler).__name__}")
    return handler


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError) or isinstance(error.__cause__, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _check_room(room: str) -> str:
    if not is_room_name(room):
        raise ValueError(f"a room name is a text of 1 to 256 bytes, not {room[:64]!r}")
    return room

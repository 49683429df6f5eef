"""The client's public face and its decisions: handlers, emitting, requests, and the state of the connection.

:class:`ClientApplication` is loop-neutral. A runtime derives ``StelarClient`` from it, which dials.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from stelar_proto.channel import Closed, Deadlines, Runtime, State
from stelar_proto.channel.config import check_options
from stelar_proto.channel.dialing import establish
from stelar_proto.channel.logs import choose_logger
from stelar_proto.errors import ConnectError, StateError
from stelar_proto.messages import AckRequest, Binary, Event, Join, Leave, Message, check_event_name
from stelar_proto.session import SessionConfig, TcpSession, WebSocketSession
from stelar_proto.session.arguments import check_payload, check_room_name
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Connection, Role

from .config import ClientConfig
from .handlers import HandlerRegistry
from .link import Link
from .target import Target, parse_target

ClientState = Literal["disconnected", "connecting", "connected"]


class ClientApplication(HandlerRegistry, ABC):
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
        super().__init__()
        check_options(ClientConfig, options, type(self).__name__)
        self.config = ClientConfig(**options)
        self.target: Target = parse_target(url, mode=self.config.mode, secure=secure)
        if self.target.wire == "ws":  # what cannot be asked for is refused here, not when connecting
            trial = Connection(Role.CLIENT, entropy=bytes)
            trial.request_upgrade(self.target.handshake_url, headers=self.config.headers)
        self.logger = choose_logger(self.config.logger, "stelar.client")
        self._session_config: SessionConfig = self.config.session_config()
        self._runtime: Runtime | None = None
        self._deadlines = Deadlines(lambda _: None)
        self._link: Link | None = None
        self._last_link: Link | None = None
        self._last_error: Exception | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target.url} {self.get_state()}>"

    # --- Sending ----------------------------------------------------------------------------------------

    def emit(self, event: str, data: Any = None, *, ack: str | None = None) -> None:
        """Send an event; with ``ack``, ask for an answer that :meth:`on_ack` handlers of that name will get.

        A plain call that never waits; ``await drain()`` waits for a slow server.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
            StateError: there is no connection, or its outbox is full: ``await drain()``.
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
            StateError: there is no connection, or its outbox is full: ``await drain()``.
        """
        self._send(Binary(check_event_name(event), check_payload(payload)))

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
            StateError: there is no connection, its outbox is full, or too many requests are in flight.
            ValueError: the timeout is not positive.
        """
        ack = check_event_name(event if ack_name is None else ack_name)
        if timeout is None:
            timeout = self.config.ack_timeout
        if not timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        return await self._open_link().ask(ack, check_event_name(event), data, timeout=timeout)

    def join_room(self, room: str) -> None:
        """Ask to be put into ``room``; the event ``joined-room`` confirms it.

        Raises:
            ValueError: the name is empty or longer than 256 bytes.
            StateError: there is no connection, or its outbox is full: ``await drain()``.
        """
        self._send(Join(check_room_name(room)))

    def leave_room(self, room: str) -> None:
        """Ask to be taken out of ``room``; the event ``left-room`` confirms it.

        Raises:
            ValueError: the name is empty or longer than 256 bytes.
            StateError: there is no connection, or its outbox is full: ``await drain()``.
        """
        self._send(Leave(check_room_name(room)))

    async def drain(self) -> None:
        """Wait until what was sent is below the outbox's low-water mark, or the connection has ended."""
        if self._link is not None:
            await self._link.drain()

    def _send(self, message: Message) -> None:
        link = self._open_link()
        link.session.send(message)
        link.flush_soon()

    def _open_link(self) -> Link:
        link = self._link
        # Once its end has come to be handled, it is no connection, even if our last words have not left yet.
        if link is None or link.end is not None or not link.session.can_send:
            raise StateError(f"there is no connection to {self.target.url}: await connect() first")
        return link

    # --- Information ------------------------------------------------------------------------------------

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

    # --- Connecting -------------------------------------------------------------------------------------

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
        if self._link is not None and self._link.session.state is not State.CLOSED:
            raise StateError(f"there is a connection to {self.target.url} already: disconnect() first")

    @abstractmethod
    def _make_runtime(self) -> Runtime:
        """Return a loop that will call :meth:`handle_deadlines`: a runtime's part."""

    @abstractmethod
    async def _dial(self, link: Link) -> None:
        """Open the stream and have it drive ``link``: a runtime's part. Raises OSError with helpful text."""

    async def connect(self) -> None:
        """Connect; return when messages can be sent.

        Raises:
            ConnectError: it was refused, or took longer than ``connect_timeout``; ``__cause__`` says more.
            StateError: there is a connection already.
        """
        self._demand_no_link()
        while self._link is not None:
            await self._link.lost.wait()  # it has ended, its socket not quite
            self._demand_no_link()
        is_new = self._runtime is None
        runtime = self._runtime = self._runtime or self._make_runtime()
        self._deadlines = Deadlines(runtime.set_timer)
        link = self._link = self._last_link = self._make_link(runtime)  # from here on there is a connection
        try:
            await establish(link, self.target.url, partial(self._start_and_dial, link, runtime, is_new))
        except BaseException as error:
            if isinstance(error, ConnectError):
                self._last_error = error
            await self._close_runtime(runtime)
            raise

    async def _start_and_dial(self, link: Link, runtime: Runtime, is_new: bool) -> None:
        if is_new:
            await runtime.start()
        await self._dial(link)

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
            session.request_upgrade(self.target.handshake_url, headers=self.config.headers.items())
        else:
            payloads = TcpFormat(
                Role.CLIENT, dialect=config.tcp_dialect, max_frame_size=self.config.max_frame_size, **limits
            )
            session = TcpSession(Role.CLIENT, config, payloads=payloads, now=now)
        link = Link(self, session)
        session.on_deadline_changed = partial(self._deadlines.schedule, link)
        self._deadlines.schedule(link)
        return link

    async def disconnect(self) -> None:
        """End the connection, behind what was sent. Handlers that still run are cancelled.

        Returns when it is gone; does nothing without one.
        """
        link, runtime = self._link, self._runtime
        if link is not None:
            if link.session.state is State.CONNECTING:
                link.session.abort(Closed(1000, "disconnect() was called", None))
            link.close(1000, "")
            await link.lost.wait()
        await self._close_runtime(runtime)

    async def _close_runtime(self, runtime: Runtime | None) -> None:
        # Whoever waited may find another in its place: that of the next connection.
        if runtime is not None and self._runtime is runtime:
            self._runtime = None
            await runtime.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended, for whatever reason."""
        if self._link is not None:
            await self._link.lost.wait()

    # --- For the runtime and the link -------------------------------------------------------------------

    def handle_deadlines(self) -> None:
        """The timer that :meth:`Runtime.set_timer` was asked for has come."""
        self._deadlines.run(self.runtime.now())

    def ended(self, end: Closed) -> None:
        """The session of the connection ended."""
        if end.error is not None:
            self._last_error = end.error
            self.logger.info("connection to %s ended: %s", self.target.url, end.error)

    def forget(self, link: Link) -> None:
        """The connection of ``link`` is gone for good."""
        if self._link is link:
            self._link = None
            self._deadlines.remove(link)
            if self._runtime is not None:
                self._runtime.set_timer(None)

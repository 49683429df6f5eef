"""The client's public face: requests, options, and what its connections are made of.

:class:`ClientApplication` is loop-neutral. A runtime derives ``StelarClient`` from it, which dials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial, update_wrapper
from typing import Any, Unpack

from stelar_proto.channel import Deadlines, Runtime
from stelar_proto.channel.config import check_options, is_positive
from stelar_proto.channel.dialing import Route, establish
from stelar_proto.channel.handlers import Handler
from stelar_proto.channel.logs import choose_logger
from stelar_proto.channel.redirects import follow_redirects
from stelar_proto.errors import ConnectError
from stelar_proto.messages import check_event_name
from stelar_proto.session import SessionConfig, TcpSession, WebSocketSession
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Connection, Role

from .campaign import Campaign
from .config import ClientChanges, ClientConfig, ClientOptions
from .incoming import MessageStream, Received
from .link import Link
from .sending import ClientSending
from .target import Target, parse_target


class ClientApplication(ClientSending):
    """A client of one server; it connects again by itself.

    Arguments:
        url: see :func:`~stelar_proto.client.parse_target`.
        options: see :class:`ClientConfig`.

    Raises:
        ValueError: the URL or an option makes no sense.
        TypeError: there is no such option.
    """

    def __init__(self, url: str | int, *, tls: Any = None, **options: Unpack[ClientOptions]) -> None:
        check_options(ClientConfig, options, type(self).__name__)
        config = ClientConfig(tls=tls, **options)
        target = _check(url, config)
        super().__init__(config, target)
        self._url = url
        self._settle(config, target)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target.url} {self.get_state()}>"

    # --- Asking -----------------------------------------------------------------------------------------

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
            ValueError: the timeout is not a positive number.
        """
        ack = check_event_name(event if ack_name is None else ack_name)
        if timeout is None:
            timeout = self.config.ack_timeout
        if not is_positive(timeout):
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        link = self.usable_link()
        if link is None:
            raise self.no_connection()
        return await link.ask(ack, check_event_name(event), data, timeout=timeout)

    # --- Receiving --------------------------------------------------------------------------------------

    def receivers_of(self, event: str, data: Any, is_binary: bool) -> Sequence[Handler]:
        """Return whoever gets a message of the server, in order."""
        handlers = self.handlers_of(event)
        hook = self._on_message
        if hook is None:
            return handlers
        told = partial(hook, event=event, data=data, is_binary=is_binary)
        return (update_wrapper(lambda _: told(), hook), *handlers)

    def messages(self, *, limit: int = 1000, slow_consumer: str = "close") -> MessageStream:
        """Return what the server sends from now on: ``async for message in client.messages():``

        Each message has ``event``, ``data`` and ``is_binary``. Handlers are called all the same. The
        iteration goes on over reconnects, and ends when the client is disconnected for good.

        Arguments:
            limit: how many messages may wait.
            slow_consumer: what becomes of more: ``"close"`` ends the iteration with :class:`SlowConsumer`
                behind those that wait; ``"drop_oldest"``, ``"drop_newest"``: some are lost, and counted.

        Raises:
            StateError: the client is disconnected.
            ValueError: an argument makes no sense.
        """
        if self._state == "disconnected":  # the loop may run on; nothing would end the iteration
            raise self.no_connection()
        stream = MessageStream(self.runtime, limit, slow_consumer)
        self.streams.add(stream)
        self.has_streams = True
        return stream

    def to_streams(self, message: Received) -> None:
        """Hand a message to those who iterate."""
        streams = tuple(self.streams)
        self.has_streams = bool(streams)
        for stream in streams:
            stream.put(message)

    # --- Information and options ------------------------------------------------------------------------

    def get_id(self) -> str | None:
        """Return the id that the server gave this client; None while it is not known."""
        return None if self._link is None else self._link.session.client_id

    @property
    def subprotocol(self) -> str | None:
        """What the server chose of ``subprotocols``; None if nothing, over TCP, and without a connection."""
        return None if self._link is None else self._link.session.subprotocol

    def get_url(self) -> str:
        """Return where the client connects to, without user and password."""
        return self.target.url

    def set_url(self, url: str | int) -> None:
        """Connect to another URL from the next connection on; the one that there is stays.

        Raises:
            ValueError: the URL makes no sense, or contradicts the options.
        """
        target = _check(url, self.config)
        self._url = url
        self._settle(self.config, target)

    def get_options(self) -> ClientConfig:
        """Return the options as they are; the result does not change."""
        return self.config

    def update_options(self, **changes: Unpack[ClientChanges]) -> None:
        """Change options while the client runs.

        What concerns a connection itself (its URL and TLS, sizes, heartbeats and timeouts) holds from the
        next connection on, all else at once.

        Raises:
            ValueError: there is no such option, or a value makes no sense; then nothing has changed.
        """
        known = {field.name for field in fields(ClientConfig)}
        for name in changes:
            if name not in known:
                raise ValueError(f"there is no option {name!r}; there are {', '.join(sorted(known))}")
        config = replace(self.config, **changes)
        self._settle(config, _check(self._url, config))
        if self._campaign is not None:
            self._campaign.wake.set()

    def _settle(self, config: ClientConfig, target: Target) -> None:
        self.config, self.target = config, target
        self._before_emit = config.hooks.get("on_before_emit")
        self._on_message = config.hooks.get("on_message")
        self.logger = choose_logger(config.logger, "stelar.client")
        self._session_config: SessionConfig = config.session_config()
        limits: dict[str, Any] = {
            "serializer": config.serializer,
            "max_payload_size": config.max_payload_size,
        }
        if target.wire == "ws":
            self.format = WebSocketFormat(Role.CLIENT, **limits)
        else:
            dialect = self._session_config.tcp_dialect
            self.format = TcpFormat(
                Role.CLIENT, dialect=dialect, max_frame_size=config.max_frame_size, **limits
            )
        self.queue.limit = config.message_queue_size
        if self.usable_link() is None:
            self.trim_queue()

    async def _attempt(self, campaign: Campaign, runtime: Runtime) -> None:
        began_at = runtime.now()

        async def attempt(target: Target) -> None:
            if self._campaign is not campaign:  # called off while the server that redirects was left
                raise ConnectError(f"cannot connect to {target.url}: it was called off")
            link = self._make_link(runtime, target, began_at)
            if self._last_link is not None:
                link.follow(self._last_link)
            self._link = self._last_link = link
            await establish(link, target.url, partial(self._dial, link))

        if self.target.wire == "tcp":
            await attempt(self.target)
        else:
            await follow_redirects(self.target.handshake_url, lambda url: attempt(parse_target(url)))

    def _make_link(self, runtime: Runtime, target: Target, began_at: float) -> Link:
        config = self._session_config
        self._deadlines = Deadlines(runtime.set_timer)
        session: WebSocketSession | TcpSession
        if isinstance(self.format, WebSocketFormat):
            session = WebSocketSession(
                Role.CLIENT, config, envelope=self.format, now=began_at, entropy=runtime.entropy
            )
            session.request_upgrade(target.handshake_url, headers=self.config.headers.items())
        else:
            session = TcpSession(Role.CLIENT, config, payloads=self.format, now=began_at)
        route = Route(
            wire=target.wire,
            secure=target.secure,
            host=target.host,
            port=target.port,
            proxy=self.config.proxy,
            connect_timeout=self.config.connect_timeout,
            began_at=began_at,
        )
        link = Link(self, session, runtime, route)
        session.on_deadline_changed = partial(self._deadlines.schedule, link)
        self._deadlines.schedule(link)
        return link


def _check(url: str | int, config: ClientConfig) -> Target:
    """Return where to connect to; what cannot be asked for is refused here, not when connecting."""
    target = parse_target(url, mode=config.mode, secure=bool(config.tls))
    if target.wire == "ws":
        trial = Connection(Role.CLIENT, entropy=bytes)
        trial.request_upgrade(
            target.handshake_url, headers=config.headers.items(), subprotocols=config.subprotocols
        )
    return target

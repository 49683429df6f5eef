"""What a client can be told, with its defaults, checked when it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypedDict

from stelar_proto.channel.handlers import Handler
from stelar_proto.channel.logs import LoggerOption, logger_problems
from stelar_proto.channel.proxies import ProxyOption, proxy_problems
from stelar_proto.messages import JSON, Serializer
from stelar_proto.session import SessionConfig
from stelar_proto.ws import CompressionOption, Headers, choose_compression

from .hooks import Hooks, hook_problems

_POSITIVE = ("ack_timeout", "reconnection_delay", "max_reconnection_delay")
_POSITIVE_OR_NONE = ("queue_rate", "handler_timeout")
_SWITCHES = (
    "reconnection",
    "retry_first_connect",
    "retry_refused",
    "accept_npm_handshake",
    "reject_unauthorized",
)


class ClientOptions(TypedDict, total=False):
    """The keywords of ``StelarClient`` beside ``tls``: see :class:`ClientConfig`."""

    mode: str | None
    tcp_dialect: str
    reconnection: bool
    reconnection_attempts: int | None
    reconnection_delay: float
    max_reconnection_delay: float
    custom_reconnect_delay: Handler | None
    retry_first_connect: bool
    retry_refused: bool
    message_queue_size: int
    queue_rate: float | None
    headers: Mapping[str, str]
    subprotocols: Sequence[str]
    proxy: ProxyOption
    accept_npm_handshake: bool
    ack_timeout: float
    connect_timeout: float
    close_timeout: float
    heartbeat_interval: float | None
    heartbeat_timeout: float
    max_payload_size: int
    max_frame_size: int
    outbox_limit: int
    inbox_limit: int
    handler_timeout: float | None
    reject_unauthorized: bool
    serializer: Serializer
    compression: CompressionOption
    hooks: Hooks
    logger: LoggerOption


class ClientChanges(ClientOptions, total=False):
    """All keywords: those of ``update_options()``."""

    tls: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The options of a client. Times in seconds, sizes in bytes.

    Arguments:
        mode: ``"ws"`` or ``"tcp"``, where the URL does not say.
        tcp_dialect: ``"documented"``, or ``"npm"`` for a server of the npm package.
        reconnection: connect again when the connection ends, unless ``disconnect()`` ended it.
        reconnection_attempts: how often in a row, until ``reconnect_failed``; None for ever. The count begins
            anew after a connection that lasted 5 seconds.
        reconnection_delay, max_reconnection_delay: what the first attempt waits, and any attempt, at most;
            each waits half as long again as the one before, and up to half of that is left to chance.
        custom_reconnect_delay: ``(attempt, base, maximum)`` to seconds, in place of that. A server that says
            when to come back (Retry-After, close codes 1012 and 1013) is not bothered earlier in any case.
        retry_first_connect: ``connect()`` tries again too, by the same rules.
        retry_refused: try again even after HTTP 401, 403 and 404, which time does not heal.
        message_queue_size: messages kept while there is no connection; the oldest are dropped and counted.
            With 0 nothing is kept, and emitting without a connection is an error.
        queue_rate: how many messages a second are sent of those that waited for a connection, joining rooms
            again among them, a second's worth of them at once; None for as many as the server reads. It must
            leave room below the server's ``rate_limit``, 100 a second by default, for what is emitted
            meanwhile, which does not count.
        headers: more header fields for the handshake, by name.
        subprotocols: names to offer in the handshake, the preferred one first; ``client.subprotocol`` is what
            the server chose. TCP has none.
        proxy: the URL of an HTTP proxy to go through, ``http://user:password@host:port``, on either wire, or
            ``https://`` if it is spoken to over TLS itself; False for none; None for what the environment
            says: ``https_proxy`` for ``wss://``, ``http_proxy`` for ``ws://``, else ``all_proxy``, which is
            the only one for ``tcp://`` and ``tcps://``, unless ``no_proxy`` has the host, or it is this
            machine.
        accept_npm_handshake: also accept the wrong Sec-WebSocket-Accept of stelar-time-real 3.2.0.
        ack_timeout: how long a request waits for its answer.
        connect_timeout: for name, connection, proxy, TLS and handshake together.
        close_timeout: how long the server may take to close.
        heartbeat_interval, heartbeat_timeout: seconds of silence before a ping, and from a ping to the end;
            an interval of None sends none.
        max_payload_size, max_frame_size: larger ones end the connection at their header.
        outbox_limit: what may wait for the server to read, 1024 or more; sending more is an error until it
            is drained.
        inbox_limit: messages that may wait for a handler before the server is read no further.
        handler_timeout: how long handlers of a connection that has ended may hold up those of the next; then
            they are cancelled, logged and counted. None for as long as they like.
        tls: an ``ssl.SSLContext``, or True for TLS where the URL does not ask for it.
        reject_unauthorized: verify the server's certificate and name; turning it off is logged.
        serializer: JSON to and from text.
        compression: permessage-deflate (RFC 7692), if a WebSocket server agrees: True for its defaults, or a
            :class:`~stelar_proto.ws.PerMessageDeflate`, which must leave ``client_no_context_takeover`` on:
            a message that finds no room when it is compressed must not be referred to by the next.
        hooks: functions by name, called with keyword arguments: ``on_before_emit(event, data)`` (False
            cancels), ``on_message(event, data, is_binary)``, ``on_state_change(state, previous)``,
            ``on_reconnect_delay(attempt, delay)`` (a number is the delay instead),
            ``on_message_queued(event, queue_size)``, ``on_queue_drained(count)``, ``on_error(error)``.
        logger: where the client reports, or the name of a level for its own logger, ``stelar.client``.
    """

    mode: str | None = None
    tcp_dialect: str = "documented"
    reconnection: bool = True
    reconnection_attempts: int | None = 10
    reconnection_delay: float = 1.0
    max_reconnection_delay: float = 30.0
    custom_reconnect_delay: Handler | None = None
    retry_first_connect: bool = False
    retry_refused: bool = False
    message_queue_size: int = 100
    queue_rate: float | None = 50.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # they may hold a password
    subprotocols: Sequence[str] = ()
    proxy: ProxyOption = field(default=None, repr=False)  # likewise
    accept_npm_handshake: bool = False
    ack_timeout: float = 5.0
    connect_timeout: float = 10.0
    close_timeout: float = 5.0
    heartbeat_interval: float | None = 30.0
    heartbeat_timeout: float = 60.0
    max_payload_size: int = 10 * 1024 * 1024
    max_frame_size: int = 10 * 1024 * 1024
    outbox_limit: int = 16 * 1024 * 1024
    inbox_limit: int = 64
    handler_timeout: float | None = 30.0
    tls: Any = None
    reject_unauthorized: bool = True
    serializer: Serializer = JSON
    compression: CompressionOption = False
    hooks: Hooks = field(default_factory=dict)
    logger: LoggerOption = None

    def __post_init__(self) -> None:
        problems = [*logger_problems(self.logger), *hook_problems(self.hooks)]
        problems += proxy_problems(self.proxy)
        if self.mode not in (None, "ws", "tcp"):
            problems.append(f"mode must be 'ws' or 'tcp', not {self.mode!r}")
        problems += self._number_problems()
        problems += [
            f"{name} must be True or False, not {value!r}"
            for name in _SWITCHES
            if type(value := getattr(self, name)) is not bool  # "no" would be yes
        ]
        if self.tls not in (None, True, False) and not hasattr(self.tls, "wrap_bio"):
            problems.append(f"tls must be an ssl.SSLContext, or True, not {self.tls!r}")
        if self.custom_reconnect_delay is not None and not callable(self.custom_reconnect_delay):
            problems.append(f"custom_reconnect_delay must be a function, not {self.custom_reconnect_delay!r}")
        for check in (self.session_config, self._check_headers):
            try:
                check()
            except (TypeError, ValueError) as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        # What was handed in may change later; these options do not.
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        object.__setattr__(self, "subprotocols", tuple(self.subprotocols))
        object.__setattr__(self, "hooks", MappingProxyType(dict(self.hooks)))

    def _check_headers(self) -> None:
        if not isinstance(self.headers, Mapping):  # which may hold a password: its type is enough
            kind = type(self.headers).__name__
            raise TypeError(f"headers must be a mapping, such as {{'Authorization': '…'}}, not {kind}")
        Headers(self.headers)

    def _number_problems(self) -> list[str]:
        problems = []
        for name in (*_POSITIVE, *_POSITIVE_OR_NONE):
            value = getattr(self, name)
            if value is None and name in _POSITIVE_OR_NONE:
                continue
            if not (isinstance(value, int | float) and 0 < value < float("inf")):
                problems.append(f"{name} must be a positive number, not {value!r}")
        if not problems and self.reconnection_delay > self.max_reconnection_delay:
            problems.append(
                f"reconnection_delay ({self.reconnection_delay:g}) must not be more than "
                f"max_reconnection_delay ({self.max_reconnection_delay:g})"
            )
        attempts, size = self.reconnection_attempts, self.message_queue_size
        if not (type(self.inbox_limit) is int and self.inbox_limit > 0):
            problems.append(f"inbox_limit must be a positive whole number, not {self.inbox_limit!r}")
        if attempts is not None and not (type(attempts) is int and attempts > 0):
            words = "must be a positive whole number, or None for no end"
            problems.append(f"reconnection_attempts {words}, not {attempts!r}")
        if not (type(size) is int and size >= 0):
            problems.append(f"message_queue_size must be a whole number, 0 or more, not {size!r}")
        return problems

    def session_config(self) -> SessionConfig:
        """Return what concerns the session.

        Raises:
            ValueError: a number is out of its range, the dialect is unknown, or compression is none.
        """
        compression = choose_compression(self.compression)
        if compression is not None and not compression.client_no_context_takeover:
            raise ValueError(
                "compression must leave client_no_context_takeover on: a message that finds no room in the "
                "outbox must not have changed the next one's context"
            )
        return SessionConfig.of(self, tcp_dialect=self.tcp_dialect, compression=compression)

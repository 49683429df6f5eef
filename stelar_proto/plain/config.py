"""What a plain WebSocket server or client can be told, with its defaults, checked when it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeAlias, TypedDict

from stelar_proto.channel import ChannelConfig, HttpResponse
from stelar_proto.channel.config import not_positive_whole, small_outbox, subprotocol_problems
from stelar_proto.channel.logs import LoggerOption, logger_problems
from stelar_proto.channel.proxies import ProxyOption, proxy_problems
from stelar_proto.ws import CompressionOption, Headers, Request, choose_compression

ProcessRequest: TypeAlias = Callable[[Request], HttpResponse | Awaitable[HttpResponse | None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketConfig(ChannelConfig):
    """The options of both roles. Times in seconds, sizes in bytes.

    Arguments, beside those of :class:`~stelar_proto.channel.ChannelConfig`, of which ``outbox_limit`` bounds
    the pongs for a peer that does not read; ``send()`` waits instead:
        subprotocols: names, the preferred one first.
        max_size: of a received message; a larger one ends the connection at its header, or while it is
            inflated. None for no limit.
        compression: permessage-deflate (RFC 7692), if the peer agrees: True for its defaults, or a
            :class:`~stelar_proto.ws.PerMessageDeflate`.
        inbox_limit: messages, or parts of one, that may wait for ``recv()`` before reading pauses; 16 times
            as many where nobody ever called that, but somebody sends, or waits for a pong or for the end.
        inbox_size: bytes that may, an unfinished message included.
        logger: where things are reported, or the name of a level.

    Raises:
        ValueError: a value makes no sense; the message names every such one.
    """

    subprotocols: Sequence[str] = ()
    max_size: int | None = 10 * 1024 * 1024
    compression: CompressionOption = False
    inbox_limit: int = 64
    inbox_size: int = 1024 * 1024
    logger: LoggerOption = None

    def _problems(self) -> list[str]:
        problems = ChannelConfig._problems(self)  # super() does not know a dataclass with slots
        problems += small_outbox(self.outbox_limit)
        problems += not_positive_whole(self, ("inbox_limit", "inbox_size"))
        problems += logger_problems(self.logger)
        problems += subprotocol_problems(self.subprotocols)
        try:
            choose_compression(self.compression)
        except ValueError as error:
            problems.append(str(error))
        if self.max_size is not None:
            problems += not_positive_whole(self, ("max_size",))
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig(WebSocketConfig):
    """The options of a server.

    Arguments, beside those of :class:`WebSocketConfig`:
        origins: the Origin fields that are let in, others are refused with 403; None among them stands for
            requests without one. None lets everybody in.
        process_request: called with each request in front of everything else, plain or ``async``: what it
            returns is the answer; None leaves that to the server.
        max_connections: at once; one more is refused with 503.
        unix_path: the path of a Unix socket to listen on, in place of host and port.
        sock: a bound stream socket, likewise; it is the server's, which closes it when it stops.
        graceful_shutdown: whether SIGINT and SIGTERM end ``serve_forever()``; else it leaves them alone.
        shutdown_timeout: how long ``stop()`` waits for the clients to go and for the handlers to end.
    """

    origins: Sequence[str | None] | None = None
    process_request: ProcessRequest | None = None
    max_connections: int = 10_000
    unix_path: str | PurePath | None = None
    sock: Any = None
    graceful_shutdown: bool = True
    shutdown_timeout: float = 10.0

    def _problems(self) -> list[str]:
        problems = WebSocketConfig._problems(self)
        problems += not_positive_whole(self, ("max_connections",))
        if not isinstance(self.graceful_shutdown, bool):
            problems.append(f"graceful_shutdown must be True or False, not {self.graceful_shutdown!r}")
        timeout = self.shutdown_timeout
        if not (type(timeout) in (int, float) and timeout >= 0):
            problems.append(f"shutdown_timeout must be 0 or more seconds, not {timeout!r}")
        if isinstance(self.origins, str):
            problems.append(f"origins is a sequence of origins: [{self.origins!r}]")
        if self.process_request is not None and not callable(self.process_request):
            problems.append(f"process_request must be a function, not {self.process_request!r}")
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectConfig(WebSocketConfig):
    """The options of a client.

    Arguments, beside those of :class:`WebSocketConfig`:
        headers: more header fields for the handshake, by name.
        proxy: the URL of an HTTP proxy to go through, ``http://user:password@host:port``, or ``https://`` if
            it is spoken to over TLS itself; False for none; None for what the environment says
            (``https_proxy`` for ``wss://``, ``http_proxy`` for ``ws://``, else ``all_proxy``), unless
            ``no_proxy`` has the host, or it is this machine.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: ProxyOption = field(default=None, repr=False)  # it may hold a password

    def _problems(self) -> list[str]:
        problems = [*WebSocketConfig._problems(self), *proxy_problems(self.proxy)]
        if isinstance(self.headers, Mapping | Headers):
            try:
                Headers(self.headers)
            except (TypeError, ValueError) as error:
                problems.append(str(error))
        else:
            problems.append(f"headers is a mapping of names to values, not {type(self.headers).__name__}")
        return problems


class _Options(TypedDict, total=False):
    connect_timeout: float
    heartbeat_interval: float | None
    heartbeat_timeout: float
    close_timeout: float
    outbox_limit: int
    subprotocols: Sequence[str]
    max_size: int | None
    compression: CompressionOption
    inbox_limit: int
    inbox_size: int
    logger: LoggerOption


class ServeOptions(_Options, total=False):
    """The keywords of ``serve_websocket``: see :class:`ServeConfig`."""

    origins: Sequence[str | None] | None
    process_request: ProcessRequest | None
    max_connections: int
    unix_path: str | PurePath | None
    sock: Any
    graceful_shutdown: bool
    shutdown_timeout: float


class ConnectOptions(_Options, total=False):
    """The keywords of ``connect_websocket``: see :class:`ConnectConfig`."""

    headers: Mapping[str, str]
    proxy: ProxyOption

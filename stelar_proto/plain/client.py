"""The client of plain WebSocket connections: from a URL to an open connection, and back.

:class:`WebSocketConnector` is loop-neutral; a runtime derives from it, which dials.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from types import TracebackType
from typing import Unpack

from stelar_proto.channel import Closed, Deadlines, Runtime
from stelar_proto.channel.config import check_options
from stelar_proto.channel.dialing import Route, establish
from stelar_proto.channel.logs import choose_logger
from stelar_proto.channel.redirects import follow_redirects
from stelar_proto.errors import StateError
from stelar_proto.ws import CloseCode, Connection, Opened, RequestReceived, Role, UpgradeRequested
from stelar_proto.ws.uri import parse_websocket_url

from .channel import PlainChannel
from .config import ConnectConfig, ConnectOptions
from .connection import WebSocketConnection
from .endpoint import WebSocketEndpoint


class ConnectedEndpoint(WebSocketEndpoint):
    """The connection of a client.

    Arguments:
        connector: whose it is.
        session: its protocol.
        runtime: the loop.
        route: where it leads.
    """

    __slots__ = ("route", "settled", "was_open")

    def __init__(
        self, connector: WebSocketConnector, session: PlainChannel, runtime: Runtime, route: Route
    ) -> None:
        super().__init__(session, runtime, connector.logger, connector.config)
        self.route = route
        self.was_open = False
        self.settled = runtime.make_event()

    def _open(self, event: UpgradeRequested | RequestReceived | Opened) -> None:
        self.was_open = True
        self.settled.set()

    def _on_closed(self, event: Closed) -> None:
        self.settled.set()
        if self.was_open:
            super()._on_closed(event)


class WebSocketConnector(ABC):
    """Connects when it is entered; ``async with`` gives the connection, and closes it.

    Arguments:
        url: ``ws://`` or ``wss://``, a host, and optionally user and password, port, path and query.
        options: see :class:`ConnectConfig`.

    Raises:
        ValueError: the URL or an option makes no sense.
        TypeError: there is no such option.
    """

    def __init__(self, url: str, **options: Unpack[ConnectOptions]) -> None:
        check_options(ConnectConfig, options, "a WebSocket client")
        self.config = ConnectConfig(**options)
        self.target = parse_websocket_url(url)
        self.logger = choose_logger(self.config.logger, "stelar.websocket")
        self._url = url
        self._ask(Connection(Role.CLIENT, entropy=bytes), url)  # what cannot be asked is refused here
        self._runtime: Runtime | None = None
        self._endpoint: ConnectedEndpoint | None = None
        self._deadlines = Deadlines(lambda _: None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.target}>"

    @abstractmethod
    def _make_runtime(self) -> Runtime:
        """Return a loop that will call :meth:`handle_deadlines`: a runtime's part."""

    @abstractmethod
    async def _dial(self, runtime: Runtime, endpoint: ConnectedEndpoint) -> None:
        """Open the stream and have it drive ``endpoint``: a runtime's part. Raises OSError."""

    def handle_deadlines(self) -> None:
        """The timer that :meth:`Runtime.set_timer` was asked for has come."""
        if self._runtime is not None:
            self._deadlines.run(self._runtime.now())

    async def __aenter__(self) -> WebSocketConnection:
        """Connect.

        Raises:
            ConnectError: it was refused, or took longer than ``connect_timeout``; ``__cause__`` says more:
                an ``UpgradeRefused`` has the ``response``.
            StateError: it is connected already.
        """
        if self._runtime is not None:
            raise StateError(f"there is a connection to {self.target} already: make another connector")
        runtime = self._runtime = self._make_runtime()
        try:
            await runtime.start()
            attempt = partial(self._attempt, runtime, runtime.now())
            return WebSocketConnection(await follow_redirects(self._url, attempt))
        except BaseException:
            await self._end(runtime)
            raise

    async def _attempt(self, runtime: Runtime, began_at: float, url: str) -> ConnectedEndpoint:
        """Connect to ``url``; the time runs since ``began_at``."""
        config, target = self.config, parse_websocket_url(url)
        session = PlainChannel(
            Role.CLIENT, config, now=began_at, clock=runtime.clock, entropy=runtime.entropy
        )
        route = Route(
            wire="ws",
            secure=target.secure,
            host=target.host,
            port=target.port,
            proxy=config.proxy,
            connect_timeout=config.connect_timeout,
            began_at=began_at,
        )
        endpoint = self._endpoint = ConnectedEndpoint(self, session, runtime, route)
        self._deadlines = Deadlines(runtime.set_timer)
        session.on_deadline_changed = partial(self._deadlines.schedule, endpoint)
        self._deadlines.schedule(endpoint)
        self._ask(session.codec, url)
        await establish(endpoint, str(target), partial(self._dial, runtime, endpoint))
        return endpoint

    def _ask(self, codec: Connection, url: str) -> None:
        codec.request_upgrade(url, headers=self.config.headers.items(), subprotocols=self.config.subprotocols)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        endpoint, runtime = self._endpoint, self._runtime
        assert endpoint is not None
        assert runtime is not None
        endpoint.discard()
        try:
            endpoint.close(CloseCode.NORMAL_CLOSURE, "")
            await endpoint.lost.wait()
        except BaseException:  # cancelled: there is no time for goodbyes
            endpoint.abort(Closed(CloseCode.ABNORMAL_CLOSURE, "", None))
            raise
        finally:
            await self._end(runtime)

    async def _end(self, runtime: Runtime) -> None:
        await runtime.close()
        self._runtime = self._endpoint = None

"""``StelarClient`` on trio: dialling, and the order of connecting and disconnecting."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any

import trio

from stelar_proto.channel import Endpoint
from stelar_proto.client import ClientApplication
from stelar_proto.client.link import Link

from .tls import client_context
from .transport import Stream, StreamTransport, TrioRuntime


class StelarClient(ClientApplication):
    """One connection to a server.

    ::

        async with StelarClient("localhost:3000") as client:  # or tcp://localhost:3001
            client.on("chat", print)
            client.join_room("general")
            user = await client.request("getUser", {"id": 1})

    Arguments:
        url: ``ws://``, ``wss://``, ``http(s)://``, ``tcp://host:port``, ``tcps://``, ``host:port`` or a port.
        tls: an ``ssl.SSLContext``, or True for TLS where the URL does not ask for it.
        options: see :class:`~stelar_proto.client.ClientConfig`.

    Raises:
        ValueError: the URL or an option makes no sense.
    """

    def __init__(self, url: str | int, *, tls: ssl.SSLContext | bool | None = None, **options: Any) -> None:
        super().__init__(url, secure=bool(tls), **options)
        self._tls = tls

    def _make_runtime(self) -> TrioRuntime:
        return TrioRuntime(self.handle_deadlines)

    async def _dial(self, link: Link) -> None:
        runtime, target = self.runtime, self.target
        assert isinstance(runtime, TrioRuntime)
        timeout = self.config.connect_timeout
        try:
            with trio.fail_after(timeout):
                plain = await trio.open_tcp_stream(target.host, target.port)
                stream = await self._wrap(plain) if target.secure else plain
        except trio.TooSlowError as error:
            raise TimeoutError(f"no connection within {timeout:g} s") from error
        except OSError as error:
            # trio says that all attempts failed; what happened to each of them stands behind that.
            cause = error.__cause__
            attempts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
            raise next((attempt for attempt in attempts if isinstance(attempt, OSError)), error) from error

        def attach(transport: StreamTransport) -> Endpoint:
            link.transport = transport
            return link

        runtime.nursery.start_soon(StreamTransport(runtime, stream).run, attach)

    async def _wrap(self, plain: trio.SocketStream) -> Stream:
        context = client_context(
            self._tls, reject_unauthorized=self.config.reject_unauthorized, logger=self.logger
        )
        stream = trio.SSLStream(plain, context, server_hostname=self.target.host, https_compatible=False)
        try:
            await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError):
                raise error.__cause__ or OSError("the TLS handshake failed") from error
            raise
        return stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # bounded by close_timeout
            await super().__aexit__(kind, error, trace)

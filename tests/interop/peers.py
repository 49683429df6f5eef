"""The other libraries, each as a client and as a server, in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias

import aiohttp
import aiohttp.web
import picows
import trio
import trio_websocket
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.sync.client
import websockets.trio.client
import websockets.trio.server
from websockets.exceptions import ConnectionClosed

from .conversation import SUBPROTOCOL, Ended, Message, Talker, serve, talk

Connect: TypeAlias = Callable[[str, ssl.SSLContext | None], AbstractAsyncContextManager[Talker]]
Serve: TypeAlias = Callable[[ssl.SSLContext | None], AbstractAsyncContextManager[int]]

_PATIENCE = 15.0
_HOST = "127.0.0.1"


class BaseTalker:
    can_fragment = False
    can_ping = False

    async def send_fragments(self, fragments: Sequence[str]) -> None:
        raise AssertionError("this library has no way to fragment a message")

    async def ping(self) -> None:
        raise AssertionError("this library has no way to wait for a pong")


# --- websockets ---------------------------------------------------------------------------------------------


class WebsocketsTalker(BaseTalker):
    """The asyncio and the trio API, which are alike."""

    can_fragment = True
    can_ping = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol  # type: ignore[no-any-return]  # kept as Any

    async def send(self, message: Message) -> None:
        await self._connection.send(message)

    async def send_fragments(self, fragments: Sequence[str]) -> None:
        await self._connection.send(iter(fragments))

    async def recv(self) -> Message:
        try:
            return await self._connection.recv()  # type: ignore[no-any-return]  # kept as Any
        except ConnectionClosed as error:
            raise _ended(error) from None

    async def ping(self) -> None:
        pong = await self._connection.ping()
        await (pong.wait() if isinstance(pong, trio.Event) else pong)

    async def close(self, code: int, reason: str) -> None:
        close = getattr(self._connection, "aclose", None) or self._connection.close
        await close(code, reason)


class SyncWebsocketsTalker(WebsocketsTalker):
    """The API with threads."""

    async def send(self, message: Message) -> None:
        self._connection.send(message)

    async def send_fragments(self, fragments: Sequence[str]) -> None:
        self._connection.send(iter(fragments))

    async def recv(self) -> Message:
        try:
            return self._connection.recv(timeout=_PATIENCE)  # type: ignore[no-any-return]  # kept as Any
        except ConnectionClosed as error:
            raise _ended(error) from None

    async def ping(self) -> None:
        assert self._connection.ping().wait(_PATIENCE)

    async def close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)


def _ended(error: ConnectionClosed) -> Ended:
    return Ended(None, "") if error.rcvd is None else Ended(error.rcvd.code, error.rcvd.reason)


_WEBSOCKETS: dict[str, Any] = {"subprotocols": [SUBPROTOCOL]}


@asynccontextmanager
async def connect_websockets(
    url: str, tls: ssl.SSLContext | None, *, compression: str | None = None
) -> AsyncIterator[Talker]:
    async with websockets.asyncio.client.connect(
        url, ssl=tls, proxy=None, compression=compression, **_WEBSOCKETS
    ) as connection:
        yield WebsocketsTalker(connection)


@asynccontextmanager
async def serve_websockets(
    tls: ssl.SSLContext | None, *, compression: str | None = None
) -> AsyncIterator[int]:
    async def handle(connection: Any) -> None:
        await serve(WebsocketsTalker(connection))

    async with websockets.asyncio.server.serve(
        handle, _HOST, 0, ssl=tls, compression=compression, **_WEBSOCKETS
    ) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def connect_websockets_sync(
    url: str, tls: ssl.SSLContext | None, *, compression: str | None = None
) -> AsyncIterator[Talker]:
    with websockets.sync.client.connect(
        url, ssl=tls, proxy=None, compression=compression, **_WEBSOCKETS
    ) as connection:
        yield SyncWebsocketsTalker(connection)


@asynccontextmanager
async def connect_websockets_trio(
    url: str, tls: ssl.SSLContext | None, *, compression: str | None = None
) -> AsyncIterator[Talker]:
    async with websockets.trio.client.connect(
        url, ssl=tls, proxy=None, compression=compression, **_WEBSOCKETS
    ) as connection:
        yield WebsocketsTalker(connection)


@asynccontextmanager
async def serve_websockets_trio(
    tls: ssl.SSLContext | None, *, compression: str | None = None
) -> AsyncIterator[int]:
    async def handle(connection: Any) -> None:
        await serve(WebsocketsTalker(connection))

    async with trio.open_nursery() as nursery:
        run = partial(
            websockets.trio.server.serve,
            handle,
            0,
            host=_HOST,
            ssl=tls,
            compression=compression,
            **_WEBSOCKETS,
        )
        server = await nursery.start(run)
        yield server.listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


# --- aiohttp ------------------------------------------------------------------------------------------------


class AiohttpTalker(BaseTalker):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        protocol = getattr(self._connection, "protocol", None)
        return protocol or self._connection.ws_protocol  # type: ignore[no-any-return]  # kept as Any

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            await self._connection.send_str(message)
        else:
            await self._connection.send_bytes(message)

    async def recv(self) -> Message:
        message = await self._connection.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            return message.data  # type: ignore[no-any-return]  # kept as Any
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise Ended(message.data, message.extra or "")
        raise Ended(self._connection.close_code, "")

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code=code, message=reason.encode())


@asynccontextmanager
async def connect_aiohttp(
    url: str, tls: ssl.SSLContext | None, *, compress: int = 0
) -> AsyncIterator[Talker]:
    options: dict[str, Any] = {"compress": compress} if tls is None else {"compress": compress, "ssl": tls}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=[SUBPROTOCOL], **options) as connection,
    ):
        yield AiohttpTalker(connection)


@asynccontextmanager
async def serve_aiohttp(tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    async def handle(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        connection = aiohttp.web.WebSocketResponse(protocols=[SUBPROTOCOL], max_msg_size=0)
        await connection.prepare(request)
        await serve(AiohttpTalker(connection))
        return connection

    application = aiohttp.web.Application()
    application.router.add_get("/", handle)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, _HOST, 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# --- picows -------------------------------------------------------------------------------------------------


class PicowsTalker(BaseTalker, picows.WSListener):
    """It knows frames only, so that a message in fragments is put together here."""

    can_fragment = True

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Message | Ended] = asyncio.Queue()
        self._parts: list[bytes] = []
        self._is_text = False
        self._transport: Any = None

    def on_ws_connected(self, transport: Any) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            self._frames.put_nowait(Ended(frame.get_close_code(), frame.get_close_reason() or ""))
            if not transport.is_close_frame_sent:
                transport.send_close(frame.get_close_code())
            if not transport.is_client_side:
                transport.disconnect()
            return
        if frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            self._is_text = frame.msg_type is picows.WSMsgType.TEXT
        elif frame.msg_type is not picows.WSMsgType.CONTINUATION:
            return
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            self._frames.put_nowait(message.decode() if self._is_text else message)

    def on_ws_disconnected(self, transport: Any) -> None:
        self._frames.put_nowait(Ended(None, ""))

    @property
    def subprotocol(self) -> str | None:
        headers = self._transport.response.headers
        return headers.get("Sec-WebSocket-Protocol")  # type: ignore[no-any-return]  # kept as Any

    async def send(self, message: Message) -> None:
        is_text = isinstance(message, str)
        kind = picows.WSMsgType.TEXT if is_text else picows.WSMsgType.BINARY
        self._transport.send(kind, message.encode() if isinstance(message, str) else message)

    async def send_fragments(self, fragments: Sequence[str]) -> None:
        kind = picows.WSMsgType.TEXT
        for index, fragment in enumerate(fragments):
            self._transport.send(kind, fragment.encode(), index == len(fragments) - 1)
            kind = picows.WSMsgType.CONTINUATION

    async def recv(self) -> Message:
        frame = await self._frames.get()
        if isinstance(frame, Ended):
            raise frame
        return frame

    async def close(self, code: int, reason: str) -> None:
        self._transport.send_close(code, reason.encode())


@asynccontextmanager
async def connect_picows(url: str, tls: ssl.SSLContext | None) -> AsyncIterator[Talker]:
    headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
    talker = PicowsTalker()
    transport, _ = await picows.ws_connect(lambda: talker, url, ssl_context=tls, extra_headers=headers)
    yield talker
    transport.disconnect()
    await transport.wait_disconnected()


@asynccontextmanager
async def serve_picows(tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    tasks = []

    def accept(request: Any) -> Any:
        talker = PicowsTalker()
        tasks.append(asyncio.get_running_loop().create_task(serve(talker)))
        response = picows.WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": SUBPROTOCOL})
        return picows.WSUpgradeResponseWithListener(response, talker)

    server = await picows.ws_create_server(accept, _HOST, 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks)
    server.close()


# --- trio-websocket -----------------------------------------------------------------------------------------


class TrioWebsocketTalker(BaseTalker):
    can_ping = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol  # type: ignore[no-any-return]  # kept as Any

    async def send(self, message: Message) -> None:
        await self._connection.send_message(message)

    async def recv(self) -> Message:
        try:
            return await self._connection.get_message()  # type: ignore[no-any-return]  # kept as Any
        except trio_websocket.ConnectionClosed as error:
            reason = error.reason
            raise Ended(None, "") if reason is None else Ended(reason.code, reason.reason or "") from None

    async def ping(self) -> None:
        await self._connection.ping()

    async def close(self, code: int, reason: str) -> None:
        await self._connection.aclose(code, reason)


@asynccontextmanager
async def connect_trio_websocket(url: str, tls: ssl.SSLContext | None) -> AsyncIterator[Talker]:
    async with trio_websocket.open_websocket_url(
        url, ssl_context=tls, subprotocols=[SUBPROTOCOL], max_message_size=2**21
    ) as connection:
        yield TrioWebsocketTalker(connection)
        # Where the server has closed first, this client leaves its socket open.
        await trio.aclose_forcefully(connection._stream)


@asynccontextmanager
async def serve_trio_websocket(tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    async def handle(request: Any) -> None:
        await serve(TrioWebsocketTalker(await request.accept(subprotocol=SUBPROTOCOL)))

    async with trio.open_nursery() as nursery:
        run = partial(trio_websocket.serve_websocket, handle, _HOST, 0, tls, max_message_size=2**21)
        server = await nursery.start(run)
        yield server.port
        nursery.cancel_scope.cancel()


# --- Each in a thread of its own ----------------------------------------------------------------------------


class Peer:
    """A library: how it connects and serves, and on which event loop."""

    def __init__(
        self,
        name: str,
        run: Callable[..., Any],
        connect: Connect,
        serve: Serve | None,
        *,
        echoes_close_code: bool = True,
    ) -> None:
        self.name = name
        self.echoes_close_code = echoes_close_code
        """Whether its server answers a close frame with the same code, as RFC 6455, section 5.5.1, has it."""
        self._run = run
        self._connect = connect
        self._serve = serve

    @property
    def has_server(self) -> bool:
        return self._serve is not None

    def converse(self, url: str, tls: ssl.SSLContext | None) -> None:
        """Connect to ``url`` and talk; returns when that has ended as it should."""

        async def main() -> None:
            async with self._connect(url, tls) as talker:
                await talk(talker)

        self._run(main)

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None) -> Iterator[int]:
        """Serve on a port of 127.0.0.1, in a thread."""
        assert self._serve is not None
        serve_on = self._serve
        ports: queue.Queue[int | BaseException] = queue.Queue()
        over = threading.Event()
        wait: Callable[[], Awaitable[object]] = (
            partial(asyncio.to_thread, over.wait, _PATIENCE)
            if self._run is run_asyncio
            else partial(trio.to_thread.run_sync, over.wait, _PATIENCE)
        )

        async def main() -> None:
            async with serve_on(tls) as port:
                ports.put(port)
                await wait()

        def target() -> None:
            try:
                self._run(main)
            except BaseException as error:
                ports.put(error)
                raise

        thread = threading.Thread(target=target)
        thread.start()
        try:
            port = ports.get(timeout=_PATIENCE)
            if isinstance(port, BaseException):
                raise port
            yield port
        finally:
            over.set()
            thread.join(_PATIENCE)
        assert not thread.is_alive()


def run_asyncio(main: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(_PATIENCE):
            await main()

    asyncio.run(bounded())


def run_trio(main: Callable[[], Any]) -> None:
    async def bounded() -> None:
        with trio.fail_after(_PATIENCE):
            await main()

    trio.run(bounded)

"""The echo servers that ``echo.py`` measures, one a process: ``echo_servers.py LIBRARY LOOP``.

Each is written as its library's documentation writes an echo server, with the library's defaults, but without
compression. It listens on loopback, on a free port.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

from processes import Announce, Server, be_a_server


async def echo(ws: Any) -> None:
    """The handler of stelar and websockets, on every loop."""
    async for message in ws:
        await ws.send(message)


# --- asyncio, and uvloop ------------------------------------------------------------------------------------


async def stelar_on_asyncio(announce: Announce) -> None:
    from stelar_runtime_asyncio import serve_websocket

    async with serve_websocket(echo, port=0) as server:
        announce(server.get_port())
        await asyncio.Event().wait()


async def websockets_on_asyncio(announce: Announce) -> None:
    from websockets.asyncio.server import serve

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.Event().wait()


async def picows_on_asyncio(announce: Announce) -> None:
    import picows

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    server = await picows.ws_create_server(lambda _: Listener(), "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


async def aiohttp_on_asyncio(announce: Announce) -> None:
    from aiohttp import WSMsgType, web

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


# --- trio ---------------------------------------------------------------------------------------------------


async def stelar_on_trio(announce: Announce) -> None:
    import trio

    from stelar_runtime_trio import serve_websocket

    async with serve_websocket(echo, port=0) as server:
        announce(server.get_port())
        await trio.sleep_forever()


async def websockets_on_trio(announce: Announce) -> None:
    import trio
    from websockets.trio.server import serve

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, echo, 0, host="127.0.0.1", compression=None))
        announce(server.listeners[0].socket.getsockname()[1])


async def trio_websocket_on_trio(announce: Announce) -> None:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await ws.send_message(await ws.get_message())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
        announce(server.port)


# --- The process --------------------------------------------------------------------------------------------

ON_ASYNCIO: dict[str, Server] = {
    "stelar": stelar_on_asyncio,
    "websockets": websockets_on_asyncio,
    "picows": picows_on_asyncio,
    "aiohttp": aiohttp_on_asyncio,
}
ON_TRIO: dict[str, Server] = {
    "stelar": stelar_on_trio,
    "websockets": websockets_on_trio,
    "trio-websocket": trio_websocket_on_trio,
}
SERVERS = {"uvloop": ON_ASYNCIO, "asyncio": ON_ASYNCIO, "trio": ON_TRIO}
"""What can be measured, by loop and by library; ours comes first."""


if __name__ == "__main__":
    be_a_server(SERVERS)

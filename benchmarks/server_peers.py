"""The servers that ``server.py`` measures, one a process: ``server_peers.py LIBRARY LOOP``.

All do the same: a message is JSON, an object with an event and its data; ``chat`` goes back to who sent it,
``news`` to everyone. Ours does that with its handlers, behind its limits and with its contexts; the others
as their documentation shows it, with the library's defaults, but without compression. JSON is parsed and
made by the standard library everywhere. Each listens on loopback, on a free port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from functools import partial
from typing import Any

from processes import Announce, Server, be_a_server

from stelar_proto.server import RateLimit
from stelar_proto.server.hooks import HOOKS

ECHO, NEWS = "chat", "news"

OUTBOX_LIMIT = 256 * 1024  # for one client of ours; the default is more than a machine has for 200 of them

_make_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def answer(message: str | bytes) -> tuple[bool, str]:
    """Return whether everyone is to have the answer to ``message``, and the answer: what others do for it."""
    envelope = json.loads(message)
    event = envelope["event"]
    return event == NEWS, _make_json({"event": event, "data": envelope["data"]})


# --- Ours, on every loop ----------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "port": 0,
    "tcp_port": 0,
    "outbox_limit": OUTBOX_LIMIT,
    # Counted and compared as ever, but out of the reach of the load.
    "rate_limit": RateLimit(max_points=1_000_000_000),
    "max_connections_per_ip": 1_000_000,
    # All but on_before_broadcast, which no other server here is asked.
    "hooks": {name: lambda **_: None for name in HOOKS if name != "on_before_broadcast"},
}


def add_handlers(server: Any) -> None:
    @server.on(ECHO)
    def echo(ctx: Any) -> None:
        ctx.emit(ECHO, ctx.data)

    @server.on(NEWS)
    def news(ctx: Any) -> None:
        server.broadcast(NEWS, ctx.data)


async def stelar_on_asyncio(announce: Announce, *, on_tcp: bool = False) -> None:
    from stelar_runtime_asyncio import StelarServer

    server = StelarServer(**OPTIONS)
    add_handlers(server)
    async with server:
        announce(server.get_tcp_port() if on_tcp else server.get_port())
        await asyncio.Event().wait()


async def stelar_on_trio(announce: Announce, *, on_tcp: bool = False) -> None:
    import trio

    from stelar_runtime_trio import StelarServer

    server = StelarServer(**OPTIONS)
    add_handlers(server)
    async with server:
        announce(server.get_tcp_port() if on_tcp else server.get_port())
        await trio.sleep_forever()


# --- asyncio, and uvloop ----------------------------------------------------------------------------------


async def websockets_on_asyncio(announce: Announce) -> None:
    from websockets.asyncio.server import broadcast, serve

    clients = set()

    async def handler(ws: Any) -> None:
        clients.add(ws)
        try:
            async for message in ws:
                for_all, text = answer(message)
                if for_all:
                    broadcast(clients, text)
                else:
                    await ws.send(text)
        finally:
            clients.discard(ws)

    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.Event().wait()


async def picows_on_asyncio(announce: Announce) -> None:
    import picows

    clients = set()

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            clients.add(transport)

        def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
            clients.discard(transport)

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
                return
            for_all, text = answer(frame.get_payload_as_utf8_text())
            payload = text.encode()
            for client in clients if for_all else (transport,):
                client.send(picows.WSMsgType.TEXT, payload)

    server = await picows.ws_create_server(lambda _: Listener(), "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


async def serve_aiohttp(application: Any, announce: Announce) -> None:
    from aiohttp import web

    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


async def aiohttp_on_asyncio(announce: Announce) -> None:
    from aiohttp import web

    clients = set()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        clients.add(ws)
        try:
            async for message in ws:
                for_all, text = answer(message.data)
                for client in tuple(clients) if for_all else (ws,):
                    await client.send_str(text)
        finally:
            clients.discard(ws)
        return ws

    application = web.Application()
    application.router.add_get("/", handler)
    await serve_aiohttp(application, announce)


async def socketio_on_asyncio(announce: Announce) -> None:
    """A protocol of its own, with another envelope; else the same."""
    import socketio
    from aiohttp import web

    server = socketio.AsyncServer(async_mode="aiohttp", http_compression=False)

    @server.on(ECHO)
    async def echo(client: str, data: Any) -> None:
        await server.emit(ECHO, data, to=client)

    @server.on(NEWS)
    async def news(_: str, data: Any) -> None:
        await server.emit(NEWS, data)

    application = web.Application()
    server.attach(application)
    await serve_aiohttp(application, announce)


# --- trio -------------------------------------------------------------------------------------------------


async def websockets_on_trio(announce: Announce) -> None:
    import trio
    from websockets.trio.server import broadcast, serve

    clients = set()

    async def handler(ws: Any) -> None:
        clients.add(ws)
        try:
            async for message in ws:
                for_all, text = answer(message)
                if for_all:
                    await broadcast(clients, text)
                else:
                    await ws.send(text)
        finally:
            clients.discard(ws)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, handler, 0, host="127.0.0.1", compression=None))
        announce(server.listeners[0].socket.getsockname()[1])


async def trio_websocket_on_trio(announce: Announce) -> None:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

    clients = set()

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        clients.add(ws)
        try:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    for_all, text = answer(await ws.get_message())
                    for client in tuple(clients) if for_all else (ws,):
                        await client.send_message(text)
        finally:
            clients.discard(ws)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
        announce(server.port)


# --- The process ------------------------------------------------------------------------------------------

ON_ASYNCIO: dict[str, Server] = {
    "stelar": stelar_on_asyncio,
    "stelar-tcp": partial(stelar_on_asyncio, on_tcp=True),
    "websockets": websockets_on_asyncio,
    "picows": picows_on_asyncio,
    "aiohttp": aiohttp_on_asyncio,
    "python-socketio": socketio_on_asyncio,
}
ON_TRIO: dict[str, Server] = {
    "stelar": stelar_on_trio,
    "stelar-tcp": partial(stelar_on_trio, on_tcp=True),
    "websockets": websockets_on_trio,
    "trio-websocket": trio_websocket_on_trio,
}
SERVERS = {"uvloop": ON_ASYNCIO, "asyncio": ON_ASYNCIO, "trio": ON_TRIO}
"""What can be measured, by loop and by library; ours comes first."""

if __name__ == "__main__":
    logging.disable()  # of clients that hang up without a word; what is wrong shows in the answers
    be_a_server(SERVERS)

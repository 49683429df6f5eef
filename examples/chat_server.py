"""A chat for any number of rooms, on both wires: ``python examples/chat_server.py [PORT TCP_PORT]``."""

from __future__ import annotations

import asyncio
import sys

from stelar_runtime_asyncio import Context, HandlerError, StelarServer

port, tcp_port = map(int, sys.argv[1:3] or (3000, 3001))
server = StelarServer(port=port, tcp_port=tcp_port)


@server.on_ack("enter")
def enter(ctx: Context) -> list[str]:
    room = ctx.data["room"]
    if not ctx.join_room(room):
        raise HandlerError(f"you cannot enter {room!r}", code="REFUSED")
    ctx.set_metadata("room", room)
    return ctx.get_clients(room)


@server.on("say")
def say(ctx: Context) -> None:
    ctx.to(ctx.get_metadata("room"), "said", {"from": ctx.id, "text": ctx.data})


@server.on_disconnect
def leave(ctx: Context) -> None:
    server.broadcast("gone", ctx.id)


if __name__ == "__main__":
    asyncio.run(server.serve_forever())

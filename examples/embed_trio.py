"""A WebSocket echo server and its client on trio streams: ``python examples/embed_trio.py``."""

import os
from contextlib import suppress

import trio

from stelar_proto import ws

ANSWERS = {
    ws.UpgradeRequested: lambda connection, event: connection.accept(),
    ws.PartReceived: lambda connection, event: connection.send_part(event.data, final=event.final),
    ws.Opened: lambda connection, event: connection.send_text("hola"),
    ws.TextReceived: lambda connection, event: connection.close(reason=event.text),
}


async def converse(stream: trio.SocketStream, client: ws.Connection | None = None) -> None:
    connection = client or ws.Connection(ws.Role.SERVER, plain_http=False, deliver_parts=True)
    with suppress(trio.BrokenResourceError), trio.move_on_after(60):
        await stream.send_all(connection.data_to_send())
        while not connection.wants_eof:
            for event in connection.receive_data(await stream.receive_some()):
                ANSWERS.get(type(event), print)(connection, event)
            await stream.send_all(connection.data_to_send())
    await stream.aclose()


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, converse, [listener])
        client = ws.Connection(ws.Role.CLIENT, entropy=os.urandom)
        client.request_upgrade("ws://localhost/")
        await converse(await trio.open_tcp_stream(*listener.socket.getsockname()), client)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)

"""A WebSocket echo server and its client on asyncio streams: ``python examples/embed_asyncio_streams.py``."""

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

from stelar_proto import ws

ANSWERS = {
    ws.UpgradeRequested: lambda connection, event: connection.accept(),
    ws.PartReceived: lambda connection, event: connection.send_part(event.data, final=event.final),
    ws.Opened: lambda connection, event: connection.send_text("hola"),
    ws.TextReceived: lambda connection, event: connection.close(reason=event.text),
}


async def converse(reader: StreamReader, writer: StreamWriter, client: ws.Connection | None = None) -> None:
    connection = client or ws.Connection(ws.Role.SERVER, plain_http=False, deliver_parts=True)
    with suppress(OSError):  # TimeoutError is one
        writer.transport.set_write_buffer_limits(0)  # drain() then waits until all is out
        async with asyncio.timeout(60):
            writer.write(connection.data_to_send())
            while not connection.wants_eof:
                for event in connection.receive_data(await reader.read(65536)):
                    ANSWERS.get(type(event), print)(connection, event)
                writer.write(connection.data_to_send())
                await writer.drain()
    writer.transport.abort()


async def main() -> None:
    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        client = ws.Connection(ws.Role.CLIENT, entropy=os.urandom)
        client.request_upgrade("ws://localhost/")
        await converse(*await asyncio.open_connection(*server.sockets[0].getsockname()), client)


if __name__ == "__main__":
    asyncio.run(main())

"""A WebSocket echo server and its client on blocking sockets: ``python examples/embed_sync_socket.py``."""

import os
import socket
from contextlib import suppress
from socketserver import ThreadingTCPServer
from threading import Thread

from stelar_proto import ws

ANSWERS = {
    ws.UpgradeRequested: lambda connection, event: connection.accept(),
    ws.PartReceived: lambda connection, event: connection.send_part(event.data, final=event.final),
    ws.Opened: lambda connection, event: connection.send_text("hola"),
    ws.TextReceived: lambda connection, event: connection.close(reason=event.text),
}


def converse(stream: socket.socket, connection: ws.Connection) -> None:
    with stream, suppress(OSError):  # TimeoutError is one
        stream.settimeout(60)
        stream.sendall(connection.data_to_send())
        while not connection.wants_eof:
            for event in connection.receive_data(stream.recv(65536)):
                ANSWERS.get(type(event), print)(connection, event)
            stream.sendall(connection.data_to_send())


def serve(stream: socket.socket, *_: object) -> None:
    converse(stream, ws.Connection(ws.Role.SERVER, plain_http=False, deliver_parts=True))


if __name__ == "__main__":
    with ThreadingTCPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever).start()
        client = ws.Connection(ws.Role.CLIENT, entropy=os.urandom)
        client.request_upgrade("ws://localhost/")
        converse(socket.create_connection(server.server_address), client)
        server.shutdown()

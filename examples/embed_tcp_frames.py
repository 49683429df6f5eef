"""An echo of binary TCP frames, both of its ends, on blocking sockets: ``examples/embed_tcp_frames.py``."""

import socket
from contextlib import suppress
from socketserver import ThreadingTCPServer
from threading import Thread

from stelar_proto.tcp import Connection, FrameReceived, FrameType


def converse(stream: socket.socket, connection: Connection) -> None:
    with stream, suppress(OSError):  # TimeoutError is one
        stream.settimeout(60)
        stream.sendall(connection.data_to_send())
        while not connection.wants_eof:
            for event in connection.receive_data(stream.recv(65536)):
                print(f"{event!r:.99}")
                match event:
                    case FrameReceived(FrameType.JSON | FrameType.BINARY):
                        connection.send_frame(*event)
                    case FrameReceived(FrameType.ACK_REQUEST, name, payload):
                        connection.send_frame(FrameType.ACK_RESPONSE, name, payload)
                    case FrameReceived(FrameType.CONNECT):
                        connection.send_frame(FrameType.ACK_REQUEST, "echo", b'"hola"')
                    case FrameReceived(FrameType.ACK_RESPONSE):
                        connection.close()
            stream.sendall(connection.data_to_send())


def serve(stream: socket.socket, *_: object) -> None:
    connection = Connection()
    connection.send_frame(FrameType.CONNECT, payload=b"client-1")
    converse(stream, connection)


if __name__ == "__main__":
    with ThreadingTCPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever).start()
        converse(socket.create_connection(server.server_address), Connection())
        server.shutdown()

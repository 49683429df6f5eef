"""What the clients of ``server.py`` say, byte by byte, and the clients that never read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from load import CLOSE, CLOSED, KIB, MASK, WEBSOCKET, Connection, Wire, upgrade
from processes import ServerProcess
from server_peers import ECHO

from stelar_proto import tcp
from stelar_proto.ws import Opcode
from stelar_proto.ws.frames import encode_frame

DATA = '{"text":"hola a todos","from":"ana","at":1700000000}'
LONG_DATA = '{"text":"' + "hola " * 200 + '"}'

UUID = rb"[0-9a-f-]{36}"
CONNECTED = rb'.{2,4}\{"event":"stelar:connect","data":\{"id":"' + UUID + rb'"\}\}'
TCP_CONNECTED = re.compile(rb".{4}\x06\0\x07connect" + UUID, re.DOTALL)
SOCKETIO = "/socket.io/?EIO=4&transport=websocket"
SOCKETIO_CONNECT = encode_frame(Opcode.TEXT, b"40", mask=MASK)

WIRES = {
    "stelar": Wire([upgrade("/", CONNECTED)], CLOSE, CLOSED),
    "stelar-tcp": Wire([(b"", TCP_CONNECTED)], b"", b""),
    "python-socketio": Wire(
        [upgrade(SOCKETIO, rb".{2,4}0\{.*\}"), (SOCKETIO_CONNECT, re.compile(rb'.{2,4}40\{"sid":".*"\}'))],
        CLOSE,
        CLOSED,
    ),
}


def wire_of(server: ServerProcess) -> Wire:
    """Return how clients of ``server`` begin and end."""
    return WIRES.get(server.library, WEBSOCKET)


def encode(server: ServerProcess, event: str, data: str) -> tuple[bytes, bytes]:
    """Return a message as it is sent to ``server``, and as it comes back."""
    if server.library == "stelar-tcp":
        frame = tcp.encode_frame(tcp.FrameType.JSON, event, data.encode())
        return frame, frame
    if server.library == "python-socketio":
        text = f'42["{event}",{data}]'
    else:
        text = f'{{"event":"{event}","data":{data}}}'
    return encode_frame(Opcode.TEXT, text.encode(), mask=MASK), encode_frame(Opcode.TEXT, text.encode())


class Silent:
    """Clients that ask for answers of 1 KiB and never read them.

    Arguments:
        server: whom they ask.
        count: how many they are.
    """

    def __init__(self, server: ServerProcess, count: int) -> None:
        self._message, _ = encode(server, ECHO, LONG_DATA)
        wire = wire_of(server)
        self._clients = {Connection(server.port, str(server), wire, takes_little=True) for _ in range(count)}
        self._all = tuple(self._clients)

    def ask(self, amount: int) -> None:
        """Have each ask for so many bytes more, unless the server has cut it or reads it no further."""
        for connection in tuple(self._clients):
            try:
                if connection.send_rest():
                    connection.send(self._message * (amount // KIB))
            except OSError:
                self._clients.discard(connection)

    def hang_up(self) -> None:
        for connection in self._all:
            connection.socket.close()


@contextlib.contextmanager
def silent(server: ServerProcess, count: int) -> Iterator[Silent]:
    """So many clients of ``server`` that never read."""
    clients = Silent(server, count)
    try:
        yield clients
    finally:
        clients.hang_up()

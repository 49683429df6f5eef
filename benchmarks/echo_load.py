"""The load that ``echo.py`` puts on echo servers: WebSocket clients that cost as little as they can.

The frames are encoded beforehand and what comes back is compared byte by byte with what has to; there is no
parser, and no library but the standard one while it runs. It measures nothing but how long answers take.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from stelar_proto.ws import Opcode
from stelar_proto.ws.frames import encode_frame

KIB = 1024
SIZES = {16: "16 B", 125: "125 B", KIB: "1 KiB", 64 * KIB: "64 KiB"}
PATIENCE = 10.0  # seconds without an answer after which a server has failed
READ_SIZE = 64 * KIB  # a larger buffer is mapped anew for each read, which costs more than reading
MASK = b"\x37\xfa\x21\x3d"
CLOSE = encode_frame(Opcode.CLOSE, b"\x03\xe8", mask=MASK)  # 1000
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class ServerFailed(Exception):
    """A server did not do its work; the run is worth nothing."""


@dataclass(frozen=True)
class Load:
    """What goes over each connection: ``outstanding`` messages at once, and the next when all are back."""

    size: int
    is_text: bool
    outstanding: int

    def __str__(self) -> str:
        kind = "text" if self.is_text else "binary"
        return f"{SIZES[self.size]:>6} {kind}, {self.outstanding} outstanding"

    def encoded(self, mask: bytes | None) -> bytes:
        """Return the frames of the messages: masked as they are sent, or unmasked as they come back."""
        payload = (b'{"event":"chat","data":"hola"} ' * (self.size // 31 + 1))[: self.size]
        opcode = Opcode.TEXT if self.is_text else Opcode.BINARY
        return encode_frame(opcode, payload, mask=mask) * self.outstanding


class Connection:
    """One client: it upgrades at once, and is then driven by :func:`exchange`.

    Arguments:
        port: of the server, on loopback.
        server: what to call it when it fails.
    """

    def __init__(self, port: int, server: str) -> None:
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(UPGRADE)
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            response += self._read()
        if not response.startswith(b"HTTP/1.1 101 "):
            raise ServerFailed(f"{server} does not upgrade: {response!r}")
        self.socket.setblocking(False)
        self._unsent = memoryview(b"")
        self._expected = b""
        self._received = 0
        self.sent_at = 0.0

    def send(self, messages: bytes, answers: bytes) -> bool:
        """Send ``messages``, to which ``answers`` is to come back; as :meth:`send_rest`."""
        self._unsent, self._expected, self._received = memoryview(messages), answers, 0
        self.sent_at = perf_counter()
        return self.send_rest()

    def send_rest(self) -> bool:
        """Send what the socket takes; return whether that was all."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        return not self._unsent

    def receive(self) -> bool:
        """Take what has come, which is compared byte by byte; return whether it is complete."""
        data = self._read()
        end = self._received + len(data)
        if data != self._expected and data != self._expected[self._received : end]:
            raise ServerFailed(f"{self.server} sends back something else: {data[:100]!r}")
        self._received = end
        return end == len(self._expected)

    def say_goodbye(self) -> None:
        """Close in good order: there is nothing for the server to report, and nothing of us is left there."""
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(CLOSE)
        answer = self._read()
        if answer != b"\x88\x02\x03\xe8":
            raise ServerFailed(f"{self.server} answers a close with {answer[:100]!r}")

    def _read(self) -> bytes:
        try:
            data = self.socket.recv(READ_SIZE)
        except OSError as error:
            raise ServerFailed(f"{self.server} cannot be read: {error!r}") from error
        if not data:
            raise ServerFailed(f"{self.server} has hung up")
        return data


@contextlib.contextmanager
def connected(port: int, server: str, count: int) -> Iterator[list[Connection]]:
    """So many open connections; they are closed in good order at the end."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(Connection(port, server))
            stack.enter_context(connections[-1].socket)
        yield connections
        for connection in connections:
            connection.say_goodbye()


def exchange(connections: Sequence[Connection], load: Load, seconds: float) -> list[float]:
    """Put ``load`` on the connections for so long, and until every message is back.

    Returns:
        How long it took until the messages that were sent at once were all back, for each time; seconds.
    """
    messages, answers = load.encoded(MASK), load.encoded(None)
    latencies: list[float] = []
    reading, both = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            everything = connection.send(messages, answers)
            selector.register(connection.socket, reading if everything else both, connection)
        end = perf_counter() + seconds
        busy = len(connections)
        while busy:
            ready = selector.select(PATIENCE)
            if not ready:
                raise ServerFailed(f"{connections[0].server} does not send everything back")
            for key, events in ready:
                connection = key.data
                if events & selectors.EVENT_WRITE and connection.send_rest():
                    selector.modify(connection.socket, reading, connection)
                if events & reading and connection.receive():
                    now = perf_counter()
                    latencies.append(now - connection.sent_at)
                    if now >= end:
                        busy -= 1
                    elif not connection.send(messages, answers):
                        selector.modify(connection.socket, both, connection)
    return latencies

"""The load that the benchmarks of servers put on them: clients that cost as little as they can.

What they send is encoded beforehand and what comes back is compared byte by byte with what has to; there is
no parser, and no library but the standard one while it runs. It measures nothing but how long answers take.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from stelar_proto.ws import Opcode
from stelar_proto.ws.frames import encode_frame

KIB = 1024
PATIENCE = 10.0  # seconds without an answer after which a server has failed
READ_SIZE = 64 * KIB  # a larger buffer is mapped anew for each read, which costs more than reading
MASK = b"\x37\xfa\x21\x3d"


class ServerFailed(Exception):
    """A server did not do its work; the run is worth nothing."""


@dataclass(frozen=True)
class Wire:
    """How clients begin and end.

    Arguments:
        opening: what is sent, one after the other, and what the whole answer to each looks like.
        goodbye: what is sent at the end; nothing if the end of the stream is all.
        farewell: the answer to that.
    """

    opening: Sequence[tuple[bytes, re.Pattern[bytes]]]
    goodbye: bytes
    farewell: bytes


def upgrade(path: str, more: bytes = b"") -> tuple[bytes, re.Pattern[bytes]]:
    """The opening handshake of WebSocket, and the answer, behind which a server may say ``more`` at once."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return request.encode(), re.compile(rb"HTTP/1\.1 101 .*\r\n\r\n" + more, re.DOTALL)


CLOSE, CLOSED = encode_frame(Opcode.CLOSE, b"\x03\xe8", mask=MASK), encode_frame(Opcode.CLOSE, b"\x03\xe8")
WEBSOCKET = Wire([upgrade("/")], CLOSE, CLOSED)


class Connection:
    """One client: it opens at once, and is then driven by :func:`exchange` or :func:`fan_out`.

    Arguments:
        port: of the server, on loopback.
        server: what to call it when it fails.
        wire: what it speaks.
        takes_little: it gets small packets, so that little fits between it and the server.
    """

    def __init__(self, port: int, server: str, wire: Wire = WEBSOCKET, *, takes_little: bool = False) -> None:
        self.server = server
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if takes_little:  # the size of a packet decides how much the server's system keeps for it
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = wire
        for words, answer in wire.opening:
            self.socket.sendall(words)
            response = b""
            while not answer.fullmatch(response):
                if len(response) > 4 * KIB:
                    raise ServerFailed(f"{server} does not begin as it should: {response!r}")
                response += self._read()
        self.socket.setblocking(False)
        self._unsent = memoryview(b"")
        self._expected = b""
        self._received = 0
        self.sent_at = 0.0

    def expect(self, answers: bytes) -> None:
        """Wait for ``answers``, whoever asks for them."""
        self._expected, self._received = answers, 0

    def send(self, messages: bytes) -> bool:
        """Send ``messages``; as :meth:`send_rest`."""
        self._unsent = memoryview(messages)
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
        if self._wire.goodbye:
            self.socket.sendall(self._wire.goodbye)
        else:
            self.socket.shutdown(socket.SHUT_WR)
        answer = self.socket.recv(READ_SIZE)
        if answer != self._wire.farewell:
            raise ServerFailed(f"{self.server} answers a goodbye with {answer[:100]!r}")

    def _read(self) -> bytes:
        try:
            data = self.socket.recv(READ_SIZE)
        except OSError as error:
            raise ServerFailed(f"{self.server} cannot be read: {error!r}") from error
        if not data:
            raise ServerFailed(f"{self.server} has hung up")
        return data


@contextlib.contextmanager
def connected(port: int, server: str, count: int, wire: Wire = WEBSOCKET) -> Iterator[list[Connection]]:
    """So many open connections; they are closed in good order at the end."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(Connection(port, server, wire))
            stack.enter_context(connections[-1].socket)
        yield connections
        for connection in connections:
            connection.say_goodbye()


def exchange(
    connections: Sequence[Connection], messages: bytes, answers: bytes, seconds: float
) -> list[float]:
    """Send ``messages`` over each connection, and again when ``answers`` are back, for so long.

    Returns:
        How long it took until the messages that were sent at once were all back, for each time; seconds.
    """
    latencies: list[float] = []
    reading, both = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.expect(answers)
            everything = connection.send(messages)
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
                        continue
                    connection.expect(answers)
                    if not connection.send(messages):
                        selector.modify(connection.socket, both, connection)
    return latencies


def fan_out(connections: Sequence[Connection], message: bytes, answer: bytes, seconds: float) -> list[float]:
    """Send ``message`` over one connection, and again when each has got ``answer``, for so long.

    Returns:
        How long it took until the last had got it, for each time; seconds.
    """
    latencies: list[float] = []
    speaker = connections[0]
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        end = perf_counter() + seconds
        while perf_counter() < end or not latencies:
            for connection in connections:
                connection.expect(answer)
            if not speaker.send(message):
                raise ServerFailed(f"{speaker.server} does not read")
            missing = len(connections)
            while missing:
                ready = selector.select(PATIENCE)
                if not ready:
                    raise ServerFailed(f"{speaker.server} left out {missing} clients")
                missing -= sum(key.data.receive() for key, _ in ready)
            latencies.append(perf_counter() - speaker.sent_at)
    return latencies

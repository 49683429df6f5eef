"""What the tests of plain connections are written in: one of either role, a peer by hand, virtual time."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from stelar_proto.plain import ConnectionHandler, WebSocketConnection
from stelar_proto.testing import ChunkSize
from tests.support.memory import RawStream, VirtualConnector, VirtualNetwork, VirtualWebSocketServer
from tests.support.virtual import VirtualEvent, VirtualLoop, VirtualTask
from tests.support.wires import ACCEPTED, UPGRADE, masked

T = TypeVar("T")

PORT = 8765
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class RawPeer:
    """The other end of a plain connection: frames put together and taken apart by hand.

    Arguments:
        stream: its end of the stream.
        masks: whether it is the client, which masks what it sends and is not masked to.
    """

    def __init__(self, stream: RawStream, *, masks: bool) -> None:
        self.stream = stream
        self._masks = masks
        self._buffer = b""

    def frame(self, first_byte: int, payload: bytes = b"") -> bytes:
        """The bytes of a frame."""
        frame = masked(0, payload)
        frame = bytes([first_byte]) + frame[1:]
        if self._masks:
            return frame
        head = 2 + {126: 2, 127: 8}.get(frame[1] & 0x7F, 0)
        return bytes([first_byte, frame[1] & 0x7F]) + frame[2:head] + payload

    def close_frame(self, code: int, reason: bytes = b"") -> bytes:
        """The bytes of a close frame."""
        return self.frame(CLOSE, code.to_bytes(2, "big") + reason)

    def say(self, *messages: str | bytes) -> None:
        """Send messages, all in one chunk."""
        frames = (
            self.frame(TEXT, message.encode()) if isinstance(message, str) else self.frame(BINARY, message)
            for message in messages
        )
        self.stream.send(b"".join(frames))

    def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """Send a close frame."""
        self.stream.send(self.close_frame(code, reason))

    def heard(self) -> list[tuple[int, bytes]]:
        """The frames that came since the last call: first byte and payload."""
        self._buffer += self.stream.take()
        frames = []
        while (frame := self._take_frame()) is not None:
            frames.append(frame)
        return frames

    def _take_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, head = buffer[1] & 0x7F, 2
        extra = {126: 2, 127: 8}.get(size, 0)
        if extra:
            size = int.from_bytes(buffer[2 : 2 + extra], "big")
        assert bool(buffer[1] & 0x80) is not self._masks, "clients mask, servers do not"
        mask = b"" if self._masks else buffer[head + extra : head + extra + 4]
        head += extra + (0 if self._masks else 4)
        if len(buffer) < head + size:
            return None
        payload = buffer[head : head + size]
        self._buffer = buffer[head + size :]
        if mask:
            key = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        return buffer[0], payload


class House:
    """A loop, and connections of one role.

    Arguments:
        role: ``"server"`` or ``"client"``: which one is under test.
        chunk_size: how much of a stream is read at once.
    """

    def __init__(self, role: str = "server", *, chunk_size: ChunkSize = None) -> None:
        self.role = role
        self.loop = VirtualLoop()
        self.network = VirtualNetwork(self.loop, chunk_size=chunk_size)
        self.server: VirtualWebSocketServer
        self.kept = VirtualEvent()
        """Set to have the handlers of :meth:`serve` return."""
        self.connections: list[WebSocketConnection] = []
        """What the handler of :meth:`serve` was given."""

    def serve(self, handler: ConnectionHandler | None = None, **options: Any) -> VirtualWebSocketServer:
        """Start a server; by default its handler keeps every connection until that is gone."""
        self.server = VirtualWebSocketServer(self.network, handler or self._keep, **options)
        self.server.start_now()
        return self.server

    async def _keep(self, connection: WebSocketConnection) -> None:
        self.connections.append(connection)
        await self.kept.wait()

    def raw_client(self, upgrade: bytes = UPGRADE) -> RawPeer:
        """Connect a client by hand, and let it in."""
        stream = self.server.connect("ws")
        stream.send(upgrade)
        head, _, rest = stream.take().partition(b"\r\n\r\n")
        assert head.startswith(ACCEPTED.rstrip()), head
        peer = RawPeer(stream, masks=True)
        peer._buffer = rest
        return peer

    def open(self, **options: Any) -> tuple[WebSocketConnection, RawPeer]:
        """Open a connection of the role under test; return it, and the peer."""
        if self.role == "server":
            self.serve(**options)
            peer = self.raw_client()
            return self.connections[-1], peer
        accepted = self.network.listen_raw(PORT)
        entering = self.start(VirtualConnector(self.network, **options).__aenter__())
        stream = accepted[0]
        stream.send(accept(stream.take()))
        return entering.result(), RawPeer(stream, masks=False)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> VirtualTask[T]:
        """Run ``coroutine`` as far as it goes without the clock."""
        task = self.loop.start(coroutine)
        self.loop.run_until_idle()
        return task

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` to its end."""
        return self.loop.run(coroutine)

    def cancel(self, task: VirtualTask[Any]) -> None:
        """Cancel ``task``, and let that have its consequences."""
        task.cancel()
        self.loop.run_until_idle()

    def close(self) -> None:
        self.loop.close()


def accept(request: bytes, *more: bytes) -> bytes:
    """The 101 for ``request``, with ``more`` header fields."""
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    token = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    lines = (b"Sec-WebSocket-Accept: " + token, *more, b"", b"")
    return head + b"\r\n".join(lines)

"""What the client's tests are written in: a server made by hand on either wire, and virtual time."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.support.memory import RawStream, VirtualClient, VirtualNetwork
from tests.support.virtual import VirtualLoop, VirtualTask
from tests.support.wires import Heard, frame, to_json

PORT = 3000
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

T = TypeVar("T")


class RawServer:
    """The server's end of one connection."""

    def __init__(self, stream: RawStream) -> None:
        self.stream = stream
        self._buffer = b""

    def open(self) -> RawServer:
        """Take the client in, under the id ``me``."""
        raise NotImplementedError

    def event(self, event: str, data: object = None) -> bytes:
        raise NotImplementedError

    def binary(self, event: str, payload: bytes) -> bytes:
        raise NotImplementedError

    def answer(self, ack: str, data: object = None, correlation_id: str | None = None) -> bytes:
        raise NotImplementedError

    def error(self, ack: str, code: str, message: str, correlation_id: str | None = None) -> bytes:
        raise NotImplementedError

    def request(self, ack: str, event: str, correlation_id: str) -> bytes:
        raise NotImplementedError

    def bye(self) -> bytes:
        """What a server says that shuts down."""
        raise NotImplementedError

    def heard(self) -> list[Heard]:
        """What the client said since the last call."""
        return self.parse(self.stream.take())

    def parse(self, data: bytes) -> list[Heard]:
        """What ``data`` says, and what came in front of it."""
        self._buffer += data
        heard = []
        while self._buffer:
            heard.append(self._take_message())
        return heard

    def _take_message(self) -> Heard:
        raise NotImplementedError

    def _take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        assert len(taken) == size
        return taken


class RawWebSocketServer(RawServer):
    def read_request(self) -> bytes:
        """The client's handshake."""
        self.request_head, _, rest = self.stream.take().partition(b"\r\n\r\n")
        assert rest == b""
        return self.request_head

    def accept(self, key: bytes | None = None, guid: bytes = _GUID) -> bytes:
        """The 101 for ``key``, by default the one that was asked with."""
        if key is None:
            key = self.read_request().partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + guid).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        return head + b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-Stelar-Client-Id: me\r\n\r\n"

    def open(self) -> RawServer:
        self.stream.send(self.accept())
        return self

    def text(self, fields: dict[str, object]) -> bytes:
        payload = to_json(fields)
        assert len(payload) < 126
        return bytes([0x81, len(payload)]) + payload

    def event(self, event: str, data: object = None) -> bytes:
        return self.text({"event": event, "data": data})

    def binary(self, event: str, payload: bytes) -> bytes:
        payload = to_json({"event": event, "_binary": True}) + b"\0" + payload
        return bytes([0x82, len(payload)]) + payload

    def answer(self, ack: str, data: object = None, correlation_id: str | None = None) -> bytes:
        return self._answer({"event": ack, "data": data, "_isAck": True}, correlation_id)

    def error(self, ack: str, code: str, message: str, correlation_id: str | None = None) -> bytes:
        error = {"code": code, "message": message}
        return self._answer({"event": ack, "data": None, "_isAck": True, "_error": error}, correlation_id)

    def _answer(self, fields: dict[str, object], correlation_id: str | None) -> bytes:
        return self.text(fields if correlation_id is None else {**fields, "_correlationId": correlation_id})

    def request(self, ack: str, event: str, correlation_id: str) -> bytes:
        return self.text({"event": event, "data": 1, "_ackName": ack, "_correlationId": correlation_id})

    def bye(self) -> bytes:
        return b"\x88\x16\x03\xe9Server shutting down"

    def _take_message(self) -> Heard:
        first, length = self._take(2)
        size = length & 0x7F
        assert length & 0x80, "a client masks"
        if size == 126:
            size = int.from_bytes(self._take(2), "big")
        elif size == 127:
            size = int.from_bytes(self._take(8), "big")
        mask, masked = self._take(4), self._take(size)
        key = mask * (size // 4 + 1)
        payload = (int.from_bytes(masked) ^ int.from_bytes(key[:size])).to_bytes(size)
        match first:
            case 0x82:
                header, _, payload = payload.partition(b"\0")
                return ("binary", json.loads(header)["event"], payload)
            case 0x88:
                return ("closed", int.from_bytes(payload[:2], "big"), payload[2:].decode())
            case 0x89:
                return ("ping", "")
            case 0x8A:
                return ("pong", "")
            case _:
                fields = json.loads(payload)
        if fields.get("_isAck"):
            error = fields["_error"]
            return ("error", fields["event"], error["code"], error["message"], fields["_correlationId"])
        if "_ackName" in fields:
            return ("request", fields["_ackName"], fields["event"], fields["data"], fields["_correlationId"])
        return ("event", fields["event"], fields["data"])


class RawTcpServer(RawServer):
    def open(self) -> RawServer:
        self.stream.send(frame(6, "connect", b"me"))
        return self

    def event(self, event: str, data: object = None) -> bytes:
        return frame(0, event, to_json(data))

    def binary(self, event: str, payload: bytes) -> bytes:
        return frame(1, event, payload)

    def answer(self, ack: str, data: object = None, correlation_id: str | None = None) -> bytes:
        if correlation_id is None:
            return frame(5, ack, to_json(data))
        return frame(5, ack, to_json({"data": data, "_correlationId": correlation_id}))

    def error(self, ack: str, code: str, message: str, correlation_id: str | None = None) -> bytes:
        fields = {"code": code, "message": message}
        return frame(
            10, ack, to_json({**fields, "_correlationId": correlation_id} if correlation_id else fields)
        )

    def request(self, ack: str, event: str, correlation_id: str) -> bytes:
        return frame(4, ack, to_json({"event": event, "data": 1, "_correlationId": correlation_id}))

    def bye(self) -> bytes:
        return frame(7, "", b"")

    def _take_message(self) -> Heard:
        whole = self._take(int.from_bytes(self._buffer[:4], "big"))
        size = int.from_bytes(whole[5:7], "big")
        name, payload = whole[7 : 7 + size].decode(), whole[7 + size :]
        match whole[4]:
            case 0:
                return ("event", name, json.loads(payload))
            case 1:
                return ("binary", name, payload)
            case 4:
                fields = json.loads(payload)
                return ("request", name, fields["event"], fields["data"], fields["_correlationId"])
            case 2:
                return ("ping", "")
            case 3:
                return ("pong", "")
            case 10 if name == "error":
                return ("failed", payload.decode())
            case 8 | 9:
                return ("event", name, payload.decode())
            case 10:
                fields = json.loads(payload)
                return ("error", name, fields["code"], fields["message"], fields["_correlationId"])
        raise AssertionError(whole)


SERVERS = {"ws": RawWebSocketServer, "tcp": RawTcpServer}


class House:
    """One client, and what it connects to."""

    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.loop = VirtualLoop()
        self.network = VirtualNetwork(self.loop)
        self.streams = self.network.listen_raw(PORT)
        self.url = f"{wire}://localhost:{PORT}"
        self.log: list[Any] = []

    def client(self, **options: Any) -> VirtualClient:
        """A client that stays alone when its connection ends, unless it is told otherwise."""
        return VirtualClient(self.network, self.url, **{"reconnection": False, **options})

    def dial(self, client: VirtualClient) -> tuple[VirtualTask[None], RawServer]:
        """Have ``client`` connect; return that, and the server's end, which has said nothing."""
        connecting = self.loop.start(client.connect())
        self.loop.run_until_idle()
        return connecting, SERVERS[self.wire](self.streams[-1])

    def connect(self, client: VirtualClient) -> RawServer:
        """Connect ``client``; return the server's end."""
        connecting, server = self.dial(client)
        server.open()
        connecting.result()
        return server

    def pair(self, **options: Any) -> tuple[VirtualClient, RawServer]:
        client = self.client(**options)
        return client, self.connect(client)

    def note(self, name: str) -> Any:
        """A handler that logs its name and arguments."""

        def handler(*arguments: object) -> None:
            self.log.append((name, *arguments))

        return handler

    def start(self, coroutine: Coroutine[Any, Any, T]) -> VirtualTask[T]:
        """Run ``coroutine`` as far as it goes without the clock."""
        task = self.loop.start(coroutine)
        self.loop.run_until_idle()
        return task

    def close(self) -> None:
        self.loop.close()

"""Clients made by hand: each wire put together and taken apart without the code under test.

What they hear is the same for both wires: tuples such as ``("event", name, data)``,
``("binary", name, payload)``, ``("answer", ack, data, id)``, ``("error", ack, code, message, id)`` and
``("closed", code, reason)``.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from tests.support.memory import RawStream

Heard: TypeAlias = tuple[Any, ...]

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
_WS_HEADER, _TCP_HEADER = 2, 7


def upgrade_to(path: str) -> bytes:
    """The handshake of a client of the namespace at ``path``."""
    return UPGRADE.replace(b"GET /", b"GET " + path.encode(), 1)


def to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class RawClient:
    """A client of a server under test, on either wire."""

    kind = ""

    def __init__(self, stream: RawStream) -> None:
        self.stream = stream
        self.id: str | None = None
        self._buffer = b""

    def open(self, path: str = "/") -> RawClient:
        """Ask to be taken in, and hear that it was so; ``path`` concerns WebSocket only."""
        self.ask(path)
        return self.enter()

    def ask(self, path: str = "/") -> None:
        """Say what a client says first."""

    def enter(self) -> RawClient:
        """Hear the answer."""
        raise NotImplementedError

    def say(self, event: str, data: object = None) -> None:
        """Send an event."""
        self.stream.send(self.event(event, data))

    def event(self, event: str, data: object = None) -> bytes:
        """The bytes of an event."""
        raise NotImplementedError

    def binary(self, event: str, payload: bytes) -> bytes:
        """The bytes of a binary event."""
        raise NotImplementedError

    def request(self, ack: str, event: str, data: object = None, correlation_id: str | None = None) -> bytes:
        """The bytes of a request."""
        raise NotImplementedError

    def room(self, action: str, room: str) -> bytes:
        """The bytes of ``join`` or ``leave``."""
        raise NotImplementedError

    def bye(self) -> bytes:
        """What a client sends to leave; ``b""`` ends the stream."""
        raise NotImplementedError

    def heard(self) -> list[Heard]:
        """Everything that came since the last call, ids and signs of life aside."""
        self._buffer += self.stream.take()
        heard = []
        while (message := self._take_message()) is not None:
            if message[0] == "id":
                self.id = message[1]
            elif message[0] not in ("ping", "pong"):
                heard.append(message)
        return heard

    def _take_message(self) -> Heard | None:
        raise NotImplementedError

    def _take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        assert len(taken) == size
        return taken


class WebSocketClient(RawClient):
    kind = "ws"

    def ask(self, path: str = "/") -> None:
        self.stream.send(upgrade_to(path))

    def enter(self) -> RawClient:
        head, _, self._buffer = self.stream.take().partition(b"\r\n\r\n")
        assert head.startswith(ACCEPTED), head
        self.id = head.partition(b"Sec-Stelar-Client-Id: ")[2].decode()
        self.heard()
        return self

    def event(self, event: str, data: object = None) -> bytes:
        return self.text({"event": event, "data": data})

    def text(self, fields: dict[str, object]) -> bytes:
        return masked(1, to_json(fields))

    def binary(self, event: str, payload: bytes) -> bytes:
        return masked(2, to_json({"event": event}) + b"\0" + payload)

    def request(self, ack: str, event: str, data: object = None, correlation_id: str | None = None) -> bytes:
        fields = {"event": event, "data": data, "_ackName": ack}
        return self.text(fields if correlation_id is None else {**fields, "_correlationId": correlation_id})

    def room(self, action: str, room: str) -> bytes:
        return self.event(f"{action}-room", room)

    def bye(self) -> bytes:
        return masked(8, (1000).to_bytes(2, "big"))

    def _take_message(self) -> Heard | None:
        if len(self._buffer) < _WS_HEADER:
            return None
        size, extra = self._buffer[1], {126: 2, 127: 8}.get(self._buffer[1], 0)
        if extra:
            size = int.from_bytes(self._buffer[2 : 2 + extra], "big")
        if len(self._buffer) < _WS_HEADER + extra + size:
            return None
        head = self._take(_WS_HEADER + extra)
        payload = self._take(size)
        match head[0]:
            case 0x81:
                return _read_envelope(json.loads(payload))
            case 0x82:
                header, _, payload = payload.partition(b"\0")
                fields = json.loads(header)
                assert fields.pop("_binary") is True
                return ("binary", fields.pop("event"), payload, *fields)
            case 0x88:
                return ("closed", int.from_bytes(payload[:2], "big"), payload[2:].decode())
            case 0x89 | 0x8A:
                return ("ping",)
        raise AssertionError(head)


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame: masked, with a mask that changes nothing."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


def _read_envelope(fields: dict[str, Any]) -> Heard:
    name, data = fields.pop("event"), fields.pop("data")
    if name == "stelar:connect":
        return ("id", data["id"])
    if fields.pop("_isAck", False):
        correlation_id = fields.pop("_correlationId", None)
        error = fields.pop("_error", None)
        assert fields == {}
        if error is not None:
            assert data is None
            return ("error", name, error["code"], error["message"], correlation_id)
        return ("answer", name, data, correlation_id)
    assert fields == {}
    return ("event", name, data)


class TcpClient(RawClient):
    kind = "tcp"

    def enter(self) -> RawClient:
        self.heard()
        assert self.id is not None
        return self

    def event(self, event: str, data: object = None) -> bytes:
        return frame(0, event, to_json(data))

    def binary(self, event: str, payload: bytes) -> bytes:
        return frame(1, event, payload)

    def request(self, ack: str, event: str, data: object = None, correlation_id: str | None = None) -> bytes:
        fields = {"event": event, "data": data}
        if correlation_id is not None:
            fields["_correlationId"] = correlation_id
        return frame(4, ack, to_json(fields))

    def room(self, action: str, room: str) -> bytes:
        return frame({"join": 8, "leave": 9}[action], f"{action}-room", room.encode())

    def bye(self) -> bytes:
        return b""

    def _take_message(self) -> Heard | None:
        if len(self._buffer) < _TCP_HEADER or len(self._buffer) < int.from_bytes(self._buffer[:4], "big"):
            return None
        whole = self._take(int.from_bytes(self._buffer[:4], "big"))
        size = int.from_bytes(whole[5:7], "big")
        name, payload = whole[7 : 7 + size].decode(), whole[7 + size :]
        match whole[4]:
            case 0:
                return ("event", name, json.loads(payload))
            case 1:
                return ("binary", name, payload)
            case 2 | 3:
                return ("ping",)
            case 5:
                result = json.loads(payload)
                if isinstance(result, dict) and result.keys() == {"data", "_correlationId"}:
                    return ("answer", name, result["data"], result["_correlationId"])
                return ("answer", name, result, None)
            case 6:
                return ("id", payload.decode())
            case 7:
                return ("closed", 1001, "Server shutting down")
            case 10 if name == "error":
                return ("closed", None, payload.decode())
            case 10:
                error = json.loads(payload)
                return ("error", name, error["code"], error["message"], error.get("_correlationId"))
        raise AssertionError(whole)


def frame(code: int, event: str, payload: bytes) -> bytes:
    """A TCP frame of the documented dialect."""
    name = event.encode()
    size = _TCP_HEADER + len(name) + len(payload)
    return size.to_bytes(4, "big") + bytes([code]) + len(name).to_bytes(2, "big") + name + payload


CLIENTS = {"ws": WebSocketClient, "tcp": TcpClient}

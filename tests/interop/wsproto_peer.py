"""A client and a server on wsproto and blocking sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from .conversation import SUBPROTOCOL, Ended, Message, Talker, serve
from .peers import BaseTalker

_TIMEOUT = 15.0


class WsprotoTalker(BaseTalker):
    can_fragment = True
    can_ping = True

    def __init__(self, stream: socket.socket, kind: ConnectionType, *, compressed: bool) -> None:
        self._extensions: list[Extension] = [PerMessageDeflate()] if compressed else []
        self.subprotocol: str | None = None
        self._stream = stream
        self._protocol = WSConnection(kind)
        self._events: list[Event] = []
        self._parts: list[str] | list[bytes] = []

    def open(self, host: str) -> None:
        """The client's opening handshake."""
        self.say(Request(host=host, target="/", subprotocols=[SUBPROTOCOL], extensions=self._extensions))
        accepted = self._next_event()
        assert isinstance(accepted, AcceptConnection)
        self.subprotocol = accepted.subprotocol

    def accept(self) -> None:
        """The server's opening handshake."""
        request = self._next_event()
        assert isinstance(request, Request)
        self.say(AcceptConnection(subprotocol=SUBPROTOCOL, extensions=self._extensions))

    def say(self, event: Event) -> None:
        self._stream.sendall(self._protocol.send(event))

    def _next_event(self) -> Event:
        while not self._events:
            data = self._stream.recv(65536)
            self._protocol.receive_data(data or None)
            self._events.extend(self._protocol.events())
        return self._events.pop(0)

    async def send(self, message: Message) -> None:
        self.say(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def send_fragments(self, fragments: Sequence[str]) -> None:
        for index, fragment in enumerate(fragments):
            self.say(TextMessage(fragment, message_finished=index == len(fragments) - 1))

    async def recv(self) -> Message:
        parts: list[Message] = []
        while True:
            event = self._next_event()
            if isinstance(event, Ping):
                self.say(event.response())
            elif isinstance(event, CloseConnection):
                if self._protocol.state.name == "REMOTE_CLOSING":
                    self.say(event.response())
                raise Ended(event.code, event.reason or "")
            elif isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                if event.message_finished:
                    return type(parts[0])().join(parts)  # type: ignore[arg-type]  # all of one kind

    async def ping(self) -> None:
        self.say(Ping(b"there?"))
        pong = self._next_event()
        assert isinstance(pong, Pong)
        assert bytes(pong.payload) == b"there?"

    async def close(self, code: int, reason: str) -> None:
        self.say(CloseConnection(code, reason))
        while not isinstance(self._next_event(), CloseConnection):
            pass


@asynccontextmanager
async def connect_wsproto(
    url: str, tls: ssl.SSLContext | None, *, compressed: bool = False
) -> AsyncIterator[Talker]:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host is not None
    with socket.create_connection((host, port), timeout=_TIMEOUT) as plain:
        with plain if tls is None else tls.wrap_socket(plain, server_hostname=host) as stream:
            talker = WsprotoTalker(stream, ConnectionType.CLIENT, compressed=compressed)
            talker.open(f"{host}:{port}")
            yield talker


@asynccontextmanager
async def serve_wsproto(tls: ssl.SSLContext | None, *, compressed: bool = False) -> AsyncIterator[int]:
    def serve_one() -> None:
        plain, _ = listener.accept()
        plain.settimeout(_TIMEOUT)
        with plain if tls is None else tls.wrap_socket(plain, server_side=True) as stream:
            talker = WsprotoTalker(stream, ConnectionType.SERVER, compressed=compressed)
            talker.accept()
            asyncio.run(serve(talker))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT)
        serving = asyncio.create_task(asyncio.to_thread(serve_one))
        yield listener.getsockname()[1]
        await serving

"""An HTTP proxy on loopback: it knows CONNECT, and finds every host on this machine."""

from __future__ import annotations

import ssl
import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import TypeAlias

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

RESET = b"reset"

Stream: TypeAlias = SocketStream | TLSStream

_YES = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n"


class ConnectProxy:
    """What came to it, and how it answers.

    Arguments:
        credentials: ``user:password`` that it asks for.
        answer: what it answers in place of connecting anybody; ``b""`` for nothing at all, for ever, and
            ``RESET`` for cutting the connection.
        server_speaks_first: wait for the server's first bytes, and send them in one piece with the answer.
        tls: speak TLS to clients.
    """

    def __init__(
        self,
        *,
        credentials: str | None = None,
        answer: bytes | None = None,
        server_speaks_first: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.credentials = credentials
        self.answer = answer
        self.server_speaks_first = server_speaks_first
        self.tls = tls
        self.asked_for: list[str] = []
        """The hosts and ports that it was asked for."""
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is, with what it asks for."""
        user = "" if self.credentials is None else f"{self.credentials}@"
        return f"http{'s' if self.tls else ''}://{user}127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ConnectProxy]:
        """Serve for as long as this lasts."""
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            self.port = listener.extra(SocketAttribute.local_port)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, self._secure_and_serve)
                yield self
                tasks.cancel_scope.cancel()

    async def _secure_and_serve(self, client: SocketStream) -> None:
        stream: Stream = client
        async with client:
            # A client may not trust us, or break off at any time.
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):
                if self.tls is not None:
                    stream = await TLSStream.wrap(
                        client, server_side=True, ssl_context=self.tls, standard_compatible=False
                    )
                await self._serve(stream)

    async def _serve(self, client: Stream) -> None:
        async with client:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await client.receive(1)
            request, *fields = head.decode("latin-1").split("\r\n")[:-2]
            method, target, version = request.split(" ")
            assert (method, version) == ("CONNECT", "HTTP/1.1")
            assert f"Host: {target}" in fields
            self.asked_for.append(target)
            if self.answer is not None:
                await self._answer(client, self.answer)
            elif self.credentials is not None and self._wanted_field not in fields:
                await client.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            else:
                port = int(target.rpartition(":")[2])
                async with await anyio.connect_tcp("127.0.0.1", port) as server:
                    first = await server.receive() if self.server_speaks_first else b""
                    await client.send(_YES + first)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(_carry, client, server)
                        tasks.start_soon(_carry, server, client)

    async def _answer(self, client: Stream, answer: bytes) -> None:
        if answer == RESET:
            client.extra(SocketAttribute.raw_socket).setsockopt(
                SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0)
            )
        elif answer:
            await client.send(answer)
        else:
            await anyio.sleep_forever()

    @property
    def _wanted_field(self) -> str:
        assert self.credentials is not None
        return f"Proxy-Authorization: Basic {b64encode(self.credentials.encode()).decode()}"


async def _carry(source: Stream, sink: Stream) -> None:
    try:
        async for data in source:
            await sink.send(data)
        if isinstance(sink, TLSStream):  # which has no half-open streams
            await sink.aclose()
        else:
            await sink.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError):
        await anyio.aclose_forcefully(sink)  # what is reset on one side is on the other

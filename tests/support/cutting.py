"""A proxy on loopback that lets so many bytes pass, and then breaks what it carries, as networks do."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

WAYS = ("to the server", "to the client")
MANNERS = ("fin", "rst")

_CHUNK = 65536


class CuttingProxy:
    """Carries connections to ``port``; the first since :meth:`cut_next` does not last.

    ``how`` is ``"fin"``: both sides read an end behind what passed, and what they say then is swallowed; or
    ``"rst"``: both are reset, and lose what they have not read. Other connections are carried to their end.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._way: str | None = None
        self._left = 0
        self._how = "fin"
        self.dials = 0
        """How many connections came since."""
        self.said = dict.fromkeys(WAYS, b"")
        """What was said over the first of them, swallowed or not."""
        self.is_cut = False
        """Whether that one has been cut."""

    def cut_next(self, way: str | None, after: int = 0, how: str = "fin") -> None:
        """Cut the next connection when ``after`` bytes have gone ``way``: 0 is before the first of them."""
        self._way, self._left, self._how = way, after, how
        self.dials, self.is_cut = 0, False
        self.said = dict.fromkeys(WAYS, b"")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Listen, on a port of its own choice."""
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            listener.setblocking(False)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._accept, listener)
                yield listener.getsockname()[1]
                tasks.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(listener)
                client, _ = listener.accept()
                self.dials += 1
                tasks.start_soon(self._carry, client, self.dials == 1)

    async def _carry(self, client: socket.socket, is_first: bool) -> None:
        with client, socket.create_connection(self._target) as server:  # on loopback it is there at once
            async with anyio.create_task_group() as tasks:
                for way, source, target in zip(WAYS, (client, server), (server, client), strict=True):
                    source.setblocking(False)
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if is_first:
                        tasks.start_soon(self._carry_some, way, source, target, tasks.cancel_scope)
                    else:
                        tasks.start_soon(_carry_all, source, target)
                if is_first:
                    self._cut_if_due(client, server, tasks.cancel_scope)

    async def _carry_some(
        self, way: str, source: socket.socket, target: socket.socket, both: anyio.CancelScope
    ) -> None:
        while data := await _receive(source):
            self.said[way] += data
            if self.is_cut:
                continue
            if way == self._way:
                data = data[: self._left]
                self._left -= len(data)
            await _send(target, data)
            self._cut_if_due(source, target, both)
        if not self.is_cut:
            _end(target)

    def _cut_if_due(self, one: socket.socket, other: socket.socket, both: anyio.CancelScope) -> None:
        if self._way is None or self._left or self.is_cut:
            return
        self.is_cut = True
        for side in (one, other):
            if self._how == "rst":
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                both.cancel()  # they are closed
            else:
                _end(side)


async def _carry_all(source: socket.socket, target: socket.socket) -> None:
    while data := await _receive(source):
        await _send(target, data)
    _end(target)


async def _receive(source: socket.socket) -> bytes:
    await anyio.wait_readable(source)
    try:
        return source.recv(_CHUNK)
    except ConnectionError:
        return b""


async def _send(target: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        while data:
            await anyio.wait_writable(target)
            data = data[target.send(data) :]


def _end(side: socket.socket) -> None:
    with suppress(OSError):  # it was reset
        side.shutdown(socket.SHUT_WR)

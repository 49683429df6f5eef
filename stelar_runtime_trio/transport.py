"""What carries an endpoint over a trio stream.

Nothing here knows a wire, a message or a server: bytes and the end of the stream go in, bytes come out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from stelar_proto.channel import Endpoint
from stelar_proto.channel.runtime import Address

from .loop import TrioRuntime

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[Any]
"""A socket, TLS over it, or TLS over that: to a server through a proxy."""

_READ_SIZE = 64 * 1024
_WRITE_SIZE = 64 * 1024
_CLOSE_TIMEOUT = 1.0  # for TLS to say goodbye


class StreamTransport:
    """Carries one endpoint over a trio stream.

    Reading is a task, :meth:`run`. Writing is a plain call as long as the socket takes what there is; when it
    does not, or TLS is in between, a task writes until the outbox is empty.

    Arguments:
        runtime: the loop.
        stream: the connection; it is closed at the end of :meth:`run`.
        opened_at: when it came in, or was begun.
    """

    def __init__(self, runtime: TrioRuntime, stream: Stream, opened_at: float) -> None:
        self.opened_at = opened_at
        self._runtime = runtime
        self._stream = stream
        # A plain socket is read and written without a detour; its descriptor is trio's, non-blocking already.
        is_plain = isinstance(stream, trio.SocketStream) and os.name == "posix"
        self._descriptor = stream.socket.fileno() if is_plain else None
        self._endpoint: Endpoint
        self._scope = trio.CancelScope()
        self._paused: trio.Event | None = None  # set when reading goes on
        self._flush_is_due = False  # behind this turn, or at the end of this call
        self._writing = False
        self.unsent_size = 0
        self._eof_sent = False

    @property
    def local_address(self) -> Address | None:
        """Our IP address and port."""
        return self._address(self._socket.getsockname)

    @property
    def remote_address(self) -> Address | None:
        """The peer's IP address and port."""
        return self._address(self._socket.getpeername)

    @property
    def _socket(self) -> trio.socket.SocketType:
        stream: Any = self._stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        sock: trio.socket.SocketType = stream.socket
        return sock

    def _address(self, ask: Callable[[], object]) -> Address | None:
        try:
            address = ask()
        except OSError:
            return None
        return address[:2] if isinstance(address, tuple) else None

    @trio.lowlevel.enable_ki_protection
    async def run(self, attach: Callable[[StreamTransport], Endpoint]) -> None:
        """Carry the endpoint that ``attach`` returns until it has ended, then close the stream."""
        self._flush_is_due = True
        endpoint = self._endpoint = attach(self)
        try:
            with self._scope:
                self.flush()
                await self._read(endpoint)
        finally:
            self._flush_is_due = self._writing = True  # there is nothing left to flush into
            is_cut = endpoint.is_aborted
            endpoint.connection_lost()
            if is_cut:
                await trio.aclose_forcefully(self._stream)
            else:
                with trio.move_on_after(_CLOSE_TIMEOUT):
                    await self._stream.aclose()

    async def _read(self, endpoint: Endpoint) -> None:
        try:
            while True:
                while self._paused is not None:
                    await self._paused.wait()
                data = await self._receive()
                is_end = not data
                self._flush_is_due = True
                if endpoint.receive_data(data):
                    self.flush()
                else:
                    self._flush_is_due = False
                del data  # which would be kept until the next comes
                if is_end:
                    # What is left to send leaves by itself; the endpoint's deadline bounds it.
                    await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass

    async def _receive(self) -> bytes:
        if self._descriptor is None:
            return bytes(await self._stream.receive_some(_READ_SIZE))
        while True:
            # A stream tries to read before it waits, in vain nearly always here.
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                return os.read(self._descriptor, _READ_SIZE)
            except BlockingIOError:  # woken for nothing
                pass

    # --- For the endpoint -----------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._runtime.flush_soon(self)

    @trio.lowlevel.enable_ki_protection
    def write(self, data: bytes) -> bool:
        if self._writing or self._descriptor is None:
            return False
        self._write_or_go_on(data)
        return True

    def pause_reading(self) -> None:
        self._paused = trio.Event()

    def resume_reading(self) -> None:
        if self._paused is not None:
            self._paused.set()
            self._paused = None

    @trio.lowlevel.enable_ki_protection
    def flush(self) -> None:
        """Write what the socket takes, and end the connection when the endpoint has come to its end."""
        self._flush_is_due = False
        endpoint = self._endpoint
        if endpoint.is_ending and endpoint.is_aborted:
            self._scope.cancel()
            return
        if self._writing:
            return
        while data := endpoint.data_to_send():
            if not self._write_or_go_on(data):
                return
        if endpoint.is_ending:
            self._end_if_due()

    def _write_or_go_on(self, data: bytes) -> bool:
        """Write ``data``; False if a task has to go on with it."""
        rest = self._write_now(data)
        if rest:
            self._writing = True
            self._note_unsent(len(rest))
            self._runtime.nursery.start_soon(self._write_rest, rest)
        return not rest

    def _write_now(self, data: bytes) -> bytes:
        """Write without waiting; return what was not taken."""
        if self._descriptor is None:
            return data
        try:
            return data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            return data
        except OSError:
            self._scope.cancel()
            return b""

    @trio.lowlevel.enable_ki_protection
    async def _write_rest(self, data: bytes) -> None:
        try:
            while data:
                await self._send_all(memoryview(data))
                data = self._endpoint.data_to_send()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._scope.cancel()
        self._writing = False
        self._end_if_due()

    async def _send_all(self, data: memoryview) -> None:
        while data:
            self._note_unsent(len(data))
            data = data[await self._send_some(data) :]
        self._note_unsent(0)

    async def _send_some(self, data: memoryview) -> int:
        """Wait until something of ``data`` can be written; return how much that was."""
        if self._descriptor is None:
            piece = data[:_WRITE_SIZE]  # in pieces, so that it can be seen whether the peer reads
            await self._stream.send_all(piece)
            return len(piece)
        await trio.lowlevel.wait_writable(self._descriptor)
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # woken for nothing
            return 0

    def _note_unsent(self, size: int) -> None:
        self.unsent_size = size
        self._endpoint.note_unsent(size)

    def _end_if_due(self) -> None:
        endpoint, stream = self._endpoint, self._stream
        if endpoint.is_finished:
            self._scope.cancel()
        elif endpoint.wants_eof and not self._eof_sent:
            self._eof_sent = True
            if isinstance(stream, trio.SocketStream):
                try:
                    stream.socket.shutdown(trio.socket.SHUT_WR)
                except OSError:
                    self._scope.cancel()
            else:
                self._scope.cancel()  # TLS has no half-open connections

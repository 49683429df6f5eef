"""Endpoints on trio: a task that carries one over a stream, and the loop as the pure layers see it.

Nothing here knows a wire, a message or a server: bytes and the end of the stream go in, bytes come out. What
several connections have to send in one turn of the loop leaves in one write each, behind it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, TypeAlias

import trio

from stelar_proto.session import Endpoint

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_READ_SIZE = 64 * 1024


class TrioRuntime:
    """The loop of one server or client; its tasks live in :meth:`run`.

    Arguments:
        on_deadline: called when the timer that was set comes.
    """

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        self._on_deadline = on_deadline
        self._timer_scope = trio.CancelScope()
        self._deadline = inf
        self._dirty: list[StreamTransport] = []
        self._dirty_event = trio.Event()
        self._nursery: trio.Nursery
        self.closed = trio.Event()
        """Set when nothing of it runs any more."""
        self.now = trio.current_time
        self.wall_clock = time.time
        self.entropy = os.urandom
        self.make_event = trio.Event

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what is spawned, until :meth:`close`."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._run_timer)
                self._nursery.start_soon(self._run_flushes)
                task_status.started()
        finally:
            self.closed.set()

    async def run_in_background(self) -> None:
        """Have :meth:`run` run without a nursery of the caller's; the loop's end is its end."""
        started = trio.Event()

        class Status:
            def started(self, value: None = None) -> None:
                started.set()

        trio.lowlevel.spawn_system_task(self.run, Status())
        await started.wait()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine`` as a task; :meth:`close` cancels it."""
        self._nursery.start_soon(_run_coroutine, coroutine)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Run a function as a task; :meth:`close` cancels it."""
        self._nursery.start_soon(function, *arguments)

    async def close(self) -> None:
        """Cancel everything that still runs."""
        self._nursery.cancel_scope.cancel()

    def set_timer(self, deadline: float | None) -> None:
        """Call ``on_deadline`` at ``deadline``, and not when it was to be called before."""
        self._deadline = self._timer_scope.deadline = inf if deadline is None else deadline

    async def _run_timer(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._deadline) as self._timer_scope:
                await trio.sleep_forever()
            self._deadline = inf
            self._on_deadline()

    def flush_soon(self, transport: StreamTransport) -> None:
        """Flush ``transport`` behind this turn of the loop."""
        self._dirty.append(transport)
        self._dirty_event.set()

    async def _run_flushes(self) -> None:
        while True:
            await self._dirty_event.wait()
            self._dirty_event = trio.Event()
            dirty, self._dirty = self._dirty, []
            for transport in dirty:
                transport.flush()


async def _run_coroutine(coroutine: Coroutine[Any, Any, None]) -> None:
    await coroutine


class StreamTransport:
    """Carries one endpoint over a trio stream.

    Reading is a task, :meth:`run`. Writing is a plain call as long as the socket takes what there is; when it
    does not, or TLS is in between, a task writes until the outbox is empty.

    Arguments:
        runtime: the loop.
        stream: the connection; it is closed at the end of :meth:`run`.
    """

    def __init__(self, runtime: TrioRuntime, stream: Stream) -> None:
        self._runtime = runtime
        self._stream = stream
        # A plain socket is written to without waiting; its descriptor is trio's, non-blocking already.
        self._descriptor = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        self._endpoint: Endpoint
        self._scope = trio.CancelScope()
        self._readable = trio.Event()
        self._readable.set()
        self._flush_is_due = False  # behind this turn, or at the end of this call
        self._writing = False
        self._eof_sent = False

    @property
    def remote_address(self) -> str | None:
        """The peer's IP address."""
        stream = self._stream
        socket = stream.socket if isinstance(stream, trio.SocketStream) else stream.transport_stream.socket
        try:
            address = socket.getpeername()
        except OSError:
            return None
        return address[0] if isinstance(address, tuple) else None

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
            endpoint.connection_lost()
            if endpoint.is_aborted_early:
                await trio.aclose_forcefully(self._stream)
            else:
                with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                    await self._stream.aclose()

    async def _read(self, endpoint: Endpoint) -> None:
        try:
            while True:
                await self._readable.wait()
                data = await self._stream.receive_some(_READ_SIZE)
                self._flush_is_due = True
                endpoint.receive_data(data)
                self.flush()
                if not data:
                    # What is left to send leaves by itself; the endpoint's deadline bounds it.
                    await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

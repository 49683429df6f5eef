"""Endpoints on trio: a task that carries one over a stream, and the loop as the pure layers see it.

Nothing here knows a wire, a message or a server: bytes and the end of the stream go in, bytes come out. What
several connections have to send in one turn of the loop leaves in one write each, behind it.
"""

from __future__ import annotations

import contextvars
import logging
import os
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, TypeAlias, TypeVar

import trio

from stelar_proto.channel import Endpoint, WaitableEvent
from stelar_proto.channel.runtime import Address, Flushable

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_logger = logging.getLogger("stelar.trio")

_READ_SIZE = 64 * 1024
_WRITE_SIZE = 64 * 1024
_CLOSE_TIMEOUT = 1.0  # for TLS to say goodbye

T = TypeVar("T")


class TrioRuntime:
    """The loop of one server or client; its tasks live from :meth:`start` to :meth:`close`.

    Arguments:
        on_deadline: called when the timer that was set comes.
    """

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        self._on_deadline = on_deadline
        self._timer_scope = trio.CancelScope()
        self._deadline = inf
        self._dirty: list[Flushable] = []
        self._dirty_event = trio.Event()
        self.nursery: trio.Nursery
        self._started, self._ended = trio.Event(), trio.Event()
        self._spawned: dict[trio.CancelScope, trio.lowlevel.Task | None] = {}  # whose it is, once it runs
        # What is set when nothing that was spawned is left, but for whose task asked for it.
        self._resting: tuple[WaitableEvent, trio.lowlevel.Task | None] | None = None
        self.now = trio.current_time
        self.clock = trio.current_time
        self.wall_clock = time.time
        self.entropy = os.urandom
        self.make_event = trio.Event
        self.checkpoint = trio.lowlevel.checkpoint_if_cancelled

    async def start(self) -> None:
        """Have tasks run from now on, until :meth:`close` or the end of trio's run.

        They run beside the caller's tasks, not under one of its nurseries: what goes wrong in the caller is
        so not wrapped into a group, and entering and leaving are plain calls, as they are on asyncio. Each of
        them is protected against KeyboardInterrupt, which is so raised in trio's main task.
        """
        trio.lowlevel.spawn_system_task(self._run, context=contextvars.copy_context())
        with trio.CancelScope(shield=True):  # a tick; without it, close() would find nothing to close yet
            await self._started.wait()

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self._run_timer)
                self.nursery.start_soon(self._run_flushes)
                self._started.set()
        finally:
            self._ended.set()

    async def wait_for(self, event: WaitableEvent, timeout: float) -> None:
        """Wait until ``event`` is set, or for ``timeout`` seconds."""
        with trio.move_on_after(timeout):
            await event.wait()

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` where it may block; return what it returns."""
        return await trio.to_thread.run_sync(function, *arguments)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run ``coroutine`` as a task; :meth:`close` cancels it, and so does what is returned."""
        scope = trio.CancelScope()
        self._spawned[scope] = None
        self.nursery.start_soon(self._run_spawned, coroutine, scope)
        return scope.cancel

    @trio.lowlevel.enable_ki_protection
    async def _run_spawned(self, coroutine: Coroutine[Any, Any, None], scope: trio.CancelScope) -> None:
        self._spawned[scope] = trio.lowlevel.current_task()
        try:
            with scope:
                await coroutine
        except BaseExceptionGroup as group:
            # Cancelled, and tasks of its own raised on their way out. What is let out of here but a
            # cancellation would end the whole of trio's run.
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                _logger.error("a task raised while it was cancelled", exc_info=rest)
            if cancelled is not None:
                raise cancelled from None
        except SystemExit as error:
            _logger.error("a task wanted to exit, which only the main task can do", exc_info=error)
        finally:
            del self._spawned[scope]
            self._note_rest()

    def set_when_rested(self, event: WaitableEvent) -> None:
        """Set ``event`` as soon as nothing runs that was spawned, the caller aside."""
        self._resting = (event, self._task_of_the_caller())
        self._note_rest()

    def _note_rest(self) -> None:
        if self._resting is not None:
            event, caller = self._resting
            if all(task is not None and task is caller for task in self._spawned.values()):
                event.set()

    def cancel_tasks(self) -> None:
        """Cancel what was spawned until now, the caller aside."""
        caller = self._task_of_the_caller()
        for scope, task in self._spawned.items():
            if task is None or task is not caller:
                scope.cancel()

    async def close(self, timeout: float | None = None) -> int:
        """Cancel everything that still runs; return how much has not ended, unless it is the caller."""
        if not self._started.is_set():  # start() is still under way; it takes a tick
            with trio.CancelScope(shield=True):
                await self._started.wait()
        self.nursery.cancel_scope.cancel()
        if self._task_of_the_caller() is None:
            deadline = inf if timeout is None else trio.current_time() + timeout
            with trio.CancelScope(shield=True, deadline=deadline):
                await self._ended.wait()
        return 0 if self._ended.is_set() else len(self.nursery.child_tasks)

    def _task_of_the_caller(self) -> trio.lowlevel.Task | None:
        """Return which of the tasks in the nursery the caller is, or belongs to."""
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        while task is not None and task.parent_nursery is not None:
            if task.parent_nursery is self.nursery:
                return task
            task = task.parent_nursery.parent_task
        return None

    def set_timer(self, deadline: float | None) -> None:
        """Call ``on_deadline`` at ``deadline``, and not when it was to be called before."""
        self._deadline = self._timer_scope.deadline = inf if deadline is None else deadline

    @trio.lowlevel.enable_ki_protection
    async def _run_timer(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._deadline) as self._timer_scope:
                await trio.sleep_forever()
            self._deadline = inf
            self._on_deadline()

    def flush_soon(self, transport: Flushable) -> None:
        """Flush ``transport`` behind this turn of the loop."""
        self._dirty.append(transport)
        self._dirty_event.set()

    @trio.lowlevel.enable_ki_protection
    async def _run_flushes(self) -> None:
        while True:
            await self._dirty_event.wait()
            self._dirty_event = trio.Event()
            self._flush_all()

    def _flush_all(self) -> None:
        # In a call of its own: a task that waits would keep its last transport, and all that belongs to it.
        dirty, self._dirty = self._dirty, []
        for transport in dirty:
            transport.flush()


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
        stream = self._stream
        return stream.socket if isinstance(stream, trio.SocketStream) else stream.transport_stream.socket

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

"""Endpoints on asyncio: a protocol that carries one, and the loop as the pure layers see it.

Nothing here knows a wire, a message or a server: bytes and the end of the stream go in, bytes come out. What
several connections have to send in one turn of the loop leaves in one write each, at its end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, TypeVar, cast

from stelar_proto.channel import Endpoint, WaitableEvent
from stelar_proto.channel.runtime import Address, Flushable

_logger = logging.getLogger("stelar.asyncio")

T = TypeVar("T")

_spawned: ContextVar[asyncio.Task[Any] | None] = ContextVar("_spawned", default=None)
"""The task that was spawned here, or that has begun this one: whoever runs in it does not wait for it."""


class AsyncioRuntime:
    """The loop of one server or client.

    Arguments:
        on_deadline: called when the timer that was set comes.
    """

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_deadline = on_deadline
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # what was spawned
        self._own_tasks: set[asyncio.Task[None]] = set()
        self._resting: tuple[WaitableEvent, asyncio.Task[Any] | None] | None = None  # and who asked for it
        self._dirty: list[Flushable] = []
        # A loop that keeps a time of its own, in tests, is measured by that.
        self.clock = getattr(self._loop, "virtual_time", time.perf_counter)
        self.wall_clock = time.time
        self.entropy = os.urandom
        self.checkpoint = None
        self.now = self._loop.time

    async def start(self) -> None:
        """Begin to run timers and tasks; asyncio needs no preparation for it."""

    def make_event(self) -> Event:
        """Return an event that tasks can wait for."""
        return Event(self._loop)

    async def wait_for(self, event: WaitableEvent, timeout: float) -> None:
        """Wait until ``event`` is set, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            pass

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` where it may block; return what it returns.

        Who is cancelled meanwhile learns of it when it is done: nothing goes on behind the caller's back.
        """
        return await finish(asyncio.to_thread(function, *arguments))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run ``coroutine`` as a task; :meth:`close` cancels it, and so does what is returned."""
        task = self._loop.create_task(_run_coroutine(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)
        task.add_done_callback(lambda _: coroutine.close())  # if the loop ended before it began
        return partial(self._cancel, task)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel ``task`` when it has begun, as trio does: what it was handed ends in good order."""
        if getcoroutinestate(task.get_coro()) == CORO_CREATED:  # type: ignore[arg-type]  # it has a coroutine
            self._loop.call_soon(task.cancel)
        else:
            task.cancel()

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._note_rest()

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine``, which belongs to the runtime: nobody waits for it; :meth:`close` cancels it."""
        task = self._loop.create_task(coroutine)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)
        return task

    def set_when_rested(self, event: WaitableEvent) -> None:
        """Set ``event`` as soon as nothing runs that was spawned, the caller aside."""
        self._resting = (event, _spawned.get())
        self._note_rest()

    def _note_rest(self) -> None:
        if self._resting is not None:
            event, caller = self._resting
            if len(self._tasks) == (caller in self._tasks):
                event.set()

    def set_timer(self, deadline: float | None) -> None:
        """Call ``on_deadline`` at ``deadline``, and not when it was to be called before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._on_deadline)

    def flush_soon(self, transport: Flushable) -> None:
        """Flush ``transport`` at the end of this turn of the loop."""
        if not self._dirty:
            self._loop.call_soon(self._flush_all)
        self._dirty.append(transport)

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        for transport in dirty:
            transport.flush()

    def cancel_tasks(self) -> None:
        """Cancel what was spawned until now, the caller aside."""
        for task in _but_current(self._tasks):
            self._cancel(task)

    async def close(self, timeout: float | None = None) -> int:
        """Stop the timer and cancel what was spawned, the caller aside; return how much has not ended."""
        self.set_timer(None)
        # What ends behind it may have been spawned meanwhile; and some who are cancelled go on, once.
        for _ in range(2):
            for task in _but_current(self._tasks | self._own_tasks):
                self._cancel(task)
            await self._wait_for_tasks(None if timeout is None else timeout / 2)
        return sum(not task.done() for task in _but_current(self._tasks | self._own_tasks))

    async def _wait_for_tasks(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                while tasks := _but_current(self._tasks | self._own_tasks):
                    await asyncio.wait(tasks)
        except TimeoutError:
            pass


def _but_current(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    # Also those whose callbacks have yet to be called, with which they are really over.
    current = asyncio.current_task(), _spawned.get()
    return {task for task in tasks if task not in current}


async def _run_coroutine(coroutine: Coroutine[Any, Any, None]) -> None:
    _spawned.set(asyncio.current_task())
    try:
        await coroutine
    except SystemExit as error:  # would end the whole of the loop's run, which it does not on trio
        _logger.error("a task wanted to exit, which only the main task can do", exc_info=error)


async def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end, whatever cancels the caller meanwhile, who learns of it then.

    For goodbyes that are bounded by themselves, and for threads. It is what a shielded scope is to trio: some
    cancel once, others whatever waits in their scope, again and again.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


_MANY = 16


class Event:
    """What ``asyncio.Event`` is, for what happens once and mostly has one who waits: a third of its cost."""

    __slots__ = ("_is_set", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """It happens: whoever waits goes on."""
        self._is_set = True
        for future in self._waiting:
            if not future.done():  # cancelled, that is
                future.set_result(None)
        self._waiting.clear()

    def wait(self) -> asyncio.Future[None]:
        """Return what to await until it has happened."""
        future = self._loop.create_future()
        if self._is_set:
            future.set_result(None)
        else:
            if len(self._waiting) >= _MANY:  # those who were cancelled are still among them
                self._waiting = [waiting for waiting in self._waiting if not waiting.done()]
            self._waiting.append(future)
        return future


class EndpointProtocol(asyncio.Protocol):
    """Carries one endpoint over an asyncio transport.

    Arguments:
        runtime: the loop.
        attach: given this protocol, returns the endpoint, once there is a connection; None cuts it.
        close_timeout: seconds that closing the transport may take.
    """

    __slots__ = (
        "_abort_handle",
        "_attach",
        "_close_timeout",
        "_descriptor",
        "_endpoint",
        "_eof_sent",
        "_flush_is_due",
        "_is_attached",
        "_runtime",
        "_transport",
        "_writing_paused",
        "opened_at",
    )

    def __init__(
        self,
        runtime: AsyncioRuntime,
        attach: Callable[[EndpointProtocol], Endpoint | None],
        *,
        close_timeout: float,
    ) -> None:
        self._runtime = runtime
        self._attach = attach
        self._close_timeout = close_timeout
        self._endpoint: Endpoint
        self._transport: asyncio.Transport
        self._descriptor: int | None = None
        self._writing_paused = False
        self._flush_is_due = False  # at the end of this turn, or of this call
        self._eof_sent = False
        self._is_attached = False
        self._abort_handle: asyncio.TimerHandle | None = None
        self.opened_at = runtime.now()

    @property
    def local_address(self) -> Address | None:
        """Our IP address and port."""
        return self._address("sockname")

    @property
    def remote_address(self) -> Address | None:
        """The peer's IP address and port."""
        return self._address("peername")

    def _address(self, which: str) -> Address | None:
        address = self._transport.get_extra_info(which)
        return address[:2] if isinstance(address, tuple) else None

    # --- For asyncio ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._flush_is_due = True
        endpoint = self._attach(self)
        if endpoint is None:
            transport.abort()  # type: ignore[attr-defined]  # it is an asyncio.Transport
            return
        # What waits for the peer waits in the outbox. A plain socket is written without a detour, and the
        # transport gets what it does not take; TLS would stop for ever at a limit of 0.
        is_plain = transport.get_extra_info("sslcontext") is None
        self._transport.set_write_buffer_limits(high=0 if is_plain else 1)
        if is_plain and os.name == "posix":
            self._descriptor = transport.get_extra_info("socket").fileno()
        self._endpoint = endpoint
        self._is_attached = True
        self.flush()

    def data_received(self, data: bytes) -> None:
        # What this asks for leaves when all others have been read: a peer that is written to at once wakes up
        # at once, and takes the processor from those whose turn it is.
        if self._endpoint.receive_data(data):
            self.flush_soon()

    def eof_received(self) -> bool:
        self._flush_is_due = True
        self._endpoint.receive_data(b"")
        self.flush()
        # Keep the other direction open for what is still to be said; TLS has no half-open connections.
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flush_is_due = True  # there is nothing left to flush into
        self._descriptor = None
        if self._abort_handle is not None:
            self._abort_handle.cancel()
        if self._is_attached:
            self._is_attached = False
            self._endpoint.connection_lost()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._endpoint.note_unsent(0)
        self.flush()

    # --- For the endpoint -----------------------------------------------------------------------------------

    @property
    def unsent_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._runtime.flush_soon(self)

    def write(self, data: bytes) -> bool:
        descriptor = self._descriptor
        if descriptor is None or self._writing_paused:
            return False
        try:
            size = os.write(descriptor, data)
        except OSError as error:
            self._write_failed(error)
            size = 0
        if size < len(data):
            self._hand_over(data[size:])
        return True

    def _write_failed(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):  # the transport will find out, and knows what to do
            self._descriptor = None

    def _hand_over(self, data: bytes) -> None:
        self._transport.write(data)
        if self._writing_paused:
            self._endpoint.note_unsent(self.unsent_size)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def flush(self) -> None:
        """Hand to the transport what it takes, and close it when the endpoint has come to its end."""
        self._flush_is_due = False
        endpoint, transport = self._endpoint, self._transport
        if endpoint.is_ending and endpoint.is_aborted:
            self._abort()
            return
        if transport.is_closing():
            return
        while not self._writing_paused and (data := endpoint.data_to_send()):
            if not self.write(data):
                self._hand_over(data)
        if endpoint.is_ending:
            self._end_if_due()

    def _end_if_due(self) -> None:
        endpoint, transport = self._endpoint, self._transport
        if endpoint.is_finished:
            self._close()
        elif endpoint.wants_eof and not self._eof_sent:
            self._eof_sent = True
            if not transport.can_write_eof():
                self._close()
                return
            try:
                transport.write_eof()
            except OSError:  # the peer has reset the connection, and asyncio has yet to hear of it
                self._abort()

    def _abort(self) -> None:
        self._descriptor = None
        self._transport.abort()

    def _close(self) -> None:
        self._descriptor = None
        # close() waits for a peer that does not read, for ever if need be; abort() does not.
        self._transport.close()
        loop = asyncio.get_running_loop()
        self._abort_handle = loop.call_later(self._close_timeout, self._transport.abort)

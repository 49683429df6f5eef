"""What the pure layers need of the world, as interfaces: a clock, chance, tasks, events, a transport.

``stelar_runtime_asyncio`` and ``stelar_runtime_trio`` implement them; so may a test, with a clock of its own.
No call of these calls back before it returns: what it causes comes in a later turn of the loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Address: TypeAlias = tuple[str, int]
"""Of one end of a connection: IP address and port."""


class WaitableEvent(Protocol):
    """What ``asyncio.Event`` and ``trio.Event`` have in common."""

    def set(self) -> None: ...

    def wait(self) -> Awaitable[object]: ...


class Flushable(Protocol):
    """What a loop can be asked to flush."""

    def flush(self) -> None:
        """Take what is to be sent."""
        ...


class Runtime(Protocol):
    """An event loop, as far as a server or a client knows it."""

    @property
    def checkpoint(self) -> Callable[[], Awaitable[object]] | None:
        """Awaited where nothing has been done yet, for a cancellation that is due; None where whoever waits
        is told of it anyway."""
        ...

    def now(self) -> float:
        """Return the loop's clock, seconds; it never goes back."""
        ...

    def clock(self) -> float:
        """Return the finest clock there is, seconds, to measure with; deadlines are the loop's."""
        ...

    def wall_clock(self) -> float:
        """Return the time of day, seconds since 1970."""
        ...

    def entropy(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        ...

    def make_event(self) -> WaitableEvent:
        """Return an event that a task can wait for."""
        ...

    async def start(self) -> None:
        """Begin to run timers and tasks, in the event loop of the caller."""
        ...

    def set_when_rested(self, event: WaitableEvent) -> None:
        """Set ``event`` as soon as nothing runs that was spawned, but for the caller."""
        ...

    def cancel_tasks(self) -> None:
        """Cancel what was spawned until now, but for the caller."""
        ...

    async def close(self, timeout: float | None = None) -> int:
        """Cancel every task but the caller, if need be twice; return how many have not ended by then.

        Arguments:
            timeout: seconds to wait for them; None for as long as it takes.
        """
        ...

    async def wait_for(self, event: WaitableEvent, timeout: float) -> None:
        """Wait until ``event`` is set, or for ``timeout`` seconds."""
        ...

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` where it may block; return what it returns."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run ``coroutine`` as a task that ends no later than the server or client it belongs to.

        Return what cancels it.
        """
        ...

    def set_timer(self, deadline: float | None) -> None:
        """Have ``handle_deadlines()`` called at ``deadline``, instead of when it was to be called before."""
        ...

    def flush_soon(self, transport: Flushable) -> None:
        """Have ``transport.flush()`` called behind this turn of the loop, after those that asked before."""
        ...


class Transport(Protocol):
    """A stream of bytes that carries one endpoint."""

    opened_at: float
    """When the connection came in, or was begun: TLS is behind that."""

    @property
    def local_address(self) -> Address | None:
        """Our end; None where the system does not tell."""
        ...

    @property
    def remote_address(self) -> Address | None:
        """The peer's end; None where the system does not tell, as when the connection is gone."""
        ...

    @property
    def unsent_size(self) -> int:
        """How many bytes that were taken or written still wait to be taken by the system."""
        ...

    def flush_soon(self) -> None:
        """There is something to send, or to end; take it before the loop waits again."""
        ...

    def write(self, data: bytes) -> bool:
        """Send ``data`` now, past an endpoint that has nothing to send; False if it has to wait its turn.

        Of what the system does not take, the endpoint is told: :meth:`Endpoint.note_unsent`.
        """
        ...

    def pause_reading(self) -> None:
        """Stop receiving; the peer will notice when its own buffers are full."""
        ...

    def resume_reading(self) -> None:
        """Receive again."""
        ...

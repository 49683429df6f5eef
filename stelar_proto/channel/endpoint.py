"""What a transport drives: one channel, and whoever gets its events.

A runtime's transport feeds bytes in, takes bytes out and asks how the connection stands; it needs no more
than this class has. Those above decide who gets the events, and when reading pauses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from logging import Logger
from typing import Any

from .channel import Channel
from .events import Closed
from .handlers import FAULTS
from .runtime import Runtime, Transport, WaitableEvent
from .state import State

_OPEN = State.OPEN


class Endpoint(ABC):
    """One connection as its transport drives it.

    Arguments:
        session: the protocol.
        runtime: the loop.
        logger: where faults of the library are reported.
    """

    __slots__ = ("_drained", "_logger", "_runtime", "end", "paused", "session", "transport")

    session: Channel

    def __init__(self, session: Channel, runtime: Runtime, logger: Logger) -> None:
        self.session = session
        self.transport: Transport | None = None
        self.paused = False
        self.end: Closed | None = None
        """How the session ended."""
        self._runtime = runtime
        self._logger = logger
        self._drained: WaitableEvent | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.session!r}>"

    # --- For the transport ------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> bool:
        """Take the next bytes of the stream, ``b""`` at its end; return whether a flush may be needed."""
        session = self.session
        try:
            events = session.receive_data(data, self._runtime.now())
            if events:
                self._take(events)
        except FAULTS:
            self._break_off()
        return session.outbox.size > 0 or session.state is not _OPEN

    def connection_lost(self) -> None:
        """The stream is gone. The transport's last call, exactly once, whatever came before."""
        self.transport = None
        try:
            self._take(self.session.connection_lost(self._runtime.now()))
        except FAULTS:
            self._break_off()

    def handle_deadline(self, now: float) -> None:
        """Do what is due."""
        try:
            events = self.session.handle_deadline(now, unsent_size=self.unsent_size)
            if events:
                self._take(events)
        except FAULTS:
            self._break_off()
        self.flush_soon()

    @property
    def unsent_size(self) -> int:
        """How many bytes of what was taken still wait for the peer."""
        return 0 if self.transport is None else self.transport.unsent_size

    def postpone(self, seconds: float, now: float) -> None:
        """Move every deadline by the ``seconds`` for which the loop stood still."""
        self.session.postpone(seconds, now)

    def _break_off(self) -> None:
        """A fault of the library: it is reported, and costs this connection only, whatever the loop."""
        self._logger.exception("a connection is cut: a fault of the library", extra=self._log_fields())
        self.session.abort(Closed(1006, "", None))
        self.flush_soon()

    def _log_fields(self, event: str | None = None, error: BaseException | None = None) -> dict[str, Any]:
        """Return the fields of a record about this connection, ``event`` and ``error``."""
        return {}

    def next_deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called."""
        return self.session.next_deadline()

    def data_to_send(self) -> bytes:
        """Return the next bytes to send."""
        session = self.session
        outbox = session.outbox
        if session.state is not _OPEN:
            data = session.data_to_send()
        elif outbox.size:
            data = outbox.take()
        else:
            return b""
        if self._drained is not None and not outbox.congested:
            self._wake_drained()
        return data

    def note_unsent(self, size: int) -> None:
        """Be told that ``size`` bytes of what was taken wait for the system, or that they do no longer: 0."""
        outbox = self.session.outbox
        outbox.note_unsent(size)
        if not outbox.congested:
            self._wake_drained()

    @property
    def is_ending(self) -> bool:
        """Whether any of what follows may be true."""
        return self.session.state is not _OPEN

    @property
    def wants_eof(self) -> bool:
        """Whether our side of the stream should be ended."""
        return self.session.wants_eof

    @property
    def is_finished(self) -> bool:
        """Whether the socket can be closed."""
        return self.session.is_finished

    @property
    def is_aborted(self) -> bool:
        """Whether the socket is to be cut."""
        return self.session.is_aborted

    # --- For the application ----------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Tell the transport that there is something to send."""
        if self.transport is not None:
            self.transport.flush_soon()

    async def drain(self) -> None:
        """Wait until the outbox is below its low-water mark, or the connection has ended."""
        session = self.session
        # An end that is held back is still waited in front of: what is sent meanwhile would know no bound.
        while session.outbox.congested and (session.can_send or session.state is not State.CLOSED):
            if self._drained is None:
                self._drained = self._runtime.make_event()
            await self._drained.wait()

    def _wake_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def abort(self, end: Closed) -> None:
        """Cut the connection; what was not sent is lost."""
        self.session.abort(end)
        self.flush_soon()

    def close(self, code: int, reason: str) -> None:
        """End the conversation behind everything that was sent; does nothing when it has ended already.

        Raises:
            MessageError: the close code must not be sent.
        """
        self.session.close(code, reason, self._runtime.now())
        self.flush_soon()

    # --- For those above --------------------------------------------------------------------------------

    @abstractmethod
    def _take(self, events: Sequence[Any]) -> None:
        """Take what happened, possibly nothing."""

    @abstractmethod
    def _on_closed(self, event: Closed) -> None:
        """The session ended: leave every registry."""

    def _leave(self, end: Closed) -> None:
        """The session has ended, and what came in front of its end is being handled: nothing more is sent."""
        if self.end is None:
            self.end = end
            self.session.seal()
            self._wake_drained()
            self._on_closed(end)

    def _pause(self, paused: bool) -> None:
        self.paused = paused
        self.session.pause(paused, self._runtime.now())
        if self.transport is not None:
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

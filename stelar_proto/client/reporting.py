"""What a client tells those who use it besides events: its hooks, its errors and its counters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import isfinite
from typing import Any

from stelar_proto.channel.handlers import is_awaitable
from stelar_proto.errors import MessageDropped
from stelar_proto.messages import AckRequest, Binary, Event, Join, Leave, Message

from .lifecycle import ClientLifecycle
from .link import Link
from .queue import Queued


class ClientReporting(ClientLifecycle):
    """Hooks and numbers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unmatched_answers = 0
        self._handlers_cancelled = 0
        self._last_error: Exception | None = None
        self._sent = self._received = self._lost = 0  # over connections that are gone
        self._sent_from_queue = 0  # since it was empty
        self._is_dropping = False

    # --- Hooks ----------------------------------------------------------------------------------------------

    def call_hook(self, name: str, **fields: Any) -> None:
        hook = self.config.hooks.get(name)
        if hook is None:
            return
        try:
            result = hook(**fields)
        except Exception as error:
            self.hook_raised(name, error)
        else:
            if is_awaitable(result):
                self.run_later(result)

    def run_later(self, awaitable: Awaitable[object]) -> None:
        """Await what a hook returned, beside everything else; without a loop, when there is one."""
        if self.is_running:
            self.runtime.spawn(self.finish_hook(awaitable))
        else:
            self._later.append(awaitable)

    async def finish_hook(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Exception as error:
            self.hook_raised(getattr(awaitable, "__qualname__", repr(awaitable)), error)

    def hook_raised(self, name: str, error: Exception) -> None:
        """Report what a hook raised."""
        self.logger.error("hook %s raised", name, exc_info=error)

    async def ask_for_delay(self, function: Callable[[], Any], delay: float) -> float:
        try:
            chosen = function()
            if is_awaitable(chosen):
                chosen = await chosen
            if chosen is None:
                return delay
            if not (isfinite(chosen) and chosen >= 0):
                raise ValueError(f"a delay is a number of seconds, 0 or more, not {chosen!r}")
            return float(chosen)
        except Exception as error:
            self.logger.error("the choice of a delay failed, so it is %.3g s", delay, exc_info=error)
            return delay

    def note_error(self, error: Exception) -> None:
        self._last_error = error
        self.call_hook("on_error", error=error)

    # --- The queue ------------------------------------------------------------------------------------------

    def trim_queue(self) -> None:
        self.queue.discard(Join, Leave)  # rooms are joined again by themselves
        self._sent_from_queue = 0
        for item in self.queue.trim():
            self._report_dropped(item.message, f"more than {self.queue.limit} waited for a connection")

    def give_up(self, item: Queued, error: Exception) -> None:
        """A message that waited cannot be sent after all."""
        self.queue.dropped += 1
        self._report_dropped(item.message, str(error))

    def sent_from_queue(self) -> None:
        """A message that waited is written; when it was the last, that is told."""
        self._sent_from_queue += 1

    def queue_is_empty(self) -> None:
        """Nothing waits any more."""
        self._is_dropping = False
        count, self._sent_from_queue = self._sent_from_queue, 0
        if count:
            self.call_hook("on_queue_drained", count=count)

    def _report_dropped(self, message: Message, reason: str) -> None:
        error = MessageDropped(reason, event=name_of(message))
        if not self._is_dropping:  # once is enough, until it is over
            self._is_dropping = True
            self.logger.warning("%s", error)
        self.call_hook("on_error", error=error)

    # --- Counters -------------------------------------------------------------------------------------------

    def account_for(self, link: Link) -> None:
        self._sent += link.session.messages_sent
        self._received += link.session.messages_received
        lost = link.session.messages_dropped
        if lost:
            self._lost += lost
            error = MessageDropped("the connection ended before they left", count=lost)
            self.logger.warning("%s", error)
            self.call_hook("on_error", error=error)

    def get_messages_sent(self) -> int:
        """Return how many messages were sent over all connections, heartbeats aside."""
        return self._sent + (0 if self._link is None else self._link.session.messages_sent)

    def get_messages_received(self) -> int:
        """Return how many messages came over all connections, heartbeats aside."""
        return self._received + (0 if self._link is None else self._link.session.messages_received)

    def get_messages_dropped(self) -> int:
        """Return how many messages were accepted and never left: too many waited, or the connection ended."""
        return self.queue.dropped + self._lost

    def get_unmatched_answers(self) -> int:
        """Return how many answers came that nobody waited for, most of them late."""
        return self.unmatched_answers

    def handler_hangs(self) -> None:
        """A handler of a connection that has ended held up the next one's, and is cancelled."""
        self._handlers_cancelled += 1
        words = "a handler of a connection that has ended is cancelled: it held up all events for %g s"
        self.logger.warning(words, self.config.handler_timeout)

    def get_handlers_cancelled(self) -> int:
        """Return how many handlers ran on behind their connection's end until ``handler_timeout``."""
        return self._handlers_cancelled

    def get_queue_size(self) -> int:
        """Return how many messages wait for a connection."""
        return len(self.queue)

    def get_last_error(self) -> Exception | None:
        """Return the last thing that went wrong with a connection."""
        return self._last_error

    def get_connect_time(self) -> float | None:
        """Return when the last connection was opened, seconds since 1970; None before the first."""
        return self._connected_at


def name_of(message: Message) -> str:
    """Return the event that a client's message is about."""
    match message:
        case Event(name) | Binary(name):
            return name
        case AckRequest(_, event):
            return event
        case _:
            return type(message).__name__.lower()

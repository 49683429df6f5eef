"""How a client comes to a connection, keeps having one, and ends: the order of things, on every event loop.

Theory of operation::

    disconnected ──connect()──▶ connecting ──▶ connected ──it ended──▶ reconnecting ──▶ connected
         ▲                          │              │                    │     ▲ │
         └── it failed; disconnect(), at any time ─┴────────────────────┘     └─┘ another attempt

A *campaign* is a task that makes attempts until one is a connection or there is no sense in more. There is at
most one at a time, and none while there is a connection. Each attempt is a :class:`~.link.Link`; the next is
made when the socket of the last is gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakSet

from stelar_proto.channel import Closed, Deadlines, Runtime, State, WaitableEvent
from stelar_proto.channel.logs import choose_logger
from stelar_proto.errors import ConnectError, StateError, printable

from .backoff import Backoff, exponential_delay, is_hopeless, restart_delay, retry_after
from .campaign import Campaign
from .config import ClientConfig
from .handlers import HandlerRegistry
from .incoming import MessageStream
from .link import Link
from .queue import OfflineQueue
from .target import Target

ClientState = Literal["disconnected", "connecting", "connected", "reconnecting"]


class ClientLifecycle(HandlerRegistry, ABC):
    """What a client does besides talking.

    Arguments:
        config: its options.
        target: where it connects to.
    """

    def __init__(self, config: ClientConfig, target: Target) -> None:
        super().__init__()
        self.config = config
        self.target = target
        self.logger = choose_logger(config.logger, "stelar.client")
        self.queue = OfflineQueue(config.message_queue_size)
        self.is_running = False
        """Whether the loop runs, so that tasks can."""
        self._state: ClientState = "disconnected"
        self._runtime: Runtime | None = None
        self._campaign: Campaign | None = None
        self._backoff = Backoff()
        self._deadlines = Deadlines(lambda _: None)
        self._link: Link | None = None  # the one whose socket is not gone
        self._last_link: Link | None = None
        self._over: WaitableEvent | None = None
        self._later: list[Awaitable[object]] = []  # what hooks return while there is no loop to await it
        self._rooms: dict[str, None] = {}  # those asked for, in order
        self._connected_at: float | None = None
        self.streams: WeakSet[MessageStream] = WeakSet()
        """Who iterates over messages."""
        self.has_streams = False
        """Whether there may be such; quicker to ask."""

    # --- A runtime's and the application's part -----------------------------------------------------------

    @abstractmethod
    def _make_runtime(self) -> Runtime:
        """Return a loop that will call :meth:`handle_deadlines`: a runtime's part."""

    @abstractmethod
    async def _dial(self, link: Link) -> None:
        """Open the stream and have it drive ``link``: a runtime's part. Raises OSError with helpful text."""

    @abstractmethod
    async def _attempt(self, campaign: Campaign, runtime: Runtime) -> None:
        """Connect, once; what is raised says why there is no connection."""

    @abstractmethod
    def note_error(self, error: Exception) -> None:
        """Remember ``error``, and tell the hook."""

    @abstractmethod
    def call_hook(self, name: str, **fields: Any) -> None:
        """Call a hook that is only told."""

    @abstractmethod
    async def ask_for_delay(self, function: Callable[[], Any], delay: float) -> float:
        """Return what ``function`` of the application's says, or ``delay`` where it says nothing of use."""

    @abstractmethod
    async def finish_hook(self, awaitable: Awaitable[object]) -> None:
        """Await what a hook returned; what it raises is logged."""

    @abstractmethod
    def trim_queue(self) -> None:
        """Give up messages that are too many, or of no use without the connection that is gone."""

    @abstractmethod
    def account_for(self, link: Link) -> None:
        """Add up what went over a connection that is gone."""

    # --- States -------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The event loop that the client runs in.

        Raises:
            StateError: there is no connection, and none is being made.
        """
        if self._runtime is None:
            raise StateError(f"there is no connection to {self.target.url}: await connect() first")
        return self._runtime

    def get_state(self) -> ClientState:
        """Return where the client stands: ``disconnected``, ``connecting``, ``connected`` or
        ``reconnecting``."""
        return self._state

    def is_connected(self) -> bool:
        """Tell whether there is a connection, over which messages can be sent."""
        return self._state == "connected" and self._link is not None and self._link.is_usable

    def _enter(self, state: ClientState) -> None:
        if state != self._state:
            previous, self._state = self._state, state
            if state == "disconnected":
                for stream in tuple(self.streams):
                    stream.close()
            self.call_hook("on_state_change", state=state, previous=previous)
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._over is not None and self._state == "disconnected" and self._link is None:
            self._over.set()
            self._over = None

    def _demand_idle(self) -> None:
        link = self._link
        if self._state in ("connecting", "reconnecting"):
            raise StateError(f"the client is {self._state} to {self.target.url} already: disconnect() first")
        if self._state != "disconnected" or (link is not None and link.session.state is not State.CLOSED):
            raise StateError(f"there is a connection to {self.target.url} already: disconnect() first")

    # --- Connecting ---------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect; return when messages can be sent.

        One attempt, or with ``retry_first_connect`` as many as after a connection that ended.

        Raises:
            ConnectError: it was refused, or took longer than ``connect_timeout``; ``__cause__`` says more.
            StateError: there is a connection already, or one is being made.
        """
        self._demand_idle()
        is_new = self._runtime is None
        runtime = self._runtime = self._runtime or self._make_runtime()
        campaign = self._campaign = Campaign(runtime, is_first=True)
        self._backoff.reset()
        self._enter("connecting")
        try:
            try:
                if is_new:
                    await runtime.start()
            finally:
                campaign.started.set()
            if self._campaign is campaign:
                self._begin_running(runtime)
                runtime.spawn(self._run(campaign, runtime))
            await campaign.settled.wait()
        except BaseException:
            if self._runtime is runtime:  # nobody else ends it
                link, last_link = self._detach()
                await self._close(runtime, link, last_link)
            raise
        if campaign.error is not None:
            if not campaign.is_called_off:
                await self._close(runtime, None, self._last_link)
            raise campaign.error

    def _begin_running(self, runtime: Runtime) -> None:
        self.is_running = True
        later, self._later = self._later, []
        for awaitable in later:
            runtime.spawn(self.finish_hook(awaitable))

    async def _run(self, campaign: Campaign, runtime: Runtime, end: Closed | None = None) -> None:
        """Make attempts, the first at once unless a connection ended; nothing is raised."""
        error: Exception | None = None
        while end is None and self._link is not None and self._campaign is campaign:
            await self._link.lost.wait()  # it has ended, its socket not quite
        is_due = end is None or await self._may_try_again(campaign, runtime, end, error)
        while is_due and self._campaign is campaign:
            try:
                await self._attempt(campaign, runtime)
                return
            except Exception as failure:  # a fault of the library's among them: it must not end in a task
                error = failure
            if self._campaign is not campaign:
                return
            self.note_error(error)
            if not campaign.is_first:
                self.tell("error", error)
            if not isinstance(error, ConnectError):
                self.logger.debug("connecting to %s failed", self.target.url, exc_info=error)
                break
            is_due = await self._may_try_again(campaign, runtime, None, error)
        if self._campaign is campaign:
            self._campaign = None
            if not campaign.is_first or self._backoff.attempt:
                self.tell("reconnect_failed")
            if campaign.is_first:
                self._runtime, self.is_running = None, False  # whoever waits for it closes it
            self._enter("disconnected")
            campaign.finish(error)

    async def _may_try_again(
        self, campaign: Campaign, runtime: Runtime, end: Closed | None, error: Exception | None
    ) -> bool:
        """Wait until it is time for the next attempt; False if there is no sense in one."""
        config, cause = self.config, error.__cause__ if error is not None else None
        if (
            self._campaign is not campaign  # called off before this task had a turn
            or not config.reconnection
            or (campaign.is_first and not config.retry_first_connect)
            or (is_hopeless(cause) and not config.retry_refused)
            or not self._backoff.begin(config.reconnection_attempts)
        ):
            return False
        since = runtime.now()
        if campaign.is_first:
            self.tell("error", error)
        self._enter("reconnecting")
        self.tell("reconnecting", self._backoff.attempt)
        delay = await self._delay(runtime, end, cause)
        while self._link is not None and self._campaign is campaign:
            await self._link.lost.wait()  # never two at once
        return await self._wait_until(campaign, runtime, since + delay)

    async def _wait_until(self, campaign: Campaign, runtime: Runtime, instant: float) -> bool:
        while self._campaign is campaign and self.config.reconnection:
            left = instant - runtime.now()
            if left <= 0:
                return True
            await runtime.wait_for(campaign.wake, left)
            campaign.wake = runtime.make_event()
        return False

    async def _delay(self, runtime: Runtime, end: Closed | None, cause: BaseException | None) -> float:
        """Return the seconds until the next attempt may begin."""
        config, attempt = self.config, self._backoff.attempt
        bounds = config.reconnection_delay, config.max_reconnection_delay
        chance = int.from_bytes(runtime.entropy(4)) / 2**32
        delay = exponential_delay(attempt, *bounds, chance)
        custom = config.custom_reconnect_delay
        if custom is not None:
            delay = await self.ask_for_delay(partial(custom, attempt, *bounds), delay)
        hint = (
            retry_after(cause, runtime.wall_clock())
            if end is None
            else restart_delay(end.code, bounds[1], chance)
        )
        delay = max(delay, hint or 0.0)
        hook = config.hooks.get("on_reconnect_delay")
        if hook is not None:
            delay = await self.ask_for_delay(partial(hook, attempt=attempt, delay=delay), delay)
        return delay

    def tell(self, event: str, *arguments: Any) -> None:
        """Have the handlers of an event of the client's own called, in their turn."""
        assert self._last_link is not None
        self._last_link.tell(event, *arguments)

    # --- The connection -----------------------------------------------------------------------------------

    def opened(self, link: Link) -> None:
        """The server took us in."""
        campaign, self._campaign = self._campaign, None
        assert campaign is not None
        runtime = link.runtime
        self._backoff.opened(runtime.now())
        self._connected_at = runtime.wall_clock()
        link.rejoin(tuple(self._rooms))
        self._enter("connected")
        campaign.finish()

    def ended(self, link: Link, end: Closed) -> None:
        """The session of a link ended."""
        if not link.was_open:
            return  # the campaign hears of it
        why = end.error or f"{end.code} {printable(end.reason)}".rstrip()
        self.logger.info("connection to %s ended: %s", self.target.url, why)
        if end.error is not None:
            self.note_error(end.error)
        self.trim_queue()
        if self._state != "connected":  # disconnect() ended it
            return
        runtime = link.runtime
        self._backoff.ended(runtime.now())
        if self.config.reconnection:
            self._campaign = Campaign(runtime, is_first=False)
            self._campaign.started.set()
            self._enter("reconnecting")
            runtime.spawn(self._run(self._campaign, runtime, end))
        else:
            self._enter("disconnected")

    def forget(self, link: Link) -> None:
        """The connection of ``link`` is gone for good."""
        if self._link is link:
            self._link = None
            self.account_for(link)
            self._deadlines.remove(link)
            link.runtime.set_timer(None)
            self._look_whether_over()

    def handle_deadlines(self) -> None:
        """The timer that :meth:`Runtime.set_timer` was asked for has come."""
        if self._link is not None:
            self._deadlines.run(self._link.runtime.now())

    # --- The end --------------------------------------------------------------------------------------------

    async def disconnect(self) -> None:
        """End the connection, behind what was sent, or the attempts to get one. There will be no more.

        Handlers that still run are cancelled. Returns when all is gone; does nothing without a connection.
        """
        runtime, campaign = self._runtime, self._campaign
        was_connected = self._state == "connected"
        link, last_link = self._detach()
        if link is not None and not link.was_open:
            link.abort(Closed(1000, "disconnect() was called", None))
        try:
            if campaign is not None:
                words = f"cannot connect to {self.target.url}: disconnect() was called"
                campaign.finish(ConnectError(words), is_called_off=True)
                await campaign.started.wait()
            if link is not None and link.was_open:
                link.close(1000, "")
                await link.lost.wait()
                if was_connected and link.goodbye is not None:  # else the caller may be the one who says it
                    await link.runtime.wait_for(link.goodbye, self.config.close_timeout)
        finally:
            await self._close(runtime, link, last_link)

    def _detach(self) -> tuple[Link | None, Link | None]:
        """Be disconnected; return the links that are still to be ended. The loop is the caller's to close."""
        links = self._link, self._last_link
        self._runtime = self._campaign = None
        self.is_running = False
        self._enter("disconnected")
        return links

    async def _close(self, runtime: Runtime | None, link: Link | None, last_link: Link | None) -> None:
        """Cancel everything that runs; say what could not be said before."""
        if link is not None and self._link is link:
            link.abort(Closed(1000, "disconnect() was called", None))
        if runtime is not None:
            await runtime.close()
        if link is not None and self._link is link:
            await link.lost.wait()
        if runtime is not None and last_link is not None:
            await last_link.say(last_link.last_words())
        later, self._later = self._later, []
        for awaitable in later:
            await self.finish_hook(awaitable)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def wait_closed(self) -> None:
        """Wait until there is no connection and none is being made, for whatever reason."""
        while self._state != "disconnected":
            if self._over is None:
                self._over = self.runtime.make_event()
            await self._over.wait()
        if self._link is not None:
            await self._link.lost.wait()

"""What a user of the terminal is told about the connection: its end, the attempts, and what waits meanwhile.

Responsible for the words' occasions: it hears the client's hooks and events. Not responsible for the chat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from stelar_proto.errors import ConnectError, MessageDropped, RemoteError


class WatchedClient(Protocol):
    """What is asked of a client here; the ``StelarClient`` of either runtime has it."""

    def on(self, event: str, handler: Callable[..., Any], /) -> object: ...
    def on_ack(self, name: str, handler: Callable[[Any], Any], /) -> object: ...
    def emit(self, event: str, data: Any = None, *, ack: str | None = None) -> object: ...
    def get_queue_size(self) -> int: ...
    def get_state(self) -> str: ...
    def get_id(self) -> str | None: ...
    def get_url(self) -> str: ...
    def get_messages_sent(self) -> int: ...
    def get_messages_received(self) -> int: ...
    def get_messages_dropped(self) -> int: ...


class _Waiting(NamedTuple):
    """What was sent without a connection; an event of the user's own has no text, and gets no answer."""

    text: str | None
    since: float


class ConnectionWatch:
    """Tells how the connection stands.

    Arguments:
        show: shows a record, given as its type and its fields.
        fail: shows that something the user asked for failed: a code and words.
        now: seconds, from a clock that only goes forward.
    """

    def __init__(
        self, show: Callable[..., None], fail: Callable[[str, str], None], now: Callable[[], float]
    ) -> None:
        self._show = show
        self._fail = fail
        self._now = now
        self._client: WatchedClient | None = None  # once there was a connection, and until the user leaves
        self._on_end: Callable[[], object] = lambda: None
        self._waiting: deque[_Waiting] = (
            deque()
        )  # the client's queue, behind what it sent and nobody answered
        self._ended_at: float | None = None
        self._attempts = 0
        self._why = ""
        self.is_lost = False
        """Whether the connection has ended and no other will follow."""

    @property
    def hooks(self) -> Mapping[str, Callable[..., Any]]:
        """The client's hooks that this needs."""
        return {
            "on_state_change": self._state_changed,
            "on_reconnect_delay": self._will_try_again,
            "on_error": self._went_wrong,
            "on_queue_drained": self._queue_drained,
        }

    def begin(self, client: WatchedClient, *, on_end: Callable[[], object]) -> None:
        """There is a connection. ``on_end`` is called when there will be none any more."""
        self._client, self._on_end = client, on_end
        self._attempts = 0
        client.on("disconnect", self._disconnected)
        client.on("reconnect_failed", self._gave_up)
        client.on_ack("say", self._was_said)
        client.on("error", self._was_refused)

    def leave(self) -> int:
        """Whatever happens from here on, the user has left. Returns how many messages still waited."""
        client, self._client = self._client, None
        return 0 if client is None else client.get_queue_size()

    # --- What waits -----------------------------------------------------------------------------------------

    def send_later(self, event: str, data: Any, *, text: str | None = None) -> None:
        """Have an event sent when there is a connection; ``text`` are words that the server will confirm."""
        assert self._client is not None
        self._client.emit(event, data, ack=None if text is None else event)
        self._waiting.append(_Waiting(text, self._now()))
        self._show("queued", event=event, text=text, waiting=self._client.get_queue_size())

    def _queue_drained(self, count: int) -> None:
        self._waiting = deque(each for each in self._waiting if each.text is not None)
        self._show("drained", count=count)

    def _was_said(self, answer: Any) -> None:
        said = self._next_words()
        if said is not None:
            seq = answer.get("seq") if isinstance(answer, dict) else None
            ms = round((self._now() - said.since) * 1000, 3)
            self._show("sent", text=said.text, seq=seq, ms=ms, queued=True)

    def _was_refused(self, error: Exception) -> None:
        if isinstance(error, RemoteError) and self._next_words() is not None:
            self._fail(error.code, error.message)

    def _next_words(self) -> _Waiting | None:
        """Answers come in the order of what was said; what was sent before it has gone as well."""
        while self._waiting:
            first = self._waiting.popleft()
            if first.text is not None:
                return first
        return None

    # --- What becomes of the connection ---------------------------------------------------------------------

    def show_status(self) -> None:
        """Show where the connection leads, how it stands, and what went over it."""
        client = self._client
        assert client is not None
        self._show(
            "status",
            state=client.get_state(),
            url=client.get_url(),
            id=client.get_id(),
            sent=client.get_messages_sent(),
            received=client.get_messages_received(),
            waiting=client.get_queue_size(),
            dropped=client.get_messages_dropped(),
        )

    def _state_changed(self, state: str, previous: str) -> None:
        del previous
        if self._client is not None:
            self.is_lost = state == "disconnected"
            if state != "connected" and self._ended_at is None:
                self._ended_at = self._now()

    def _disconnected(self, code: int, reason: str) -> None:
        if self._client is None:
            return
        self._why = ""
        self._show("lost", code=code, reason=reason)
        while len(self._waiting) > self._client.get_queue_size():
            gone = self._waiting.popleft()
            if gone.text is not None:
                self._fail("NOT_CONFIRMED", f"Sent and not confirmed: {gone.text}")
        if self.is_lost:
            self._on_end()

    def _will_try_again(self, attempt: int, delay: float) -> None:
        self._attempts = attempt
        self._show("reconnecting", attempt=attempt, delay=round(delay, 3), reason=self._why)
        self._why = ""

    def _went_wrong(self, error: Exception) -> None:
        if not isinstance(error, MessageDropped):
            # Where it connects to has been said; what stands behind it has not.
            self._why = str(error).partition(": ")[2] if isinstance(error, ConnectError) else str(error)
            return
        text = self._waiting.popleft().text if error.event is not None and self._waiting else None
        self._show("dropped", event=error.event, text=text, count=error.count, reason=error.reason)

    def came_back(self) -> bool:
        """There is a connection; tell so, and whether there had been one before."""
        if self._client is None or self._ended_at is None:
            return False
        seconds = round(self._now() - self._ended_at, 3)
        self._show("back", attempts=self._attempts, seconds=seconds)
        self._ended_at, self._why = None, ""
        return True

    def _gave_up(self) -> None:
        if self._client is not None:
            self.is_lost = True
            self._show(
                "given-up", attempts=self._attempts, reason=self._why, unsent=self._client.get_queue_size()
            )
            self._on_end()

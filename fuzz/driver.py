"""A session as a runtime drives it, on a clock that moves when it is told to, with every rule looked at."""

from __future__ import annotations

from collections.abc import Callable

from stelar_proto import ws
from stelar_proto.channel import Closed, Deadlines, State
from stelar_proto.channel.config import SMALLEST_OUTBOX
from stelar_proto.channel.outbox import FRAME_COST
from stelar_proto.errors import StelarError
from stelar_proto.session import (
    Event,
    Opened,
    PendingAck,
    Session,
    SessionConfig,
    TcpSession,
    WebSocketSession,
)
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Role

from .vocabulary import Wire

START = 1000.0


def entropy(size: int) -> bytes:
    """Not random at all; the masks differ from one frame to the next."""
    return (bytes(range(256)) * 4)[:size]


def new_session(wire: Wire, role: Role, config: SessionConfig) -> Session:
    """A session with nothing behind it; a WebSocket client has sent its handshake."""
    size = config.max_payload_size
    if wire is not None:
        payloads = TcpFormat(role, dialect=wire, max_payload_size=size, max_frame_size=config.max_frame_size)
        return TcpSession(role, config, payloads=payloads, now=START)
    envelope = WebSocketFormat(role, max_payload_size=size)
    source = entropy if role is Role.CLIENT else None
    session = WebSocketSession(role, config, envelope=envelope, now=START, entropy=source)
    if role is Role.CLIENT:
        session.request_upgrade("ws://localhost/")
    return session


def connect(server: Session, client: Session) -> None:
    """Shake hands; the client is told its id."""
    request = client.data_to_send()
    if request:
        [requested] = server.receive_data(request, START)
        assert isinstance(requested, ws.UpgradeRequested)
    server.accept("client-1")
    assert client.receive_data(server.data_to_send(), START) == [Opened()]
    assert server.state is client.state is State.OPEN


class Request:
    """A request in flight: what was asked, and whether its end was told once."""

    def __init__(self, pending: PendingAck, data: object, reaction: Callable[[], object]) -> None:
        self.pending = pending
        self.data = data
        self._reaction = reaction
        self._ends = int(pending.done)  # a full outbox may have been the end of it
        pending.on_done = self._done

    def _done(self) -> None:
        self._ends += 1
        self._reaction()

    def result(self) -> object:
        """The answer, or the error that took its place."""
        assert self.pending.done
        assert self._ends == 1
        try:
            return self.pending.result()
        except StelarError as error:
            return error


class Driver:
    """One session with its clock, its timer and what came out of it.

    Arguments:
        session: the session under test.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.now = START
        self.events: list[Event] = []
        self.sent = b""
        self.requests: list[Request] = []
        self._closed = False  # Closed was reported
        self._timer: float | None = None
        self._deadlines = Deadlines(self._set_timer)
        session.on_deadline_changed = self.look_again
        self.look_again()
        self.check()

    # --- What a runtime does ---

    def receive(self, data: bytes) -> None:
        self._take(self.session.receive_data(data, self.now))

    def lose_connection(self) -> None:
        self._take(self.session.connection_lost(self.now))

    def flush(self, times: int = 1 << 30) -> bytes:
        """Let so many writes leave, and return what they were."""
        left = b""
        while times and (data := self.session.data_to_send()):
            left += data
            times -= 1
        self.sent += left
        self.check()
        return left

    def advance(self, seconds: float) -> None:
        """Let time pass, and the timer go off whenever it wants to."""
        end = self.now + seconds
        at_once = 0
        while self._timer is not None and self._timer <= end:
            at_once = at_once + 1 if self._timer <= self.now else 0
            assert at_once < 5, "the timer goes off again and again, and nothing comes of it"
            self.now = max(self.now, self._timer)
            self._deadlines.run(self.now)
            self.check()
        self.now = end

    def next_deadline(self) -> float | None:
        return self.session.next_deadline()

    def handle_deadline(self, now: float) -> None:
        self._take(self.session.handle_deadline(now))

    def postpone(self, seconds: float, now: float) -> None:
        """The loop stood still."""
        self.session.postpone(seconds, now)

    def look_again(self) -> None:
        """Let the timer be set anew."""
        self._deadlines.schedule(self)

    def _set_timer(self, deadline: float | None) -> None:
        self._timer = deadline

    # --- The rules ---

    def _take(self, events: list[Event]) -> None:
        assert not (self._closed and events), "something came after Closed"
        assert not any(type(event) is Closed for event in events[:-1]), "Closed was not the last"
        self.events += events
        if events and type(events[-1]) is Closed:
            self._closed = True
        self.check()

    def check(self) -> None:
        """Look at what must hold between any two calls."""
        session = self.session
        outbox, config = session.outbox, session.config
        waiting = [*outbox._frames, *(frame for _, frame, _ in outbox._kept)]
        assert outbox.size == sum(len(frame) + FRAME_COST for frame in waiting)
        spare = SMALLEST_OUTBOX if session.role is Role.CLIENT else 0  # for what the protocol says
        assert outbox.size <= config.outbox_limit + spare
        assert len(session.acks) <= config.max_pending_acks
        deadline = session.next_deadline()
        if deadline is not None:
            assert self._timer is not None, "nobody was told of a deadline"
            assert self._timer <= deadline, "nobody was told of a nearer deadline"
        if session.state is State.CLOSED:
            assert len(session.acks) == 0
            for request in self.requests:
                request.result()
        if session.is_aborted:
            assert not outbox
            assert session.is_finished
        if session.wants_eof:
            assert not outbox
            assert session.state in (State.CLOSING, State.CLOSED)

    def check_end(self, *, reported: bool) -> None:
        """Look at what must hold in the end; ``reported``: whether somebody is owed a ``Closed``."""
        session = self.session
        assert session.state is State.CLOSED
        assert session.is_finished
        assert session.next_deadline() is None
        assert [type(event) for event in self.events].count(Closed) == reported

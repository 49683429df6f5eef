"""Any input and any call in any state: nothing is raised but to a caller, and the end comes once and last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stelar_proto.channel import Closed, State
from stelar_proto.channel.config import SMALLEST_OUTBOX
from stelar_proto.errors import LocalError
from stelar_proto.messages import (
    Alive,
    Goodbye,
    Hello,
    Invalid,
    Message,
)
from stelar_proto.session import Event as SessionEvent
from stelar_proto.session import Opened, Session, WebSocketSession
from stelar_proto.tcp import Dialect
from stelar_proto.ws import Role

from .peers import (
    ACCEPTED,
    CLIENT,
    CONNECT_FRAME,
    KINDS,
    SERVER,
    UPGRADE,
    from_both,
    from_client,
    from_peer,
    open_session,
    said,
    session_of,
)

CHUNKS = [
    UPGRADE,
    ACCEPTED,
    CONNECT_FRAME,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x81\x80\0\0\0\0",
    b'\x81\x17{"event":"hi","data":1}',
    b'\x81\x97\0\0\0\0{"event":"hi","data":1}',
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x88\x02\x03\xe8",
    b"\x89\x80\0\0\0\0",
    b"\0\0\0\7\2\0\0",
    b"\0\0\0\7\7\0\0",
    b"\0\0\0\x0e\x0a\0\5errorno",
    b"\0\0\0\x0f\0\0\4chatnull",
    b"\0\0\0\x0d\5\0\1a{}" + b"  ",
    b"\0\0\0\0",
    b"\xff",
    b"",
]


class AnySession(RuleBasedStateMachine):
    """Every call and every input at any time, as a transport and an application may make them."""

    session: Session

    @initialize(
        kind=st.sampled_from(KINDS),
        role=st.sampled_from([SERVER, CLIENT]),
        is_open=st.booleans(),
        limit=st.sampled_from([1 << 24, 1 << 24, 300, 30]),
        interval=st.sampled_from([None, 5, 30]),
    )
    def begin(self, kind: str, role: Role, is_open: bool, limit: int, interval: int | None) -> None:
        self.now = 0.0
        self.events: list[SessionEvent] = []
        self.stream_ended = False
        options: dict[str, Any] = {"heartbeat_interval": interval, "heartbeat_timeout": 10}
        if is_open and limit > 1000:
            dialect = Dialect.NPM if kind == "tcp npm" else Dialect.DOCUMENTED
            wire = kind[:3].strip()
            self.session = open_session(wire, role, outbox_limit=limit, tcp_dialect=dialect, **options)
        else:
            self.session = session_of(kind, role, outbox_limit=limit, **options)
            if isinstance(self.session, WebSocketSession) and role is CLIENT:
                self.session.request_upgrade("ws://localhost/")
        self.timer = self.session.next_deadline()
        self.session.on_deadline_changed = self.reschedule

    def reschedule(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None and (self.timer is None or deadline < self.timer):
            self.timer = deadline

    def take(self, events: list[SessionEvent]) -> None:
        self.events += events

    def command(self, call: Callable[[], object]) -> None:
        with suppress(LocalError, ValueError):  # the caller was told; what matters is what follows
            call()

    @rule(data=st.sampled_from(CHUNKS) | st.binary(max_size=40))
    def receive(self, data: bytes) -> None:
        if not self.stream_ended:
            self.stream_ended = not data
            self.take(self.session.receive_data(data, self.now))

    @rule(message=from_both, other=st.booleans())
    def receive_a_message(self, message: Message, other: bool) -> None:
        if not self.stream_ended:
            self.take(self.session.receive_data(from_peer(self.session, message), self.now))

    @rule(message=from_client | st.sampled_from([Hello("x"), Goodbye(), Alive(), Invalid("")]))
    def send(self, message: Message) -> None:
        try:
            self.command(lambda: self.session.send(message))
        except TypeError:
            assert isinstance(message, Goodbye | Alive | Invalid)

    @rule(timeout=st.integers(1, 20))
    def request(self, timeout: int) -> None:
        self.command(lambda: self.session.request("a", "x", 1, self.now, timeout=timeout))

    @rule(client_id=st.sampled_from(["c1", "a\r\nb", "\ud800"]))
    def accept(self, client_id: str) -> None:
        self.command(lambda: self.session.accept(client_id))

    @rule(words=st.text(st.characters(), max_size=50))
    def refuse(self, words: str) -> None:
        self.command(lambda: self.session.refuse(503, words))

    @rule(code=st.sampled_from([1000, 1001, 1006, 1008, 4000]), reason=st.text(st.characters(), max_size=50))
    def close(self, code: int, reason: str) -> None:
        self.command(lambda: self.session.close(code, reason, self.now))

    @rule()
    def abort(self) -> None:
        self.session.abort(Closed(1006, "", None))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.session.pause(paused, self.now)

    @rule()
    def write(self) -> None:
        said(self.session)

    @rule()
    def lose_the_connection(self) -> None:
        self.stream_ended = True
        self.take(self.session.connection_lost(self.now))

    @rule(delay=st.integers(0, 40))
    def wait(self, delay: int) -> None:
        end = self.now + delay
        for _ in range(100):
            if self.timer is None or self.timer > end:
                break
            self.now, self.timer = max(self.now, self.timer), None
            self.take(self.session.handle_deadline(self.now))
            self.reschedule()
        else:
            pytest.fail("the timer never rests")
        self.now = end

    @invariant()
    def the_end_comes_once_and_last(self) -> None:
        if not hasattr(self, "session"):
            return
        ends = [index for index, event in enumerate(self.events) if isinstance(event, Closed)]
        assert ends in ([], [len(self.events) - 1])
        if ends:
            assert self.session.state is State.CLOSED
        if self.session.state is State.CLOSED:
            assert len(self.session.acks) == 0
        opened = [index for index, event in enumerate(self.events) if isinstance(event, Opened)]
        assert len(opened) <= 1

    @invariant()
    def memory_is_bounded_and_the_timer_not_late(self) -> None:
        if not hasattr(self, "session"):
            return
        session = self.session
        spare = SMALLEST_OUTBOX if session.role is CLIENT else 0  # for what the protocol says
        assert session.outbox.size <= session.config.outbox_limit + spare
        deadline = session.next_deadline()
        if deadline is not None:
            assert self.timer is not None
            assert self.timer <= max(deadline, self.now)
        if session.is_aborted:
            assert session.is_finished
            assert not session.outbox
        elif session.is_finished:
            assert session.wants_eof

    def teardown(self) -> None:
        """Whatever happened, it comes to an end: left alone, within the longest of the timeouts."""
        if not hasattr(self, "session"):
            return
        session = self.session
        session.close(1000, "", self.now)
        self.wait(1)
        self.wait(30)
        assert session.state is State.CLOSED
        assert session.is_finished
        assert session.next_deadline() is None
        self.the_end_comes_once_and_last()
        self.take(session.connection_lost(self.now))
        self.the_end_comes_once_and_last()


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)

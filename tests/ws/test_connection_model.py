"""A client and a server joined by two pipes, driven at random, against a model of a few lines.

The model knows the order of what each side has said, the states, and nothing about bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stelar_proto.errors import HandshakeError, StateError, StreamEnded
from stelar_proto.ws import (
    BinaryReceived,
    Close,
    Closed,
    Connection,
    Event,
    Opened,
    PingReceived,
    PongReceived,
    Role,
    State,
    TextReceived,
    UpgradeRequested,
)

from .feeding import rfc_entropy

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=150)
REASONS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SIDES = st.sampled_from(["client", "server"])


class Side:
    """One end: the connection, and what the model knows of it."""

    def __init__(self, role: Role) -> None:
        self.conn = Connection(role, entropy=rfc_entropy if role is Role.CLIENT else None)
        self.state = State.CONNECTING
        self.said: list[Event | type[Event]] = []  # what the other side is to receive, in order
        self.received = 0  # how much of what the other side said
        self.pipe = b""  # bytes on their way to the other side
        self.parts: list[str] | None = None
        self.close_sent: Close | None = None
        self.echo: Closed | None = None  # leaves behind what is sent until the next flush
        self.peer_ended = False

    @property
    def can_send(self) -> bool:
        return self.state is State.OPEN or self.echo is not None

    def attempt(self, allowed: bool, call: Callable[[], None], *says: Event | type[Event]) -> None:
        """Call, and see that it works if and only if the model says so."""
        if allowed:
            call()
            self.said += says
        else:
            with pytest.raises(StateError):
                call()

    @property
    def wants_eof(self) -> bool:
        """Once all is flushed: RFC 6455, section 7.1.1."""
        is_first = self.conn.role is Role.SERVER or self.conn.close_received is None
        return self.state is State.CLOSED and (is_first or self.peer_ended)

    def flush(self) -> None:
        self.pipe += self.conn.data_to_send()
        assert self.conn.wants_eof is self.wants_eof
        if self.echo is not None:
            self.said.append(self.echo)
            self.echo = None


class TwoConnections(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sides = {"client": Side(Role.CLIENT), "server": Side(Role.SERVER)}
        client = self.sides["client"]
        client.conn.request_upgrade("ws://localhost/")
        client.said.append(UpgradeRequested)
        self.requested = False

    @initialize(connected=st.sampled_from([True, True, True, False]))
    def connect(self, connected: bool) -> None:
        if connected:
            self.deliver("server", 1000)
            self.accept()
            self.deliver("client", 1000)

    # --- Commands ---

    @rule()
    def accept(self) -> None:
        server = self.sides["server"]
        allowed = self.requested and server.state is State.CONNECTING
        server.attempt(allowed, server.conn.accept, Opened)
        if allowed:
            server.state = State.OPEN

    @precondition(lambda self: self.requested)
    @rule(status=st.sampled_from([403, 404]))
    def refuse(self, status: int) -> None:
        server = self.sides["server"]
        allowed = server.state is State.CONNECTING
        server.attempt(allowed, lambda: server.conn.respond(status), Closed(1006, "", None))
        if allowed:
            server.state = State.CLOSED

    @rule(name=SIDES, text=TEXTS)
    def send_text(self, name: str, text: str) -> None:
        side = self.sides[name]
        allowed = side.can_send and side.parts is None
        side.attempt(allowed, lambda: side.conn.send_text(text), TextReceived(text))

    @rule(name=SIDES, data=st.binary(max_size=300))
    def send_binary(self, name: str, data: bytes) -> None:
        side = self.sides[name]
        allowed = side.can_send and side.parts is None
        side.attempt(allowed, lambda: side.conn.send_binary(data), BinaryReceived(data))

    @rule(name=SIDES, text=TEXTS, final=st.booleans())
    def send_part(self, name: str, text: str, final: bool) -> None:
        side = self.sides[name]
        parts = [*(side.parts or []), text]
        message = [TextReceived("".join(parts))] if final else []
        side.attempt(side.can_send, lambda: side.conn.send_part(text, final=final), *message)
        if side.can_send:
            side.parts = None if final else parts

    @rule(name=SIDES, payload=st.binary(max_size=125), pong=st.booleans())
    def send_control(self, name: str, payload: bytes, pong: bool) -> None:
        side = self.sides[name]
        call = side.conn.pong if pong else side.conn.ping
        event = PongReceived(payload) if pong else PingReceived(payload)
        side.attempt(side.can_send, lambda: call(payload), event)

    @rule(name=SIDES, code=st.sampled_from([None, 1000, 1001, 4000]), reason=REASONS)
    def close(self, name: str, code: int | None, reason: str) -> None:
        side = self.sides[name]
        reason = "" if code is None else reason
        allowed = side.state is not State.CONNECTING
        side.attempt(allowed, lambda: side.conn.close(code, reason))
        if side.state is State.OPEN:
            side.state = State.CLOSING
            side.close_sent = Close(1005 if code is None else code, reason)
            side.said.append(Closed(*side.close_sent, None))

    # --- The network ---

    @rule(name=SIDES, size=st.one_of(st.integers(1, 30), st.just(100_000)))
    def deliver(self, name: str, size: int) -> None:
        receiver, sender = self.sides[name], self.sides["server" if name == "client" else "client"]
        sender.flush()
        chunk, sender.pipe = sender.pipe[:size], sender.pipe[size:]
        if not chunk:
            return
        for event in receiver.conn.receive_data(chunk):
            assert receiver.state is not State.CLOSED
            self.check(receiver, event, sender.said[receiver.received])
            receiver.received += 1
        if not sender.pipe and receiver.state is not State.CLOSED:
            assert receiver.received == len(sender.said)

    def check(self, receiver: Side, event: Event, said: Event | type[Event]) -> None:
        if said is UpgradeRequested:
            assert isinstance(event, UpgradeRequested)
            self.requested = True
        elif said is Opened:
            assert isinstance(event, Opened)
            receiver.state = State.OPEN
        elif isinstance(event, Closed) and receiver.state is State.CONNECTING:
            assert isinstance(event.error, HandshakeError)
            assert (event.code, event.error.status in (403, 404)) == (1006, True)
            receiver.state = State.CLOSED
        else:
            assert event == said
            self.react(receiver, event)

    def react(self, receiver: Side, event: Event) -> None:
        match event:
            case PingReceived(payload):
                receiver.said.append(PongReceived(payload))
            case Closed(code, reason):
                if receiver.state is State.OPEN:
                    receiver.close_sent = Close(1000 if code == 1005 else code, reason)
                    receiver.echo = Closed(*receiver.close_sent, None)
                receiver.state = State.CLOSED
                assert receiver.conn.close_received == Close(code, reason)

    @rule(name=SIDES)
    def flush(self, name: str) -> None:
        self.sides[name].flush()

    @rule(name=SIDES)
    def end_the_stream(self, name: str) -> None:
        receiver, sender = self.sides[name], self.sides["server" if name == "client" else "client"]
        events = receiver.conn.receive_data(b"")
        receiver.peer_ended = True
        if receiver.state is State.CLOSED:
            assert events == []
        else:
            [closed] = events
            assert isinstance(closed, Closed)
            assert (closed.code, closed.reason) == (1006, "")
            assert isinstance(closed.error, StreamEnded | HandshakeError)
            receiver.state = State.CLOSED
        sender.pipe = b""

    @invariant()
    def the_model_agrees(self) -> None:
        for side in self.sides.values():
            assert side.conn.state is side.state
            assert side.conn.can_send is side.can_send
            assert side.conn.close_sent == side.close_sent


TestTwoConnections = TwoConnections.TestCase
TestTwoConnections.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)

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

    def flush(self) -> None:
        self.pipe += self.conn.data_to_send()

    def attempt(self, allowed: bool, call: Callable[[], None]) -> bool:
        """Call, and see that it works if and only if the model says so."""
        if allowed:
            call()
        else:
            with pytest.raises(StateError):
                call()
        self.flush()
        return allowed


class TwoConnections(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sides = {"client": Side(Role.CLIENT), "server": Side(Role.SERVER)}
        client = self.sides["client"]
        client.conn.request_upgrade("ws://localhost/")
        client.said.append(UpgradeRequested)
        client.flush()
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
        if server.attempt(allowed, server.conn.accept):
            server.state = State.OPEN
            server.said.append(Opened)

    @precondition(lambda self: self.requested)
    @rule(status=st.sampled_from([403, 404]))
    def refuse(self, status: int) -> None:
        server = self.sides["server"]
        if server.attempt(server.state is State.CONNECTING, lambda: server.conn.respond(status)):
            server.state = State.CLOSED
            server.said.append(Closed(1006, "", None))

    @rule(name=SIDES, text=TEXTS)
    def send_text(self, name: str, text: str) -> None:
        side = self.sides[name]
        allowed = side.state is State.OPEN and side.parts is None
        if side.attempt(allowed, lambda: side.conn.send_text(text)):
            side.said.append(TextReceived(text))

    @rule(name=SIDES, data=st.binary(max_size=300))
    def send_binary(self, name: str, data: bytes) -> None:
        side = self.sides[name]
        allowed = side.state is State.OPEN and side.parts is None
        if side.attempt(allowed, lambda: side.conn.send_binary(data)):
            side.said.append(BinaryReceived(data))

    @rule(name=SIDES, text=TEXTS, final=st.booleans())
    def send_part(self, name: str, text: str, final: bool) -> None:
        side = self.sides[name]
        if side.attempt(side.state is State.OPEN, lambda: side.conn.send_part(text, final=final)):
            side.parts = [*(side.parts or []), text]
            if final:
                side.said.append(TextReceived("".join(side.parts)))
                side.parts = None

    @rule(name=SIDES, payload=st.binary(max_size=125), pong=st.booleans())
    def send_control(self, name: str, payload: bytes, pong: bool) -> None:
        side = self.sides[name]
        call = side.conn.pong if pong else side.conn.ping
        if side.attempt(side.state is State.OPEN, lambda: call(payload)):
            side.said.append(PongReceived(payload) if pong else PingReceived(payload))

    @rule(name=SIDES, code=st.sampled_from([None, 1000, 1001, 4000]), reason=REASONS)
    def close(self, name: str, code: int | None, reason: str) -> None:
        side = self.sides[name]
        reason = "" if code is None else reason
        side.attempt(side.state is not State.CONNECTING, lambda: side.conn.close(code, reason))
        if side.state is State.OPEN:
            side.state = State.CLOSING
            self.say_close(side, Close(1005 if code is None else code, reason))

    def say_close(self, side: Side, close: Close) -> None:
        side.close_sent = close
        side.said.append(Closed(*close, None))

    # --- The network ---

    @rule(name=SIDES, size=st.one_of(st.integers(1, 30), st.just(100_000)))
    def deliver(self, name: str, size: int) -> None:
        receiver, sender = self.sides[name], self.sides["server" if name == "client" else "client"]
        chunk, sender.pipe = sender.pipe[:size], sender.pipe[size:]
        if not chunk:
            return
        for event in receiver.conn.receive_data(chunk):
            assert receiver.state is not State.CLOSED
            self.check(receiver, event, sender.said[receiver.received])
            receiver.received += 1
        receiver.flush()
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
                    self.say_close(receiver, Close(code, reason))
                receiver.state = State.CLOSED
                assert receiver.conn.close_received == Close(code, reason)

    @rule(name=SIDES)
    def end_the_stream(self, name: str) -> None:
        receiver, sender = self.sides[name], self.sides["server" if name == "client" else "client"]
        events = receiver.conn.receive_data(b"")
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
            assert side.conn.close_sent == side.close_sent
            assert side.conn.data_to_send() == b""


TestTwoConnections = TwoConnections.TestCase
TestTwoConnections.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)

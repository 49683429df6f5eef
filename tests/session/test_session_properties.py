"""What holds for any conversation: nothing is lost, doubled or reordered, and each session ends once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelar_proto.channel import Closed, State
from stelar_proto.errors import RemoteError
from stelar_proto.messages import (
    AckError,
    AckRequest,
    AckResponse,
    Binary,
    Event,
    Hello,
    Join,
    Message,
)
from stelar_proto.session import Event as SessionEvent
from stelar_proto.session import Opened, Session, WebSocketSession
from stelar_proto.ws import Role, UpgradeRequested

from .peers import (
    ACCEPTED,
    CLIENT,
    KINDS,
    SERVER,
    UPGRADE,
    from_both,
    from_client,
    from_peer,
    said,
    session_of,
)

kinds = pytest.mark.parametrize("kind", KINDS)


class Wire:
    """Two sessions back to back, and the bytes and ends of stream that are on the way in each direction."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.client, self.server = session_of(kind, CLIENT, **options), session_of(kind, SERVER, **options)
        self.sessions = (self.client, self.server)
        self.sent: dict[Session, list[Message]] = {self.client: [], self.server: []}
        self.heard: dict[Session, list[SessionEvent]] = {self.client: [], self.server: []}
        self.way: dict[Session, bytes] = {self.client: b"", self.server: b""}  # to each
        self.ended: set[Session] = set()  # whose stream has ended
        self.now = 0.0
        if isinstance(self.client, WebSocketSession):
            self.client.request_upgrade("ws://localhost/")
        else:
            self.server.accept("c1")

    def other(self, session: Session) -> Session:
        return self.server if session is self.client else self.client

    def send(self, session: Session, message: Message) -> None:
        if session.state is State.OPEN:
            session.send(message)
            if session.state is State.OPEN:
                self.sent[session].append(message)

    def carry(self, session: Session, size: int) -> None:
        """Bring ``size`` of the bytes on the way to ``session``, or the end of the stream behind them."""
        other = self.other(session)
        while (data := other.data_to_send()) != b"":
            self.way[session] += data
        chunk, self.way[session] = self.way[session][:size], self.way[session][size:]
        if not chunk:
            if self.way[session] or not other.wants_eof or other in self.ended:
                return
            self.ended.add(other)
        for event in session.receive_data(chunk, self.now):
            if isinstance(event, UpgradeRequested):
                session.accept("c1")
            self.heard[session].append(event)

    def settle(self) -> None:
        """Bring everything there is, in both directions."""
        for _ in range(20):
            for session in self.sessions:
                self.carry(session, 1 << 20)

    def messages_heard(self, session: Session) -> list[SessionEvent]:
        return [
            event
            for event in self.heard[session]
            if not isinstance(event, Opened | Closed | UpgradeRequested)
        ]


# --- any conversation ---

steps = st.one_of(
    st.tuples(st.just("client says"), from_client),
    st.tuples(st.just("server says"), from_both),
    st.tuples(st.sampled_from(["to client", "to server"]), st.integers(1, 400)),
)


@kinds
@given(
    st.lists(steps, max_size=40),
    st.sampled_from(["client", "server", "both"]),
    st.sampled_from(
        [(1000, ""), (1001, "Server shutting down"), (1008, "Rate limit exceeded"), (4000, "ñ" * 80)]
    ),
    st.lists(st.tuples(st.booleans(), st.integers(1, 400)), max_size=20),
)
@settings(deadline=None, max_examples=50)
def test_what_was_sent_before_the_close_arrives_once_and_in_order_and_both_sides_end(
    kind: str,
    script: list[tuple[str, Any]],
    closers: str,
    end: tuple[int, str],
    rest: list[tuple[bool, int]],
) -> None:
    wire = Wire(kind)
    wire.carry(wire.server, 1 << 20)
    for what, argument in script:
        match what:
            case "client says":
                wire.send(wire.client, argument)
            case "server says":
                wire.send(wire.server, argument)
            case _:
                wire.carry(wire.client if what == "to client" else wire.server, argument)
    wire.settle()
    for role, session in (("client", wire.client), ("server", wire.server)):
        if closers in (role, "both"):
            session.close(*end, wire.now)
    for to_client, size in rest:
        wire.carry(wire.client if to_client else wire.server, size)
    wire.settle()

    for session in wire.sessions:
        assert wire.messages_heard(session) == wire.sent[wire.other(session)]
        assert isinstance(wire.heard[session][-1], Closed)
        assert sum(isinstance(event, Closed) for event in wire.heard[session]) == 1
        assert session.is_finished
        assert not session.is_aborted
        assert session.messages_dropped == 0
        assert session.next_deadline() is None
        assert session.messages_sent == len(wire.sent[session])
        assert session.messages_received == len(wire.sent[wire.other(session)])
    assert wire.heard[wire.client][0] == Opened()


@kinds
@given(st.lists(st.tuples(st.booleans(), from_both, st.integers(0, 300)), max_size=30), st.booleans())
@settings(deadline=None, max_examples=50)
def test_messages_that_cross_a_close_are_heard_by_who_closed(
    kind: str, script: list[tuple[bool, Message, int]], client_closes: bool
) -> None:
    wire = Wire(kind)
    wire.settle()
    closer = wire.client if client_closes else wire.server
    for number, (by_client, message, size) in enumerate(script):
        wire.send(wire.client if by_client else wire.server, message)
        wire.carry(wire.server if by_client else wire.client, size)
        if number == len(script) // 2:
            closer.close(1000, "", wire.now)
    closer.close(1000, "", wire.now)
    wire.settle()
    peer = wire.other(closer)
    assert wire.messages_heard(peer) == wire.sent[closer]
    assert wire.messages_heard(closer) == wire.sent[peer]
    for session in wire.sessions:
        assert [type(event) for event in wire.heard[session][-1:]] == [Closed]
        assert session.is_finished


@kinds
@given(st.lists(st.integers(0, 3), max_size=12), st.data())
@settings(deadline=None, max_examples=50)
def test_requests_both_ways_are_all_answered_by_their_own_answers(
    kind: str, script: list[int], data: st.DataObject
) -> None:
    wire = Wire(kind)
    wire.settle()
    asked = []
    for number, who in enumerate(script):
        session = wire.sessions[who % 2]
        asked.append((session.request("ask", "double", number, wire.now, timeout=5), number))
        if who > 1:
            wire.settle()
    wire.settle()
    requests = [
        (session, event)
        for session in wire.sessions
        for event in wire.messages_heard(session)
        if isinstance(event, AckRequest)
    ]
    assert len(requests) == len(asked)
    for session, request in data.draw(st.permutations(requests)):
        if request.data % 3:
            session.send(AckResponse(request.ack, {"_correlationId": request.data}, request.correlation_id))
        else:
            session.send(AckError(request.ack, str(request.data), "", request.correlation_id))
    wire.settle()
    for pending, number in asked:
        assert pending.done
        if number % 3:
            assert pending.result() == {"_correlationId": number}
        else:
            with pytest.raises(RemoteError, match=f"^{number}: $"):
                pending.result()


# --- chunks ---


def streams(kind: str, role: Role) -> Iterable[bytes]:
    """Streams from a peer, from the first byte: well-formed ones with every end, and broken ones."""
    session = session_of(kind, role)
    opening = b""
    if kind == "ws":
        opening = UPGRADE if role is SERVER else ACCEPTED
    elif role is CLIENT:
        opening = from_peer(session, Hello("c1"))
    said_by_all: list[Message] = [
        Event("chat", "¡hola ☃!"),
        Binary("blob", b"\0\1"),
        AckResponse("a", 1, "9"),
    ]
    said_by_side: Message = Join("general") if role is SERVER else Event("joined-room", "general")
    body = from_peer(session, *said_by_all, said_by_side)
    ends = [b""]
    if kind == "ws":
        ends += [b"\x88\x82\0\0\0\0\x03\xe8" if role is SERVER else b"\x88\x02\x03\xe8", b"\x83\x80\0\0\0\0"]
    else:
        code = 1 if kind == "tcp npm" else 0
        ends += [b"\0\0\0\7" + bytes((7 + code, 0, 0)), b"\0\0\0\x0e" + bytes((10 + code,)) + b"\0\5errorno"]
        ends += [b"\0\0\0\0"]
    yield opening + body[:-1]
    for end in ends:
        yield opening + body + end + body[:20]
    yield b"\xff" * 20


def received(kind: str, role: Role, chunks: Iterable[bytes]) -> list[object]:
    """The events and the answers, with what cannot be compared replaced by what can."""
    session = session_of(kind, role)
    if isinstance(session, WebSocketSession) and role is CLIENT:
        session.request_upgrade("ws://localhost/")
        said(session)
    elif role is SERVER and kind != "ws":
        session.accept("c1")
    events: list[object] = []
    for chunk in [*chunks, b""]:
        for event in session.receive_data(chunk, 1):
            if isinstance(event, UpgradeRequested):
                session.accept("c1")
                events.append("upgrade")
            else:
                events.append((*event[:2], repr(event)) if isinstance(event, Closed) else event)
    return [events, said(session), session.state, session.is_finished, session.messages_received]


@kinds
@pytest.mark.parametrize("role", [SERVER, CLIENT], ids=["server", "client"])
def test_how_the_stream_is_cut_makes_no_difference(kind: str, role: Role) -> None:
    for stream in streams(kind, role):
        # A server's answer to the handshake has to come between two chunks.
        opening = len(UPGRADE) if kind == "ws" and role is SERVER and stream.startswith(UPGRADE) else 0
        first, rest = stream[:opening], stream[opening:]
        whole = received(kind, role, [first, rest] if first and rest else [stream])
        bytewise = [first] if first else []
        bytewise += [rest[at : at + 1] for at in range(len(rest))]
        assert received(kind, role, bytewise) == whole
        for cut in range(1, len(rest)):
            chunks = [first] if first else []
            assert received(kind, role, [*chunks, rest[:cut], rest[cut:]]) == whole

"""``WebSocketSession`` and ``TcpSession``, both roles: bytes, commands and time in any order.

Held for every history, open from the start or not, on a clock that moves only between the calls:

- ``receive_data``, ``handle_deadline``, ``connection_lost`` and ``data_to_send`` raise nothing. Allowed
  exceptions: none.
- Commands raise what their docstrings say and nothing else: ``StateError`` when the session does not take
  messages, or a client's outbox has no room for one (``accept``, ``refuse``: when nobody waits for that),
  ``MessageError`` for what may not be sent.
- ``Closed`` comes at most once, last, nothing after it; and it does come, unless the session was refused.
- The timer is never later than the next deadline, so that telling nobody is no mistake; a deadline that is
  handled is not due again at once, for ever.
- The outbox and the requests in flight never exceed their limits. Every request ends exactly once.
- Whatever the peer does not do, the session ends within its timeouts, and then waits for nothing more.
- Events, bytes and answers are the same for any chunks. One difference is allowed: on TCP, what comes behind
  a Disconnect or a closing Error frame may draw Pongs or an Error frame, which nobody reads.
- A session of the other role understands everything that leaves: the messages that were taken, in order, none
  of them invalid. Two sessions that talk, answer and part understand each other to the last message.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from hypothesis import example, given
from hypothesis import strategies as st

from stelar_proto import messages as m
from stelar_proto.channel import Closed
from stelar_proto.errors import ConnectionLost, MessageError, PeerFailure, StateError
from stelar_proto.messages import Message
from stelar_proto.session import Session, SessionConfig
from stelar_proto.tcp import Dialect
from stelar_proto.ws import Role

from .driver import Driver, Request, connect, new_session
from .inputs import CUTS, TEXTS, corpus, mutated, same_for_any_chunks, weighted
from .vocabulary import ACKS, EVENTS, KINDS, MESSAGES, OTHER, STATEMENTS, STREAMS, VALUES, Kind, Wire

DEFAULT = SessionConfig()
CONFIGS = [
    DEFAULT,
    SessionConfig(max_payload_size=300, max_frame_size=400, outbox_limit=1000, max_pending_acks=2),
    SessionConfig(heartbeat_interval=7, heartbeat_timeout=3, connect_timeout=1, close_timeout=20),
    SessionConfig(heartbeat_interval=None, outbox_limit=600),
]


def open_pair(kind: Kind, config: SessionConfig, others: SessionConfig = DEFAULT) -> tuple[Session, Session]:
    """A session of ``kind``, and one of the other role that it has shaken hands with."""
    wire, role = kind
    session, other = new_session(wire, role, config), new_session(wire, OTHER[role], others)
    connect(*((session, other) if role is Role.SERVER else (other, session)))
    return session, other


def typed(messages: list[Any]) -> list[tuple[type, Any]]:
    """With their types: tuples of the same content are equal, whatever they are."""
    return [(type(message), message) for message in messages]


# --- Any history ------------------------------------------------------------------------------------------

Step: TypeAlias = tuple[str, Any]


def steps(kind: Kind) -> st.SearchStrategy[list[Step]]:
    wire, role = kind
    heads = mutated(corpus("http_request" if role is Role.SERVER else "http_response"))
    heard = STREAMS[kind] if wire is not None else st.one_of(STREAMS[kind], STREAMS[kind], heads)
    step: st.SearchStrategy[Step] = st.one_of(
        st.tuples(st.just("receive"), heard),
        st.tuples(st.just("receive"), heard),
        st.tuples(st.just("advance"), st.sampled_from([0, 0.5, 3, 5, 7, 10, 30, 60, 100])),
        st.tuples(st.just("flush"), st.sampled_from([1, 1 << 30])),
        st.tuples(st.just("send"), MESSAGES[role]),
        st.tuples(
            st.just("request"),
            st.tuples(ACKS, EVENTS, VALUES, st.sampled_from([1, 5, 40]), weighted("", "close")),
        ),
        st.tuples(st.just("close"), st.tuples(weighted(1000, 1001, 1008, 4000, 1005, 0, share=2), TEXTS)),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("accept"), TEXTS),
        st.tuples(weighted("end", "lose", "abort", "refuse", share=2), st.just(None)),
    )
    return st.lists(step, max_size=14)


HISTORIES = st.one_of([st.tuples(st.just(kind), steps(kind)) for kind in KINDS])


class Application:
    """Calls the commands, and knows what was taken of what it said."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.taken: list[Message] = []
        self.refused = False

    def carry_out(self, step: str, argument: Any) -> None:
        driver, session = self.driver, self.driver.session
        match step:
            case "receive":
                driver.receive(argument)
            case "end":
                driver.receive(b"")
            case "lose":
                driver.lose_connection()
            case "advance":
                driver.advance(argument)
            case "flush":
                driver.flush(argument)
            case "pause":
                session.pause(argument, driver.now)
            case "abort":
                session.abort(Closed(1006, "", None))
            case "close":
                self._attempt(lambda: session.close(argument[0], argument[1], driver.now))
            case "send":
                self._attempt(lambda: self.send(argument))
            case "request":
                self._attempt(lambda: self.request(*argument))
            case "accept":
                self._attempt(lambda: session.accept(argument))
            case "refuse":
                self._attempt(self._refuse)
        driver.check()

    def _attempt(self, command: Callable[[], None]) -> None:
        """Call ``command``, which may refuse to do what cannot be done."""
        with suppress(StateError, MessageError):
            command()

    def send(self, message: Message) -> None:
        session = self.driver.session
        could, count = session.can_send, session.messages_sent
        try:
            session.send(message)
        except StateError:
            # A client whose outbox is full is told to wait, and nothing else happens.
            assert not could or (session.role is Role.CLIENT and session.can_send)
            raise
        assert could
        self.taken += [message] * (session.messages_sent - count)

    def request(self, ack: str, event: str, data: Any, timeout: float, reaction: str) -> None:
        session, driver = self.driver.session, self.driver
        count = session.messages_sent
        try:
            pending = session.request(ack, event, data, driver.now, timeout=timeout)
        except (StateError, MessageError):
            # A request that cannot be sent may leave a deadline that is too early: a needless look, no fault.
            driver.look_again()
            raise
        request = m.AckRequest(ack, event, data, pending.correlation_id)
        self.taken += [request] * (session.messages_sent - count)

        def react() -> None:
            if reaction == "close":
                session.close(1000, "", driver.now)

        driver.requests.append(Request(pending, data, react))

    def _refuse(self) -> None:
        self.driver.session.refuse(403, "no")
        self.refused = True


@given(HISTORIES, st.sampled_from(CONFIGS), weighted(True, False), st.booleans())
def test_any_history(
    history: tuple[Kind, list[Step]], config: SessionConfig, is_open: bool, peer_reads: bool
) -> None:
    kind, steps = history
    session, other = open_pair(kind, config) if is_open else (new_session(*kind, config), None)
    application = Application(driver := Driver(session))
    for step in steps:
        application.carry_out(*step)
    # From here on the peer says nothing more.
    application.carry_out("pause", False)
    if config.heartbeat_interval is None:
        application.carry_out("lose", None)
    for _ in range(30):
        if peer_reads:
            driver.flush()
        driver.advance(10)
    driver.check_end(reported=not application.refused)
    if other is not None and driver.sent:
        *heard, last = [*other.receive_data(driver.sent, driver.now), None]
        if heard and isinstance(heard[-1], Closed):
            last = heard.pop()
            assert isinstance(last, Closed)
            assert last.error is None or isinstance(last.error, PeerFailure)
        assert typed(heard) == typed(application.taken)[: len(heard)]
        assert session.is_aborted or len(heard) == len(application.taken)


GOODBYE_AND_MORE = b"\0\0\0\x1f\x0a\0\5errorRate" + bytes(11) + b"\x1f\x0a\0\5errorRate limit exceeded"
"""An Error frame that was damaged, and what is no frame."""

# --- Any stream -------------------------------------------------------------------------------------------


@example(((Dialect.DOCUMENTED, Role.CLIENT), GOODBYE_AND_MORE), [])
@given(st.one_of([st.tuples(st.just(kind), STREAMS[kind]) for kind in KINDS]), CUTS)
def test_the_chunks_make_no_difference(heard: tuple[Kind, bytes], cuts: list[int]) -> None:
    kind, stream = heard

    def outcome(chunks: list[bytes]) -> object:
        session, _ = open_pair(kind, SessionConfig(max_payload_size=350, max_frame_size=400))
        application = Application(driver := Driver(session))
        for ack in ("sum", "sum", "x" * 256):
            application.request(ack, "chat", None, 5, "")
        for chunk in [*chunks, b""]:
            driver.receive(chunk)
            driver.flush()
        last = driver.events[-1]
        assert isinstance(last, Closed)
        # What comes behind a goodbye means nothing; a codec that has it in the same chunk may answer it.
        was_left = last.error is None and (last.code != 1000 or kind[1] is Role.CLIENT)
        said_goodbye = kind[0] is not None and (was_left or isinstance(last.error, PeerFailure))
        return (
            [*driver.events[:-1], last[:2], str(last.error)],
            [str(request.result()) for request in driver.requests],
            None if said_goodbye else driver.sent,
        )

    same_for_any_chunks(outcome, stream, cuts)


# --- A conversation ---------------------------------------------------------------------------------------

PATIENT = SessionConfig(heartbeat_interval=5, heartbeat_timeout=1e6, connect_timeout=1e6, close_timeout=1e6)


def actions(wire: Wire) -> st.SearchStrategy[list[tuple[Role, Step]]]:
    def of(role: Role) -> st.SearchStrategy[tuple[Role, Step]]:
        action: st.SearchStrategy[Step] = st.one_of(
            st.tuples(st.just("hear"), st.sampled_from([1, 3, 20, 300, 1 << 30])),
            st.tuples(st.just("send"), STATEMENTS[role]),
            st.tuples(st.just("request"), st.tuples(ACKS, EVENTS, VALUES, st.just(1e6), st.just(""))),
            st.tuples(st.just("advance"), st.sampled_from([1, 6])),
            st.tuples(st.just("close"), st.tuples(st.sampled_from([1000, 1001, 1008, 4000]), TEXTS)),
        )
        return st.tuples(st.just(role), action)

    return st.lists(st.one_of(*map(of, Role)), max_size=16)


CONVERSATIONS: dict[Wire, st.SearchStrategy[list[tuple[Role, Step]]]] = {
    wire: actions(wire) for wire in (None, *Dialect)
}


class Talker(Application):
    """One of two: it answers each request with what was asked, and hears what the other side wrote."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.heard: list[Any] = []
        self.answered = 0
        self._pipe = b""
        self._eof_left = False

    def write(self, size: int) -> bytes | None:
        """The next bytes of the stream, ``b""`` once for its end, None when there are none."""
        self._pipe += self.driver.flush()
        data, self._pipe = self._pipe[:size], self._pipe[size:]
        if data or self._eof_left or not self.driver.session.wants_eof:
            return data or None
        self._eof_left = True
        return b""

    def hear(self, data: bytes) -> None:
        driver = self.driver
        heard = len(driver.events)
        driver.receive(data)
        for event in driver.events[heard:]:
            self.heard.append(event)
            if isinstance(event, m.AckRequest) and driver.session.can_send:
                driver.session.send(m.AckResponse(event.ack, event.data, event.correlation_id))
                self.answered += 1


@given(st.data(), st.sampled_from([None, *Dialect]), st.sampled_from(Role))
def test_two_sessions_understand_each_other(data: st.DataObject, wire: Wire, closer: Role) -> None:
    server, client = open_pair((wire, Role.SERVER), PATIENT, PATIENT)
    talkers = {Role.SERVER: Talker(Driver(server)), Role.CLIENT: Talker(Driver(client))}
    hear_all: list[tuple[Role, Step]] = [(role, ("hear", 1 << 30)) for role in Role]
    last: list[tuple[Role, Step]] = [(closer, ("close", (1000, ""))), *hear_all * 4]
    for role, (kind, argument) in [*data.draw(CONVERSATIONS[wire]), *last]:
        if kind != "hear":
            talkers[role].carry_out(kind, argument)
        elif (chunk := talkers[OTHER[role]].write(argument)) is not None:
            talkers[role].hear(chunk)
    for role, talker in talkers.items():
        *heard, closed = talker.heard
        assert typed(heard) == typed(talkers[OTHER[role]].taken)
        assert isinstance(closed, Closed)
        assert closed.error is None or (wire is not None and isinstance(closed.error, PeerFailure))
        talker.driver.check_end(reported=True)
        results = [request.result() for request in talker.driver.requests]
        lost = [result for result in results if isinstance(result, ConnectionLost)]
        assert len(results) - len(lost) == talkers[OTHER[role]].answered
        for request, result in zip(talker.driver.requests, results, strict=True):
            assert isinstance(result, ConnectionLost) or result == request.data

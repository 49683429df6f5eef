"""A server and a client in memory, driven at random, and what must hold whatever happens.

Messages arrive in order, once and whole; what waits for a reader is bounded; whoever waits hears of the end;
and when the close handshake was completed, both sides know it by the same code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stelar_proto.errors import ConnectionClosed, StateError
from stelar_proto.plain import WebSocketConnection
from tests.plain.house import House
from tests.support.memory import VirtualConnector
from tests.support.virtual import Cancelled, VirtualTask

SIDES = st.sampled_from([0, 1])
MESSAGES = st.one_of(
    st.text(max_size=10),
    st.binary(max_size=10),
    st.sampled_from([5_000, 70_000]).map(lambda size: b"x" * size),
)
INBOX_LIMIT, INBOX_SIZE, CHUNK = 4, 8_000, 4_096


class Side:
    """One end: its connection, and what was sent and received at it."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.endpoint: Any = connection._endpoint
        self.transport: Any = self.endpoint.transport
        self.sent: list[str | bytes] = []
        self.received: list[str | bytes] = []
        self.begun: list[str | bytes] = []  # the parts of a message that has not ended
        self.sending: list[VirtualTask[None]] = []
        self.receiving: VirtualTask[None] | None = None
        self.others: list[VirtualTask[Any]] = []
        self.cut_fragments = False

    def tasks(self) -> list[VirtualTask[Any]]:
        reading = [] if self.receiving is None else [self.receiving]
        return [*self.sending, *reading, *self.others]

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)
        self.sent.append(message)

    async def send_fragments(self, fragments: list[str] | list[bytes], later: bool) -> None:
        await self.connection.send_fragments(_later(fragments) if later else fragments)
        self.sent.append(type(fragments[0])().join(fragments))  # type: ignore[arg-type]

    async def recv(self) -> None:
        self.received.append(await self.connection.recv())

    async def recv_parts(self, count: int) -> None:
        parts = self.connection.recv_parts()
        while count and not parts._ended:
            self.begun.append(await anext(parts))
            count -= 1
        if parts._ended:
            self.received.append(type(self.begun[0])().join(self.begun))  # type: ignore[arg-type]
            self.begun.clear()


async def _later(fragments: list[str] | list[bytes]) -> AsyncIterator[str | bytes]:
    for fragment in fragments:
        yield fragment


class Conversation(RuleBasedStateMachine):
    """Any order of calls, chunks of any size, time that passes, and a stream that is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.random = Random(0)
        self.house = House(chunk_size=self.cut)
        options: dict[str, Any] = {
            "inbox_limit": INBOX_LIMIT,
            "inbox_size": INBOX_SIZE,
            "heartbeat_interval": 20,
            "close_timeout": 4,
        }
        self.house.serve(**options)
        client = self.house.run(VirtualConnector(self.house.network, **options).__aenter__())
        self.sides = [Side(self.house.connections[0]), Side(client)]
        self.was_cut = False

    def cut(self, waiting: int) -> int:
        return self.random.choice((1, 2, 7, 130, CHUNK))

    def start(self, coroutine: Any) -> VirtualTask[Any]:
        return self.house.start(coroutine)

    @rule(seed=st.integers(0, 1000))
    def cut_otherwise(self, seed: int) -> None:
        self.random.seed(seed)

    @rule(
        side=SIDES,
        messages=st.lists(MESSAGES, min_size=1, max_size=12),
        code=st.sampled_from([0, 0, 0, 1000]),
    )
    def send(self, side: int, messages: list[str | bytes], code: int) -> None:
        """Send messages in one turn of the loop, and maybe close behind them."""
        own = self.sides[side]
        own.sending += [self.house.loop.start(own.send(message)) for message in messages]
        if code:
            own.others.append(self.house.loop.start(own.connection.close(code)))
        self.house.loop.run_until_idle()

    @rule(
        side=SIDES,
        fragments=st.one_of(
            st.lists(st.text(max_size=5), min_size=1, max_size=4),
            st.lists(st.binary(max_size=5), min_size=1, max_size=4),
        ),
        later=st.booleans(),
    )
    def send_fragments(self, side: int, fragments: Any, later: bool) -> None:
        own = self.sides[side]
        own.sending.append(self.start(own.send_fragments(fragments, later)))

    @rule(side=SIDES, count=st.sampled_from([0, 0, 1, 2, 100]))
    def receive(self, side: int, count: int) -> None:
        """Begin to take a message, in parts or (0) as one."""
        own = self.sides[side]
        if own.receiving is None or own.receiving.is_done:
            self.look_at(own.receiving)
            own.receiving = self.start(own.recv_parts(count) if count else own.recv())
            if own.receiving.is_done and isinstance(own.receiving.error, StateError):
                assert own.begun
                assert not count
                own.receiving = None

    @rule(side=SIDES)
    def ping(self, side: int) -> None:
        own = self.sides[side]
        own.others.append(self.start(own.connection.ping()))

    @rule(side=SIDES, code=st.sampled_from([1000, 1001, 4000]))
    def close(self, side: int, code: int) -> None:
        own = self.sides[side]
        own.others.append(self.start(own.connection.close(code)))

    @rule(side=SIDES, index=st.integers(0, 20))
    def cancel(self, side: int, index: int) -> None:
        tasks = self.sides[side].tasks()
        if index < len(tasks):
            self.house.cancel(tasks[index])

    @rule(seconds=st.sampled_from([0.5, 2, 10, 30]))
    def advance(self, seconds: float) -> None:
        self.house.loop.advance(seconds)

    @precondition(lambda self: not self.was_cut)
    @rule()
    def cut_the_stream(self) -> None:
        self.was_cut = True
        self.house.network.cut()
        self.house.loop.run_until_idle()

    def look_at(self, task: VirtualTask[Any] | None) -> None:
        """A task that has ended did so for a reason that may be."""
        if task is not None and task.is_done and task.error is not None:
            assert isinstance(task.error, ConnectionClosed | Cancelled), task.error

    @invariant()
    def messages_arrive_in_order_once_and_whole(self) -> None:
        for own, other in (self.sides, self.sides[::-1]):
            assert own.received == other.sent[: len(own.received)]
            for task in own.tasks():
                self.look_at(task)

    @invariant()
    def what_waits_for_a_reader_is_bounded(self) -> None:
        for side in self.sides:
            endpoint = side.endpoint
            # Reading pauses behind a chunk, so one chunk of messages may come on top.
            assert len(endpoint._inbox) <= INBOX_LIMIT + CHUNK // 2
            waiting = endpoint._size + endpoint.session.codec.collected_size
            if side.receiving is None or side.receiving.is_done:
                assert waiting <= INBOX_SIZE + 70_000 + CHUNK
            assert endpoint._messages >= 0
            assert (endpoint._size == 0) or endpoint._inbox

    @invariant()
    def an_end_in_good_order_is_the_same_on_both_sides(self) -> None:
        first, second = (side.endpoint.end for side in self.sides)
        if first is not None and second is not None and first.error is None and second.error is None:
            codes = {end.code for end in (first, second)}
            sent = {side.endpoint.session.codec.close_sent for side in self.sides}
            # When both begin to close at once, each has the other's code (RFC 6455, section 7.1.5).
            assert len(codes) == 1 or len(sent) == 2

    def teardown(self) -> None:
        """What was sent in front of a close arrives; when the connection has ended, so does who waits."""
        if all(side.connection.is_open for side in self.sides):
            self.close_and_read_to_the_end()
        for side in self.sides:
            side.others.append(self.start(side.connection.close()))
        self.house.loop.advance(20)
        for side in self.sides:
            assert side.transport.is_lost
            assert side.endpoint.lost.is_set()
            for task in side.tasks():
                assert task.is_done, task
                self.look_at(task)
        self.messages_arrive_in_order_once_and_whole()
        self.house.close()

    def close_and_read_to_the_end(self) -> None:
        sender, reader = self.sides
        self.send(0, ["last"] * 20, 4001)
        for _ in range(len(sender.sent) - len(reader.received) + 2):
            self.receive(1, 1_000_000)
        assert reader.receiving is not None
        assert isinstance(reader.receiving.error, ConnectionClosed)
        assert reader.receiving.error.code == 4001
        assert reader.received == sender.sent


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

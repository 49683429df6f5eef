"""What holds for every stream and every use: cost, independence of chunks, each input in each state."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stelar_proto.buffer import ReceiveBuffer
from stelar_proto.errors import FrameError, StateError, StreamEnded
from stelar_proto.tcp import Closed, Connection, Dialect, Event, FrameType, State, connection, encode_frame
from stelar_proto.tcp.frames import parse_frames

from .feeding import (
    DISCONNECT_FRAME,
    JSON_EVENT,
    JSON_FRAME,
    PING_EVENT,
    PING_FRAME,
    PONG_FRAME,
    WRONG,
    bytewise,
    comparable,
    error_frame,
    feed,
)

# --- cost ---


class CountingBuffer(ReceiveBuffer):
    """Counts the bytes that are copied in and out."""

    fed = 0
    taken = 0

    def feed(self, data: bytes) -> None:
        self.fed += len(data)
        super().feed(data)

    def take_all(self) -> bytes:
        data = super().take_all()
        self.taken += len(data)
        return data


def counting_connection() -> tuple[Connection, CountingBuffer]:
    conn = Connection()
    conn._buffer = buffer = CountingBuffer()
    return conn, buffer


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the loop was given, each time."""
    looks: list[int] = []

    def counted(
        data: bytes,
        position: int,
        frame_types: tuple[FrameType | None, ...],
        max_frame_size: int,
        events: list[Event],
    ) -> int:
        looks.append(len(data) - position)
        return parse_frames(data, position, frame_types, max_frame_size, events)

    monkeypatch.setattr(connection, "parse_frames", counted)
    return looks


def test_a_large_frame_in_one_byte_chunks_is_looked_at_once_per_rule(looks: list[int]) -> None:
    conn, buffer = counting_connection()
    data = encode_frame(FrameType.BINARY, "file", bytes(100_000 - 11))
    assert len(feed(conn, bytewise(data))) == 1
    # The first byte, the length, the type, the event's length, the event, the whole.
    assert looks == [1, 4, 5, 7, 11, 100_000]
    assert buffer.taken == 4 + 5 + 7 + 11 + 100_000
    assert buffer.fed == 100_000 + 4 + 5 + 7 + 11


def test_pings_in_one_chunk_are_looked_at_once_each(looks: list[int]) -> None:
    conn, buffer = counting_connection()
    assert conn.receive_data(PING_FRAME * 1000 + PING_FRAME[:3]) == [PING_EVENT] * 1000
    assert conn.data_to_send() == PONG_FRAME * 1000
    # From where the loop stops in front of a Ping, the Ping itself, and what is behind it.
    rests = [3 + 7 * behind for behind in range(999, -1, -1)]
    assert looks == [7003, *(look for rest in rests for look in (7, rest))]
    assert buffer.fed == 3


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=8),
    st.integers(1, 4000),
)
def test_each_byte_is_copied_a_bounded_number_of_times(payloads: list[int], chunk_size: int) -> None:
    conn, buffer = counting_connection()
    data = b"".join(encode_frame(FrameType.BINARY, "e", bytes(size)) for size in payloads)
    chunks = [data[i : i + chunk_size] for i in range(0, len(data), chunk_size)]
    assert len(feed(conn, chunks)) == len(payloads)
    # A byte goes through the buffer with its own chunk, and again only if it stands in the first bytes of a
    # frame, up to the end of its event, which are looked at once for each of the four rules about them.
    assert buffer.taken <= 2 * len(data) + 4 * 8 * len(payloads)
    assert buffer.fed <= 3 * len(data) + 4 * 8 * len(payloads)


def test_a_chunk_of_whole_frames_never_goes_through_the_buffer() -> None:
    conn, buffer = counting_connection()
    assert len(conn.receive_data(JSON_FRAME * 64)) == 64
    assert (buffer.fed, buffer.taken) == (0, 0)


def test_a_length_that_is_only_announced_allocates_nothing() -> None:
    conn = Connection(max_frame_size=2**32 - 1)
    tracemalloc.start()
    try:
        assert feed(conn, bytewise(b"\xff\xff\xff\xff\x01\0\0")) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(conn._buffer) == 7
    assert peak < 10_000


# --- properties ---

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
valid = st.builds(encode_frame, st.sampled_from(FrameType), names, st.binary(max_size=30))
damaged = st.builds(
    lambda data, at, byte: data[: at % len(data)] + bytes([byte]) + data[at % len(data) + 1 :],
    valid,
    st.integers(0, 12),
    st.integers(0, 255),
)
streams = st.lists(st.one_of(valid, valid, valid, damaged, st.binary(max_size=9)), max_size=5).map(b"".join)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % len(data) for cut in cuts} | {0, len(data)}) if data else [0]
    return [data[a:b] for a, b in itertools.pairwise(ends)]


@given(streams, st.lists(st.integers(0, 1000), max_size=12), st.sampled_from(Dialect))
def test_the_chunks_make_no_difference(data: bytes, cuts: list[int], dialect: Dialect) -> None:
    whole = Connection(dialect=dialect, max_frame_size=64)
    expected = feed(whole, [data, b""] if data else [b""])
    answer = whole.data_to_send()
    for chunks in (cut(data, cuts), bytewise(data)):
        conn = Connection(dialect=dialect, max_frame_size=64)
        assert comparable(feed(conn, [*chunks, b""])) == comparable(expected)
        assert conn.data_to_send() == answer


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_garbage_is_never_raised_and_closed_comes_once_and_last(chunks: list[bytes]) -> None:
    conn = Connection()
    events = feed(conn, [*chunks, b"", b"more"])
    assert [isinstance(event, Closed) for event in events] == [False] * (len(events) - 1) + [True]


@given(
    st.lists(st.tuples(st.sampled_from(FrameType), names, st.binary(max_size=30)), max_size=6),
    st.lists(st.integers(0, 1000), max_size=12),
    st.sampled_from(Dialect),
)
def test_what_one_connection_sends_the_other_receives(
    frames: list[tuple[FrameType, str, bytes]], cuts: list[int], dialect: Dialect
) -> None:
    sender, receiver = Connection(dialect=dialect), Connection(dialect=dialect)
    for frame in frames:
        sender.send_frame(*frame)
    sender.close()
    assert feed(receiver, [*cut(sender.data_to_send(), cuts), b""]) == [*frames, Closed(None)]


class ConnectionMachine(RuleBasedStateMachine):
    """Every input in every state, against a model that knows only the table in the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.conn = Connection()
        self.state = State.OPEN
        self.inside_frame = False
        self.to_send = b""
        self.last_words = b""

    def receive(self, data: bytes, frames: list[Event], closed: type[Exception] | None = None) -> None:
        events = self.conn.receive_data(data)
        if self.state is State.CLOSED:
            assert events == []
            return
        assert events[: len(frames)] == frames
        assert [type(event) for event in events[len(frames) :]] == ([Closed] if closed else [])
        if closed:
            *_, last = events
            assert isinstance(last, Closed)
            assert type(last.error) is closed
            self.state = State.CLOSED

    @precondition(lambda self: not self.inside_frame)
    @rule()
    def receive_frames(self) -> None:
        self.to_send += PONG_FRAME * (self.state is State.OPEN)
        self.receive(JSON_FRAME + PING_FRAME, [JSON_EVENT, PING_EVENT])

    @precondition(lambda self: not self.inside_frame)
    @rule(size=st.integers(1, len(JSON_FRAME) - 1))
    def receive_beginning(self, size: int) -> None:
        self.receive(JSON_FRAME[:size], [])
        self.inside_frame = True
        self.rest = JSON_FRAME[size:]

    @precondition(lambda self: self.inside_frame)
    @rule()
    def receive_rest(self) -> None:
        self.receive(self.rest, [JSON_EVENT])
        self.inside_frame = False

    @precondition(lambda self: not self.inside_frame)
    @rule(wrong=st.sampled_from(WRONG[:2] + WRONG[4:]))
    def receive_wrong_frame(self, wrong: tuple[str, str, bytes]) -> None:
        _, code, data = wrong
        if self.state is State.OPEN:
            self.last_words = error_frame(code)
        self.receive(JSON_FRAME + data + JSON_FRAME, [JSON_EVENT], FrameError)

    @rule()
    def receive_end(self) -> None:
        self.receive(b"", [], StreamEnded if self.inside_frame else type(None))  # type: ignore[arg-type]

    @rule()
    def send(self) -> None:
        assert self.conn.can_send is (self.state is State.OPEN or self.last_words != b"")
        if self.conn.can_send:
            self.conn.send_frame(FrameType.JSON, "chat", b"null")
            self.to_send += JSON_FRAME
        else:
            with pytest.raises(StateError):
                self.conn.send_frame(FrameType.JSON, "chat", b"null")

    @rule(ending=st.sampled_from(["close", "disconnect", "fail"]))
    def end(self, ending: str) -> None:
        last = {"close": b"", "disconnect": DISCONNECT_FRAME, "fail": error_frame("words")}[ending]
        if ending == "fail":
            self.conn.fail("words")
        else:
            getattr(self.conn, ending)()
        if self.state is State.OPEN:
            self.to_send += last
            self.state = State.CLOSING

    @rule()
    def flush(self) -> None:
        assert self.conn.data_to_send() == self.to_send + self.last_words
        self.to_send = self.last_words = b""

    @invariant()
    def states_agree(self) -> None:
        assert self.conn.state is self.state
        assert self.conn.wants_eof is (self.state is not State.OPEN and self.to_send + self.last_words == b"")

    def teardown(self) -> None:
        self.flush()


TestEveryInputInEveryState = ConnectionMachine.TestCase
TestEveryInputInEveryState.settings = settings(max_examples=100, stateful_step_count=12, deadline=None)

"""One direction of a connection: everything arrives once and in order, however it is cut, and is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stelar_proto.testing import ChunkSize
from stelar_proto.testing.pipe import Pipe


def read_all(pipe: Pipe) -> list[bytes]:
    chunks = []
    while (chunk := pipe.read()) is not None:
        chunks.append(chunk)
    return chunks


def told(pipe: Pipe) -> list[str]:
    log: list[str] = []
    pipe.on_arrival = lambda: log.append("arrival")
    pipe.on_room = lambda: log.append("room")
    pipe.on_cut = lambda: log.append("cut")
    return log


# --- Chunks -------------------------------------------------------------------------------------------------


def test_each_write_comes_as_it_was_written_and_the_end_comes_once() -> None:
    pipe = Pipe(capacity=100)
    assert pipe.read() is None
    for data in (b"one", b"two"):
        assert pipe.write(data) == b""
    pipe.end()
    assert read_all(pipe) == [b"one", b"two", b""]
    assert not pipe.is_readable


@pytest.mark.parametrize(
    ("chunk_size", "chunks"),
    [
        (1, [b"o", b"n", b"e", b"t", b"w", b"o", b""]),
        (4, [b"onet", b"wo", b""]),
        (100, [b"onetwo", b""]),
        (lambda waiting: waiting - 1, [b"onetw", b"o", b""]),
        (lambda waiting: 0, [b"o", b"n", b"e", b"t", b"w", b"o", b""]),  # no chunk is empty
    ],
)
def test_or_in_the_pieces_that_are_asked_for(chunk_size: ChunkSize, chunks: list[bytes]) -> None:
    pipe = Pipe(capacity=100, chunk_size=chunk_size)
    pipe.write(b"one")
    pipe.write(b"two")
    pipe.end()
    assert read_all(pipe) == chunks


@given(
    writes=st.lists(st.binary(max_size=50)),
    capacity=st.integers(1, 60),
    seed=st.one_of(st.none(), st.integers()),
)
def test_what_is_read_is_what_was_written(writes: list[bytes], capacity: int, seed: int | None) -> None:
    random = Random(seed)
    pipe = Pipe(
        capacity=capacity, chunk_size=None if seed is None else lambda waiting: random.randint(1, waiting)
    )
    read = b""
    for data in writes:
        rest = data
        while rest := pipe.write(rest):
            read += pipe.read() or b""
    pipe.end()
    assert read + b"".join(read_all(pipe)) == b"".join(writes)


# --- Its bound ----------------------------------------------------------------------------------------------


def test_a_full_pipe_takes_nothing_until_half_of_it_is_free() -> None:
    pipe = Pipe(capacity=4, chunk_size=1)
    log = told(pipe)
    assert pipe.write(b"123456") == b"56"
    assert pipe.is_full
    assert pipe.write(b"5") == b"5"
    assert pipe.read() == b"1"
    assert (pipe.is_full, log) == (True, ["arrival"])
    assert pipe.read() == b"2"
    assert (pipe.is_full, log) == (False, ["arrival", "room"])
    assert pipe.write(b"56") == b""
    assert read_all(pipe) == [b"3", b"4", b"5", b"6"]


# --- On the way ---------------------------------------------------------------------------------------------


def test_what_is_on_its_way_counts_and_arrives_when_it_is_let() -> None:
    travelling: deque[Callable[[], None]] = deque()
    pipe = Pipe(capacity=4, travel=travelling.append)
    log = told(pipe)
    assert pipe.write(b"1234") == b""
    pipe.end()
    assert (pipe.is_full, pipe.has_unread, pipe.is_readable, log) == (True, True, False, [])
    travelling.popleft()()
    assert (pipe.read(), pipe.read()) == (b"1234", None)
    travelling.popleft()()
    assert pipe.read() == b""
    assert log == ["arrival", "room", "arrival"]


def test_what_is_held_arrives_when_it_is_released_and_in_order() -> None:
    pipe = Pipe(capacity=10)
    log = told(pipe)
    pipe.write(b"1")
    pipe.hold()
    pipe.write(b"2")
    pipe.end()
    pipe.cut()
    assert (read_all(pipe), log) == ([b"1"], ["arrival"])
    pipe.release()
    assert read_all(pipe) == [b"2", b""]
    assert log == ["arrival", "arrival", "arrival", "cut", "room"]


# --- The end ------------------------------------------------------------------------------------------------


def test_a_cut_comes_behind_what_was_written() -> None:
    pipe = Pipe(capacity=10)
    log = told(pipe)
    pipe.write(b"last words")
    pipe.cut()
    assert (pipe.is_closed, log) == (False, ["arrival"])
    assert pipe.read() == b"last words"
    assert (pipe.is_closed, log) == (True, ["arrival", "room", "cut", "room"])
    assert pipe.read() is None


def test_breaking_off_loses_what_is_unread() -> None:
    pipe = Pipe(capacity=10)
    log = told(pipe)
    pipe.write(b"lost")
    pipe.end()
    pipe.break_off()
    pipe.break_off()
    assert (read_all(pipe), pipe.has_unread, log) == ([], False, ["arrival", "arrival", "cut", "room"])


def test_what_nobody_will_read_is_lost_and_the_writer_can_know() -> None:
    pipe = Pipe(capacity=2)
    log = told(pipe)
    pipe.write(b"12")
    pipe.close()
    assert (pipe.is_full, pipe.is_broken, log) == (False, True, ["arrival", "room"])
    assert pipe.write(b"345") == b""
    pipe.end()
    assert read_all(pipe) == []


def test_behind_a_silent_network_the_writer_cannot_know() -> None:
    pipe = Pipe(capacity=2)
    pipe.hold()
    pipe.close()
    assert (pipe.is_closed, pipe.is_broken) == (True, False)
    assert pipe.write(b"into the void") == b""
    pipe.release()
    assert pipe.is_broken


class Model(RuleBasedStateMachine):
    """Any order of calls: what is read is what was written, and no more waits than there is room for."""

    def __init__(self) -> None:
        super().__init__()
        self.travelling: deque[Callable[[], None]] = deque()
        self.random = Random(0)
        self.pipe = Pipe(capacity=20, chunk_size=self.chunk_size, travel=self.travelling.append)
        self.pipe.on_cut = self.note_cut
        self.written = self.read = b""
        self.ends = self.cuts = 0
        self.ended = self.was_cut = False

    def chunk_size(self, waiting: int) -> int:
        assert waiting > 0
        return self.random.randint(1, waiting)

    def note_cut(self) -> None:
        self.cuts += 1
        assert self.was_cut
        assert not self.pipe.is_readable

    @precondition(lambda self: not self.ended and not self.was_cut)
    @rule(data=st.binary(min_size=1, max_size=30))
    def write(self, data: bytes) -> None:
        rest = self.pipe.write(data)
        assert data.endswith(rest)
        self.written += data[: len(data) - len(rest)]

    @precondition(lambda self: not self.ended and not self.was_cut)
    @rule()
    def end(self) -> None:
        self.ended = True
        self.pipe.end()

    @precondition(lambda self: not self.was_cut)
    @rule()
    def cut(self) -> None:
        self.was_cut = True
        self.pipe.cut()

    @rule()
    def arrive(self) -> None:
        if self.travelling:
            self.travelling.popleft()()

    @rule()
    def hold(self) -> None:
        self.pipe.hold()

    @rule()
    def release(self) -> None:
        self.pipe.release()

    @rule()
    def take(self) -> None:
        is_readable = self.pipe.is_readable
        chunk = self.pipe.read()
        assert (chunk is not None) == is_readable
        self.read += chunk or b""
        if chunk == b"":
            self.ends += 1
            assert self.ended
            assert self.read == self.written

    @invariant()
    def all_is_in_order_and_bounded(self) -> None:
        assert self.written.startswith(self.read)
        assert self.ends <= 1
        assert self.cuts <= 1
        if not self.pipe.is_closed:
            assert self.pipe.has_unread == (len(self.written) > len(self.read))
            assert len(self.written) - len(self.read) <= 20

    def teardown(self) -> None:
        self.pipe.release()
        while self.travelling:
            self.arrive()
        while self.pipe.is_readable:
            self.take()
        assert self.read == self.written
        assert (self.ends, self.cuts) == (self.ended, self.was_cut)


TestModel = Model.TestCase

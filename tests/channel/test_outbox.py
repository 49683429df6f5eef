"""What waits to be sent: in order, bounded, and leaving in few writes."""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stelar_proto.channel import Outbox
from stelar_proto.channel.outbox import FRAME_COST as COST

WRITE = 64 * 1024


def test_many_small_frames_leave_in_one_write() -> None:
    outbox = Outbox(1000)
    for frame in (b"a", b"bc", b"d"):
        assert outbox.push(frame)
    assert (len(outbox), outbox.size) == (3, 4 + 3 * COST)
    assert outbox.take() == b"abcd"
    assert outbox.take() == b""
    assert (len(outbox), outbox.size) == (0, 0)


def test_a_frame_alone_leaves_as_it_is_without_a_copy() -> None:
    outbox = Outbox(1 << 30)
    frame = bytes(1 << 20)
    outbox.push(frame)
    assert outbox.take() is frame


def test_a_write_has_about_64_kib_or_one_larger_frame() -> None:
    outbox = Outbox(1 << 30)
    frames = [b"a" * WRITE, b"b", b"c" * (WRITE - 1), b"d", b"e" * (WRITE + 1), b"f", b"g" * WRITE]
    for frame in frames:
        outbox.push(frame)
    writes = list(iter(outbox.take, b""))
    assert [len(write) for write in writes] == [WRITE, WRITE, 1, WRITE + 1, 1, WRITE]
    assert b"".join(writes) == b"".join(frames)


def test_a_frame_that_does_not_fit_is_not_taken() -> None:
    outbox = Outbox(10 + COST)
    assert outbox.largest == 10
    assert outbox.push(b"x" * 10)
    assert not outbox.push(b"")
    assert (len(outbox), outbox.size) == (1, 10 + COST)
    assert outbox.take() == b"x" * 10
    assert outbox.push(b"y")
    assert not Outbox(10 + COST).push(b"x" * 11)


def test_a_million_small_frames_take_no_more_memory_than_they_count_for() -> None:
    def fill() -> Outbox:
        outbox = Outbox(1 << 20)
        number = 0
        while outbox.push(number.to_bytes(8)):
            number += 1
        assert len(outbox) == number > 10_000
        return outbox

    tracemalloc.start()
    try:
        outbox = fill()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.05 * outbox.limit


def test_congestion_begins_above_the_high_mark_and_ends_at_the_low_one() -> None:
    outbox = Outbox(1 << 30)
    outbox.push(b"a" * (WRITE - COST))
    assert not outbox.congested
    outbox.push(b"b" * (16 * 1024 + 1 - COST))
    assert outbox.congested
    outbox.take()
    assert outbox.congested  # 16 KiB and one byte are left
    outbox.take()
    assert not outbox.congested
    outbox.push(b"c" * (16 * 1024))
    assert not outbox.congested


def test_congestion_ends_at_exactly_the_low_mark() -> None:
    outbox = Outbox(1 << 30)
    outbox.push(b"a" * WRITE)
    outbox.push(b"b" * (16 * 1024 - COST))
    assert outbox.congested
    outbox.take()
    assert (outbox.size, outbox.congested) == (16 * 1024, False)


@pytest.mark.parametrize("limit", [200, 1000, 64 * 1024, 100_000])
def test_a_small_outbox_is_congested_before_it_is_full(limit: int) -> None:
    outbox = Outbox(limit)
    outbox.push(b"x" * (limit // 2 - COST))
    assert not outbox.congested
    assert outbox.push(b"y")
    assert outbox.congested
    outbox.take()
    assert not outbox.congested


def test_clearing_counts_the_frames_that_are_lost() -> None:
    outbox = Outbox(1050)
    for _ in range(3):
        outbox.push(b"x" * 300)
    assert outbox.congested
    assert outbox.clear() == 3
    assert (len(outbox), outbox.size, outbox.congested, outbox.take()) == (0, 0, False, b"")
    assert outbox.clear() == 0


def cost_of(frames: Iterable[bytes]) -> int:
    return sum(len(frame) + COST for frame in frames)


@given(
    st.integers(1, 300_000),
    st.lists(st.none() | st.integers(1, 100_000), max_size=60),
)
def test_what_was_taken_leaves_in_order_within_the_bound(limit: int, steps: list[int | None]) -> None:
    outbox = Outbox(limit)
    waiting: deque[bytes] = deque()
    congested = False
    for number, size in enumerate(steps):
        if size is not None:
            frame = bytes((number,)) * size
            fits = cost_of(waiting) + size + COST <= limit
            assert outbox.push(frame) is fits
            if fits:
                waiting.append(frame)
        else:
            data = outbox.take()
            taken = b""
            while waiting and len(taken) < len(data):
                taken += waiting.popleft()
            assert data == taken
            assert bool(data) or not waiting
        held = cost_of(waiting)
        congested = held > min(64 * 1024, limit // 2) or (congested and held > min(16 * 1024, limit // 8))
        assert (outbox.size, len(outbox), outbox.congested) == (held, len(waiting), congested)


def test_append_takes_a_frame_whatever_the_limit_and_tells_that_it_is_congested() -> None:
    outbox = Outbox(1000, high_water=100 + COST, low_water=10)
    outbox.append(b"x" * 100)
    assert not outbox.congested
    outbox.append(b"y" * 5000)
    assert outbox.congested
    assert outbox.size == 5100 + 2 * COST
    assert not outbox.push(b"z")  # which keeps to the limit still
    assert not outbox.has_room_for(b"z")
    assert outbox.take() == b"x" * 100 + b"y" * 5000
    assert not outbox.congested
    assert outbox.has_room_for(b"z" * (1000 - COST))


def test_what_is_kept_leaves_in_its_turn_and_is_never_dropped() -> None:
    outbox = Outbox(10 + 4 * COST)
    outbox.push(b"aaa")
    outbox.keep(b"K")
    outbox.push(b"bbb")
    outbox.push(b"ccc")
    assert (len(outbox), outbox.size, outbox.kept_size) == (4, 10 + 4 * COST, 1 + COST)
    assert outbox.make_room_for(b"dddd") == 2
    outbox.push(b"dddd")
    assert outbox.take() == b"Kcccdddd"
    assert (len(outbox), outbox.size, outbox.kept_size, outbox.taken) == (0, 0, 0, 8)


def test_nothing_is_dropped_where_that_would_not_help() -> None:
    outbox = Outbox(10 + 2 * COST)
    outbox.keep(b"KKKKK")
    outbox.push(b"aaa")
    assert outbox.make_room_for(b"x" * 6) == 0
    assert outbox.make_room_for(b"x" * 5) == 1
    assert outbox.take() == b"KKKKK"


def test_what_was_taken_and_waits_for_the_system_counts_still() -> None:
    outbox = Outbox(1000, high_water=300, low_water=100)
    outbox.push(b"x" * 400)
    assert outbox.take() == b"x" * 400
    outbox.note_unsent(350)
    assert (outbox.size, outbox.unsent, outbox.congested, len(outbox)) == (350, 350, True, 0)
    assert not outbox.has_room_for(b"y" * (1000 - 350 - COST + 1))
    assert outbox.push(b"y" * (1000 - 350 - COST))
    # It cannot be dropped any more: where it alone takes the room, nothing else is.
    assert outbox.make_room_for(b"z" * (1000 - 350 - COST + 1)) == 0
    assert outbox.make_room_for(b"z") == 1
    assert outbox.size == 350
    outbox.note_unsent(101)
    assert (outbox.size, outbox.congested) == (101, True)
    outbox.note_unsent(0)
    assert (outbox.size, outbox.unsent, outbox.congested) == (0, 0, False)
    outbox.note_unsent(5)
    assert outbox.clear() == 0
    assert (outbox.size, outbox.unsent) == (0, 0)


def test_what_is_kept_is_taken_whatever_the_limit_and_congests() -> None:
    outbox = Outbox(1000, high_water=100 + COST, low_water=10)
    outbox.keep(b"x" * 100)
    assert not outbox.congested
    outbox.keep(b"y" * 2000)
    assert (outbox.size, outbox.congested) == (2100 + 2 * COST, True)
    assert outbox.clear() == 0
    assert (outbox.size, outbox.kept_size, outbox.congested) == (0, 0, False)


def test_a_write_of_both_kinds_has_about_64_kib_or_one_larger_frame() -> None:
    outbox = Outbox(1 << 30)
    outbox.keep(b"K" * (WRITE + 1))
    outbox.push(b"a" * WRITE)
    outbox.keep(b"k")
    outbox.push(b"b" * (WRITE - 1))
    assert [len(write) for write in iter(outbox.take, b"")] == [WRITE + 1, WRITE, WRITE]


class Naive:
    """The same with a list: each frame, whether it is kept, and whether it is a message."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.frames: list[tuple[bytes, bool, bool]] = []
        self.unsent = 0

    @property
    def size(self) -> int:
        return cost_of(frame for frame, _, _ in self.frames) + self.unsent

    @property
    def kept_size(self) -> int:
        return cost_of(frame for frame, is_kept, _ in self.frames if is_kept)

    def make_room_for(self, frame: bytes) -> int:
        if self.kept_size + self.unsent + len(frame) + COST > self.limit:
            return 0
        dropped = 0
        while self.size + len(frame) + COST > self.limit:
            oldest = next(entry for entry in self.frames if not entry[1])
            self.frames.remove(oldest)
            dropped += 1
        return dropped

    def take(self) -> bytes:
        data = b""
        while self.frames and (not data or len(data) + len(self.frames[0][0]) <= WRITE):
            data += self.frames.pop(0)[0]
        return data


@given(
    st.integers(1, 300_000),
    st.lists(
        st.tuples(
            st.sampled_from(["push", "make room", "keep", "take", "unsent", "clear"]), st.integers(1, 100_000)
        ),
        max_size=60,
    ),
)
@example(
    100_000,
    [("push", 60_000), ("keep", 10), ("push", 30_000), ("make room", 50_000), ("take", 1), ("keep", 5)],
)
def test_both_kinds_leave_in_order_within_the_bound_as_with_a_list(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    outbox, naive, taken = Outbox(limit), Naive(limit), 0
    for number, (step, size) in enumerate(steps):
        frame = bytes((number,)) * size
        match step:
            case "take":
                data = outbox.take()
                assert data == naive.take()
                taken += len(data)
            case "clear":
                assert outbox.clear() == sum(is_message for _, _, is_message in naive.frames)
                naive.frames.clear()
                naive.unsent = 0
            case "unsent":
                naive.unsent = size % 1000
                outbox.note_unsent(naive.unsent)
            case "keep":
                is_message = size % 2 > 0
                outbox.keep(frame, is_message=is_message)
                naive.frames.append((frame, True, is_message))
            case _:
                if step == "make room":
                    assert outbox.make_room_for(frame) == naive.make_room_for(frame)
                fits = naive.size + size + COST <= limit
                assert outbox.has_room_for(frame) is fits
                assert outbox.push(frame) is fits
                if fits:
                    naive.frames.append((frame, False, True))
        held = naive.size
        assert (outbox.size, len(outbox), outbox.taken) == (held, len(naive.frames), taken)
        assert outbox.kept_size == naive.kept_size
        if step in ("take", "unsent", "clear") and held <= min(16 * 1024, limit // 8):
            assert not outbox.congested

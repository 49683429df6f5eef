from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.buffer import ReceiveBuffer


class CountingBytes(bytearray):
    """Counts the bytes that searches look at."""

    searched = 0

    def find(self, *arguments: object) -> int:
        delimiter, start = arguments
        assert isinstance(delimiter, bytes)
        assert isinstance(start, int)
        found = super().find(delimiter, start)
        self.searched += (found if found >= 0 else len(self)) - start
        return found


def filled(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    return buffer


def counting() -> tuple[ReceiveBuffer, CountingBytes]:
    buffer = ReceiveBuffer()
    buffer._data = data = CountingBytes()
    return buffer, data


def test_a_new_buffer_is_empty() -> None:
    assert len(ReceiveBuffer()) == 0
    assert ReceiveBuffer().take_all() == b""


def test_what_is_fed_comes_out_in_order_and_once() -> None:
    buffer = filled(b"abc")
    buffer.feed(b"def")
    assert len(buffer) == 6
    assert buffer.take(2) == b"ab"
    assert buffer.take(3) == b"cde"
    assert buffer.take_all() == b"f"
    assert buffer.take_all() == b""


@pytest.mark.parametrize("size", [3, 4, 1000])
def test_taking_as_much_as_there_is_or_more_empties_the_buffer(size: int) -> None:
    buffer = filled(b"abc")
    assert buffer.take(size) == b"abc"
    assert len(buffer) == 0


def test_what_is_taken_is_immutable_bytes() -> None:
    buffer = filled(b"abc")
    assert type(buffer.take(1)) is bytes
    assert type(buffer.take_all()) is bytes


def test_its_repr_names_the_size_and_not_the_content() -> None:
    assert repr(filled(b"secret")) == "<ReceiveBuffer of 6 bytes>"


@pytest.mark.parametrize("cut", range(10))
def test_a_delimiter_is_found_wherever_it_was_split(cut: int) -> None:
    data = b"head\r\n\r\nbo"
    buffer = filled(data[:cut])
    assert buffer.find(b"\r\n\r\n") == (4 if cut >= 8 else -1)
    buffer.feed(data[cut:])
    assert buffer.find(b"\r\n\r\n") == 4


def test_a_found_delimiter_is_found_again_until_it_is_taken() -> None:
    buffer = filled(b"a\nb\n")
    assert buffer.find(b"\n") == 1
    assert buffer.find(b"\n") == 1
    assert buffer.take(2) == b"a\n"
    assert buffer.find(b"\n") == 1
    assert buffer.take(2) == b"b\n"
    assert buffer.find(b"\n") == -1


def test_a_search_for_another_delimiter_does_not_trust_the_last_one() -> None:
    buffer = filled(b"a\r")
    assert buffer.find(b"\n") == -1
    buffer.feed(b"\n\r\n")
    assert buffer.find(b"\r\n\r\n") == 1


def test_a_delimiter_that_comes_a_byte_at_a_time_costs_one_scan() -> None:
    buffer, data = counting()
    for _ in range(1000):
        buffer.feed(b"x")
        assert buffer.find(b"\r\n\r\n") == -1
    # Each search looks at the new byte and at the three before it that could have been a beginning.
    assert data.searched <= 4 * 1000


def test_what_has_been_searched_is_not_searched_again_after_a_take() -> None:
    buffer, data = counting()
    buffer.feed(b"x" * 1000)
    assert buffer.find(b"\n") == -1
    assert data.searched == 1000
    assert buffer.take(400) == b"x" * 400
    assert buffer.find(b"\n") == -1
    assert data.searched == 1000
    assert buffer.take_all() == b"x" * 600
    buffer.feed(b"\n")
    assert buffer.find(b"\n") == 0


operations = st.one_of(
    st.tuples(st.just("feed"), st.text("ab", max_size=6).map(str.encode)),
    st.tuples(st.just("find"), st.sampled_from([b"a", b"ab", b"aab"])),
    st.tuples(st.just("take"), st.integers(0, 8)),
    st.tuples(st.just("take_all"), st.none()),
)


@given(st.lists(operations, max_size=30))
def test_it_behaves_like_plain_bytes(steps: list[tuple[str, bytes | int | None]]) -> None:
    buffer = ReceiveBuffer()
    model = b""
    for name, argument in steps:
        if name == "feed":
            assert isinstance(argument, bytes)
            buffer.feed(argument)
            model += argument
        elif name == "find":
            assert isinstance(argument, bytes)
            assert buffer.find(argument) == model.find(argument)
        elif name == "take":
            assert isinstance(argument, int)
            assert buffer.take(argument) == model[:argument]
            model = model[argument:]
        else:
            assert buffer.take_all() == model
            model = b""
        assert len(buffer) == len(model)

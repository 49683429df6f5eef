"""``send`` and ``send_fragments``: what leaves, who waits, and what is left of a call that does not end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from stelar_proto.errors import ConnectionClosed, MessageError
from tests.plain.house import BINARY, CLOSE, PING, PONG, TEXT, House
from tests.support.virtual import Cancelled, VirtualEvent

KIB = 1024
INTERNAL_ERROR = b"\x03\xf3a message could not be ended"


def test_text_leaves_as_text_and_everything_else_as_binary(house: House) -> None:
    connection, peer = house.open()
    for message in ("hola", "", b"\x00\xff", b"", bytearray(b"array"), memoryview(b"view")):
        house.run(connection.send(message))
    assert peer.heard() == [
        (TEXT, b"hola"),
        (TEXT, b""),
        (BINARY, b"\x00\xff"),
        (BINARY, b""),
        (BINARY, b"array"),
        (BINARY, b"view"),
    ]


@pytest.mark.parametrize("wrong", [None, 1, object()])
def test_what_is_no_message_is_a_type_error_and_costs_nothing(house: House, wrong: Any) -> None:
    connection, peer = house.open()
    with pytest.raises(TypeError, match=r"^a message is str or bytes, not \w+$"):
        house.run(connection.send(wrong))
    house.run(connection.send("still here"))
    assert peer.heard() == [(TEXT, b"still here")]


def test_several_messages_are_a_type_error_that_names_send_fragments(house: House) -> None:
    connection, _ = house.open()
    wrong: Any = ["a", "b"]
    with pytest.raises(TypeError, match=r"not list; send_fragments\(\) sends several as one message"):
        house.run(connection.send(wrong))


def test_one_message_as_fragments_is_a_type_error(house: House) -> None:
    connection, peer = house.open()
    for wrong in ("a text is an iterable of texts", b"and bytes of numbers"):
        with pytest.raises(TypeError, match=r"send\(\) sends one message as one"):
            house.run(connection.send_fragments(wrong))  # type: ignore[arg-type]  # which only bytes shows
    house.run(connection.send("still here"))
    assert peer.heard() == [(TEXT, b"still here")]


def test_a_lone_surrogate_is_a_message_error_and_costs_nothing(house: House) -> None:
    connection, peer = house.open()
    with pytest.raises(MessageError, match="surrogate"):
        house.run(connection.send("\ud800"))
    house.run(connection.send("ok"))
    assert peer.heard() == [(TEXT, b"ok")]


# --- A peer that does not read ------------------------------------------------------------------------------


def test_send_waits_above_the_high_water_mark_and_goes_on_at_the_low_one(house: House) -> None:
    connection, peer = house.open()
    peer.stream.stop_reading()
    for _ in range(4):
        house.run(connection.send(b"x" * (16 * KIB)))  # 64 KiB and the headers: the last is over the mark
    task = house.start(connection.send(b"waits"))
    house.loop.advance(1)
    assert not task.is_done
    peer.stream.read_on()
    assert task.result() is None
    assert [payload for _, payload in peer.heard()] == [b"x" * (16 * KIB)] * 4 + [b"waits"]


def test_a_message_of_any_size_is_sent_when_nothing_waits(house: House) -> None:
    connection, peer = house.open(outbox_limit=KIB)
    peer.stream.stop_reading()
    house.run(connection.send(b"x" * (1024 * KIB)))
    task = house.start(connection.send(b"y"))
    assert not task.is_done
    peer.stream.read_on()
    assert [len(payload) for _, payload in peer.heard()] == [1024 * KIB, 1]


def test_a_cancelled_send_has_sent_nothing_and_the_connection_goes_on(house: House) -> None:
    connection, peer = house.open()
    peer.stream.stop_reading()
    house.run(connection.send(b"x" * (65 * KIB)))
    task = house.start(connection.send(b"never"))
    house.cancel(task)
    with pytest.raises(Cancelled):
        task.result()
    peer.stream.read_on()
    house.run(connection.send(b"after"))
    assert [payload[:5] for _, payload in peer.heard()] == [b"xxxxx", b"after"]


def test_many_senders_send_whole_messages_each_once_and_wait_again(house: House) -> None:
    connection, peer = house.open()
    peer.stream.stop_reading()
    messages = [bytes([number]) * (30 * KIB) for number in range(20)]
    tasks = [house.start(connection.send(message)) for message in messages]
    assert [task.is_done for task in tasks] == [True] * 3 + [False] * 17
    peer.stream.read_on()
    assert all(task.is_done for task in tasks)
    assert sorted(payload for _, payload in peer.heard()) == messages
    assert max(peer.stream.writes) < 70 * KIB


def test_a_sender_that_waits_hears_that_the_connection_ended(house: House) -> None:
    connection, peer = house.open()
    peer.stream.stop_reading()
    house.run(connection.send(b"x" * (65 * KIB)))
    tasks = [house.start(connection.send(b"y")) for _ in range(3)]
    peer.stream.reset()
    for task in tasks:
        with pytest.raises(ConnectionClosed, match="1006"):
            task.result()


def test_a_sender_that_waits_hears_of_a_close_of_ours(house: House) -> None:
    connection, peer = house.open(close_timeout=2)
    peer.stream.stop_reading()
    house.run(connection.send(b"x" * (65 * KIB)))
    task = house.start(connection.send(b"never"))
    closing = house.start(connection.close(4000, "enough"))
    peer.stream.read_on()
    with pytest.raises(ConnectionClosed) as caught:
        task.result()
    assert caught.value.sent == (4000, "enough")
    assert peer.heard()[1:] == [(CLOSE, b"\x0f\xa0enough")]
    assert not closing.is_done


def test_send_on_a_closing_connection_raises_what_we_closed_with(house: House) -> None:
    connection, _ = house.open()
    house.start(connection.close(4000, "enough"))
    for call in (connection.send("late"), connection.send_fragments(["late"]), connection.ping()):
        with pytest.raises(ConnectionClosed) as caught:
            house.run(call)
        assert (caught.value.code, caught.value.reason) == (4000, "enough")
        assert (caught.value.received, caught.value.sent) == (None, (4000, "enough"))


def test_send_on_a_closed_connection_raises_how_it_ended(house: House) -> None:
    connection, peer = house.open()
    peer.close(3001, b"bye")
    for call in (connection.send("late"), connection.send_fragments(["late"]), connection.ping()):
        with pytest.raises(ConnectionClosed, match="3001: bye"):
            house.run(call)


def test_send_waits_too_for_a_peer_that_has_ended_and_does_not_read(house: House) -> None:
    """What came in front of the end is still answered then; answers are held back like anything else."""
    connection, peer = house.open(close_timeout=4)
    peer.stream.stop_reading()
    house.run(connection.send(b"x" * (65 * KIB)))
    peer.stream.send(peer.frame(TEXT, b"one") + peer.frame(TEXT, b"two") + peer.frame(0x83))
    assert house.run(connection.recv()) == "one"
    task = house.start(connection.send("answer"))
    parts = house.start(connection.send_fragments(["answer"]))
    assert not task.is_done
    assert not parts.is_done
    peer.stream.read_on()
    assert task.is_done
    assert parts.is_done
    assert [first for first, _ in peer.heard()] == [BINARY, TEXT, TEXT]
    house.loop.advance(2)  # half of close_timeout
    assert peer.heard()[0][1][:2] == b"\x03\xea"


def test_a_held_connection_whose_peer_never_reads_ends_in_its_time(house: House) -> None:
    connection, peer = house.open(close_timeout=4)
    peer.stream.stop_reading()
    house.run(connection.send(b"x" * (65 * KIB)))
    peer.stream.send(peer.frame(TEXT, b"one") + peer.frame(0x83))
    task = house.start(connection.send("answer"))
    assert not task.is_done
    house.loop.advance(2)
    with pytest.raises(ConnectionClosed, match="1002"):
        task.result()
    house.loop.advance(2)
    assert house.start(connection.wait_closed()).is_done


# --- One message in fragments -------------------------------------------------------------------------------


async def later(*fragments: Any) -> AsyncIterator[Any]:
    for fragment in fragments:
        yield fragment


@pytest.mark.parametrize("is_async", [False, True])
def test_fragments_leave_one_frame_each(house: House, is_async: bool) -> None:
    connection, peer = house.open()
    messages: list[list[Any]] = [["a", "ñ", ""], [b"1", bytearray(b"2"), memoryview(b"3")]]
    for fragments in messages:
        house.run(connection.send_fragments(later(*fragments) if is_async else fragments))
    assert peer.heard() == [
        (0x01, b"a"),
        (0x00, b"\xc3\xb1"),
        (0x80, b""),
        (0x02, b"1"),
        (0x00, b"2"),
        (0x80, b"3"),
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_one_fragment_is_a_whole_message_and_none_is_an_empty_one(house: House, is_async: bool) -> None:
    connection, peer = house.open()
    for fragments in (["only"], [b"only"], []):
        house.run(connection.send_fragments(later(*fragments) if is_async else fragments))
    assert peer.heard() == [(TEXT, b"only"), (BINARY, b"only"), (BINARY, b"")]


class Gate:
    """An asynchronous iterable that gives each fragment when it is told to."""

    def __init__(self) -> None:
        self.fragments: list[Any] = []
        self.changed = VirtualEvent()
        self.is_over = False

    def give(self, house: House, *fragments: Any, is_over: bool = False) -> None:
        self.fragments += fragments
        self.is_over = is_over
        changed, self.changed = self.changed, VirtualEvent()
        changed.set()
        house.loop.run_until_idle()

    def __aiter__(self) -> Gate:
        return self

    async def __anext__(self) -> Any:
        while not self.fragments and not self.is_over:
            await self.changed.wait()
        if self.fragments:
            return self.fragments.pop(0)
        raise StopAsyncIteration


def test_a_fragment_leaves_when_the_next_is_there(house: House) -> None:
    connection, peer = house.open()
    gate = Gate()
    task = house.start(connection.send_fragments(gate))
    gate.give(house, "a", "b")
    assert peer.heard() == [(0x01, b"a")]
    gate.give(house, "c")
    assert peer.heard() == [(0x00, b"b")]
    gate.give(house, is_over=True)
    assert peer.heard() == [(0x80, b"c")]
    assert task.is_done


def test_others_who_send_wait_until_the_message_has_ended(house: House) -> None:
    connection, peer = house.open()
    gate = Gate()
    house.start(connection.send_fragments(gate))
    others = [house.start(connection.send("other")), house.start(connection.send_fragments(["o", "o"]))]
    gate.give(house, "a", "b")
    assert not any(task.is_done for task in others)
    peer.stream.send(peer.frame(PING, b"!"))  # control frames may stand between fragments: RFC 6455, 5.4
    gate.give(house, is_over=True)
    assert all(task.is_done for task in others)
    assert peer.heard() == [
        (0x01, b"a"),
        (PONG, b"!"),
        (0x80, b"b"),
        (TEXT, b"other"),
        (0x01, b"o"),
        (0x80, b"o"),
    ]


def test_fragments_wait_for_a_peer_that_does_not_read(house: House) -> None:
    connection, peer = house.open()
    peer.stream.stop_reading()
    taken = []

    def fragments() -> Iterator[bytes]:
        for number in range(20):
            taken.append(number)
            yield bytes([number]) * (16 * KIB)

    task = house.start(connection.send_fragments(fragments()))
    assert len(taken) == 6  # four frames are over the mark; one waits, and the one behind it is not there yet
    peer.stream.read_on()
    assert task.is_done
    frames = peer.heard()
    assert [first for first, _ in frames] == [0x02] + [0x00] * 18 + [0x80]
    assert b"".join(payload for _, payload in frames) == b"".join(
        bytes([number]) * (16 * KIB) for number in range(20)
    )


def test_a_cancelled_message_in_fragments_closes_the_connection_with_1011(house: House) -> None:
    connection, peer = house.open()
    gate = Gate()
    task = house.start(connection.send_fragments(gate))
    other = house.start(connection.send("other"))
    gate.give(house, "a", "b")
    house.cancel(task)
    with pytest.raises(Cancelled):
        task.result()
    with pytest.raises(ConnectionClosed) as caught:
        other.result()
    assert caught.value.code == 1011
    # RFC 6455, section 5.4: a control frame may stand between fragments, so the stream is valid.
    assert peer.heard() == [(0x01, b"a"), (CLOSE, INTERNAL_ERROR)]
    peer.close(1011)
    with pytest.raises(ConnectionClosed):
        house.run(connection.recv())


def test_fragments_that_raise_in_the_middle_close_the_connection_with_1011(house: House) -> None:
    connection, peer = house.open()

    def fragments() -> Iterator[str]:
        yield "a"
        yield "b"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        house.run(connection.send_fragments(fragments()))
    assert peer.heard() == [(0x01, b"a"), (CLOSE, INTERNAL_ERROR)]
    assert not connection.is_open


@pytest.mark.parametrize("given", [0, 1])
def test_fragments_that_raise_before_a_frame_has_left_cost_nothing(house: House, given: int) -> None:
    connection, peer = house.open()

    def fragments() -> Iterator[str]:
        yield from "a" * given
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        house.run(connection.send_fragments(fragments()))
    house.run(connection.send("after"))
    assert peer.heard() == [(TEXT, b"after")]


def test_cancelled_before_a_frame_has_left_costs_nothing(house: House) -> None:
    connection, peer = house.open()
    gate = Gate()
    task = house.start(connection.send_fragments(gate))
    gate.give(house, "a")
    house.cancel(task)
    house.run(connection.send("after"))
    assert peer.heard() == [(TEXT, b"after")]


@pytest.mark.parametrize("wrong", [None, 1, object()])
def test_a_first_fragment_of_a_wrong_type_costs_nothing(house: House, wrong: Any) -> None:
    connection, peer = house.open()
    with pytest.raises(TypeError):
        house.run(connection.send_fragments([wrong, "b"]))
    with pytest.raises(TypeError):
        house.run(connection.send_fragments(wrong))
    house.run(connection.send("after"))
    assert peer.heard() == [(TEXT, b"after")]


@pytest.mark.parametrize("fragments", [["a", b"b"], [b"a", "b"], ["a", None], ["a", "b", 3]])
def test_a_later_fragment_of_a_wrong_type_closes_the_connection(house: House, fragments: list[Any]) -> None:
    connection, peer = house.open()
    with pytest.raises(TypeError):
        house.run(connection.send_fragments(fragments))
    assert peer.heard()[-1] == (CLOSE, INTERNAL_ERROR)


def test_a_message_that_is_being_sent_in_fragments_ends_with_the_connection(house: House) -> None:
    connection, peer = house.open()
    gate = Gate()
    task = house.start(connection.send_fragments(gate))
    gate.give(house, "a", "b")
    peer.stream.reset()
    gate.give(house, "c")
    with pytest.raises(ConnectionClosed, match="1006"):
        task.result()


@pytest.mark.parametrize("end", ["reset", "close", "closed"])
def test_who_waits_for_the_end_of_fragments_hears_of_the_end_of_the_connection(
    house: House, end: str
) -> None:
    connection, peer = house.open()
    gate = Gate()  # which never gives any more
    house.start(connection.send_fragments(gate))
    gate.give(house, "a", "b")
    others = [house.start(connection.send("other")), house.start(connection.send_fragments(["other"]))]
    if end == "reset":
        peer.stream.reset()
    elif end == "closed":
        peer.close()
    else:
        house.start(connection.close())
    for task in others:
        with pytest.raises(ConnectionClosed):
            task.result()


def test_a_message_in_fragments_that_cannot_be_ended_is_the_last_answer_to_a_peer_that_ended(
    house: House,
) -> None:
    connection, peer = house.open()
    gate = Gate()
    task = house.start(connection.send_fragments(gate))
    gate.give(house, "a", "b")
    peer.stream.send(peer.frame(TEXT, b"hola") + peer.close_frame(1000))
    house.cancel(task)
    assert peer.heard() == [(0x01, b"a"), (CLOSE, b"\x03\xe8")]

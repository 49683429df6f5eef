"""``recv_parts``: messages of any size in bounded memory, and how it goes together with ``recv``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import ConnectionClosed, StateError
from stelar_proto.plain import WebSocketConnection
from tests.plain.house import BINARY, PING, PONG, TEXT, House, RawPeer
from tests.support.virtual import VirtualTask

KIB = 1024


async def parts_of(connection: WebSocketConnection) -> list[str | bytes]:
    return [part async for part in connection.recv_parts()]


async def take(connection: WebSocketConnection, count: int) -> list[str | bytes]:
    """The next ``count`` parts, and then leave the iteration."""
    parts: list[str | bytes] = []
    async for part in connection.recv_parts():
        parts.append(part)
        if len(parts) == count:
            break
    return parts


def test_parts_come_as_the_network_brings_them(house: House) -> None:
    connection, peer = house.open()
    task = house.start(parts_of(connection))
    frame = peer.frame(BINARY, b"abcdef")
    for chunk in (frame[:-4], frame[-4:-1], frame[-1:]):
        peer.stream.send(chunk)
    assert task.result() == [b"ab", b"cde", b"f"]


def test_parts_of_text_are_str_and_cut_between_characters(house: House) -> None:
    connection, peer = house.open()
    task = house.start(parts_of(connection))
    frame = peer.frame(TEXT, "añb".encode())
    peer.stream.send(frame[:-2])  # inside the second character
    peer.stream.send(frame[-2:])
    assert task.result() == ["a", "ñb"]


@pytest.mark.parametrize("message", ["whole", b"whole", "", b""])
def test_a_message_that_is_there_already_is_one_part(house: House, message: str | bytes) -> None:
    connection, peer = house.open()
    peer.say(message)
    assert house.run(parts_of(connection)) == [message]


def test_what_was_collected_of_a_message_is_its_first_part(house: House) -> None:
    connection, peer = house.open()
    frame = peer.frame(BINARY, b"abcdef")
    for byte in frame[:-2]:
        peer.stream.send(bytes([byte]))
    task = house.start(parts_of(connection))
    peer.stream.send(frame[-2:-1])
    peer.stream.send(frame[-1:])
    assert task.result() == [b"abcde", b"f"]


def test_an_iteration_that_has_ended_stays_so(house: House) -> None:
    connection, peer = house.open()
    peer.say("a", "b")

    async def exhaust() -> list[Any]:
        parts = connection.recv_parts()
        first = [part async for part in parts]
        return [first, [part async for part in parts]]

    assert house.run(exhaust()) == [["a"], []]
    assert house.run(connection.recv()) == "b"


def test_an_iteration_that_was_left_early_is_gone_on_with(house: House) -> None:
    connection, peer = house.open()
    first = house.start(take(connection, 1))
    peer.stream.send(peer.frame(0x02, b"a"))
    assert first.result() == [b"a"]
    peer.stream.send(peer.frame(0x00, b"b") + peer.frame(0x80, b"c"))
    peer.say(b"next")
    assert house.run(parts_of(connection)) == [b"b", b"c"]
    assert house.run(connection.recv()) == b"next"


def test_a_cancelled_iteration_loses_nothing(house: House) -> None:
    connection, peer = house.open()
    task = house.start(parts_of(connection))
    house.cancel(task)
    peer.stream.send(peer.frame(0x02, b"a"))
    peer.stream.send(peer.frame(0x80, b"b"))
    assert house.run(connection.recv()) == b"ab"


def test_a_cancelled_iteration_whose_parts_came_is_a_whole_message_to_recv(house: House) -> None:
    connection, peer = house.open()
    house.cancel(house.start(parts_of(connection)))
    frame = peer.frame(TEXT, b"abc")
    for byte in frame[:-1]:
        peer.stream.send(bytes([byte]))
    task = house.start(connection.recv())
    assert not task.is_done
    peer.stream.send(frame[-1:])
    assert task.result() == "abc"


def test_an_end_in_the_middle_of_a_message_is_raised(house: House) -> None:
    connection, peer = house.open()
    task = house.start(parts_of(connection))
    peer.stream.send(peer.frame(0x02, b"a"))
    assert not task.is_done
    peer.close(1000)
    with pytest.raises(ConnectionClosed) as caught:
        task.result()
    assert caught.value.code == 1000


def test_an_end_in_the_middle_of_a_message_is_raised_behind_the_parts_that_came(house: House) -> None:
    connection, peer = house.open()
    first = house.start(take(connection, 1))
    peer.stream.send(peer.frame(0x02, b"a"))
    peer.stream.send(peer.frame(0x00, b"b") + peer.close_frame(1000))
    assert first.result() == [b"a"]
    assert house.run(take(connection, 1)) == [b"b"]
    with pytest.raises(ConnectionClosed):
        house.run(parts_of(connection))
    with pytest.raises(StateError):
        house.run(connection.recv())


def test_recv_of_a_message_whose_end_never_comes_raises_the_end(house: House) -> None:
    connection, peer = house.open()
    house.cancel(house.start(parts_of(connection)))
    peer.stream.send(peer.frame(0x02, b"a"))
    task = house.start(connection.recv())
    peer.close(4000)
    with pytest.raises(ConnectionClosed, match="4000"):
        task.result()


def test_a_message_of_any_size_is_received_in_bounded_memory(house: House) -> None:
    connection, peer = house.open(max_size=None, inbox_size=256 * KIB)
    size = 8 * 1024 * KIB
    head = peer.frame(BINARY, b"x" * size)[:-size]
    total = largest = 0

    async def read() -> None:
        nonlocal total, largest
        async for part in connection.recv_parts():
            total += len(part)
            largest = max(largest, len(part))

    task = house.start(read())
    peer.stream.send(head)
    for _ in range(size // (64 * KIB)):
        peer.stream.send(b"x" * (64 * KIB))
    assert task.is_done
    assert (total, largest) == (size, 64 * KIB)


def test_a_peer_stops_whose_message_is_not_taken_and_goes_on_when_it_is(house: House) -> None:
    connection, peer = house.open(max_size=None, inbox_size=64 * KIB)
    transport = peer.stream.transport
    first = house.start(take(connection, 1))
    size = 1024 * KIB
    frame = peer.frame(BINARY, b"x" * size)
    for start in range(0, len(frame), 16 * KIB):
        peer.stream.send(frame[start : start + 16 * KIB])
    assert not transport.is_reading
    received = len(first.result()[0])
    assert received <= 16 * KIB
    rest = house.run(parts_of(connection))
    assert received + sum(map(len, rest)) == size
    assert transport.is_reading


# --- Against a model ----------------------------------------------------------------------------------------

messages = st.lists(
    st.tuples(
        st.one_of(st.text(max_size=12), st.binary(max_size=12)),
        st.lists(st.integers(0, 12), max_size=3),  # where it is cut into frames
    ),
    max_size=6,
)


def frames_of(peer: RawPeer, message: str | bytes, cuts: list[int]) -> bytes:
    payload = message.encode() if isinstance(message, str) else message
    bounds = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    pieces = [payload[start:end] for start, end in pairwise(bounds)]
    frames = b""
    for index, piece in enumerate(pieces):
        opcode = 0 if index else 1 if isinstance(message, str) else 2
        frames += peer.frame(opcode | (0x80 if index == len(pieces) - 1 else 0), piece)
        frames += peer.frame(PING, b"?")  # a control frame may stand between fragments
    return frames


class Reader:
    """Takes messages in whatever way it is told, and puts together what it was given."""

    def __init__(self, house: House, connection: WebSocketConnection) -> None:
        self.messages: list[str | bytes] = []
        self._house = house
        self._connection = connection
        self._begun: list[str | bytes] = []  # the parts of a message that has not ended
        self._task: VirtualTask[Any] | None = None

    def step(self, way: str) -> None:
        """Finish what was begun if that is possible, and begin anew in another way."""
        self._collect(cancel=way == "cancel")
        if self._task is None and way == "recv" and not self._begun:
            self._task = self._house.start(self._recv())
        elif self._task is None and way == "recv":
            with pytest.raises(StateError):
                self._house.run(self._connection.recv())
        elif self._task is None and way != "cancel":
            self._task = self._house.start(self._take({"part": 1, "parts": 1000}[way]))
        self._collect(cancel=False)

    def _collect(self, *, cancel: bool) -> None:
        if self._task is not None:
            if cancel and not self._task.is_done:
                self._house.cancel(self._task)
                self._task = None
            elif self._task.is_done:
                self._task.result()
                self._task = None

    async def _recv(self) -> None:
        self.messages.append(await self._connection.recv())

    async def _take(self, count: int) -> None:
        parts = self._connection.recv_parts()
        try:
            for _ in range(count):
                self._begun.append(await anext(parts))
                if parts._ended:
                    break
        except StopAsyncIteration:
            raise AssertionError("a message has one end") from None
        if parts._ended:
            self.messages.append(type(self._begun[0])().join(self._begun))  # type: ignore[arg-type]
            self._begun.clear()


@given(
    messages=messages,
    sizes=st.lists(st.integers(1, 20), max_size=20),
    ways=st.lists(st.sampled_from(["recv", "part", "parts", "cancel", "nothing"]), max_size=20),
    inbox=st.sampled_from([(64, 1024 * KIB), (1, 1), (2, 8)]),
    role=st.sampled_from(["server", "client"]),
)
def test_any_way_of_taking_them_gives_the_same_messages(
    messages: list[tuple[str | bytes, list[int]]],
    sizes: list[int],
    ways: list[str],
    inbox: tuple[int, int],
    role: str,
) -> None:
    house = House(role)
    connection, peer = house.open(inbox_limit=inbox[0], inbox_size=inbox[1])
    reader = Reader(house, connection)
    stream = b"".join(frames_of(peer, message, cuts) for message, cuts in messages)
    position = 0
    for index in range(max(len(sizes), len(ways))):
        size = sizes[index] if index < len(sizes) else 0
        if size:
            chunk = stream[position : position + size]
            position += size
            if chunk:
                peer.stream.send(chunk)
        if index < len(ways) and ways[index] != "nothing":
            reader.step(ways[index])
    if stream[position:]:
        peer.stream.send(stream[position:])
    for _ in range(len(messages) + 1):  # whatever is begun, then a message each
        if len(reader.messages) < len(messages):
            reader.step("parts")
    assert reader.messages == [message for message, _ in messages]
    peer.close()
    with pytest.raises(ConnectionClosed):
        house.run(connection.recv())
    pings = sum(len(cuts) + 1 for _, cuts in messages)
    assert [payload for first, payload in peer.heard() if first == PONG] == [b"?"] * pings
    house.close()


@pytest.mark.parametrize("way", ["recv", "parts"])
def test_a_message_of_which_a_part_found_no_room_behind_our_close_is_not_received(
    house: House, way: str
) -> None:
    connection, peer = house.open(inbox_limit=1)
    house.cancel(house.start(parts_of(connection)))  # parts are wanted from now on
    house.start(connection.close())
    for first_byte, payload in ((0x02, b"one "), (0x00, b"two "), (0x00, b"three ")):
        peer.stream.send(peer.frame(first_byte, payload))
    taken = house.run(take(connection, 1)) if way == "parts" else []
    assert taken == ([b"one "] if way == "parts" else [])
    peer.stream.send(peer.frame(0x80, b"four"))
    peer.say(b"next")
    waiting = house.start(connection.recv() if way == "recv" else parts_of(connection))
    peer.say(b"and another")
    peer.close()
    with pytest.raises(ConnectionClosed):
        waiting.result()
    assert connection._endpoint.messages_discarded == 3

"""``recv``, and iteration: order, several receivers, cancellation, and the end."""

from __future__ import annotations

import pytest

from stelar_proto.errors import ConnectionClosed, StateError, StreamEnded, WebSocketError
from stelar_proto.plain import WebSocketConnection
from tests.plain.house import BINARY, CLOSE, PORT, TEXT, House
from tests.support.virtual import Cancelled


async def collect(connection: WebSocketConnection, into: list[str | bytes]) -> None:
    async for message in connection:
        into.append(message)


def test_messages_come_in_order_text_as_str_and_binary_as_bytes(house: House) -> None:
    connection, peer = house.open()
    peer.say("hola", b"\x00\xff", "", b"", "ñandú")
    received = [house.run(connection.recv()) for _ in range(5)]
    assert received == ["hola", b"\x00\xff", "", b"", "ñandú"]


def test_recv_waits_for_the_next_message(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.recv())
    assert not task.is_done
    peer.say("late")
    assert task.result() == "late"


def test_a_message_in_fragments_is_one_message(house: House) -> None:
    connection, peer = house.open()
    fragments = [(0x01, "ñ".encode()[:1]), (0x00, "ñ".encode()[1:]), (0x89, b"?"), (0x80, b"o")]
    for first_byte, payload in fragments:
        peer.stream.send(peer.frame(first_byte, payload))
    assert house.run(connection.recv()) == "ño"
    assert peer.heard() == [(0x8A, b"?")]


def test_a_cancelled_recv_loses_no_message(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.recv())
    house.cancel(task)
    with pytest.raises(Cancelled):
        task.result()
    peer.say("one", "two")
    assert [house.run(connection.recv()) for _ in range(2)] == ["one", "two"]


def test_a_recv_that_is_cancelled_as_the_message_comes_leaves_it_to_the_next(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.recv())
    peer.stream.send_soon(peer.frame(TEXT, b"now"))
    house.loop.call_soon(task.cancel)  # behind the delivery, in front of the task
    house.loop.run_until_idle()
    if task.error is None:
        assert task.result() == "now"
    else:
        assert house.run(connection.recv()) == "now"


def test_several_receivers_share_the_messages_in_order(house: House) -> None:
    connection, peer = house.open()
    tasks = [house.start(connection.recv()) for _ in range(3)]
    peer.say("a")
    peer.say("b", "c")
    assert [task.result() for task in tasks] == ["a", "b", "c"]


def test_several_receivers_all_hear_of_the_end(house: House) -> None:
    connection, peer = house.open()
    tasks = [house.start(connection.recv()) for _ in range(3)]
    peer.stream.send(peer.frame(TEXT, b"last") + peer.close_frame(4001, b"bye"))
    assert tasks[0].result() == "last"
    for task in tasks[1:]:
        with pytest.raises(ConnectionClosed, match="4001: bye"):
            task.result()


def test_what_came_in_front_of_the_end_is_returned_behind_it(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(TEXT, b"one") + peer.frame(BINARY, b"two") + peer.close_frame(3000))
    peer.stream.end()
    assert [house.run(connection.recv()) for _ in range(2)] == ["one", b"two"]
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            house.run(connection.recv())


def test_all_that_came_in_one_chunk_with_the_close_is_returned_however_much(house: House) -> None:
    connection, peer = house.open(inbox_limit=2, inbox_size=4)
    messages = [f"message {number}" for number in range(20)]
    frames = [peer.frame(TEXT, message.encode()) for message in messages]
    peer.stream.send(b"".join(frames) + peer.close_frame(1000))
    received: list[str | bytes] = []
    house.run(collect(connection, received))
    assert received == messages


def test_the_close_of_the_peer_is_raised_with_both_sides_codes(house: House) -> None:
    connection, peer = house.open()
    peer.close(4000, b"enough")
    with pytest.raises(ConnectionClosed, match=r"the connection is closed, 4000: enough") as caught:
        house.run(connection.recv())
    error = caught.value
    assert (error.code, error.reason) == (4000, "enough")
    assert (error.received, error.sent) == ((4000, "enough"), (4000, "enough"))
    assert error.error is None
    assert (connection.close_code, connection.close_reason) == (4000, "enough")
    assert not connection.is_open


def test_a_close_without_a_code_is_1005_and_answered_with_1000(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(CLOSE))
    with pytest.raises(ConnectionClosed) as caught:
        house.run(connection.recv())
    assert (caught.value.code, caught.value.received) == (1005, (1005, ""))
    assert peer.heard() == [(CLOSE, b"\x03\xe8")]


def test_the_end_of_the_stream_is_1006_with_what_happened(house: House) -> None:
    connection, peer = house.open()
    peer.stream.end()
    with pytest.raises(ConnectionClosed) as caught:
        house.run(connection.recv())
    error = caught.value
    assert (error.code, error.reason, error.received, error.sent) == (1006, "", None, None)
    assert isinstance(error.error, StreamEnded)


def test_a_cut_stream_is_1006(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.recv())
    peer.stream.reset()
    with pytest.raises(ConnectionClosed) as caught:
        task.result()
    assert caught.value.code == 1006


def test_a_fault_of_the_peer_is_raised_with_the_code_that_answered_it(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(0x83))
    with pytest.raises(ConnectionClosed) as caught:
        house.run(connection.recv())
    error = caught.value
    assert error.code == 1002
    assert error.received is None
    assert error.sent == (1002, error.reason)
    assert isinstance(error.error, WebSocketError)
    assert peer.heard() == [(CLOSE, b"\x03\xea" + error.reason.encode())]


def test_a_message_over_max_size_ends_the_connection_at_its_header(house: House) -> None:
    connection, peer = house.open(max_size=1000)
    peer.say(b"x" * 1000)
    peer.stream.send(peer.frame(BINARY, b"x" * 1001)[:10])
    assert house.run(connection.recv()) == b"x" * 1000
    with pytest.raises(ConnectionClosed) as caught:
        house.run(connection.recv())
    assert caught.value.code == 1009


@pytest.mark.parametrize("code", [1000, 1001])
def test_iteration_ends_quietly_when_the_peers_part_in_good_order(house: House, code: int) -> None:
    connection, peer = house.open()
    received: list[str | bytes] = []
    task = house.start(collect(connection, received))
    peer.say("a")
    peer.say("b")
    peer.close(code)
    assert task.result() is None
    assert received == ["a", "b"]


@pytest.mark.parametrize("code", [1002, 1011, 3000, 4999])
def test_iteration_raises_behind_the_last_message_when_they_part_otherwise(house: House, code: int) -> None:
    connection, peer = house.open()
    received: list[str | bytes] = []
    task = house.start(collect(connection, received))
    peer.stream.send(peer.frame(TEXT, b"a") + peer.close_frame(code))
    with pytest.raises(ConnectionClosed) as caught:
        task.result()
    assert caught.value.code == code
    assert received == ["a"]


def test_iteration_raises_when_the_stream_just_ends(house: House) -> None:
    connection, peer = house.open()
    task = house.start(collect(connection, []))
    peer.stream.end()
    with pytest.raises(ConnectionClosed):
        task.result()


def test_an_iteration_that_was_left_goes_on_with_the_next_message(house: House) -> None:
    connection, peer = house.open()
    peer.say("a", "b")

    async def first() -> str | bytes:
        async for message in connection:
            return message
        raise AssertionError

    assert [house.run(first()), house.run(first())] == ["a", "b"]


def test_recv_inside_a_message_that_is_taken_in_parts_is_an_error_that_says_so(house: House) -> None:
    connection, peer = house.open()
    task = house.start(connection.recv_parts().__anext__())
    peer.stream.send(peer.frame(0x01, b"begun"))
    assert task.result() == "begun"
    with pytest.raises(StateError, match="in parts: take the rest of them first"):
        house.run(connection.recv())


def test_a_recv_that_waits_while_another_takes_the_message_in_parts_returns_no_half_message(
    house: House,
) -> None:
    connection, peer = house.open()
    waiting = house.start(connection.recv())
    parts = house.start(connection.recv_parts().__anext__())
    peer.stream.send(peer.frame(0x01, b"begun"))
    assert parts.result() == "begun"
    peer.stream.send(peer.frame(0x80, b"done"))
    with pytest.raises(StateError, match="in parts"):
        waiting.result()
    assert house.run(connection.recv_parts().__anext__()) == "done"


def test_what_is_known_of_a_connection(house: House) -> None:
    connection, peer = house.open()
    assert connection.request.path == "/"
    assert connection.subprotocol is None
    assert connection.is_open
    assert (connection.close_code, connection.close_reason, connection.latency) == (None, None, None)
    server, client = ("127.0.0.1", PORT), ("192.0.2.1" if house.role == "server" else "127.0.0.1", 50000)
    assert connection.local_address == (server if house.role == "server" else client)
    if house.role == "server":
        assert connection.remote_address == client
        assert connection.response is None
        assert repr(connection) == "<WebSocketConnection server open ('192.0.2.1', 50000)>"
    else:
        assert connection.remote_address == server
        assert connection.response is not None
        assert connection.response.status == 101
        assert repr(connection) == "<WebSocketConnection client open ('127.0.0.1', 8765)>"
    session = connection._endpoint.session
    assert repr(session) == f"<PlainChannel {house.role} open>"  # as it stands in what is logged
    peer.stream.reset()
    assert connection.local_address == (server if house.role == "server" else client)  # also when it is gone

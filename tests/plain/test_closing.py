"""Closing from either side, and an end that waits until what came in front of it is answered."""

from __future__ import annotations

import logging

import pytest

from stelar_proto.errors import ConnectionClosed, MessageError, PeerTimeout
from stelar_proto.plain import WebSocketConnection, WebSocketEndpoint
from tests.plain.house import CLOSE, TEXT, House
from tests.support.virtual import Cancelled


async def echo(connection: WebSocketConnection) -> None:
    async for message in connection:
        await connection.send(message)


def test_close_leaves_behind_what_was_sent_and_returns_when_the_connection_is_gone(house: House) -> None:
    connection, peer = house.open()
    house.run(connection.send("last"))
    task = house.start(connection.close(4000, "enough"))
    assert peer.heard() == [(TEXT, b"last"), (CLOSE, b"\x0f\xa0enough")]
    assert not task.is_done
    peer.close(4000, b"enough")
    peer.stream.end()
    assert task.is_done
    assert (connection.close_code, connection.close_reason) == (4000, "enough")


def test_without_arguments_the_code_is_1000(house: House) -> None:
    connection, peer = house.open()
    house.start(connection.close())
    assert peer.heard() == [(CLOSE, b"\x03\xe8")]


def test_a_second_close_changes_nothing_and_waits_for_the_first(house: House) -> None:
    connection, peer = house.open()
    tasks = [house.start(connection.close(4000 + number, "")) for number in range(3)]
    tasks.append(house.start(connection.wait_closed()))
    assert peer.heard() == [(CLOSE, b"\x0f\xa0")]
    peer.close(4000)
    peer.stream.end()
    assert all(task.is_done for task in tasks)
    house.run(connection.close())
    assert peer.heard() == []


def test_a_peer_that_does_not_close_is_cut_in_its_time(house: House) -> None:
    connection, peer = house.open(close_timeout=3)
    task = house.start(connection.close())
    receiving = house.start(connection.recv())
    house.loop.advance(2.5)
    assert not task.is_done
    house.loop.advance(0.5)
    assert task.is_done
    assert peer.stream.is_cut
    with pytest.raises(ConnectionClosed, match=r"1006.*did not close within 3 s") as caught:
        receiving.result()
    assert isinstance(caught.value.error, PeerTimeout)
    assert (caught.value.received, caught.value.sent) == (None, (1000, ""))


def test_a_cancelled_close_goes_on_closing(house: House) -> None:
    connection, peer = house.open(close_timeout=3)
    task = house.start(connection.close())
    house.cancel(task)
    with pytest.raises(Cancelled):
        task.result()
    assert not connection.is_open
    peer.close()
    peer.stream.end()
    assert house.start(connection.wait_closed()).is_done
    assert connection.close_code == 1000


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1])
def test_a_code_that_must_not_be_sent_raises_and_costs_nothing(house: House, code: int) -> None:
    connection, peer = house.open()
    with pytest.raises(MessageError):
        house.run(connection.close(code))
    assert connection.is_open
    house.run(connection.send("still here"))
    assert peer.heard() == [(TEXT, b"still here")]


def test_a_long_reason_is_cut_behind_a_whole_character(house: House) -> None:
    connection, peer = house.open()
    house.start(connection.close(4000, "ñ" * 100))
    assert peer.heard() == [(CLOSE, b"\x0f\xa0" + ("ñ" * 61).encode())]


def test_a_peer_that_closes_is_answered_at_once_when_nothing_waits(house: House) -> None:
    connection, peer = house.open()
    peer.close(3999, b"why")
    assert peer.heard() == [(CLOSE, b"\x0f\x9fwhy")]
    task = house.start(connection.wait_closed())
    assert peer.stream.has_ended is (house.role == "server")  # RFC 6455, 7.1.1
    peer.stream.end()
    assert task.is_done
    assert peer.stream.has_ended


def test_a_server_that_does_not_end_the_stream_is_cut(connecting: House) -> None:
    connection, peer = connecting.open(close_timeout=2)
    peer.close()
    task = connecting.start(connection.close())
    connecting.loop.advance(2)
    assert task.is_done
    assert peer.stream.is_cut


# --- An end behind unanswered messages ----------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_message_in_front_of_a_fault_is_answered_before_it_is(house: House, chunks: int) -> None:
    connection, peer = house.open()
    task = house.start(echo(connection))
    frames = [peer.frame(TEXT, b"good"), peer.frame(0x83)]
    for chunk in [b"".join(frames)] if chunks == 1 else frames:
        peer.stream.send(chunk)
    first, second = peer.heard()
    assert first == (TEXT, b"good")
    assert second[0] == CLOSE
    assert second[1][:2] == b"\x03\xea"
    with pytest.raises(ConnectionClosed, match="1002"):
        task.result()


def test_many_messages_in_front_of_a_fault_are_all_answered(house: House) -> None:
    connection, peer = house.open()
    house.start(echo(connection))
    peer.stream.send(peer.frame(TEXT, b"x") * 100 + peer.frame(0x83))
    assert [first for first, _ in peer.heard()] == [TEXT] * 100 + [CLOSE]


def test_messages_in_front_of_a_close_are_answered_before_it_is(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(TEXT, b"x") * 3 + peer.close_frame(1000))
    assert peer.heard() == []
    assert house.start(echo(connection)).is_done
    assert peer.heard() == [(TEXT, b"x")] * 3 + [(CLOSE, b"\x03\xe8")]


def test_an_answer_in_fragments_leaves_in_front_of_the_close_frame(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(TEXT, b"x") + peer.close_frame(1000))
    house.run(connection.send_fragments(["a", "b", "c"]))
    assert house.run(connection.recv()) == "x"
    house.start(connection.recv())
    assert peer.heard() == [(0x01, b"a"), (0x00, b"b"), (0x80, b"c"), (CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize("end", [b"fault", b"close"])
def test_an_end_is_held_back_for_half_of_the_time_that_closing_may_take(house: House, end: bytes) -> None:
    connection, peer = house.open(close_timeout=4)
    last = peer.close_frame(1000) if end == b"close" else peer.frame(0x83)
    peer.stream.send(peer.frame(TEXT, b"x") + last)
    house.loop.advance(1.5)
    assert peer.heard() == []
    assert connection.close_code is None
    house.loop.advance(0.5)
    ((first, payload),) = peer.heard()
    assert first == CLOSE
    assert int.from_bytes(payload[:2], "big") == connection.close_code
    assert house.run(connection.recv()) == "x"  # it can still be received, and no more answered
    with pytest.raises(ConnectionClosed):
        house.run(connection.send("answer"))
    house.loop.advance(2)
    assert house.start(connection.wait_closed()).is_done


def test_a_fault_is_held_back_for_a_reader_that_is_still_busy_with_what_it_took(house: House) -> None:
    connection, peer = house.open(close_timeout=4)
    peer.say("x")
    assert house.run(connection.recv()) == "x"
    cancelled = house.start(connection.recv())
    house.cancel(cancelled)
    peer.stream.send(peer.frame(0x83))
    assert peer.heard() == []
    house.run(connection.send("answer"))
    house.loop.advance(2)
    assert [first for first, _ in peer.heard()] == [TEXT, CLOSE]


def test_an_orderly_close_does_not_wait_for_a_reader_that_may_not_be_there(house: House) -> None:
    connection, peer = house.open()
    peer.say("x")
    assert house.run(connection.recv()) == "x"
    peer.close()
    assert peer.heard() == [(CLOSE, b"\x03\xe8")]


def test_an_orderly_close_does_not_wait_for_messages_where_all_do_is_send(house: House) -> None:
    connection, peer = house.open(inbox_limit=2)
    house.run(connection.send("tick"))
    peer.say(*map(str, range(20)))
    peer.close(4000, b"why")
    assert [first for first, _ in peer.heard()] == [TEXT, CLOSE]
    with pytest.raises(ConnectionClosed, match="4000: why"):
        house.run(connection.send("tock"))
    assert [house.run(connection.recv()) for _ in range(20)] == [str(number) for number in range(20)]
    with pytest.raises(ConnectionClosed, match="4000: why"):
        house.run(connection.recv())


def test_who_has_sent_and_received_may_still_answer(house: House) -> None:
    connection, peer = house.open()
    cancelled = house.start(connection.recv())
    house.cancel(cancelled)
    house.run(connection.send("tick"))
    peer.stream.send(peer.frame(TEXT, b"x") + peer.close_frame(1000))
    assert [first for first, _ in peer.heard()] == [TEXT]
    assert house.run(connection.recv()) == "x"
    house.run(connection.send("answer"))
    house.start(connection.recv())
    assert [first for first, _ in peer.heard()] == [TEXT, CLOSE]


def test_a_held_end_is_what_a_closed_error_tells(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(TEXT, b"x") + peer.close_frame(4000, b"why"))
    with pytest.raises(ConnectionClosed, match="4000: why"):
        house.run(connection.ping())


def test_close_ends_the_holding_back(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(TEXT, b"x") + peer.close_frame(4000, b"why"))
    task = house.start(connection.close(1000))
    assert peer.heard() == [(CLOSE, b"\x0f\xa0why")]
    peer.stream.end()
    assert task.is_done
    assert connection.close_code == 4000


def test_a_held_end_goes_with_the_stream(house: House, caplog: pytest.LogCaptureFixture) -> None:
    connection, peer = house.open()
    caplog.set_level(logging.INFO)
    peer.stream.send(peer.frame(TEXT, b"x") + peer.frame(0x83))
    peer.stream.reset()
    assert connection.close_code == 1002
    assert [record.getMessage() for record in caplog.records if "a connection ended" in record.getMessage()]
    assert house.run(connection.recv()) == "x"


def test_who_waits_behind_a_held_end_is_woken_by_it(house: House) -> None:
    connection, peer = house.open()
    tasks = [house.start(connection.recv()) for _ in range(3)]
    peer.stream.send(peer.frame(TEXT, b"x") + peer.close_frame(4000))
    assert tasks[0].result() == "x"
    assert all(task.is_done for task in tasks)
    assert peer.heard() == [(CLOSE, b"\x0f\xa0")]


def test_a_close_frame_that_never_left_is_not_said_to_be_sent(house: House) -> None:
    connection, peer = house.open(close_timeout=3)
    peer.stream.stop_reading()
    house.run(connection.send("in front of it"))
    house.start(connection.close(4000))
    receiving = house.start(connection.recv())
    house.loop.advance(3)
    with pytest.raises(ConnectionClosed, match="1006") as caught:
        receiving.result()
    assert (caught.value.received, caught.value.sent) == (None, None)


def test_a_close_frame_that_went_with_the_stream_is_not_said_to_be_sent(house: House) -> None:
    connection, peer = house.open()
    peer.stream.send(peer.frame(TEXT, b"x") + peer.close_frame(4000))
    peer.stream.reset()
    assert house.run(connection.recv()) == "x"
    with pytest.raises(ConnectionClosed, match="4000") as caught:
        house.run(connection.recv())
    assert (caught.value.received, caught.value.sent) == ((4000, ""), None)


def test_a_fault_of_the_library_is_logged_and_costs_one_connection(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(endpoint: WebSocketEndpoint, *event: object) -> None:
        raise ZeroDivisionError

    _, peer = house.open()
    monkeypatch.setattr(WebSocketEndpoint, "_take", broken)
    peer.say("x")
    assert "a fault of the library" in caplog.text
    assert peer.stream.is_cut

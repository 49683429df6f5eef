from __future__ import annotations

import doctest
import tracemalloc

import pytest

import stelar_proto.tcp
from stelar_proto.errors import FrameError, MessageError, StateError, StreamEnded
from stelar_proto.tcp import (
    Closed,
    Connection,
    Dialect,
    Event,
    FrameReceived,
    FrameType,
    State,
)

from .feeding import (
    DISCONNECT_FRAME,
    JSON_EVENT,
    JSON_FRAME,
    LIMIT,
    PING_EVENT,
    PING_FRAME,
    PONG_FRAME,
    WRONG,
    bytewise,
    chunkings,
    error_frame,
    feed,
)

wrong_frames = pytest.mark.parametrize(
    ("code", "data"), [pytest.param(code, data, id=name) for name, code, data in WRONG]
)


def assert_refused(
    conn: Connection, events: list[Event], code: str, before: list[Event], sent: bytes
) -> None:
    *frames, closed = events
    assert frames == before
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, FrameError)
    assert closed.error.code == code
    assert conn.state is State.CLOSED
    assert conn.data_to_send() == sent + error_frame(code)


# --- frames in ---


def test_nothing_received_is_nothing_reported() -> None:
    conn = Connection()
    assert conn.receive_data(JSON_FRAME[:6]) == []
    assert conn.data_to_send() == b""


def test_frames_are_reported_in_order_however_they_are_cut() -> None:
    for chunks in chunkings(JSON_FRAME + DISCONNECT_FRAME + JSON_FRAME):
        assert feed(Connection(), chunks) == [
            JSON_EVENT,
            FrameReceived(FrameType.DISCONNECT, "", b""),
            JSON_EVENT,
        ]


def test_a_frame_is_reported_with_its_last_byte() -> None:
    conn = Connection()
    assert feed(conn, bytewise(JSON_FRAME[:-1])) == []
    assert conn.receive_data(JSON_FRAME[-1:]) == [JSON_EVENT]


@pytest.mark.parametrize("frame_type", FrameType)
def test_every_type_is_reported_whoever_may_send_it(frame_type: FrameType) -> None:
    data = b"\0\0\0\x0b" + bytes([frame_type]) + b"\0\x01ea\0b"
    assert Connection().receive_data(data) == [FrameReceived(frame_type, "e", b"a\0b")]


def test_the_dialect_decides_what_a_code_means() -> None:
    data = b"\0\0\0\x07\x03\0\0"
    documented, npm = Connection(), Connection(dialect=Dialect.NPM)
    assert documented.receive_data(data) == [FrameReceived(FrameType.PONG, "", b"")]
    assert npm.receive_data(data) == [PING_EVENT]
    assert npm.data_to_send() == b"\0\0\0\x07\x04\0\0"


def test_the_dialect_is_documented_unless_chosen() -> None:
    assert Connection().dialect is Dialect.DOCUMENTED
    assert Connection(dialect=Dialect.NPM).dialect is Dialect.NPM


# --- ping ---


def test_every_ping_is_answered_and_reported() -> None:
    conn = Connection()
    assert conn.receive_data(PING_FRAME + JSON_FRAME + PING_FRAME) == [PING_EVENT, JSON_EVENT, PING_EVENT]
    assert conn.data_to_send() == PONG_FRAME + PONG_FRAME


def test_a_pong_is_not_answered() -> None:
    conn = Connection()
    assert conn.receive_data(PONG_FRAME) == [FrameReceived(FrameType.PONG, "", b"")]
    assert conn.data_to_send() == b""


def test_a_ping_after_this_side_has_closed_is_reported_and_not_answered() -> None:
    conn = Connection()
    conn.close()
    assert conn.receive_data(PING_FRAME) == [PING_EVENT]
    assert conn.data_to_send() == b""


def test_a_pong_leaves_before_the_error_of_a_wrong_frame_behind_the_ping() -> None:
    conn = Connection()
    events = conn.receive_data(PING_FRAME + b"\0\0\0\0")
    assert_refused(conn, events, "INVALID_FRAME_SIZE", [PING_EVENT], PONG_FRAME)


# --- what the peer does wrong ---


@wrong_frames
def test_a_wrong_frame_is_refused_with_its_code(code: str, data: bytes) -> None:
    for chunks in chunkings(data):
        conn = Connection(max_frame_size=LIMIT)
        assert_refused(conn, feed(conn, chunks), code, [], b"")


@wrong_frames
def test_a_wrong_frame_is_refused_with_the_first_byte_that_gives_it_away(code: str, data: bytes) -> None:
    for size in range(1, len(data)):
        assert Connection(max_frame_size=LIMIT).receive_data(data[:size]) == []


@wrong_frames
def test_the_frames_before_a_wrong_one_are_reported_and_what_follows_is_ignored(
    code: str, data: bytes
) -> None:
    for chunks in chunkings(JSON_FRAME + data + JSON_FRAME + b"\xff garbage"):
        conn = Connection(max_frame_size=LIMIT)
        assert_refused(conn, feed(conn, chunks), code, [JSON_EVENT], b"")


@wrong_frames
def test_nothing_of_a_wrong_frame_is_stored(code: str, data: bytes) -> None:
    conn = Connection(max_frame_size=LIMIT)
    conn.receive_data(data + bytes(10_000))
    assert len(conn._buffer) == 0


@pytest.mark.parametrize("dialect", Dialect)
def test_the_refusal_is_an_error_frame_of_the_dialect_even_where_the_limit_is_below_it(
    dialect: Dialect,
) -> None:
    conn = Connection(dialect=dialect, max_frame_size=7)
    conn.receive_data(b"\0\0\0\x08")
    assert conn.data_to_send() == error_frame("FRAME_TOO_LARGE", dialect)


def test_a_wrong_frame_after_this_side_has_closed_ends_the_connection_without_a_word() -> None:
    conn = Connection()
    conn.disconnect()
    assert conn.data_to_send() == DISCONNECT_FRAME
    [closed] = conn.receive_data(b"\0\0\0\0")
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, FrameError)
    assert conn.state is State.CLOSED
    assert conn.data_to_send() == b""


def test_a_frame_at_the_limit_is_received_and_one_byte_more_is_not() -> None:
    at_limit = b"\0\0\0\x0a\0\0\x01a12"
    assert Connection(max_frame_size=10).receive_data(at_limit) == [FrameReceived(FrameType.JSON, "a", b"12")]
    conn = Connection(max_frame_size=10)
    assert_refused(conn, conn.receive_data(b"\0\0\0\x0b\0\0\x01a123"), "FRAME_TOO_LARGE", [], b"")


def test_a_payload_at_its_limit_is_received_whatever_the_event_adds_and_one_byte_more_is_not() -> None:
    long_event = b"\0\0\0\x0d\x01\0\x04fileab"
    for frame_limit in (1000, 13):
        conn = Connection(max_payload_size=2, max_frame_size=frame_limit)
        [first, second, _] = conn.receive_data(long_event * 2 + PING_FRAME)
        assert first == second == FrameReceived(FrameType.BINARY, "file", b"ab")
        assert conn.data_to_send() == PONG_FRAME
        events = conn.receive_data(b"\0\0\0\x0a\x01\0\0")
        assert_refused(conn, events, "FRAME_TOO_LARGE", [], b"")
        assert "a payload of 3 bytes; the limit is 2 bytes" in str(events[0])


def test_a_frame_at_the_default_limit_is_received_and_one_byte_more_is_not() -> None:
    conn = Connection()
    assert conn.receive_data(b"\x00\xa0\x00\x00") == []
    conn = Connection()
    assert_refused(conn, conn.receive_data(b"\x00\xa0\x00\x01"), "FRAME_TOO_LARGE", [], b"")


# --- the end of the stream ---


def test_a_stream_that_ends_between_frames_ends_without_an_error() -> None:
    for data in (b"", JSON_FRAME, PING_FRAME + JSON_FRAME):
        conn = Connection()
        feed(conn, bytewise(data))
        assert conn.receive_data(b"") == [Closed(None)]
        assert conn.state is State.CLOSED


@pytest.mark.parametrize("there", range(1, len(JSON_FRAME)))
def test_a_stream_that_ends_inside_a_frame_is_reported_as_truncated(there: int) -> None:
    for chunks in chunkings(PING_FRAME + JSON_FRAME[:there]):
        conn = Connection()
        assert feed(conn, chunks) == [PING_EVENT]
        [closed] = conn.receive_data(b"")
        assert isinstance(closed, Closed)
        assert type(closed.error) is StreamEnded
        assert closed.error.code == "TRUNCATED_FRAME"
        assert closed.error.reason == f"the stream ended {there} bytes into a frame"
        assert conn.data_to_send() == PONG_FRAME
        assert len(conn._buffer) == 0


def test_after_the_end_input_is_ignored() -> None:
    for last in (b"", b"\0\0\0\0"):
        conn = Connection()
        assert isinstance(conn.receive_data(last)[-1], Closed)
        conn.data_to_send()
        assert conn.receive_data(PING_FRAME) == []
        assert conn.receive_data(b"") == []
        assert conn.data_to_send() == b""


# --- frames out ---


def test_frames_sent_leave_together_in_order_and_once() -> None:
    conn = Connection()
    conn.send_frame(FrameType.JSON, "chat", b"null")
    conn.send_frame(FrameType.JOIN_ROOM, payload=b"general")
    conn.send_frame(FrameType.PING)
    assert conn.data_to_send() == JSON_FRAME + b"\0\0\0\x17\x08\0\x09join-roomgeneral" + PING_FRAME
    assert conn.data_to_send() == b""


def test_a_single_large_frame_leaves_without_being_copied() -> None:
    conn = Connection()
    conn.send_frame(FrameType.BINARY, "file", bytes(1_000_000))
    tracemalloc.start()
    try:
        data = conn.data_to_send()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data) == 1_000_011
    assert peak < 10_000


def test_the_dialect_decides_the_codes_that_are_sent() -> None:
    conn = Connection(dialect=Dialect.NPM)
    conn.send_frame(FrameType.JSON, "chat", b"null")
    assert conn.data_to_send() == b"\0\0\0\x0f\x01\0\x04chatnull"


def test_a_frame_that_is_refused_leaves_no_trace() -> None:
    conn = Connection(max_frame_size=10)
    with pytest.raises(MessageError) as caught:
        conn.send_frame(FrameType.JSON, "a", b"123")
    assert caught.value.code == "FRAME_TOO_LARGE"
    with pytest.raises(TypeError):
        conn.send_frame(FrameType.JSON)
    assert conn.data_to_send() == b""
    conn.send_frame(FrameType.JSON, "a", b"12")
    assert conn.data_to_send() == b"\0\0\0\x0a\0\0\x01a12"


@pytest.mark.parametrize("size", [-1, 0, 6, 2**32])
def test_a_limit_that_makes_no_sense_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"max_frame_size is {size}; 7 to 4294967295 bytes can be"):
        Connection(max_frame_size=size)


@pytest.mark.parametrize("size", [7, 2**32 - 1])
def test_the_smallest_and_the_largest_limit_are_accepted(size: int) -> None:
    assert Connection(max_frame_size=size).receive_data(PING_FRAME) == [PING_EVENT]


# --- closing ---


def test_close_says_nothing() -> None:
    conn = Connection()
    conn.close()
    assert conn.state is State.CLOSING
    assert conn.data_to_send() == b""


def test_disconnect_sends_disconnect_last() -> None:
    conn = Connection()
    conn.send_frame(FrameType.PING)
    conn.disconnect()
    assert conn.state is State.CLOSING
    assert conn.data_to_send() == PING_FRAME + DISCONNECT_FRAME


def test_fail_sends_its_words_in_an_error_frame_last() -> None:
    conn = Connection()
    conn.fail("Rate limit exceeded: ñ")
    assert conn.state is State.CLOSING
    assert conn.data_to_send() == b"\0\0\0\x23\x0a\0\x05errorRate limit exceeded: \xc3\xb1"


def test_words_over_the_limit_are_refused_and_the_connection_stays_open() -> None:
    conn = Connection(max_frame_size=20)
    with pytest.raises(MessageError):
        conn.fail("Rate limit exceeded")
    assert conn.state is State.OPEN
    assert conn.data_to_send() == b""


def test_frames_on_their_way_when_this_side_closed_are_still_reported() -> None:
    conn = Connection()
    assert conn.receive_data(JSON_FRAME[:5]) == []
    conn.disconnect()
    assert conn.receive_data(JSON_FRAME[5:]) == [JSON_EVENT]
    assert conn.receive_data(b"") == [Closed(None)]


def end_by_peer(conn: Connection) -> None:
    conn.receive_data(b"")


def end_by_fault(conn: Connection) -> None:
    conn.receive_data(b"\0\0\0\0")


ENDINGS = [Connection.close, Connection.disconnect, end_by_peer, end_by_fault]


@pytest.mark.parametrize("ending", ENDINGS)
def test_sending_after_the_end_is_a_state_error(ending: object) -> None:
    conn = Connection()
    assert callable(ending)
    ending(conn)
    conn.data_to_send()
    with pytest.raises(StateError, match=f"the connection is {conn.state.value}"):
        conn.send_frame(FrameType.PING)
    assert conn.data_to_send() == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_ending_what_has_ended_does_nothing(ending: object) -> None:
    conn = Connection()
    assert callable(ending)
    ending(conn)
    conn.data_to_send()
    state = conn.state
    conn.close()
    conn.disconnect()
    conn.fail("late")
    assert conn.state is state
    assert conn.data_to_send() == b""


# --- the documentation ---


def test_the_example_in_the_documentation_runs() -> None:
    result = doctest.testmod(stelar_proto.tcp)
    assert result.attempted > 5
    assert result.failed == 0


def test_what_came_before_a_wrong_frame_can_still_be_answered() -> None:
    connection = Connection()
    events = connection.receive_data(b"\0\0\0\x0b\0\0\3ask1" + b"\0\0\0\7\xff\0\0")
    assert [type(event).__name__ for event in events] == ["FrameReceived", "Closed"]
    assert connection.can_send
    connection.send_frame(FrameType.JSON, "answer", b"2")
    assert connection.data_to_send() == (
        b"\0\0\0\x0e\0\0\6answer2" + b"\0\0\0\x1e\x0a\0\5errorUNKNOWN_FRAME_TYPE"
    )
    with pytest.raises(StateError, match="closed"):
        connection.send_frame(FrameType.JSON, "answer", b"3")
    assert connection.data_to_send() == b""


def test_this_side_of_the_stream_is_to_be_ended_when_its_last_word_was_taken() -> None:
    def closed() -> Connection:
        conn = Connection()
        conn.send_frame(FrameType.JSON, "chat", b"null")
        conn.close()
        return conn

    def disconnected() -> Connection:
        conn = Connection()
        conn.disconnect()
        return conn

    def refusing() -> Connection:
        conn = Connection()
        conn.receive_data(JSON_FRAME + b"\0\0\0\0")
        return conn

    for conn in (closed(), disconnected(), refusing()):
        assert not conn.wants_eof
        assert conn.data_to_send() != b""
        assert conn.wants_eof


def test_a_side_that_may_still_speak_does_not_end_its_stream_and_one_whose_peer_has_gone_does() -> None:
    conn = Connection()
    conn.receive_data(JSON_FRAME)
    assert not conn.wants_eof
    conn.receive_data(b"")
    assert conn.wants_eof

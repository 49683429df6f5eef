"""What is the TCP wire's own: the Connect frame, the bytes of every end, and ends without a handshake."""

from __future__ import annotations

from functools import partial

import pytest

from stelar_proto.channel import Closed, State
from stelar_proto.errors import (
    FrameError,
    FrameTooLarge,
    MessageError,
    PeerError,
    PeerFailure,
    PeerTimeout,
    StreamEnded,
)
from stelar_proto.messages import Binary, Event, Hello, Invalid, Join
from stelar_proto.session import Opened, Session
from stelar_proto.tcp import Dialect

from .peers import (
    CLIENT,
    CONNECT_FRAME,
    PING,
    SERVER,
    ending,
    from_peer,
    new_session,
    open_session,
    said,
    tcp_error,
)

table = partial(pytest.mark.parametrize, ids=lambda value: ascii(value)[:48])

DISCONNECT = b"\0\0\0\7\7\0\0"


def phase(session: Session) -> tuple[bool, bool, bool]:
    return session.wants_eof, session.is_finished, session.is_aborted


# --- opening ---


def test_the_server_speaks_first_and_tells_the_client_its_id() -> None:
    session = new_session("tcp", SERVER, announce_id=False)
    session.accept("c1")
    assert said(session) == CONNECT_FRAME
    assert (session.state, session.client_id, session.messages_sent) == (State.OPEN, "c1", 0)


@pytest.mark.parametrize(
    ("ours", "first", "theirs"),
    [
        (Dialect.DOCUMENTED, b"\0\0\0\x10\7\0\7connectc1", "npm"),
        (Dialect.NPM, CONNECT_FRAME, "documented"),
        (Dialect.NPM, b"\0\0\0\x0f\x0a\0\5errorNo!", "documented"),
    ],
)
def test_a_server_of_the_other_dialect_is_known_by_its_first_frame(
    ours: Dialect, first: bytes, theirs: str
) -> None:
    session = new_session("tcp", CLIENT, tcp_dialect=ours)
    [end] = session.receive_data(first + b"\xff\xff\xff\xff", 1)
    assert ending([end]) == (1002, "", PeerError)
    assert isinstance(end, Closed)
    assert isinstance(end.error, PeerError)
    assert end.error.code == "OTHER_DIALECT"
    assert f"tcp_dialect={theirs!r}" in str(end.error)


def test_only_a_client_and_only_in_front_of_the_connect_frame_goes_by_names() -> None:
    named = b"\0\0\0\x0f\7\0\7connect!"
    server = new_session("tcp", SERVER)
    [event] = server.receive_data(named, 1)
    assert isinstance(event, Invalid)
    client = open_session("tcp", CLIENT)
    assert ending(client.receive_data(named, 1)) == (1001, "Server shutting down", None)


def test_an_id_that_no_frame_can_carry_is_refused_and_nothing_has_happened() -> None:
    session = new_session("tcp", SERVER)
    with pytest.raises(MessageError):
        session.accept("\ud800")
    assert (session.state, session.client_id, said(session)) == (State.CONNECTING, None, b"")
    session.refuse(500, "No client id")
    assert said(session) == tcp_error(b"No client id")


def test_the_numbers_are_those_of_the_dialect() -> None:
    server = new_session("tcp", SERVER, tcp_dialect=Dialect.NPM)
    client = new_session("tcp", CLIENT, tcp_dialect=Dialect.NPM)
    server.accept("c1")
    connect = said(server)
    assert connect == b"\0\0\0\x10\7\0\7connectc1"
    assert client.receive_data(connect, 1) == [Opened()]
    client.handle_deadline(31)
    assert said(client) == b"\0\0\0\7\3\0\0"
    server.close(1001, "", 2)
    assert said(server) == b"\0\0\0\7\x08\0\0"


def test_a_client_hears_nothing_before_the_connect_frame() -> None:
    session = new_session("tcp", CLIENT)
    early = from_peer(session, Event("early", 1), Binary("early", b""))
    assert session.receive_data(early, 1) == [
        Invalid("a JSON frame came in front of the Connect frame"),
        Invalid("a BINARY frame came in front of the Connect frame"),
    ]
    assert session.state is State.CONNECTING
    assert session.messages_received == 0
    # A ping may come at any time.
    assert session.receive_data(PING["tcp"], 2) == []
    assert said(session) == b"\0\0\0\7\3\0\0"
    assert session.receive_data(CONNECT_FRAME, 3) == [Opened()]


def test_a_server_hears_what_a_client_says_before_it_was_taken_in() -> None:
    session = new_session("tcp", SERVER)
    data = from_peer(session, Join("general"), Event("chat", 1))
    assert session.receive_data(data, 1) == [Join("general"), Event("chat", 1)]
    session.accept("c1")
    assert said(session) == CONNECT_FRAME


@table(
    ("answer", "end"),
    [
        (tcp_error(b"Server full"), (1008, "Server full", PeerFailure)),
        (DISCONNECT, (1001, "Server shutting down", None)),
        (b"", (1006, "", StreamEnded)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", (1009, "FRAME_TOO_LARGE", FrameTooLarge)),
        (CONNECT_FRAME[:9], None),
    ],
)
def test_a_client_that_is_not_taken_in_learns_why(
    answer: bytes, end: tuple[int, str, type[Exception] | None] | None
) -> None:
    session = new_session("tcp", CLIENT)
    if end is None:
        assert session.receive_data(answer, 1) == []
        assert ending(session.receive_data(b"", 2)) == (1006, "", StreamEnded)
    else:
        assert ending(session.receive_data(answer, 1)) == end


# --- refusing ---


@pytest.mark.parametrize("message", ["Server full", "Too many connections from this address", "¿quién?", ""])
def test_a_refusal_is_an_error_frame_with_the_words(message: str) -> None:
    session = new_session("tcp", SERVER, now=1)
    session.refuse(503, message)
    assert phase(session) == (False, False, False)
    assert said(session) == tcp_error(message.encode())
    assert phase(session) == (True, False, False)
    assert session.next_deadline() == 6
    # The refusal was the caller's: no Closed tells it.
    assert session.receive_data(PING["tcp"] + b"\xff" * 10, 2) == []
    assert session.receive_data(b"", 3) == []
    assert phase(session) == (True, True, False)
    assert said(session) == b""


def test_words_that_do_not_fit_or_that_utf8_cannot_say_do_not_stop_an_end() -> None:
    for limit, cut in ((20, "ñandúe"), (19, "ñandú"), (18, "ñand")):
        session = new_session("tcp", SERVER, max_frame_size=limit)
        session.refuse(403, "ñandúes no entran")
        assert said(session) == tcp_error(cut.encode())
        session = open_session("tcp", SERVER, max_frame_size=limit)
        session.close(1008, "ñandúes no \ud800", 1)
        assert said(session) == tcp_error(cut.encode())
    session = open_session("tcp", SERVER)
    session.close(1008, "no \ud800!", 1)
    assert said(session) == tcp_error(b"no ?!")
    session = new_session("tcp", SERVER, max_frame_size=12)
    session.refuse(503, "Server full")
    assert said(session) == tcp_error(b"")


# --- our end ---


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_server_parts_with_a_disconnect_frame(code: int) -> None:
    session = open_session("tcp", SERVER)
    session.send(Event("last", 1))
    session.close(code, "Server shutting down", 1)
    assert phase(session) == (False, False, False)
    assert said(session) == b"\0\0\0\x0c\0\0\4last1" + DISCONNECT
    assert phase(session) == (True, False, False)
    assert session.receive_data(b"", 2) == [Closed(code, "Server shutting down", None)]
    assert phase(session) == (True, True, False)


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_client_parts_by_ending_its_stream(code: int) -> None:
    session = open_session("tcp", CLIENT)
    session.send(Event("last", 1))
    session.close(code, "bye", 1)
    assert not session.wants_eof
    assert said(session) == b"\0\0\0\x0c\0\0\4last1"
    assert session.wants_eof
    assert session.receive_data(b"", 2) == [Closed(code, "bye", None)]


@pytest.mark.parametrize("role", [SERVER, CLIENT])
@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (1008, "Rate limit exceeded", b"Rate limit exceeded"),
        (4000, "that is all", b'{"code":4000,"message":"that is all"}'),
    ],
)
def test_any_other_end_is_an_error_frame_with_the_reason(
    role: object, code: int, reason: str, words: bytes
) -> None:
    session = open_session("tcp", SERVER if role is SERVER else CLIENT)
    session.close(code, reason, 1)
    assert said(session) == tcp_error(words)
    assert session.wants_eof
    # What the peer says to that changes nothing about what we ended with.
    session.receive_data(PING["tcp"], 2)
    assert said(session) == b""
    assert session.receive_data(b"", 3) == [Closed(code, reason, None)]


def test_a_connection_that_breaks_while_we_part_has_ended_as_we_said() -> None:
    session = open_session("tcp", SERVER)
    session.close(1001, "Server shutting down", 1)
    assert session.connection_lost(2) == [Closed(1001, "Server shutting down", None)]


def test_a_dead_peer_is_dropped_without_a_word() -> None:
    session = open_session("tcp", SERVER)
    session.handle_deadline(30)
    assert said(session) == PING["tcp"]
    assert ending(session.handle_deadline(90)) == (1011, "Heartbeat timeout", PeerTimeout)
    assert said(session) == b""
    assert phase(session) == (True, True, True)


def test_what_a_dead_peer_has_not_read_is_dropped_with_it() -> None:
    session = open_session("tcp", SERVER)
    session.handle_deadline(30)
    session.send(Event("unread", 1))
    session.handle_deadline(90)
    assert (said(session), session.messages_dropped) == (b"", 1)  # a ping is none


# --- the peer's end ---


def test_a_client_that_ends_its_stream_has_left() -> None:
    session = open_session("tcp", SERVER)
    session.send(Event("unread", 1))
    assert session.receive_data(b"", 1) == [Closed(1000, "", None)]
    assert phase(session) == (False, False, False)  # it may still be reading
    assert said(session) != b""
    assert phase(session) == (True, True, False)


def test_a_server_that_ends_its_stream_without_a_word_has_failed() -> None:
    session = open_session("tcp", CLIENT)
    events = session.receive_data(b"", 1)
    assert ending(events) == (1006, "", StreamEnded)
    assert "the server ended the stream without a Disconnect" in repr(events)


def test_a_stream_that_ends_inside_a_frame_is_an_abnormal_end() -> None:
    for role in (SERVER, CLIENT):
        session = open_session("tcp", role)
        assert session.receive_data(b"\0\0\0\x0c\0", 1) == []
        events = session.receive_data(b"", 2)
        assert ending(events) == (1006, "", StreamEnded)
        assert isinstance(events[0], Closed)
        assert events[0].error is not None
        assert events[0].error.code == "TRUNCATED_FRAME"


def test_a_disconnect_ends_a_client_and_whatever_follows_means_nothing() -> None:
    session = open_session("tcp", CLIENT)
    last, late = from_peer(session, Event("last", 1)), from_peer(session, Event("late", 1))
    events = session.receive_data(last + DISCONNECT + late + b"\xff" * 10, 1)
    assert events == [Event("last", 1), Closed(1001, "Server shutting down", None)]
    assert session.receive_data(late, 2) == []
    assert session.receive_data(b"", 3) == []
    said(session)
    assert phase(session) == (True, True, False)


def test_a_client_does_not_send_a_disconnect() -> None:
    session = open_session("tcp", SERVER)
    [event] = session.receive_data(DISCONNECT, 1)
    assert isinstance(event, Invalid)
    assert session.state is State.OPEN


@table(
    ("words", "code"),
    [
        (b"Rate limit exceeded", 1008),
        (b"", 1008),
        (b"FRAME_TOO_LARGE", 1009),
        (b"INVALID_EVENT", 1007),
        (b"INVALID_FRAME_SIZE", 1002),
        (b"INVALID_EVENT_LENGTH", 1002),
        (b"EVENT_TOO_LONG", 1002),
        (b"UNKNOWN_FRAME_TYPE", 1002),
    ],
)
def test_an_error_frame_ends_the_session_with_the_words(words: bytes, code: int) -> None:
    for role in (SERVER, CLIENT):
        session = open_session("tcp", role)
        events = session.receive_data(tcp_error(words) + tcp_error(b"more"), 1)
        assert ending(events) == (code, words.decode(), None)
        assert said(session) == b""


@table(
    ("code", "reason", "words"),
    [
        (1008, "Rate limit exceeded", b"Rate limit exceeded"),
        (1009, "FRAME_TOO_LARGE", b"FRAME_TOO_LARGE"),
        (1008, "FRAME_TOO_LARGE", b'{"code":1008,"message":"FRAME_TOO_LARGE"}'),
        (1013, "", b'{"code":1013,"message":""}'),
        (4999, "{ñ}", '{"code":4999,"message":"{ñ}"}'.encode()),
        (1008, "{", b"{"),
        (1008, "[1]", b"[1]"),
        (
            1008,
            '{"code":1013,"message":"x"}',
            rb'{"code":1008,"message":"{\"code\":1013,\"message\":\"x\"}"}',
        ),
    ],
)
def test_a_close_code_that_the_words_do_not_stand_for_is_said_beside_them(
    code: int, reason: str, words: bytes
) -> None:
    for role, other in ((SERVER, CLIENT), (CLIENT, SERVER)):
        session = open_session("tcp", role)
        session.close(code, reason, 1)
        data = said(session)
        assert data == tcp_error(words)
        assert ending(open_session("tcp", other).receive_data(data, 1)) == (code, reason, None)


@pytest.mark.parametrize(
    "words",
    [
        '{"code":1006,"message":"x"}',
        '{"code":1013}',
        '{"code":1013,"message":1}',
        '{"code":"1013","message":"x"}',
        '{"code":true,"message":"x"}',
        '{"code":1013.0,"message":"x"}',
        '{"code":1013,"message":"x"',
        "{" * 5000,
        '{"a":' * 100_000,
    ],
)
def test_whatever_else_an_error_frame_says_are_words(words: str) -> None:
    session = open_session("tcp", CLIENT)
    assert ending(session.receive_data(tcp_error(words.encode()), 1)) == (1008, words, None)


def test_npm_peers_and_frames_that_are_too_short_get_the_words_alone() -> None:
    for options, cut in (({"tcp_dialect": Dialect.NPM}, "Restarting"), ({"max_frame_size": 20}, "Restarti")):
        session = open_session("tcp", SERVER, **options)
        session.close(1012, "Restarting", 1)
        assert said(session)[12:] == cut.encode()


def test_what_came_in_front_of_a_disconnect_or_a_fault_can_still_be_answered() -> None:
    answer = b"\0\0\0\x0d\0\0\5reply1"
    for end, last_words in ((DISCONNECT, b""), (b"\0\0\0\0", tcp_error(b"INVALID_FRAME_SIZE"))):
        session = open_session("tcp", CLIENT)
        [_, closed] = session.receive_data(from_peer(session, Event("question", 1)) + end, 1)
        assert isinstance(closed, Closed)
        session.send(Event("reply", 1))
        assert not session.wants_eof
        assert said(session) == answer + last_words
        assert session.wants_eof


# --- a peer that breaks the format ---


@table(
    ("frame", "error", "code"),
    [
        (b"\0\0\0\6", "INVALID_FRAME_SIZE", 1002),
        (b"\0\0\1\x91", "FRAME_TOO_LARGE", 1009),  # 401 bytes
        (b"\0\0\0\x0a\0\0\4", "INVALID_EVENT_LENGTH", 1002),
        (b"\0\0\1\x0a\0\1\1", "EVENT_TOO_LONG", 1002),
        (b"\0\0\0\x09\0\0\2\xc3\x28", "INVALID_EVENT", 1007),
        (b"\0\0\0\7\x0b", "UNKNOWN_FRAME_TYPE", 1002),
    ],
)
def test_a_broken_frame_is_answered_with_its_code(frame: bytes, error: str, code: int) -> None:
    for role in (SERVER, CLIENT):
        session = open_session("tcp", role, max_frame_size=400)
        good = from_peer(session, Event("chat", 1))
        events = session.receive_data(good + frame + good, 1)
        assert events[0] == Event("chat", 1)
        assert ending(events[1:]) == (code, error, FrameTooLarge if code == 1009 else FrameError)
        assert said(session) == tcp_error(error.encode())
        assert phase(session) == (True, False, False)


def test_a_broken_frame_after_our_goodbye_is_reported_and_not_answered() -> None:
    session = open_session("tcp", SERVER)
    session.close(1001, "", 1)
    said(session)
    assert ending(session.receive_data(b"\0\0\0\0", 2)) == (1002, "INVALID_FRAME_SIZE", FrameError)
    assert said(session) == b""


def test_a_payload_over_the_limit_is_refused_at_the_header_whatever_the_frames_may_have() -> None:
    session = open_session("tcp", SERVER, max_payload_size=300, max_frame_size=10_000)
    at_the_limit = from_peer(session, Binary("blob", b"x" * 300))
    assert session.receive_data(at_the_limit, 1) == [Binary("blob", b"x" * 300)]
    header = (7 + 4 + 301).to_bytes(4) + b"\1\0\4"
    assert ending(session.receive_data(header, 2))[1] == "FRAME_TOO_LARGE"
    assert said(session) == tcp_error(b"FRAME_TOO_LARGE")


def test_what_the_protocol_itself_says_fits_below_the_smallest_limit() -> None:
    session = open_session("tcp", SERVER, max_payload_size=1)
    room = Join("r" * 256)
    assert session.receive_data(from_peer(session, room), 1) == [room]


def test_the_longest_event_name_with_the_longest_payload_is_received() -> None:
    session = open_session("tcp", SERVER, max_payload_size=100)
    message = Binary("e" * 256, b"x" * 100)
    assert session.receive_data(from_peer(session, message), 1) == [message]


def test_a_client_of_a_small_limit_still_hears_its_id() -> None:
    server = new_session("tcp", SERVER, max_payload_size=1)
    client = new_session("tcp", CLIENT, max_payload_size=1)
    server.accept("c1")
    assert client.receive_data(said(server), 1) == [Opened()]
    assert Hello("c1") == Hello(client.client_id or "")

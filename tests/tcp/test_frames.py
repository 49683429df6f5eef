from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import FrameError, FrameTooLarge, MessageError
from stelar_proto.tcp import EVENT_FIELDS, Dialect, Event, FrameReceived, FrameType, encode_frame
from stelar_proto.tcp.frames import DEFAULT_MAX_FRAME_SIZE, MAX_HEAD_SIZE, judge_frame, parse_frames

DOCUMENTED, NPM = Dialect.DOCUMENTED, Dialect.NPM
LIMIT = DEFAULT_MAX_FRAME_SIZE

frames = st.builds(
    FrameReceived,
    st.sampled_from(FrameType),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
    st.binary(max_size=40),
)


def parse(data: bytes, dialect: Dialect = DOCUMENTED, limit: int = LIMIT) -> tuple[list[Event], int]:
    events: list[Event] = []
    return events, parse_frames(data, 0, dialect.frame_types, limit, events)


# --- the codes ---


def test_the_documented_codes_count_from_zero() -> None:
    assert {frame_type.name: int(frame_type) for frame_type in FrameType} == {
        "JSON": 0,
        "BINARY": 1,
        "PING": 2,
        "PONG": 3,
        "ACK_REQUEST": 4,
        "ACK_RESPONSE": 5,
        "CONNECT": 6,
        "DISCONNECT": 7,
        "JOIN_ROOM": 8,
        "LEAVE_ROOM": 9,
        "ERROR": 10,
    }


def test_the_npm_codes_are_one_higher() -> None:
    for frame_type in FrameType:
        assert encode_frame(frame_type, "x", dialect=NPM)[4] == frame_type + 1


def test_a_dialect_is_found_by_its_name() -> None:
    assert Dialect("documented") is DOCUMENTED
    assert Dialect("npm") is NPM


def test_a_dialect_has_a_type_for_its_codes_and_for_no_other() -> None:
    assert DOCUMENTED.frame_types == (*FrameType, *[None] * 245)
    assert NPM.frame_types == (None, *FrameType, *[None] * 244)


# --- encoding ---


def test_a_frame_is_length_type_event_length_event_payload() -> None:
    assert encode_frame(FrameType.BINARY, "file", b"\x00\xff") == b"\0\0\0\x0d\x01\0\x04file\x00\xff"


@pytest.mark.parametrize(
    ("frame_type", "expected"),
    [
        (FrameType.PING, b"\0\0\0\x07\x02\0\0"),
        (FrameType.PONG, b"\0\0\0\x07\x03\0\0"),
        (FrameType.CONNECT, b"\0\0\0\x0e\x06\0\x07connect"),
        (FrameType.DISCONNECT, b"\0\0\0\x07\x07\0\0"),
        (FrameType.JOIN_ROOM, b"\0\0\0\x10\x08\0\x09join-room"),
        (FrameType.LEAVE_ROOM, b"\0\0\0\x11\x09\0\x0aleave-room"),
        (FrameType.ERROR, b"\0\0\0\x0c\x0a\0\x05error"),
    ],
)
def test_a_missing_event_is_the_one_the_type_prescribes(frame_type: FrameType, expected: bytes) -> None:
    assert encode_frame(frame_type) == expected


@pytest.mark.parametrize("frame_type", [t for t in FrameType if t not in EVENT_FIELDS])
def test_a_missing_event_is_refused_where_the_type_prescribes_none(frame_type: FrameType) -> None:
    with pytest.raises(TypeError, match=f"{frame_type.name} needs an event"):
        encode_frame(frame_type)


def test_an_event_given_wins_over_the_prescribed_one() -> None:
    assert encode_frame(FrameType.ERROR, "sum", b"{}") == b"\0\0\0\x0c\x0a\0\x03sum{}"


def test_an_empty_event_is_encoded_as_empty() -> None:
    assert encode_frame(FrameType.ERROR, "", b"1") == b"\0\0\0\x08\x0a\0\0001"


def test_a_frame_at_the_limit_is_encoded() -> None:
    assert encode_frame(FrameType.JSON, "a", b"12", max_frame_size=10) == b"\0\0\0\x0a\0\0\x01a12"


def test_a_frame_one_byte_above_the_limit_is_refused() -> None:
    with pytest.raises(
        MessageError, match=r"11 bytes \(3 of them payload\); the limit is 10 bytes"
    ) as caught:
        encode_frame(FrameType.JSON, "a", b"123", max_frame_size=10)
    assert caught.value.code == "FRAME_TOO_LARGE"


def test_the_default_limit_is_ten_mebibytes() -> None:
    assert len(encode_frame(FrameType.BINARY, "a", bytes(10_485_752))) == 10_485_760
    with pytest.raises(MessageError):
        encode_frame(FrameType.BINARY, "a", bytes(10_485_753))


def test_an_event_of_256_bytes_is_encoded() -> None:
    assert encode_frame(FrameType.JSON, "ñ" * 128) == b"\0\0\x01\x07\0\x01\0" + b"\xc3\xb1" * 128


def test_an_event_of_257_bytes_is_refused_whatever_its_characters() -> None:
    for event in ("x" * 257, "x" + "ñ" * 128):
        with pytest.raises(MessageError, match="257 bytes; the limit is 256 bytes") as caught:
            encode_frame(FrameType.JSON, event)
        assert caught.value.code == "EVENT_TOO_LONG"


def test_an_event_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(MessageError, match=r"'\\ud800'.*surrogates") as caught:
        encode_frame(FrameType.JSON, "\ud800")
    assert caught.value.code == "INVALID_EVENT_CHARS"


# --- parsing ---


def test_all_whole_frames_of_a_chunk_are_parsed_in_one_pass() -> None:
    data = b"\0\0\0\x0d\x01\0\x04file\x00\xff" + b"\0\0\0\x07\x02\0\0" + b"\0\0\0\x08\0\0\x01a"
    assert parse(data) == (
        [
            FrameReceived(FrameType.BINARY, "file", b"\x00\xff"),
            FrameReceived(FrameType.PING, "", b""),
            FrameReceived(FrameType.JSON, "a", b""),
        ],
        28,
    )


def test_parsed_frames_have_the_types_they_promise() -> None:
    [frame], _ = parse(b"\0\0\0\x08\x01\0\x01\x01", NPM)
    assert type(frame) is FrameReceived
    assert frame.type is FrameType.JSON
    assert type(frame.payload) is bytes


@pytest.mark.parametrize(("dialect", "ping"), [(DOCUMENTED, 2), (NPM, 3)])
def test_the_quiet_types_are_all_but_ping(dialect: Dialect, ping: int) -> None:
    assert dialect.frame_types[ping] is FrameType.PING
    expected = list(dialect.frame_types)
    expected[ping] = None
    assert list(dialect.quiet_types) == expected


def test_frames_are_parsed_from_the_position_on_to_the_first_of_another_type() -> None:
    ping, pong = b"\0\0\0\x07\x02\0\0", b"\0\0\0\x07\x03\0\0"
    events: list[Event] = []
    assert parse_frames(b"\xff" + pong + ping + pong, 1, DOCUMENTED.quiet_types, LIMIT, events) == 8
    assert events == [FrameReceived(FrameType.PONG, "", b"")]


@pytest.mark.parametrize("size", range(13))
def test_an_incomplete_frame_is_left_alone(size: int) -> None:
    ping = b"\0\0\0\x07\x02\0\0"
    assert parse(ping + b"\0\0\0\x0d\x01\0\x04file\x00\xff"[:size]) == (
        [FrameReceived(FrameType.PING, "", b"")],
        7,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        b"\0\0\0\x06\x02\0\0",
        b"\0\0\0\x00\x02\0\0",
        b"\0\0\0\x41\0\0\0" + bytes(58),
        b"\0\0\0\x07\x0b\0\0",
        b"\0\0\0\x0a\0\0\x04abc",
        b"\0\0\x01\x08\0\x01\x01" + b"x" * 257,
        b"\0\0\0\x08\0\0\x01\xff",
    ],
)
def test_a_wrong_frame_is_left_alone_with_all_behind_it(wrong: bytes) -> None:
    ping = b"\0\0\0\x07\x02\0\0"
    assert parse(ping + wrong + ping, limit=64) == ([FrameReceived(FrameType.PING, "", b"")], 7)
    with pytest.raises(FrameError):
        judge_frame(wrong, DOCUMENTED, 64)


@pytest.mark.parametrize(
    ("there", "needed"), [(0, 4), (3, 4), (4, 5), (5, 7), (6, 7), (7, 11), (10, 11), (11, 13), (12, 13)]
)
def test_of_an_incomplete_frame_the_bytes_up_to_the_next_rule_are_needed(there: int, needed: int) -> None:
    assert judge_frame(b"\0\0\0\x0d\x01\0\x04file\x00\xff"[:there], DOCUMENTED, LIMIT) == needed


def test_a_frame_over_the_limit_is_reported_with_its_size() -> None:
    with pytest.raises(FrameTooLarge, match="a frame of 65 bytes; the limit is 64 bytes") as caught:
        judge_frame(b"\0\0\0\x41", DOCUMENTED, 64)
    assert (caught.value.code, caught.value.size, caught.value.limit) == ("FRAME_TOO_LARGE", 65, 64)


def test_the_message_of_an_unknown_type_names_the_dialect_and_its_codes() -> None:
    with pytest.raises(FrameError, match="type 0 is unknown: the npm dialect has 1 to 11"):
        judge_frame(b"\0\0\0\x07\0", NPM, LIMIT)
    with pytest.raises(FrameError, match="type 11 is unknown: the documented dialect has 0 to 10"):
        judge_frame(b"\0\0\0\x07\x0b", DOCUMENTED, LIMIT)


@given(frames, st.sampled_from(Dialect))
def test_what_is_encoded_is_decoded(frame: FrameReceived, dialect: Dialect) -> None:
    data = encode_frame(*frame, dialect=dialect)
    assert parse(data, dialect) == ([frame], len(data))
    assert judge_frame(data[:MAX_HEAD_SIZE], dialect, LIMIT) == len(data)


damaged = st.builds(
    lambda data, at, byte: data[: at % len(data)] + bytes([byte]) + data[at % len(data) + 1 :],
    st.builds(lambda frame: encode_frame(*frame), frames),
    st.integers(0, 12),
    st.integers(0, 255),
)


@given(
    st.lists(st.one_of(st.binary(max_size=12), damaged), max_size=4).map(b"".join), st.sampled_from(Dialect)
)
def test_what_the_parser_leaves_is_either_refused_or_too_short(data: bytes, dialect: Dialect) -> None:
    events, consumed = parse(data, dialect, 64)
    assert (
        b"".join(encode_frame(*event, dialect=dialect) for event in events if len(event) == 3)
        == data[:consumed]
    )
    rest = data[consumed:]
    try:
        needed = judge_frame(rest[:MAX_HEAD_SIZE], dialect, 64)
    except FrameError:
        return
    assert len(rest) < needed <= 64

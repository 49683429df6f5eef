"""The bytes that the npm package 3.2.0 really sends, held against this codec, in both dialects.

The recordings are in the npm dialect. In the documented one every type code, the fifth byte of a frame, is
one lower and nothing else differs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stelar_proto.errors import FrameError, MessageError
from stelar_proto.messages import check_event_name
from stelar_proto.tcp import Closed, Connection, Dialect, Event, FrameReceived, FrameType, encode_frame
from stelar_proto.tcp.frames import DEFAULT_MAX_FRAME_SIZE

from .feeding import chunkings, feed

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDED: dict[str, Any] = json.loads((VECTORS / "tcp_npm_3_2_0.json").read_text("utf-8"))
TRANSCRIPT: dict[str, Any] = json.loads((VECTORS / "transcript_npm_3_2_0.json").read_text("utf-8"))

ENCODABLE = [vector for vector in RECORDED["encode"] if "error" not in vector]
REFUSED = [vector for vector in RECORDED["encode"] if "error" in vector]
DECODE = RECORDED["decode"]

dialects = pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.value)


def in_dialect(recorded: bytes, dialect: Dialect) -> bytes:
    """The recorded npm bytes in ``dialect``, written without the code under test."""
    data = bytearray(recorded)
    position = 0
    while dialect is Dialect.DOCUMENTED and position + 5 <= len(data):
        data[position + 4] = (data[position + 4] - 1) % 256
        position += max(7, int.from_bytes(data[position : position + 4], "big"))
    return bytes(data)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def frame_of(vector: dict[str, Any]) -> FrameReceived:
    """The frame that a recorded call of the npm encoder stands for."""
    match vector["kind"]:
        case "json":
            return FrameReceived(FrameType.JSON, vector["event"], compact(vector["data"]))
        case "binary":
            return FrameReceived(FrameType.BINARY, vector["event"], bytes.fromhex(vector["payload_hex"]))
        case "ack_request":
            return FrameReceived(FrameType.ACK_REQUEST, vector["event"], compact(vector["data"]))
        case "ack_response":
            return FrameReceived(FrameType.ACK_RESPONSE, vector["event"], compact(vector["data"]))
        case "connect":
            return FrameReceived(FrameType.CONNECT, "connect", vector["client_id"].encode())
        case "join":
            return FrameReceived(FrameType.JOIN_ROOM, "join-room", vector["room"].encode())
        case "leave":
            return FrameReceived(FrameType.LEAVE_ROOM, "leave-room", vector["room"].encode())
        case "error":
            return FrameReceived(FrameType.ERROR, "error", vector["message"].encode())
        case kind:
            return FrameReceived(FrameType[kind.upper()], "", b"")


def named(vector: dict[str, Any]) -> str:
    return f"{vector['kind']}-{(vector.get('hex') or vector['error'])[:40]}"


def test_the_recordings_are_complete() -> None:
    assert (len(ENCODABLE) + len(REFUSED), len(DECODE)) == (55, 13)
    assert len(REFUSED) == 7
    assert {frame_of(vector).type for vector in ENCODABLE} == set(FrameType)


def test_the_type_codes_are_those_of_the_npm_dialect() -> None:
    assert RECORDED["type_codes"] == {
        frame_type.name.lower(): frame_type + Dialect.NPM.offset for frame_type in FrameType
    }


@dialects
@pytest.mark.parametrize("vector", ENCODABLE, ids=named)
def test_every_recorded_encoding_is_made_byte_for_byte(vector: dict[str, Any], dialect: Dialect) -> None:
    expected = in_dialect(bytes.fromhex(vector["hex"]), dialect)
    frame = frame_of(vector)
    assert encode_frame(*frame, dialect=dialect) == expected
    connection = Connection(dialect=dialect)
    connection.send_frame(*frame)
    assert connection.data_to_send() == expected


@pytest.mark.parametrize("vector", [v for v in ENCODABLE if "event" not in v], ids=named)
def test_every_recorded_fixed_event_is_the_default_one(vector: dict[str, Any]) -> None:
    frame = frame_of(vector)
    assert encode_frame(frame.type, None, frame.payload, dialect=Dialect.NPM).hex() == vector["hex"]


@dialects
@pytest.mark.parametrize("vector", ENCODABLE, ids=named)
def test_every_recorded_encoding_is_understood_in_any_chunks(
    vector: dict[str, Any], dialect: Dialect
) -> None:
    data = in_dialect(bytes.fromhex(vector["hex"]), dialect)
    for chunks in chunkings(data):
        assert feed(Connection(dialect=dialect), chunks) == [frame_of(vector)]


@pytest.mark.parametrize("vector", REFUSED, ids=named)
def test_every_recorded_refusal_has_its_code(vector: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        check_event_name(vector["event"])
    assert caught.value.code == vector["error"]


def outcome_of(vector: dict[str, Any], dialect: Dialect) -> tuple[list[Event], str | None]:
    """The frames and the error code that a recorded decoding must have here."""
    if "error" in vector:
        return [], vector["error"]
    if any(not 1 <= frame["type"] <= 11 for frame in vector["frames"]):
        return [], "UNKNOWN_FRAME_TYPE"  # stricter than the npm parser, which passes unknown types over
    return [
        FrameReceived(FrameType(frame["type"] - 1), frame["event"], bytes.fromhex(frame["payload_hex"]))
        for frame in vector["frames"]
    ], None


@dialects
@pytest.mark.parametrize("vector", DECODE, ids=lambda vector: vector["name"])
def test_every_recorded_decoding_holds_in_any_chunks(vector: dict[str, Any], dialect: Dialect) -> None:
    frames, code = outcome_of(vector, dialect)
    limit = vector["max_frame_size"] or DEFAULT_MAX_FRAME_SIZE
    for chunks in chunkings(in_dialect(bytes.fromhex(vector["hex"]), dialect)):
        events = feed(Connection(dialect=dialect, max_frame_size=limit), chunks)
        if code is None:
            assert events == frames
        else:
            *before, closed = events
            assert before == frames
            assert isinstance(closed, Closed)
            assert isinstance(closed.error, FrameError)
            assert closed.error.code == code


# --- the conversation ---

J, B = FrameType.JSON, FrameType.BINARY
ECHO = '{"n":1,"s":"ñandú ☃","list":[1,2.5,null,true]}'.encode()
PING, PONG = FrameReceived(FrameType.PING, "", b""), FrameReceived(FrameType.PONG, "", b"")
SAID: dict[str, list[Event]] = {
    "client": [
        FrameReceived(J, "echo", ECHO),
        FrameReceived(B, "blob", b"\x00\x01\x02\xff\x00\x07"),
        FrameReceived(FrameType.ACK_REQUEST, "sum", b'{"event":"getSum","data":[1,2,3]}'),
        FrameReceived(FrameType.ACK_REQUEST, "boom", b'{"event":"x","data":{}}'),
        PONG,
        FrameReceived(FrameType.JOIN_ROOM, "join-room", b"general"),
        FrameReceived(J, "room-say", b'"hi"'),
        FrameReceived(FrameType.LEAVE_ROOM, "leave-room", b"general"),
        FrameReceived(J, "reply", b"1"),
        FrameReceived(J, "chat", b'{"from":"tcp"}'),
        PING,
        PONG,
        PONG,
        PING,
        Closed(None),
    ],
    "server": [
        FrameReceived(FrameType.CONNECT, "connect", b"client-1"),
        FrameReceived(J, "welcome", b'{"id":"client-1"}'),
        FrameReceived(J, "echo", ECHO),
        FrameReceived(B, "blob", b"\x00\x01\x02\xff\x00\x07"),
        FrameReceived(FrameType.ACK_RESPONSE, "sum", b'{"total":6}'),
        PING,
        FrameReceived(J, "joined-room", b'"general"'),
        FrameReceived(J, "said", b'"hi"'),
        FrameReceived(J, "left-room", b'"general"'),
        FrameReceived(J, "custom-ack", b'{"data":{"x":1},"_isAck":true}'),
        FrameReceived(J, "chat", b'{"from":"ws"}'),
        PONG,
        PING,
        PING,
        PONG,
        Closed(None),
    ],
}


def chunks_of(side: str) -> list[bytes]:
    """What one side sent, as it was recorded; the end of the stream is an empty chunk."""
    [tcp] = [connection for connection in TRANSCRIPT["connections"] if connection["wire"] == "tcp"]
    return [b"" if chunk == "EOF" else bytes.fromhex(chunk) for who, chunk in tcp["chunks"] if who == side]


@dialects
@pytest.mark.parametrize("side", ["client", "server"])
def test_the_recorded_conversation_is_understood_in_any_chunks(side: str, dialect: Dialect) -> None:
    recorded = chunks_of(side)
    data = in_dialect(b"".join(recorded), dialect)
    for chunks in chunkings(data):
        connection = Connection(dialect=dialect)
        assert feed(connection, [*chunks, b""]) == SAID[side]
        pings = SAID[side].count(PING)
        assert connection.data_to_send() == encode_frame(FrameType.PONG, dialect=dialect) * pings


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_recorded_chunks_are_understood_as_they_came(side: str) -> None:
    assert feed(Connection(dialect=Dialect.NPM), chunks_of(side)) == SAID[side]


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_recorded_conversation_is_said_again_byte_for_byte(side: str) -> None:
    connection = Connection(dialect=Dialect.NPM)
    for event in SAID[side]:
        if isinstance(event, FrameReceived):
            connection.send_frame(*event)
    connection.close()
    assert connection.data_to_send() == b"".join(chunks_of(side))

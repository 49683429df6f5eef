"""What both wires have in common: what is not said, and that one side reads what the other says."""

from __future__ import annotations

import enum
import json
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stelar_proto.errors import MessageError
from stelar_proto.messages import (
    JSON,
    AckError,
    AckRequest,
    AckResponse,
    Binary,
    Event,
    Invalid,
    Join,
    Leave,
    Message,
    check_event_name,
)
from stelar_proto.tcp import Connection, FrameReceived, FrameType
from stelar_proto.wire import Format, TcpFormat, WebSocketFormat, is_room_name
from stelar_proto.ws import Opcode, Role
from tests.test_messages import ALLOWED, json_values

table = partial(pytest.mark.parametrize, ids=lambda value: ascii(value)[:64])
both_wires = pytest.mark.parametrize("make", [WebSocketFormat, TcpFormat], ids=["ws", "tcp"])


def read(reader: Format, writer: Format, message: Message) -> Message:
    """What ``reader`` reads when ``writer`` says ``message``."""
    if isinstance(writer, WebSocketFormat) and isinstance(reader, WebSocketFormat):
        opcode, payload = writer.encode(message)
        return (
            reader.decode_text(payload.decode()) if opcode is Opcode.TEXT else reader.decode_binary(payload)
        )
    assert isinstance(reader, TcpFormat)
    [frame] = Connection().receive_data(writer.encode_frame(message))
    assert isinstance(frame, FrameReceived)
    return reader.decode(*frame)


# --- encoding ---


@both_wires
@table(
    ("name", "code"),
    [
        ("", "EMPTY_EVENT"),
        ("x" * 257, "EVENT_TOO_LONG"),
        ('a","_isAck":true,"b":"', "INVALID_EVENT_CHARS"),
        ("\ud800", "INVALID_EVENT_CHARS"),
        ("ping", "RESERVED_EVENT"),
    ],
)
def test_a_name_that_breaks_the_rules_is_not_said(make: type[Format], name: str, code: str) -> None:
    wire = make(Role.CLIENT)
    for message in (Event(name, 1), Binary(name, b""), AckRequest("a", name, 1, "1")):
        with pytest.raises(MessageError) as caught:
            wire.encode_frame(message)
        assert caught.value.code == code


@both_wires
@table(
    "data",
    [float("nan"), [float("inf")], {1, 2}, b"bytes", "\ud800", {"\udc00": 1}, ["\ud83d", "\ude00"]],
)
def test_data_that_json_or_utf8_cannot_say_is_not_said(make: type[Format], data: Any) -> None:
    wire = make(Role.SERVER)
    for message in (Event("chat", data), AckRequest("a", "x", data, None), AckResponse("a", data, "1")):
        with pytest.raises(MessageError) as caught:
            wire.encode_frame(message)
        assert caught.value.code == "NOT_SERIALIZABLE"


@both_wires
def test_data_nested_too_deeply_or_in_itself_is_not_said(make: type[Format]) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    itself: list[Any] = []
    itself.append(itself)
    for data in (deep, itself):
        with pytest.raises(MessageError) as caught:
            make(Role.SERVER).encode_frame(Event("chat", data))
        assert caught.value.code == "NOT_SERIALIZABLE"
    while deep:  # or its end would be as deep
        deep = deep.pop()


class Events(str, enum.Enum):  # noqa: UP042  # as users write it
    CHAT = "chat"


@both_wires
def test_a_member_of_a_str_enum_is_said_as_its_value(make: type[Format]) -> None:
    wire = make(Role.CLIENT)
    for message, same in (
        (Event(Events.CHAT, 1), Event("chat", 1)),
        (Binary(Events.CHAT, b"x"), Binary("chat", b"x")),
        (AckRequest(Events.CHAT, Events.CHAT, 1, "1"), AckRequest("chat", "chat", 1, "1")),
    ):
        assert wire.encode_frame(message) == wire.encode_frame(same)


# --- serializers ---


class Reversed:
    """A serializer of someone else: the text backwards, and any exception."""

    def dumps(self, value: Any) -> str:
        return json.dumps({1: "one"}[value])[::-1]

    def loads(self, data: str) -> Any:
        raise LookupError("not mine")


@both_wires
def test_a_serializer_of_ones_own_is_used_and_may_raise_anything(make: type[Format]) -> None:
    wire = make(Role.SERVER, serializer=Reversed())
    assert b'"eno"' in wire.encode_frame(Event("chat", 1))
    with pytest.raises(MessageError, match="cannot be said in JSON: 2") as caught:
        wire.encode_frame(Event("chat", 2))
    assert caught.value.code == "NOT_SERIALIZABLE"
    assert isinstance(caught.value.__cause__, KeyError)
    message = read(wire, make(Role.CLIENT), Event("chat", 1))
    assert isinstance(message, Invalid)
    assert "its JSON is broken: not mine" in message.reason


# --- rooms ---


@table(
    ("name", "legal"),
    [
        ("a", True),
        ("sala ñ ☃", True),
        ("x" * 256, True),
        ("ñ" * 128, True),
        ("\0", True),
        ("", False),
        ("x" * 257, False),
        ("ñ" * 129, False),
        ("\ud800", False),
    ],
)
def test_a_room_name_has_1_to_256_bytes(name: str, legal: bool) -> None:
    assert is_room_name(name) is legal


# --- both ways ---

KINDS = set(get_args(Message))

event_names = st.text(ALLOWED, min_size=1, max_size=256).map("x".__add__).map(lambda name: name[:256])
short_texts = st.text(min_size=1, max_size=64)
ids = st.none() | short_texts
messages = st.one_of(
    st.builds(Event, event_names, json_values),
    st.builds(Binary, event_names, st.binary(max_size=300)),
    st.builds(AckRequest, short_texts.map("a".__add__), event_names, json_values, ids),
    st.builds(AckResponse, short_texts, json_values, short_texts),
    st.builds(AckError, short_texts.map("a".__add__), st.text(), st.text(), ids),
    st.builds(Join, short_texts),
    st.builds(Leave, short_texts),
)


@both_wires
@given(messages)
@example(AckResponse("a", {"_correlationId": "mine"}, "7"))
@example(AckResponse("a", {"data": 1, "_correlationId": "mine"}, "7"))
def test_what_one_side_says_is_what_the_other_reads(make: type[Format], message: Message) -> None:
    client, server = make(Role.CLIENT), make(Role.SERVER)
    assert read(server, client, message) == message
    if not isinstance(message, Join | Leave):
        assert read(client, server, message) == message


@given(st.text(), st.binary(), st.sampled_from(FrameType), st.text(max_size=256))
def test_anything_is_read_as_something(text: str, data: bytes, frame_type: FrameType, event: str) -> None:
    for role in Role:
        assert type(WebSocketFormat(role).decode_text(text)) in KINDS
        assert type(WebSocketFormat(role).decode_binary(data)) in KINDS
        assert type(TcpFormat(role).decode(frame_type, event, data)) in KINDS


envelopes = st.dictionaries(
    st.sampled_from(["event", "data", "_isAck", "_ackName", "_error", "_correlationId"]),
    json_values | st.sampled_from(["chat", "join-room", "leave-room", "stelar:connect", "ping", "pong"]),
)


@given(envelopes, short_texts)
@example({"event": "x", "_ackName": "error"}, "error")
def test_what_is_read_keeps_the_rules_and_can_be_answered(envelope: dict[str, Any], ack: str) -> None:
    text = json.dumps(envelope)
    for wire, message in (
        (WebSocketFormat(Role.SERVER), WebSocketFormat(Role.SERVER).decode_text(text)),
        (TcpFormat(Role.SERVER), TcpFormat(Role.SERVER).decode(FrameType.ACK_REQUEST, ack, text.encode())),
    ):
        if isinstance(message, Event):
            check_event_name(message.name)
            JSON.dumps(message.data).encode()
        elif isinstance(message, AckRequest):
            check_event_name(message.event)
            answers = (
                AckResponse(message.ack, message.data, message.correlation_id or "1"),
                AckError(message.ack, "REFUSED", "", message.correlation_id),
            )
            for answer in answers:
                assert read(type(wire)(Role.CLIENT), wire, answer) == answer

"""The WebSocket envelope, row by row, as literal text and bytes; and what is no message in it."""

from __future__ import annotations

from functools import partial

import pytest

from stelar_proto.errors import MessageError
from stelar_proto.messages import (
    AckError,
    AckRequest,
    AckResponse,
    Alive,
    Binary,
    Event,
    Failure,
    Goodbye,
    Hello,
    Invalid,
    Join,
    Leave,
    Message,
)
from stelar_proto.wire import WebSocketFormat
from stelar_proto.ws import Opcode, Role

CLIENT, SERVER = WebSocketFormat(Role.CLIENT), WebSocketFormat(Role.SERVER)

table = partial(pytest.mark.parametrize, ids=lambda value: ascii(value)[:64])

# --- one form for both directions ---

BOTH_WAYS = [
    (Event("chat", {"text": "¡hola ☃ 😀!"}), '{"event":"chat","data":{"text":"¡hola ☃ 😀!"}}'),
    (Event("chat", None), '{"event":"chat","data":null}'),
    (Event("chat", [1, 2.5, "\0"]), '{"event":"chat","data":[1,2.5,"\\u0000"]}'),
    (Event("joined-room", "general"), '{"event":"joined-room","data":"general"}'),
    (
        AckRequest("sum", "getSum", [1, 2], None),
        '{"event":"getSum","data":[1,2],"_ackName":"sum"}',
    ),
    (
        AckRequest("sum", "getSum", [1, 2], "7"),
        '{"event":"getSum","data":[1,2],"_ackName":"sum","_correlationId":"7"}',
    ),
    (
        AckRequest('"\\', "x", None, "ñ"),
        '{"event":"x","data":null,"_ackName":"\\"\\\\","_correlationId":"ñ"}',
    ),
    (AckResponse("sum", {"total": 3}, None), '{"event":"sum","data":{"total":3},"_isAck":true}'),
    (
        AckResponse("sum", None, "7"),
        '{"event":"sum","data":null,"_isAck":true,"_correlationId":"7"}',
    ),
    (
        AckResponse("sum", {"_correlationId": "mine", "_error": 1}, "7"),
        '{"event":"sum","data":{"_correlationId":"mine","_error":1},"_isAck":true,"_correlationId":"7"}',
    ),
    (
        AckError("sum", "NO_HANDLER", 'no "x"', None),
        '{"event":"sum","data":null,"_isAck":true,"_error":{"code":"NO_HANDLER","message":"no \\"x\\""}}',
    ),
    (
        AckError("sum", "HANDLER_ERROR", "", "7"),
        '{"event":"sum","data":null,"_isAck":true,"_error":{"code":"HANDLER_ERROR","message":""},'
        '"_correlationId":"7"}',
    ),
]


@table(("message", "text"), BOTH_WAYS)
@pytest.mark.parametrize(("sender", "receiver"), [(CLIENT, SERVER), (SERVER, CLIENT)], ids=["up", "down"])
def test_texts_that_either_side_sends(
    sender: WebSocketFormat, receiver: WebSocketFormat, message: Message, text: str
) -> None:
    assert sender.encode(message) == (Opcode.TEXT, text.encode())
    assert receiver.decode_text(text) == message


@table(
    ("message", "text"),
    [
        (Join("general"), '{"event":"join-room","data":"general"}'),
        (Join("sala ñ ☃"), '{"event":"join-room","data":"sala ñ ☃"}'),
        (Leave("general"), '{"event":"leave-room","data":"general"}'),
    ],
)
def test_texts_that_only_clients_send(message: Message, text: str) -> None:
    assert CLIENT.encode(message) == (Opcode.TEXT, text.encode())
    assert SERVER.decode_text(text) == message
    kind = type(message).__name__.lower()
    assert CLIENT.decode_text(text) == Invalid(f"a {kind} message came from the side that does not send it")


def test_the_text_that_only_servers_send() -> None:
    text = '{"event":"stelar:connect","data":{"id":"c1"}}'
    assert SERVER.encode(Hello("c1")) == (Opcode.TEXT, text.encode())
    assert CLIENT.decode_text(text) == Hello("c1")
    assert isinstance(SERVER.decode_text(text), Invalid)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\1\2\xff\0\7", b'{"event":"x"}\0'])
def test_binary_messages(payload: bytes) -> None:
    upward, downward = b'{"event":"blob"}\0' + payload, b'{"event":"blob","_binary":true}\0' + payload
    assert CLIENT.encode(Binary("blob", payload)) == (Opcode.BINARY, upward)
    assert SERVER.encode(Binary("blob", payload)) == (Opcode.BINARY, downward)
    for receiver in (CLIENT, SERVER):  # the flag says nothing that is not known
        assert receiver.decode_binary(upward) == Binary("blob", payload)
        assert receiver.decode_binary(downward) == Binary("blob", payload)


def test_a_frame_for_many_is_whole_and_unmasked() -> None:
    text = b'{"event":"chat","data":1}'
    assert SERVER.encode_frame(Event("chat", 1)) == b"\x81\x19" + text
    assert SERVER.encode_frame(Binary("b", b"x" * 200))[:4] == b"\x82\x7e\x00\xe5"


@table(
    ("text", "message"),
    [
        ('{"event":"chat"}', Event("chat", None)),
        ('{"data":1,"event":"chat","more":2}', Event("chat", 1)),
        (' { "event" : "chat" , "data" : 1 } ', Event("chat", 1)),
        ('{"event":"getSum","_ackName":"sum"}', AckRequest("sum", "getSum", None, None)),
        ('{"event":"x","_ackName":"sum","_correlationId":null}', AckRequest("sum", "x", None, None)),
        ('{"event":"sum","_isAck":true}', AckResponse("sum", None, None)),
        ('{"event":"sum","data":1,"_isAck":false}', Event("sum", 1)),
        ('{"event":"x","_isAck":true,"_error":{"code":"C"}}', AckError("x", "C", "", None)),
        ('{"event":"x","_isAck":true,"_error":{"code":"C","message":5}}', AckError("x", "C", "", None)),
        ('{"event":"two words","data":1,"_isAck":true}', AckResponse("two words", 1, None)),
    ],
)
def test_what_may_be_left_out_and_what_may_be_more(text: str, message: Message) -> None:
    assert SERVER.decode_text(text) == message
    assert CLIENT.decode_text(text) == message


def test_the_heartbeat_texts_of_npm_peers_are_signs_of_life_and_no_more() -> None:
    assert SERVER.decode_text('{"event":"pong","data":1718000000000}') == Alive()
    assert CLIENT.decode_text('{"event":"ping"}') == Alive()
    # From the other side the names are only reserved.
    assert isinstance(SERVER.decode_text('{"event":"ping"}'), Invalid)
    assert isinstance(CLIENT.decode_text('{"event":"pong","data":1}'), Invalid)


# --- no message ---


@table(
    ("text", "reason"),
    [
        ("", "its JSON is broken"),
        ("hola", "its JSON is broken"),
        ('{"event":"chat"', "its JSON is broken"),
        ('{"event":"chat","data":NaN}', "its JSON is broken: NaN"),
        ('{"event":"chat","data":-Infinity}', "its JSON is broken: -Infinity"),
        ('{"event":"chat","data":1e999}', "its JSON is broken: 1e999 is out of range"),
        ('{"event":"chat","data":' + "9" * 5000 + "}", "its JSON is broken"),
        ('{"event":"chat","data":' + "[" * 100_000 + "]" * 100_000 + "}", "its JSON is broken"),
        ('{"event":"chat","data":' + '{"a":' * 100_000, "its JSON is broken"),
        ('{"event":"chat","data":"\\ud800"}', "its JSON is broken"),
        ("null", "it is not a JSON object"),
        ("1", "it is not a JSON object"),
        ('"event"', "it is not a JSON object"),
        ('["event"]', "it is not a JSON object"),
        ("{}", "it has no event name"),
        ('{"data":1}', "it has no event name"),
        ('{"event":null}', "it has no event name"),
        ('{"event":1,"data":1}', "it has no event name"),
        ('{"event":["chat"]}', "it has no event name"),
        ('{"event":""}', "an event needs a name"),
        ('{"event":"a b"}', "event names are made of"),
        ('{"event":"' + "x" * 257 + '"}', "at most 256 bytes"),
        ('{"event":"connect"}', "is reserved"),
        ('{"event":"disconnect"}', "is reserved"),
        ('{"event":"error","data":1}', "is reserved"),
        ('{"event":"join-room"}', "a room name is a text of 1 to 256 bytes"),
        ('{"event":"join-room","data":""}', "a room name is a text"),
        ('{"event":"join-room","data":1}', "a room name is a text"),
        ('{"event":"leave-room","data":["a"]}', "a room name is a text"),
        ('{"event":"leave-room","data":"' + "ñ" * 129 + '"}', "a room name is a text"),
        ('{"event":"stelar:connect"}', "it announces no client id"),
        ('{"event":"stelar:connect","data":{"id":5}}', "it announces no client id"),
        ('{"event":"x","data":1,"_ackName":""}', "an ack name is a text of 1 to 256 bytes"),
        ('{"event":"x","data":1,"_ackName":null}', "an ack name is a text"),
        ('{"event":"x","data":1,"_ackName":7}', "an ack name is a text"),
        ('{"event":"x","data":1,"_ackName":"' + "y" * 257 + '"}', "an ack name is a text"),
        ('{"data":1,"_ackName":"a"}', "it has no event name"),
        ('{"event":"ping","data":1,"_ackName":"a"}', "is reserved"),
        ('{"event":"x","data":1,"_ackName":"a","_correlationId":7}', "_correlationId is a text"),
        ('{"event":"x","data":1,"_ackName":"a","_correlationId":""}', "_correlationId is a text"),
        ('{"event":"x","_ackName":"a","_correlationId":"' + "1" * 257 + '"}', "_correlationId is a text"),
        ('{"data":1,"_isAck":true}', "an ack name is a text"),
        ('{"event":{},"data":1,"_isAck":true}', "an ack name is a text"),
        ('{"event":"a","data":1,"_isAck":true,"_correlationId":[]}', "_correlationId is a text"),
        ('{"event":"a","data":1,"_isAck":true,"_error":null}', "an error answer has no code"),
        ('{"event":"a","data":1,"_isAck":true,"_error":"C"}', "an error answer has no code"),
        ('{"event":"a","data":1,"_isAck":true,"_error":{"code":1}}', "an error answer has no code"),
    ],
)
@pytest.mark.parametrize("receiver", [CLIENT, SERVER], ids=["client", "server"])
def test_texts_that_are_no_message_are_reported_with_what_is_wrong(
    receiver: WebSocketFormat, text: str, reason: str
) -> None:
    message = receiver.decode_text(text)
    assert isinstance(message, Invalid)
    assert message.reason.startswith("a text message was dropped: ")
    assert reason in message.reason
    assert len(message.reason) < 500


@table(
    ("data", "reason"),
    [
        (b"", "no NUL ends its header"),
        (b'{"event":"blob"}', "no NUL ends its header"),
        (b"\0", "its JSON is broken"),
        (b"\0payload", "its JSON is broken"),
        (b'{"event":"\xff"}\0', "its header is not UTF-8"),
        (b'{"event":"\xed\xa0\x80"}\0', "its header is not UTF-8"),
        (b'"blob"\0x', "its header is not a JSON object"),
        (b"[]\0x", "its header is not a JSON object"),
        (b"[" * 100_000 + b"\0x", "its JSON is broken"),
        (b"{}\0x", "it has no event name"),
        (b'{"event":5}\0x', "it has no event name"),
        (b'{"event":"a b"}\0x', "event names are made of"),
        (b'{"event":"ping"}\0x', "is reserved"),
    ],
)
def test_binary_messages_that_are_none_are_reported_with_what_is_wrong(data: bytes, reason: str) -> None:
    message = SERVER.decode_binary(data)
    assert isinstance(message, Invalid)
    assert message.reason.startswith("a binary message was dropped: ")
    assert reason in message.reason


# --- what cannot be said ---


@pytest.mark.parametrize("name", ["join-room", "leave-room", "stelar:connect"])
def test_an_event_under_a_name_of_the_envelope_could_not_be_told_from_it(name: str) -> None:
    with pytest.raises(MessageError, match="word of the protocol") as caught:
        SERVER.encode(Event(name, "general"))
    assert caught.value.code == "RESERVED_EVENT"
    # Requests and binary messages under these names can be told.
    for message in (AckRequest("a", name, None, None), Binary(name, b"")):
        opcode, payload = CLIENT.encode(message)
        decoded = (
            SERVER.decode_text(payload.decode()) if opcode is Opcode.TEXT else SERVER.decode_binary(payload)
        )
        assert decoded == message


@pytest.mark.parametrize("message", [Goodbye(), Failure("no"), Alive(), Invalid("no")])
def test_what_has_no_form_here_is_a_type_error(message: Message) -> None:
    with pytest.raises(TypeError, match=f"{type(message).__name__} is not said in a WebSocket message"):
        SERVER.encode(message)


def test_a_message_at_the_limit_leaves_and_a_longer_one_does_not() -> None:
    limited = WebSocketFormat(Role.SERVER, max_payload_size=40)
    assert len(limited.encode(Event("chat", "x" * 14))[1]) == 40
    assert len(limited.encode(Binary("blob", b"x" * 8))[1]) == 40
    for message in (Event("chat", "x" * 15), Event("chat", "ñ" * 8), Binary("blob", b"x" * 9)):
        with pytest.raises(MessageError, match=r"of 4[12] bytes is over max_payload_size \(40\)") as caught:
            limited.encode(message)
        assert caught.value.code == "PAYLOAD_TOO_LARGE"


def test_what_the_protocol_prescribes_leaves_whatever_the_limit() -> None:
    limited = WebSocketFormat(Role.SERVER, max_payload_size=1)
    assert limited.encode(Hello("c1")) == SERVER.encode(Hello("c1"))
    refusal = AckError("sum", "NO_HANDLER", "nothing answers", "1")
    assert limited.encode(refusal) == SERVER.encode(refusal)

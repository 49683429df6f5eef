"""The payloads of TCP frames, row by row, as literal bytes; and what is no message in them."""

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
from stelar_proto.tcp import Dialect, FrameType
from stelar_proto.wire import TcpFormat
from stelar_proto.ws import Role

CLIENT, SERVER = TcpFormat(Role.CLIENT), TcpFormat(Role.SERVER)
NPM = TcpFormat(Role.SERVER, dialect=Dialect.NPM)

table = partial(pytest.mark.parametrize, ids=lambda value: ascii(value)[:64])

# Message, type, event field, payload.
BOTH_WAYS: list[tuple[Message, FrameType, str, bytes]] = [
    (Event("chat", {"text": "¡hola ☃!"}), FrameType.JSON, "chat", '{"text":"¡hola ☃!"}'.encode()),
    (Event("chat", None), FrameType.JSON, "chat", b"null"),
    (Event("joined-room", "general"), FrameType.JSON, "joined-room", b'"general"'),
    (Binary("blob", b"\0\1\2\xff"), FrameType.BINARY, "blob", b"\0\1\2\xff"),
    (Binary("join-room", b""), FrameType.BINARY, "join-room", b""),
    (
        AckRequest("sum", "getSum", [1, 2], None),
        FrameType.ACK_REQUEST,
        "sum",
        b'{"event":"getSum","data":[1,2]}',
    ),
    (
        AckRequest("sum", "getSum", None, "7"),
        FrameType.ACK_REQUEST,
        "sum",
        b'{"event":"getSum","data":null,"_correlationId":"7"}',
    ),
    (AckResponse("sum", {"total": 3}, None), FrameType.ACK_RESPONSE, "sum", b'{"total":3}'),
    (AckResponse("sum", {"data": 3}, None), FrameType.ACK_RESPONSE, "sum", b'{"data":3}'),
    (AckResponse("sum", 3, "7"), FrameType.ACK_RESPONSE, "sum", b'{"data":3,"_correlationId":"7"}'),
    (
        AckResponse("sum", {"data": 1, "_correlationId": "mine"}, "7"),
        FrameType.ACK_RESPONSE,
        "sum",
        b'{"data":{"data":1,"_correlationId":"mine"},"_correlationId":"7"}',
    ),
    (
        AckError("sum", "NO_HANDLER", "no", None),
        FrameType.ERROR,
        "sum",
        b'{"code":"NO_HANDLER","message":"no"}',
    ),
    (
        AckError("sum", "HANDLER_ERROR", "ñ", "7"),
        FrameType.ERROR,
        "sum",
        '{"code":"HANDLER_ERROR","message":"ñ","_correlationId":"7"}'.encode(),
    ),
]
FROM_CLIENTS: list[tuple[Message, FrameType, str, bytes]] = [
    (Join("sala ñ"), FrameType.JOIN_ROOM, "join-room", "sala ñ".encode()),
    (Leave("general"), FrameType.LEAVE_ROOM, "leave-room", b"general"),
]
FROM_SERVERS: list[tuple[Message, FrameType, str, bytes]] = [
    (Hello("client-1"), FrameType.CONNECT, "connect", b"client-1"),
]


def frame(code: int, event: str, payload: bytes) -> bytes:
    """A frame, put together without the code under test."""
    name = event.encode()
    size = 7 + len(name) + len(payload)
    return size.to_bytes(4, "big") + bytes((code,)) + len(name).to_bytes(2, "big") + name + payload


@table(("message", "frame_type", "event", "payload"), BOTH_WAYS + FROM_CLIENTS + FROM_SERVERS)
def test_each_message_is_one_frame_in_the_numbers_of_the_dialect(
    message: Message, frame_type: FrameType, event: str, payload: bytes
) -> None:
    assert SERVER.encode_frame(message) == frame(int(frame_type), event, payload)
    assert CLIENT.encode_frame(message) == frame(int(frame_type), event, payload)
    assert NPM.encode_frame(message) == frame(int(frame_type) + 1, event, payload)


def test_some_frames_in_full() -> None:
    assert SERVER.encode_frame(Event("chat", None)) == b"\0\0\0\x0f\0\0\4chatnull"
    assert NPM.encode_frame(Event("chat", None)) == b"\0\0\0\x0f\1\0\4chatnull"
    assert SERVER.encode_frame(Hello("c1")) == b"\0\0\0\x10\6\0\7connectc1"
    assert NPM.encode_frame(AckError("sum", "C", "m", None)) == (
        b'\0\0\0\x24\x0b\0\3sum{"code":"C","message":"m"}'
    )


@table(("message", "frame_type", "event", "payload"), BOTH_WAYS)
def test_frames_that_either_side_sends_are_read(
    message: Message, frame_type: FrameType, event: str, payload: bytes
) -> None:
    assert SERVER.decode(frame_type, event, payload) == message
    assert CLIENT.decode(frame_type, event, payload) == message


@table(("message", "frame_type", "event", "payload"), FROM_CLIENTS)
def test_frames_that_only_clients_send(
    message: Message, frame_type: FrameType, event: str, payload: bytes
) -> None:
    assert SERVER.decode(frame_type, event, payload) == message
    assert isinstance(CLIENT.decode(frame_type, event, payload), Invalid)


def test_frames_that_only_servers_send() -> None:
    assert CLIENT.decode(FrameType.CONNECT, "connect", "ñ".encode()) == Hello("ñ")
    assert CLIENT.decode(FrameType.DISCONNECT, "", b"") == Goodbye()
    words = "came from the side that does not send it"
    assert SERVER.decode(FrameType.CONNECT, "connect", b"x") == Invalid(f"a hello message {words}")
    assert SERVER.decode(FrameType.DISCONNECT, "", b"") == Invalid(f"a goodbye message {words}")


@pytest.mark.parametrize("frame_type", [FrameType.PING, FrameType.PONG])
def test_ping_and_pong_are_signs_of_life(frame_type: FrameType) -> None:
    assert SERVER.decode(frame_type, "", b"") == Alive()
    assert CLIENT.decode(frame_type, "", b"") == Alive()


@table(
    ("event", "payload", "message"),
    [
        ("error", b"Rate limit exceeded", Failure("Rate limit exceeded")),
        ("", b"FRAME_TOO_LARGE", Failure("FRAME_TOO_LARGE")),
        ("error", b"", Failure("")),
        ("error", b"\xff", Failure("�")),
        ("error", b'{"code":"C","message":"m"}', Failure('{"code":"C","message":"m"}')),
        ("sum", b'{"code":"C"}', AckError("sum", "C", "", None)),
        ("sum", b'{"code":"C","message":{},"more":1}', AckError("sum", "C", "", None)),
    ],
)
def test_an_error_frame_is_the_end_or_an_answer(event: str, payload: bytes, message: Message) -> None:
    assert CLIENT.decode(FrameType.ERROR, event, payload) == message
    assert SERVER.decode(FrameType.ERROR, event, payload) == message


@table(
    ("payload", "message"),
    [
        (b"", AckResponse("a", None, None)),
        (b"null", AckResponse("a", None, None)),
        # A result that its server left undefined is no field of the wrapping.
        (b'{"_correlationId":"7"}', AckResponse("a", None, "7")),
        # These look like a wrapping and are none: the id is no text, or there is more.
        (b'{"data":1,"_correlationId":7}', AckResponse("a", {"data": 1, "_correlationId": 7}, None)),
        (
            b'{"data":1,"_correlationId":"7","x":1}',
            AckResponse("a", {"data": 1, "_correlationId": "7", "x": 1}, None),
        ),
    ],
)
def test_a_response_is_unwrapped_when_it_is_wrapped(payload: bytes, message: Message) -> None:
    assert CLIENT.decode(FrameType.ACK_RESPONSE, "a", payload) == message


def test_an_event_without_payload_reads_as_null() -> None:
    assert SERVER.decode(FrameType.JSON, "chat", b"") == Event("chat", None)


@table(
    ("frame_type", "event", "payload", "reason"),
    [
        (FrameType.JSON, "chat", b"{no}", "its JSON is broken"),
        (FrameType.JSON, "chat", b" ", "its JSON is broken"),
        (FrameType.JSON, "chat", b"\xff", "its payload is not UTF-8"),
        (FrameType.JSON, "chat", b'"\xed\xa0\x80"', "its payload is not UTF-8"),
        (FrameType.JSON, "chat", b'"\\ud800"', "its JSON is broken"),
        (FrameType.JSON, "chat", b"NaN", "its JSON is broken: NaN"),
        (FrameType.JSON, "chat", b"1e999", "its JSON is broken: 1e999 is out of range"),
        (FrameType.JSON, "chat", b"9" * 5000, "its JSON is broken"),
        (FrameType.JSON, "chat", b"[" * 100_000, "its JSON is broken"),
        (FrameType.JSON, "", b"1", "an event needs a name"),
        (FrameType.JSON, "ping", b"1", "is reserved"),
        (FrameType.JSON, "a b", b"1", "event names are made of"),
        (FrameType.BINARY, "", b"1", "an event needs a name"),
        (FrameType.BINARY, "error", b"1", "is reserved"),
        (FrameType.BINARY, "ñ", b"1", "event names are made of"),
        (FrameType.ACK_REQUEST, "a", b"", "it is not a JSON object"),
        (FrameType.ACK_REQUEST, "a", b"[]", "it is not a JSON object"),
        (FrameType.ACK_REQUEST, "a", b"{no}", "its JSON is broken"),
        (FrameType.ACK_REQUEST, "a", b"{}", "it has no event name"),
        (FrameType.ACK_REQUEST, "a", b'{"event":"connect"}', "is reserved"),
        (FrameType.ACK_REQUEST, "a", b'{"event":"x","_correlationId":7}', "_correlationId is a text"),
        (FrameType.ACK_REQUEST, "", b'{"event":"x"}', "an ack name is a text of 1 to 256 bytes"),
        # An error answer under this name would read as the end of the conversation.
        (FrameType.ACK_REQUEST, "error", b'{"event":"x"}', "no ack is named 'error'"),
        (FrameType.ACK_RESPONSE, "a", b"{no}", "its JSON is broken"),
        (FrameType.ACK_RESPONSE, "", b"1", "an ack name is a text"),
        (FrameType.ACK_RESPONSE, "a", b'{"_correlationId":""}', "_correlationId is a text"),
        (FrameType.ERROR, "a", b"words", "its JSON is broken"),
        (FrameType.ERROR, "a", b"", "an error answer has no code"),
        (FrameType.ERROR, "a", b'{"code":5}', "an error answer has no code"),
        (FrameType.ERROR, "a", b'{"code":"C","_correlationId":[]}', "_correlationId is a text"),
        (FrameType.CONNECT, "connect", b"\xff", "its payload is not UTF-8"),
        (FrameType.JOIN_ROOM, "join-room", b"\xff", "its payload is not UTF-8"),
        (FrameType.JOIN_ROOM, "join-room", b"", "a room name is a text of 1 to 256 bytes"),
        (FrameType.LEAVE_ROOM, "leave-room", b"x" * 257, "a room name is a text of 1 to 256 bytes"),
    ],
)
@pytest.mark.parametrize("receiver", [CLIENT, SERVER], ids=["client", "server"])
def test_frames_that_are_no_message_are_reported_with_what_is_wrong(
    receiver: TcpFormat, frame_type: FrameType, event: str, payload: bytes, reason: str
) -> None:
    message = receiver.decode(frame_type, event, payload)
    assert isinstance(message, Invalid)
    assert message.reason.startswith(f"a {frame_type.name} frame was dropped: ")
    assert reason in message.reason
    assert len(message.reason) < 500


# --- what cannot be said ---


@pytest.mark.parametrize("name", ["join-room", "leave-room", "stelar:connect"])
def test_an_event_that_websocket_could_not_say_is_not_said_here_either(name: str) -> None:
    with pytest.raises(MessageError, match="word of the protocol") as caught:
        SERVER.encode_frame(Event(name, "general"))
    assert caught.value.code == "RESERVED_EVENT"


@pytest.mark.parametrize("message", [Goodbye(), Failure("no"), Alive(), Invalid("no")])
def test_what_has_no_payload_of_its_own_is_a_type_error(message: Message) -> None:
    with pytest.raises(TypeError, match=f"{type(message).__name__} is not said in a frame of its own"):
        SERVER.encode_frame(message)


@pytest.mark.parametrize("message", [Join("\ud800"), Leave("\udfff"), Hello("\ud800")])
def test_lone_surrogates_are_not_said(message: Message) -> None:
    with pytest.raises(MessageError, match="lone surrogate") as caught:
        CLIENT.encode_frame(message)
    assert caught.value.code == "NOT_SERIALIZABLE"


def test_a_payload_at_the_limit_leaves_and_a_longer_one_does_not() -> None:
    limited = TcpFormat(Role.SERVER, max_payload_size=10)
    assert limited.encode_frame(Binary("blob", b"x" * 10)) == SERVER.encode_frame(Binary("blob", b"x" * 10))
    assert limited.encode_frame(Event("chat", "x" * 8)) == SERVER.encode_frame(Event("chat", "x" * 8))
    for message in (Event("chat", "x" * 9), Binary("blob", b"x" * 11)):
        with pytest.raises(MessageError, match=r"of 11 bytes is over max_payload_size \(10\)") as caught:
            limited.encode_frame(message)
        assert caught.value.code == "PAYLOAD_TOO_LARGE"


def test_a_frame_at_the_limit_leaves_and_a_longer_one_does_not() -> None:
    limited = TcpFormat(Role.SERVER, max_frame_size=21)
    assert len(limited.encode_frame(Binary("blob", b"x" * 10))) == 21
    with pytest.raises(MessageError, match="the limit is 21 bytes") as caught:
        limited.encode_frame(Binary("blob", b"x" * 11))
    assert caught.value.code == "FRAME_TOO_LARGE"


def test_what_the_protocol_prescribes_leaves_whatever_the_limit() -> None:
    limited = TcpFormat(Role.SERVER, max_payload_size=1, max_frame_size=12)
    assert limited.encode_frame(Hello("c1")) == SERVER.encode_frame(Hello("c1"))
    refusal = AckError("sum", "NO_HANDLER", "nothing answers", "1")
    assert limited.encode_frame(refusal) == SERVER.encode_frame(refusal)

"""The alphabet of ``messages`` to and from the two wires, and nothing about connections.

A format turns a message into what the codec below carries and back. It has no state of its own, so that one
server needs one of each kind, and a broadcast is encoded once per format, not once per recipient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

from stelar_proto.errors import MessageError

from . import messages as m
from .messages import CORRELATION_FIELD, JSON, MAX_EVENT_SIZE, Message, Serializer, check_event_name
from .tcp import EVENT_FIELDS, Dialect, FrameType
from .tcp import encode_frame as encode_tcp_frame
from .tcp.frames import LARGEST_FRAME_SIZE
from .ws import Opcode, Role
from .ws.frames import encode_frame as encode_ws_frame

CONNECT_EVENT = "stelar:connect"
JOIN_EVENT, LEAVE_EVENT = "join-room", "leave-room"
# Names that the WebSocket envelope gives a meaning of its own: no event can be told from it.
_ENVELOPE_EVENTS = frozenset({CONNECT_EVENT, JOIN_EVENT, LEAVE_EVENT})

# Who may say what: the messages that only one side sends, on either wire.
_FROM_SERVERS_ONLY = frozenset({m.Hello, m.Goodbye})
_FROM_CLIENTS_ONLY = frozenset({m.Join, m.Leave})

# What the protocol prescribes leaves even where the limit is smaller than it: nobody could act on the error.
_UNLIMITED = frozenset({m.Hello, m.AckError})

_WRAPPING = {"data", CORRELATION_FIELD}

# The event field of an Error frame that answers no request but ends the conversation.
_FAILURE_EVENT = EVENT_FIELDS[FrameType.ERROR]

_ALIVE = m.Alive()

_TEXT, _BINARY, _JSON = Opcode.TEXT, Opcode.BINARY, FrameType.JSON  # slow to look up in CPython 3.11
_new_tuple = tuple.__new__  # skips the Python-level __new__ of a NamedTuple: 0.1 µs per message


class _BrokenMessageError(ValueError):
    """Inside this module: an incoming message is invalid, and why."""


class _Format:
    """What both formats share: JSON, the checks on incoming names, and the direction of messages."""

    def __init__(self, role: Role, *, serializer: Serializer, max_payload_size: int) -> None:
        self.role = role
        self.max_payload_size = max_payload_size
        self._dumps = serializer.dumps
        self._loads = serializer.loads
        self._wrong_direction = _FROM_SERVERS_ONLY if role is Role.SERVER else _FROM_CLIENTS_ONLY

    def dumps(self, value: Any) -> str:
        """Return ``value`` as compact JSON.

        Raises:
            MessageError: with code ``NOT_SERIALIZABLE``.
        """
        try:
            return self._dumps(value)
        except Exception as error:  # the serializer may be the user's
            raise MessageError("NOT_SERIALIZABLE", f"the data cannot be said in JSON: {error}") from error

    def loads(self, text: str) -> Any:
        try:
            return self._loads(text)
        except Exception as error:  # as above; RecursionError, too, is no more than what the peer sent
            raise _BrokenMessageError(f"its JSON is broken: {error}") from None

    def _check_direction(self, message: Message) -> Message:
        if type(message) in self._wrong_direction:
            kind = type(message).__name__.lower()
            return m.Invalid(f"a {kind} message came from the side that does not send it")
        return message

    def _check_size(self, message: Message, payload: bytes) -> bytes:
        if len(payload) > self.max_payload_size and type(message) not in _UNLIMITED:
            raise MessageError(
                "PAYLOAD_TOO_LARGE",
                f"a payload of {len(payload)} bytes is over max_payload_size ({self.max_payload_size})",
            )
        return payload


@lru_cache(maxsize=1024)
def _check_plain_event_name(name: str) -> str:
    """The names of events without more: not those that mean joining, leaving or connecting on one wire."""
    if check_event_name(name) in _ENVELOPE_EVENTS:
        raise MessageError("RESERVED_EVENT", f"{name!r} is a word of the protocol itself; choose another")
    return check_event_name(name)


def _encode_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MessageError(
            "NOT_SERIALIZABLE", "the data holds a lone surrogate, which UTF-8 cannot say"
        ) from None


def _read_event_name(name: Any) -> str:
    if not isinstance(name, str):
        raise _BrokenMessageError("it has no event name")
    try:
        return check_event_name(name)
    except MessageError as error:
        raise _BrokenMessageError(str(error)) from None


def _read_short_text(kind: str, text: Any) -> str:
    if isinstance(text, str) and is_room_name(text):
        return text
    raise _BrokenMessageError(f"{kind} is a text of 1 to {MAX_EVENT_SIZE} bytes")


def _read_ack_name(name: Any) -> str:
    return _read_short_text("an ack name", name)


def _read_correlation_id(fields: dict[str, Any]) -> str | None:
    # Bounded, because it is sent back and, by a client, kept.
    correlation_id = fields.get(CORRELATION_FIELD)
    return None if correlation_id is None else _read_short_text(CORRELATION_FIELD, correlation_id)


def _read_room(room: Any) -> str:
    return _read_short_text("a room name", room)


def is_room_name(room: str) -> bool:
    """Tell whether ``room`` can name a room: 1 to 256 bytes of UTF-8."""
    try:
        return 0 < len(room.encode()) <= MAX_EVENT_SIZE
    except UnicodeEncodeError:
        return False


def _read_error(error: Any) -> tuple[str, str]:
    if isinstance(error, dict) and isinstance(error.get("code"), str):
        words = error.get("message")
        return error["code"], words if isinstance(words, str) else ""
    raise _BrokenMessageError("an error answer has no code")


class WebSocketFormat(_Format):
    """The envelope of WebSocket messages: JSON text, or a JSON header, NUL and raw bytes.

    Arguments:
        role: the side that encodes with it; it decodes what the other side sends.
        serializer: JSON to and from text.
        max_payload_size: the most bytes of an encoded message.
    """

    kind = "ws"

    def __init__(
        self, role: Role, *, serializer: Serializer = JSON, max_payload_size: int = 10 * 1024 * 1024
    ) -> None:
        super().__init__(role, serializer=serializer, max_payload_size=max_payload_size)
        self._binary_end = '","_binary":true}\0' if role is Role.SERVER else '"}\0'
        # The heartbeat text that npm peers of the other side send.
        self._heartbeat_event = "pong" if role is Role.SERVER else "ping"
        self._special_events = _ENVELOPE_EVENTS | {self._heartbeat_event}

    def encode(self, message: Message) -> tuple[Opcode, bytes]:
        """Return the opcode and the payload that say ``message``.

        Raises:
            MessageError: the event's name breaks the rules, the data is not JSON, or it is too large.
        """
        if isinstance(message, m.Binary):
            header = '{"event":"' + check_event_name(message.name) + self._binary_end
            return _BINARY, self._check_size(message, header.encode() + message.payload)
        return _TEXT, self._check_size(message, _encode_utf8(self._encode_text(message)))

    def encode_frame(self, message: Message) -> bytes:
        """Return ``message`` as one unmasked frame, which may go to any number of clients."""
        return encode_ws_frame(*self.encode(message))

    def _encode_text(self, message: Message) -> str:
        dumps = self.dumps
        if type(message) is m.Event:  # the cheapest test, for what most are; so below
            return f'{{"event":"{_check_plain_event_name(message[0])}","data":{dumps(message[1])}}}'
        match message:
            case m.AckRequest(ack, event, data, correlation_id):
                head = f'{{"event":"{check_event_name(event)}","data":{dumps(data)},"_ackName":{dumps(ack)}'
            case m.AckResponse(ack, data, correlation_id):
                head = f'{{"event":{dumps(ack)},"data":{dumps(data)},"_isAck":true'
            case m.AckError(ack, code, words, correlation_id):
                error = dumps({"code": code, "message": words})
                head = f'{{"event":{dumps(ack)},"data":null,"_isAck":true,"_error":{error}'
            case m.Join(room):
                return f'{{"event":"{JOIN_EVENT}","data":{dumps(room)}}}'
            case m.Leave(room):
                return f'{{"event":"{LEAVE_EVENT}","data":{dumps(room)}}}'
            case m.Hello(client_id):
                return f'{{"event":"{CONNECT_EVENT}","data":{dumps({"id": client_id})}}}'
            case _:
                raise TypeError(f"{type(message).__name__} is not said in a WebSocket message")
        if correlation_id is not None:
            return f'{head},"{CORRELATION_FIELD}":{dumps(correlation_id)}}}'
        return head + "}"

    def decode_text(self, text: str) -> Message:
        """Return what a text message says; :class:`~stelar_proto.messages.Invalid` if it breaks a rule."""
        try:
            return self._check_direction(self._decode_object(self.loads(text)))
        except _BrokenMessageError as error:
            return m.Invalid(f"a text message was dropped: {error}")

    def decode_binary(self, data: bytes) -> Message:
        """Return what a binary message says; :class:`~stelar_proto.messages.Invalid` if it breaks a rule."""
        try:
            header, separator, payload = data.partition(b"\0")
            if not separator:
                raise _BrokenMessageError("no NUL ends its header")
            try:
                fields = self.loads(header.decode())
            except UnicodeDecodeError:
                raise _BrokenMessageError("its header is not UTF-8") from None
            if not isinstance(fields, dict):
                raise _BrokenMessageError("its header is not a JSON object")
            return m.Binary(_read_event_name(fields.get("event")), payload)
        except _BrokenMessageError as error:
            return m.Invalid(f"a binary message was dropped: {error}")

    def _decode_object(self, fields: Any) -> Message:
        if not isinstance(fields, dict):
            raise _BrokenMessageError("it is not a JSON object")
        name = fields.get("event")
        data = fields.get("data")
        if "_isAck" in fields and fields["_isAck"] is True:
            return self._decode_answer(name, data, fields)
        if "_ackName" in fields:
            ack = _read_ack_name(fields["_ackName"])
            return m.AckRequest(ack, _read_event_name(name), data, _read_correlation_id(fields))
        if type(name) is not str or name not in self._special_events:
            return _new_tuple(m.Event, (_read_event_name(name), data))
        if name == JOIN_EVENT:
            return m.Join(_read_room(data))
        if name == LEAVE_EVENT:
            return m.Leave(_read_room(data))
        if name == self._heartbeat_event:
            return _ALIVE
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            return m.Hello(data["id"])
        raise _BrokenMessageError("it announces no client id")

    def _decode_answer(self, name: Any, data: Any, fields: dict[str, Any]) -> Message:
        ack, correlation_id = _read_ack_name(name), _read_correlation_id(fields)
        if "_error" in fields:
            return m.AckError(ack, *_read_error(fields["_error"]), correlation_id)
        return m.AckResponse(ack, data, correlation_id)


class TcpFormat(_Format):
    """The payloads of TCP frames.

    Arguments:
        role: the side that encodes with it; it decodes what the other side sends.
        dialect: the numbers of the frame types.
        serializer: JSON to and from text.
        max_payload_size: the most bytes behind the event field.
        max_frame_size: the most bytes of a whole frame.
    """

    kind = "tcp"

    def __init__(
        self,
        role: Role,
        *,
        dialect: Dialect = Dialect.DOCUMENTED,
        serializer: Serializer = JSON,
        max_payload_size: int = 10 * 1024 * 1024,
        max_frame_size: int = 10 * 1024 * 1024,
    ) -> None:
        super().__init__(role, serializer=serializer, max_payload_size=max_payload_size)
        self.dialect = dialect
        self.max_frame_size = max_frame_size

    def encode_frame(self, message: Message) -> bytes:
        """Return ``message`` as one frame, which may go to any number of peers.

        Raises:
            MessageError: the event's name breaks the rules, the data is not JSON, or it is too large.
        """
        frame_type, event, payload = self._encode(message)
        self._check_size(message, payload)
        limit = LARGEST_FRAME_SIZE if type(message) in _UNLIMITED else self.max_frame_size
        return encode_tcp_frame(frame_type, event, payload, dialect=self.dialect, max_frame_size=limit)

    def _encode(self, message: Message) -> tuple[FrameType, str | None, bytes]:
        if type(message) is m.Event:
            return _JSON, _check_plain_event_name(message[0]), self._json(message[1])
        match message:
            case m.Binary(name, payload):
                return FrameType.BINARY, check_event_name(name), payload
            case m.AckRequest(ack, event, data, correlation_id):
                request = {"event": check_event_name(event), "data": data}
                return FrameType.ACK_REQUEST, ack, self._json(_with_id(request, correlation_id))
            case m.AckResponse(ack, data, None):
                return FrameType.ACK_RESPONSE, ack, self._json(data)
            case m.AckResponse(ack, data, correlation_id):
                return FrameType.ACK_RESPONSE, ack, self._json(_with_id({"data": data}, correlation_id))
            case m.AckError(ack, code, words, correlation_id):
                error = {"code": code, "message": words}
                return FrameType.ERROR, ack, self._json(_with_id(error, correlation_id))
            case m.Join(room):
                return FrameType.JOIN_ROOM, None, _encode_utf8(room)
            case m.Leave(room):
                return FrameType.LEAVE_ROOM, None, _encode_utf8(room)
            case m.Hello(client_id):
                return FrameType.CONNECT, None, _encode_utf8(client_id)
            case _:
                raise TypeError(f"{type(message).__name__} is not said in a frame of its own")

    def decode(self, frame_type: FrameType, event: str, payload: bytes) -> Message:
        """Return what a frame says; :class:`~stelar_proto.messages.Invalid` if it breaks a rule."""
        try:
            if frame_type is _JSON:
                return _new_tuple(m.Event, (_read_event_name(event), self._read_json(payload)))
            return self._check_direction(self._decode(frame_type, event, payload))
        except _BrokenMessageError as error:
            return m.Invalid(f"a {frame_type.name} frame was dropped: {error}")

    def _decode(self, frame_type: FrameType, event: str, payload: bytes) -> Message:
        match frame_type:
            case FrameType.BINARY:
                return m.Binary(_read_event_name(event), payload)
            case FrameType.PING | FrameType.PONG:
                return _ALIVE
            case FrameType.ACK_REQUEST:
                return self._decode_request(event, self._read_json(payload))
            case FrameType.ACK_RESPONSE:
                return self._decode_response(event, self._read_json(payload))
            case FrameType.CONNECT:
                return m.Hello(_read_utf8(payload))
            case FrameType.DISCONNECT:
                return m.Goodbye()
            case FrameType.JOIN_ROOM:
                return m.Join(_read_room(_read_utf8(payload)))
            case FrameType.LEAVE_ROOM:
                return m.Leave(_read_room(_read_utf8(payload)))
            case _:
                return self._decode_error(event, payload)

    def _decode_request(self, ack: str, fields: Any) -> Message:
        if not isinstance(fields, dict):
            raise _BrokenMessageError("it is not a JSON object")
        if ack == _FAILURE_EVENT:  # an error answer under this name would read as the end of all
            raise _BrokenMessageError(f"no ack is named {ack!r}")
        event = _read_event_name(fields.get("event"))
        return m.AckRequest(_read_ack_name(ack), event, fields.get("data"), _read_correlation_id(fields))

    def _decode_response(self, ack: str, result: Any) -> Message:
        _read_ack_name(ack)
        # A response is wrapped if and only if its request carried an id; so looks a wrapped one.
        wrapped = isinstance(result, dict) and result.keys() <= _WRAPPING
        if wrapped and isinstance(result.get(CORRELATION_FIELD), str):
            return m.AckResponse(ack, result.get("data"), _read_correlation_id(result))
        return m.AckResponse(ack, result, None)

    def _decode_error(self, event: str, payload: bytes) -> Message:
        if event in (_FAILURE_EVENT, ""):
            return m.Failure(payload.decode("utf-8", "replace"))
        fields = self._read_json(payload)
        return m.AckError(_read_ack_name(event), *_read_error(fields), _read_correlation_id(fields))

    def _json(self, value: Any) -> bytes:
        return _encode_utf8(self.dumps(value))

    def _read_json(self, payload: bytes) -> Any:
        if not payload:
            return None  # an event without data, as npm peers send it
        return self.loads(_read_utf8(payload))


def _with_id(fields: dict[str, Any], correlation_id: str | None) -> dict[str, Any]:
    if correlation_id is not None:
        fields[CORRELATION_FIELD] = correlation_id
    return fields


def _read_utf8(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _BrokenMessageError("its payload is not UTF-8") from None


Format: TypeAlias = WebSocketFormat | TcpFormat

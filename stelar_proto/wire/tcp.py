"""Messages as TCP frames carry them: the type of the frame, its event field, and its payload."""

from __future__ import annotations

from typing import Any

from stelar_proto import messages as m
from stelar_proto.messages import CORRELATION_FIELD, JSON, Message, Serializer, check_event_name
from stelar_proto.tcp import EVENT_FIELDS, Dialect, FrameType
from stelar_proto.tcp import encode_frame as encode_tcp_frame
from stelar_proto.tcp.frames import LARGEST_FRAME_SIZE
from stelar_proto.ws import Role

from .base import ALIVE, UNLIMITED, BaseFormat, check_plain_event_name, encode_utf8, new_tuple
from .reading import (
    BrokenMessageError,
    read_ack_name,
    read_correlation_id,
    read_error,
    read_event_name,
    read_room,
)

_WRAPPING = {"data", CORRELATION_FIELD}

# The event field of an Error frame that answers no request but ends the conversation.
_FAILURE_EVENT = EVENT_FIELDS[FrameType.ERROR]

_JSON = FrameType.JSON  # slow to look up in CPython 3.11


class TcpFormat(BaseFormat):
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
        limit = LARGEST_FRAME_SIZE if type(message) in UNLIMITED else self.max_frame_size
        return encode_tcp_frame(frame_type, event, payload, dialect=self.dialect, max_frame_size=limit)

    def _encode(self, message: Message) -> tuple[FrameType, str | None, bytes]:
        if type(message) is m.Event:
            return _JSON, check_plain_event_name(message[0]), self._json(message[1])
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
                return FrameType.JOIN_ROOM, None, encode_utf8(room)
            case m.Leave(room):
                return FrameType.LEAVE_ROOM, None, encode_utf8(room)
            case m.Hello(client_id):
                return FrameType.CONNECT, None, encode_utf8(client_id)
            case _:
                raise TypeError(f"{type(message).__name__} is not said in a frame of its own")

    def decode(self, frame_type: FrameType, event: str, payload: bytes) -> Message:
        """Return what a frame says; :class:`~stelar_proto.messages.Invalid` if it breaks a rule."""
        try:
            if frame_type is _JSON:
                return new_tuple(m.Event, (read_event_name(event), self._read_json(payload)))
            return self._check_direction(self._decode(frame_type, event, payload))
        except BrokenMessageError as error:
            return m.Invalid(f"a {frame_type.name} frame was dropped: {error}")

    def _decode(self, frame_type: FrameType, event: str, payload: bytes) -> Message:
        match frame_type:
            case FrameType.BINARY:
                return m.Binary(read_event_name(event), payload)
            case FrameType.PING | FrameType.PONG:
                return ALIVE
            case FrameType.ACK_REQUEST:
                return self._decode_request(event, self._read_json(payload))
            case FrameType.ACK_RESPONSE:
                return self._decode_response(event, self._read_json(payload))
            case FrameType.CONNECT:
                return m.Hello(_read_utf8(payload))
            case FrameType.DISCONNECT:
                return m.Goodbye()
            case FrameType.JOIN_ROOM:
                return m.Join(read_room(_read_utf8(payload)))
            case FrameType.LEAVE_ROOM:
                return m.Leave(read_room(_read_utf8(payload)))
            case _:
                return self._decode_error(event, payload)

    def _decode_request(self, ack: str, fields: Any) -> Message:
        if not isinstance(fields, dict):
            raise BrokenMessageError("it is not a JSON object")
        if ack == _FAILURE_EVENT:  # an error answer under this name would read as the end of all
            raise BrokenMessageError(f"no ack is named {ack!r}")
        event = read_event_name(fields.get("event"))
        return m.AckRequest(read_ack_name(ack), event, fields.get("data"), read_correlation_id(fields))

    def _decode_response(self, ack: str, result: Any) -> Message:
        read_ack_name(ack)
        # A response is wrapped if and only if its request carried an id; so looks a wrapped one.
        wrapped = isinstance(result, dict) and result.keys() <= _WRAPPING
        if wrapped and isinstance(result.get(CORRELATION_FIELD), str):
            return m.AckResponse(ack, result.get("data"), read_correlation_id(result))
        return m.AckResponse(ack, result, None)

    def _decode_error(self, event: str, payload: bytes) -> Message:
        if event in (_FAILURE_EVENT, ""):
            return m.Failure(payload.decode("utf-8", "replace"))
        fields = self._read_json(payload)
        return m.AckError(read_ack_name(event), *read_error(fields), read_correlation_id(fields))

    def _json(self, value: Any) -> bytes:
        return encode_utf8(self.dumps(value))

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
        raise BrokenMessageError("its payload is not UTF-8") from None

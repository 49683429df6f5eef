"""Messages as WebSocket carries them: an envelope of JSON, or a JSON header in front of raw bytes."""

from __future__ import annotations

from typing import Any

from stelar_proto import messages as m
from stelar_proto.messages import CORRELATION_FIELD, JSON, Message, Serializer, check_event_name
from stelar_proto.ws import Opcode, Role
from stelar_proto.ws.frames import encode_frame as encode_ws_frame

from .base import (
    ALIVE,
    CONNECT_EVENT,
    ENVELOPE_EVENTS,
    JOIN_EVENT,
    LEAVE_EVENT,
    BaseFormat,
    check_plain_event_name,
    encode_utf8,
    new_tuple,
)
from .reading import (
    BrokenMessageError,
    read_ack_name,
    read_correlation_id,
    read_error,
    read_event_name,
    read_room,
)

_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY  # slow to look up in CPython 3.11


class WebSocketFormat(BaseFormat):
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
        self._special_events = ENVELOPE_EVENTS | {self._heartbeat_event}

    def encode(self, message: Message) -> tuple[Opcode, bytes]:
        """Return the opcode and the payload that say ``message``.

        Raises:
            MessageError: the event's name breaks the rules, the data is not JSON, or it is too large.
        """
        if isinstance(message, m.Binary):
            header = '{"event":"' + check_event_name(message.name) + self._binary_end
            return _BINARY, self._check_size(message, header.encode() + message.payload)
        text = self._encode_text(message)
        try:
            payload = text.encode()
        except UnicodeEncodeError:
            payload = encode_utf8(text)  # says what is wrong with it
        if len(payload) > self.max_payload_size:
            self._check_size(message, payload)
        return _TEXT, payload

    def encode_frame(self, message: Message) -> bytes:
        """Return ``message`` as one unmasked frame, which may go to any number of clients."""
        return encode_ws_frame(*self.encode(message))

    def _encode_text(self, message: Message) -> str:
        dumps = self.dumps
        if type(message) is m.Event:  # the cheapest test, for what most are; so below
            return f'{{"event":"{check_plain_event_name(message[0])}","data":{dumps(message[1])}}}'
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
            return self._decode_object(self.loads(text))
        except BrokenMessageError as error:
            return m.Invalid(f"a text message was dropped: {error}")

    def decode_binary(self, data: bytes) -> Message:
        """Return what a binary message says; :class:`~stelar_proto.messages.Invalid` if it breaks a rule."""
        try:
            header, separator, payload = data.partition(b"\0")
            if not separator:
                raise BrokenMessageError("no NUL ends its header")
            try:
                fields = self.loads(header.decode())
            except UnicodeDecodeError:
                raise BrokenMessageError("its header is not UTF-8") from None
            if not isinstance(fields, dict):
                raise BrokenMessageError("its header is not a JSON object")
            return m.Binary(read_event_name(fields.get("event")), payload)
        except BrokenMessageError as error:
            return m.Invalid(f"a binary message was dropped: {error}")

    def _decode_object(self, fields: Any) -> Message:
        if not isinstance(fields, dict):
            raise BrokenMessageError("it is not a JSON object")
        name = fields.get("event")
        data = fields.get("data")
        if "_isAck" in fields and fields["_isAck"] is True:
            return self._decode_answer(name, data, fields)
        if "_ackName" in fields:
            ack = read_ack_name(fields["_ackName"])
            return m.AckRequest(ack, read_event_name(name), data, read_correlation_id(fields))
        if type(name) is not str or name not in self._special_events:
            return new_tuple(m.Event, (read_event_name(name), data))
        return self._check_direction(self._decode_special(name, data))

    def _decode_special(self, name: str, data: Any) -> Message:
        if name == JOIN_EVENT:
            return m.Join(read_room(data))
        if name == LEAVE_EVENT:
            return m.Leave(read_room(data))
        if name == self._heartbeat_event:
            return ALIVE
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            return m.Hello(data["id"])
        raise BrokenMessageError("it announces no client id")

    def _decode_answer(self, name: Any, data: Any, fields: dict[str, Any]) -> Message:
        ack, correlation_id = read_ack_name(name), read_correlation_id(fields)
        if "_error" in fields:
            return m.AckError(ack, *read_error(fields["_error"]), correlation_id)
        return m.AckResponse(ack, data, correlation_id)

"""One WebSocket connection, either role: RFC 6455 from the first byte of the handshake to the last.

Theory of operation. Bytes go in with :meth:`Connection.receive_data`, which returns what happened; commands
append to an outgoing buffer that :meth:`Connection.data_to_send` empties. The connection answers by itself
what the RFC says must be answered (a pong, a close, an HTTP error). What a peer does wrong is never raised:
it ends the connection with a :class:`Closed` event whose answer is already in the outgoing buffer. What the
caller does wrong is raised at the call.

The states are those of section 4 and 7 of the RFC::

    CONNECTING ──accept / 101──▶ OPEN ──close sent──▶ CLOSING ──▶ CLOSED
         └────────── refused, failed, or ended ──────────────────────▲

CLOSED means that nothing more is read: send what :meth:`data_to_send` gives, then close the stream (a client
waits a little for the server to do so first, section 7.1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from ..errors import HandshakeError, InvalidUtf8, MessageError, PeerError, StateError, StreamEnded, WebSocketError
from . import frames, handshake
from .close import Close, CloseCode, decode_close, encode_close
from .events import (
    BinaryReceived,
    Closed,
    Event,
    Opened,
    PingReceived,
    PongReceived,
    RequestReceived,
    TextReceived,
    UpgradeRequested,
)
from .frames import FIN, Header, MaskSource, Opcode, encode_frame
from .http1 import Request, RequestReader, Response, ResponseReader, encode_response
from .messages import MessageReader
from .uri import parse_websocket_url

MAX_FRAME_SIZE = 10 * 1024 * 1024
MAX_MESSAGE_SIZE = 10 * 1024 * 1024
MAX_FRAGMENTS = 131_072

_NO_LIMIT = 1 << 63  # beyond what a frame header can say
_TEXT_FRAME = FIN | Opcode.TEXT
_BINARY_FRAME = FIN | Opcode.BINARY


class Role(Enum):
    """Which end of the connection this is. It decides the handshake and the direction of masking."""

    SERVER = "server"
    CLIENT = "client"


class State(Enum):
    """Where the connection stands; see the picture above."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_TRANSITIONS = {
    State.CONNECTING: {State.OPEN, State.CLOSED},
    State.OPEN: {State.CLOSING, State.CLOSED},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set[State](),
}


class Connection:
    """The WebSocket protocol of one connection, without its socket.

    Arguments:
        role: :attr:`Role.SERVER` or :attr:`Role.CLIENT`.
        entropy: clients only, and needed there: ``entropy(n)`` returns ``n`` unpredictable bytes, for the
            key and the masks. ``os.urandom`` is the one to pass.
        max_frame_size: the longest payload of a received frame, bytes; None for no limit.
        max_message_size: the longest received message, bytes; None for no limit.
        max_fragments: the most frames of a received message.
        deliver_parts: report messages as :class:`PartReceived`, piece by piece as they come, instead of whole.
    """

    __slots__ = (
        "_accept_npm_handshake",
        "_entropy",
        "_frame",
        "_frame_received",
        "_head",
        "_key",
        "_masks",
        "_max_frame_size",
        "_max_message_size",
        "_offered_subprotocols",
        "_out",
        "_part_type",
        "_reader",
        "_tail",
        "_whole_messages",
        "close_received",
        "close_sent",
        "request",
        "response",
        "role",
        "state",
        "subprotocol",
    )

    def __init__(
        self,
        role: Role,
        *,
        entropy: Callable[[int], bytes] | None = None,
        max_frame_size: int | None = MAX_FRAME_SIZE,
        max_message_size: int | None = MAX_MESSAGE_SIZE,
        max_fragments: int = MAX_FRAGMENTS,
        deliver_parts: bool = False,
    ) -> None:
        self.role = role
        self.state = State.CONNECTING
        self.request: Request | None = None
        """The handshake's request: received by a server, sent by a client."""
        self.response: Response | None = None
        """Client: what the server answered."""
        self.subprotocol: str | None = None
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self._out: list[bytes] = []
        self._masks: MaskSource | None = None
        if role is Role.CLIENT:
            if entropy is None:
                raise TypeError("a client needs a source of random bytes: pass entropy=os.urandom")
            self._masks = MaskSource(entropy)
        self._entropy = entropy
        # The handshake: the reader of the head that is expected next, None while none is.
        self._head: RequestReader | ResponseReader | None = RequestReader() if role is Role.SERVER else None
        self._key = ""
        self._offered_subprotocols: tuple[str, ...] = ()
        self._accept_npm_handshake = False
        # The frames. At most one is incomplete: its header stands in _tail, or else it is _frame and the
        # part of its payload that has come was already handed on.
        self._max_frame_size = _NO_LIMIT if max_frame_size is None else max_frame_size
        self._max_message_size = _NO_LIMIT if max_message_size is None else max_message_size
        self._tail = b""
        self._frame: Header | None = None
        self._frame_received = 0
        self._whole_messages = not deliver_parts
        self._reader = MessageReader(
            max_message_size=self._max_message_size, max_fragments=max_fragments, deliver_parts=deliver_parts
        )
        self._part_type: type[str] | type[bytes] | None = None  # of the message being sent in parts

    def __repr__(self) -> str:
        return f"<ws.Connection {self.role.value} {self.state.value}>"

    # --- Bytes ---------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what the peer sent and return what it means.

        Arguments:
            data: the next bytes of the stream, in chunks of any size; ``b""`` is the end of the stream.

        Never raises for what a peer did: :class:`Closed` is then the last event. After it all input is
        ignored.
        """
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        try:
            if not data:
                self._receive_end(events)
            elif self.state is State.CONNECTING:
                self._receive_head(data, events)
            else:
                self._receive_frames(data, events)
        except PeerError as error:
            self._fail(error, events)
        return events

    def data_to_send(self) -> bytes:
        """Return, once, the bytes to send now, in order; ``b""`` if there are none."""
        out = self._out
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    # --- The opening handshake (section 4) -----------------------------------------------------------------

    def request_upgrade(
        self,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Iterable[str] = (),
        accept_npm_handshake: bool = False,
    ) -> None:
        """Client: send the handshake. :class:`Opened` or :class:`Closed` will tell how it was answered.

        Arguments:
            url: ``ws://``, ``wss://`` or the ``http`` twins; host and port go into the Host field.
            headers: more header fields, as (name, value) pairs.
            subprotocols: names to offer, the preferred one first.
            accept_npm_handshake: also accept the wrong Sec-WebSocket-Accept of stelar-time-real 3.2.0.

        Raises:
            ValueError: the URL, a header or a subprotocol cannot be sent.
        """
        self._demand(Role.CLIENT, State.CONNECTING, "request_upgrade")
        if self._head is not None or self._entropy is None:
            raise StateError("the handshake was sent already; a new connection needs a new Connection")
        self._key = handshake.new_key(self._entropy)
        self._offered_subprotocols = tuple(subprotocols)
        self._accept_npm_handshake = accept_npm_handshake
        self.request, encoded = handshake.upgrade_request(
            parse_websocket_url(url), key=self._key, headers=headers, subprotocols=self._offered_subprotocols
        )
        self._head = ResponseReader()
        self._out.append(encoded)

    def accept(self, *, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Server: answer :class:`UpgradeRequested` with the 101. The connection is open.

        Arguments:
            subprotocol: one of those that were offered.
            headers: more header fields, as (name, value) pairs.

        Raises:
            StateError: no upgrade waits for an answer.
            ValueError: the subprotocol was not offered, or a header may not be sent.
        """
        self._demand(Role.SERVER, State.CONNECTING, "accept")
        if self.request is None or handshake.read_upgrade(self.request) is None:
            raise StateError("accept() answers UpgradeRequested; a plain request is answered by respond()")
        self._out.append(handshake.accept_response(self.request, subprotocol=subprotocol, headers=headers))
        self.subprotocol = subprotocol
        self._enter(State.OPEN)

    def respond(self, status: int, body: bytes = b"", *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Server: answer a request with plain HTTP and end the connection; also the way to refuse an upgrade.

        Arguments:
            status: any status from 200 on.
            body: the whole body; HEAD requests get its length only.
            headers: more header fields; Content-Length and Connection are added.

        Raises:
            StateError: no request waits for an answer.
            ValueError: the status or a header may not be sent.
        """
        self._demand(Role.SERVER, State.CONNECTING, "respond")
        if self.request is None:
            raise StateError("respond() answers a request, and none has come yet")
        encoded = encode_response(status, headers, body)
        if self.request.method == "HEAD":
            encoded = encoded[: len(encoded) - len(body)]
        self._out.append(encoded)
        self._enter(State.CLOSED)

    def _receive_head(self, data: bytes, events: list[Event]) -> None:
        if self._head is None:
            # Section 4.1: a client waits for the answer; bytes behind its request are smuggled, not sent.
            raise HandshakeError(400, "bytes came behind the request, before it was answered")
        if isinstance(self._head, RequestReader):
            self._receive_request(self._head, data, events)
        else:
            self._receive_response(self._head, data, events)

    def _receive_request(self, reader: RequestReader, data: bytes, events: list[Event]) -> None:
        request = reader.feed(data)
        if request is None:
            return
        subprotocols = handshake.read_upgrade(request)
        if subprotocols is not None and reader.trailing:
            raise HandshakeError(400, "bytes came behind the request, before it was answered")
        self._head = None
        self.request = request
        if subprotocols is None:
            events.append(RequestReceived(request))
        else:
            events.append(UpgradeRequested(request, subprotocols))

    def _receive_response(self, reader: ResponseReader, data: bytes, events: list[Event]) -> None:
        response = reader.feed(data)
        if response is None:
            return
        trailing = reader.trailing
        self._check_response(response)
        events.append(Opened(response, self.subprotocol))
        if trailing:
            self._receive_frames(trailing, events)

    def _check_response(self, response: Response) -> None:
        self.response = response
        self.subprotocol = handshake.check_response(
            response,
            key=self._key,
            subprotocols=self._offered_subprotocols,
            accept_npm_handshake=self._accept_npm_handshake,
        )
        self._head = None
        self._enter(State.OPEN)

    # --- Frames in (sections 5 and 7) -------------------------------------------------------------------

    def _receive_frames(self, data: bytes, events: list[Event]) -> None:
        position = 0
        if self._frame is not None:
            position = self._receive_payload(self._frame, data, 0, events)
        elif self._tail:
            data = self._tail + data
            self._tail = b""
        masked = self.role is Role.SERVER
        whole: list[tuple[int, bytes]] = []
        while position < len(data):
            position = frames.parse_frames(data, position, masked, self._max_frame_size, whole)
            self._receive_whole(whole, events)
            if position == len(data) or self.state is State.CLOSED:
                return
            whole.clear()
            # What stopped the loop is long, incomplete or wrong.
            header = frames.read_header(data, position, masked, self._max_frame_size)
            if header is None:
                self._tail = data[position:]
                return
            if header.opcode <= Opcode.BINARY:
                self._reader.begin(header.opcode, header.fin, header.size)
                self._frame, self._frame_received = header, 0
                position = self._receive_payload(header, data, position + header.header_size, events)
            else:
                self._tail = data[position:]  # at most 130 bytes: wait for the whole control frame
                return

    def _receive_whole(self, whole: list[tuple[int, bytes]], events: list[Event]) -> None:
        reader = self._reader
        for first_byte, payload in whole:
            if first_byte >= 0x88:
                self._receive_control(first_byte & 0x0F, payload, events)
                if self.state is State.CLOSED:
                    return
            elif (
                (first_byte == _TEXT_FRAME or first_byte == _BINARY_FRAME)
                and self._whole_messages
                and not reader.active
                and len(payload) <= self._max_message_size
            ):
                if first_byte == _BINARY_FRAME:
                    events.append(BinaryReceived(payload))
                else:
                    try:
                        events.append(TextReceived(payload.decode()))
                    except UnicodeDecodeError as error:
                        raise InvalidUtf8(f"text is not UTF-8: {error.reason}") from None
            else:
                reader.begin(first_byte & 0x0F, first_byte >= FIN, len(payload))
                event = reader.feed(payload, True)
                if event is not None:
                    events.append(event)

    def _receive_payload(self, header: Header, data: bytes, position: int, events: list[Event]) -> int:
        """Hand on what ``data`` holds of a long data frame; return where that ends."""
        stop = min(len(data), position + header.size - self._frame_received)
        piece = data[position:stop]
        if header.mask is not None:
            piece = frames.apply_mask(piece, header.mask, self._frame_received)
        self._frame_received += len(piece)
        end_of_frame = self._frame_received == header.size
        if end_of_frame:
            self._frame = None
        event = self._reader.feed(piece, end_of_frame)
        if event is not None:
            events.append(event)
        return stop

    def _receive_control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == Opcode.PING:
            # Section 5.5.2: a pong is due unless a close frame was received; one of our own ends the sending.
            if self.state is State.OPEN:
                self._send_frame(Opcode.PONG, payload)
            events.append(PingReceived(payload))
        elif opcode == Opcode.PONG:
            events.append(PongReceived(payload))
        else:
            self.close_received = close = decode_close(payload)
            if self.close_sent is None:
                # Section 5.5.1: echo the code, and no code if there was none.
                self._send_close(None if close.code == CloseCode.NO_STATUS_RECEIVED else close.code, close.reason)
            self._end(close.code, close.reason, None, events)

    # --- The end (section 7) --------------------------------------------------------------------------------

    def _receive_end(self, events: list[Event]) -> None:
        if isinstance(self._head, ResponseReader):
            response = self._head.eof()
            self._check_response(response)
        if self.state is State.CONNECTING:
            raise StreamEnded("the stream ended before the WebSocket handshake did")
        raise StreamEnded("the stream ended without a close frame")

    def _fail(self, error: PeerError, events: list[Event]) -> None:
        """Section 7.1.7: say why if that is still possible, then read no more."""
        code: int = CloseCode.ABNORMAL_CLOSURE
        reason = ""
        if isinstance(error, WebSocketError):
            code, reason = error.close_code, error.reason
            if self.close_sent is None:
                self._send_close(code, reason)
        elif isinstance(error, HandshakeError) and self.role is Role.SERVER:
            body = f"{error.reason}\n".encode()
            self._out.append(encode_response(error.status, (("Content-Type", "text/plain; charset=utf-8"), *error.headers), body))
        self._end(code, reason, error, events)

    def _end(self, code: int, reason: str, error: PeerError | None, events: list[Event]) -> None:
        self._enter(State.CLOSED)
        self._tail = b""
        self._frame = None
        events.append(Closed(code, reason, error))

    # --- Frames out ------------------------------------------------------------------------------------------

    def send_text(self, text: str) -> None:
        """Send a text message.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
            MessageError: ``text`` holds a lone surrogate, which UTF-8 cannot say.
        """
        self._demand_message_boundary()
        self._send_frame(Opcode.TEXT, _encode_text(text))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
        """
        self._demand_message_boundary()
        self._send_frame(Opcode.BINARY, bytes(data))

    def send_part(self, data: str | bytes, *, final: bool) -> None:
        """Send the next part of a message, a frame of its own; the first part decides: text or binary.

        Raises:
            StateError: the connection is not open.
            TypeError: ``data`` is of another type than the parts before it.
        """
        self._demand_open()
        kind: type[str] | type[bytes] = str if isinstance(data, str) else bytes
        opcode = Opcode.CONTINUATION
        if self._part_type is None:
            opcode = Opcode.TEXT if kind is str else Opcode.BINARY
        elif self._part_type is not kind:
            raise TypeError(f"this message began with {self._part_type.__name__}, so must all its parts be")
        payload = _encode_text(data) if isinstance(data, str) else bytes(data)
        self._send_frame(opcode, payload, fin=final)
        self._part_type = None if final else kind

    def encode_message(self, opcode: Opcode, payload: bytes) -> bytes:
        """Return a message as one frame, masked as the role asks, for an embedder with a queue of its own.

        The frame must be sent before anything that a later call of this connection returns.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
        """
        self._demand_message_boundary()
        return encode_frame(opcode, payload, mask=None if self._masks is None else self._masks.next())

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping of up to 125 bytes; the peer answers with the same payload."""
        self._send_ping_or_pong(Opcode.PING, payload)

    def pong(self, payload: bytes = b"") -> None:
        """Send a pong that nobody asked for, as a sign of life (section 5.5.3)."""
        self._send_ping_or_pong(Opcode.PONG, payload)

    def close(self, code: int | None = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Begin the close handshake; a second call does nothing. Messages are received until the peer closes.

        Arguments:
            code: what may be sent: 1000-1003, 1007-1014, 3000-4999, or None for a frame without a code.
            reason: cut at 123 bytes, behind a whole character.

        Raises:
            StateError: the handshake is not done; answer it with :meth:`respond`, or drop the stream.
            MessageError: the code must not be sent.
        """
        if self.state is State.CONNECTING:
            raise StateError("there is no connection to close yet: respond() refuses, dropping the stream ends it")
        if self.state is State.OPEN:
            self._send_close(code, reason)
            self._enter(State.CLOSING)

    def _send_ping_or_pong(self, opcode: Opcode, payload: bytes) -> None:
        self._demand_open()
        if len(payload) > frames.MAX_CONTROL_SIZE:
            raise MessageError("PAYLOAD_TOO_LARGE", f"a {opcode.name.lower()} carries at most 125 bytes")
        self._send_frame(opcode, bytes(payload))

    def _send_close(self, code: int | None, reason: str) -> None:
        payload = encode_close(code, reason)
        self.close_sent = decode_close(payload)
        self._send_frame(Opcode.CLOSE, payload)

    def _send_frame(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        mask = None if self._masks is None else self._masks.next()
        self._out.append(encode_frame(opcode, payload, mask=mask, fin=fin))

    # --- State -------------------------------------------------------------------------------------------------

    def _enter(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def _demand(self, role: Role, state: State, call: str) -> None:
        if self.role is not role:
            raise StateError(f"{call}() is for the {role.value} side of a connection")
        if self.state is not state:
            raise StateError(f"{call}() comes too late: the connection is {self.state.value}")

    def _demand_open(self) -> None:
        if self.state is not State.OPEN:
            raise StateError(f"nothing can be sent now: the connection is {self.state.value}")

    def _demand_message_boundary(self) -> None:
        self._demand_open()
        if self._part_type is not None:
            raise StateError("a message is being sent in parts: end it with send_part(…, final=True) first")


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MessageError("NOT_SERIALIZABLE", "the text holds a lone surrogate, which UTF-8 cannot say") from None

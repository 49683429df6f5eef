"""One WebSocket connection, either role: RFC 6455 and 7692, from the first byte of the handshake to the last.

Theory of operation. Bytes go in with :meth:`Connection.receive_data`, which returns what happened; commands
append to an outgoing buffer that :meth:`Connection.data_to_send` empties. The connection answers by itself
what the RFC says must be answered (a pong, a close, an HTTP error). What a peer does wrong is never raised:
it ends the connection with a :class:`Closed` event whose answer is already in the outgoing buffer. What the
caller does wrong is raised at the call.

CLOSED, the last state, means that nothing more is read: send what :meth:`data_to_send` gives, then end the
stream when :attr:`Connection.wants_eof` says so: a client lets the server do it first (section 7.1.1).

Responsible for moving from state to state (:mod:`.state`) and for closing. What happens while CONNECTING
stands in :mod:`.opening`, how chunks become messages in :mod:`.receiver`, what may be sent in :mod:`.sender`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stelar_proto.errors import HandshakeError, PeerError, StateError, WebSocketError

from .close import Close, CloseCode, decode_close, encode_close
from .compression import Deflater, Inflater
from .deflate import DeflateAgreement, PerMessageDeflate
from .events import Closed, Event, Opened, PingReceived, PongReceived
from .frames import Opcode
from .http1 import HeaderFields, HeadLimits, Request, Response
from .opening import ClientOpening, ServerOpening, demand
from .receiver import MAX_FRAGMENTS, MAX_FRAME_SIZE, MAX_MESSAGE_SIZE, Receiver
from .sender import Sender
from .state import TRANSITIONS, Role, State

# Looked up once: in CPython 3.11 the attribute of an enum costs as much as encoding a short frame's head.
_OPEN = State.OPEN


class Connection(Sender):
    """The WebSocket protocol of one connection, without its socket.

    Arguments:
        role: :attr:`Role.SERVER` or :attr:`Role.CLIENT`.
        entropy: clients only, and needed there: ``entropy(n)`` returns ``n`` unpredictable bytes, for the
            key and the masks. ``os.urandom`` is the one to pass.
        max_frame_size: the longest payload of a received data frame, bytes; None for no limit.
        max_message_size: the longest received message, bytes; None for no limit. A compressed one is
            measured in both its forms, and inflated no further than this.
        max_fragments: the most frames of a received message.
        head_limits: how long the head of the handshake's request or response may be.
        compression: how to compress messages, if the peer agrees; None for not at all.
        plain_http: servers: report requests that are no handshake; if False, they are refused with 426.
        deliver_parts: report messages as :class:`PartReceived`, piece by piece as they come, not whole; an
            attribute too, that may be set at any time: the next part brings what was collected until then.

    Raises:
        TypeError: a client without ``entropy``.
        ValueError: a limit below 1.
    """

    __slots__ = (
        "_opening",
        "_peer_ended",
        "_receiver",
        "_wanted_compression",
        "close_received",
        "close_sent",
        "compression",
        "request",
        "response",
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
        head_limits: HeadLimits = HeadLimits(),  # noqa: B008  # frozen
        compression: PerMessageDeflate | None = None,
        plain_http: bool = True,
        deliver_parts: bool = False,
    ) -> None:
        super().__init__(role, entropy)
        self.request: Request | None = None
        """The handshake's request: received by a server, sent by a client."""
        self.response: Response | None = None
        """Client: what the server answered."""
        self.subprotocol: str | None = None
        self.compression: DeflateAgreement | None = None
        """What was agreed upon for compressing messages; None if nothing was."""
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self._opening: ServerOpening | ClientOpening | None = ServerOpening(
            head_limits, plain_http, compression
        )
        if role is Role.CLIENT:
            assert entropy is not None
            self._opening = ClientOpening(entropy, head_limits, compression)
        self._receiver: Receiver | None = Receiver(
            masked=role is Role.SERVER,
            max_frame_size=max_frame_size,
            max_message_size=max_message_size,
            max_fragments=max_fragments,
            deliver_parts=deliver_parts,
        )
        self._wanted_compression = compression
        self._peer_ended = False  # its stream, after the connection did

    def __repr__(self) -> str:
        return f"<ws.Connection {self.role.value} {self.state.value}>"

    # --- Bytes ------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what the peer sent and return what it means.

        Arguments:
            data: the next bytes of the stream, in chunks of any size; ``b""`` is the end of the stream.

        Never raises for what a peer did: :class:`Closed` is then the last event, and all further input is
        ignored. The events in front of it can still be answered: what is sent before :meth:`data_to_send`
        is called leaves in front of our close frame.
        """
        events: list[Event] = []
        opening, receiver = self._opening, self._receiver
        if receiver is None:
            self._peer_ended = self._peer_ended or not data
            return events
        try:
            if opening is not None:
                self._receive_opening(opening, receiver, data, events)
            elif data:
                receiver.receive(data, events, self._receive_control)
            else:
                receiver.end()
        except PeerError as error:
            self._fail(error, events)
        return events

    @property
    def deliver_parts(self) -> bool:
        """Whether messages are reported piece by piece. One of which a part was reported ends with a part."""
        return self._receiver is not None and self._receiver.messages.deliver_parts

    @deliver_parts.setter
    def deliver_parts(self, deliver_parts: bool) -> None:
        if self._receiver is not None:
            self._receiver.messages.deliver_parts = deliver_parts

    @property
    def collected_size(self) -> int:
        """How much of a message that has not ended is held here: bytes, or characters if it is text."""
        return 0 if self._receiver is None else self._receiver.messages.collected_size

    @property
    def wants_eof(self) -> bool:
        """Whether to end our side of the stream now; a client waits for the server's end (section 7.1.1)."""
        if self.state is not State.CLOSED or self._out or self._last_words is not None:
            return False
        return self.role is Role.SERVER or self.close_received is None or self._peer_ended

    # --- The opening handshake (section 4) --------------------------------------------------------------

    def request_upgrade(
        self,
        url: str,
        *,
        headers: HeaderFields = (),
        subprotocols: Iterable[str] = (),
        accept_npm_handshake: bool = False,
    ) -> None:
        """Client: send the handshake. :class:`Opened` or :class:`Closed` will tell how it was answered.

        Arguments:
            url: ``ws://``, ``wss://`` or the ``http`` twins; host and port go into the Host field.
            headers: more header fields.
            subprotocols: names to offer, the preferred one first.
            accept_npm_handshake: also accept the wrong Sec-WebSocket-Accept of stelar-time-real 3.2.0.

        Raises:
            StateError: this is a server, or the handshake was sent already.
            ValueError: the URL, a header or a subprotocol cannot be sent.
            TypeError: ``subprotocols`` is one string.
        """
        opening = demand(ClientOpening, self._opening, "request_upgrade", self.role, self.state)
        self._out.append(opening.send(url, headers, subprotocols, accept_npm_handshake))
        self.request = opening.request

    def accept(self, *, subprotocol: str | None = None, headers: HeaderFields = ()) -> None:
        """Server: answer :class:`UpgradeRequested` with the 101. The connection is open.

        Arguments:
            subprotocol: one of those that were offered.
            headers: more header fields.

        Raises:
            StateError: no upgrade waits for an answer.
            ValueError: the subprotocol was not offered, or a header may not be sent.
        """
        opening = demand(ServerOpening, self._opening, "accept", self.role, self.state)
        self._out.append(opening.accept(subprotocol, headers))
        self.subprotocol = subprotocol
        self._agree(opening.agreement)
        self._enter(_OPEN)

    def respond(self, status: int, body: bytes = b"", *, headers: HeaderFields = ()) -> None:
        """Server: answer a request with plain HTTP and end the connection; also the way to refuse an upgrade.

        No :class:`Closed` follows: this end is the caller's own doing.

        Arguments:
            status: 200 to 599.
            body: the whole body; HEAD requests get its length only.
            headers: more header fields; Content-Length and Connection are added.

        Raises:
            StateError: no request waits for an answer.
            ValueError: the status or a header may not be sent.
        """
        opening = demand(ServerOpening, self._opening, "respond", self.role, self.state)
        self._out.append(opening.respond(status, body, headers))
        self._enter(State.CLOSED)

    def _receive_opening(
        self, opening: ServerOpening | ClientOpening, receiver: Receiver, data: bytes, events: list[Event]
    ) -> None:
        try:
            event = opening.receive(data) if data else opening.end()
        finally:  # a refusal is looked at too
            self.request, self.response = opening.request, opening.response
        if event is not None:
            events.append(event)
        if isinstance(event, Opened):
            self.subprotocol = event.subprotocol
            self._agree(opening.agreement)
            self._enter(_OPEN)
            receiver.receive(opening.trailing, events, self._receive_control)

    def _agree(self, agreement: DeflateAgreement | None) -> None:
        """Compress and inflate messages from now on as RFC 7692 says, if that was agreed upon."""
        if agreement is None:
            return
        wanted, receiver = self._wanted_compression, self._receiver
        assert wanted is not None
        assert receiver is not None
        self.compression = agreement
        receiver.inflate_with(Inflater(agreement.of(self.role.peer)))
        self._deflate_with(Deflater(agreement.of(self.role), wanted), wanted.min_size)

    # --- Control frames and the end (sections 5.5 and 7) ------------------------------------------------

    def _receive_control(self, opcode: int, payload: bytes, events: list[Event]) -> bool:
        """Handle a control frame; return whether it ended the connection."""
        if opcode == Opcode.PING:
            # Section 5.5.2: a pong is due unless a close frame was received. One that was sent is no reason:
            # section 5.5.1 rules out data frames behind it, and the peer may still be finishing a message.
            self._out.append(self._encode_frame(Opcode.PONG, payload))
            events.append(PingReceived(payload))
            return False
        if opcode == Opcode.PONG:
            events.append(PongReceived(payload))
            return False
        self.close_received = close = decode_close(payload)
        if self.close_sent is None:
            # Section 5.5.1: echo the code; a close without one is an ordinary one.
            code = close.code if payload else CloseCode.NORMAL_CLOSURE
            self._last_words = self._encode_close(code, close.reason)
        self._enter(State.CLOSED)
        events.append(Closed(close.code, close.reason, None))
        return True

    def _fail(self, error: PeerError, events: list[Event]) -> None:
        """Section 7.1.7: say why if that is still possible, then read no more."""
        code, reason = int(CloseCode.ABNORMAL_CLOSURE), ""
        if isinstance(error, WebSocketError):
            code, reason = error.close_code, error.reason
            if self.close_sent is None:
                self._last_words = self._encode_close(code, reason)
        elif isinstance(error, HandshakeError) and isinstance(self._opening, ServerOpening):
            self._out.append(self._opening.refuse(error))
        self._enter(State.CLOSED)
        events.append(Closed(code, reason, error))

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
            raise StateError("nothing to close yet: respond() refuses, dropping the stream ends it")
        if self.state is _OPEN:
            self._out.append(self._encode_close(code, reason))
            self._enter(State.CLOSING)

    def _encode_close(self, code: int | None, reason: str) -> bytes:
        payload = encode_close(code, reason)
        self.close_sent = decode_close(payload)
        return self._encode_frame(Opcode.CLOSE, payload, True)

    # --- State ------------------------------------------------------------------------------------------

    def _enter(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state
        self._opening = None
        if state is State.CLOSED:
            self._receiver = None  # and with it what has come of a message
            if self._last_words is None:
                self._stop_deflating()

"""A session over WebSocket: the codec of ``ws``, the envelope of ``wire``, and what both do at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stelar_proto import ws
from stelar_proto.channel import Closed, State, WebSocketChannel
from stelar_proto.messages import Binary, Hello, Message
from stelar_proto.wire import WebSocketFormat

from .compression import CompressingFormat
from .config import SessionConfig
from .events import Event, Opened
from .session import Session

CLIENT_ID_HEADER = "Sec-Stelar-Client-Id"

_CLOSED = State.CLOSED


class WebSocketSession(WebSocketChannel, Session):
    """One WebSocket peer.

    Arguments:
        role: which end this is.
        config: what it shares with its like.
        envelope: the format of its messages; a server passes the same to all of its sessions.
        now: the time.
        entropy: clients only: ``entropy(n)`` returns ``n`` unpredictable bytes.
        announce_id: servers only: tell the client its id in a first message too, not only in the 101.
    """

    __slots__ = ("_announce_id", "_envelope")

    def __init__(
        self,
        role: ws.Role,
        config: SessionConfig,
        *,
        envelope: WebSocketFormat,
        now: float,
        entropy: Callable[[int], bytes] | None = None,
        announce_id: bool = True,
    ) -> None:
        codec = ws.Connection(
            role,
            entropy=entropy,
            max_frame_size=config.max_frame_size,
            max_message_size=config.max_payload_size,
            compression=config.compression,
        )
        super().__init__(role, config, codec, envelope, now)
        self._envelope = envelope
        self._announce_id = announce_id

    # --- The handshake ------------------------------------------------------------------------------------

    def request_upgrade(self, url: str, *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Client: send the handshake; ``Opened`` or ``Closed`` will tell how it went.

        Raises:
            ValueError: the URL or a header cannot be sent.
        """
        self.codec.request_upgrade(
            url,
            headers=headers,
            subprotocols=self.config.subprotocols,
            accept_npm_handshake=self.config.accept_npm_handshake,
        )
        self._flush_codec()

    def accept(self, client_id: str) -> None:
        self._demand_connecting()
        hello = self._encode(Hello(client_id)) if self._announce_id else None
        self.codec.accept(subprotocol=self.subprotocol, headers=[(CLIENT_ID_HEADER, client_id)])
        self.client_id = client_id
        agreement = self.codec.compression
        if agreement is not None and isinstance(self._envelope, CompressingFormat):
            self.format = self._envelope.deflated(agreement.server_max_window_bits)
        self._enter(State.OPEN)
        self._flush_codec()
        if hello is not None:
            self._keep(hello)

    # --- The wire -------------------------------------------------------------------------------------------

    def _receive(self, data: bytes, events: list[Event]) -> None:
        for event in self.codec.receive_data(data):
            if self.state is _CLOSED:
                break  # by whoever was told of an answer: nobody wants the rest
            kind = type(event)  # the cheapest test, though mypy does not follow it: hence the two ignores
            if kind is ws.TextReceived:
                self._deliver(self._envelope.decode_text(event[0]), events)  # type: ignore[arg-type]
            elif kind is ws.BinaryReceived:
                self._deliver(self._envelope.decode_binary(event[0]), events)  # type: ignore[arg-type]
            else:
                self._receive_other(event, events)

    def _receive_other(self, event: ws.Event, events: list[Event]) -> None:
        match event:
            case ws.UpgradeRequested(_, offered):
                self.subprotocol = ws.select_subprotocol(offered, self.config.subprotocols)
                events.append(event)
            case ws.RequestReceived():
                events.append(event)
            case ws.Opened(response, subprotocol):
                self.subprotocol = subprotocol
                self.client_id = response.headers.get(CLIENT_ID_HEADER)
                self._enter(State.OPEN)
                events.append(Opened())
            case ws.Closed():
                self._end(Closed(*event))
            case _:
                pass  # pings and pongs: a sign of life, as every byte is

    def _encode(self, message: Message) -> bytes:
        if self.role is ws.Role.SERVER:
            return self.format.encode_frame(message)
        opcode, payload = self._envelope.encode(message)
        return self.codec.encode_message(opcode, payload)

    def encode_head(self, event: str, size: int) -> tuple[bytes, Callable[[bytes], bytes]]:
        _, header = self._envelope.encode(Binary(event, b""))
        self._demand_small_payload(len(header) + size)
        head, mask_piece = self.codec.encode_head(ws.Opcode.BINARY, len(header) + size)
        return head + mask_piece(header), mask_piece

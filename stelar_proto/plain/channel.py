"""One WebSocket connection and its clock, with nothing above the messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stelar_proto import ws
from stelar_proto.channel import Closed, State, WebSocketChannel
from stelar_proto.errors import SlowConsumer
from stelar_proto.ws.messages import BytesLike, encode_text, to_bytes

from .config import WebSocketConfig
from .pings import PingLedger

_TEXT, _BINARY = int(ws.Opcode.TEXT), int(ws.Opcode.BINARY)


class PlainChannel(WebSocketChannel):
    """Messages and parts of them come out of :meth:`receive_data`, as do the events of the handshake.

    Arguments:
        role: which end this is.
        config: its options.
        now: the time.
        clock: what the latency is measured with.
        entropy: clients only: ``entropy(n)`` returns ``n`` unpredictable bytes.
    """

    __slots__ = ("is_held", "pings")

    def __init__(
        self,
        role: ws.Role,
        config: WebSocketConfig,
        *,
        now: float,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes] | None = None,
    ) -> None:
        codec = ws.Connection(
            role,
            entropy=entropy,
            max_frame_size=config.max_size,
            max_message_size=config.max_size,
            compression=ws.choose_compression(config.compression),
        )
        super().__init__(role, config, codec, now)
        self.pings = PingLedger(clock)
        self.is_held = False
        """Whether our last words wait, because what came in front of the end is still being answered."""

    def accept(self, subprotocol: str | None) -> None:
        """Server: accept the upgrade.

        Raises:
            StateError: nobody waits for that (any more), or this is no server.
        """
        self._demand_connecting()
        self.codec.accept(subprotocol=subprotocol)
        self._enter(State.OPEN)
        self._flush_codec()

    def encode(self, message: str | BytesLike) -> bytes:
        """Return a message as a frame, which must go into the outbox before anything else does.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
            MessageError: the text holds a lone surrogate.
            TypeError: it is neither str nor bytes.
        """
        if isinstance(message, str):
            return self.codec.encode_message(_TEXT, encode_text(message))
        return self.codec.encode_message(_BINARY, to_bytes(message))

    def send_part(self, part: str | BytesLike, *, final: bool) -> None:
        """Send the next part of a message; see :meth:`encode` for what it raises."""
        self.outbox.append(self.codec.encode_part(part, final=final))

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        self._demand_open()
        self.codec.ping(payload)
        self._flush_codec()

    def _prepare_to_send(self) -> None:
        if self.state is State.CONNECTING:
            self._flush_codec()  # the request, which nobody has asked the channel for
        elif not self.is_held:
            self.seal()

    def hold(self) -> None:
        """Keep our last words back until :meth:`release`, or half of the time that closing may take."""
        self.is_held = True
        self._deadline_changed()

    def release(self) -> None:
        """What came in front of the end has been answered."""
        self.is_held = False
        self.seal()

    def next_deadline(self) -> float | None:
        if self.is_held:
            return self._ended_at + self.config.close_timeout / 2
        return super().next_deadline()

    def _receive(self, data: bytes, events: list[Any]) -> None:
        for event in self.codec.receive_data(data):
            kind = type(event)
            if kind is ws.TextReceived or kind is ws.BinaryReceived:
                events.append(event[0])
            else:
                self._receive_other(event, events)

    def _receive_other(self, event: ws.Event, events: list[Any]) -> None:
        match event:
            case ws.PongReceived(payload):
                self.pings.receive_pong(payload)
            case ws.PingReceived():
                pass  # answered by the codec
            case ws.Closed():
                self._end(Closed(*event))
            case ws.Opened():
                self._enter(State.OPEN)
                events.append(event)
            case _:
                events.append(event)

    def _ping(self) -> None:
        self.ping(self.pings.open()[0])

    def _end(self, end: Closed) -> None:
        super()._end(end)
        self.pings.fail_all()

    def _keep(self, data: bytes) -> None:
        # What the codec answers by itself nobody waits for, so it has a bound of its own.
        self.outbox.keep(data)
        limit = self.config.outbox_limit
        if self.outbox.kept_size > limit:
            words = f"the peer does not read: more than {limit} bytes of pongs wait for it"
            self.abort(Closed(1006, "", SlowConsumer(words)))

"""What the sessions of one server or client have in common, and which values make sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from stelar_proto.channel import ChannelConfig
from stelar_proto.channel.config import not_positive_whole, small_outbox, subprotocol_problems
from stelar_proto.messages import JSON, Serializer
from stelar_proto.tcp import Dialect
from stelar_proto.tcp.frames import LARGEST_FRAME_SIZE
from stelar_proto.ws import PerMessageDeflate

# The Error frame without words: what ends a connection must fit.
_SMALLEST_FRAME_LIMIT = 12

_POLICIES = ("close", "drop_oldest", "drop_newest")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig(ChannelConfig):
    """What all sessions of a server or client have in common. Times in seconds, sizes in bytes.

    Arguments, beside those of :class:`~stelar_proto.channel.ChannelConfig`:
        max_payload_size: of a message.
        max_frame_size: of a WebSocket frame's payload, or of a whole TCP frame; 12 to 2**32 - 1.
        max_pending_acks: requests in flight.
        slow_consumer: what becomes of messages that do not fit into the outbox of a peer that does not read:
            ``"close"``, ``"drop_oldest"`` or ``"drop_newest"``.
        tcp_dialect: the numbers of the TCP frame types.
        serializer: JSON to and from text.
        accept_npm_handshake: client: also accept the npm package's wrong Sec-WebSocket-Accept.
        subprotocols: WebSocket: names, the preferred one first: what a client offers, a server accepts.
        compression: WebSocket: compress messages, if the peer agrees; None for not at all.

    Raises:
        ValueError: a value makes no sense; the message names every such one.
    """

    max_payload_size: int = 10 * 1024 * 1024
    max_frame_size: int = 10 * 1024 * 1024
    max_pending_acks: int = 10_000
    slow_consumer: str = "close"
    tcp_dialect: Dialect = Dialect.DOCUMENTED
    serializer: Serializer = JSON
    accept_npm_handshake: bool = False
    subprotocols: Sequence[str] = ()
    compression: PerMessageDeflate | None = None

    @classmethod
    def of(cls, options: object, *, tcp_dialect: str, compression: PerMessageDeflate | None) -> SessionConfig:
        """Return what the ``options`` of a server or client say about its sessions, under the same names.

        Raises:
            ValueError: a value makes no sense, or there is no such dialect.
        """
        names = [field.name for field in fields(cls)]
        values = {name: getattr(options, name) for name in names if hasattr(options, name)}
        values |= {"tcp_dialect": Dialect.named(tcp_dialect), "compression": compression}
        problems = list(small_outbox(values.get("outbox_limit")))
        try:
            config = cls(**values)
        except ValueError as error:
            problems.insert(0, str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return config

    def _problems(self) -> list[str]:
        problems = ChannelConfig._problems(self)  # super() does not know a dataclass with slots
        problems += not_positive_whole(self, ("max_payload_size", "max_frame_size", "max_pending_acks"))
        problems += subprotocol_problems(self.subprotocols)
        missing = [name for name in ("dumps", "loads") if not callable(getattr(self.serializer, name, None))]
        if missing:
            has_no = f"{self.serializer!r} has no {' and no '.join(missing)}"
            problems.append(f"serializer must have the methods dumps and loads; {has_no}")
        if self.slow_consumer not in _POLICIES:
            allowed = ", ".join(map(repr, _POLICIES))
            problems.append(f"slow_consumer must be one of {allowed}, not {self.slow_consumer!r}")
        if not problems and not _SMALLEST_FRAME_LIMIT <= self.max_frame_size <= LARGEST_FRAME_SIZE:
            allowed = f"from {_SMALLEST_FRAME_LIMIT} to {LARGEST_FRAME_SIZE}"
            problems.append(f"max_frame_size must be {allowed}, not {self.max_frame_size}")
        return problems

"""What a client can be told, with its defaults, checked when it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stelar_proto.channel.logs import LoggerOption, logger_problems
from stelar_proto.messages import JSON, Serializer
from stelar_proto.session import SessionConfig
from stelar_proto.tcp import Dialect
from stelar_proto.ws import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The options of a client. Times in seconds, sizes in bytes.

    Arguments:
        mode: ``"ws"`` or ``"tcp"``, where the URL does not say.
        tcp_dialect: ``"documented"``, or ``"npm"`` for a server of the npm package.
        headers: more header fields for the handshake, by name.
        accept_npm_handshake: also accept the wrong Sec-WebSocket-Accept of stelar-time-real 3.2.0.
        ack_timeout: how long a request waits for its answer.
        connect_timeout: for name, connection, TLS and handshake together.
        close_timeout: how long the server may take to close.
        heartbeat_interval, heartbeat_timeout: seconds of silence before a ping, and from a ping to the end;
            an interval of None sends none.
        max_payload_size, max_frame_size: larger ones end the connection at their header.
        outbox_limit: what may wait for the server to read; sending more is an error until it is drained.
        inbox_limit: messages that may wait for a handler before the server is read no further.
        reject_unauthorized: verify the server's certificate and name; turning it off is logged.
        serializer: JSON to and from text.
        logger: where the client reports, or the name of a level for its own logger, ``stelar.client``.
    """

    mode: str | None = None
    tcp_dialect: str = "documented"
    headers: Mapping[str, str] = field(default_factory=dict)
    accept_npm_handshake: bool = False
    ack_timeout: float = 5.0
    connect_timeout: float = 10.0
    close_timeout: float = 5.0
    heartbeat_interval: float | None = 30.0
    heartbeat_timeout: float = 60.0
    max_payload_size: int = 10 * 1024 * 1024
    max_frame_size: int = 10 * 1024 * 1024
    outbox_limit: int = 16 * 1024 * 1024
    inbox_limit: int = 64
    reject_unauthorized: bool = True
    serializer: Serializer = JSON
    logger: LoggerOption = None

    def __post_init__(self) -> None:
        problems = [*logger_problems(self.logger)]
        if self.mode not in (None, "ws", "tcp"):
            problems.append(f"mode must be 'ws' or 'tcp', not {self.mode!r}")
        if not (isinstance(self.ack_timeout, int | float) and self.ack_timeout > 0):
            problems.append(f"ack_timeout must be a positive number, not {self.ack_timeout!r}")
        if not (type(self.inbox_limit) is int and self.inbox_limit > 0):
            problems.append(f"inbox_limit must be a positive whole number, not {self.inbox_limit!r}")
        for check in (self.session_config, lambda: Headers(self.headers)):
            try:
                check()
            except (TypeError, ValueError) as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))

    def session_config(self) -> SessionConfig:
        """Return what concerns the session.

        Raises:
            ValueError: a number is out of its range, or the dialect is unknown.
        """
        return SessionConfig(
            connect_timeout=self.connect_timeout,
            heartbeat_interval=self.heartbeat_interval,
            heartbeat_timeout=self.heartbeat_timeout,
            close_timeout=self.close_timeout,
            max_payload_size=self.max_payload_size,
            max_frame_size=self.max_frame_size,
            outbox_limit=self.outbox_limit,
            tcp_dialect=Dialect.named(self.tcp_dialect),
            serializer=self.serializer,
            accept_npm_handshake=self.accept_npm_handshake,
        )

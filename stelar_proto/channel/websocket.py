"""How a WebSocket connection is kept alive and ended, whatever is said over it."""

from __future__ import annotations

from collections.abc import Iterable

from stelar_proto import ws

from .channel import Channel
from .state import State


class WebSocketChannel(Channel):
    """The base of everything that speaks WebSocket."""

    __slots__ = ()

    codec: ws.Connection

    def respond(self, status: int, body: bytes, *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Server: answer the request with plain HTTP. This ends the channel; ``Closed`` is not reported.

        Arguments:
            status: 200 to 599.
            body: the whole body.
            headers: more header fields.

        Raises:
            StateError: no request waits for an answer (any more), or this is no server.
            ValueError: the status or a header may not be sent.
        """
        self._demand_connecting()
        self.codec.respond(status, body, headers=headers)
        self._enter(State.CLOSED)
        self._flush_codec()

    def refuse(self, status: int, message: str) -> None:
        """Server: turn the client away with an HTTP status. ``Closed`` is not reported.

        Raises:
            StateError: nobody waits for that (any more), or this is no server.
        """
        body = f"{message}\n".encode("utf-8", "replace")
        self.respond(status, body, headers=[("Content-Type", "text/plain; charset=utf-8")])

    @property
    def wants_eof(self) -> bool:
        # RFC 6455, section 7.1.1: after a close handshake the server ends the stream first.
        if self.role is ws.Role.CLIENT and self.codec.close_received is not None and not self._peer_ended:
            return False
        return super().wants_eof

    def _ping(self) -> None:
        self.codec.ping()
        self._flush_codec()

    def _say_goodbye(self, code: int, reason: str) -> None:
        self.codec.close(code, reason)
        self._flush_codec()

    def _give_up(self, code: int, reason: str) -> None:
        # The words are for a peer that only stopped talking. One that does not read either gets none.
        if self.outbox:
            self._abort()
        else:
            self._peer_ended = True
            self._say_goodbye(code, reason)

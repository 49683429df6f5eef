"""The answer to one request of a client, whichever way the application gives it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stelar_proto.errors import HandlerError, MessageError
from stelar_proto.messages import AckError, AckRequest, AckResponse

if TYPE_CHECKING:
    from .peer import Peer

_FAILED = HandlerError("the handler failed")


class Reply:
    """Arguments: the client that asked, and what it asked."""

    __slots__ = ("_peer", "ack", "correlation_id", "given")

    def __init__(self, peer: Peer, request: AckRequest) -> None:
        self._peer = peer
        self.ack = request.ack
        self.correlation_id = request.correlation_id
        self.given = False
        """Whether an answer was given; what comes of the handler after that is no answer any more."""

    def give(self, data: Any) -> bool:
        """Answer with ``data``; False if the client is gone.

        Raises:
            MessageError: the data is not JSON or too large.
        """
        is_sent = self._peer.send(AckResponse(self.ack, data, self.correlation_id))
        self.given = True
        return is_sent

    def give_error(self, code: str, message: str) -> None:
        """Answer with an error."""
        self.given = True
        try:
            self._peer.send(AckError(self.ack, code, message, self.correlation_id))
        except MessageError:  # a HandlerError of things that JSON cannot say
            with suppress(MessageError):  # not even that fits into an outbox
                self._peer.send(AckError(self.ack, _FAILED.code, _FAILED.message, self.correlation_id))

    def give_failure(self) -> None:
        """Answer that the handler failed, without what it raised, which may hold secrets."""
        self.give_error(_FAILED.code, _FAILED.message)

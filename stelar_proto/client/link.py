"""One connection of a client: its session, and what the server's messages set off."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from stelar_proto.channel import Closed
from stelar_proto.errors import MessageError, RemoteError, StateError
from stelar_proto.messages import AckError, AckRequest, AckResponse, Binary, Event, Invalid
from stelar_proto.session import Deferred, Dispatcher, Opened, Session
from stelar_proto.session import Event as SessionEvent

if TYPE_CHECKING:
    from .application import ClientApplication


class Link(Dispatcher):
    """Arguments: whose connection it is, and its protocol."""

    __slots__ = ("_client", "lost", "settled", "was_open")

    def __init__(self, client: ClientApplication, session: Session) -> None:
        runtime = client.runtime
        super().__init__(session, runtime, client.logger, inbox_limit=client.config.inbox_limit)
        self._client = client
        self.was_open = False
        self.settled = runtime.make_event()
        """Set when it is known whether the connection could be opened."""
        self.lost = runtime.make_event()
        """Set when the connection is gone, socket and all."""

    def connection_lost(self) -> None:
        try:
            super().connection_lost()
        finally:
            self._client.forget(self)
            self.lost.set()

    def _on_closed(self, event: Closed) -> None:
        self.settled.set()
        self._client.ended(event)

    def _handle(self, event: SessionEvent) -> Deferred | None:
        client = self._client
        match event:
            case Event(name, data) | Binary(name, data):
                return self._call(client.handlers_of(name), data)
            case AckResponse(ack, data, _):
                handlers = client.ack_handlers_of(ack)
                if not handlers:
                    self._logger.debug("an answer under %r came that nobody waits for", ack)
                return self._call(handlers, data)
            case AckError(_, code, message, _):
                return self._call(client.handlers_of("error"), RemoteError(code, message))
            case AckRequest(ack, name, _, correlation_id):
                words = f"a client does not answer {name!r}"
                with suppress(StateError, MessageError):  # the server is gone, or asks and does not read
                    self.session.send(AckError(ack, "NO_HANDLER", words, correlation_id))
                self.flush_soon()
            case Invalid(reason):
                self._logger.warning("from the server: %s", reason, extra={"reason": reason})
            case Opened():
                self.was_open = True
                self.settled.set()
                return self._call(client.handlers_of("connect"))
            case Closed(code, reason, error) if self.was_open:
                goodbyes = [partial(handler, code, reason) for handler in client.handlers_of("disconnect")]
                if error is not None:
                    goodbyes[:0] = [partial(handler, error) for handler in client.handlers_of("error")]
                return self._call(goodbyes)
            case _:
                pass
        return None

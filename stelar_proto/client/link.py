"""One connection of a client: its session, and what the server's messages set off."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import RemoteError
from ..messages import AckError, AckRequest, AckResponse, Binary, Event, Invalid
from ..session import Closed, Endpoint, Opened, Session, State
from ..session import Event as SessionEvent
from ..session.endpoint import Deferred

if TYPE_CHECKING:
    from .application import ClientApplication


class Link(Endpoint):
    """Arguments: whose connection it is, and its protocol."""

    __slots__ = ("_client", "end", "lost", "settled", "was_open")

    def __init__(self, client: ClientApplication, session: Session) -> None:
        runtime = client.runtime
        super().__init__(session, runtime, client.logger, inbox_limit=client.config.inbox_limit)
        self._client = client
        self.end: Closed | None = None
        """How the session ended."""
        self.was_open = False
        self.settled = runtime.make_event()
        """Set when it is known whether the connection could be opened."""
        self.lost = runtime.make_event()
        """Set when the connection is gone, socket and all."""

    def connection_lost(self) -> None:
        super().connection_lost()
        self._client.forget(self)
        self.lost.set()

    def _on_closed(self, event: Closed) -> None:
        super()._on_closed(event)
        self.end = event
        self.settled.set()
        self._client.ended(self, event)

    def _handle(self, event: SessionEvent) -> Deferred | None:
        client = self._client
        match event:
            case Event(name, data) | Binary(name, data):
                return self._call(client.handlers_of(name), data)
            case AckResponse(ack, data, _):
                return self._call(client.ack_handlers_of(ack), data)
            case AckError(_, code, message, _):
                return self._call(client.handlers_of("error"), RemoteError(code, message))
            case AckRequest(ack, name, _, correlation_id):
                if self.session.state is State.OPEN:
                    words = f"a client does not answer {name!r}"
                    self.session.send(AckError(ack, "NO_HANDLER", words, correlation_id))
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

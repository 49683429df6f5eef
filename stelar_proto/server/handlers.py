"""Which functions a server calls, for what: the part of its public face with which they are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from stelar_proto.channel.handlers import H, Handler, check_handler
from stelar_proto.errors import StateError
from stelar_proto.messages import check_event_name
from stelar_proto.session.arguments import register


class HandlerRegistry:
    """Handlers by what they are for. They may be added at any time, from inside a handler too.

    All tables hold tuples: whoever goes through one is not disturbed by what is added meanwhile.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, tuple[Handler, ...]] = {}
        """By event: its own handlers, then those for all events."""
        self.catch_all: tuple[Handler, ...] = ()
        self.ack_handlers: dict[str, Handler] = {}
        self.connection_handlers: tuple[Handler, ...] = ()
        self.disconnect_handlers: tuple[Handler, ...] = ()
        self._own_handlers: dict[str, tuple[Handler, ...]] = {}

    @overload
    def on(self, event: str) -> Callable[[H], H]: ...
    @overload
    def on(self, event: str, handler: H) -> H: ...
    def on(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler(ctx)`` for each such event of a client; also a decorator.

        Several handlers are called in order.

        Raises:
            MessageError: the name is not one that clients can send.
            TypeError: the handler is no function of one argument.
        """
        event = check_event_name(event)

        def add(handler: Handler) -> None:
            self._own_handlers[event] = (*self._own_handlers.get(event, ()), handler)
            self._merge_handlers()

        return register(add, handler, "ctx")

    def on_all(self, handler: H) -> H:
        """Call ``handler(ctx)`` for every event, after the event's own handlers; also a decorator."""
        self.catch_all += (check_handler(handler, "ctx"),)
        self._merge_handlers()
        return handler

    @overload
    def on_ack(self, name: str) -> Callable[[H], H]: ...
    @overload
    def on_ack(self, name: str, handler: H) -> H: ...
    def on_ack(self, name: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Answer requests for ``name`` with what ``handler(ctx)`` returns; also a decorator.

        A handler that raises :class:`~stelar_proto.errors.HandlerError` answers with its words; any other
        exception is logged and answered without them.

        Raises:
            MessageError: the name is not one that clients can ask for.
            StateError: it has a handler already.
            TypeError: the handler is no function of one argument.
        """
        name = check_event_name(name)

        def add(handler: Handler) -> None:
            if name in self.ack_handlers:
                raise StateError(f"requests for {name!r} have a handler already, and only one can answer")
            self.ack_handlers[name] = handler

        return register(add, handler, "ctx")

    def on_connection(self, handler: H) -> H:
        """Call ``handler(ctx)`` for each client that was taken in; also a decorator."""
        self.connection_handlers += (check_handler(handler, "ctx"),)
        return handler

    def on_disconnect(self, handler: H) -> H:
        """Call ``handler(ctx)`` for each client that has gone, its rooms left; also a decorator."""
        self.disconnect_handlers += (check_handler(handler, "ctx"),)
        return handler

    def _merge_handlers(self) -> None:
        self.handlers = {name: (*own, *self.catch_all) for name, own in self._own_handlers.items()}

"""Which functions a client calls, for what: the part of its public face with which they are registered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import overload

from stelar_proto.channel.handlers import H, Handler, check_handler
from stelar_proto.messages import check_event_name
from stelar_proto.session.arguments import register

LOCAL_EVENTS = {
    "connect": (),
    "disconnect": ("code", "reason"),
    "reconnecting": ("attempt",),
    "reconnect_failed": (),
    "error": ("error",),
}
"""Events of the client itself, and what their handlers are called with: connected; disconnected; about to try
again; no more attempts; something went wrong."""

_Table = dict[str, tuple[Handler, ...]]


class HandlerRegistry:
    """Handlers by what they are for. They may be added and taken off at any time, from inside a handler too.

    All tables hold tuples: an event goes to the handlers that were there when it came.
    """

    def __init__(self) -> None:
        self._handlers: _Table = {}
        self._catch_all: tuple[Handler, ...] = ()
        self._ack_handlers: _Table = {}

    @overload
    def on(self, event: str) -> Callable[[H], H]: ...
    @overload
    def on(self, event: str, handler: H) -> H: ...
    def on(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler(data)`` for each such event of the server; also a decorator.

        Several handlers are called in order. ``connect`` (no argument), ``disconnect`` (code, reason),
        ``reconnecting`` (the number of the attempt), ``reconnect_failed`` (no argument) and ``error`` (the
        exception) are the client's own.

        Raises:
            MessageError: the name is not one that a server can send.
            TypeError: the handler is no function that can be called so.
        """
        event = _check_event(event)
        return register(partial(_add, self._handlers, event), handler, *_arguments_of(event))

    @overload
    def once(self, event: str) -> Callable[[H], H]: ...
    @overload
    def once(self, event: str, handler: H) -> H: ...
    def once(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler`` for the next such event only; also a decorator.

        Raises:
            MessageError: the name is not one that a server can send.
            TypeError: the handler is no function that can be called so.
        """
        event = _check_event(event)

        def add(handler: Handler) -> None:
            def call_once(*arguments: object) -> object:
                self.off(event, call_once)
                return handler(*arguments)

            # It goes by the handler's name in the log, and off(event, handler) finds it.
            _add(self._handlers, event, update_wrapper(call_once, handler))

        return register(add, handler, *_arguments_of(event))

    def off(self, event: str, handler: Handler | None = None) -> bool:
        """Take ``handler`` off ``event``, or all of its handlers; return whether there was one."""
        known = self._handlers.pop(event, ())
        # By equality: a bound method is a new object each time it is looked up.
        remaining = tuple(
            other
            for other in known
            if handler is not None and handler not in (other, getattr(other, "__wrapped__", None))
        )
        if remaining:
            self._handlers[event] = remaining
        return len(remaining) < len(known)

    def on_all(self, handler: H) -> H:
        """Call ``handler(event, data)`` for every event of the server; also a decorator."""
        self._catch_all += (check_handler(handler, "event", "data"),)
        return handler

    @overload
    def on_ack(self, name: str) -> Callable[[H], H]: ...
    @overload
    def on_ack(self, name: str, handler: H) -> H: ...
    def on_ack(self, name: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call ``handler(data)`` with each answer under this ack name that no :meth:`request` waits for.

        Raises:
            MessageError: the name is not one that an event can have.
            TypeError: the handler is no function that can be called so.
        """
        return register(partial(_add, self._ack_handlers, check_event_name(name)), handler, "data")

    def remove_all_listeners(self, event: str | None = None) -> None:
        """Take all handlers off ``event``, or off everything."""
        if event is not None:
            self._handlers.pop(event, None)
            self._ack_handlers.pop(event, None)
        else:
            self._handlers.clear()
            self._ack_handlers.clear()
            self._catch_all = ()

    def handlers_of(self, event: str) -> tuple[Handler, ...]:
        """Return the handlers of an event, then those of all events."""
        own = self._handlers.get(event, ())
        if not self._catch_all or event in LOCAL_EVENTS:
            return own
        return (*own, *(partial(handler, event) for handler in self._catch_all))

    def ack_handlers_of(self, name: str) -> tuple[Handler, ...]:
        """Return the handlers of answers under an ack name."""
        return self._ack_handlers.get(name, ())


def _arguments_of(event: str) -> tuple[str, ...]:
    return LOCAL_EVENTS.get(event, ("data",))


def _check_event(event: str) -> str:
    return event if event in LOCAL_EVENTS else check_event_name(event)


def _add(table: _Table, name: str, handler: Handler) -> None:
    table[name] = (*table.get(name, ()), handler)

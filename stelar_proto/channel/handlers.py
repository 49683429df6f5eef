"""Functions of an application's own, plain or ``async``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CoroutineType
from typing import Any, TypeVar

Handler = Callable[..., Any]
"""A plain function or an ``async def``, or anything else that is called and may return an awaitable."""

FAULTS = (Exception, SystemExit)
"""What is caught of such a function. That it wants to exit is a fault like others: only the main task can,
and not every event loop would end by it."""

H = TypeVar("H", bound=Handler)


def check_handler(handler: H, *arguments: str) -> H:
    """Return ``handler`` if it can be called with ``arguments``, of which these are the names.

    Raises:
        TypeError: it cannot.
    """
    if not callable(handler):
        raise TypeError(f"a handler is a function, not {type(handler).__name__}")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # a function in C, which does not tell
        return handler
    try:
        signature.bind(*arguments)
    except TypeError as error:
        name = getattr(handler, "__qualname__", repr(handler))
        words = f"{name} cannot be called as handler({', '.join(arguments)}): {error}"
        raise TypeError(words) from None
    return handler


def is_awaitable(result: object) -> bool:
    """Tell whether a handler's result must be awaited."""
    return type(result) is CoroutineType or hasattr(result, "__await__")

"""Where servers, clients and connections report: the ``logger`` option, and what it may be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from logging import DEBUG, WARNING, Logger, LogRecord, NullHandler
from typing import TypeAlias

LoggerOption: TypeAlias = Logger | str | None
"""A logger, the name of a level for the library's own one, or None for that one as it is configured."""


class SafeLogger(Logger):
    """Reports to another logger, and never raises: a full disk, or a handler that is wrong, ends nothing.

    What goes wrong is said on standard error, as the handlers of the standard library say it, unless
    ``logging.raiseExceptions`` is off.

    Arguments:
        target: the logger.
    """

    def __init__(self, target: Logger) -> None:
        super().__init__(target.name)
        self.target = target

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - its name in the standard library
        return self.target.isEnabledFor(level)

    def handle(self, record: LogRecord) -> None:
        try:
            self.target.handle(record)
        except Exception:
            _teller.handleError(record)


_teller = NullHandler()


class Repeats:
    """What one peer can set off at will: the first of each kind is a warning, the others are counted."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def level_of(self, kind: str) -> int:
        """Count one more of ``kind``, in the plural; return how loud it is to be said."""
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        return WARNING if count == 1 else DEBUG

    def quiet(self) -> dict[str, int]:
        """Return how often there was what was not a warning, by kind."""
        return {kind: count - 1 for kind, count in self._counts.items() if count > 1}

    def __str__(self) -> str:
        return ", ".join(f"{count} times {kind}" for kind, count in self.quiet().items())


def choose_logger(option: LoggerOption, name: str) -> Logger:
    """Return the logger to report to, which never raises.

    Arguments:
        option: what the application said; the name of a level sets the level of the library's own logger.
        name: of that one.
    """
    if isinstance(option, Logger):
        return SafeLogger(option)
    logger = logging.getLogger(name)
    if option is not None:
        logger.setLevel(option.upper())
    return SafeLogger(logger)


def logger_problems(option: object) -> Iterator[str]:
    """Say what is wrong with the option, if anything is."""
    levels = logging.getLevelNamesMapping()
    if isinstance(option, str):
        if option.upper() not in levels:
            yield f"logger must be a logger or the name of a level ({', '.join(levels)}), not {option!r}"
    elif option is not None and not isinstance(option, Logger):
        yield f"logger must be a logger or the name of a level, not {option!r}"

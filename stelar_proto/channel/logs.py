"""Where servers, clients and connections report: the ``logger`` option, and what it may be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from logging import Logger
from typing import TypeAlias

LoggerOption: TypeAlias = Logger | str | None
"""A logger, the name of a level for the library's own one, or None for that one as it is configured."""


def choose_logger(option: LoggerOption, name: str) -> Logger:
    """Return the logger to report to.

    Arguments:
        option: what the application said; the name of a level sets the level of the library's own logger.
        name: of that one.
    """
    if isinstance(option, Logger):
        return option
    logger = logging.getLogger(name)
    if option is not None:
        logger.setLevel(option.upper())
    return logger


def logger_problems(option: object) -> Iterator[str]:
    """Say what is wrong with the option, if anything is."""
    levels = logging.getLevelNamesMapping()
    if isinstance(option, str):
        if option.upper() not in levels:
            yield f"logger must be a logger or the name of a level ({', '.join(levels)}), not {option!r}"
    elif option is not None and not isinstance(option, Logger):
        yield f"logger must be a logger or the name of a level, not {option!r}"

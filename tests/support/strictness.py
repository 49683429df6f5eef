"""Assertions inside handlers: a server logs what a handler raises, and so would swallow a test's failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Raiser(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], AssertionError):
            raise record.exc_info[1]


@contextmanager
def assertions_raised(logger: str = "stelar") -> Iterator[None]:
    """Raise every AssertionError that is logged under ``logger``, out of the call that logs it."""
    raiser = _Raiser()
    logging.getLogger(logger).addHandler(raiser)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(raiser)

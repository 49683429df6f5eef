"""Assertions inside handlers: a server logs what a handler raises, and so would swallow a test's failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.failures: list[AssertionError] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], AssertionError):
            self.failures.append(record.exc_info[1])


@contextmanager
def assertions_raised(logger: str = "stelar") -> Iterator[None]:
    """Raise at the end the first AssertionError that was logged under ``logger``."""
    collector = _Collector()
    logging.getLogger(logger).addHandler(collector)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(collector)
    if collector.failures:
        raise collector.failures[0]

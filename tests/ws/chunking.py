"""Feeding one stream of bytes to a reader in every way that a network may cut it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from stelar_proto.errors import HandshakeError

Message_co = TypeVar("Message_co", covariant=True)
Message = TypeVar("Message")


class Reader(Protocol[Message_co]):
    def feed(self, data: bytes) -> Message_co | None: ...

    @property
    def trailing(self) -> bytes: ...


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The whole, byte by byte, and, unless that takes long, in two at every byte."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    if len(data) < 500:
        for at in range(1, len(data)):
            yield [data[:at], data[at:]]


def read(reader: Reader[Message], chunks: Iterable[bytes]) -> tuple[Message, bytes] | tuple[int, str] | None:
    """The message with what stands behind it; or status and reason of the refusal; or None: incomplete."""
    chunks = iter(chunks)
    for chunk in chunks:
        try:
            message = reader.feed(chunk)
        except HandshakeError as error:
            return error.status, error.reason
        if message is not None:
            return message, reader.trailing + b"".join(chunks)
    return None


def read_every_way(
    make: Callable[[], Reader[Message]], data: bytes
) -> tuple[Message, bytes] | tuple[int, str] | None:
    """What ``data`` is read as, after asserting that no way of cutting it makes a difference."""
    whole = read(make(), [data])
    for chunks in cuts(data):
        assert read(make(), chunks) == whole
    return whole


def bytes_until_refused(reader: Reader[object], data: bytes) -> int:
    """How many bytes a reader takes, one by one, before it refuses."""
    for count in range(1, len(data) + 1):
        try:
            reader.feed(data[count - 1 : count])
        except HandshakeError:
            return count
    raise AssertionError("nothing was refused")

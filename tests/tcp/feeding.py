"""What the TCP tests feed to a connection, how they cut it, and what they compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stelar_proto.tcp import Closed, Connection, Dialect, Event, FrameReceived, FrameType

JSON_FRAME = b"\0\0\0\x0f\0\0\x04chatnull"
JSON_EVENT = FrameReceived(FrameType.JSON, "chat", b"null")
PING_FRAME = b"\0\0\0\x07\x02\0\0"
PING_EVENT = FrameReceived(FrameType.PING, "", b"")
PONG_FRAME = b"\0\0\0\x07\x03\0\0"
DISCONNECT_FRAME = b"\0\0\0\x07\x07\0\0"

LIMIT = 300

# What is wrong, the code, and the bytes up to and with the one that gives it away. Documented dialect.
WRONG = [
    ("length 0", "INVALID_FRAME_SIZE", b"\0\0\0\0"),
    ("length 6", "INVALID_FRAME_SIZE", b"\0\0\0\x06"),
    ("length one above the limit", "FRAME_TOO_LARGE", b"\0\0\x01\x2d"),
    ("length 4 GiB - 1", "FRAME_TOO_LARGE", b"\xff\xff\xff\xff"),
    ("type one above the last", "UNKNOWN_FRAME_TYPE", b"\0\0\0\x07\x0b"),
    ("type 255", "UNKNOWN_FRAME_TYPE", b"\0\0\0\x07\xff"),
    ("event one byte past the frame", "INVALID_EVENT_LENGTH", b"\0\0\0\x0a\0\0\x04"),
    ("event in a frame without room", "INVALID_EVENT_LENGTH", b"\0\0\0\x07\x02\0\x01"),
    ("event past the frame and too long", "INVALID_EVENT_LENGTH", b"\0\0\0\x0a\0\xff\xff"),
    ("event of 257 bytes", "EVENT_TOO_LONG", b"\0\0\x01\x08\0\x01\x01"),
    ("event with a byte that is never UTF-8", "INVALID_EVENT", b"\0\0\0\x09\0\0\x02a\xff"),
    ("event with an overlong form", "INVALID_EVENT", b"\0\0\0\x09\0\0\x02\xc0\x80"),
    ("event with a surrogate", "INVALID_EVENT", b"\0\0\0\x0a\0\0\x03\xed\xa0\x80"),
    ("event that ends inside a character", "INVALID_EVENT", b"\0\0\0\x09\0\0\x01\xc3"),
    ("longest event with a wrong last byte", "INVALID_EVENT", b"\0\0\x01\x2c\0\x01\0" + b"x" * 255 + b"\xff"),
]


def error_frame(text: str, dialect: Dialect = Dialect.DOCUMENTED) -> bytes:
    """An Error frame, put together without the code under test."""
    code = b"\x0a" if dialect is Dialect.DOCUMENTED else b"\x0b"
    return (12 + len(text)).to_bytes(4, "big") + code + b"\0\x05error" + text.encode()


def feed(connection: Connection, chunks: Iterable[bytes]) -> list[Event]:
    """Feed every chunk and return all events."""
    return [event for chunk in chunks for event in connection.receive_data(chunk)]


def bytewise(data: bytes) -> list[bytes]:
    """The chunks of one byte each."""
    return [data[i : i + 1] for i in range(len(data))]


def chunkings(data: bytes) -> Iterator[list[bytes]]:
    """``data`` whole, split in two at every byte, and byte by byte."""
    yield [data]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]
    yield bytewise(data)


def comparable(events: Iterable[Event]) -> list[object]:
    """Events as values that can be compared: exceptions are equal only to themselves."""
    return [
        ("closed", type(event.error), getattr(event.error, "code", None), str(event.error))
        if isinstance(event, Closed)
        else event
        for event in events
    ]

"""Streams with one thing in them: each rule of RFC 6455, section 5, on both sides of its boundary.

What chance finds seldom stands here in full, so that no run leaves it out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from stelar_proto.ws import Role
from tests.ws.feeding import MASK

from .streams import (
    BINARY,
    CLOSE,
    FIRST_BINARY,
    FIRST_TEXT,
    LAST,
    NEXT,
    PING,
    PONG,
    TEXT,
    Case,
    Frame,
    join,
    shortest,
)


def every_case(role: Role) -> Iterator[Case]:
    """All of them, for the role that reads."""
    for streams in (
        *(
            _first_bytes(role),
            _first_bytes(role, (FIRST_TEXT, b"a")),
            _first_bytes(role, (FIRST_BINARY, b"a")),
        ),
        *(_masking(role), _lengths(role), _closes(role), _texts(role), _cut_off(role)),
    ):
        for stream in streams:
            yield Case(role, stream)
    yield from _limits(role)
    for stream in (_talk(role), *_first_bytes(role)):
        yield Case(role, stream, closing=True)


def _frame(role: Role, first_byte: int, payload: bytes = b"") -> Frame:
    mask = MASK if role is Role.SERVER else None
    return Frame(first_byte, shortest(len(payload)), len(payload), mask, payload)


def _stream(role: Role, *frames: tuple[int, bytes]) -> bytes:
    return join([_frame(role, *frame) for frame in frames])


def _talk(role: Role) -> bytes:
    """Some of all that is allowed."""
    return _stream(
        role,
        (TEXT, "hello, señor".encode()),
        (FIRST_TEXT, b"sn\xe2"),
        (PING, b"?"),
        (NEXT, b"\x98"),
        (NEXT, b""),
        (PONG, b""),
        (LAST, b"\x83"),
        (BINARY, bytes(range(130))),
        (FIRST_BINARY, b""),
        (LAST, b"\xff"),
        (CLOSE, b"\x03\xe9bye"),
        (PING, b"too late"),
    )


def _first_bytes(role: Role, *begun: tuple[int, bytes]) -> Iterator[bytes]:
    """Every FIN, RSV and opcode, with text that is close code 3199, too, and what is heard behind it."""
    for first_byte in range(256):
        yield _stream(role, *begun, (first_byte, b"\x0c\x7f"), (LAST, b"b"), (PING, b""))


def _masking(role: Role) -> Iterator[bytes]:
    """Every opcode masked wrongly, and payloads of every length round the key's and the fast ways to mask."""
    for first_byte in (TEXT, BINARY, FIRST_TEXT, LAST, CLOSE, PING, PONG):
        mask = None if role is Role.SERVER else MASK
        yield join([_frame(role, TEXT, b"a"), _frame(role, first_byte)._replace(mask=mask)])
    for size in (*range(10), *range(509, 516)):
        yield _stream(role, (BINARY, bytes(at & 0xFF for at in range(size))), (PING, b""))


def _lengths(role: Role) -> Iterator[bytes]:
    """Every encoding of the length at its boundaries, more bytes than it needs included, and huge ones."""
    sizes = (0, 1, 124, 125, 126, 127, 65535, 65536)
    huge = ((1 << 63) - 1, 1 << 63, (1 << 64) - 1)
    for first_byte, size, width in itertools.product((BINARY, TEXT, PING, CLOSE), sizes, (0, 2, 8)):
        if width >= shortest(size) and (size < 1000 or first_byte == BINARY):
            payload = b"\x03\xe8" + b"x" * (size - 2) if first_byte == CLOSE else b"x" * size
            frame = _frame(role, first_byte, payload[:size])
            yield join([frame._replace(width=width), _frame(role, PING)])
    for first_byte, size in itertools.product((BINARY, PING), (65535, 65536, *huge)):
        yield join([_frame(role, first_byte, b"some of it")._replace(size=size, width=8)])


def _closes(role: Role) -> Iterator[bytes]:
    """Codes at the boundaries of their ranges and every registered one, and reasons right and wrong."""
    codes = (0, 1, *range(995, 1020), 1099, 1100, 1999, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 5001, 65535)
    for code, reason in itertools.product(codes, ("", "bye", "\u2603" * 41)):
        yield _stream(role, (CLOSE, code.to_bytes(2) + reason.encode()), (PING, b""))
    for payload in (
        b"",
        b"\x03",
        b"\x03\xe8\xff",
        b"\x03\xe7\xff",
        b"\x03\xe8\xe2\x98",
        b"\x03\xe8\xed\xa0\x80",
    ):
        yield _stream(role, (CLOSE, payload), (PING, b""))
    for behind in (b"\xff\xff", _stream(role, (FIRST_TEXT, b"\xff" * 200))):
        yield _stream(role, (CLOSE, b"")) + behind


def _texts(role: Role) -> Iterator[bytes]:
    """Characters at the boundaries of their encodings and what is none, whole and cut in two anywhere."""
    characters = "\0\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\uffff\U00010000\U0010ffff"
    none = [
        "80",
        "bf",
        "c080",
        "c1bf",
        "c2",
        "c241",
        "e08080",
        "e0a0",
        "e298",
        "eda080",
        "edbfbf",
        "f0808080",
    ]
    none += ["f09f98", "f48fbf", "f4908080", "f5808080", "fe", "ff", "eda0", "ed"]
    for text in [*(character.encode() for character in characters), *map(bytes.fromhex, none)]:
        for before, behind in itertools.product((b"", b"a"), repeat=2):
            whole = before + text + behind
            yield _stream(role, (TEXT, whole), (PING, b""))
            for at in range(len(whole) + 1):
                yield _stream(role, (FIRST_TEXT, whole[:at]), (PING, b""), (LAST, whole[at:]), (PING, b""))


def _cut_off(role: Role) -> Iterator[bytes]:
    stream = _talk(role)
    for size in range(len(stream)):
        yield stream[:size]


def _limits(role: Role) -> Iterator[Case]:
    """Messages at the limit and over it, in up to three frames, behind another one, pings between them."""
    parts = [(9,), (10,), (11,), (5, 5), (5, 6), (10, 0), (10, 1), (0, 11), (11, 0), (4, 3, 3), (4, 4, 3)]
    for sizes, ping in itertools.product(parts, (b"", b"pin", b"p" * 11)):
        frames = [(BINARY, b"x" * 8)]
        for at, size in enumerate(sizes, 1):
            first_byte = (FIRST_BINARY if at == 1 else NEXT) | (0x80 if at == len(sizes) else 0)
            frames += [(first_byte, b"x" * size), (PING, ping)]
        yield Case(role, _stream(role, *frames), limit=10)
    for size in (10, 11, 1 << 16, 1 << 63):
        frame = _frame(role, BINARY, b"")._replace(size=size, width=shortest(size))
        yield Case(role, join([frame]), limit=10)

"""What the targets have in common: the seed corpus, damage to it, and the ways a network may cut a stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"

T = TypeVar("T")

Damage: TypeAlias = tuple[str, int, bytes]

# Bytes that mean something to one parser or another: ends of ranges, marks, broken and cut UTF-8.
SPECIAL = [
    *(bytes([byte]) for byte in (0x00, 0x01, 0x7D, 0x7E, 0x7F, 0x80, 0x81, 0x88, 0x89, 0x8A, 0xFE, 0xFF)),
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xe2\x98",
    b"\xf0\x9f",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b'"',
]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CUTS = st.lists(st.integers(0, 999), max_size=8)
"""Where a stream is cut, see :func:`cut`."""


def corpus(kind: str) -> list[bytes]:
    """The entries of one folder of the corpus."""
    entries = [path.read_bytes() for path in sorted((CORPUS / kind).glob("*.bin"))]
    assert entries, f"{kind} has no corpus: run fuzz/make_corpus.py"
    return entries


def weighted(usual: T, *others: T, share: int = 5) -> st.SearchStrategy[T]:
    """``usual`` most of the time, one of ``others`` in one case of ``share``."""
    return st.sampled_from([usual] * (share - 1) * len(others) + list(others))


def mutated(entries: Iterable[bytes], *, least: int = 0) -> st.SearchStrategy[bytes]:
    """One to three of ``entries`` in a row, with ``least`` to four damages."""
    seeds = st.lists(st.sampled_from(list(entries)), min_size=1, max_size=3).map(b"".join)
    return st.builds(damage, seeds, st.lists(DAMAGES, min_size=least, max_size=4))


def damage(data: bytes, damages: Sequence[Damage]) -> bytes:
    """Apply each of ``damages``: what is done, where (modulo the length), with which bytes."""
    for kind, position, piece in damages:
        at = position % (len(data) + 1)
        match kind:
            case "overwrite":
                data = data[:at] + piece + data[at + len(piece) :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "delete":
                data = data[:at] + data[at + len(piece) :]
            case "repeat":
                data = data[:at] + data[at : at + 20] * len(piece) + data[at:]
            case "end":
                data = data[:at]
            case "flip":
                flipped = bytes(byte ^ 1 << position % 8 for byte in data[at : at + 1])
                data = data[:at] + flipped + data[at + 1 :]
    return data


# Most damage is done near the beginning, where the heads are.
DAMAGES: st.SearchStrategy[Damage] = st.tuples(
    st.sampled_from(["overwrite", "overwrite", "flip", "insert", "delete", "repeat", "end"]),
    st.one_of(st.integers(0, 16), st.integers(0, 2000)),
    st.one_of(st.sampled_from(SPECIAL), st.binary(min_size=1, max_size=4)),
)


def cut(data: bytes, positions: Sequence[int]) -> list[bytes]:
    """``data`` cut at these positions (modulo its length); no chunk is empty, which would mean the end."""
    ends = sorted({at % len(data) for at in positions} | {0, len(data)}) if data else [0]
    return [data[start:stop] for start, stop in itertools.pairwise(ends)]


def chunkings(data: bytes, positions: Sequence[int]) -> list[list[bytes]]:
    """``data`` cut at ``positions``, and, unless that takes long, byte by byte."""
    ways = [cut(data, positions)]
    if len(data) <= 400:
        ways.append([data[at : at + 1] for at in range(len(data))])
    return ways


def same_for_any_chunks(outcome: Callable[[list[bytes]], T], data: bytes, positions: Sequence[int]) -> T:
    """Return ``outcome`` of the whole of ``data``, after asserting that it is that of every chunking too."""
    whole = outcome(cut(data, []))
    for chunks in chunkings(data, positions):
        assert outcome(chunks) == whole
    return whole

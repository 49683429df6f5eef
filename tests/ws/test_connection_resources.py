"""What receiving costs: bytes looked at and bytes kept, counted, not timed."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.ws import (
    BinaryReceived,
    Closed,
    Connection,
    PartReceived,
    Role,
    State,
    TextReceived,
    receiver,
)
from stelar_proto.ws.frames import Header, apply_mask, parse_frames, read_header
from stelar_proto.ws.messages import MessageReader

from .feeding import (
    BINARY,
    FIRST_BINARY,
    MASK,
    NEXT,
    REQUEST,
    RESPONSE,
    TEXT,
    both_roles,
    bytewise,
    feed,
    open_connection,
    rfc_entropy,
    sent_to,
)

MIB = 1024 * 1024


class Counter:
    """Counts how often the parts of the receiver look at bytes, and at how many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed: list[int] = []
        self.judged: list[int] = []
        self.unmasked: list[int] = []
        self.collected: list[int] = []

        def counted_parse(data: bytes, position: int, *arguments: Any) -> int:
            self.parsed.append(len(data) - position)
            return parse_frames(data, position, *arguments)

        def counted_read(data: bytes, position: int, *arguments: Any) -> Header | None:
            self.judged.append(len(data) - position)
            return read_header(data, position, *arguments)

        def counted_mask(payload: bytes | memoryview, mask: bytes, phase: int = 0) -> bytes:
            self.unmasked.append(len(payload))
            return apply_mask(payload, mask, phase)

        collect = MessageReader.feed

        def counted_feed(
            reader: MessageReader, payload: bytes, end_of_frame: bool
        ) -> TextReceived | BinaryReceived | PartReceived | None:
            self.collected.append(len(payload))
            return collect(reader, payload, end_of_frame)

        monkeypatch.setattr(receiver, "parse_frames", counted_parse)
        monkeypatch.setattr(receiver, "read_header", counted_read)
        monkeypatch.setattr(receiver, "apply_mask", counted_mask)
        monkeypatch.setattr(MessageReader, "feed", counted_feed)


def peak_memory(action: Callable[[], object]) -> int:
    """The most bytes that were allocated at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@both_roles
def test_a_message_of_10_mib_in_small_chunks_is_gone_through_once(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = bytes(range(256)) * (10 * MIB // 256)
    head = sent_to(role, BINARY, payload[:70_000])[:-70_000]
    head = head[:2] + (10 * MIB).to_bytes(8, "big") + head[10:]
    body = apply_mask(payload, MASK) if role is Role.SERVER else payload
    counter = Counter(monkeypatch)
    conn = open_connection(role)
    events = feed(conn, [*bytewise(head), *(body[i : i + 4093] for i in range(0, len(body), 4093))])
    assert events == [BinaryReceived(payload)]
    # The header is looked at anew with each of its bytes, the payload never.
    assert counter.parsed == counter.judged == list(range(1, len(head) + 1))
    assert sum(counter.collected) == 10 * MIB
    assert sum(counter.unmasked) == (10 * MIB if role is Role.SERVER else 0)
    assert max(counter.collected) == 4093


@both_roles
def test_fragments_byte_by_byte_are_gone_through_once(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sent_to(role, FIRST_BINARY, b"x" * 1000) + sent_to(role, NEXT, b"y" * 1000) * 20
    counter = Counter(monkeypatch)
    conn = open_connection(role)
    assert feed(conn, bytewise(data)) == []
    header_size = 8 if role is Role.SERVER else 4
    assert counter.parsed == counter.judged == list(range(1, header_size + 1)) * 21
    assert sum(counter.collected) == 21_000


@both_roles
def test_small_messages_in_large_chunks_are_gone_through_once(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sent_to(role, TEXT, b"x" * 16) * 5000
    counter = Counter(monkeypatch)
    conn = open_connection(role)
    chunks = [data[i : i + 1000] for i in range(0, len(data), 1000)]
    assert len(feed(conn, chunks)) == 5000
    # A chunk, and what the one before it left of a frame: its header, or else its payload is handed on.
    assert len(counter.parsed) <= 2 * len(chunks)
    assert sum(counter.parsed) <= len(data) + 14 * len(chunks) + 16 * len(chunks)
    assert counter.collected == [] or max(counter.collected) <= 16


@both_roles
def test_a_length_that_is_only_announced_allocates_nothing(role: Role) -> None:
    conn = open_connection(role, max_frame_size=None, max_message_size=None)
    header = b"\x82\xff\x7f" + b"\xff" * 7 + MASK if role is Role.SERVER else b"\x82\x7f\x7f" + b"\xff" * 7
    assert peak_memory(lambda: feed(conn, bytewise(header))) < 5000
    assert conn._receiver is not None
    assert conn._receiver._frame is not None
    assert conn._receiver._frame.size == (1 << 63) - 1
    assert conn._receiver._tail == b""
    assert conn.collected_size == 0
    assert peak_memory(lambda: conn.receive_data(bytes(1000))) < 10_000
    assert conn.collected_size == 1000


@both_roles
def test_a_control_frame_of_a_million_bytes_is_refused_at_its_second_byte(role: Role) -> None:
    conn = open_connection(role)
    second = b"\xff" if role is Role.SERVER else b"\x7f"
    assert conn.receive_data(b"\x89") == []
    assert len(conn.receive_data(second)) == 1
    assert repr(conn) == f"<ws.Connection {role.value} closed>"
    assert peak_memory(lambda: [conn.receive_data(bytes(10_000)) for _ in range(100)]) < 15_000


@both_roles
def test_what_waits_for_more_bytes_is_never_more_than_a_control_frame(role: Role) -> None:
    conn = open_connection(role)
    longest = 0
    for byte in bytewise(sent_to(role, 0x89, b"x" * 125) * 3 + sent_to(role, TEXT, b"x" * 300)):
        conn.receive_data(byte)
        assert conn._receiver is not None
        longest = max(longest, len(conn._receiver._tail))
    assert longest == (130 if role is Role.SERVER else 126)


@both_roles
def test_a_message_over_the_limit_is_not_collected_up_to_the_limit(role: Role) -> None:
    conn = open_connection(role, max_frame_size=MIB, max_message_size=MIB)
    data = sent_to(role, FIRST_BINARY, bytes(1000)) + sent_to(role, NEXT, bytes(MIB))
    chunks = [data[i : i + 4096] for i in range(0, len(data), 4096)]
    assert peak_memory(lambda: feed(conn, chunks)) < 40_000
    assert conn.state is State.CLOSED


@both_roles
def test_the_default_limits_are_10_mib_and_131072_fragments(role: Role) -> None:
    def refusal(*chunks: bytes) -> object:
        conn = open_connection(role)
        [closed] = feed(conn, chunks)
        assert isinstance(closed, Closed)
        return closed.code, closed.reason

    def header(first_byte: int, size: int) -> bytes:
        mask_bit, mask = (0x80, MASK) if role is Role.SERVER else (0, b"")
        return bytes([first_byte, mask_bit | 127]) + size.to_bytes(8, "big") + mask

    frame_of_10_mib = header(FIRST_BINARY, 10 * MIB) + bytes(10 * MIB)
    assert open_connection(role).receive_data(frame_of_10_mib) == []
    reason = "a frame of 10485761 bytes is announced, the limit is 10485760"
    assert refusal(header(BINARY, 10 * MIB + 1)) == (1009, reason)
    reason = "a message of at least 10485761 bytes is announced, the limit is 10485760"
    assert refusal(frame_of_10_mib, sent_to(role, NEXT, b"x")) == (1009, reason)
    fragments = sent_to(role, FIRST_BINARY) + sent_to(role, NEXT) * 131_071
    assert open_connection(role).receive_data(fragments) == []
    assert refusal(fragments, sent_to(role, NEXT)) == (1009, "a message has more than 131072 frames")


class Observed(Connection):
    """Has a ``__weakref__``, which :class:`Connection` saves."""


@both_roles
def test_a_connection_is_freed_when_it_is_dropped_and_not_when_the_collector_comes_by(role: Role) -> None:
    conn = Observed(role, entropy=rfc_entropy)
    if role is Role.SERVER:
        conn.receive_data(REQUEST)
        conn.accept()
    else:
        conn.request_upgrade("ws://localhost/chat")
        conn.receive_data(RESPONSE)
    conn.receive_data(sent_to(role, TEXT, b"x" * 600)[:-1])
    observer = weakref.ref(conn)
    del conn
    assert observer() is None

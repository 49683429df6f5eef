"""What holds for every stream: round trips, chunks that make no difference, and no input that raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelar_proto.errors import InvalidUtf8
from stelar_proto.ws import (
    BinaryReceived,
    Closed,
    Connection,
    Event,
    Opened,
    PartReceived,
    PingReceived,
    PongReceived,
    RequestReceived,
    Role,
    TextReceived,
    UpgradeRequested,
)

from .feeding import (
    MASK,
    PLAIN,
    REQUEST,
    RESPONSE,
    both_roles,
    bytewise,
    closing_connection,
    comparable,
    cut,
    feed,
    frame,
    new_connection,
    open_connection,
    requesting_connection,
    with_fields,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
CUTS = st.lists(st.integers(0, 5000), max_size=12)
SIZES = st.sampled_from([0, 1, 124, 125, 126, 127, 511, 512, 513, 65535, 65536, 70_000])

MANY = settings(max_examples=150, deadline=None)  # for what only few streams and cuts show

# --- Round trips ----------------------------------------------------------------------------------------

Command: TypeAlias = tuple[str, str | bytes | list[str] | list[bytes]]
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("binary"), st.binary(max_size=200)),
    st.tuples(st.just("binary"), SIZES.map(lambda size: b"\xa5" * size)),
    st.tuples(st.just("parts"), st.lists(TEXTS, min_size=1, max_size=4)),
    st.tuples(st.just("parts"), st.lists(st.binary(max_size=200), min_size=1, max_size=4)),
    st.tuples(st.just("ping"), st.binary(max_size=125)),
    st.tuples(st.just("pong"), st.binary(max_size=125)),
)


def carry_out(conn: Connection, command: Command) -> Event:
    """Send, and return what the other side should make of it."""
    match command:
        case ("text", str(text)):
            conn.send_text(text)
            return TextReceived(text)
        case ("binary", bytes(data)):
            conn.send_binary(data)
            return BinaryReceived(data)
        case ("ping", bytes(payload)):
            conn.ping(payload)
            return PingReceived(payload)
        case ("pong", bytes(payload)):
            conn.pong(payload)
            return PongReceived(payload)
        case (_, list(parts)):
            for part in parts[:-1]:
                conn.send_part(part, final=False)
            conn.send_part(parts[-1], final=True)
    if isinstance(parts[0], str):
        return TextReceived("".join(map(str, parts)))
    return BinaryReceived(b"".join(part for part in parts if isinstance(part, bytes)))


@both_roles
@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=6), CUTS)
def test_what_one_side_sends_the_other_receives(role: Role, commands: list[Command], cuts: list[int]) -> None:
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    sender, receiver = open_connection(role), open_connection(other)
    wanted = [carry_out(sender, command) for command in commands]
    sender.close(4000, "done")
    data = sender.data_to_send()
    assert feed(receiver, cut(data, cuts)) == [*wanted, Closed(4000, "done", None)]
    pongs = [PongReceived(event.payload) for event in wanted if isinstance(event, PingReceived)]
    assert feed(sender, cut(receiver.data_to_send(), cuts)) == [*pongs, Closed(4000, "done", None)]


@both_roles
@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=4), CUTS)
def test_parts_add_up_to_what_was_sent(role: Role, commands: list[Command], cuts: list[int]) -> None:
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    sender, receiver = open_connection(role), open_connection(other, deliver_parts=True)
    wanted = [carry_out(sender, command) for command in commands]
    events = feed(receiver, cut(sender.data_to_send(), cuts))
    assert joined(events) == wanted


@both_roles
@MANY
@given(
    st.lists(COMMANDS, max_size=4),
    CUTS,
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=12),
)
def test_switching_parts_on_and_off_at_any_moment_gives_the_same_messages(
    role: Role, commands: list[Command], cuts: list[int], switches: list[tuple[int, bool]]
) -> None:
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    sender, receiver = open_connection(role), open_connection(other)
    wanted = [carry_out(sender, command) for command in commands]
    at = dict(switches)
    events: list[Event] = []
    for number, chunk in enumerate(cut(sender.data_to_send(), cuts)):
        receiver.deliver_parts = at.get(number, receiver.deliver_parts)
        events += receiver.receive_data(chunk)
    assert joined(events) == wanted
    assert receiver.collected_size == 0


def joined(events: list[Event]) -> list[Event]:
    """Parts as the messages that they make; what comes between them stays where it was."""
    whole: list[Event] = []
    parts: list[str | bytes] = []
    for event in events:
        if not isinstance(event, PartReceived):
            assert not parts  # our own side sends nothing between its parts
            whole.append(event)
            continue
        parts.append(event.data)
        assert len({type(part) for part in parts}) == 1
        if event.final and isinstance(event.data, str):
            whole.append(TextReceived("".join(map(str, parts))))
        elif event.final:
            whole.append(BinaryReceived(b"".join(part for part in parts if isinstance(part, bytes))))
        if event.final:
            parts = []
    assert not parts
    return whole


@both_roles
@settings(deadline=None)
@given(
    st.sampled_from([65536, 65537, 100_000, 1 << 20]),
    st.integers(1000, 70_000),
    st.binary(min_size=1, max_size=7),
)
def test_long_messages_round_trip(role: Role, size: int, chunk_size: int, pattern: bytes) -> None:
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    payload = (pattern * (size // len(pattern) + 1))[:size]
    sender = open_connection(role)
    sender.send_binary(payload)
    data = sender.data_to_send()
    chunks = [data[i : i + chunk_size] for i in range(0, len(data), chunk_size)]
    assert feed(open_connection(other), chunks) == [BinaryReceived(payload)]


# --- Chunks make no difference --------------------------------------------------------------------------

FIRST_BYTES = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88])
PAYLOADS = st.one_of(
    st.binary(max_size=12),
    TEXTS.map(str.encode),
    st.sampled_from(
        [b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\xed\xa0\x80", b"\xe2\x98", b"\x83", b"x" * 126]
    ),
)


@st.composite
def streams(draw: st.DrawFn, role: Role) -> bytes:
    """Frames that this side may receive, most of them right, some damaged, and some garbage."""
    pieces = []
    for _ in range(draw(st.integers(0, 6))):
        piece = frame(draw(FIRST_BYTES), draw(PAYLOADS), masked=role is Role.SERVER)
        if draw(st.integers(0, 7)) == 0:
            at = draw(st.integers(0, min(len(piece), 15) - 1))
            piece = piece[:at] + bytes([draw(st.integers(0, 255))]) + piece[at + 1 :]
        pieces.append(piece)
    if draw(st.booleans()):
        pieces.append(draw(st.binary(max_size=9)))
    return b"".join(pieces)


def outcome(conn: Connection, chunks: list[bytes]) -> tuple[list[object], bytes, object, object]:
    """All that can be seen of feeding these chunks and the end of the stream."""
    events = comparable(feed(conn, [*chunks, b""]))
    return events, conn.data_to_send(), conn.close_sent, conn.close_received


@both_roles
@settings(MANY)
@given(st.data(), CUTS, st.booleans())
def test_the_chunks_make_no_difference_to_frames(
    role: Role, data: st.DataObject, cuts: list[int], closing: bool
) -> None:
    stream = data.draw(streams(role))

    def connection() -> Connection:
        conn = open_connection(role, max_frame_size=150, max_message_size=160, max_fragments=3)
        if closing:
            conn.close()
        return conn

    whole = outcome(connection(), [stream] if stream else [])
    assert outcome(connection(), cut(stream, cuts)) == whole
    assert outcome(connection(), bytewise(stream)) == whole


@both_roles
@settings(MANY)
@given(st.data(), CUTS)
def test_the_chunks_make_no_difference_to_what_parts_add_up_to(
    role: Role, data: st.DataObject, cuts: list[int]
) -> None:
    stream = data.draw(streams(role))

    def connection() -> Connection:
        return open_connection(role, max_frame_size=150, max_message_size=160, deliver_parts=True)

    whole = added_up(feed(connection(), [*cut(stream, []), b""]))
    for chunks in (cut(stream, cuts), bytewise(stream)):
        assert added_up(feed(connection(), [*chunks, b""])) == whole


FINAL = object()


def added_up(events: list[Event]) -> list[object]:
    """The text and bytes of neighbouring parts as one, with everything else in its place."""
    added: list[Any] = []
    for event in events:
        if isinstance(event, PartReceived):
            last: Any = added.pop() if added and type(added[-1]) is type(event.data) else event.data[:0]
            added += [last + event.data, FINAL] if event.final else [last + event.data]
            continue
        if isinstance(event, Closed) and isinstance(event.error, InvalidUtf8):
            # How much of the text in front of the wrong byte is delivered is up to the chunks.
            while added and isinstance(added[-1], str):
                added.pop()
        added += comparable([event])
    return added


HEADS = [
    PLAIN,
    REQUEST,
    REQUEST.replace(b"GET", b"HEAD"),
    REQUEST.replace(b"13", b"7"),
    REQUEST[:40],
    with_fields(REQUEST, b"Sec-WebSocket-Protocol: a, b"),
]
ANSWERS = [
    RESPONSE,
    RESPONSE + b"\x81\x02hi\x88\x00",
    RESPONSE + b"\x81\x82",
    RESPONSE.replace(b"s3pP", b"AAAA"),
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno way",
    b"HTTP/1.1 200 OK\r\n\r\nanything",
]


@st.composite
def damaged(draw: st.DrawFn, heads: list[bytes]) -> bytes:
    head = draw(st.sampled_from(heads))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(head) - 1))
        head = head[:at] + draw(st.binary(max_size=2)) + head[at + 1 :]
    return head


@settings(MANY)
@given(damaged(HEADS), CUTS)
def test_the_chunks_make_no_difference_to_a_request(head: bytes, cuts: list[int]) -> None:
    whole = outcome(new_connection(Role.SERVER), [head])
    for chunks in (cut(head, cuts), bytewise(head)):
        events, *rest = outcome(new_connection(Role.SERVER), chunks)
        if whole[0][0] != events[0] and isinstance(events[0], UpgradeRequested):
            events = events[1:]  # bytes behind the request: known at once in one chunk, later in several
        assert (events, *rest) == whole


@settings(MANY)
@given(damaged(ANSWERS), CUTS)
def test_the_chunks_make_no_difference_to_a_response(head: bytes, cuts: list[int]) -> None:
    whole = outcome(requesting_connection(), [head])
    assert outcome(requesting_connection(), cut(head, cuts)) == whole
    assert outcome(requesting_connection(), bytewise(head)) == whole


# --- Nothing raises -------------------------------------------------------------------------------------

STATES: dict[str, Callable[[], Connection]] = {
    "server connecting": lambda: new_connection(Role.SERVER),
    "server open": lambda: open_connection(Role.SERVER),
    "server open, parts": lambda: open_connection(Role.SERVER, deliver_parts=True, max_fragments=2),
    "server closing": lambda: closing_connection(Role.SERVER),
    "client idle": lambda: new_connection(Role.CLIENT),
    "client connecting": lambda: requesting_connection(),
    "client open": lambda: open_connection(Role.CLIENT),
    "client open, small": lambda: open_connection(Role.CLIENT, max_frame_size=3, max_message_size=4),
    "client closing": lambda: closing_connection(Role.CLIENT),
}
# Bytes at random hardly ever get past a header, so some of them are good beginnings.
PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"\x81\x82" + MASK, b"\x01\x03", b"\x02\xfe\x00\x80" + MASK, b"\x88\x82", REQUEST, RESPONSE[:30]]
    ),
)


@pytest.mark.parametrize("state", STATES)
@settings(deadline=None)
@given(st.lists(PIECES, max_size=8))
def test_no_bytes_raise_and_closed_comes_once_and_last(state: str, chunks: list[bytes]) -> None:
    conn = STATES[state]()
    events = feed(conn, [*filter(None, chunks), b"", b"more", b""])
    assert [isinstance(event, Closed) for event in events] == [False] * (len(events) - 1) + [True]
    assert repr(conn).endswith(" closed>")
    openings = [isinstance(event, RequestReceived | UpgradeRequested | Opened) for event in events]
    assert sum(openings) <= 1

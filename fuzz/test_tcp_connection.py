"""``stelar_proto.tcp.Connection``, both dialects: whatever comes in.

Held for every stream, cut anywhere, in every state:

- ``receive_data`` and ``data_to_send`` raise nothing. Allowed exceptions: none.
- ``Closed`` comes exactly once, last, no later than the end of the stream; nothing comes after it.
- The events and the bytes that go out are the same for any chunks.
- Between two chunks less is held than one frame, and no more than ``max_frame_size``.
- The frames that are reported, and the first fault, are those that a plain reading of the format finds.
- Each Ping is answered by a Pong while this side is open; a fault is answered by one Error frame with its
  code, behind everything else; a peer of the same dialect reads these answers without a fault.
- What one connection sent (``send_frame``, ``fail``, ``disconnect``), the other reports.

The commands may raise, and then send nothing: ``StateError`` after the end, ``MessageError`` for a frame over
the limit.
"""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import MessageError, StateError
from stelar_proto.tcp import Closed, Connection, Dialect, Event, FrameReceived, FrameType, State
from stelar_proto.tcp.frames import MAX_EVENT_SIZE

from .inputs import CUTS, TEXTS, corpus, cut, mutated, same_for_any_chunks, weighted

Frame: TypeAlias = tuple[FrameType, str, bytes]
Outcome: TypeAlias = tuple[list[Frame], str | None, bytes]

DIALECTS = st.sampled_from(Dialect)
LIMITS = weighted(10 * 1024 * 1024, 7, 12, 64, 300, share=2)

# --- Streams --------------------------------------------------------------------------------------------

EVENTS = st.one_of(
    TEXTS.map(str.encode),
    st.sampled_from(
        [b"chat", b"error", b"", b"x" * 255, b"x" * 256, b"x" * 257, b"\xff", b"a\xed\xa0\x80", b"\xc3"]
    ),
)
PAYLOADS = st.one_of(st.binary(max_size=20), st.sampled_from([b"null", b"{}", b"x" * 300]))


def raw_frame(code: int, event: bytes, payload: bytes, size_lie: int, event_size_lie: int) -> bytes:
    """A frame whose lengths are off by so much."""
    size = max(0, 7 + len(event) + len(payload) + size_lie) & 0xFFFF_FFFF
    event_size = max(0, len(event) + event_size_lie) & 0xFFFF
    return size.to_bytes(4, "big") + bytes([code]) + event_size.to_bytes(2, "big") + event + payload


FRAMES = st.builds(
    raw_frame,
    st.one_of(st.integers(0, 11), weighted(2, 0xFF, 12)),
    EVENTS,
    PAYLOADS,
    weighted(0, -1, 1, -7, -300, 300, 1 << 24, 1 << 31, share=8),
    weighted(0, -1, 1, 7, 256, 0xFFFF, share=8),
)


def streams(dialect: Dialect) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.lists(FRAMES, max_size=5).map(b"".join),
        mutated(corpus(f"tcp_{dialect.value}")),
        st.binary(max_size=60),
    )


STREAMS = st.one_of([st.tuples(st.just(dialect), streams(dialect)) for dialect in Dialect])

# --- A plain reading of the format ----------------------------------------------------------------------


def plain_reading(data: bytes, dialect: Dialect, limit: int) -> tuple[list[Frame], str | None]:
    """The frames of a whole stream, and the code of what ends it: a fault, or a frame that is cut short."""
    frames: list[Frame] = []
    while data:
        size = int.from_bytes(data[:4], "big")
        code, event_size = data[4:5], int.from_bytes(data[5:7], "big")
        number = code[0] - (1 if dialect is Dialect.NPM else 0) if code else 0
        if len(data) >= 4 and size < 7:
            return frames, "INVALID_FRAME_SIZE"
        if len(data) >= 4 and size > limit:
            return frames, "FRAME_TOO_LARGE"
        if not 0 <= number <= 10:
            return frames, "UNKNOWN_FRAME_TYPE"
        if len(data) >= 7 and 7 + event_size > size:
            return frames, "INVALID_EVENT_LENGTH"
        if len(data) >= 7 and event_size > MAX_EVENT_SIZE:
            return frames, "EVENT_TOO_LONG"
        if len(data) < 7 or len(data) < 7 + event_size:
            return frames, "TRUNCATED_FRAME"
        try:
            event = data[7 : 7 + event_size].decode()
        except UnicodeDecodeError:
            return frames, "INVALID_EVENT"
        if len(data) < size:
            return frames, "TRUNCATED_FRAME"
        frames.append((FrameType(number), event, data[7 + event_size : size]))
        data = data[size:]
    return frames, None


# --- Any stream --------------------------------------------------------------------------------------------


LATE = (FrameType.JSON, "", b"")  # fits into every limit


def receive(conn: Connection, chunks: list[bytes], limit: int) -> Outcome:
    """Feed ``chunks`` and the end of the stream, with a look at the rules behind each of them."""
    events: list[Event] = []
    for chunk in [*chunks, b"", b"more", b""]:
        was_closed = conn.state is State.CLOSED
        new = conn.receive_data(chunk)
        assert not (was_closed and new)
        events += new
        assert len(conn._buffer) <= limit
        assert not conn._buffer or len(conn._buffer) < conn._needed <= max(limit, 7)
    *frames, closed = events
    assert isinstance(closed, Closed)
    received: list[Frame] = [frame for frame in frames if isinstance(frame, FrameReceived)]
    assert len(received) == len(frames)
    if conn.can_send:  # an answer to what came in front of the fault leaves in front of the Error frame
        conn.send_frame(*LATE)
    return received, None if closed.error is None else closed.error.code, conn.data_to_send()


@given(STREAMS, LIMITS, st.booleans(), CUTS)
def test_any_stream(heard: tuple[Dialect, bytes], limit: int, closing: bool, cuts: list[int]) -> None:
    dialect, stream = heard

    def outcome(chunks: list[bytes]) -> Outcome:
        conn = Connection(dialect=dialect, max_frame_size=limit)
        if closing:
            conn.close()
        return receive(conn, chunks, limit)

    frames, code, answer = same_for_any_chunks(outcome, stream, cuts)
    assert (frames, code) == plain_reading(stream, dialect, limit)
    if closing:
        assert answer == b""
        return
    expected: list[Frame] = [(FrameType.PONG, "", b"") for frame in frames if frame[0] is FrameType.PING]
    if code is not None and code != "TRUNCATED_FRAME":
        expected += [LATE, (FrameType.ERROR, "error", code.encode())]
    assert reported(answer, dialect) == expected


def reported(answers: bytes, dialect: Dialect) -> list[Event]:
    """What the other side makes of all that was answered."""
    return Connection(dialect=dialect).receive_data(answers) if answers else []


# --- What is sent -----------------------------------------------------------------------------------------

COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(FrameType), TEXTS, st.binary(max_size=40)),
        st.tuples(st.just("fail"), TEXTS, st.just(b"")),
        st.tuples(st.sampled_from(["close", "disconnect"]), st.just(""), st.just(b"")),
    ),
    max_size=8,
)


def carry_out(conn: Connection, command: FrameType | str, text: str, payload: bytes) -> None:
    match command:
        case FrameType():
            conn.send_frame(command, text, payload)
        case "fail":
            conn.fail(text)
        case "disconnect":
            conn.disconnect()
        case _:
            conn.close()


def frames_of(command: FrameType | str, text: str, payload: bytes) -> list[FrameReceived]:
    """What a command says to the other side."""
    match command:
        case FrameType():
            return [FrameReceived(command, text, payload)]
        case "fail":
            return [FrameReceived(FrameType.ERROR, "error", text.encode())]
        case "disconnect":
            return [FrameReceived(FrameType.DISCONNECT, "", b"")]
        case _:
            return []


@given(COMMANDS, DIALECTS, LIMITS, CUTS)
def test_what_one_side_sends_the_other_reports(
    commands: list[tuple[FrameType | str, str, bytes]], dialect: Dialect, limit: int, cuts: list[int]
) -> None:
    sender = Connection(dialect=dialect, max_frame_size=limit)
    sent: list[FrameReceived] = []
    for command in commands:
        was_open = sender.state is State.OPEN
        try:
            carry_out(sender, *command)
        except StateError:
            assert not was_open
        except MessageError:
            [frame] = frames_of(*command)
            assert 7 + len(frame.event.encode()) + len(frame.payload) > limit
        else:
            sent += frames_of(*command) if was_open else []
    receiver = Connection(dialect=dialect)
    chunks = cut(sender.data_to_send(), cuts)
    events = [event for chunk in [*chunks, b""] for event in receiver.receive_data(chunk)]
    assert events == [*sent, Closed(None)]
    pongs = sum(frame.type is FrameType.PING for frame in sent)
    assert reported(receiver.data_to_send(), dialect) == [(FrameType.PONG, "", b"")] * pongs


def test_a_plain_reading_agrees_with_the_recorded_streams() -> None:
    """The oracle itself, against what the npm package's own encoder wrote."""
    for entry in corpus("tcp_documented"):
        frames, code = plain_reading(entry, Dialect.DOCUMENTED, 10 * 1024 * 1024)
        assert frames
        assert code is None

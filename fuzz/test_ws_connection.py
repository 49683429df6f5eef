"""``stelar_proto.ws.Connection``, both roles, behind the handshake: whatever comes in.

Held for every stream of bytes, cut anywhere, into an open connection and into one that has sent its close,
with compression and without:

- ``receive_data`` and ``data_to_send`` raise nothing. Allowed exceptions: none.
- ``Closed`` comes exactly once, last, no later than the end of the stream; nothing comes after it.
- The events, the bytes that go out, ``close_sent`` and ``close_received`` are the same for any chunks. Where
  messages are delivered in parts, it is what the parts add up to that is the same; how much of a message in
  front of a byte of it that is wrong is delivered is up to the chunks. So is, where a compressed message is
  wrong in several ways (no DEFLATE data, not UTF-8, too large), which of them is found.
- Between two chunks no more is held than the limits allow: a message, and beside it a control frame that is
  not complete. Where messages are delivered in parts, no message. After ``Closed``, nothing.
- The other role, open too, reads what goes out without a fault: a Pong for every Ping, and the close.
- What one connection sent, the other reports, in order, whoever speaks and closes when, answers to the last
  messages in front of a close included; and both end.

The commands are called only when their docstrings allow it, and then raise nothing.
"""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import InvalidDeflate, InvalidUtf8, MessageTooBig, StreamEnded
from stelar_proto.ws import (
    BinaryReceived,
    Closed,
    Connection,
    Event,
    PartReceived,
    PerMessageDeflate,
    PingReceived,
    PongReceived,
    Role,
    State,
    TextReceived,
)

from .inputs import CUTS, TEXTS, corpus, mutated, same_for_any_chunks, weighted

OTHER = {Role.SERVER: Role.CLIENT, Role.CLIENT: Role.SERVER}


def entropy(size: int) -> bytes:
    """Not random at all; the masks differ from one frame to the next."""
    return (bytes(range(256)) * 4)[:size]


def handshake(compression: PerMessageDeflate | None) -> tuple[bytes, bytes]:
    """The heads that a client and a server with this entropy say to each other."""
    server = Connection(Role.SERVER, compression=compression)
    client = Connection(Role.CLIENT, entropy=entropy, compression=compression)
    client.request_upgrade("ws://localhost/")
    request = client.data_to_send()
    server.receive_data(request)
    server.accept()
    return request, server.data_to_send()


# Off, as most have it, and with the context taken over, where what came before decides what a message means.
COMPRESSIONS = (
    None,
    PerMessageDeflate(),
    PerMessageDeflate(server_no_context_takeover=False, client_no_context_takeover=False),
)
HEADS = {compression: handshake(compression) for compression in COMPRESSIONS}


def open_connection(role: Role, *, compression: PerMessageDeflate | None = None, **limits: Any) -> Connection:
    """A connection behind its handshake, with nothing left to send."""
    request, response = HEADS[compression]
    draw = entropy if role is Role.CLIENT else None
    conn = Connection(role, entropy=draw, compression=compression, **limits)
    if role is Role.SERVER:
        conn.receive_data(request)
        conn.accept()
    else:
        conn.request_upgrade("ws://localhost/")
        conn.receive_data(response)
    assert (conn.compression is None) == (compression is None)
    conn.data_to_send()
    return conn


# --- Streams ----------------------------------------------------------------------------------------------

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
FIRST_TEXT, FIRST_BINARY, NEXT, LAST = 0x01, 0x02, 0x00, 0x80
FIRST_BYTES = st.one_of(
    st.sampled_from([TEXT, BINARY, FIRST_TEXT, FIRST_BINARY, NEXT, NEXT, LAST, LAST, PING, PONG]),
    weighted(TEXT, CLOSE, 0x09, 0xC1, 0xC2, 0x41, 0x83, 0x8B, 0x11, share=2),
)


def deflated(data: bytes) -> bytes:
    """The payload of a compressed message (RFC 7692, section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


DEFLATED = [
    deflated(data) for data in (b"", b"hola", b"\xe2\x98\x83" * 70, b"\xff", b"x" * 300, b"y" * 100_000)
]
PAYLOADS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([*DEFLATED, DEFLATED[1] * 2]),
    TEXTS.map(str.encode),
    st.sampled_from([b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x0f\xa0\xff", b"\x13\x88"]),
    st.sampled_from(
        [b"\xe2", b"\x98\x83", b"\xed", b"\xa0\x80", b"\xf0\x9f\x98", b"\x80", b"\xf4\x90\x80\x80"]
    ),
    st.sampled_from([124, 125, 126, 127, 130, 131, 200, 201, 512, 513]).map(lambda size: b"x" * size),
    weighted(b"x", b"x" * 65535, "\u2603".encode() * 30_000, share=30),
)


def raw_frame(first_byte: int, payload: bytes, width: int, lie: int, masked: bool, mask: bytes) -> bytes:
    """A frame with its length in so many bytes at least (0, 2 or 8), and off by ``lie``."""
    size = max(0, len(payload) + lie) & 0xFFFF_FFFF_FFFF_FFFF
    width = max(width, 0 if size < 126 else 2 if size < 0x10000 else 8)
    head = bytes([first_byte, (0x80 if masked else 0) | {0: size, 2: 126, 8: 127}[width]])
    head += size.to_bytes(width, "big") if width else b""
    if not masked:
        return head + payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + number.to_bytes(len(payload), "big")


def frames(role: Role) -> st.SearchStrategy[bytes]:
    """What this role may receive, and now and then may not."""
    masked = role is Role.SERVER
    return st.builds(
        raw_frame,
        FIRST_BYTES,
        PAYLOADS,
        weighted(0, 2, 8, share=12),
        weighted(0, -1, 1, 100, 1 << 40, 1 << 63, share=12),
        weighted(masked, not masked, share=25),
        st.sampled_from([b"\0\0\0\0", b"\x37\xfa\x21\x3d", b"\xff\x80\x7f\x01"]),
    )


def seeds(role: Role) -> list[bytes]:
    """The recorded frames, and what is not among them: fragments, with pings between, and closes."""

    def stream(*frames: tuple[int, bytes]) -> bytes:
        return b"".join(raw_frame(*frame, 0, 0, role is Role.SERVER, b"\x37\xfa\x21\x3d") for frame in frames)

    return [
        *corpus(f"ws_{role.value}"),
        stream((FIRST_TEXT, b"sn\xe2"), (PING, b"?"), (NEXT, b"\x98"), (LAST, b"\x83")),
        stream((FIRST_BINARY, b"a" * 70), (NEXT, b""), (PONG, b""), (LAST, b"b" * 70)),
        stream((BINARY, b"x" * 130)),
        *(stream((0xC1, payload), (0xC2, DEFLATED[1]), (TEXT, b"hola")) for payload in DEFLATED),
        stream((0x41, DEFLATED[4][:3]), (PING, b"?"), (LAST, DEFLATED[4][3:])),
        stream((CLOSE, b"")),
        stream((CLOSE, b"\x03\xe8bye")),
    ]


def streams(role: Role) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.lists(frames(role), max_size=6).map(b"".join), mutated(seeds(role)), st.binary(max_size=40)
    )


STREAMS = st.one_of([st.tuples(st.just(role), streams(role)) for role in Role])
SMALL = {"max_frame_size": 130, "max_message_size": 200, "max_fragments": 3}
LIMITS: st.SearchStrategy[dict[str, int]] = st.sampled_from([{}, SMALL, SMALL, {"max_message_size": 10}])

# --- Any stream -------------------------------------------------------------------------------------------

Outcome: TypeAlias = tuple[list[Event], bytes, object, object]


def receive(conn: Connection, chunks: list[bytes], limits: dict[str, int]) -> Outcome:
    """Feed ``chunks`` and the end of the stream, with a look at the rules behind each of them."""
    most = limits.get("max_message_size", 10 * 1024 * 1024)
    events: list[Event] = []
    for chunk in [*chunks, b"", b"more", b""]:
        was_closed = conn.state is State.CLOSED
        new = conn.receive_data(chunk)
        assert not (was_closed and new)
        events += new
        assert (conn._receiver is None) == (conn.state is State.CLOSED)
        if conn._receiver is not None:
            reader = conn._receiver.messages
            collected = [part.tell() for part in (reader._text, reader._binary) if part is not None]
            assert sum(collected) <= (0 if reader.deliver_parts else most)
            assert len(collected) <= 1
            assert len(conn._receiver._tail) < 2 + 4 + 125
    assert [isinstance(event, Closed) for event in events] == [False] * (len(events) - 1) + [True]
    if conn.can_send:  # an answer to what came in front of the end leaves in front of our close frame
        conn.send_text("late")
    return events, conn.data_to_send(), conn.close_sent, conn.close_received


END = ("the end of a message",)
FOUND_INSIDE = (InvalidUtf8, InvalidDeflate, MessageTooBig)
"""Faults that are found in the middle of a message."""


def comparable(outcome: Outcome, *, is_compressed: bool) -> object:
    """Errors are equal only to themselves, and the parts of a message are one."""
    whole: list[Any] = []
    for event in outcome[0]:
        match event:
            case PartReceived(part, final):
                begun: Any = whole.pop() if whole and type(whole[-1]) is type(part) else part[:0]
                whole += [begun + part, END] if final else [begun + part]
            case Closed(code, reason, error):
                if isinstance(error, FOUND_INSIDE) and whole and isinstance(whole[-1], str | bytes):
                    whole.pop()
                if isinstance(error, FOUND_INSIDE) and is_compressed:
                    return whole, FOUND_INSIDE
                whole.append((code, reason, type(error), str(error)))
            case _:
                whole.append(event)
    return whole, *outcome[1:]


def answer_to(closed: Closed) -> Closed:
    """What the other side reads in our close frame: the same words, and 1000 where it sent no code."""
    return Closed(1000, "", None) if closed.code == 1005 else closed._replace(error=None)


@given(STREAMS, st.sampled_from(COMPRESSIONS), LIMITS, st.booleans(), st.booleans(), CUTS)
def test_any_stream(
    heard: tuple[Role, bytes],
    compression: PerMessageDeflate | None,
    limits: dict[str, int],
    parts: bool,
    closing: bool,
    cuts: list[int],
) -> None:
    role, stream = heard

    def outcome(chunks: list[bytes]) -> Outcome:
        conn = open_connection(role, compression=compression, deliver_parts=parts, **limits)
        if closing:
            conn.close(4000, "enough")
            conn.data_to_send()
        return receive(conn, chunks, limits)

    is_compressed = compression is not None
    same_for_any_chunks(lambda chunks: comparable(outcome(chunks), is_compressed=is_compressed), stream, cuts)
    events, answer, close_sent, close_received = outcome([stream] if stream else [])
    expected: list[Event] = [PongReceived(event.payload) for event in events if type(event) is PingReceived]
    closed = events[-1]
    assert isinstance(closed, Closed)
    if closed.error is None:
        assert close_received == closed[:2]
    if isinstance(closed.error, StreamEnded):
        assert closed[:2] == (1006, "")
    elif not closing:
        assert close_sent == answer_to(closed)[:2]
        expected += [TextReceived("late"), answer_to(closed)]
    other = open_connection(OTHER[role], compression=compression)
    assert other.receive_data(answer) == expected if answer else not expected


# --- A conversation ---------------------------------------------------------------------------------------

BYTES = st.one_of(st.binary(max_size=20), st.sampled_from([126, 512, 513, 65536]).map(bytes))
ACTIONS = st.one_of(
    st.tuples(st.just("deliver"), st.sampled_from([1, 2, 7, 50, 1_000_000])),
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("binary"), BYTES),
    st.tuples(st.sampled_from(["part", "last part"]), st.one_of(TEXTS, BYTES)),
    st.tuples(st.sampled_from(["ping", "pong"]), st.binary(max_size=125)),
    st.tuples(st.just("close"), st.one_of(st.none(), TEXTS)),
)
Action: TypeAlias = tuple[str, Any]


class Side:
    """One end of a conversation, and what the other is to hear from it."""

    def __init__(self, role: Role) -> None:
        self.conn = open_connection(role)
        self.said: list[Event] = []
        self.heard: list[Event] = []
        self.parts: list[Any] = []
        self._pipe = b""  # on its way to the other side
        self._last_words: Closed | None = None  # heard; the echo leaves behind what is said until then

    def say(self, event: Event) -> None:
        if not (self.said and isinstance(self.said[-1], Closed)):
            self.said.append(event)

    def carry_out(self, kind: str, argument: Any) -> None:
        """Call the command that ``kind`` names, if that is allowed now."""
        conn = self.conn
        if not conn.can_send:
            return
        if kind in ("part", "last part") and (not self.parts or type(self.parts[0]) is type(argument)):
            conn.send_part(argument, final=kind == "last part")
            self.parts.append(argument)
            if kind == "last part":
                whole = type(argument)().join(self.parts)
                self.say(TextReceived(whole) if isinstance(whole, str) else BinaryReceived(whole))
                self.parts = []
        elif kind == "text" and not self.parts:
            conn.send_text(argument)
            self.say(TextReceived(argument))
        elif kind == "binary" and not self.parts:
            conn.send_binary(argument)
            self.say(BinaryReceived(argument))
        elif kind == "ping":
            conn.ping(argument)
            self.say(PingReceived(argument))
        elif kind == "pong":
            conn.pong(argument)
            self.say(PongReceived(argument))
        elif kind == "close" and conn.state is State.OPEN:
            code, reason = (None, "") if argument is None else (4000, argument)
            conn.close(code, reason)
            self.say(Closed(code or 1005, reason, None))

    def take(self, size: int) -> bytes:
        """The next bytes that the other side receives."""
        self._pipe += self.conn.data_to_send()
        if self._last_words is not None:
            self.say(self._last_words)
        taken, self._pipe = self._pipe[:size], self._pipe[size:]
        return taken

    def hear(self, data: bytes) -> None:
        for event in self.conn.receive_data(data) if data else []:
            self.heard.append(event)
            if isinstance(event, PingReceived):
                self.say(PongReceived(event.payload))
            elif isinstance(event, Closed):
                self._last_words = answer_to(event)


@given(st.lists(st.tuples(st.booleans(), ACTIONS), max_size=20), st.booleans())
def test_what_one_side_sends_the_other_reports(
    actions: list[tuple[bool, Action]], server_closes: bool
) -> None:
    sides = Side(Role.CLIENT), Side(Role.SERVER)
    deliver_all: list[tuple[bool, Action]] = [(side, ("deliver", 1 << 30)) for side in (False, True)]
    last = [(server_closes, ("close", "")), *deliver_all * 3]
    for at_server, (kind, argument) in [*actions, *last]:
        side, other = sides[at_server], sides[not at_server]
        if kind == "deliver":
            side.hear(other.take(argument))
        else:
            side.carry_out(kind, argument)
    client, server = sides
    assert client.heard == server.said
    assert server.heard == client.said
    assert client.conn.state is server.conn.state is State.CLOSED

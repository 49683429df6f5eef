"""A connection that has agreed upon permessage-deflate (RFC 7692), either role: frames in and frames out."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import HandshakeError, InvalidDeflate, MessageTooBig
from stelar_proto.ws import (
    BinaryReceived,
    Closed,
    Connection,
    Event,
    Opened,
    PartReceived,
    PerMessageDeflate,
    PingReceived,
    Role,
    State,
    TextReceived,
    UpgradeRequested,
)

from .feeding import (
    BINARY,
    CLOSE,
    CONTINUATION,
    EAGER,
    FIRST_BINARY,
    FIRST_TEXT,
    NEXT,
    PING,
    PONG,
    REQUEST,
    RESPONSE,
    TEXT,
    both_roles,
    bytewise,
    comparable,
    compressing_connection,
    cut,
    failure,
    feed,
    new_connection,
    open_connection,
    sent_by,
    sent_to,
    with_fields,
)

RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
HELLO = bytes.fromhex("f248cdc9c90700")
NO_TAKEOVER = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RESERVED_BIT = failure(1002, "a reserved bit is set, and no extension was negotiated that would use it")
KIB = 1024


def compressed(data: bytes) -> bytes:
    """A message of DEFLATE data, made without the code under test."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


# --- The handshake ----------------------------------------------------------------------------------------


def server_answer(wanted: PerMessageDeflate | None, *fields: bytes) -> tuple[Connection, bytes]:
    conn = new_connection(Role.SERVER, compression=wanted)
    [event] = conn.receive_data(with_fields(REQUEST, *fields))
    assert isinstance(event, UpgradeRequested)
    conn.accept()
    return conn, conn.data_to_send()


def test_a_server_answers_the_offer_and_compresses() -> None:
    conn, answer = server_answer(
        PerMessageDeflate(),
        b"Sec-WebSocket-Extensions: x-unknown",
        b"Sec-WebSocket-Extensions: permessage-deflate",
    )
    assert b"\r\nSec-WebSocket-Extensions: " + NO_TAKEOVER + b"\r\n" in answer
    assert conn.compression == (True, True, 15, 15)
    conn.send_text("x" * 1024)
    assert conn.data_to_send()[0] == TEXT | RSV1


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        (None, [b"Sec-WebSocket-Extensions: permessage-deflate"]),
        (None, [b"Sec-WebSocket-Extensions: ;broken"]),
        (PerMessageDeflate(), []),
        (PerMessageDeflate(), [b"Sec-WebSocket-Extensions: permessage-deflate; unknown"]),
    ],
)
def test_a_server_without_an_offer_that_it_takes_compresses_nothing(
    wanted: PerMessageDeflate | None, fields: list[bytes]
) -> None:
    conn, answer = server_answer(wanted, *fields)
    assert b"Extensions" not in answer
    assert conn.compression is None
    conn.send_text("x" * 2000)
    assert conn.data_to_send()[0] == TEXT
    assert comparable(conn.receive_data(sent_to(Role.SERVER, TEXT | RSV1, HELLO))) == [RESERVED_BIT]


def test_a_server_refuses_extensions_that_break_the_grammar() -> None:
    conn = new_connection(Role.SERVER, compression=PerMessageDeflate())
    [event] = conn.receive_data(with_fields(REQUEST, b"Sec-WebSocket-Extensions: permessage-deflate;"))
    assert isinstance(event, Closed)
    assert isinstance(event.error, HandshakeError)
    assert event.error.status == 400
    assert event.error.reason.startswith("Sec-WebSocket-Extensions is wrong: it is no list of extensions")
    assert conn.data_to_send().startswith(b"HTTP/1.1 400 ")


def test_a_client_offers_and_compresses_as_it_was_answered() -> None:
    conn = new_connection(Role.CLIENT, compression=PerMessageDeflate())
    conn.request_upgrade("ws://localhost/chat")
    offer = b"\r\nSec-WebSocket-Extensions: " + NO_TAKEOVER + b"; client_max_window_bits\r\n"
    assert offer in conn.data_to_send()
    [event] = conn.receive_data(with_fields(RESPONSE, b"Sec-WebSocket-Extensions: " + NO_TAKEOVER))
    assert isinstance(event, Opened)
    assert conn.compression == (True, True, 15, 15)
    conn.send_text("x" * 1024)
    assert conn.data_to_send()[0] == TEXT | RSV1


def test_a_client_that_was_declined_compresses_nothing() -> None:
    conn = open_connection(Role.CLIENT, compression=PerMessageDeflate())
    assert conn.compression is None
    conn.send_text("x" * 2000)
    assert conn.data_to_send()[0] == TEXT


@pytest.mark.parametrize(
    ("wanted", "said", "words"),
    [
        (None, b"permessage-deflate", "it has an extension, and none was offered"),
        (EAGER, b"permessage-deflate; unknown", "it has the unknown parameter unknown"),
        (EAGER, b"", "it is no list of extensions"),
    ],
)
def test_a_client_fails_where_the_answer_is_none_to_its_offer(
    wanted: PerMessageDeflate | None, said: bytes, words: str
) -> None:
    conn = new_connection(Role.CLIENT, compression=wanted)
    conn.request_upgrade("ws://localhost/chat")
    conn.data_to_send()
    [event] = conn.receive_data(with_fields(RESPONSE, b"Sec-WebSocket-Extensions: " + said))
    assert isinstance(event, Closed)
    assert isinstance(event.error, HandshakeError)
    assert f"the server's 101 is no valid WebSocket handshake: {words}" in event.error.reason
    assert conn.data_to_send() == b""


# --- Receiving --------------------------------------------------------------------------------------------


@both_roles
def test_the_examples_of_the_rfc_are_heard(role: Role) -> None:
    """RFC 7692, section 7.2.3: one frame, fragments, a shared window, the kinds of blocks, nothing."""
    stream = b"".join(
        sent_to(role, first_byte, bytes.fromhex(payload))
        for first_byte, payload in [
            (0xC1, "f248cdc9c90700"),
            (0x41, "f248cd"),
            (0x80, "c9c90700"),
            (0xC1, "f200110000"),
            (0xC1, "000500faff48656c6c6f00"),
            (0xC1, "f248050000 00ffffcac9c90700"),
            (0xC1, "f348cdc9c9070000"),
            (0xC1, "00"),
        ]
    )
    expected = [TextReceived("Hello")] * 6 + [TextReceived("")]
    assert compressing_connection(role).receive_data(stream) == expected
    assert feed(compressing_connection(role), bytewise(stream)) == expected


@both_roles
def test_messages_that_are_not_compressed_may_stand_among_those_that_are(role: Role) -> None:
    conn = compressing_connection(role)
    stream = (
        sent_to(role, TEXT, b"a")
        + sent_to(role, BINARY | RSV1, compressed(b"b" * 200_000))
        + sent_to(role, FIRST_TEXT | RSV1, HELLO[:3])
        + sent_to(role, PING, b"?")
        + sent_to(role, NEXT)
        + sent_to(role, CONTINUATION, HELLO[3:])
        + sent_to(role, FIRST_BINARY, b"c")
        + sent_to(role, CONTINUATION, b"d")
    )
    assert conn.receive_data(stream) == [
        TextReceived("a"),
        BinaryReceived(b"b" * 200_000),
        PingReceived(b"?"),
        TextReceived("Hello"),
        BinaryReceived(b"cd"),
    ]


@both_roles
@pytest.mark.parametrize(
    "frames",
    [
        [(PING | RSV1, b"")],
        [(PONG | RSV1, b"")],
        [(CLOSE | RSV1, b"\x03\xe8")],
        [(CONTINUATION | RSV1, HELLO)],
        [(FIRST_TEXT | RSV1, HELLO[:3]), (CONTINUATION | RSV1, HELLO[3:])],
        [(FIRST_TEXT, b"a"), (NEXT | RSV1, b"b")],
        [(TEXT | RSV2, HELLO)],
        [(TEXT | RSV1 | RSV3, HELLO)],
        [(BINARY | RSV1 | RSV2 | RSV3, b"")],
        [(0x83 | RSV1, b"")],
    ],
)
def test_a_reserved_bit_stands_nowhere_but_in_the_first_frame_of_a_message(
    role: Role, frames: list[tuple[int, bytes]]
) -> None:
    stream = b"".join(sent_to(role, *frame) for frame in frames)
    for chunks in ([stream], bytewise(stream)):
        conn = compressing_connection(role)
        assert comparable(feed(conn, chunks)) == [RESERVED_BIT]
        assert conn.data_to_send()[0] == CLOSE


@both_roles
@pytest.mark.parametrize("payload", [b"\x07", HELLO[:-1], HELLO + b"\0\0\xff\xff", b"\xff" * 4])
def test_what_cannot_be_inflated_is_answered_with_1007(role: Role, payload: bytes) -> None:
    for is_text in (False, True):
        stream = sent_to(role, (TEXT if is_text else BINARY) | RSV1, payload)
        for chunks in ([stream], bytewise(stream)):
            conn = compressing_connection(role)
            [event] = feed(conn, chunks)
            assert isinstance(event, Closed)
            assert isinstance(event.error, InvalidDeflate)
            assert (event.code, event.reason) == (1007, "a compressed message is no DEFLATE data")
            assert conn.state is State.CLOSED


@both_roles
def test_text_is_checked_as_it_is_inflated(role: Role) -> None:
    not_utf8 = failure(1007, "text is not UTF-8")
    whole = sent_to(role, TEXT | RSV1, compressed(b"hola \xed\xa0\x80"))
    assert comparable(compressing_connection(role).receive_data(whole)) == [not_utf8]
    # The fault shows with the fragment that has it, not when the message ends.
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = compressor.compress(b"hola \xe2") + compressor.flush(zlib.Z_SYNC_FLUSH)
    second = compressor.compress(b"\xff") + compressor.flush(zlib.Z_SYNC_FLUSH)
    conn = compressing_connection(role)
    assert conn.receive_data(sent_to(role, FIRST_TEXT | RSV1, first)) == []
    assert comparable(conn.receive_data(sent_to(role, NEXT, second))) == [not_utf8]
    # And a character may come in two halves.
    cut_short = sent_to(role, TEXT | RSV1, compressed(b"hola \xe2\x98"))
    assert comparable(compressing_connection(role).receive_data(cut_short)) == [not_utf8]


@both_roles
def test_parts_are_handed_out_as_they_are_inflated(role: Role) -> None:
    conn = compressing_connection(role, deliver_parts=True)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [
        compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in (b"ab\xc3", b"\xb1c")
    ]
    assert conn.receive_data(sent_to(role, FIRST_TEXT | RSV1, parts[0])) == [PartReceived("ab", False)]
    assert conn.receive_data(sent_to(role, CONTINUATION, parts[1][:-4])) == [PartReceived("ñc", True)]
    assert conn.receive_data(sent_to(role, BINARY | RSV1, HELLO)) == [PartReceived(b"Hello", True)]


@both_roles
def test_what_has_come_of_a_message_is_counted_as_it_is_inflated(role: Role) -> None:
    conn = compressing_connection(role)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(bytes(50_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    conn.receive_data(sent_to(role, FIRST_BINARY | RSV1, data))
    assert conn.collected_size == 50_000


@pytest.mark.parametrize("said", [b"permessage-deflate", NO_TAKEOVER])
@both_roles
def test_the_peer_may_refer_to_earlier_messages_where_that_was_agreed(role: Role, said: bytes) -> None:
    conn = compressing_connection(role, said)
    stream = sent_to(role, TEXT | RSV1, HELLO) + sent_to(role, TEXT | RSV1, bytes.fromhex("f200110000"))
    first, second = conn.receive_data(stream)
    assert first == TextReceived("Hello")
    if said == NO_TAKEOVER:
        assert isinstance(second, Closed)
        assert second.code == 1007
    else:
        assert second == TextReceived("Hello")


# --- Limits -----------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("limit", [1, 100, 10_000])
def test_a_message_over_the_limit_is_answered_with_1009_while_it_is_inflated(role: Role, limit: int) -> None:
    too_big = failure(1009, f"a compressed message inflates to more than {limit} bytes")
    exact, over = (sent_to(role, BINARY | RSV1, compressed(bytes(size))) for size in (limit, limit + 1))
    if limit > 1:  # one byte is two when it is compressed
        conn = compressing_connection(role, max_message_size=limit)
        assert conn.receive_data(exact * 3) == [BinaryReceived(bytes(limit))] * 3
        assert comparable(conn.receive_data(over)) == [too_big]
        assert comparable(feed(compressing_connection(role, max_message_size=limit), bytewise(over))) == [
            too_big
        ]
    else:
        [event] = compressing_connection(role, max_message_size=limit).receive_data(over)
        assert isinstance(event, Closed)
        assert isinstance(event.error, MessageTooBig)


@both_roles
def test_fragments_are_limited_together(role: Role) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [compressor.compress(bytes(600)) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    conn = compressing_connection(role, max_message_size=1000)
    assert conn.receive_data(sent_to(role, FIRST_BINARY | RSV1, parts[0])) == []
    [event] = conn.receive_data(sent_to(role, NEXT, parts[1]))
    assert isinstance(event, Closed)
    assert event.code == 1009


@both_roles
def test_the_announced_size_is_limited_too(role: Role) -> None:
    """What is refused at the header costs nothing; nobody needs more bytes compressed than inflated."""
    every_limit: list[dict[str, Any]] = [{"max_message_size": 5}, {"max_frame_size": 5}]
    for options in every_limit:
        conn = compressing_connection(role, **options)
        [event] = conn.receive_data(sent_to(role, TEXT | RSV1, HELLO)[:8])
        assert isinstance(event, Closed)
        assert event.code == 1009
        assert "announced" in event.reason
        conn = compressing_connection(role, **options)
        [event] = conn.receive_data(sent_to(role, TEXT | RSV1, HELLO))
        assert isinstance(event, Closed)
        assert event.code == 1009


@both_roles
@pytest.mark.parametrize("deliver_parts", [False, True])
def test_a_bomb_costs_the_limit_and_not_the_bomb(role: Role, deliver_parts: bool) -> None:
    limit = 256 * KIB
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    stream = sent_to(role, BINARY | RSV1, data)
    assert 60 * KIB < len(stream) < 128 * KIB
    for chunks in ([stream], cut(stream, range(0, len(stream), 4 * KIB))):
        conn = compressing_connection(role, max_message_size=limit, deliver_parts=deliver_parts)
        tracemalloc.start()
        try:
            *parts, event = feed(conn, chunks)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert isinstance(event, Closed)
        assert event.code == 1009
        assert sum(len(part.data) for part in parts if isinstance(part, PartReceived)) <= limit
        assert peak < 4 * limit + 2 * len(stream)


# --- Sending ----------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("said", [b"permessage-deflate", NO_TAKEOVER])
def test_messages_are_sent_compressed_from_the_smallest_size_on(role: Role, said: bytes) -> None:
    wanted = PerMessageDeflate(
        server_no_context_takeover=False, client_no_context_takeover=False, min_size=100
    )
    conn = compressing_connection(role, said, compression=wanted)
    for data, first_byte in ((b"x" * 99, BINARY), (b"x" * 100, BINARY | RSV1)):
        conn.send_binary(data)
        assert conn.data_to_send()[0] == first_byte
        assert conn.encode_message(2, data)[0] == first_byte
        conn.send_text(data.decode())
        assert conn.data_to_send()[0] == first_byte - 1


@both_roles
def test_a_message_is_sent_as_zlib_compresses_it(role: Role) -> None:
    conn = compressing_connection(role)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    for _ in range(2):  # the second refers to the first
        conn.send_text("hola, hola, hola")
        data = compressor.compress(b"hola, hola, hola") + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert conn.data_to_send() == sent_by(role, TEXT | RSV1, data[:-4])


@both_roles
def test_what_gets_no_shorter_is_sent_as_it_is(role: Role) -> None:
    conn = compressing_connection(role)
    for message in ("", "a", "Hello"):
        conn.send_text(message)
        assert conn.data_to_send() == sent_by(role, TEXT, message.encode())


@both_roles
def test_control_frames_are_not_compressed(role: Role) -> None:
    conn = compressing_connection(role)
    conn.ping(b"a" * 125)
    conn.pong(b"b" * 125)
    conn.receive_data(sent_to(role, PING, b"c" * 125))
    conn.close(1000, "d" * 123)
    assert conn.data_to_send() == (
        sent_by(role, PING, b"a" * 125)
        + sent_by(role, PONG, b"b" * 125)
        + sent_by(role, PONG, b"c" * 125)
        + sent_by(role, CLOSE, b"\x03\xe8" + b"d" * 123)
    )


@both_roles
@pytest.mark.parametrize("said", [b"permessage-deflate", NO_TAKEOVER])
def test_a_message_in_parts_is_compressed_as_one(role: Role, said: bytes) -> None:
    conn = compressing_connection(role, said)
    peer = compressing_connection(role.peer, said)
    for parts in (["hola ", "", "hola ", "señor"], ["", ""], ["hola " * 100]):
        for at, part in enumerate(parts, 1):
            frame = conn.encode_part(part, final=at == len(parts))
            assert frame[0] == (FIRST_TEXT | RSV1 if at == 1 else NEXT) | (0x80 if at == len(parts) else 0)
            events = peer.receive_data(frame)
            assert events == ([TextReceived("".join(parts))] if at == len(parts) else [])
    for data in (b"x" * 1000, b"y"):
        conn.send_part(data, final=data == b"y")
    assert peer.receive_data(conn.data_to_send()) == [BinaryReceived(b"x" * 1000 + b"y")]


@both_roles
def test_a_part_arrives_before_the_next_is_sent(role: Role) -> None:
    conn, peer = compressing_connection(role), compressing_connection(role.peer, deliver_parts=True)
    for part, final in (("first", False), ("second", False), ("third", True)):
        conn.send_part(part, final=final)
        assert peer.receive_data(conn.data_to_send()) == [PartReceived(part, final)]


@both_roles
def test_a_message_in_one_part_is_a_message(role: Role) -> None:
    wanted = PerMessageDeflate(min_size=100)
    conn = compressing_connection(role, NO_TAKEOVER, compression=wanted)
    assert conn.encode_part("a", final=True) == sent_by(role, TEXT, b"a")


# --- Memory -----------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("we_close", [False, True])
def test_a_connection_has_codecs_only_from_first_use_to_its_end(role: Role, we_close: bool) -> None:
    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    message = sent_to(role, BINARY | RSV1, compressed(bytes(1000)))
    compressing_connection(role).receive_data(message)  # what first use costs is not what is measured
    tracemalloc.start()
    try:
        before = held()
        conn = compressing_connection(role)
        opened = held() - before
        conn.receive_data(message)
        conn.send_binary(bytes(1000))
        conn.data_to_send()
        in_use = held() - before
        if we_close:
            conn.close()
        conn.receive_data(sent_to(role, CLOSE, b""))
        conn.data_to_send()
        assert conn.state is State.CLOSED
        keys = 4 * KIB  # a client's, drawn in blocks
        assert held() - before <= opened + keys
        assert opened < 16 * KIB < 250 * KIB < in_use
    finally:
        tracemalloc.stop()


@both_roles
def test_without_context_takeover_a_message_leaves_nothing_behind(role: Role) -> None:
    conn = compressing_connection(role, NO_TAKEOVER)
    message = sent_to(role, BINARY | RSV1, compressed(bytes(5000)))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            conn.receive_data(message)
            conn.send_binary(bytes(100_000))
            conn.data_to_send()
        assert tracemalloc.get_traced_memory()[0] - before < 4 * KIB
    finally:
        tracemalloc.stop()


# --- Both sides, any messages -----------------------------------------------------------------------------

SETTINGS = st.builds(
    PerMessageDeflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.integers(8, 15),
    client_max_window_bits=st.integers(8, 15),
    level=st.sampled_from([1, 6, 9]),
    mem_level=st.sampled_from([1, 8, 9]),
    min_size=st.sampled_from([0, 10, 1024]),
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["hola " * 300, "ñ" * 5000, "x" * 70_000]),
)
DATA = st.one_of(
    st.binary(max_size=40), st.sampled_from([bytes(2000), b"\xa5" * 70_000, bytes(range(256)) * 9])
)
MESSAGES = st.one_of(st.lists(TEXTS, min_size=1, max_size=3), st.lists(DATA, min_size=1, max_size=3))


@given(
    SETTINGS,
    SETTINGS,
    st.lists(st.tuples(st.sampled_from(Role), MESSAGES, st.booleans()), max_size=8),
    st.lists(st.integers(0, 99_999), max_size=6),
)
def test_what_one_side_says_the_other_hears(
    client_wants: PerMessageDeflate,
    server_wants: PerMessageDeflate,
    said: list[tuple[Role, list[Any], bool]],
    cuts: list[int],
) -> None:
    sides = {
        Role.CLIENT: new_connection(Role.CLIENT, compression=client_wants),
        Role.SERVER: new_connection(Role.SERVER, compression=server_wants),
    }
    client, server = sides[Role.CLIENT], sides[Role.SERVER]
    client.request_upgrade("ws://localhost/")
    server.receive_data(client.data_to_send())
    server.accept()
    client.receive_data(server.data_to_send())
    assert client.compression == server.compression is not None
    for role, parts, in_parts in said:
        sender, receiver = sides[role], sides[role.peer]
        whole = type(parts[0])().join(parts)
        if in_parts:
            for at, part in enumerate(parts, 1):
                sender.send_part(part, final=at == len(parts))
        elif isinstance(whole, str):
            sender.send_text(whole)
        else:
            sender.send_binary(whole)
        expected: Event = TextReceived(whole) if isinstance(whole, str) else BinaryReceived(whole)
        assert feed(receiver, cut(sender.data_to_send(), cuts)) == [expected]


PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([HELLO, HELLO[:3], HELLO[3:], b"\0", b"\x03\0", compressed(b"x" * 900), b"\xff\xff"]),
)
FIRST_BYTES = st.sampled_from(
    [first_byte | bits for first_byte in (0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x89) for bits in (0, RSV1)]
)


@both_roles
@given(
    st.lists(st.tuples(FIRST_BYTES, PAYLOADS), max_size=8),
    st.sampled_from([b"permessage-deflate", NO_TAKEOVER]),
    st.lists(st.integers(0, 9999), max_size=6),
)
def test_any_frames_mean_the_same_however_they_are_cut(
    role: Role, frames: list[tuple[int, bytes]], said: bytes, cuts: list[int]
) -> None:
    def outcome(chunks: list[bytes]) -> list[object]:
        conn = compressing_connection(role, said, max_message_size=1000)
        events = feed(conn, chunks)
        # Of a message with several faults, the cuts decide which is found first: zlib does not give out what
        # stood in front of what it cannot read.
        if events and isinstance(events[-1], Closed) and events[-1].code in (1007, 1009):
            return [*events[:-1], "no message"]
        return [*comparable(events), conn.data_to_send()]

    stream = b"".join(sent_to(role, *frame) for frame in frames)
    assert outcome([stream] if stream else []) == outcome(cut(stream, cuts)) == outcome(bytewise(stream))

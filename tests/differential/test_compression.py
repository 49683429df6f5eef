"""Compression: wsproto, websockets and we make the same of the same compressed messages and offers.

What is known to be otherwise stands in a table of its own, :data:`VERDICTS`: it is about data that no
compressor makes. There we do as RFC 7692, section 7.2.2, says, and the others are lenient, or silent.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate

from stelar_proto.ws import PerMessageDeflate, Role
from stelar_proto.ws.deflate import DeflateAgreement, answer_offers, read_answer
from stelar_proto.ws.extensions import Extension
from tests.ws.feeding import MASK, bytewise, compressing_connection, cut

from .examples import examples
from .peers import NO_TAKEOVER, PERMESSAGE_DEFLATE, Library, hear
from .streams import (
    BINARY,
    CLOSE,
    CONTROLS,
    CUTS,
    FIRST_BINARY,
    FIRST_TEXT,
    LAST,
    NEXT,
    PING,
    TEXT,
    TEXTS,
    Case,
    Frame,
    join,
    shortest,
)

LIBRARIES: tuple[Library, ...] = ("websockets", "wsproto")
RSV1, RSV2 = 0x40, 0x20

# --- What compressors make --------------------------------------------------------------------------------

PAYLOADS = st.one_of(
    TEXTS.map(str.encode), st.sampled_from([b"hola " * 30, b"x" * 3000, "ñ".encode() * 700, b""])
)


class Plan(NamedTuple):
    """A message, and how it is to be said."""

    is_text: bool
    parts: list[bytes]
    compressed: bool
    level: int
    control: tuple[int, bytes] | None


PLANS = st.builds(
    Plan,
    st.booleans(),
    st.lists(PAYLOADS, min_size=1, max_size=3),
    st.integers(0, 3).map(bool),
    st.sampled_from([0, 1, 6, 9]),
    st.none() | CONTROLS,
)


def stream_of(role: Role, plans: Sequence[Plan], takeover: bool, *, controls_between: bool = True) -> bytes:
    """What a peer sends that compresses with zlib; it ends with a close frame.

    Arguments:
        controls_between: whether pings and pongs stand between the frames of a message, too.
    """
    shared = zlib.compressobj(6, zlib.DEFLATED, -15)
    frames: list[tuple[int, bytes]] = []
    for plan in plans:
        compressor = shared if takeover else zlib.compressobj(plan.level, zlib.DEFLATED, -15)
        first = (FIRST_TEXT if plan.is_text else FIRST_BINARY) | (RSV1 if plan.compressed else 0)
        for at, part in enumerate(plan.parts, 1):
            is_last = at == len(plan.parts)
            payload = part
            if plan.compressed:
                payload = compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH)
                payload = payload[:-4] if is_last else payload
            frames.append(((first if at == 1 else NEXT) | (0x80 if is_last else 0), payload))
            if plan.control is not None and (is_last or controls_between):
                frames.append(plan.control)
    return encode(role, [*frames, (CLOSE, b"\x03\xe8")])


def encode(role: Role, frames: Sequence[tuple[int, bytes]]) -> bytes:
    mask = MASK if role is Role.SERVER else None
    return join([Frame(first, shortest(len(data)), len(data), mask, data) for first, data in frames])


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
@examples(60)
@given(st.sampled_from(Role), st.lists(PLANS, max_size=4), CUTS)
def test_all_hear_the_same(
    library: Library, takeover: bool, role: Role, plans: list[Plan], cuts: list[int]
) -> None:
    # After one of those, wsproto takes the rest of the message for one that is not compressed.
    stream = stream_of(role, plans, takeover, controls_between=library != "wsproto")
    case = Case(role, stream, takeover=takeover)
    outcome = hear(library, case, cut(stream, cuts))
    assert outcome == hear("stelar", case, cut(stream, cuts))
    assert [heard for heard in outcome.heard if heard[0] in ("text", "binary")] == [
        ("text", whole.decode()) if plan.is_text else ("binary", whole)
        for plan in plans
        for whole in (b"".join(plan.parts),)
    ]


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
@examples(40)
@given(st.sampled_from(Role), st.lists(st.tuples(st.booleans(), PAYLOADS, PAYLOADS), max_size=4), CUTS)
def test_what_we_say_is_what_the_others_hear(
    library: Library, takeover: bool, role: Role, said: list[tuple[bool, bytes, bytes]], cuts: list[int]
) -> None:
    extension = PERMESSAGE_DEFLATE if takeover else NO_TAKEOVER
    conn = compressing_connection(role, extension.encode())
    for in_parts, first, second in said:
        if in_parts:
            conn.send_part(first, final=False)
            conn.send_part(second, final=True)
        else:
            conn.send_binary(first + second)
    conn.close()
    stream = conn.data_to_send()
    outcome = hear(library, Case(role.peer, stream, takeover=takeover), cut(stream, cuts))
    assert outcome.heard == tuple(("binary", first + second) for _, first, second in said)
    assert outcome.end == ("closed", 1000, "")


# --- What they do not make ----------------------------------------------------------------------------------

HELLO = bytes.fromhex("f248cdc9c90700")
END = (CLOSE, b"\x03\xe8")
OK = 1000

# Frames, and the code with which a connection ends that takes context over: ours, websockets', wsproto's.
VERDICTS: list[tuple[list[tuple[int, bytes]], int, int, int]] = [
    # The reserved bits: no two opinions.
    ([(TEXT | RSV1, HELLO)], OK, OK, OK),
    ([(PING | RSV1, b"")], 1002, 1002, 1002),
    ([(FIRST_TEXT | RSV1, HELLO[:3]), (LAST | RSV1, HELLO[3:])], 1002, 1002, 1002),
    ([(FIRST_TEXT, b"a"), (LAST | RSV1, b"b")], 1002, 1002, 1002),
    ([(TEXT | RSV2, b"a")], 1002, 1002, 1002),
    ([(TEXT | RSV1 | RSV2, HELLO)], 1002, 1002, 1002),
    # Text is checked behind inflation.
    ([(TEXT | RSV1, bytes.fromhex("0001 00fe ff ff 00"))], 1007, 1007, 1007),
    # All the forms that the examples of section 7.2.3 have.
    ([(TEXT | RSV1, HELLO), (TEXT | RSV1, bytes.fromhex("f200110000"))], OK, OK, OK),
    ([(TEXT | RSV1, bytes.fromhex("000500faff48656c6c6f00"))], OK, OK, OK),
    ([(TEXT | RSV1, bytes.fromhex("f348cdc9c9070000"))], OK, OK, OK),
    ([(TEXT | RSV1, b"\0")], OK, OK, OK),
    ([(TEXT | RSV1, b"")], OK, OK, OK),
    # No DEFLATE data: the RFC has no code for it, each library its own.
    ([(TEXT | RSV1, b"\x07")], 1007, 1002, 1007),
    # A message that is cut off: for us and the RFC no DEFLATE data either, for the others a shorter message.
    ([(BINARY | RSV1, HELLO[:4])], 1007, OK, OK),
    # The four octets that are to be left out.
    ([(BINARY | RSV1, HELLO + b"\0\0\xff\xff")], 1007, OK, OK),
]


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize(("frames", "ours", "theirs", "wsproto"), VERDICTS)
def test_each_form_is_judged_as_it_is_known_to_be(
    frames: list[tuple[int, bytes]], ours: int, theirs: int, wsproto: int, role: Role
) -> None:
    stream = encode(role, [*frames, END])
    case = Case(role, stream, takeover=True)
    verdicts: list[tuple[Library, int]] = [("stelar", ours), ("websockets", theirs), ("wsproto", wsproto)]
    for (library, code), chunks in itertools.product(verdicts, ([stream], bytewise(stream))):
        assert hear(library, case, chunks).end[1] == code, library


def test_a_second_message_behind_a_final_block_is_lost_with_the_others() -> None:
    final = bytes.fromhex("f348cdc9c9070000")
    stream = encode(Role.SERVER, [(TEXT | RSV1, final), (TEXT | RSV1, HELLO), END])
    case = Case(Role.SERVER, stream, takeover=True)
    assert hear("stelar", case, [stream]).heard == (("text", "Hello"), ("text", "Hello"))
    assert hear("websockets", case, [stream]).heard == (("text", "Hello"), ("text", ""))
    assert hear("wsproto", case, [stream]).end == ("failed", 1007, "")


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("parts", [(100,), (101,), (100_000,), (50, 50), (50, 51), (1, 0, 99), (0, 101)])
def test_a_limit_is_kept_while_inflating(role: Role, takeover: bool, parts: tuple[int, ...]) -> None:
    stream = stream_of(role, [Plan(False, [bytes(size) for size in parts], True, 9, None)], takeover)
    case = Case(role, stream, limit=100, takeover=takeover)
    for chunks in ([stream], bytewise(stream)):
        outcome = hear("stelar", case, chunks)
        assert outcome.end[1] == (OK if sum(parts) <= 100 else 1009)
        assert hear("websockets", case, chunks) == outcome  # wsproto has no limit


# --- Negotiation --------------------------------------------------------------------------------------------

VALUES = st.sampled_from([None, None, "8", "9", "10", "12", "15", "7", "16", "08", "x", ""])
PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits"),
                *("client_max_window_bits", "unknown"),
            ]
        ),
        VALUES,
    ),
    max_size=4,
)
FLAGS = st.booleans()
BITS = st.integers(9, 15)  # websockets compresses with no window of 8, and agrees to none


def as_parameters(value: str) -> list[tuple[str, str | None]]:
    return [
        (name, value or None) for name, _, value in (part.partition("=") for part in value.split("; ")[1:])
    ]


@examples(300)
@given(PARAMETERS, FLAGS, FLAGS, BITS, BITS)
def test_a_server_agrees_to_the_same(
    offer: list[tuple[str, str | None]], server_flag: bool, client_flag: bool, server: int, client: int
) -> None:
    ours = answer_offers(
        [Extension(PERMESSAGE_DEFLATE, tuple(offer))],
        PerMessageDeflate(
            server_no_context_takeover=server_flag,
            client_no_context_takeover=client_flag,
            server_max_window_bits=server,
            client_max_window_bits=client,
        ),
    )
    factory = ServerPerMessageDeflateFactory(
        server_flag, client_flag, None if server == 15 else server, None if client == 15 else client
    )
    try:
        parameters, extension = factory.process_request_params(offer, [])
    except NegotiationError:
        assert ours is None or ours[1].server_max_window_bits == 8
        return
    assert ours is not None
    answer, agreement = ours
    assert isinstance(extension, WebsocketsDeflate)
    assert agreement == DeflateAgreement(
        extension.local_no_context_takeover,
        extension.remote_no_context_takeover,
        extension.local_max_window_bits,
        extension.remote_max_window_bits,
    )
    # That the client's window may be the largest need not be said.
    said = [parameter for parameter in parameters if parameter != ("client_max_window_bits", "15")]
    assert sorted(as_parameters(answer), key=str) == sorted(said, key=str)


@examples(300)
@given(PARAMETERS, FLAGS, FLAGS, BITS, BITS)
def test_a_client_makes_the_same_of_an_answer(
    answer: list[tuple[str, str | None]], server_flag: bool, client_flag: bool, server: int, client: int
) -> None:
    wanted = PerMessageDeflate(
        server_no_context_takeover=server_flag,
        client_no_context_takeover=client_flag,
        server_max_window_bits=server,
        client_max_window_bits=client,
    )
    ours: DeflateAgreement | None
    try:
        ours = read_answer([Extension(PERMESSAGE_DEFLATE, tuple(answer))], wanted)
    except ValueError:
        ours = None
    factory = ClientPerMessageDeflateFactory(
        server_flag, client_flag, None if server == 15 else server, True if client == 15 else client
    )
    try:
        extension = factory.process_response_params(answer, [])
    except NegotiationError:
        assert ours is None or ours.client_max_window_bits == 8
        return
    assert isinstance(extension, WebsocketsDeflate)
    assert ours == DeflateAgreement(
        extension.remote_no_context_takeover,
        extension.local_no_context_takeover,
        extension.remote_max_window_bits,
        extension.local_max_window_bits,
    )

"""Handshakes: the same heads in the same chunks open or fail with wsproto and websockets as with us.

Compared: a server's answer to a request, with the subprotocol and the accept key, and what a client makes of
a response. A head with one fault gets the same status, too; of several faults each may name the one that it
sees first (RFC 6455, section 4.2.1, asks for "an appropriate HTTP error code"), so there only who is let in
is compared. What is known to be otherwise, and who is right, stands in ``websockets_handshakes.py`` and
``wsproto_handshakes.py``.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws import Role
from tests.ws.feeding import TEXT, bytewise, cut, sent_to

from . import websockets_handshakes, wsproto_handshakes
from .examples import examples
from .handshake_rows import Difference, foretell
from .handshakes import Handshake, Verdict, accept_of, connect, serve
from .heads import REQUEST, REQUEST_EDITS, RESPONSE, RESPONSE_EDITS, Edit, Head, heads
from .peers import Library
from .streams import CUTS

ROWS: dict[tuple[Library, Handshake], list[Difference]] = {
    ("websockets", serve): websockets_handshakes.SERVER,
    ("websockets", connect): websockets_handshakes.CLIENT,
    ("wsproto", serve): wsproto_handshakes.SERVER,
    ("wsproto", connect): wsproto_handshakes.CLIENT,
}
STARTS: dict[Handshake, tuple[Head, list[list[Edit]]]] = {
    serve: (REQUEST, REQUEST_EDITS),
    connect: (RESPONSE, RESPONSE_EDITS),
}

each = pytest.mark.parametrize(
    ("library", "handshake"), ROWS, ids=[f"{library} {handshake.__name__}" for library, handshake in ROWS]
)


@each
def test_each_fault_gets_the_same_answer_but_for_the_known_differences(
    library: Library, handshake: Handshake
) -> None:
    start, edits = STARTS[handshake]
    for edit in itertools.chain.from_iterable(edits):
        head = edit(start)
        data = head.encode()
        expected = foretell(ROWS[library, handshake], handshake, head)
        for chunks in ([data], bytewise(data)):
            assert handshake(library, chunks) == expected, head
        assert handshake("stelar", bytewise(data)) == handshake("stelar", [data]), head


@each
@examples(60)
@given(st.data(), CUTS)
def test_the_spelling_of_a_head_makes_no_other_difference(
    library: Library, handshake: Handshake, data: st.DataObject, cuts: list[int]
) -> None:
    head = data.draw(heads(*STARTS[handshake], max_edits=1))
    assert handshake(library, cut(head.encode(), cuts)) == foretell(ROWS[library, handshake], handshake, head)


@each
@examples(60)
@given(st.data(), CUTS)
def test_the_same_heads_open_a_connection(
    library: Library, handshake: Handshake, data: st.DataObject, cuts: list[int]
) -> None:
    head = data.draw(heads(*STARTS[handshake], max_edits=4))
    theirs = handshake(library, cut(head.encode(), cuts))
    expected = foretell(ROWS[library, handshake], handshake, head)
    assert theirs.opened is expected.opened
    if theirs.opened:
        assert theirs == expected


@pytest.mark.parametrize("handshake", STARTS)
@examples(60)
@given(st.data(), CUTS)
def test_we_judge_a_head_alike_in_any_chunks_and_answer_its_key(
    handshake: Handshake, data: st.DataObject, cuts: list[int]
) -> None:
    head = data.draw(heads(*STARTS[handshake], max_edits=2))
    verdict = handshake("stelar", cut(head.encode(), cuts))
    assert verdict == handshake("stelar", [head.encode()])
    if verdict.accept is not None:
        [key] = head.values("sec-websocket-key")
        assert verdict.accept == accept_of(key)


EXAMPLES = [(*key, row) for key, rows in ROWS.items() for row in rows]


@pytest.mark.parametrize(
    ("library", "handshake", "row"),
    EXAMPLES,
    ids=[f"{library} {handshake.__name__}: {row.theirs}" for library, handshake, row in EXAMPLES],
)
def test_a_known_difference_is_there(library: Library, handshake: Handshake, row: Difference) -> None:
    data = row.example.encode()
    for chunks in ([data], bytewise(data)):
        assert handshake("stelar", chunks) == row.our_verdict
        assert handshake(library, chunks) == row.their_verdict
    assert row.our_verdict != row.their_verdict
    assert foretell(ROWS[library, handshake], handshake, row.example) == row.their_verdict


def test_only_we_refuse_a_frame_that_came_with_the_request() -> None:
    """RFC 6455, section 4.1: once the request was sent, the client MUST wait for the answer."""
    data = REQUEST.encode() + sent_to(Role.SERVER, TEXT, b"hi")
    assert serve("stelar", [data]) == Verdict(400)
    assert serve("websockets", [data]).opened
    assert serve("wsproto", [data]).opened

"""Frames: wsproto, websockets and we make the same of the same bytes in the same chunks.

Compared, in both roles, open and with the close frame sent: texts and binary messages, pings and pongs, the
code and reason of the close or the code of the fault, and every frame that is sent in answer. What is known
to be otherwise, and who is right, stands in ``differences.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws import Connection, Role
from tests.ws.feeding import bytewise, cut, open_connection

from .differences import DIFFERENCES, Difference, foretell
from .examples import examples
from .peers import Library, hear
from .singles import every_case
from .streams import CUTS, Case, cases

LIBRARIES: tuple[Library, ...] = ("websockets", "wsproto")
LIMITS = st.sampled_from([None, None, 10, 150])


def whole(stream: bytes) -> list[bytes]:
    return [stream] if stream else []


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_rule_is_kept_by_all_but_for_the_known_differences(library: Library, role: Role) -> None:
    for case in every_case(role):
        expected = foretell(library, case)
        for chunks in (whole(case.stream), bytewise(case.stream)):
            if len(chunks) <= 1000:
                assert hear(library, case, chunks) == expected, case


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_each_rule_is_kept_by_us_in_any_chunks(role: Role) -> None:
    for case in every_case(role):
        if len(case.stream) <= 1000:
            assert hear("stelar", case, bytewise(case.stream)) == hear("stelar", case, whole(case.stream)), (
                case
            )


@pytest.mark.parametrize("library", LIBRARIES)
@examples(100)
@given(cases(LIMITS), CUTS)
def test_all_hear_and_answer_the_same_but_for_the_known_differences(
    library: Library, case: Case, cuts: list[int]
) -> None:
    chunks = cut(case.stream, cuts) if case.stream else []
    assert hear(library, case, chunks) == foretell(library, case)
    assert hear("stelar", case, chunks) == hear("stelar", case, whole(case.stream))


ROWS = [(row, library) for row in DIFFERENCES for library in row.libraries]


@pytest.mark.parametrize(("row", "library"), ROWS, ids=[f"{library}: {row.theirs}" for row, library in ROWS])
def test_a_known_difference_is_there(row: Difference, library: Library) -> None:
    case = row.example
    for chunks in (whole(case.stream), bytewise(case.stream)):
        assert hear("stelar", case, chunks) == row.our_outcome
        assert hear(library, case, chunks) == row.their_outcome
    assert row.our_outcome != row.their_outcome
    assert foretell(library, case) == row.their_outcome


# --- The other way round ------------------------------------------------------------------------------------

OTHER = {Role.SERVER: Role.CLIENT, Role.CLIENT: Role.SERVER}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DATA = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([125, 126, 127, 513, 65535, 65536]).map(lambda size: b"\xa5" * size),
)
CODES = st.sampled_from([1000, 1001, 1003, 1007, 1011, 1013, 3000, 4999])

Said: TypeAlias = tuple[Callable[[Connection], None], tuple[str, str | bytes]]


def _in_parts(parts: Sequence[str | bytes]) -> Callable[[Connection], None]:
    def send(conn: Connection) -> None:
        for at, part in enumerate(parts, 1):
            conn.send_part(part, final=at == len(parts))

    return send


SAID: st.SearchStrategy[Said] = st.one_of(
    TEXTS.map(lambda text: (lambda conn: conn.send_text(text), ("text", text))),
    DATA.map(lambda data: (lambda conn: conn.send_binary(data), ("binary", data))),
    st.lists(TEXTS, min_size=1, max_size=3).map(lambda parts: (_in_parts(parts), ("text", "".join(parts)))),
    st.lists(DATA, min_size=1, max_size=3).map(lambda parts: (_in_parts(parts), ("binary", b"".join(parts)))),
    st.binary(max_size=125).map(lambda payload: (lambda conn: conn.ping(payload), ("ping", payload))),
    st.binary(max_size=125).map(lambda payload: (lambda conn: conn.pong(payload), ("pong", payload))),
)


@pytest.mark.parametrize("library", LIBRARIES)
@examples(40)
@given(st.sampled_from(Role), st.lists(SAID, max_size=5), CODES, TEXTS, CUTS)
def test_what_we_say_is_what_the_others_hear(
    library: Library, role: Role, said: list[Said], code: int, reason: str, cuts: list[int]
) -> None:
    conn = open_connection(role)
    for say, _ in said:
        say(conn)
    conn.close(code, reason)
    stream = conn.data_to_send()
    outcome = hear(library, Case(OTHER[role], stream), cut(stream, cuts))
    assert outcome.heard == tuple(heard for _, heard in said)
    assert outcome.end == ("closed", code, reason)
    pongs = tuple((0x8A, heard[1]) for _, heard in said if heard[0] == "ping")
    assert outcome.said == (*pongs, (0x88, code.to_bytes(2) + reason.encode()))

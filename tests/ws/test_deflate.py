"""The negotiation of permessage-deflate (RFC 7692, sections 5 and 7.1), in tables, and by both sides."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws import PerMessageDeflate, Role, choose_compression
from stelar_proto.ws.deflate import DeflateAgreement, answer_offers, encode_offer, read_answer
from stelar_proto.ws.extensions import parse_extensions


def willing(**changes: Any) -> PerMessageDeflate:
    """A side that asks for nothing, but for what is said."""
    open_minded = {"server_no_context_takeover": False, "client_no_context_takeover": False}
    return PerMessageDeflate(**{**open_minded, **changes})


# --- Options ----------------------------------------------------------------------------------------------


def test_by_default_no_context_is_taken_over() -> None:
    assert choose_compression(True) == PerMessageDeflate(
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=15,
        client_max_window_bits=15,
        level=6,
        mem_level=8,
        min_size=1024,
    )
    assert choose_compression(False) is None
    assert choose_compression(None) is None
    chosen = willing(level=1)
    assert choose_compression(chosen) is chosen


@pytest.mark.parametrize("option", [1, 0, "deflate", 15])
def test_an_option_that_is_neither_is_refused(option: Any) -> None:
    with pytest.raises(ValueError, match="compression must be True, False or a PerMessageDeflate, not "):
        choose_compression(option)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("server_max_window_bits", [7, 16, "15", 9.0, True, None]),
        ("client_max_window_bits", [7, 16]),
        ("level", [-1, 0, 10]),
        ("mem_level", [0, 10]),
        ("min_size", [-1, 1.5, None]),
        ("server_no_context_takeover", [1, None]),
        ("client_no_context_takeover", ["yes"]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be .*, not {value!r}$"):
            PerMessageDeflate(**{name: value})


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"server_max_window_bits .*; level .*; min_size"):
        PerMessageDeflate(server_max_window_bits=16, level=0, min_size=-1)


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        PerMessageDeflate().level = 9  # type: ignore[misc]  # which is what is shown


# --- What a server answers --------------------------------------------------------------------------------


def answer(offers: str, **wanted: Any) -> str | None:
    answered = answer_offers(parse_extensions([offers]), willing(**wanted))
    return None if answered is None else answered[0]


D = "permessage-deflate"


@pytest.mark.parametrize(
    ("offers", "wanted", "expected"),
    [
        (D, {}, D),
        (f"{D}; client_max_window_bits", {}, D),
        # Context takeover: what either side asks for is agreed upon (7.1.1).
        (f"{D}; server_no_context_takeover", {}, f"{D}; server_no_context_takeover"),
        (f"{D}; client_no_context_takeover", {}, f"{D}; client_no_context_takeover"),
        (D, {"server_no_context_takeover": True}, f"{D}; server_no_context_takeover"),
        (D, {"client_no_context_takeover": True}, f"{D}; client_no_context_takeover"),
        # The server's window: the smaller of both, said if it was asked for or is not the largest (7.1.2.1).
        (f"{D}; server_max_window_bits=10", {}, f"{D}; server_max_window_bits=10"),
        (f"{D}; server_max_window_bits=15", {}, f"{D}; server_max_window_bits=15"),
        (f"{D}; server_max_window_bits=8", {}, f"{D}; server_max_window_bits=8"),
        (
            f'{D}; server_max_window_bits="12"',
            {"server_max_window_bits": 11},
            f"{D}; server_max_window_bits=11",
        ),
        (D, {"server_max_window_bits": 11}, f"{D}; server_max_window_bits=11"),
        # The client's: only a client that has said so can be told (7.1.2.2).
        (D, {"client_max_window_bits": 10}, D),
        (f"{D}; client_max_window_bits", {"client_max_window_bits": 10}, f"{D}; client_max_window_bits=10"),
        (f"{D}; client_max_window_bits=9", {"client_max_window_bits": 10}, f"{D}; client_max_window_bits=9"),
        (
            f"{D}; client_max_window_bits=12",
            {"client_max_window_bits": 10},
            f"{D}; client_max_window_bits=10",
        ),
        (f"{D}; client_max_window_bits=12", {}, f"{D}; client_max_window_bits=12"),
        (f"{D}; client_max_window_bits=15", {}, D),
        # The first that is acceptable wins, whatever is better in the ones behind it.
        (f"{D}; server_no_context_takeover, {D}", {}, f"{D}; server_no_context_takeover"),
        (f"{D}; unknown, x-other, {D}; server_max_window_bits=9, {D}", {}, f"{D}; server_max_window_bits=9"),
        ("x-webkit-deflate-frame, mux; quota=5", {}, None),
        ("Permessage-Deflate", {}, None),
    ],
)
def test_a_server_answers_the_first_offer_that_it_can(
    offers: str, wanted: dict[str, Any], expected: str | None
) -> None:
    assert answer(offers, **wanted) == expected


BAD_PARAMETERS = [
    "unknown",
    "unknown=1",
    "Server_no_context_takeover",
    "server_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover=1",
    "client_no_context_takeover; x; client_no_context_takeover",
    "server_max_window_bits",
    *(f"server_max_window_bits={value}" for value in ("7", "16", "08", "0", "+9", "1e1", "nine", "115")),
    "server_max_window_bits=10; server_max_window_bits=10",
    *(f"client_max_window_bits={value}" for value in ("7", "16", "09", "9.0")),
    "client_max_window_bits; client_max_window_bits=10",
]


@pytest.mark.parametrize("parameters", BAD_PARAMETERS)
def test_a_server_declines_an_offer_with_a_bad_parameter(parameters: str) -> None:
    assert answer(f"{D}; {parameters}") is None
    assert answer(f"{D}; {parameters}, {D}") == D


# --- What a client offers, and makes of the answer --------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "offer"),
    [
        ({}, f"{D}; client_max_window_bits"),
        ({"server_no_context_takeover": True}, f"{D}; server_no_context_takeover; client_max_window_bits"),
        ({"client_no_context_takeover": True}, f"{D}; client_no_context_takeover; client_max_window_bits"),
        ({"server_max_window_bits": 9}, f"{D}; server_max_window_bits=9; client_max_window_bits"),
        ({"client_max_window_bits": 8}, f"{D}; client_max_window_bits=8"),
    ],
)
def test_a_client_offers_what_it_wants(wanted: dict[str, Any], offer: str) -> None:
    assert encode_offer(willing(**wanted)) == offer


@pytest.mark.parametrize(
    ("wanted", "said", "expected"),
    [
        ({}, D, (False, False, 15, 15)),
        ({}, f"{D}; server_no_context_takeover", (True, False, 15, 15)),
        ({}, f"{D}; client_no_context_takeover", (False, True, 15, 15)),
        ({}, f"{D}; server_max_window_bits=8", (False, False, 8, 15)),
        ({}, f'{D}; client_max_window_bits="9"', (False, False, 15, 9)),
        # What we have offered to do we do, whether the server asks for it or not.
        ({"client_no_context_takeover": True}, D, (False, True, 15, 15)),
        ({"client_max_window_bits": 10}, D, (False, False, 15, 10)),
        ({"client_max_window_bits": 10}, f"{D}; client_max_window_bits=10", (False, False, 15, 10)),
        ({"server_max_window_bits": 10}, f"{D}; server_max_window_bits=9", (False, False, 9, 15)),
    ],
)
def test_a_client_does_as_it_was_answered(
    wanted: dict[str, Any], said: str, expected: tuple[bool, bool, int, int]
) -> None:
    assert read_answer(parse_extensions([said]), willing(**wanted)) == expected


def test_a_server_may_decline() -> None:
    assert read_answer([], willing()) is None
    assert read_answer([], None) is None


@pytest.mark.parametrize(
    ("wanted", "said", "words"),
    [
        (None, D, "it has an extension, and none was offered"),
        ({}, "mux", "it has an extension that was not offered"),
        ({}, f"{D}, mux", "it has an extension that was not offered"),
        ({}, f"{D}, {D}", "it has permessage-deflate several times"),
        ({}, f"{D}; client_max_window_bits", "its parameter client_max_window_bits is no number"),
        *(({}, f"{D}; {parameters}", "parameter") for parameters in BAD_PARAMETERS),
        ({"server_no_context_takeover": True}, D, "it leaves out server_no_context_takeover"),
        ({"server_max_window_bits": 10}, D, "its server_max_window_bits is larger than asked for"),
        (
            {"server_max_window_bits": 10},
            f"{D}; server_max_window_bits=11",
            "its server_max_window_bits is larger",
        ),
        (
            {"client_max_window_bits": 10},
            f"{D}; client_max_window_bits=11",
            "its client_max_window_bits is larger",
        ),
    ],
)
def test_an_answer_to_another_offer_fails(wanted: dict[str, Any] | None, said: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_answer(parse_extensions([said]), None if wanted is None else willing(**wanted))


# --- Both -------------------------------------------------------------------------------------------------

SETTINGS = st.builds(
    PerMessageDeflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.integers(8, 15),
    client_max_window_bits=st.integers(8, 15),
)


@given(SETTINGS, SETTINGS)
def test_both_sides_always_agree_and_neither_gets_more_than_it_wants(
    client: PerMessageDeflate, server: PerMessageDeflate
) -> None:
    answered = answer_offers(parse_extensions([encode_offer(client)]), server)
    assert answered is not None
    said, agreement = answered
    assert read_answer(parse_extensions([said]), client) == agreement
    for wanted in (client, server):
        assert agreement.server_no_context_takeover >= wanted.server_no_context_takeover
        assert agreement.client_no_context_takeover >= wanted.client_no_context_takeover
        assert agreement.server_max_window_bits <= wanted.server_max_window_bits
        assert agreement.client_max_window_bits <= wanted.client_max_window_bits


def test_an_agreement_says_what_holds_for_each_direction() -> None:
    agreement = DeflateAgreement(True, False, 9, 10)
    assert agreement.of(Role.SERVER) == (False, 9)
    assert agreement.of(Role.CLIENT) == (True, 10)
    assert agreement.of(Role.SERVER.peer) == agreement.of(Role.CLIENT)
    assert Role.CLIENT.peer is Role.SERVER

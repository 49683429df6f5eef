"""The names of events, and JSON as it is on both wires."""

from __future__ import annotations

import enum
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import MessageError
from stelar_proto.messages import JSON, MAX_EVENT_SIZE, RESERVED_EVENTS, StandardJson, check_event_name

table = partial(pytest.mark.parametrize, ids=lambda value: ascii(value)[:32])

ALLOWED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:"

# --- names ---


@table("name", ["a", "chat", "room/x", "a:b", "v1.2-beta_3", ".", "x" * 256, "Ping", "pings"])
def test_names_of_1_to_256_legal_characters_may_be_used(name: str) -> None:
    assert check_event_name(name) == name


@table(
    ("name", "code"),
    [
        ("", "EMPTY_EVENT"),
        ("x" * 257, "EVENT_TOO_LONG"),
        ("ñ" * 129, "EVENT_TOO_LONG"),  # 129 characters, 258 bytes
        ("\ud800" * 86, "EVENT_TOO_LONG"),
        ("x" * 10_000_000, "EVENT_TOO_LONG"),
        ("a b", "INVALID_EVENT_CHARS"),
        ("ñandú", "INVALID_EVENT_CHARS"),
        ("chat\n", "INVALID_EVENT_CHARS"),
        ("a\0", "INVALID_EVENT_CHARS"),
        ('"', "INVALID_EVENT_CHARS"),
        ("٣", "INVALID_EVENT_CHARS"),  # a digit, and a word character, to Unicode
        ("\ud800", "INVALID_EVENT_CHARS"),
        ("ping", "RESERVED_EVENT"),
        ("pong", "RESERVED_EVENT"),
        ("connect", "RESERVED_EVENT"),
        ("disconnect", "RESERVED_EVENT"),
        ("error", "RESERVED_EVENT"),
    ],
)
def test_other_names_are_refused_with_their_code(name: str, code: str) -> None:
    with pytest.raises(MessageError) as caught:
        check_event_name(name)
    assert caught.value.code == code
    assert len(str(caught.value)) < 2000


@given(st.text(max_size=3) | st.text(ALLOWED, max_size=MAX_EVENT_SIZE + 1))
def test_a_name_is_legal_when_the_rule_says_so(name: str) -> None:
    legal = 1 <= len(name) <= 256 and set(name) <= set(ALLOWED) and name not in RESERVED_EVENTS
    try:
        assert check_event_name(name) == name
    except MessageError:
        assert not legal
    else:
        assert legal


@table("name", [None, 1, b"chat", ("chat",)])
def test_a_name_that_is_no_text_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(name).__name__}"):
        check_event_name(name)


class Events(str, enum.Enum):  # noqa: UP042  # StrEnum would not show it: its members format as their value
    CHAT = "chat"
    PING = "ping"


def test_a_member_of_a_str_enum_stands_for_its_value() -> None:
    name = check_event_name(Events.CHAT)
    assert (type(name), name) == (str, "chat")
    with pytest.raises(MessageError, match="'ping' is reserved"):
        check_event_name(Events.PING)


# --- JSON ---


@table(
    ("value", "text"),
    [
        (None, "null"),
        ({"a": [1, 2.5, True], "b": {}}, '{"a":[1,2.5,true],"b":{}}'),
        ("ñandú ☃ 😀", '"ñandú ☃ 😀"'),
        ('"\\\n\0\x7f', '"\\"\\\\\\n\\u0000\x7f"'),
        ({1: 2}, '{"1":2}'),
        ((1, 2), "[1,2]"),
        (10**4000, "1" + "0" * 4000),
    ],
)
def test_json_is_compact_and_not_escaped_to_ascii(value: object, text: str) -> None:
    assert JSON.dumps(value) == text


@table(
    "value",
    [
        float("nan"),
        [float("inf")],
        {"x": float("-inf")},
        {float("nan"): 1},
        b"bytes",
        {1, 2},
        object(),
        {(1, 2): 3},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        JSON.dumps(value)


def test_a_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="4300 digits"):
        JSON.dumps(10**5000)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        JSON.dumps(value)


def test_an_interpreter_without_an_encoder_in_c_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    serializer = StandardJson()
    assert serializer.dumps({"a": ["¡hola!", None, 1.5]}) == '{"a":["¡hola!",null,1.5]}'
    with pytest.raises(ValueError, match="Out of range"):
        serializer.dumps([float("nan")])


@table(
    "text",
    [
        "",
        "{",
        "nul",
        "[1,]",
        "{'a':1}",
        "1 2",
        "\ufeff1",
        "NaN",
        "[Infinity]",
        '{"a":-Infinity}',
        "1e400",
        "[-1e999]",
        "9" * 400 + ".5",
        "9" * 5000,
        '"\\ud800"',
        '"\\uD800"',
        '["\\udc00\\ud800"]',
        '{"\\udfff":1}',
        '"\\ud83d\\ud83d\\ude00"',
        '"\t"',
    ],
)
def test_what_is_not_json_or_could_not_be_said_again_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        JSON.loads(text)
    assert len(str(caught.value)) < 200


@table(
    ("text", "value"),
    [
        (" [1] ", [1]),
        ("1e308", 1e308),
        ("9" * 4000, int("9" * 4000)),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\\\ud800"', "\\ud800"),
        ('{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_json_is_read(text: str, value: object) -> None:
    assert JSON.loads(text) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=8,
)


@given(json_values)
def test_what_was_read_can_be_said_again(value: object) -> None:
    text = JSON.dumps(value)
    text.encode()
    assert JSON.loads(text) == value
    assert JSON.dumps(JSON.loads(text)) == text

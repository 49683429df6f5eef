"""The grammar of Sec-WebSocket-Extensions (RFC 6455, section 9.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws.extensions import Extension, parse_extensions

TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("value", "extensions"),
    [
        ("foo", [("foo", ())]),
        ("foo; bar", [("foo", (("bar", None),))]),
        ("foo; bar=10", [("foo", (("bar", "10"),))]),
        ('foo; bar="10"', [("foo", (("bar", "10"),))]),
        (r'foo; bar="1\0"', [("foo", (("bar", "10"),))]),
        ("foo;bar;baz=1,foo", [("foo", (("bar", None), ("baz", "1"))), ("foo", ())]),
        ("\tfoo ;  bar\t= 1 , x ", [("foo", (("bar", "1"),)), ("x", ())]),
        ('foo; bar = "1" ; baz', [("foo", (("bar", "1"), ("baz", None)))]),
        (", ,foo,,\t, bar, ", [("foo", ()), ("bar", ())]),
        ("foo; bar; bar", [("foo", (("bar", None), ("bar", None)))]),
    ],
)
def test_a_list_is_names_with_parameters(value: str, extensions: list[Extension]) -> None:
    assert parse_extensions([value]) == extensions


def test_several_fields_are_one_list() -> None:
    assert parse_extensions(["a; b", "", "c, d"]) == [("a", (("b", None),)), ("c", ()), ("d", ())]


@pytest.mark.parametrize(
    "value",
    [
        *("", ",", " ", ";", "foo;", "foo; ;bar", "foo; =1", "foo; bar=", "foo; bar=,x", "foo; bar=1 2"),
        *("foo bar", "foo; bar baz", 'foo; bar="1', 'foo; bar=1"', 'foo; "bar"', "\xe4", "foo; bar=\xe4"),
        *('foo; bar="1"2', 'foo; bar="1\\', "foo/bar", "foo; bar==1", "foo\x00"),
    ],
)
def test_what_breaks_the_grammar_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="it is no list of extensions"):
        parse_extensions([value])


@pytest.mark.parametrize("value", ['foo; bar=""', 'foo; bar="1 2"', 'foo; bar="1,2"', r'foo; bar="\""'])
def test_a_value_has_to_be_a_token_behind_its_quotes(value: str) -> None:
    with pytest.raises(ValueError, match="the value of bar is no token"):
        parse_extensions([value])


def test_the_name_of_an_extension_has_no_value() -> None:
    with pytest.raises(ValueError, match="the name of an extension has no value: foo"):
        parse_extensions(["foo=1; bar"])


def test_a_long_value_takes_no_longer_than_a_short_one_per_byte() -> None:
    assert len(parse_extensions(["a; b=" + "c" * 8000 + ", d" * 2000])) == 2001
    with pytest.raises(ValueError, match="no list"):
        parse_extensions(['a; b="' + "\\c" * 30_000])


@given(
    st.lists(
        st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=3)), min_size=1, max_size=3
    ),
    st.data(),
)
def test_what_was_written_is_read_however_it_is_spaced_and_quoted(
    extensions: list[tuple[str, list[tuple[str, str | None]]]], data: st.DataObject
) -> None:
    def space() -> str:
        return data.draw(st.sampled_from(["", " ", "\t "]))

    def say(value: str) -> str:
        quoted = f'"{value}"'
        escaped = '"' + "".join(f"\\{character}" for character in value) + '"'
        return data.draw(st.sampled_from([value, quoted, escaped]))

    elements = []
    for name, parameters in extensions:
        element = space() + name + space()
        for parameter, value in parameters:
            element += ";" + space() + parameter + space()
            element += "" if value is None else "=" + space() + say(value) + space()
        elements.append(element)
    lines = [",".join(elements)] if data.draw(st.booleans()) else elements
    assert parse_extensions(lines) == [(name, tuple(parameters)) for name, parameters in extensions]

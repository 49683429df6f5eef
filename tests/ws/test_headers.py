from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws.headers import HeaderFields, Headers, is_token

PAIRS = [("Host", "a"), ("X-Tag", "1"), ("Cookie", "secret"), ("x-tag", "2")]


def test_names_are_found_in_any_case() -> None:
    headers = Headers([("Content-Type", "text/plain")])
    assert headers["content-type"] == headers["CONTENT-TYPE"] == "text/plain"
    assert headers.get("content-TYPE") == "text/plain"
    assert "cOnTent-type" in headers


def test_a_missing_name_gives_the_default_or_a_key_error() -> None:
    headers = Headers(PAIRS)
    assert headers.get("origin") is None
    assert headers.get("origin", "none") == "none"
    assert headers.get_all("origin") == []
    assert "origin" not in headers
    assert 3 not in headers
    with pytest.raises(KeyError, match="origin"):
        headers["origin"]


def test_a_repeated_field_is_one_list_and_each_line_of_it_can_be_had() -> None:
    headers = Headers(PAIRS)
    assert headers["X-TAG"] == headers.get("x-tag") == "1, 2"
    assert headers.get_all("x-Tag") == ["1", "2"]


def test_set_cookie_is_no_list_and_gives_its_first_value() -> None:
    headers = Headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
    assert headers["set-cookie"] == "a=1"
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]


def test_items_keep_order_and_repetition_and_iterating_gives_each_name_once() -> None:
    headers = Headers(PAIRS)
    assert headers.items() == tuple(PAIRS)
    assert list(headers) == list(headers.keys()) == ["Host", "X-Tag", "Cookie"]
    assert len(headers) == 3
    assert dict(headers) == {"Host": "a", "X-Tag": "1, 2", "Cookie": "secret"}


def test_no_headers_are_false_and_some_are_true() -> None:
    assert not Headers()
    assert Headers(PAIRS)


@pytest.mark.parametrize("fields", [PAIRS, tuple(PAIRS), iter(PAIRS), Headers(PAIRS)])
def test_headers_are_made_of_any_iterable_of_pairs(fields: HeaderFields) -> None:
    assert Headers(fields).items() == tuple(PAIRS)


def test_headers_are_made_of_a_mapping() -> None:
    assert Headers({"Host": "a", "X-Tag": "1"}).items() == (("Host", "a"), ("X-Tag", "1"))


def test_the_list_given_may_change_afterwards() -> None:
    pairs = [("Host", "a")]
    headers = Headers(pairs)
    pairs.append(("X", "1"))
    headers.get_all("host").append("b")
    assert headers.items() == (("Host", "a"),)
    assert headers.get_all("host") == ["a"]


def test_headers_that_differ_in_the_case_of_names_are_equal_and_hash_alike() -> None:
    one, other = Headers([("Host", "a")]), Headers([("HOST", "a")])
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("other", [[], [("Host", "A")], [("Host", "a"), ("Host", "a")], [("Hos", "a")]])
def test_headers_with_other_values_or_names_are_not_equal(other: list[tuple[str, str]]) -> None:
    assert Headers([("Host", "a")]) != Headers(other)


def test_headers_are_equal_to_nothing_but_headers() -> None:
    assert Headers([("Host", "a")]) != [("Host", "a")]


def test_the_repr_shows_the_fields_and_hides_credentials() -> None:
    assert repr(Headers(PAIRS)) == (
        "Headers([('Host', 'a'), ('X-Tag', '1'), ('Cookie', '[hidden]'), ('x-tag', '2')])"
    )
    for name in ("Authorization", "PROXY-authorization", "set-cookie"):
        assert "secret" not in repr(Headers([(name, "secret")]))


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        ([], ()),
        ([""], ()),
        (["Upgrade"], ("upgrade",)),
        (["keep-alive, Upgrade"], ("keep-alive", "upgrade")),
        ([" keep-alive ,\tUPGRADE\t,,"], ("keep-alive", "upgrade")),
        (["keep-alive", "upgrade,  x"], ("keep-alive", "upgrade", "x")),
        (["upgrade-insecure"], ("upgrade-insecure",)),
        (["a b"], ("a b",)),
    ],
)
def test_tokens_are_the_lower_case_elements_of_all_lines(lines: list[str], tokens: tuple[str, ...]) -> None:
    assert Headers([("Connection", line) for line in lines]).tokens("connection") == tokens


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", "a\r\nb", "a\0", "ñ", "a\n", "(a)", "a/b", "a,b", '"a"']
)
def test_a_name_that_is_no_token_raises(name: str) -> None:
    assert not is_token(name)
    with pytest.raises(ValueError, match="is no header name: letters, digits and"):
        Headers([(name, "x")])


@pytest.mark.parametrize("character", [*map(chr, range(32)), "\x7f", "Ā", "€", "😀", "\ud800", "\u2028"])
def test_a_value_with_a_control_character_or_beyond_latin_1_raises(character: str) -> None:
    if character == "\t":
        assert Headers([("X", "a\tb")])["x"] == "a\tb"
        return
    with pytest.raises(ValueError, match="the value of header 'X-Token' has to be latin-1") as caught:
        Headers([("X-Token", f"secret{character}b")])
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="X-Token"):
        Headers([("X-Token", f"secret{character}")])


def test_latin_1_values_are_allowed_and_white_space_around_them_is_no_part_of_them() -> None:
    assert Headers([("X", "\t caf\xe9 \xa0 "), ("Y", "")]).items() == (("X", "caf\xe9 \xa0"), ("Y", ""))


@pytest.mark.parametrize("pair", [("X", 1), ("X", b"1"), (b"X", "1"), ("X", None)])
def test_a_pair_that_is_not_of_two_str_raises_a_type_error(pair: tuple[str, str]) -> None:
    with pytest.raises(TypeError, match="a header is a pair of str"):
        Headers([pair])


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=10))))
def test_whatever_headers_accept_has_no_line_end_in_it(pairs: list[tuple[str, str]]) -> None:
    try:
        headers = Headers(pairs)
    except ValueError:
        return
    for name, value in headers.items():
        assert not set(name + value) & {"\r", "\n", "\0"}
        (name + value).encode("latin-1")

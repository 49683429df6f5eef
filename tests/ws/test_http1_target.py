"""The target of a request: a path and a query, or a whole URL (RFC 9112, section 3.2)."""

from __future__ import annotations

import pytest

from .test_http1 import refusal, request


@pytest.mark.parametrize(
    ("target", "path", "query_string", "query"),
    [
        ("/", "/", "", {}),
        ("/?", "/", "", {}),
        ("//a/../b", "//a/../b", "", {}),
        ("/chat?a=1&b=2&a=3", "/chat", "a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("/a?b?c=d", "/a", "b?c=d", {"b?c": ["d"]}),
        (
            "/a%20b/%C3%B1%2f?q=%C3%B1+x&e=&f",
            "/a b/ñ/",
            "q=%C3%B1+x&e=&f",
            {"q": ["ñ x"], "e": [""], "f": [""]},
        ),
        ("/%ff%zz", "/\ufffd%zz", "", {}),
        ('/"<>\\^`{|}~', '/"<>\\^`{|}~', "", {}),
    ],
)
def test_path_and_query_are_decoded_from_the_target(
    target: str, path: str, query_string: str, query: dict[str, list[str]]
) -> None:
    parsed = request(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert parsed.target == target
    assert parsed.path == path
    assert parsed.query_string == query_string
    assert parsed.query == query


@pytest.mark.parametrize(
    ("target", "host", "read_as"),
    [
        (b"http://h/chat?a=b", "h", "/chat?a=b"),
        (b"https://h:8443/", "h:8443", "/"),
        (b"HTTP://h", "h", "/"),
        (b"http://[::1]?http://x/", "[::1]", "/?http://x/"),
        (b"http://h//x", "h", "//x"),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_an_absolute_target_is_read_as_its_path_and_its_host_counts(
    target: bytes, host: str, read_as: str, version: bytes
) -> None:
    """RFC 9112, section 3.2.2; RFC 6455, section 4.2.1, item 1, has it in a handshake."""
    read_request = request(b"GET " + target + b" HTTP/" + version + b"\r\nX: 1\r\nHost: other\r\n\r\n")
    assert read_request.target == read_as
    assert read_request.headers.items() == (("Host", host), ("X", "1"))


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://a@h/ HTTP/1.1\r\nHost: h\r\n",
        b"GET http://h:a/ HTTP/1.1\r\nHost: h\r\n",
        b"GET http://h/ HTTP/1.1\r\nHost: a b\r\n",
        b"GET http://h/ HTTP/1.1\r\nHost: h\r\nHost: h\r\n",
        b"GET http://h/ HTTP/1.1\r\n",
    ],
)
def test_an_absolute_target_needs_a_good_host_and_one_good_host_header_beside_it(head: bytes) -> None:
    status, reason = refusal(head + b"\r\n")
    assert (status, "Host" in reason) == (400, True)

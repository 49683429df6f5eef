from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws.http1 import (
    Headers,
    Request,
    RequestReader,
    ResponseReader,
    encode_request,
    encode_response,
)
from tests.ws.chunking import read

# --- Encoding ---


def test_a_request_is_encoded_line_by_line() -> None:
    encoded = encode_request("GET", "/chat?a=1", [("Host", "h"), ("X", "\xe9")])
    assert encoded == b"GET /chat?a=1 HTTP/1.1\r\nHost: h\r\nX: \xe9\r\n\r\n"


@pytest.mark.parametrize("method", ["", "G T", "GET\r\n", "GÉT", "M" * 33])
def test_encoding_a_bad_method_raises(method: str) -> None:
    with pytest.raises(ValueError, match="is no method; a token"):
        encode_request(method, "/", [("Host", "h")])


@pytest.mark.parametrize(
    "target", ["", "*", "a", "http://h/", "/a b", "/#", "/ñ", "/\r\nX: 1", "/\n", "/\x7f"]
)
def test_encoding_a_bad_target_raises(target: str) -> None:
    with pytest.raises(ValueError, match="is no target; a path from / on"):
        encode_request("GET", target, [("Host", "h")])


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, [], b"hi", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"),
        (
            404,
            [("X", "1")],
            b"",
            b"HTTP/1.1 404 Not Found\r\nX: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (599, [], b"", b"HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        (204, [], b"", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        (304, [], b"", b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"),
        (
            426,
            [("Upgrade", "websocket")],
            b"",
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"
            b"Content-Length: 0\r\nConnection: close, Upgrade\r\n\r\n",
        ),
        (101, [("Upgrade", "x")], b"", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        (
            200,
            [("content-length", "2"), ("connection", "Close")],
            b"hi",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: Close\r\n\r\nhi",
        ),
        (  # the answer to HEAD: the length of what GET would get
            200,
            [("Content-Length", "17")],
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n",
        ),
    ],
)
def test_a_response_is_encoded_with_its_framing(
    status: int, headers: list[tuple[str, str]], body: bytes, expected: bytes
) -> None:
    assert encode_response(status, headers, body) == expected


@pytest.mark.parametrize("status", [0, 99, 100, 102, 199, 600, -200])
def test_encoding_a_status_that_is_no_answer_raises(status: int) -> None:
    with pytest.raises(ValueError, match=f"101 or from 200 to 599, not {status}"):
        encode_response(status)


@pytest.mark.parametrize("status", [101, 204, 304])
def test_encoding_a_body_where_none_may_be_raises(status: int) -> None:
    with pytest.raises(ValueError, match=f"status {status} has no body"):
        encode_response(status, body=b"x")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Length", "3")], b"hi"),
        ([("Content-Length", "2"), ("Content-Length", "2")], b"hi"),
        ([("Content-Length", "0"), ("Content-Length", "0")], b""),
        ([("Content-Length", "-1")], b""),
        ([("Transfer-Encoding", "chunked")], b""),
        ([("Connection", "keep-alive")], b""),
    ],
)
def test_encoding_headers_that_contradict_the_framing_raises(
    headers: list[tuple[str, str]], body: bytes
) -> None:
    with pytest.raises(ValueError, match=r"leave (Content-Length and Transfer-Encoding|Connection) out"):
        encode_response(200, headers, body)


def test_nothing_that_is_encoded_can_hold_an_injected_header() -> None:
    with pytest.raises(ValueError, match="CR, LF"):
        encode_request("GET", "/", {"X": "a\r\nY: b"})
    with pytest.raises(ValueError, match="CR, LF"):
        encode_response(200, {"X": "a\r\n\r\n<script>"})


# --- Round trips ---

TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=32)
VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
FIELDS = st.lists(st.tuples(TOKENS.map("X-".__add__), VALUES), max_size=20)
TARGETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#")).map(
    "/".__add__
)


@given(TOKENS, TARGETS, FIELDS, st.binary(max_size=5))
def test_an_encoded_request_is_read_as_it_was(
    method: str, target: str, fields: list[tuple[str, str]], rest: bytes
) -> None:
    headers = Headers([("Host", "h"), *fields])
    encoded = encode_request(method, target, headers)
    assert read(RequestReader(), [encoded + rest]) == (Request(method, target, headers), rest)


@given(st.sampled_from([200, 403, 426, 503, 599]), FIELDS, st.binary(max_size=50), st.binary(max_size=5))
def test_an_encoded_response_is_read_as_it_was(
    status: int, fields: list[tuple[str, str]], body: bytes, rest: bytes
) -> None:
    encoded = encode_response(status, fields, body)
    result = read(ResponseReader(), [encoded + rest])
    assert result is not None
    response, trailing = result
    assert not isinstance(response, int)
    assert (response.status, response.body, trailing) == (status, body, rest)
    assert response.headers.items()[: len(fields)] == Headers(fields).items()

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws.http1 import (
    Headers,
    HeadLimits,
    Request,
    RequestReader,
)
from tests.ws.chunking import read, read_every_way

# RFC 6455, section 1.2.
SAMPLE = (
    b"GET /chat HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
HOST = b"Host: h\r\n"
SMALL = HeadLimits(max_request_line_size=64, max_header_line_size=64, max_headers=3, max_headers_size=100)


def request(data: bytes) -> Request:
    result = read_every_way(RequestReader, data)
    assert result is not None
    message, trailing = result
    assert isinstance(message, Request), result
    assert trailing == b""
    return message


def refusal(data: bytes, limits: HeadLimits | None = None) -> tuple[int, str]:
    """Status and reason, the same however the bytes are cut and whatever follows them."""

    def reader() -> RequestReader:
        return RequestReader() if limits is None else RequestReader(limits)

    result = read_every_way(reader, data)
    assert read(reader(), [data + b"GET / HTTP/1.1\r\n\r\n\0"]) == result
    assert result is not None
    status, reason = result
    assert isinstance(status, int), result
    assert isinstance(reason, str)
    return status, reason


def field(line: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n"


# --- What is read ---------------------------------------------------------------------------------------


def test_the_sample_of_the_rfc_is_read() -> None:
    assert request(SAMPLE) == Request(
        method="GET",
        target="/chat",
        headers=Headers(
            [
                ("Host", "server.example.com"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Origin", "http://example.com"),
                ("Sec-WebSocket-Protocol", "chat, superchat"),
                ("Sec-WebSocket-Version", "13"),
            ]
        ),
        version="1.1",
    )


def test_what_stands_behind_the_head_is_kept() -> None:
    assert read_every_way(RequestReader, SAMPLE + b"\x81\x85\r\n\r\n") == (
        request(SAMPLE),
        b"\x81\x85\r\n\r\n",
    )


def test_there_is_nothing_behind_a_head_that_is_not_complete() -> None:
    reader = RequestReader()
    assert reader.feed(SAMPLE[:-1]) is None
    assert reader.trailing == b""
    assert reader.feed(b"") is None


def test_one_empty_line_in_front_of_the_request_is_ignored() -> None:
    assert request(b"\r\n" + SAMPLE) == request(SAMPLE)


def test_http_1_0_is_read_and_needs_no_host() -> None:
    assert request(b"GET /health HTTP/1.0\r\n\r\n") == Request("GET", "/health", Headers(), "1.0")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X:", ""),
        (b"X: ", ""),
        (b"X:a", "a"),
        (b"X: \t a b\tc \t", "a b\tc"),
        (b"X: a:b", "a:b"),
        (b"X: caf\xe9\xff\x80", "caf\xe9\xff\x80"),
        (b"!#$%&'*+-.^_`|~09azAZ: a", None),
    ],
)
def test_a_header_value_is_latin_1_without_the_white_space_around_it(line: bytes, value: str | None) -> None:
    headers = request(field(line)).headers
    if value is None:
        assert "!#$%&'*+-.^_`|~09azAZ" in headers
    else:
        assert headers["x"] == value


def test_a_content_length_of_zero_is_no_body() -> None:
    assert request(field(b"Content-Length: 000")).headers["content-length"] == "000"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "h",
        "h:",
        "h:80",
        "h:65535",
        "a-b.c_d~e.",
        "%41",
        "127.0.0.1:1",
        "[::1]",
        "[2001:db8::1]:80",
        ":80",
    ],
)
def test_a_host_is_a_name_or_address_with_an_optional_port(host: str) -> None:
    data = b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"
    assert request(data).headers["host"] == host


@pytest.mark.parametrize(
    ("version", "read_as"), [(b"1.0", "1.0"), (b"1.1", "1.1"), (b"1.2", "1.1"), (b"1.9", "1.1")]
)
def test_a_later_minor_version_is_read_as_1_1(version: bytes, read_as: str) -> None:
    """RFC 9110, section 2.5; RFC 6455, section 4.2.1, item 1: HTTP/1.1 or higher."""
    assert request(b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n").version == read_as


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "get", "X!#$%&'*+-.^_`|~9", "M" * 32])
def test_any_token_of_up_to_32_characters_is_a_method(method: str) -> None:
    assert request(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode()).method == method


# --- What is refused with 400 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"GET",
        b"GET ",
        b"GET /",
        b"GET / ",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /  HTTP/1.1",
        b"GET / x HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b" GET / HTTP/1.1",
        b"G\xc9T / HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/11",
        b"GET / HTTP/1,1",
        b"GET / HTTP/1.x",
        b"GET / HTTP /1.1",
        b"GET / HTTPS/1.1",
        b"GET / HTTP/\xb2.0",
        b"GET / 1.1",
        b"GET ws://h/chat HTTP/1.1",
        b"GET http:/h/ HTTP/1.1",
        b"GET http:///chat HTTP/1.1",
        b"GET http://?a HTTP/1.1",
        b"GET http://h/#a HTTP/1.1",
        b"GET http://h#a HTTP/1.1",
        b"GET http://h/\x80 HTTP/1.1",
        b"CONNECT h:80 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET chat HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET /#a HTTP/1.1",
        b"GET /a?b#c HTTP/1.1",
        b"GET /\xc3\xb1 HTTP/1.1",
        b"GET /\x80 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /\t HTTP/1.1",
        b"GET /a\rb HTTP/1.1",
        b"GET / HTTP/1.1\r",
    ],
)
def test_a_malformed_request_line_is_refused_with_400(line: bytes) -> None:
    assert refusal(line + b"\r\n" + HOST + b"\r\n")[0] == 400


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"X : a", "white space"),
        (b"X\t: a", "white space"),
        (b" X: a", "folded"),
        (b"\tX: a", "folded"),
        (b"X: a\r\n b", "folded"),
        (b"X: a\r\n\tb: c", "folded"),
        (b"X", "no colon"),
        (b": a", "name"),
        (b"X Y: a", "name"),
        (b"X\0: a", "name"),
        (b"X\xe9: a", "name"),
        (b"(X): a", "name"),
        (b"X,Y: a", "name"),
        (b"X: a\0", "control"),
        (b"X: \x01a", "control"),
        (b"X: a\x7fb", "control"),
        (b"X: a\x0bb", "control"),
        (b"X: a\x1b[2J", "control"),
        (b"X: a\rb", "a CR"),
        (b"X: a\r", "a CR"),
        (b"X: a\nY: b", "bare LF"),
        (b"X: a\n", "bare LF"),
    ],
)
def test_a_malformed_header_line_is_refused_with_400(line: bytes, words: str) -> None:
    status, reason = refusal(field(line))
    assert status == 400
    assert words in reason


@pytest.mark.parametrize("line", [b" Host: h", b"\tHost: h", b"Host : h"])
def test_white_space_is_refused_in_the_first_header_line_too(line: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")[0] == 400


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: h\n", field(b"X: a")[:-2] + b"\n"]
)
def test_a_bare_line_feed_is_refused_with_400(data: bytes) -> None:
    assert refusal(data) == (400, "a line ends with a bare LF; CR LF is required")


@pytest.mark.parametrize("data", [b"\n", b"\r\r", b"\rG", b"\r\n\r\n", b"\r\n\n", b"\r\n\r", b"\r\n "])
def test_anything_but_one_empty_line_in_front_is_refused_with_400(data: bytes) -> None:
    assert refusal(data)[0] == 400


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_several_host_headers_are_refused_with_400(version: bytes) -> None:
    data = b"GET / HTTP/" + version + b"\r\nHost: h\r\nhost: h\r\n\r\n"
    assert refusal(data) == (400, "a request has exactly one Host header, not 2")


def test_a_missing_host_is_refused_with_400() -> None:
    assert refusal(b"GET / HTTP/1.1\r\n\r\n") == (400, "a request has exactly one Host header, not 0")


@pytest.mark.parametrize(
    "host",
    [
        b"a b", b"a,b", b"a, b", b"h:a", b"h:-1", b"h:65536", b"h:123456", b"a:1:2", b"::1", b"[::1", b"[]",
        b"[::g]", b"[::1]x", b"x@h", b"h/", b"h?", b"h#", b"h\\", b"http://h", b"\xe9", b"h:\xb2", b"<h>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_bad_host_is_refused_with_400(host: bytes, version: bytes) -> None:
    status, reason = refusal(b"GET / HTTP/" + version + b"\r\nHost: " + host + b"\r\n\r\n")
    assert (status, "Host" in reason) == (400, True)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 0\r\nContent-Length: 0",
        b"Content-Length: 1\r\ncontent-length: 2",
        b"Content-Length: 0, 0",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Content-Length:",
        b"Content-Length: -1",
        b"Content-Length: +0",
        b"Content-Length: 0x0",
        b"Content-Length: 0 0",
        b"Content-Length: \xb2",
        b"Content-Length: 1.0",
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused_with_400(lines: bytes) -> None:
    assert refusal(field(lines))[0] == 400


# --- What is refused with another status ----------------------------------------------------------------


@pytest.mark.parametrize(
    "line", [b"Content-Length: 1", b"Content-Length: " + b"9" * 5000, b"Transfer-Encoding: chunked"]
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_request_with_a_body_is_refused_with_413(line: bytes, version: bytes) -> None:
    data = b"POST / HTTP/" + version + b"\r\n" + HOST + line + b"\r\n\r\n"
    assert refusal(data) == (413, "the request has a body, and no request body is read here")


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.0", b"9.9"])
def test_another_http_version_is_refused_with_505(version: bytes) -> None:
    assert refusal(b"GET / HTTP/" + version + b"\r\n")[0] == 505


def test_the_preface_of_http_2_is_refused_with_505() -> None:
    assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == (505, "only HTTP/1.1 is spoken here")


def test_a_method_longer_than_any_is_refused_with_501_when_its_33rd_character_comes() -> None:
    assert refusal(b"M" * 33 + b" / HTTP/1.1\r\n")[0] == 501
    assert refusal(b"M" * 33)[0] == 501
    assert refusal(b"\r\n" + b"M" * 33)[0] == 501
    assert RequestReader().feed(b"\r\n" + b"M" * 32) is None


# --- Invariants ---------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(b"GET ", b"/", b"/a?b", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b":"),
        *(b"Host: h\r\n", b"Host: \r\n", b"X: 1\r\n", b"Content-Length: 0\r\n", b"\0", b"\x16", b"a" * 70),
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=3), max_size=12).map(b"".join)
VALID_STARTS = st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n"])


@given(st.data(), VALID_STARTS, STREAMS)
def test_chunking_never_matters_and_junk_raises_nothing_but_handshake_errors(
    data: st.DataObject, start: bytes, rest: bytes
) -> None:
    stream = start + rest
    at = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[begin:end] for begin, end in zip([0, *at], [*at, len(stream)], strict=True)]
    assert read(RequestReader(SMALL), chunks) == read(RequestReader(SMALL), [stream])

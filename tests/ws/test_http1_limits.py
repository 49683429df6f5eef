from __future__ import annotations

import pytest

from stelar_proto.errors import HandshakeError, StateError
from stelar_proto.ws.http1 import HeadLimits, RequestReader
from tests.ws.chunking import bytes_until_refused
from tests.ws.test_http1 import HOST, SAMPLE, SMALL, field, refusal, request

TLS_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(32)

# --- Limits -----------------------------------------------------------------------------------------------


def test_a_request_line_of_8_kib_is_read_and_one_byte_more_is_refused_with_414() -> None:
    longest = b"GET /" + b"a" * (8192 - 14) + b" HTTP/1.1"
    assert len(longest) == 8192
    assert len(request(longest + b"\r\n" + HOST + b"\r\n").target) == 8179
    too_long = longest.replace(b"/", b"/a", 1) + b"\r\n"
    assert refusal(too_long) == (414, "the first line is longer than 8192 bytes")


def test_a_header_line_of_8_kib_is_read_and_one_byte_more_is_refused_with_431() -> None:
    longest = b"X: " + b"a" * (8192 - 3)
    assert len(request(field(longest)).headers["x"]) == 8189
    assert refusal(field(longest + b"a")) == (431, "a header line is longer than 8192 bytes")


def test_128_headers_are_read_and_one_more_is_refused_with_431() -> None:
    lines = b"\r\n".join(b"X: %d" % number for number in range(127))
    assert len(request(field(lines)).headers.items()) == 128
    assert refusal(field(lines + b"\r\nY: 1")) == (431, "there are more than 128 header lines")


def test_64_kib_of_headers_are_read_and_one_byte_more_is_refused_with_431() -> None:
    lines = b"\r\n".join([b"X: " + b"a" * 8187] * 7)
    lines += b"\r\nY: " + b"b" * (65536 - len(HOST) - len(lines) - len(b"\r\nY: ") - 4)
    assert len(field(lines)) - len(b"GET / HTTP/1.1\r\n") == 65536
    assert len(request(field(lines)).headers.items()) == 9
    reason = "the header fields together are larger than 65536 bytes"
    assert refusal(field(lines + b"b")) == (431, reason)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /" + b"a" * 51 + b" HTTP/1.1\r\n", (414, "the first line is longer than 64 bytes")),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 62 + b"\r\n", (431, "a header line is longer than 64 bytes")),
        (
            b"GET / HTTP/1.1\r\nX: " + b"a" * 50 + b"\r\nY: " + b"a" * 41 + b"\r\n",
            (431, "the header fields together are larger than 100 bytes"),
        ),
        (
            b"GET / HTTP/1.1\r\nX: " + b"a" * 50 + b"\r\nY: " + b"a" * 39 + b"\r\n\r\n",
            (431, "the header fields together are larger than 100 bytes"),
        ),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 4, (431, "there are more than 3 header lines")),
    ],
)
def test_limits_can_be_configured(data: bytes, expected: tuple[int, str]) -> None:
    assert refusal(data, SMALL) == expected


@pytest.mark.parametrize(
    ("start", "allowed"),
    [
        (b"GET /", 64 - 5 + 1),
        (b"GET / HTTP/1.1\r\n", 64 + 1),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 55 + b"\r\n", 39),
    ],
)
def test_a_limit_is_noticed_at_the_first_byte_over_it_without_a_line_end(start: bytes, allowed: int) -> None:
    assert bytes_until_refused(RequestReader(SMALL), start + b"a" * 1000) == len(start) + allowed + 1


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("max_request_line_size", 64),
        ("max_header_line_size", 64),
        ("max_headers", 1),
        ("max_headers_size", 64),
    ],
)
def test_a_limit_that_lets_nothing_in_raises(name: str, least: int) -> None:
    HeadLimits(**{name: least})
    with pytest.raises(ValueError, match=f"{name} is at least {least}, not {least - 1}"):
        HeadLimits(**{name: least - 1})


# --- How early ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (TLS_CLIENT_HELLO, 1),
        (b"\x80\x2e\x01\x00\x02", 1),  # the hello of SSL 2
        (b"\x00\x00\x00\x0a\x00", 1),  # a TCP frame of this project
        (b"{}", 1),
        (b"\r\n\r\n", 3),
        (b"G\xffT", 2),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 20),
        (b"GET\r\n", 4),
        (b"A" * 100, 33),
        (b"GET / HTTP/2.0\r\nHost: h\r\n", 16),
        (b"GET / HTTP/1.1\r\nX y: h\r\nHost: h\r\n", 24),
    ],
)
def test_what_cannot_become_a_request_is_refused_at_the_first_byte_that_shows_it(
    data: bytes, count: int
) -> None:
    assert bytes_until_refused(RequestReader(), data) == count
    refusal(data)


def test_tls_on_a_plain_port_is_named() -> None:
    assert refusal(TLS_CLIENT_HELLO) == (
        400,
        "this looks like TLS, on a port that speaks plain HTTP; use ws:// or http://",
    )


def test_a_reader_reads_one_request_only() -> None:
    reader = RequestReader()
    assert reader.feed(SAMPLE) is not None
    with pytest.raises(StateError):
        reader.feed(b"")
    reader = RequestReader()
    with pytest.raises(HandshakeError):
        reader.feed(b"\0")
    with pytest.raises(StateError):
        reader.feed(SAMPLE)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import HandshakeError, StateError
from stelar_proto.ws.http1 import Headers, HeadLimits, Response, ResponseReader
from tests.ws.chunking import bytes_until_refused, cuts, read, read_every_way

# RFC 6455, section 1.2.
SAMPLE = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"\r\n"
)
SAMPLE_FIELDS = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
]
PREFIX = "the server's answer is no valid HTTP/1.1 response: "
CHUNKED = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_END = b"HTTP/1.1 403 Forbidden\r\nServer: x\r\n\r\n"


def small_reader() -> ResponseReader:
    limits = HeadLimits(
        max_request_line_size=64, max_header_line_size=64, max_headers=3, max_headers_size=100
    )
    return ResponseReader(limits, max_body_size=10, max_interim_responses=1)


def refusal(data: bytes) -> str:
    """The reason why a reader with small limits refuses; status 0, however the bytes are cut."""
    result = read_every_way(small_reader, data)
    assert read(small_reader(), [data + SAMPLE]) == result
    assert result is not None
    status, reason = result
    assert status == 0
    assert isinstance(reason, str)
    return reason.removeprefix(PREFIX)


def response_at_end(data: bytes) -> Response:
    """What the end of the stream makes of ``data``, in which the response is not complete."""
    reader = small_reader()
    assert reader.feed(data) is None
    response = reader.eof()
    for chunks in cuts(data):
        reader = small_reader()
        assert [reader.feed(chunk) for chunk in chunks] == [None] * len(chunks)
        assert reader.eof() == response
    return response


# --- Heads ----------------------------------------------------------------------------------------------


def test_the_sample_of_the_rfc_is_read_with_the_frames_behind_it() -> None:
    response = Response(101, "Switching Protocols", Headers(SAMPLE_FIELDS))
    assert read_every_way(ResponseReader, SAMPLE) == (response, b"")
    assert read_every_way(ResponseReader, SAMPLE + b"\x81\x00\r\n\r\n") == (response, b"\x81\x00\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"HTTP/1.1 101 ", ""),
        (b"HTTP/1.1 101", ""),
        (b"HTTP/1.1 101 \xa1Hola! \t x", "\xa1Hola! \t x"),
        (b"HTTP/1.1 101  two", " two"),
        (b"HTTP/1.2 101 x", "x"),  # RFC 9110, section 2.5: read as 1.1
    ],
)
def test_the_reason_is_free_text_and_may_be_missing(line: bytes, reason: str) -> None:
    assert read_every_way(ResponseReader, line + b"\r\n\r\n") == (Response(101, reason, Headers()), b"")


def test_folded_header_lines_are_read_as_one() -> None:
    """RFC 9112, section 5.2: a user agent MUST put spaces in the place of a fold."""
    data = b"HTTP/1.1 101 x\r\nX:\r\n a\t\r\n\t b: c \r\nY: d\r\n  \r\n\r\n"
    response = Response(101, "x", Headers([("X", "a b: c"), ("Y", "d")]))
    assert read_every_way(ResponseReader, data) == (response, b"")


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 426, 503, 599])
def test_any_status_from_200_to_599_is_read(status: int) -> None:
    data = f"HTTP/1.0 {status} x\r\nContent-Length: 0\r\n\r\n".encode()
    assert read_every_way(ResponseReader, data) == (
        Response(status, "x", Headers([("Content-Length", "0")])),
        b"",
    )


def test_a_101_has_no_body_whatever_its_content_length_says() -> None:
    data = SAMPLE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"frame"
    result = read(ResponseReader(), [data])
    assert result is not None
    assert result[1] == b"frame"


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n"])
def test_interim_responses_are_skipped(interim: bytes) -> None:
    expected = read(ResponseReader(), [SAMPLE])
    assert read_every_way(ResponseReader, interim + SAMPLE) == expected
    assert read(ResponseReader(), [interim * 8 + SAMPLE]) == expected
    assert read(ResponseReader(), [interim * 9 + SAMPLE]) == (
        0,
        PREFIX + "there are too many interim responses in front of it",
    )


def test_the_limits_of_a_head_count_anew_behind_an_interim_response() -> None:
    fields = b"X: 1\r\n" * 3 + b"\r\n"
    data = b"HTTP/1.1 100 x\r\n" + fields + b"HTTP/1.1 101 x\r\n" + fields
    assert read_every_way(small_reader, data) == (Response(101, "x", Headers([("X", "1")] * 3)), b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 99 x\r\n", "the first line is not HTTP/1.1, a status and a reason"),
        (b"HTTP/1.1 600 x\r\n", "the first line is not"),
        (b"HTTP/1.1 1010 x\r\n", "the first line is not"),
        (b"HTTP/1.1 10\xb2 x\r\n", "the first line is not"),
        (b"HTTP/1.1  101 x\r\n", "the first line is not"),
        (b"HTTP/1.1\r\n", "the first line is not"),
        (b"HTTP/1.1 101 a\0b\r\n", "the first line is not"),
        (b"HTTP/1.1 101 a\x1b\r\n", "the first line is not"),
        (b"HTTP/1.1 101 a\rb\r\n", "a CR stands within a line"),
        (b"HTTP/1.1 101 x\n", "a line ends with a bare LF"),
        (b"HTTP/1.1 101 x\r\n X: a\r\n", "a header line is folded"),
        (b"HTTP/1.1 101 x\r\nX: a\r\n b\0\r\n", "the value of header X has control characters"),
        (b"HTTP/1.1 101 x\r\nX: a\r\n" + b" b\r\n" * 3, "there are more than 3 header lines"),
        (b"HTTP/1.1 101 x\r\nX : a\r\n", "white space stands between"),
        (b"HTTP/1.1 101 x\r\nX\r\n", "a header line has no colon"),
        (b"HTTP/1.1 101 x\r\nX: \0\r\n", "the value of header X has control characters"),
        (b"HTTP/1.1 100 x\r\n\r\nGET", "the first line is not"),
        (b"HTTP/1.0 101 x\r\n\r\n", "HTTP/1.0 cannot switch protocols"),
        (b"HTTP/1.1 100 x\r\n\r\n" * 2, "there are too many interim responses in front of it"),
        (b"HTTP/1.1 101 " + b"x" * 52 + b"\r\n", "the first line is longer than 64 bytes"),
        (b"HTTP/1.1 101 x\r\nX: " + b"x" * 62 + b"\r\n", "a header line is longer than 64 bytes"),
        (b"HTTP/1.1 101 x\r\n" + b"X: 1\r\n" * 4, "there are more than 3 header lines"),
        (
            b"HTTP/1.1 101 x\r\n" + (b"X: " + b"x" * 50 + b"\r\n") * 2,
            "the header fields together are larger than 100 bytes",
        ),
        (b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "only one Content-Length"),
        (
            b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "only one Content-Length",
        ),
        (b"HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n", "Content-Length is not a decimal number"),
        (b"HTTP/1.1 101 x\r\nContent-Length: x\r\n\r\n", "Content-Length is not a decimal number"),
        (
            b"HTTP/1.1 200 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "its Transfer-Encoding is not chunked",
        ),
    ],
)
def test_a_malformed_head_is_refused_with_status_0(data: bytes, words: str) -> None:
    if data.endswith(b"GET"):
        data += b"\r\n"
    assert refusal(data).startswith(words)


@pytest.mark.parametrize(
    ("data", "count", "words"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x0a", 1, "it looks like TLS; use wss:// or https://"),
        (b"\x16\x03\x03", 1, "it looks like TLS; use wss:// or https://"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 1, "it does not begin with HTTP/1.1"),
        (
            b"\x00\x00\x00\x2f\x06\x00\x07connect",
            1,
            "it looks like the TCP protocol of stelar; use tcp:// or tcps://, or the server's WebSocket port",
        ),
        (b"HTTP/2 101\r\n", 6, "it does not begin with HTTP/1.1"),
        (b"http/1.1 101\r\n", 1, "it does not begin with HTTP/1.1"),
        (b"\r\nHTTP/1.1 101\r\n", 1, "it does not begin with HTTP/1.1"),
    ],
)
def test_what_is_no_http_is_refused_at_the_first_byte_that_shows_it(
    data: bytes, count: int, words: str
) -> None:
    assert bytes_until_refused(ResponseReader(), data) == count
    assert refusal(data) == words


# --- Bodies ---------------------------------------------------------------------------------------------


def with_length(length: str, body: bytes, status: int = 403) -> bytes:
    return f"HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("data", "body", "trailing"),
    [
        (with_length("5", b"hello"), b"hello", b""),
        (with_length("0005", b"hello!"), b"hello", b"!"),
        (with_length("0", b"!"), b"", b"!"),
        (with_length("10", b"0123456789"), b"0123456789", b""),
        (with_length("11", b"0123456789A"), b"0123456789", b"A"),
        (with_length("9" * 40, b"0123456789A"), b"0123456789", b"A"),
        (with_length("5", b"!", status=204), b"", b"!"),
        (with_length("5", b"!", status=304), b"", b"!"),
        (UNTIL_END + b"0123456789A", b"0123456789", b"A"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", b"hello", b""),
        (CHUNKED + b"0\r\n\r\n", b"", b"\r\n"),
        (CHUNKED + b"000\r\n", b"", b""),
        (CHUNKED + b"3;name=value\r\nhel\r\n2 ;x\r\nlo\r\n0;y\r\n", b"hello", b""),
        (CHUNKED + b"A\r\n0123456789", b"0123456789", b""),
        (CHUNKED + b"5\r\nhello\r\nfFfFfFfFfFfFfFfF\r\nworld!", b"helloworld", b"!"),
        (CHUNKED.replace(b"chunked", b"Chunked") + b"1\r\na\r\n0\r\n", b"a", b""),
    ],
)
def test_the_body_of_a_refusal_is_read_up_to_the_limit(data: bytes, body: bytes, trailing: bytes) -> None:
    result = read_every_way(small_reader, data)
    assert result is not None
    response, rest = result
    assert isinstance(response, Response), result
    assert (response.body, rest) == (body, trailing)


def test_a_very_long_content_length_is_only_a_body_over_the_limit() -> None:
    result = read(ResponseReader(max_body_size=3), [with_length("9" * 5000, b"abcd")])
    assert result is not None
    assert isinstance(result[0], Response)
    assert result[0].body == b"abc"


def test_the_default_limit_of_a_body_is_64_kib() -> None:
    result = read(ResponseReader(), [with_length("70000", b"a" * 70000)])
    assert result is not None
    assert isinstance(result[0], Response)
    assert len(result[0].body) == 65536


def test_with_a_limit_of_zero_the_response_is_complete_with_its_head() -> None:
    for head in (UNTIL_END, CHUNKED, with_length("5", b"")):
        response = ResponseReader(max_body_size=0).feed(head)
        assert response is not None
        assert (response.status, response.body) == (403, b"")


@pytest.mark.parametrize(
    "chunks",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 x\r\n",
        b"11111111111111111\r\n",
        b"1\r\nab\r\n",
        b"1\r\na0\r\n",
        b"1\r\na\r\n\r\n",
    ],
)
def test_a_broken_chunk_is_refused_with_status_0(chunks: bytes) -> None:
    assert refusal(CHUNKED + chunks) == "its chunked body is broken"


def test_line_ends_and_length_of_a_chunk_line_are_checked() -> None:
    assert refusal(CHUNKED + b"1\na") == "a line ends with a bare LF; CR LF is required"
    assert refusal(CHUNKED + b"1;" + b"x" * 256) == "a chunk's first line is too long"
    result = read_every_way(small_reader, CHUNKED + b"0;" + b"x" * 254 + b"\r\n")
    assert result is not None
    assert isinstance(result[0], Response)


# --- The end of the stream ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (UNTIL_END, b""),
        (UNTIL_END + b"bye", b"bye"),
        (with_length("5", b"hel"), b"hel"),
        (CHUNKED + b"5\r\nhel", b"hel"),
        (CHUNKED + b"3\r\nhel", b"hel"),
        (CHUNKED + b"3\r\nhel\r\n", b"hel"),
        (CHUNKED, b""),
    ],
)
def test_the_end_of_the_stream_ends_a_body_complete_or_not(data: bytes, body: bytes) -> None:
    response = response_at_end(data)
    assert (response.status, response.body) == (403, body)


@pytest.mark.parametrize(
    "data", [b"", b"HTTP", b"HTTP/1.1 101 x\r\n", SAMPLE[:-1], b"HTTP/1.1 100 x\r\n\r\n"]
)
def test_the_end_of_the_stream_within_a_head_is_a_handshake_error_with_status_0(data: bytes) -> None:
    reader = ResponseReader()
    assert reader.feed(data) is None
    with pytest.raises(
        HandshakeError, match="the connection ended before a complete HTTP response"
    ) as caught:
        reader.eof()
    assert caught.value.status == 0
    with pytest.raises(StateError):
        reader.eof()


def test_a_reader_reads_one_response_only() -> None:
    reader = ResponseReader()
    assert reader.feed(SAMPLE) is not None
    with pytest.raises(StateError):
        reader.feed(b"")
    with pytest.raises(StateError):
        reader.eof()


# --- Invariants -----------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 100 x\r\n", b"HTTP/1.1 403 x\r\n", b"\r\n", b"\r\n\r\n", b"\n"),
        *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"X: 1\r\n", b"\r", b" ", b"\0", b":"),
        *(b"5\r\nhello\r\n", b"0\r\n", b"5", b"a" * 70),
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=3), max_size=12).map(b"".join)
VALID_STARTS = st.sampled_from([b"", b"HTTP/1.1 403 x\r\n", CHUNKED, UNTIL_END, with_length("7", b"")])


@given(st.data(), VALID_STARTS, STREAMS)
def test_chunking_never_matters_and_junk_raises_nothing_but_handshake_errors(
    data: st.DataObject, start: bytes, rest: bytes
) -> None:
    stream = start + rest
    at = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[begin:end] for begin, end in zip([0, *at], [*at, len(stream)], strict=True)]
    one, other = small_reader(), small_reader()
    result = read(one, chunks)
    assert result == read(other, [stream])
    if result is None:
        assert at_end(one) == at_end(other)


def at_end(reader: ResponseReader) -> Response | str:
    try:
        return reader.eof()
    except HandshakeError as error:
        return error.reason

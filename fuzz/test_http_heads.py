"""``RequestReader``, ``ResponseReader`` and a ``ws.Connection`` before its handshake: whatever comes in.

Held for every stream of bytes, cut anywhere:

- A reader raises nothing but ``HandshakeError`` from ``feed`` and ``eof``: for a request with a status that
  refuses (4xx, 5xx), for a response with status 0. ``Connection.receive_data`` raises nothing. Allowed
  exceptions there: none.
- The message, what stands behind it, or the refusal, is the same for any chunks. One difference is allowed:
  bytes behind an upgrade request are refused at once when they come with it, and else after it was reported.
- Between two chunks no more is held than the limits allow.
- A request that was read, written by ``encode_request``, is read as the same one; likewise a response by
  ``encode_response``.
- ``Closed`` comes exactly once, last. Whatever a server answers, of its own accord or by ``accept`` and
  ``respond``, our reader understands, and a client that asked with the same key is let in by it.
"""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import HandshakeError
from stelar_proto.ws import (
    Closed,
    Connection,
    Event,
    Opened,
    Request,
    RequestReceived,
    Response,
    Role,
    State,
    UpgradeRequested,
)
from stelar_proto.ws.headers import Headers
from stelar_proto.ws.http1 import HeadLimits, RequestReader, ResponseReader, encode_request, encode_response

from .inputs import CUTS, corpus, cut, mutated, same_for_any_chunks, weighted

# --- Heads ----------------------------------------------------------------------------------------------

NONCE = b"the sample nonce"  # of RFC 6455, section 1.3
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
REQUESTS = [
    *corpus("http_request"),
    UPGRADE + b"\r\n",
    UPGRADE + b"Sec-WebSocket-Protocol: a, b\r\nOrigin: http://localhost\r\n\r\n",
    UPGRADE.replace(b"13", b"8") + b"\r\n",
    UPGRADE.replace(b"GET", b"POST") + b"\r\n",
    b"GET /health?a=1&b HTTP/1.1\r\nHost: [::1]:80\r\nAccept: */*\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"\r\nOPTIONS /x HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n",
]
RESPONSES = [
    *corpus("http_response"),
    SWITCHING + b"\r\n",
    SWITCHING + b"\r\n\x81\x02hi\x88\x00",
    SWITCHING + b"Sec-WebSocket-Protocol: a\r\n\r\n",
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nConnection: close\r\n\r\nno way\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nLink: x\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end",
    b"HTTP/1.1 502 \r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n0A\r\n0123456789\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]

ENDS = weighted(b"\r\n", b"\n", b"\r", b"\r\r\n", b"", share=16)
NAMES = st.one_of(
    st.sampled_from([b"Host", b"Upgrade", b"Connection", b"Content-Length", b"Transfer-Encoding"]),
    st.sampled_from([b"Version", b"Key", b"Protocol", b"Accept"]).map(lambda name: b"Sec-WebSocket-" + name),
    st.sampled_from([b"X", b"x-long" * 12, b"", b"a b", b" "]),
)
VALUES = st.one_of(
    st.sampled_from(
        [b"localhost", b"websocket", b"Upgrade", b"close, Upgrade", b"dGhlIHNhbXBsZSBub25jZQ==", b"13"]
    ),
    st.sampled_from(
        [b"0", b"5", b"00007", b"-1", b"+1", b"9" * 5000, b"chunked", b"gzip, chunked", b"a, b", b",", b""]
    ),
    st.sampled_from(
        [b"x" * 60, b"x" * 9000, b"\xe4\xff", b"\t tab \t", b"nul\0", b"local:99999", b"[::1]", b"a b"]
    ),
    st.binary(max_size=6),
)
FIELDS = st.builds(
    lambda name, colon, value, end: name + colon + value + end,
    NAMES,
    weighted(b": ", b":", b" :", b" ", b":\t", share=6),
    VALUES,
    ENDS,
)
REQUEST_LINES = st.builds(
    lambda *parts: b"".join(parts),
    weighted(b"", b"\r\n", b"\n", b" ", b"\x16\x03", share=8),
    weighted(b"GET", b"HEAD", b"POST", b"x" * 32, b"x" * 33, b"G T", b"", share=3),
    weighted(b" ", b"  ", b"\t", share=12),
    weighted(
        b"/", b"/?b=%ff", b"*", b"/\xe4", b"http://a/", b"/#", *(b"/x" * n for n in (25, 30, 4500)), share=3
    ),
    weighted(b" ", b"  ", b"", share=12),
    weighted(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", share=4),
    ENDS,
)
STATUS_LINES = st.builds(
    lambda *parts: b"".join(parts),
    weighted(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"\x15\x03", share=6),
    weighted(b" ", b"  ", share=12),
    st.sampled_from([b"101", b"101", b"200", b"403", b"204", b"304", b"100", b"199", b"600", b"20", b"2000"]),
    weighted(b" Reason", b"", b" ", b" \xe4", b" \0", b" " + b"x" * 60, share=4),
    ENDS,
)
CHUNKS = st.one_of(
    st.sampled_from([b"3\r\nabc\r\n", b"0\r\n\r\n", b"5;x\r\n", b"hello\r\n", b"\r\n", b"g\r\n"]),
    st.sampled_from([b"FFFFFFFFFFFFFFFF\r\n", b"10000000000000000\r\n", b"1" + b" " * 300]),
)
BODIES = st.one_of(
    st.binary(max_size=12),
    st.lists(CHUNKS, max_size=5).map(b"".join),
)


def heads(lines: st.SearchStrategy[bytes], seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Good heads, damaged ones, ones put together from parts, and no heads at all."""
    fields = st.lists(FIELDS, max_size=6).map(b"".join)
    made = st.builds(lambda *parts: b"".join(parts), lines, fields, ENDS, BODIES)
    return st.one_of(st.sampled_from(seeds), mutated(seeds, least=1), made, st.binary(max_size=60))


ANY_REQUEST = heads(REQUEST_LINES, REQUESTS)
ANY_RESPONSE = heads(STATUS_LINES, RESPONSES)
LIMITS = weighted(HeadLimits(), HeadLimits(64, 64, 3, 130), HeadLimits(80, 100, 128, 64), share=2)

# --- The readers ----------------------------------------------------------------------------------------

Outcome: TypeAlias = tuple[Any, Any] | None


def read(
    reader: RequestReader | ResponseReader, chunks: list[bytes], *, max_body_size: int = 65536
) -> Outcome:
    """The message and what stands behind it, or status and words of a refusal, or None: it is incomplete."""
    limits = reader._limits
    longest = max(limits.max_request_line_size, limits.max_header_line_size)
    if isinstance(reader, ResponseReader):
        longest = max(longest, 256)  # a chunk's first line
    rest = list(chunks)
    try:
        while rest:
            message: Request | Response | None = reader.feed(rest.pop(0))
            if message is not None:
                return message, reader.trailing + b"".join(rest)
            assert len(reader._buffer) <= longest + 1
            assert len(reader._fields) <= limits.max_headers
            assert sum(len(name) + len(value) for name, value in reader._fields) <= limits.max_headers_size
            assert isinstance(reader, RequestReader) or len(reader._body) <= max_body_size
        return (reader.eof(), b"") if isinstance(reader, ResponseReader) else None
    except HandshakeError as error:
        return error.status, error.reason


def read_response(data: bytes) -> Response:
    """The response that ``data`` is, whole."""
    response, trailing = read(ResponseReader(), [data]) or (None, b"")
    assert isinstance(response, Response)
    assert trailing == b""
    return response


@given(ANY_REQUEST, LIMITS, CUTS)
def test_any_request(data: bytes, limits: HeadLimits, cuts: list[int]) -> None:
    outcome = same_for_any_chunks(lambda chunks: read(RequestReader(limits), chunks), data, cuts)
    match outcome:
        case (int(status), str(reason)):
            assert 400 <= status <= 599
            assert reason
        case (Request(method, target, headers, version) as request, _):
            assert isinstance(request.path, str)
            assert isinstance(request.query, dict)
            if version == "1.1":
                again = RequestReader().feed(encode_request(method, target, headers))
                assert again == request


@given(ANY_RESPONSE, LIMITS, st.sampled_from([0, 5, 65536]), CUTS)
def test_any_response(data: bytes, limits: HeadLimits, max_body_size: int, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> Outcome:
        reader = ResponseReader(limits, max_body_size=max_body_size)
        return read(reader, chunks, max_body_size=max_body_size)

    match same_for_any_chunks(outcome, data, cuts):
        case (int(status), str(reason)):
            assert status == 0
            assert reason
        case (Response(body=body), _):
            assert len(body) <= max_body_size


APPLICATION_FIELDS = st.tuples(
    st.sampled_from(["X-One", "x-two", "Upgrade", "Set-Cookie"]), st.text("aZ \xe4\t,;", max_size=9)
)


@given(st.integers(200, 599), st.lists(APPLICATION_FIELDS, max_size=5), st.binary(max_size=40), CUTS)
def test_a_response_is_read_as_it_was_written(
    status: int, fields: list[tuple[str, str]], body: bytes, cuts: list[int]
) -> None:
    body = b"" if status in (204, 304) else body
    written = encode_response(status, fields, body)
    response, trailing = read(ResponseReader(), [*cut(written, cuts), b"behind"]) or (None, b"")
    assert isinstance(response, Response)
    assert (response.status, response.body, trailing) == (status, body, b"behind")
    assert response.headers.items()[: len(fields)] == Headers(fields).items()


# --- The connection -------------------------------------------------------------------------------------


def connection_outcome(conn: Connection, chunks: list[bytes]) -> tuple[list[Event], bytes]:
    """Everything that comes out of a connection that is fed ``chunks`` and the end of the stream."""
    events = [event for chunk in [*chunks, b"", b"more"] for event in conn.receive_data(chunk)]
    assert [type(event) is Closed for event in events] == [False] * (len(events) - 1) + [True]
    return events, conn.data_to_send()


def comparable(outcome: tuple[list[Event], bytes]) -> object:
    """Errors are equal only to themselves; an upgrade request that is refused after all does not count."""
    events, answer = outcome
    closed = events[-1]
    assert isinstance(closed, Closed)
    if isinstance(closed.error, HandshakeError) and isinstance(events[0], UpgradeRequested):
        events = events[1:]
    return events[:-1], closed[:2], type(closed.error), str(closed.error), answer


@given(ANY_REQUEST, CUTS)
def test_a_server_refuses_in_words_that_a_client_reads(data: bytes, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[Event], bytes]:
        return connection_outcome(Connection(Role.SERVER), chunks)

    same_for_any_chunks(lambda chunks: comparable(outcome(chunks)), data, cuts)
    (*_, closed), answer = outcome([data] if data else [])
    assert isinstance(closed, Closed)
    if not isinstance(closed.error, HandshakeError):
        assert answer == b""
        return
    response = read_response(answer)
    assert response.status == closed.error.status
    assert response.body in (f"{closed.error.reason}\n".encode(), b"")  # the answer to HEAD has no body


@given(ANY_REQUEST)
def test_an_answer_is_understood(data: bytes) -> None:
    conn = Connection(Role.SERVER)
    bytewise = (conn.receive_data(data[at : at + 1]) for at in range(len(data)))
    # The answer leaves before anything behind the request comes.
    event = next((events[0] for events in bytewise if events), None)
    match event:
        case UpgradeRequested(request, subprotocols):
            chosen = subprotocols[-1] if subprotocols else None
            conn.accept(subprotocol=chosen, headers=[("X-Extra", "1")])
            nonce = base64.b64decode(request.headers["sec-websocket-key"])
            client = Connection(Role.CLIENT, entropy=lambda _: nonce)
            client.request_upgrade("ws://localhost/chat", subprotocols=subprotocols)
            [opened] = client.receive_data(conn.data_to_send())
            assert isinstance(opened, Opened)
            assert opened.subprotocol == chosen
            assert conn.state is client.state is State.OPEN
        case RequestReceived(request):
            conn.respond(200, b"body")
            body = read_response(conn.data_to_send()).body
            assert body == (b"" if request.method == "HEAD" else b"body")
            assert conn.state is State.CLOSED


@given(ANY_RESPONSE, st.booleans(), CUTS)
def test_a_client_before_the_answer(data: bytes, accept_npm_handshake: bool, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[Event], bytes]:
        conn = Connection(Role.CLIENT, entropy=lambda size: (NONCE * 64)[:size])
        conn.request_upgrade(
            "ws://localhost/chat", subprotocols=["a"], accept_npm_handshake=accept_npm_handshake
        )
        conn.data_to_send()
        return connection_outcome(conn, chunks)

    same_for_any_chunks(lambda chunks: comparable(outcome(chunks)), data, cuts)
    events, answer = outcome([data] if data else [])
    if not isinstance(events[0], Opened):
        assert len(events) == 1
        assert answer == b""

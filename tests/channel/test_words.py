"""Why there is no connection, and what to change: the words for each kind of wrong port."""

from __future__ import annotations

import pytest

from stelar_proto.channel.words import explain, words_for
from stelar_proto.errors import (
    FrameError,
    FrameTooLarge,
    HandshakeError,
    PeerError,
    PeerTimeout,
    ProxyError,
    StreamEnded,
    UpgradeRefused,
)
from stelar_proto.ws import Headers
from stelar_proto.ws.http1 import Response

LIMIT = 10 * 1024 * 1024


def refusal(status: int, body: bytes = b"", kind: str | None = "text/plain; charset=utf-8") -> UpgradeRefused:
    headers = Headers({} if kind is None else {"Content-Type": kind})
    return UpgradeRefused(Response(status, "Why", headers, body))


def too_large(start: bytes) -> FrameTooLarge:
    return FrameTooLarge(size=int.from_bytes(start), limit=LIMIT)


def no_tls() -> OSError:
    error = OSError(1, "[SSL] record layer failure")
    error.reason = "RECORD_LAYER_FAILURE"  # type: ignore[attr-defined]  # as ssl.SSLError has it
    return error


REFUSED = "the server refused the upgrade: HTTP "


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal(503, b"Server full\n"), REFUSED + "503 Why: Server full"),
        (refusal(403, b" \n Not you\r\nline two"), REFUSED + "403 Why: Not you"),
        (refusal(403, b"x" * 500), REFUSED + "403 Why: " + "x" * 200),
        (refusal(403, "ñ ☃".encode()), REFUSED + "403 Why: ñ ☃"),
        (refusal(403, b"\x1b[31mred"), REFUSED + "403 Why"),  # no terminal is painted by a server
        (refusal(403, b""), REFUSED + "403 Why"),
        (refusal(404, b"<html>", "text/html"), REFUSED + "404 Why"),
        (refusal(404, b"what", None), REFUSED + "404 Why"),
        (
            refusal(200, b"<html>", "text/html"),
            REFUSED + "200 Why; something other than a WebSocket server answers there: "
            "check the port and the path",
        ),
        (HandshakeError(0, "what it says"), "what it says"),
        (PeerTimeout("no handshake within 1 s"), "no handshake within 1 s"),
        (no_tls(), "the server does not speak TLS on this port: use ws://, or the port on which it does"),
    ],
)
def test_over_websocket(error: Exception, words: str) -> None:
    assert explain(error, wire="ws", secure=False) == words


FIRST = "; a server of this protocol speaks first: if this is its WebSocket port, use "


@pytest.mark.parametrize(
    ("error", "plain", "secure"),
    [
        (
            too_large(b"HTTP"),
            "the server speaks HTTP on this port: use ws://, or the port of its TCP protocol",
            "the server speaks HTTP on this port: use wss://, or the port of its TCP protocol",
        ),
        (too_large(b"\x15\x03\x03\x00"), *["the server speaks TLS on this port: use tcps://"] * 2),
        (too_large(b"\x7f\0\0\0"), *["a frame of 2130706432 bytes; the limit is 10485760 bytes"] * 2),
        (
            FrameError("UNKNOWN_FRAME_TYPE", "type 11"),
            *["type 11; is tcp_dialect what the server has?"] * 2,
        ),
        (FrameError("INVALID_FRAME_SIZE", "a frame of 0 bytes"), *["a frame of 0 bytes"] * 2),
        (
            PeerTimeout("no handshake within 1 s"),
            f"no handshake within 1 s{FIRST}ws://; if it speaks TLS, use tcps://",
            f"no handshake within 1 s{FIRST}wss://",
        ),
        (
            StreamEnded("it ended"),
            f"it ended{FIRST}ws://; if it speaks TLS, use tcps://",
            f"it ended{FIRST}wss://",
        ),
        (PeerError("Server full"), "Server full", "Server full"),
        (
            no_tls(),
            *["the server does not speak TLS on this port: use tcp://, or the port on which it does"] * 2,
        ),
    ],
)
def test_over_tcp(error: Exception, plain: str, secure: str) -> None:
    assert explain(error, wire="tcp", secure=False) == plain
    assert explain(error, wire="tcp", secure=True) == secure


def test_a_refusal_by_the_proxy_is_none_by_the_server() -> None:
    error = ProxyError("the proxy x:1: connection refused")
    error.__cause__ = ConnectionRefusedError()
    assert words_for(error) == "the proxy x:1: connection refused"
    assert words_for(ConnectionRefusedError(111, "Connect call failed")) == "connection refused"


@pytest.mark.parametrize(
    ("start", "looks_like"),
    [
        (b"GET ", "HTTP"),
        (b"HTTP", "HTTP"),
        (b"\x16\x03\x01\x02", "TLS"),
        (b"\x15\x03\x03\x00", "TLS"),
        (b"\x16\x04\x00\x00", None),
        (b"SSH-", None),
    ],
)
def test_a_frame_that_is_none_says_what_it_looks_like(start: bytes, looks_like: str | None) -> None:
    error = too_large(start)
    assert error.looks_like == looks_like
    assert (f"(it looks like {looks_like}, which is no protocol of this port)" in str(error)) == bool(
        looks_like
    )
    assert FrameTooLarge(size=int.from_bytes(start), limit=1, what="payload").looks_like is None

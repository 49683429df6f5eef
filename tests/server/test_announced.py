"""TCP clients behind a proxy that speaks the PROXY protocol."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.server.house import House
from tests.server.limiters import AsyncTracker
from tests.server.test_limited_addresses import PROXY, assert_refused, counts
from tests.support.memory import RawStream
from tests.support.virtual import VirtualEvent
from tests.support.wires import TcpClient, frame

HEADER = b"PROXY TCP4 198.51.100.7 10.0.0.9 50000 3001\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([198, 51, 100, 7, 10, 0, 0, 9]) + b"\xc3\x50\x0b\xb9"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"
HELLO = b"\0\0\0\x10\6\0\7connectc1"


def serve(house: House, **options: Any) -> list[tuple[str, Any]]:
    """Start a server behind a proxy; return what its clients say, and where they come from."""
    house.serve(trusted_proxies=["10.0.0.0/8"], proxy_protocol=True, **options)
    seen: list[tuple[str, Any]] = []
    house.server.on("x", lambda ctx: seen.append((ctx.client_info.remote_address, ctx.data)))
    return seen


def connect(house: House, peer: str | None = PROXY) -> RawStream:
    return house.server.connect("tcp", peer)


@pytest.mark.parametrize(
    ("header", "address"),
    [(HEADER, "198.51.100.7"), (BINARY, "198.51.100.7"), (LOCAL, PROXY), (UNKNOWN, PROXY)],
)
@pytest.mark.parametrize("glued", [True, False])
def test_the_client_is_who_the_proxy_says_it_is(
    house: House, header: bytes, address: str, glued: bool
) -> None:
    seen = serve(house)
    stream = connect(house)
    assert stream.take() == b"", "nothing is said before the header has come"
    chunks = [header + frame(0, "x", b"1")] if glued else [bytes([byte]) for byte in header]
    for chunk in chunks:
        stream.send(chunk)
    assert stream.take() == HELLO
    if not glued:
        stream.send(frame(0, "x", b"1"))
    assert seen == [(address, 1)]
    assert counts(house) == {address: 1}
    stream.end()
    assert counts(house) == {}


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (frame(0, "x", b"1"), "the stream does not begin with a PROXY header"),
        (b"PROXY TCP4 nonsense\r\n", "a PROXY line is TCP4, TCP6 or UNKNOWN, two addresses and two ports"),
    ],
)
def test_what_comes_without_a_header_or_with_a_broken_one_is_refused(
    house: House, sent: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen = serve(house)
    stream = connect(house)
    stream.send(sent + HEADER + frame(0, "x", b"2"))
    assert_refused(stream, "tcp", words=words)
    assert f"refused {PROXY}: {words}" in caplog.text
    stream.send(HEADER + frame(0, "x", b"3"))
    stream.end()
    assert seen == []
    assert counts(house) == {}


@pytest.mark.parametrize("peer", ["203.0.113.9", None])
def test_who_is_not_a_trusted_proxy_is_refused_whatever_it_says(house: House, peer: str | None) -> None:
    seen = serve(house)
    stream = connect(house, peer)
    stream.send(HEADER + frame(0, "x", b"1"))
    assert_refused(stream, "tcp", words="connections are taken from trusted proxies only")
    assert seen == []


def test_the_header_has_the_time_of_the_handshake(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stelar.server")
    serve(house, connect_timeout=3)
    stream = connect(house)
    house.loop.advance(2.9)
    stream.send(HEADER[:-1])
    assert not stream.is_cut
    house.loop.advance(0.1)
    assert stream.is_cut
    assert "no handshake within 3 s" in caplog.text


@pytest.mark.parametrize("sent", [b"", HEADER[:10]])
def test_who_leaves_before_its_header_has_come_is_forgotten(house: House, sent: bytes) -> None:
    serve(house)
    stream = connect(house)
    if sent:
        stream.send(sent)
    stream.end()
    assert stream.has_ended
    assert counts(house) == {}
    assert house.server.get_stats().total_connections == 0


def test_announced_clients_are_counted_apart(house: House) -> None:
    serve(house, max_connections_per_ip=1)
    first, second, third = (connect(house) for _ in range(3))
    first.send(HEADER)
    second.send(HEADER)
    third.send(HEADER.replace(b"100.7", b"100.8"))
    TcpClient(first).open()
    assert_refused(second, "tcp")
    TcpClient(third).open()


def test_a_tracker_that_takes_its_time_keeps_what_comes_behind_the_header(house: House) -> None:
    tracker = AsyncTracker()
    seen = serve(house, ip_tracker=tracker)
    gate = tracker.gates["check"] = VirtualEvent()
    stream = connect(house)
    stream.send(HEADER + frame(0, "x", b"1"))
    stream.send(frame(0, "x", b"2"))
    assert (seen, stream.take()) == ([], b"")
    gate.set()
    house.loop.run_until_idle()
    assert stream.take() == HELLO
    assert seen == [("198.51.100.7", 1), ("198.51.100.7", 2)]


def test_websocket_is_not_concerned(house: House) -> None:
    serve(house)
    house.connect("ws")


def test_a_header_that_comes_when_the_server_stops_comes_too_late(house: House) -> None:
    serve(house)
    stream = connect(house)
    stopping = house.start(house.server.stop())
    stream.send(HEADER)
    assert stream.take() == b""
    assert stream.is_cut
    assert stopping.is_done

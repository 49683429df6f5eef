"""Compression between a server and its clients: what is compressed, once, and for whom."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

import pytest

from stelar_proto.server import Context, ServerConfig
from stelar_proto.ws import PerMessageDeflate
from tests.server.house import House
from tests.support.memory import RawStream, VirtualClient
from tests.support.wires import UPGRADE, masked, to_json

OFFER = "permessage-deflate"
LONG = "hola " * 1000
COMPRESSED_TEXT, COMPRESSED_BINARY, TEXT = 0xC1, 0xC2, 0x81


class Browser:
    """A client by hand that may offer compression; it keeps no context of what it hears."""

    def __init__(self, stream: RawStream, offer: str | None) -> None:
        self.stream = stream
        field = b"" if offer is None else f"Sec-WebSocket-Extensions: {offer}\r\n".encode()
        stream.send(UPGRADE[:-2] + field + b"\r\n")
        head, _, self._buffer = stream.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        answered = head.partition(b"Sec-WebSocket-Extensions: ")[2].partition(b"\r\n")[0]
        self.answer = answered.decode() or None
        self.frames()

    def say(self, event: str, data: object) -> None:
        """Send an event, compressed."""
        compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
        message = compressor.compress(to_json({"event": event, "data": data}))
        message += compressor.flush(zlib.Z_SYNC_FLUSH)
        compressed = masked(1, message[:-4])
        self.stream.send(bytes([COMPRESSED_TEXT]) + compressed[1:])

    def frames(self) -> list[tuple[int, bytes]]:
        """What came since the last call: first bytes and payloads."""
        self._buffer += self.stream.take()
        frames = []
        while self._buffer:
            size, start = self._buffer[1], 2
            extra = {126: 2, 127: 8}.get(size, 0)
            if extra:
                size = int.from_bytes(self._buffer[2 : 2 + extra])
            start += extra
            frames.append((self._buffer[0], self._buffer[start : start + size]))
            self._buffer = self._buffer[start + size :]
        return frames


def inflate(payload: bytes, bits: int = 15) -> bytes:
    return zlib.decompressobj(-bits).decompress(payload + b"\0\0\xff\xff")


def connect(house: House, offer: str | None = OFFER) -> Browser:
    return Browser(house.stream("ws"), offer)


def expected(event: str, data: object) -> bytes:
    return to_json({"event": event, "data": data})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many compressors were made, by their window bits."""
    made: Counter[int] = Counter()
    real = zlib.compressobj

    def compressobj(level: int, method: int, wbits: int, *more: Any) -> Any:
        made[-wbits] += 1
        return real(level, method, wbits, *more)

    monkeypatch.setattr(zlib, "compressobj", compressobj)
    return made


def test_a_server_compresses_only_if_it_was_told_to(house: House) -> None:
    house.serve()
    browser = connect(house)
    assert browser.answer is None
    house.server.broadcast("news", LONG)
    house.loop.run_until_idle()
    assert browser.frames() == [(TEXT, expected("news", LONG))]


def test_a_broadcast_is_compressed_once_for_all_who_can_have_it(house: House, counted: Counter[int]) -> None:
    house.serve(compression=True)
    browsers = [connect(house) for _ in range(5)]
    assert {browser.answer for browser in browsers} == {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    }
    plain, tcp = connect(house, None), house.connect("tcp")
    assert plain.answer is None
    assert house.server.broadcast("news", LONG) == 7
    assert counted.total() == 1
    house.loop.run_until_idle()
    frames = [browser.frames() for browser in browsers]
    assert frames == [frames[0]] * 5
    [(first_byte, payload)] = frames[0]
    assert first_byte == COMPRESSED_TEXT
    assert inflate(payload) == expected("news", LONG)
    assert plain.frames() == [(TEXT, expected("news", LONG))]
    assert tcp.heard() == [("event", "news", LONG)]


def test_clients_with_smaller_windows_get_what_fits_them(house: House, counted: Counter[int]) -> None:
    house.serve(compression=True)
    text = "".join(map(str, range(3000))) * 2
    windows = (8, 9, 12, 15, 12)
    browsers = [connect(house, f"{OFFER}; server_max_window_bits={bits}") for bits in windows]
    house.server.broadcast("news", text)
    assert counted.total() == 4
    house.loop.run_until_idle()
    for browser, bits in zip(browsers, windows, strict=True):
        [(first_byte, payload)] = browser.frames()
        assert first_byte == COMPRESSED_TEXT
        assert inflate(payload, bits) == expected("news", text)


def test_everything_long_that_a_client_is_told_is_compressed(house: House) -> None:
    house.serve(compression=PerMessageDeflate(min_size=200))

    @house.server.on("ask")
    def answer(ctx: Context) -> None:
        ctx.emit("long", ctx.data)
        ctx.emit_binary("bytes", bytes(300))
        ctx.emit("short", "x")

    browser = connect(house)
    for _ in range(2):  # no message refers to another
        browser.say("ask", LONG)
        (first, text), (second, data), (third, short) = browser.frames()
        assert (first, second, third) == (COMPRESSED_TEXT, COMPRESSED_BINARY, TEXT)
        assert inflate(text) == expected("long", LONG)
        assert inflate(data) == to_json({"event": "bytes", "_binary": True}) + b"\0" + bytes(300)
        assert short == expected("short", "x")


def test_a_client_that_inflates_beyond_the_limit_is_closed_with_1009(house: House) -> None:
    house.serve(compression=True, max_payload_size=1000)
    handled: list[Context] = []
    house.server.on_all(handled.append)
    browser, other = connect(house), connect(house)
    browser.say("bomb", "x" * 100_000)
    assert browser.frames() == [
        (0x88, (1009).to_bytes(2) + b"a compressed message inflates to more than 1000 bytes")
    ]
    other.say("fine", "x")
    assert [context.event for context in handled] == ["fine"]


def test_server_and_client_compress_both_ways(house: House, counted: Counter[int]) -> None:
    house.serve(compression=True, max_payload_size=2_000_000)
    house.server.on("echo", lambda ctx: ctx.emit("echoed", ctx.data))
    client = VirtualClient(house.network, "localhost:3000", compression=True)
    heard: list[object] = []
    client.on("echoed", heard.append)
    house.loop.run(client.connect())
    for data in (LONG, "short", LONG):
        client.emit("echo", data)
    house.loop.run_until_idle()
    assert heard == [LONG, "short", LONG]
    assert counted.total() == 4
    house.loop.run(client.disconnect())


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ("deflate", "compression must be True, False or a PerMessageDeflate, not 'deflate'"),
        (
            PerMessageDeflate(server_no_context_takeover=False),
            "compression must leave server_no_context_takeover on: a message to many is compressed once",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(compression: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerConfig(compression=compression)


def test_clients_may_take_context_over() -> None:
    settings = PerMessageDeflate(client_no_context_takeover=False)
    assert ServerConfig(compression=settings).session_config().compression is settings
    assert ServerConfig().session_config().compression is None


def test_compression_may_be_changed_for_those_who_come_later(house: House) -> None:
    house.serve()
    early = connect(house)
    house.server.update_config(compression=True)
    late = connect(house)
    house.server.broadcast("news", LONG)
    house.loop.run_until_idle()
    assert [early.frames()[0][0], late.frames()[0][0]] == [TEXT, COMPRESSED_TEXT]
    assert house.server.get_config().compression is True

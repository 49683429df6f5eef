"""Compression of plain connections (RFC 7692), of either role, with a peer made by hand."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from stelar_proto.errors import ConnectionClosed, InvalidDeflate
from stelar_proto.plain import ConnectConfig, PerMessageDeflate, ServeConfig, WebSocketConnection
from tests.plain.house import BINARY, PORT, TEXT, House, RawPeer, accept
from tests.support.memory import VirtualConnector
from tests.support.wires import UPGRADE

RSV1 = 0x40
EAGER = PerMessageDeflate(server_no_context_takeover=False, client_no_context_takeover=False, min_size=0)
SAID = b"Sec-WebSocket-Extensions: permessage-deflate"


class Compressor:
    """The peer's: takes context over."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(9, zlib.DEFLATED, -15)

    def __call__(self, data: bytes) -> bytes:
        return (self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Decompressor:
    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(-15)

    def __call__(self, payload: bytes) -> bytes:
        return self._decompressor.decompress(payload + b"\0\0\xff\xff")


def open_compressed(house: House, **options: Any) -> tuple[WebSocketConnection, RawPeer]:
    """As ``house.open``; the peer says no more than ``permessage-deflate``."""
    options = {"compression": EAGER, **options}
    if house.role == "server":
        house.serve(**options)
        peer = house.raw_client(UPGRADE[:-2] + SAID + b"\r\n\r\n")
        return house.connections[-1], peer
    accepted = house.network.listen_raw(PORT)
    entering = house.start(VirtualConnector(house.network, **options).__aenter__())
    stream = accepted[0]
    stream.send(accept(stream.take(), SAID))
    return entering.result(), RawPeer(stream, masks=False)


def test_messages_are_compressed_both_ways_with_one_context_each(house: House) -> None:
    connection, peer = open_compressed(house)
    assert connection.compression == (False, False, 15, 15)
    compress, decompress = Compressor(), Decompressor()
    for message in ("hola, hola, hola", "hola, hola, hola", b"bytes and bytes and bytes" * 10):
        house.run(connection.send(message))
        [(first_byte, payload)] = peer.heard()
        data = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        assert first_byte == opcode | RSV1
        assert decompress(payload) == data
        peer.stream.send(peer.frame(opcode | RSV1, compress(data)))
        assert house.run(connection.recv()) == message


def test_a_message_in_fragments_is_compressed_as_one(house: House) -> None:
    connection, peer = open_compressed(house)
    house.run(connection.send_fragments(["hola, ", "", "hola"]))
    (first, one), (second, two), (third, three) = peer.heard()
    assert (first, second, third) == (0x01 | RSV1, 0x00, 0x80)
    assert Decompressor()(one + two + three) == b"hola, hola"


def test_parts_of_a_compressed_message_come_as_they_are(house: House) -> None:
    connection, peer = open_compressed(house)

    async def parts() -> list[Any]:
        return [part async for part in connection.recv_parts()]

    receiving = house.start(parts())
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    fragments = [compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in (b"one", b"two")]
    peer.stream.send(peer.frame(0x01 | RSV1, fragments[0]))
    peer.stream.send(peer.frame(0x80, fragments[1][:-4]))
    assert receiving.result() == ["one", "two"]


def test_an_inflated_message_counts_for_the_inbox_as_it_is(house: House) -> None:
    connection, peer = open_compressed(house, inbox_size=10_000)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(bytes(20_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    peer.stream.send(peer.frame(0x02 | RSV1, data))  # it does not end the message
    assert connection._endpoint.paused
    receiving = house.start(connection.recv())
    peer.stream.send(peer.frame(0x80, b"\0"))
    assert receiving.result() == bytes(20_000)


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x07", 1007), (Compressor()(bytes(1001)), 1009), (Compressor()(b"\xff"), 1007)]
)
def test_what_is_wrong_with_a_message_ends_the_connection(house: House, payload: bytes, code: int) -> None:
    connection, peer = open_compressed(house, max_size=1000)
    peer.stream.send(peer.frame(TEXT | RSV1, payload))
    with pytest.raises(ConnectionClosed) as caught:
        house.run(connection.recv())
    assert caught.value.code == code
    assert isinstance(caught.value.error, InvalidDeflate) is (payload == b"\x07")
    [(first_byte, reason)] = peer.heard()
    assert (first_byte, reason[:2]) == (0x88, code.to_bytes(2))


def test_without_the_option_nothing_is_agreed_upon(house: House) -> None:
    connection, peer = house.open()
    assert connection.compression is None
    house.run(connection.send("x" * 2000))
    assert peer.heard() == [(TEXT, b"x" * 2000)]


def test_the_defaults_leave_short_messages_alone(serving: House) -> None:
    serving.serve(compression=True)
    peer = serving.raw_client(UPGRADE[:-2] + SAID + b"\r\n\r\n")
    connection = serving.connections[-1]
    assert connection.compression == (True, True, 15, 15)
    for size, first_byte in ((1023, TEXT), (1024, TEXT | RSV1)):
        serving.run(connection.send("x" * size))
        assert peer.heard()[0][0] == first_byte


@pytest.mark.parametrize("config", [ServeConfig, ConnectConfig])
def test_an_option_that_makes_no_sense_is_named_with_the_others(config: Any) -> None:
    with pytest.raises(ValueError, match=r"inbox_size must .*; compression must be True, False or a Per"):
        config(compression=6, inbox_size=0)
    for option in (True, False, None, EAGER):
        assert config(compression=option).compression is option

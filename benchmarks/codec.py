"""What the codecs cost per message, beside wsproto and the Sans-I/O layer of websockets.

``python benchmarks/codec.py`` prints tables, ``--quick`` fewer rounds in less than 20 seconds; README.md in
this folder says how to read them. Nothing is asserted: times are the machine's, and only ratios travel.

Every codec is driven by a class with the same three operations: ``feed`` chunks and count the messages in
them, ``encode_text``, ``encode_binary``. A measurement runs one of them on all codecs in turn, round after
round, so that whatever else the machine does hits all of them; what is shown is the median of the rounds. The
clock is that of the process, which stands still while others run.
"""

from __future__ import annotations

import argparse
import gc
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from os import urandom
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Protocol, TypeAlias

from stelar_proto import tcp, ws
from stelar_proto.ws.frames import encode_frame

if TYPE_CHECKING:
    import websockets.protocol
    import wsproto.connection

KIB, MIB = 1024, 1024 * 1024
MASK = b"\xb7\xfa\x21\x3d"  # as most are: a number of 32 bits, which takes Python longer than one of 30
TCP_HEAD_SIZE = 7 + len("chat")
SIZES = {16: "16 B", 125: "125 B", KIB: "1 KiB", 64 * KIB: "64 KiB", MIB: "1 MiB"}

Measurement: TypeAlias = Callable[[], int]
"""Does something to some messages, and returns to how many."""


# --- The codecs -------------------------------------------------------------------------------------------


class Codec(Protocol):
    """One open connection. A server reads masked frames and writes unmasked ones, a client the reverse."""

    name: str

    def __init__(self, *, is_server: bool) -> None: ...

    def feed(self, chunks: Iterable[bytes]) -> int:
        """Parse ``chunks`` to whole messages, text as str, and return how many those were."""
        ...

    def encode_text(self, text: str, count: int) -> int:
        """Encode so many messages, each to the bytes that a socket would be given."""
        ...

    def encode_binary(self, data: bytes, count: int) -> int: ...


class Stelar:
    name = "stelar_proto.ws"
    way = "directly"

    def __init__(self, *, is_server: bool) -> None:
        server, client = ws.Connection(ws.Role.SERVER), ws.Connection(ws.Role.CLIENT, entropy=urandom)
        client.request_upgrade("ws://localhost/")
        server.receive_data(client.data_to_send())
        server.accept()
        client.receive_data(server.data_to_send())
        self._conn = server if is_server else client

    def feed(self, chunks: Iterable[bytes]) -> int:
        conn, messages = self._conn, (ws.TextReceived, ws.BinaryReceived)
        count = 0
        for chunk in chunks:
            for event in conn.receive_data(chunk):
                if isinstance(event, messages):
                    count += 1
        return count

    def encode_text(self, text: str, count: int) -> int:
        conn, opcode = self._conn, int(ws.Opcode.TEXT)
        for _ in range(count):
            conn.encode_message(opcode, text.encode())
        return count

    def encode_binary(self, data: bytes, count: int) -> int:
        conn, opcode = self._conn, int(ws.Opcode.BINARY)
        for _ in range(count):
            conn.encode_message(opcode, data)
        return count


class StelarQueue(Stelar):
    """The same by way of the codec's own queue, as websockets does it.

    Our servers and clients have a queue behind the codec and go without this one.
    """

    way = "queued"

    def encode_text(self, text: str, count: int) -> int:
        conn = self._conn
        for _ in range(count):
            conn.send_text(text)
            conn.data_to_send()
        return count

    def encode_binary(self, data: bytes, count: int) -> int:
        conn = self._conn
        for _ in range(count):
            conn.send_binary(data)
            conn.data_to_send()
        return count


class Websockets:
    name = "websockets"

    def __init__(self, *, is_server: bool) -> None:
        from websockets.client import ClientProtocol
        from websockets.frames import Frame, Opcode
        from websockets.protocol import State
        from websockets.server import ServerProtocol
        from websockets.uri import parse_uri

        self._frame_type, self._text = Frame, Opcode.TEXT
        self._protocol: websockets.protocol.Protocol
        if is_server:
            self._protocol = ServerProtocol(state=State.OPEN, max_size=None)
        else:
            uri = parse_uri("ws://localhost/")
            self._protocol = ClientProtocol(uri, state=State.OPEN, max_size=None)

    def feed(self, chunks: Iterable[bytes]) -> int:
        protocol, frame_type, text = self._protocol, self._frame_type, self._text
        count = 0
        for chunk in chunks:
            protocol.receive_data(chunk)
            for frame in protocol.events_received():
                if isinstance(frame, frame_type):
                    if frame.opcode is text:
                        frame.data.decode()  # type: ignore[union-attr]  # left to the layers above
                    count += 1
        return count

    def encode_text(self, text: str, count: int) -> int:
        protocol = self._protocol
        for _ in range(count):
            protocol.send_text(text.encode())
            protocol.data_to_send()
        return count

    def encode_binary(self, data: bytes, count: int) -> int:
        protocol = self._protocol
        for _ in range(count):
            protocol.send_binary(data)
            protocol.data_to_send()
        return count


class Wsproto:
    name = "wsproto"

    def __init__(self, *, is_server: bool) -> None:
        from wsproto.connection import Connection, ConnectionType
        from wsproto.events import BytesMessage, TextMessage

        role = ConnectionType.SERVER if is_server else ConnectionType.CLIENT
        self._conn: wsproto.connection.Connection = Connection(role)
        self._text_type, self._binary_type = self._messages = TextMessage, BytesMessage

    def feed(self, chunks: Iterable[bytes]) -> int:
        conn, messages = self._conn, self._messages
        count = 0
        parts: list[object] = []
        for chunk in chunks:
            conn.receive_data(chunk)
            for event in conn.events():
                if isinstance(event, messages):
                    parts.append(event.data)
                    if event.message_finished:
                        if len(parts) > 1:  # it hands out what came of a message with each chunk
                            event.data[:0].join(parts)  # type: ignore[arg-type]
                        parts.clear()
                        count += 1
        return count

    def encode_text(self, text: str, count: int) -> int:
        conn, text_type = self._conn, self._text_type
        for _ in range(count):
            conn.send(text_type(data=text))
        return count

    def encode_binary(self, data: bytes, count: int) -> int:
        conn, binary_type = self._conn, self._binary_type
        for _ in range(count):
            conn.send(binary_type(data=data))
        return count


class StelarTcp:
    """The binary TCP format, which has no masks and no roles; its text is JSON."""

    name = "stelar_proto.tcp"

    def __init__(self, *, is_server: bool) -> None:
        self._conn = tcp.Connection()

    def feed(self, chunks: Iterable[bytes]) -> int:
        conn, frame_type, json = self._conn, tcp.FrameReceived, tcp.FrameType.JSON
        count = 0
        for chunk in chunks:
            for event in conn.receive_data(chunk):
                if isinstance(event, frame_type):
                    if event.type is json:
                        event.payload.decode()  # left by this layer to those above it
                    count += 1
        return count

    def encode_text(self, text: str, count: int) -> int:
        kind = tcp.FrameType.JSON
        for _ in range(count):
            tcp.encode_frame(kind, "chat", text.encode())
        return count

    def encode_binary(self, data: bytes, count: int) -> int:
        kind = tcp.FrameType.BINARY
        for _ in range(count):
            tcp.encode_frame(kind, "chat", data)
        return count


def installed(codecs: Sequence[type[Codec]]) -> list[type[Codec]]:
    """Those of ``codecs`` that can be imported; for the others a line says how to get them."""
    found = []
    for codec in codecs:
        try:
            codec(is_server=True)
        except ImportError:
            print(f"{codec.name} is not installed and left out: pip install {codec.name}")
        else:
            found.append(codec)
    return found


# --- Measuring --------------------------------------------------------------------------------------------


def measure(operations: Sequence[Measurement], rounds: int, *, warm_up: bool = True) -> list[list[float]]:
    """Run all ``operations`` in turn, ``rounds`` times; return for each its seconds per message, by round."""
    if warm_up:
        for operation in operations:
            operation()  # fills caches, which is not what is measured
    seconds: list[list[float]] = [[] for _ in operations]
    for _ in range(rounds):
        for operation, times in zip(operations, seconds, strict=True):
            gc.collect()
            start = process_time()
            count = operation()
            times.append((process_time() - start) / count)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How much of their time ours takes, compared round by round."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def frames_for(size: int) -> int:
    """How many messages one measurement handles: about a MiB of them, but no more than a thousand."""
    return max(2, min(1000, MIB // size))


def payload_of(size: int) -> bytes:
    return (b'{"event":"chat","data":"hola"} ' * (size // 31 + 1))[:size]


def websocket_frame(size: int, *, masked: bool, is_text: bool) -> bytes:
    opcode = ws.Opcode.TEXT if is_text else ws.Opcode.BINARY
    return encode_frame(opcode, payload_of(size), mask=MASK if masked else None)


def tcp_frame(size: int, *, is_text: bool) -> bytes:
    kind = tcp.FrameType.JSON if is_text else tcp.FrameType.BINARY
    return tcp.encode_frame(kind, "chat", payload_of(size))


def chunked(frame: bytes, shape: str) -> list[bytes]:
    """So many frames as one measurement takes, in chunks of this shape."""
    count = frames_for(len(frame))
    match shape:
        case "one chunk":
            return [frame * count]
        case "a chunk each":
            return [frame] * count
        case _:
            reads = [frame[start : start + 64 * KIB] for start in range(0, len(frame), 64 * KIB)]
            return reads * count


def parsing(codec: Codec, chunks: list[bytes]) -> Measurement:
    return lambda: codec.feed(chunks)


def encoding(codec: Codec, size: int, *, is_text: bool) -> Measurement:
    data, count = payload_of(size), frames_for(size)
    if is_text:
        text = data.decode()
        return lambda: codec.encode_text(text, count)
    return lambda: codec.encode_binary(data, count)


# --- The tables -------------------------------------------------------------------------------------------


def print_row(name: str, cells: Iterable[str]) -> None:
    print(f"{name:<54}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def print_head(title: str, columns: Iterable[str]) -> None:
    print(f"\n{title}")
    print_row("", columns)


def kinds() -> Iterator[tuple[bool, bool, str]]:
    for masked in (True, False):
        for is_text in (True, False):
            yield masked, is_text, f"{'masked' if masked else 'unmasked'} {'text' if is_text else 'binary'}"


def compare_parsing(codecs: Sequence[type[Codec]], rounds: int) -> None:
    print_head("Parsing, bytes to messages", ["µs", *(f"/ {codec.name}" for codec in codecs[1:])])
    for size, size_name in SIZES.items():
        for masked, is_text, kind in kinds():
            frame = websocket_frame(size, masked=masked, is_text=is_text)
            for shape in ["one chunk", "a chunk each", *(["64 KiB reads"] if size == MIB else [])]:
                chunks = chunked(frame, shape)
                operations = [parsing(codec(is_server=masked), chunks) for codec in codecs]
                print_comparison(f"{size_name:>6} {kind}, {shape}", measure(operations, rounds))


def compare_encoding(peers: Sequence[type[Codec]], rounds: int) -> None:
    print_head("Encoding, messages to bytes", ["µs", *(f"/ {codec.name}" for codec in peers)])
    for size, size_name in SIZES.items():
        for masked, is_text, kind in kinds():
            for ours in (Stelar, StelarQueue):
                codecs: list[type[Codec]] = [ours, *peers]
                operations = [
                    encoding(codec(is_server=not masked), size, is_text=is_text) for codec in codecs
                ]
                print_comparison(f"{size_name:>6} {kind}, {ours.way}", measure(operations, rounds))


def compare_tcp(rounds: int) -> None:
    print_head("TCP frames, beside our WebSocket frames", ["µs", "/ masked", "/ unmasked"])
    for size, size_name in SIZES.items():
        for is_text in (True, False):
            kind = "JSON" if is_text else "binary"
            for shape in ("one chunk", "a chunk each"):
                operations = [
                    parsing(StelarTcp(is_server=True), chunked(tcp_frame(size, is_text=is_text), shape))
                ]
                for masked in (True, False):
                    frame = websocket_frame(size, masked=masked, is_text=is_text)
                    operations.append(parsing(Stelar(is_server=masked), chunked(frame, shape)))
                print_comparison(f"{size_name:>6} {kind} parsed, {shape}", measure(operations, rounds))
            operations = [
                encoding(codec, size, is_text=is_text)
                for codec in (StelarTcp(is_server=True), Stelar(is_server=False), Stelar(is_server=True))
            ]
            print_comparison(f"{size_name:>6} {kind} encoded", measure(operations, rounds))


def print_comparison(name: str, seconds: Sequence[Sequence[float]]) -> None:
    """One row: the time of the first, in µs per message, and what fraction of each other's that is."""
    first, *others = seconds
    print_row(name, [f"{median(first) * 1e6:.2f}", *(f"{ratio(first, other):.2f}" for other in others)])


def check_flatness(codec: Codec, frame_of: Callable[[int], bytes], size: int, rounds: int) -> None:
    """Ratios that are 1 when a byte costs the same wherever it stands and however it came."""
    whole, halves = frame_of(size), frame_of(size // 2) * 2
    operations = [partial(feed_bytewise, codec, data) for data in (whole, halves)]
    amount = f"{size // KIB:,} KiB" if size < MIB else f"{size // MIB} MiB"
    print_comparison(
        f"{codec.name}: {amount} in 1-byte chunks / two halves", measure(operations, 1, warm_up=False)
    )
    small = frame_of(125)
    feeds = [parsing(codec, chunks) for chunks in ([small * 10_000], [small * 100] * 100)]
    print_comparison(f"{codec.name}: 10,000 frames in 1 chunk / 100", measure(feeds, rounds))


def feed_bytewise(codec: Codec, data: bytes) -> int:
    """Feed ``data`` in chunks of one byte; return how many bytes that were."""
    codec.feed(data[at : at + 1] for at in range(len(data)))
    return len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the codecs cost, beside others.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: less than 20 seconds")
    quick: bool = parser.parse_args().quick
    rounds = 3 if quick else 15
    peers = installed([Websockets, Wsproto])
    versions = ", ".join(f"{peer.name} {version(peer.name)}" for peer in peers)
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}; {versions}")
    print("µs: ours, per message; / x: ours as a fraction of x's, so that below 1 ours is faster")
    compare_parsing([Stelar, *peers], rounds)
    compare_encoding(peers, rounds)
    compare_tcp(rounds)
    print_head("Flat cost, per byte and per frame", ["µs", "ratio"])
    size = 256 * KIB if quick else 10 * MIB
    masked = partial(websocket_frame, masked=True, is_text=False)
    check_flatness(Stelar(is_server=True), masked, size, rounds)
    framed = partial(tcp_frame, is_text=False)
    check_flatness(StelarTcp(is_server=True), lambda size: framed(size - TCP_HEAD_SIZE), size, rounds)


if __name__ == "__main__":
    main()

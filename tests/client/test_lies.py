"""A server that lies is named, to all who want to hear it, and then left for another attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import (
    ConnectError,
    ConnectionLost,
    FrameError,
    FrameTooLarge,
    HandshakeError,
    InvalidUtf8,
    MessageTooBig,
    PeerError,
    PeerFailure,
    PeerTimeout,
    StreamEnded,
    UpgradeRefused,
    WebSocketError,
)
from tests.client.house import SERVERS, House, RawServer, RawWebSocketServer
from tests.support.memory import VirtualClient
from tests.support.wires import frame, masked

Said: TypeAlias = Callable[[Any], list[bytes]]
"""What a server says, piece by piece; ``b""`` ends its stream."""


class Lie(NamedTuple):
    wire: str
    name: str
    say: Said
    error: type[Exception]
    """What it is called."""
    words: str
    """What is said of it, among others."""
    code: int = 0
    """With which close code the connection ends, if there was one."""

    def __str__(self) -> str:
        return f"{self.wire}-{self.name.replace(' ', '-')}"


def edited(old: bytes, new: bytes) -> Said:
    """The server's 101, in which something else stands."""

    def say(server: RawWebSocketServer) -> list[bytes]:
        accepted = server.accept()
        assert old in accepted
        return [accepted.replace(old, new)]

    return say


def bytewise(text: bytes) -> list[bytes]:
    return [text[place : place + 1] for place in range(len(text))]


OK = b"HTTP/1.1 200 OK\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"

INSTEAD_OF_A_WELCOME = [
    Lie("ws", "a wrong accept", lambda s: [s.accept(b"A" * 22 + b"==")], HandshakeError, "Accept"),
    Lie("ws", "no accept", edited(b"Sec-WebSocket-Accept:", b"X:"), HandshakeError, "Accept"),
    Lie("ws", "another protocol", edited(b"Upgrade: websocket", b"Upgrade: h2c"), HandshakeError, "Upgrade"),
    Lie("ws", "no upgrade", edited(b"Connection: Upgrade", b"Connection: close"), HandshakeError, "Upgrade"),
    Lie(
        "ws", "a subprotocol that was not asked for",
        edited(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"), HandshakeError, "subprotocol",
    ),
    Lie(
        "ws", "an extension that was not offered",
        edited(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x-rot13\r\n\r\n"), HandshakeError, "an extension",
    ),
    Lie("ws", "HTTP 1.0", edited(b"HTTP/1.1", b"HTTP/1.0"), HandshakeError, "HTTP"),
    Lie("ws", "a plain answer", lambda _: [OK + b"Content-Length: 2\r\n\r\nhi"], UpgradeRefused, "HTTP 200"),
    Lie("ws", "an endless answer", lambda _: [OK + b"\r\n", *[b"x" * 9999] * 50], UpgradeRefused, "HTTP 200"),
    Lie("ws", "endless headers", lambda _: [SWITCH, *[b"X: y\r\n" * 99] * 99], HandshakeError, "header"),
    Lie("ws", "an endless header", lambda _: [SWITCH + b"X: ", *[b"y" * 999] * 99], HandshakeError, "head"),
    Lie("ws", "an endless status", lambda _: [b"HTTP/1.1 101 ", *[b"y" * 9999] * 50], HandshakeError, "line"),
    Lie("ws", "a status that is none", lambda _: [b"HTTP/1.1 OK 101\r\n\r\n"], HandshakeError, "status"),
    Lie("ws", "a greeting of mail", lambda _: [b"220 smtp.example.com ESMTP\r\n"], HandshakeError, "HTTP"),
    Lie("ws", "a TLS alert", lambda _: [b"\x15\x03\x01\x00\x02\x02\x28"], HandshakeError, "HTTP"),
    Lie("ws", "half an answer", lambda _: [SWITCH, b""], HandshakeError, "ended"),
    Lie("ws", "an answer by and by", lambda _: bytewise(SWITCH * 9), PeerTimeout, "no handshake within 4 s"),
    Lie(
        "ws", "nothing but 102", lambda _: [b"HTTP/1.1 102 Processing\r\n\r\n"] * 50,
        HandshakeError, "too many interim",
    ),
    Lie("ws", "silence", lambda _: [], PeerTimeout, "no handshake within 4 s"),
    Lie("tcp", "silence", lambda _: [], PeerTimeout, "no handshake within 4 s"),
    Lie("tcp", "half a frame", lambda _: [b"\0\0\0\x0f\6\0"], PeerTimeout, "no handshake within 4 s"),
    Lie("tcp", "a frame by and by", lambda _: bytewise(b"\0\0\1\0\6" * 9), PeerTimeout, "within 4 s"),
    Lie("tcp", "nothing but pings", lambda _: [frame(2, "", b"")] * 50, PeerTimeout, "within 4 s"),
    Lie("tcp", "nothing but pongs", lambda _: [frame(3, "", b"")] * 50, PeerTimeout, "within 4 s"),
    Lie("tcp", "an answer of HTTP", lambda _: [OK + b"\r\n"], FrameTooLarge, "speaks HTTP"),
    Lie("tcp", "an endless Connect frame", lambda _: [b"\xff" * 4], FrameTooLarge, "limit"),
    Lie("tcp", "a frame of another type", lambda _: [frame(0xEE, "connect", b"me")], FrameError, "type"),
    Lie("tcp", "an Error frame", lambda _: [frame(10, "error", b"Go away")], PeerFailure, "Go away"),
    Lie("tcp", "half a frame and the end", lambda _: [b"\0\0\0\x0f\6\0", b""], StreamEnded, "ended"),
]  # fmt: skip

IN_A_CONVERSATION = [
    Lie("ws", "a masked frame", lambda _: [masked(1, b'{"event":"x"}')], WebSocketError, "mask", 1002),
    Lie("ws", "an unknown frame", lambda _: [b"\x83\0"], WebSocketError, "opcode", 1002),
    Lie("ws", "compression", lambda _: [b"\xc1\0"], WebSocketError, "reserved bit", 1002),
    Lie("ws", "a ping of 126 bytes", lambda _: [b"\x89\x7e\0\x7e"], WebSocketError, "125", 1002),
    Lie("ws", "the end of nothing", lambda _: [b"\x80\0"], WebSocketError, "continu", 1002),
    Lie("ws", "the 101 again", lambda _: [SWITCH], WebSocketError, "reserved bit", 1002),
    Lie("ws", "a text that is none", lambda _: [b"\x81\1\xff"], InvalidUtf8, "UTF-8", 1007),
    Lie(
        "ws", "a size beyond limits", lambda _: [b"\x82\x7f\0\0\0\0\x40\0\0\0"], MessageTooBig, "limit", 1009
    ),
    Lie("ws", "a close code that is none", lambda _: [b"\x88\2\3\xed"], WebSocketError, "1005", 1002),
    Lie("ws", "half a frame and the end", lambda _: [b"\x81\x05ab", b""], StreamEnded, "ended", 1006),
    Lie("ws", "silence", lambda _: [], PeerTimeout, "sign of life", 1011),
    Lie("tcp", "silence", lambda _: [], PeerTimeout, "sign of life", 1011),
    Lie("tcp", "a size that is none", lambda _: [b"\0\0\0\6\0\0\0"], FrameError, "not 6", 1002),
    Lie("tcp", "a size beyond limits", lambda _: [b"\xff" * 4], FrameTooLarge, "limit", 1009),
    Lie("tcp", "a name beyond its frame", lambda _: [b"\0\0\0\x0a\0\0\4abc"], FrameError, "event", 1002),
    Lie("tcp", "a name that is none", lambda _: [b"\0\0\0\x09\0\0\2\xc3\x28"], FrameError, "UTF-8", 1007),
    Lie("tcp", "an unknown frame", lambda _: [frame(0xEE, "x", b"")], FrameError, "type", 1002),
    Lie("tcp", "an answer of HTTP", lambda _: [OK], FrameTooLarge, "limit", 1009),
    Lie("tcp", "half a frame and the end", lambda _: [b"\0\0\0\x0a", b""], StreamEnded, "ended", 1006),
]

DEEP = b"[" * 100_000

NO_MESSAGES: dict[str, dict[str, Said]] = {
    "ws": {
        "broken JSON": lambda _: [b'\x81\6{"even'],
        "a list": lambda _: [b"\x81\2[]"],
        "deep JSON": lambda _: [b"\x81\x7f" + len(DEEP).to_bytes(8) + DEEP],
        "a long number": lambda _: [b"\x81\x7e\x17\x70" + b"1" * 6000],
        "no name": lambda s: [s.text({"data": 1})],
        "a name that is a list": lambda s: [s.text({"event": ["x"]})],
        "a name of half a character": lambda _: [b'\x81\x12{"event":"\\ud800"}'],
        "an id that is a list": lambda s: [s.text({"event": "stelar:connect", "data": {"id": []}})],
        "an answer with a list for an id": lambda s: [s.answer("x", 1, ["e1"])],
        "an error that has no code": lambda s: [s.text({"event": "x", "_isAck": True, "_error": 5})],
        "a request that asks for nothing": lambda s: [s.text({"_ackName": "x", "event": None})],
        "a client's message": lambda s: [s.event("join-room", "hall")],
        "binary without a header": lambda _: [b"\x82\3abc"],
        "binary with half a header": lambda _: [b"\x82\4{no\0"],
        "another id": lambda s: [s.event("stelar:connect", {"id": "you"})],
    },
    "tcp": {
        "broken JSON": lambda _: [frame(0, "x", b"{no")],
        "deep JSON": lambda _: [frame(0, "x", DEEP)],
        "a long number": lambda _: [frame(0, "x", b"1" * 6000)],
        "JSON that is not UTF-8": lambda _: [frame(0, "x", b'"\xff"')],
        "no name": lambda _: [frame(0, "", b"1")],
        "an answer with broken JSON": lambda _: [frame(5, "x", b"{")],
        "an error that is a list": lambda _: [frame(10, "x", b"[]")],
        "an error that has no code": lambda _: [frame(10, "x", b'{"code":5}')],
        "a request that is a number": lambda _: [frame(4, "x", b"7")],
        "a client's message": lambda _: [frame(8, "join-room", b"hall")],
        "another Connect frame": lambda _: [frame(6, "connect", b"you")],
        "an id that is not UTF-8": lambda _: [frame(6, "connect", b"\xff")],
    },
}


class Faults(logging.Handler):
    """What was logged that no server can be the cause of: exceptions that nobody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Told:
    """Everything a client tells of itself, by each way that it has."""

    def __init__(self, house: House, **options: Any) -> None:
        self.house = house
        self.hooked: list[Exception] = []
        self.log: list[Any] = []
        self.faults = Faults()
        logger = logging.Logger("lies")
        logger.addHandler(self.faults)
        self.client: VirtualClient = house.client(
            reconnection=True, reconnection_attempts=None, connect_timeout=4,
            hooks={"on_error": lambda error: self.hooked.append(error)}, logger=logger, **options,
        )  # fmt: skip
        for event in ("connect", "disconnect", "error", "reconnecting", "reconnect_failed"):
            self.client.on(event, self._note(event))

    def _note(self, event: str) -> Any:
        return lambda *arguments: self.log.append((event, *arguments))

    def take(self) -> tuple[list[Any], list[Exception]]:
        """What was told since the last call."""
        taken = self.log, self.hooked
        self.log, self.hooked = [], []
        return taken

    def latest(self) -> RawServer:
        return SERVERS[self.house.wire](self.house.streams[-1])

    def is_well(self) -> None:
        """It has come to an honest server by the time the last of its waits is over, and can be used."""
        client, house = self.client, self.house
        known = len(house.streams)
        while not client.is_connected():
            assert client.get_state() == "reconnecting"
            if len(house.streams) > known:
                self.latest().open()
                known = len(house.streams)
            house.loop.advance(1)
        server = self.latest()
        server.stream.take()
        asked = house.start(client.request("x", 1))
        [(kind, ack, event, data, correlation_id)] = server.heard()
        assert (kind, event, data) == ("request", "x", 1)
        server.stream.send(server.answer(ack, 2, correlation_id))
        assert asked.result() == 2
        house.start(client.disconnect())
        house.loop.advance(60)
        assert client.get_state() == "disconnected"
        assert house.loop.tasks == []
        assert self.faults.records == []
        house.close()


def speak(house: House, server: RawServer, pieces: list[bytes]) -> None:
    """Say it, and no faster than it is heard; then wait as long as any client does."""
    for piece in pieces:
        if not server.stream.transport.is_lost:
            server.stream.send(piece)
            house.loop.advance(0.1)


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "again"])
@pytest.mark.parametrize("lie", INSTEAD_OF_A_WELCOME, ids=str)
def test_who_is_no_server_is_named_and_tried_again(lie: Lie, is_first: bool) -> None:
    house = House(lie.wire)
    told = Told(house, retry_first_connect=True)
    client = told.client
    if is_first:
        house.start(client.connect())
    else:
        house.connect(client).stream.reset()
        house.loop.advance(1)
        assert len(house.streams) == 2
    told.take()
    server, attempt = told.latest(), len(house.streams)
    speak(house, server, lie.say(server))
    while not server.stream.transport.is_lost:
        house.loop.advance(0.5)
    log, hooked = told.take()
    [error] = hooked
    assert log == [("error", error), ("reconnecting", attempt)]
    assert isinstance(error, ConnectError)
    assert type(error.__cause__) is lie.error
    assert lie.words in str(error)
    assert client.get_last_error() is error
    assert client.get_state() == "reconnecting"
    told.is_well()


@pytest.mark.parametrize("lie", IN_A_CONVERSATION, ids=str)
def test_a_server_that_breaks_the_protocol_is_named_and_left_for_another(lie: Lie) -> None:
    house = House(lie.wire)
    told = Told(house, heartbeat_interval=2, heartbeat_timeout=1, close_timeout=1)
    client = told.client
    server = house.connect(client)
    asked = house.start(client.request("x"))
    told.take()
    speak(house, server, lie.say(server))
    while not server.stream.transport.is_lost:
        house.loop.advance(0.5)
    with pytest.raises(ConnectionLost):
        asked.result()
    log, hooked = told.take()
    [error] = hooked
    assert [entry[:2] for entry in log] == [("error", error), ("disconnect", lie.code), ("reconnecting", 1)]
    assert type(error) is lie.error
    assert lie.words in str(error)
    assert client.get_last_error() is error
    told.is_well()


@pytest.mark.parametrize(
    ("wire", "name"), [(wire, name) for wire, lies in NO_MESSAGES.items() for name in lies]
)
def test_what_is_no_message_is_named_and_the_connection_stays(wire: str, name: str) -> None:
    house = House(wire)
    told = Told(house)
    server = house.connect(told.client)
    told.take()
    for _ in range(2):
        for piece in NO_MESSAGES[wire][name](server):
            server.stream.send(piece)
        log, hooked = told.take()
        [error] = hooked
        assert log == [("error", error)]
        assert isinstance(error, PeerError)
        assert error.code == "INVALID_MESSAGE"
        assert told.client.get_last_error() is error
    assert told.client.get_id() == "me"
    told.is_well()


@pytest.mark.parametrize("wire", ["ws", "tcp"])
def test_answers_that_nobody_asked_for_are_counted_and_a_second_welcome_is_none(wire: str) -> None:
    house = House(wire)
    told = Told(house)
    server = house.connect(told.client)
    asked = house.start(told.client.request("y", timeout=3))
    for ack, correlation_id in (("x", "77"), ("x", None), ("y", "77")):
        server.stream.send(server.answer(ack, 1, correlation_id))
    welcome = frame(6, "connect", b"me") if wire == "tcp" else server.event("stelar:connect", {"id": "me"})
    server.stream.send(welcome * 3)
    assert told.take() == ([("connect",)], [])
    assert told.client.get_unmatched_answers() == 3
    server.stream.send(server.answer("y", "right"))
    assert asked.result() == "right"
    told.is_well()


VOCABULARY: dict[str, list[bytes]] = {
    "ws": [
        b"\x81", b"\x82", b"\x01", b"\x80", b"\x88", b"\x89", b"\x8a", b"\xc1", b"\x00", b"\x02\x03", b"\x7e",
        b"\x7f", b"\x03\xe8", b'\x81\x0d{"event":"x"}', b'\x81\x1b{"event":"x","_isAck":true}',
        b"\x82\x0e" + b'{"event":"x"}\0', b"HTTP/1.1 101 ", b"HTTP/1.1 200 OK", b"\r\n", b"\r\n\r\n",
        b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"Content-Length: 3\r\n",
        b"Retry-After: 9\r\n", b"Transfer-Encoding: chunked\r\n", b"Sec-WebSocket-Accept: x\r\n",
    ],
    "tcp": [
        *(frame(kind, name, payload) for kind in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10)
          for name, payload in (("x", b""), ("", b"{}"), ("error", b'{"code":"c"}'), ("x", b"[1]"))),
        b"\0\0\0", b"\0\0\0\x07", b"\xff",
    ],
}  # fmt: skip


@given(wire=st.sampled_from(["ws", "tcp"]), stage=st.sampled_from(["first", "open", "again"]), data=st.data())
def test_whatever_a_server_says_a_client_is_of_use_again(wire: str, stage: str, data: st.DataObject) -> None:
    piece = st.one_of(st.sampled_from(VOCABULARY[wire]), st.binary(max_size=9))
    pieces = data.draw(st.lists(st.lists(piece, min_size=1, max_size=4).map(b"".join), max_size=5))
    house = House(wire)
    told = Told(house, retry_first_connect=True, close_timeout=1)
    client = told.client
    connecting = house.start(client.connect())
    if stage != "first":
        told.latest().open()
        if stage == "again":
            told.latest().stream.reset()
            house.loop.advance(1)
        told.take()
    server = told.latest()
    speak(house, server, [piece for piece in pieces if piece])
    if not server.stream.transport.is_lost:
        server.stream.reset()
    log, hooked = told.take()
    assert [entry[1] for entry in log if entry[0] == "error"] == hooked
    assert not hooked or client.get_last_error() is hooked[-1]
    told.is_well()
    connecting.result()

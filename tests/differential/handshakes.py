"""The three codecs in front of their handshakes: what each makes of a request and of a response.

Responsible for driving them and for telling in the same words how they answered. Not responsible for what
they may differ in (:mod:`.handshake_rows`), nor for the heads (:mod:`.heads`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request as WebsocketsRequest
from websockets.protocol import State as WebsocketsState
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.events import Event as WsprotoEvent
from wsproto.utilities import RemoteProtocolError

from stelar_proto.errors import HandshakeError, UpgradeRefused
from stelar_proto.ws import (
    Closed,
    Connection,
    Opened,
    RequestReceived,
    Role,
    State,
    UpgradeRequested,
    select_subprotocol,
)
from tests.ws.feeding import requesting_connection

from .peers import Library

SUPPORTED = ("superchat", "chat")
"""The subprotocols that the servers speak, the preferred one first."""
OFFERED = ("chat", "superchat")
"""The subprotocols that the clients offer."""
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3, as is ACCEPT
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

Answer: TypeAlias = int | Literal["plain HTTP", "no answer", "raised", "failed", "waits"]


class Verdict(NamedTuple):
    """How a handshake went.

    Attributes:
        answer: the status that a server answers with, or that a client was refused with; 101 is success. Or
            "plain HTTP": a server handed the request to the application, as one that asks for no upgrade; "no
            answer": a server ends the connection without one; "failed": a client found no valid answer;
            "raised": an exception came out that is none of the library's; "waits": the head is not complete.
        subprotocol: the chosen one.
        accept: a server's Sec-WebSocket-Accept.
    """

    answer: Answer
    subprotocol: str | None = None
    accept: str | None = None

    @property
    def opened(self) -> bool:
        return self.answer == 101


Handshake: TypeAlias = "Callable[[Library, Sequence[bytes]], Verdict]"
""":func:`serve` or :func:`connect`."""


def opened(subprotocol: str | None = None, key: str = KEY) -> Verdict:
    """The verdict of a server that accepts."""
    return Verdict(101, subprotocol, accept_of(key))


def accept_of(key: str) -> str:
    """RFC 6455, section 4.2.2, item 5.4."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode("latin-1")).digest()
    return base64.b64encode(digest).decode()


# --- Servers ----------------------------------------------------------------------------------------------


def serve(library: Library, chunks: Sequence[bytes]) -> Verdict:
    """Let a server read a request."""
    return _SERVERS[library](chunks)


def _answer_in(sent: bytes) -> Verdict:
    """Read what a server sent."""
    head = sent.decode("latin-1").split("\r\n\r\n")[0]
    fields = dict(
        line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in head.split("\r\n")[1:]
    )
    status = re.match(r"HTTP/1\.1 ([0-9]{3}) ", head)
    assert status is not None
    return Verdict(int(status[1]), fields.get("sec-websocket-protocol"), fields.get("sec-websocket-accept"))


def _serve_stelar(chunks: Sequence[bytes]) -> Verdict:
    conn = Connection(Role.SERVER)
    for chunk in chunks:
        for event in conn.receive_data(chunk):
            match event:
                case UpgradeRequested(_, offered):
                    conn.accept(subprotocol=select_subprotocol(offered, SUPPORTED))
                    return _answer_in(conn.data_to_send())
                case RequestReceived():
                    return Verdict("plain HTTP")
                case Closed(_, _, error):
                    assert isinstance(error, HandshakeError)
                    verdict = _answer_in(conn.data_to_send())
                    assert verdict.answer == error.status
                    return verdict
    return Verdict("waits")


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    chosen = select_subprotocol(offered, SUPPORTED)
    return None if chosen is None else Subprotocol(chosen)


def _serve_websockets(chunks: Sequence[bytes]) -> Verdict:
    protocol = ServerProtocol(subprotocols=[*map(Subprotocol, SUPPORTED)], select_subprotocol=_select)
    for chunk in chunks:
        protocol.receive_data(chunk)
        for event in protocol.events_received()[:1]:  # frames may be behind it already
            assert isinstance(event, WebsocketsRequest)
            protocol.send_response(protocol.accept(event))
        sent = b"".join(protocol.data_to_send())
        if sent:
            return _answer_in(sent)
        if protocol.handshake_exc is not None:
            return Verdict("no answer")
    return Verdict("waits")


def _answer_hinted_at(event: WsprotoEvent | None) -> Verdict:
    assert isinstance(event, RejectConnection)
    return Verdict(event.status_code)


def _serve_wsproto(chunks: Sequence[bytes]) -> Verdict:
    conn = WSConnection(ConnectionType.SERVER)
    for chunk in chunks:
        try:
            conn.receive_data(chunk)
        except RemoteProtocolError as error:
            return _answer_hinted_at(error.event_hint)
        except UnicodeError:
            return Verdict("raised")
        for event in conn.events():
            assert isinstance(event, Request)
            subprotocol = select_subprotocol(event.subprotocols, SUPPORTED)
            return _answer_in(conn.send(AcceptConnection(subprotocol=subprotocol)))
    return Verdict("waits")


_SERVERS: dict[Library, Callable[[Sequence[bytes]], Verdict]] = {
    "stelar": _serve_stelar,
    "websockets": _serve_websockets,
    "wsproto": _serve_wsproto,
}

# --- Clients ----------------------------------------------------------------------------------------------


def connect(library: Library, chunks: Sequence[bytes]) -> Verdict:
    """Let a client that has asked with :data:`KEY` read a response, and the end of the stream behind it."""
    return _CLIENTS[library](chunks)


def _connect_stelar(chunks: Sequence[bytes]) -> Verdict:
    conn = requesting_connection(subprotocols=OFFERED)
    for chunk in (*chunks, b""):
        for event in conn.receive_data(chunk):
            match event:
                case Opened(_, subprotocol):
                    assert conn.state is State.OPEN
                    return Verdict(101, subprotocol)
                case Closed(_, _, UpgradeRefused() as error):
                    return Verdict(error.status)
                case Closed():
                    return Verdict("failed")
    raise AssertionError("the stream has ended")


def _connect_websockets(chunks: Sequence[bytes]) -> Verdict:
    protocol = ClientProtocol(parse_uri("ws://localhost/chat"), subprotocols=[*map(Subprotocol, OFFERED)])
    protocol.key = KEY
    protocol.send_request(protocol.connect())
    for chunk in chunks:
        protocol.receive_data(chunk)
        if protocol.state is WebsocketsState.OPEN:
            return Verdict(101, protocol.subprotocol)
    protocol.receive_eof()
    if isinstance(protocol.handshake_exc, InvalidStatus):
        return Verdict(protocol.handshake_exc.response.status_code)
    assert protocol.handshake_exc is not None
    return Verdict("failed")


def _connect_wsproto(chunks: Sequence[bytes]) -> Verdict:
    conn = WSConnection(ConnectionType.CLIENT)
    conn.send(Request(host="localhost", target="/chat", subprotocols=[*OFFERED]))
    conn.handshake._nonce = KEY.encode()  # there is no other way to the same bytes for all
    for chunk in (*chunks, None):
        try:
            conn.receive_data(chunk)
        except RemoteProtocolError:
            return Verdict("failed")
        except UnicodeError:
            return Verdict("raised")
        for event in conn.events():
            match event:
                case AcceptConnection(subprotocol=subprotocol):
                    return Verdict(101, subprotocol)
                case RejectConnection(status_code=status):
                    return Verdict(status)
    return Verdict("failed")


_CLIENTS: dict[Library, Callable[[Sequence[bytes]], Verdict]] = {
    "stelar": _connect_stelar,
    "websockets": _connect_websockets,
    "wsproto": _connect_wsproto,
}

"""Three codecs with one face: what each hears in a stream of frames, and what it answers.

Responsible for driving :class:`stelar_proto.ws.Connection`, wsproto and the Sans-I/O layer of websockets
behind their handshakes, each as its documentation says, and for telling in the same words what came of it.
Not responsible for what they may differ in (:mod:`.differences`), nor for handshakes (:mod:`.handshakes`).
"""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeAlias

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Frame as WebsocketsFrame
from websockets.frames import Opcode as WebsocketsOpcode
from websockets.protocol import Protocol
from websockets.protocol import State as WebsocketsState
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from wsproto import ConnectionType
from wsproto import connection as wsproto
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.utilities import LocalProtocolError

from stelar_proto.ws import (
    BinaryReceived,
    Closed,
    Event,
    PingReceived,
    PongReceived,
    Role,
    TextReceived,
)
from tests.ws.feeding import compressing_connection, open_connection

from .streams import Case, split

Library: TypeAlias = Literal["stelar", "websockets", "wsproto"]
Heard: TypeAlias = tuple[str, str | bytes]
"""``("text", …)``, ``("binary", …)``, ``("ping", …)`` or ``("pong", …)``."""
End: TypeAlias = tuple[str, int, str]
"""``("closed", code, reason)`` by a close frame, or ``("failed", code, "")``: 1006 when the stream ended."""


class Outcome(NamedTuple):
    """What one codec made of a stream.

    Attributes:
        heard: messages, pings and pongs.
        end: how the connection ended.
        said: the frames that it sent: opcode and payload. The words of a close frame that reports a fault are
            left out, they are each library's own.
    """

    heard: tuple[Heard, ...]
    end: End
    said: tuple[tuple[int, bytes], ...]


PERMESSAGE_DEFLATE = "permessage-deflate"
NO_TAKEOVER = f"{PERMESSAGE_DEFLATE}; server_no_context_takeover; client_no_context_takeover"

# What is sent in front of the stream where Case.closing is set.
CLOSE_SENT = (4000, "enough")


def hear(library: Library, case: Case, chunks: Sequence[bytes]) -> Outcome:
    """Let a codec read ``chunks``, which are ``case.stream``, and then the end of the stream."""
    return _LISTENERS[library](case, chunks)


def _outcome(case: Case, heard: Iterable[Heard], end: End | None, sent: bytes) -> Outcome:
    assert end is not None, "a connection ends with its stream at the latest"
    frames, rest = split(sent)
    assert not rest
    said = []
    for frame in frames:
        assert frame.complete
        assert frame.masked is (case.role is Role.CLIENT)
        faulty = end[0] == "failed" and frame.first_byte == 0x88
        said.append((frame.first_byte, frame.payload[:2] if faulty else frame.payload))
    return Outcome(tuple(heard), end, tuple(said))


# --- stelar -----------------------------------------------------------------------------------------------


def _hear_stelar(case: Case, chunks: Sequence[bytes]) -> Outcome:
    limits: dict[str, Any] = {"max_frame_size": case.limit, "max_message_size": case.limit}
    if case.takeover is None:
        conn = open_connection(case.role, **limits)
    else:
        said = PERMESSAGE_DEFLATE if case.takeover else NO_TAKEOVER
        conn = compressing_connection(case.role, said.encode(), **limits)
    if case.closing:
        conn.close(*CLOSE_SENT)
        conn.data_to_send()
    events = [event for chunk in (*chunks, b"") for event in conn.receive_data(chunk)]
    *before, closed = events
    assert isinstance(closed, Closed)
    end = ("closed", *closed[:2]) if closed.error is None else ("failed", closed.code, "")
    return _outcome(case, map(_heard_by_stelar, before), end, conn.data_to_send())


def _heard_by_stelar(event: Event) -> Heard:
    match event:
        case TextReceived(text):
            return "text", text
        case BinaryReceived(data):
            return "binary", data
        case PingReceived(payload):
            return "ping", payload
        case PongReceived(payload):
            return "pong", payload
    raise AssertionError(f"{event} has no place here")


# --- websockets -------------------------------------------------------------------------------------------


class _Decoding(Protocol):
    """The Sans-I/O layer of websockets hands out frames, and leaves UTF-8 to those who read messages.

    Here it is looked at as ``recv_streaming()`` does, frame by frame, and a fault fails the connection with
    1007, as it does there.
    """

    _decoder: IncrementalDecoder | None = None

    def recv_frame(self, frame: WebsocketsFrame) -> None:
        super().recv_frame(frame)
        if frame.opcode is WebsocketsOpcode.TEXT:
            self._decoder = getincrementaldecoder("utf-8")()
        if self._decoder is None or frame.opcode not in (WebsocketsOpcode.TEXT, WebsocketsOpcode.CONT):
            return
        try:
            self._decoder.decode(bytes(frame.data), frame.fin)
        except UnicodeDecodeError:
            self.events.pop()
            raise
        if frame.fin:
            self._decoder = None


class _DecodingServer(_Decoding, ServerProtocol):
    pass


class _DecodingClient(_Decoding, ClientProtocol):
    pass


def _hear_websockets(case: Case, chunks: Sequence[bytes]) -> Outcome:
    protocol: Protocol
    if case.role is Role.SERVER:
        protocol = _DecodingServer(state=WebsocketsState.OPEN, max_size=case.limit)
    else:
        uri = parse_uri("ws://localhost/")
        protocol = _DecodingClient(uri, state=WebsocketsState.OPEN, max_size=case.limit)
    if case.takeover is not None:
        forgets = not case.takeover
        protocol.extensions = [WebsocketsDeflate(forgets, forgets, 15, 15)]
    if case.closing:
        protocol.send_close(*CLOSE_SENT)
        protocol.data_to_send()
    frames: list[WebsocketsFrame] = []
    for chunk in chunks:
        protocol.receive_data(chunk)
        for event in protocol.events_received():
            assert isinstance(event, WebsocketsFrame)
            frames.append(event)
    protocol.receive_eof()
    sent = b"".join(protocol.data_to_send())
    return _outcome(case, _heard_by_websockets(frames), _end_of_websockets(protocol), sent)


def _heard_by_websockets(frames: list[WebsocketsFrame]) -> list[Heard]:
    heard: list[Heard] = []
    parts: list[bytes] = []
    is_text = False
    for frame in frames:
        data = bytes(frame.data)
        match frame.opcode:
            case WebsocketsOpcode.PING:
                heard.append(("ping", data))
            case WebsocketsOpcode.PONG:
                heard.append(("pong", data))
            case WebsocketsOpcode.TEXT | WebsocketsOpcode.BINARY | WebsocketsOpcode.CONT:
                if frame.opcode is not WebsocketsOpcode.CONT:
                    parts, is_text = [], frame.opcode is WebsocketsOpcode.TEXT
                parts.append(data)
                if frame.fin:
                    whole = b"".join(parts)
                    heard.append(("text", whole.decode()) if is_text else ("binary", whole))
    return heard


def _end_of_websockets(protocol: Protocol) -> End:
    match protocol.parser_exc:
        case None:
            assert protocol.close_rcvd is not None
            return "closed", int(protocol.close_rcvd.code), protocol.close_rcvd.reason
        case ProtocolError():
            return "failed", 1002, ""
        case UnicodeDecodeError():
            return "failed", 1007, ""
        case PayloadTooBig():
            return "failed", 1009, ""
        case EOFError():
            return "failed", 1006, ""
        case error:
            raise error


# --- wsproto ----------------------------------------------------------------------------------------------


def _hear_wsproto(case: Case, chunks: Sequence[bytes]) -> Outcome:
    """Answering is up to the caller of wsproto: with what ``response()`` gives, and the code of a fault."""
    kind = ConnectionType.SERVER if case.role is Role.SERVER else ConnectionType.CLIENT
    extensions: list[Extension] = []
    if case.takeover is not None:
        extensions = [WsprotoDeflate()]
        extensions[0].finalize(PERMESSAGE_DEFLATE if case.takeover else NO_TAKEOVER)
    conn = wsproto.Connection(kind, extensions)
    if case.closing:
        conn.send(CloseConnection(*CLOSE_SENT))
    heard: list[Heard] = []
    end: End | None = None
    sent = b""
    parts: list[str | bytes] = []
    for chunk in (*chunks, None):
        if conn.state is wsproto.ConnectionState.CLOSED or (chunk is None and end is not None):
            break
        conn.receive_data(chunk)
        for event in conn.events():
            match event:
                case Ping(payload):
                    heard.append(("ping", bytes(payload)))
                    with suppress(LocalProtocolError):
                        sent += conn.send(event.response())
                case Pong(payload):
                    heard.append(("pong", bytes(payload)))
                case TextMessage() | BytesMessage():
                    parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                    if event.message_finished:
                        heard.append(_whole(parts))
                        parts = []
                case CloseConnection():
                    assert end is None
                    end = _end_of_wsproto(conn.state, event, chunk is None)
                    with suppress(LocalProtocolError):
                        sent += conn.send(event.response())
    return _outcome(case, heard, end, sent)


def _whole(parts: list[str | bytes]) -> Heard:
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        return "text", "".join(texts)
    return "binary", b"".join(part for part in parts if isinstance(part, bytes))


def _end_of_wsproto(state: wsproto.ConnectionState, event: CloseConnection, stream_ended: bool) -> End:
    """Tell the peer's close from a fault, which is the same event and leaves the state as it was."""
    received = state in (wsproto.ConnectionState.REMOTE_CLOSING, wsproto.ConnectionState.CLOSED)
    if received and not stream_ended:
        return "closed", int(event.code), event.reason or ""
    return "failed", int(event.code), ""


_LISTENERS: dict[Library, Callable[[Case, Sequence[bytes]], Outcome]] = {
    "stelar": _hear_stelar,
    "websockets": _hear_websockets,
    "wsproto": _hear_wsproto,
}

"""Sessions of every wire and role at a chosen time, and the bytes that their peers send them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from stelar_proto.channel import Closed, State
from stelar_proto.messages import AckError, AckRequest, AckResponse, Binary, Hello, Join, Leave, Message
from stelar_proto.messages import Event as EventMessage
from stelar_proto.session import Event, Session, SessionConfig, TcpSession, WebSocketSession
from stelar_proto.tcp import Dialect
from stelar_proto.wire import Format, TcpFormat, WebSocketFormat
from stelar_proto.ws import Role
from stelar_proto.ws.frames import encode_frame

SERVER, CLIENT = Role.SERVER, Role.CLIENT

KINDS = ["ws", "tcp", "tcp npm"]
"""Every wire, in every dialect."""

wires = pytest.mark.parametrize("wire", ["ws", "tcp"])
roles = pytest.mark.parametrize("role", [SERVER, CLIENT], ids=lambda role: role.value)

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# The answer to the key that a client without entropy sends: 16 zero bytes.
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
)
CONNECT_FRAME = b"\0\0\0\x10\6\0\7connectc1"
PING = {"ws": b"\x89\0", "tcp": b"\0\0\0\7\2\0\0"}
ZERO_MASK = b"\0\0\0\0"  # and all masks are zero: what a client says can be read


def format_for(wire: str, role: Role, config: SessionConfig) -> Format:
    if wire == "ws":
        return WebSocketFormat(role, serializer=config.serializer, max_payload_size=config.max_payload_size)
    return TcpFormat(
        role,
        dialect=config.tcp_dialect,
        serializer=config.serializer,
        max_payload_size=config.max_payload_size,
        max_frame_size=config.max_frame_size,
    )


def new_session(
    wire: str, role: Role, *, now: float = 0.0, announce_id: bool = False, **options: Any
) -> WebSocketSession | TcpSession:
    """A session that has seen nothing yet; ``options`` are those of its config."""
    config = SessionConfig(**options)
    form = format_for(wire, role, config)
    if isinstance(form, TcpFormat):
        return TcpSession(role, config, payloads=form, now=now)
    return WebSocketSession(role, config, envelope=form, now=now, entropy=bytes, announce_id=announce_id)


def open_session(wire: str, role: Role, *, now: float = 0.0, **options: Any) -> WebSocketSession | TcpSession:
    """A session that is open and has said what opening asks for."""
    session = new_session(wire, role, now=now, **options)
    if isinstance(session, WebSocketSession):
        if role is CLIENT:
            session.request_upgrade("ws://localhost/chat")
            said(session)
            session.receive_data(ACCEPTED, now)
        else:
            session.receive_data(UPGRADE, now)
            session.accept("c1")
    elif role is CLIENT:
        dialect = session.config.tcp_dialect
        session.receive_data(TcpFormat(SERVER, dialect=dialect).encode_frame(Hello("c1")), now)
    else:
        session.accept("c1")
    said(session)
    assert session.state is State.OPEN
    return session


def session_of(kind: str, role: Role, **options: Any) -> Session:
    dialect = Dialect.NPM if kind == "tcp npm" else Dialect.DOCUMENTED
    return new_session(kind[:3].strip(), role, tcp_dialect=dialect, **options)


def said(session: Session) -> bytes:
    """Everything that the session has to send now."""
    return b"".join(iter(session.data_to_send, b""))


def phase(session: Session) -> str:
    """What a transport is to do with the socket now."""
    if session.is_aborted:
        return "cut"
    if session.is_finished:
        return "close"
    return "end our side" if session.wants_eof else "go on"


def settle(first: Session, second: Session, now: float) -> tuple[list[Event], list[Event]]:
    """Carry bytes and ends of streams between two sessions until both are done with; return their events."""
    ends = [(first, second, list[Event]()), (second, first, list[Event]())]
    ended: set[int] = set()
    for _ in range(10):
        for session, other, events in ends:
            while (data := other.data_to_send()) != b"":
                events += session.receive_data(data, now)
            if other.wants_eof and id(other) not in ended:
                ended.add(id(other))
                events += session.receive_data(b"", now)
    return ends[0][2], ends[1][2]


def from_peer(session: Session, *messages: Message) -> bytes:
    """The frames with which the other end says ``messages``."""
    role = CLIENT if session.role is SERVER else SERVER
    wire = session.format
    if isinstance(wire, TcpFormat):
        other = TcpFormat(role, dialect=wire.dialect)
        return b"".join(other.encode_frame(message) for message in messages)
    mask = ZERO_MASK if role is CLIENT else None
    envelope = WebSocketFormat(role)
    return b"".join(encode_frame(*envelope.encode(message), mask=mask) for message in messages)


def peer_pong(session: Session) -> bytes:
    """A pong from the other end."""
    if isinstance(session.format, TcpFormat):
        return b"\0\0\0\7" + (b"\4" if session.format.dialect is Dialect.NPM else b"\3") + b"\0\0"
    return b"\x8a\x80" + ZERO_MASK if session.role is SERVER else b"\x8a\0"


def tcp_error(words: bytes) -> bytes:
    """An Error frame that ends the conversation, put together by hand."""
    return (12 + len(words)).to_bytes(4, "big") + b"\x0a\0\5error" + words


def ending(events: list[Event]) -> tuple[int, str, type[Exception] | None]:
    """Code, reason and the class of the error of the only event, which is the end."""
    [closed] = events
    assert isinstance(closed, Closed)
    return closed.code, closed.reason, None if closed.error is None else type(closed.error)


# --- anything that may be said ---

names = st.sampled_from(["chat", "a", "room/x", "v1.2-beta_3"])
values = st.sampled_from([None, 0, 2.5, "¡hola ☃!", [1, [2]], {"_correlationId": "1", "data": {}}, "x" * 300])
from_both: st.SearchStrategy[Message] = st.one_of(
    st.builds(EventMessage, names, values),
    st.builds(Binary, names, st.binary(max_size=200)),
    st.builds(AckRequest, names, names, values, st.none() | st.just("x1")),
    st.builds(AckResponse, names, values, st.just("x1")),
    st.builds(AckError, names, st.just("REFUSED"), st.text(max_size=5), st.none() | st.just("x1")),
)
from_client: st.SearchStrategy[Message] = from_both | st.builds(Join, names) | st.builds(Leave, names)

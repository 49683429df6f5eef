"""What sessions say and hear: messages, frames that carry them, and frames that should not exist."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, TypeAlias

from hypothesis import strategies as st

from stelar_proto import messages as m
from stelar_proto.messages import Message
from stelar_proto.tcp import Dialect, FrameType
from stelar_proto.tcp import encode_frame as encode_tcp_frame
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Opcode, Role
from stelar_proto.ws.frames import encode_frame as encode_ws_frame

from .inputs import TEXTS, corpus, mutated, weighted

Wire: TypeAlias = Dialect | None
"""The dialect of a TCP session; None for WebSocket."""

Kind: TypeAlias = tuple[Wire, Role]

OTHER = {Role.SERVER: Role.CLIENT, Role.CLIENT: Role.SERVER}
KINDS: list[Kind] = [(wire, role) for wire in (None, *Dialect) for role in Role]

# --- Messages ---------------------------------------------------------------------------------------------

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, 0, -1.5, "", "ñ☃😀", [], {}, {"id": "x"}, {"data": 1}, [[1, {"a": None}]]]),
    TEXTS,
    st.just("x" * 400),
)
EVENTS = weighted("chat", "a/b:c.d-e_1", "joined-room", "x" * 256, share=2)
ACKS = weighted("sum", "ñ", "a b", "x" * 256, share=4)
IDS = st.sampled_from([None, "1", "2", "3", "x" * 256])
ROOMS = weighted("general", "ñ☃", "x" * 256, share=3)
PAYLOADS = st.one_of(st.binary(max_size=40), st.just(b"\0" * 400))
_EVENTS: st.SearchStrategy[Message] = st.one_of(
    st.builds(m.Event, EVENTS, VALUES), st.builds(m.Binary, EVENTS, PAYLOADS)
)
_ANSWERS: st.SearchStrategy[Message] = st.one_of(
    st.builds(m.AckResponse, ACKS, VALUES, IDS), st.builds(m.AckError, ACKS, TEXTS, TEXTS, IDS)
)
STATEMENTS: dict[Role, st.SearchStrategy[Message]] = {
    Role.SERVER: _EVENTS,
    Role.CLIENT: st.one_of(_EVENTS, st.builds(m.Join, ROOMS), st.builds(m.Leave, ROOMS)),
}
"""What each role may send that neither asks nor answers."""
MESSAGES = {role: st.one_of(statements, _ANSWERS) for role, statements in STATEMENTS.items()}
"""What each role may send, answers that nobody asked for included."""

# --- Frames -----------------------------------------------------------------------------------------------

_NAMES = st.one_of(
    EVENTS,
    ACKS,
    st.sampled_from(["join-room", "leave-room", "stelar:connect", "ping", "connect", "error", ""]),
)
_ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "event": st.one_of(_NAMES, VALUES),
        "data": VALUES,
        "_ackName": st.one_of(ACKS, VALUES),
        "_isAck": st.sampled_from([True, True, False, 1, None]),
        "_correlationId": st.one_of(IDS, VALUES),
        "_error": st.sampled_from([{"code": "X", "message": "words"}, {"code": "X"}, {"code": 1}, "X", None]),
    },
)
_ODD_JSON = st.sampled_from(
    [
        "",
        "nul",
        "NaN",
        "1e999",
        "[" * 2000,
        "1" * 5000,
        '"\\ud800"',
        '{"event":"chat","data":"\\ud83d"}',
        "[]",
        "{}",
    ]
)
_JSON = st.one_of(_ENVELOPES.map(json.dumps), VALUES.map(json.dumps), _ODD_JSON).map(str.encode)
_MASK = b"\x37\xfa\x21\x3d"


def _websocket_frames(role: Role) -> st.SearchStrategy[bytes]:
    frame = partial(encode_ws_frame, mask=_MASK if role is Role.SERVER else None)
    envelope = WebSocketFormat(OTHER[role])
    odd = [(Opcode.PING, b"?"), (Opcode.PONG, b""), (Opcode.TEXT, b"\xff")]
    closes = [(Opcode.CLOSE, payload) for payload in (b"", b"\x03\xe8bye", b"\x03\xf0", b"\x03\xed", b"\x03")]
    return st.one_of(
        MESSAGES[OTHER[role]].map(lambda message: frame(*envelope.encode(message))),
        _JSON.map(lambda payload: frame(Opcode.TEXT, payload)),
        st.builds(
            lambda *parts: frame(Opcode.BINARY, b"".join(parts)), _JSON, weighted(b"\0", b""), PAYLOADS
        ),
        st.sampled_from([frame(*parts) for parts in [*odd, *closes]]),
    )


def _tcp_frames(role: Role, dialect: Dialect) -> st.SearchStrategy[bytes]:
    payloads = TcpFormat(OTHER[role], dialect=dialect)
    frame = partial(encode_tcp_frame, dialect=dialect)
    odd: list[tuple[FrameType, bytes]] = [
        (FrameType.PING, b""),
        (FrameType.PONG, b"more"),
        (FrameType.CONNECT, b"client-1"),
        (FrameType.CONNECT, b"\xff"),
        (FrameType.DISCONNECT, b""),
        (FrameType.ERROR, b"Rate limit exceeded"),
        (FrameType.ERROR, b"\xff"),
        (FrameType.JOIN_ROOM, b"\xff"),
    ]
    return st.one_of(
        MESSAGES[OTHER[role]].map(payloads.encode_frame),
        st.builds(frame, st.sampled_from(FrameType), _NAMES, _JSON),
        st.sampled_from([frame(kind, None, payload) for kind, payload in odd] + [b"\0\0\0\x06"]),
    )


def _streams(wire: Wire, role: Role) -> st.SearchStrategy[bytes]:
    entries = corpus(f"ws_{role.value}" if wire is None else f"tcp_{wire.value}")
    frames = _websocket_frames(role) if wire is None else _tcp_frames(role, wire)
    return st.one_of(st.lists(frames, min_size=1, max_size=5).map(b"".join), mutated(entries))


STREAMS: dict[Kind, st.SearchStrategy[bytes]] = {kind: _streams(*kind) for kind in KINDS}
"""What each session may hear once it is open, and now and then may not."""

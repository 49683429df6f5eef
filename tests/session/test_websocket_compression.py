"""Compression of a session's messages: what a server shares between clients, and what a client sends."""

from __future__ import annotations

import zlib

import pytest

from stelar_proto.channel import State
from stelar_proto.messages import JSON, Event
from stelar_proto.session import CompressingFormat, SessionConfig, WebSocketSession
from stelar_proto.wire import WebSocketFormat
from stelar_proto.ws import PerMessageDeflate
from stelar_proto.ws.frames import encode_frame

from .peers import ACCEPTED, CLIENT, SERVER, UPGRADE, ZERO_MASK, said

COMPRESSION = PerMessageDeflate(min_size=100)
LIMIT = 10_000
EVENT = Event("chat", "hola " * 100)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=%d\r\n"
AGREED = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
PAYLOAD = b'{"event":"chat","data":"' + b"hola " * 100 + b'"}'


def with_field(head: bytes, field: bytes) -> bytes:
    return head[:-2] + field + b"\r\n"


def server(envelope: WebSocketFormat, bits: int = 15) -> WebSocketSession:
    config = SessionConfig(compression=COMPRESSION, max_payload_size=LIMIT)
    session = WebSocketSession(SERVER, config, envelope=envelope, now=0, announce_id=False)
    session.receive_data(with_field(UPGRADE, OFFER % bits), 0)
    session.accept("c1")
    head = said(session)
    assert b"permessage-deflate; server_no_context_takeover; client_no_context_takeover" in head
    return session


def compressing_format() -> CompressingFormat:
    return CompressingFormat(COMPRESSION, serializer=JSON, max_payload_size=LIMIT)


def inflate(payload: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")


def test_sessions_that_take_the_same_window_have_the_same_format() -> None:
    envelope = compressing_format()
    first, second, small = server(envelope), server(envelope), server(envelope, 9)
    assert first.format is second.format
    assert first.format is not small.format
    assert envelope not in (first.format, small.format)
    frame = first.format.encode_frame(EVENT)
    assert frame[0] == 0xC1
    assert inflate(frame[2:]) == PAYLOAD
    for session in (first, second):
        session.send_frame(frame)
        session.send(EVENT)
        assert said(session) == frame * 2


def test_a_short_message_is_the_same_frame_for_all() -> None:
    envelope = compressing_format()
    session = server(envelope)
    assert session.format.encode_frame(Event("a", 1)) == envelope.encode_frame(Event("a", 1))
    assert envelope.encode_frame(EVENT)[0] == 0x81


def test_a_format_that_does_not_compress_is_kept() -> None:
    envelope = WebSocketFormat(SERVER)
    session = server(envelope)
    assert session.format is envelope
    session.send(EVENT)
    assert said(session)[0] == 0x81


@pytest.mark.parametrize("field", [b"", AGREED])
def test_a_client_sends_and_hears_compressed_messages_if_that_was_agreed(field: bytes) -> None:
    config = SessionConfig(compression=COMPRESSION, max_payload_size=LIMIT)
    envelope = WebSocketFormat(CLIENT)
    session = WebSocketSession(CLIENT, config, envelope=envelope, now=0, entropy=bytes)
    session.request_upgrade("ws://localhost/chat")
    assert b"permessage-deflate; server_no_context_takeover; client_no_context_takeover" in said(session)
    session.receive_data(with_field(ACCEPTED, field), 0)
    assert session.state is State.OPEN
    frames = []
    for _ in range(2):
        session.send(EVENT)
        frames.append(said(session))
    first, second = frames
    assert first == second  # without context, so that any of them may be dropped
    if not field:
        assert first == encode_frame(1, PAYLOAD, mask=ZERO_MASK)
        return
    assert first[0] == 0xC1
    assert inflate(first[6:]) == PAYLOAD
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = (compressor.compress(PAYLOAD) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert session.receive_data(bytes([0xC1, len(payload)]) + payload, 1) == [EVENT]

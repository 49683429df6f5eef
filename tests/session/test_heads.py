"""Binary messages whose payload follows piece by piece: the bytes that they are as a whole."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelar_proto.errors import MessageError, StateError
from stelar_proto.messages import Binary
from stelar_proto.ws import Connection, Role
from tests.session.peers import CLIENT, SERVER, open_session, said, wires

LARGE = 0x10000


@wires
@settings(max_examples=30)
@given(
    cuts=st.lists(st.integers(0, LARGE + 100), max_size=8),
    size=st.integers(LARGE, LARGE + 100),
    name=st.sampled_from(["x", "a/b", "n" * 256]),
)
def test_its_pieces_are_the_message(wire: str, cuts: list[int], size: int, name: str) -> None:
    payload = random.Random(size).randbytes(size)
    session = open_session(wire, CLIENT)
    head, encode_piece = session.encode_head(name, size)
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    pieces = [payload[start:stop] for start, stop in pairwise(bounds)]
    data = head + b"".join(map(encode_piece, pieces))
    assert open_session(wire, SERVER).receive_data(data, 0.0) == [Binary(name, payload)]
    session.send(Binary(name, payload))
    assert said(session) == data


def test_each_piece_is_masked_with_the_key_of_the_frame() -> None:
    client, server = Connection(Role.CLIENT, entropy=random.Random(5).randbytes), Connection(Role.SERVER)
    client.request_upgrade("ws://localhost/")
    server.receive_data(client.data_to_send())
    server.accept()
    client.receive_data(server.data_to_send())
    payload = bytes(range(256)) * 257
    head, mask_piece = client.encode_head(2, len(payload))
    assert len(head) == 14
    first, second = mask_piece(payload[:1001]), mask_piece(payload[1001:])
    assert first[:4] == bytes(byte ^ key for byte, key in zip(payload, head[10:], strict=False))
    [event] = server.receive_data(head + first + second)
    assert event == (payload,)


@wires
@pytest.mark.parametrize(
    ("name", "size", "code"),
    [("a b", LARGE, "INVALID_EVENT_CHARS"), ("x", 200_001, "PAYLOAD_TOO_LARGE")],
)
def test_the_rules_are_those_of_every_message(wire: str, name: str, size: int, code: str) -> None:
    session = open_session(wire, CLIENT, max_payload_size=200_000)
    with pytest.raises(MessageError) as caught:
        session.encode_head(name, size)
    assert caught.value.code == code
    assert said(session) == b""


def test_the_frame_s_limit_holds_over_tcp() -> None:
    session = open_session("tcp", CLIENT, max_frame_size=100_000)
    session.encode_head("x", 100_000 - 8)
    with pytest.raises(
        MessageError, match=r"a frame of 100001 bytes .*; the limit is 100000 bytes"
    ) as caught:
        session.encode_head("x", 100_000 - 7)
    assert caught.value.code == "FRAME_TOO_LARGE"


def test_the_header_counts_over_websocket() -> None:
    session = open_session("ws", CLIENT, max_payload_size=100_000)
    header = len(b'{"event":"x"}\0')
    session.encode_head("x", 100_000 - header)
    with pytest.raises(MessageError, match="a payload of 100001 bytes"):
        session.encode_head("x", 100_001 - header)


def test_no_message_begins_inside_another() -> None:
    session: Any = open_session("ws", CLIENT)
    session.codec.send_part("x", final=False)
    with pytest.raises(StateError, match="in parts"):
        session.encode_head("x", LARGE)

"""The offline queue: against a list; and that what waits is what was said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.client.queue import OfflineQueue, Queued, encode
from stelar_proto.errors import MessageError
from stelar_proto.messages import Binary, Event, Join, Leave, Message
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Opcode, Role

WS, TCP = WebSocketFormat(Role.CLIENT), TcpFormat(Role.CLIENT)

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Event, st.just("x"), st.integers()),
    st.builds(Binary, st.just("y"), st.binary()),
    st.builds(Join, st.just("room")),
    st.builds(Leave, st.just("room")),
)
STEPS = st.one_of(MESSAGES, st.sampled_from(["pop", "trim", "discard"]), st.integers(0, 4))


def test_what_waits_is_encoded_when_it_is_accepted() -> None:
    data = {"n": 1}
    in_json, in_frame = encode(Event("x", data), WS), encode(Event("x", data), TCP)
    data["n"] = 2
    assert in_json.encoded == (Opcode.TEXT, b'{"event":"x","data":{"n":1}}')
    assert in_frame.encoded == b'\0\0\0\x0f\0\0\1x{"n":1}'
    assert (in_json.format, in_frame.format) == (WS, TCP)
    assert (in_json.size, in_frame.size) == (28, 15)


@pytest.mark.parametrize("wire", [WS, TCP], ids=["ws", "tcp"])
def test_what_cannot_be_said_is_refused_when_it_is_handed_in(wire: WebSocketFormat | TcpFormat) -> None:
    with pytest.raises(MessageError, match="JSON"):
        encode(Event("x", {1}), wire)


@given(st.integers(0, 5), st.lists(STEPS))
def test_it_is_a_list_from_which_the_oldest_fall(limit: int, steps: list[Any]) -> None:
    queue, model, dropped = OfflineQueue(limit), list[Queued](), 0
    for step in steps:
        match step:
            case "pop":
                if model:
                    assert queue.first() is model[0]
                    assert queue.popleft() is model.pop(0)
            case "trim":
                excess = max(0, len(model) - limit)
                assert queue.trim() == model[:excess]
                del model[:excess]
                dropped += excess
            case "discard":
                queue.discard(Join, Leave)
                model = [item for item in model if not isinstance(item.message, Join | Leave)]
            case int():
                queue.limit = limit = step
            case message:
                item = encode(message, WS)
                queue.append(item)
                model.append(item)
        assert len(queue) == len(model)
        assert queue.size == sum(item.size for item in model)
        assert queue.dropped == dropped
    assert repr(queue) == f"<OfflineQueue {len(model)}/{limit} dropped={dropped}>"
    assert [queue.popleft() for _ in model] == model

"""Loops that ask for a cancellation at a checkpoint: a call that is cancelled already does nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stelar_proto.plain import WebSocketConnection
from tests.plain.house import TEXT, House
from tests.support.virtual import Cancelled

Call = Callable[[WebSocketConnection], Coroutine[Any, Any, Any]]


@pytest.mark.parametrize(
    "call",
    [
        lambda connection: connection.recv(),
        lambda connection: connection.__anext__(),
        lambda connection: connection.recv_parts().__anext__(),
        lambda connection: connection.send("never"),
        lambda connection: connection.send_fragments(["never", "this"]),
        lambda connection: connection.ping(),
    ],
    ids=["recv", "iteration", "recv_parts", "send", "send_fragments", "ping"],
)
def test_a_call_that_is_cancelled_already_takes_nothing_and_sends_nothing(serving: House, call: Call) -> None:
    is_cancelled = True

    async def checkpoint() -> None:
        if is_cancelled:
            raise Cancelled

    server = serving.serve()
    server.virtual_runtime.checkpoint = checkpoint
    peer = serving.raw_client()
    (connection,) = serving.connections
    peer.say("a", "b")
    with pytest.raises(Cancelled):
        serving.run(call(connection))
    is_cancelled = False
    assert peer.heard() == []
    assert [serving.run(connection.recv()) for _ in range(2)] == ["a", "b"]
    serving.run(connection.send("after"))
    assert peer.heard() == [(TEXT, b"after")]
    assert not serving.start(connection.ping()).is_done
    serving.run(connection.send_fragments(["c"]))
    assert peer.heard()[1:] == [(TEXT, b"c")]
    peer.say("d")
    assert serving.run(connection.recv_parts().__anext__()) == "d"

"""What a handler is given: the client that spoke, and what is known of it."""

from __future__ import annotations

import pytest

from stelar_proto.server import Context
from tests.server.house import House


@pytest.fixture(autouse=True)
def _served(house: House) -> None:
    house.serve()


def test_what_the_context_knows_of_its_client(house: House, wire: str) -> None:
    contexts: list[Context] = []
    house.server.on("x", contexts.append)
    client = house.connect(wire)
    house.loop.advance(10)
    client.say("x", 1)
    client.stream.send(client.room("join", "hall"))
    [ctx] = contexts
    info = ctx.client_info
    assert info.protocol == wire
    assert info.remote_address == "192.0.2.1"
    assert info.rooms == {"hall"}
    assert info.connected_at == 1_704_067_200.0
    assert (info.messages_received, info.messages_sent) == (2, 1)
    assert (ctx.request is None) == (wire == "tcp")
    if ctx.request is not None:
        assert ctx.request.headers["host"] == "localhost"
    assert ctx.subprotocol is None  # nothing was offered
    ctx.set_metadata("user", "ana")
    assert ctx.get_metadata("user") == "ana"
    assert ctx.get_metadata("age") is None
    assert ctx.get_metadata("age", 5) == 5
    assert info.metadata == {"user": "ana"}
    assert ctx.get_clients() == ctx.get_clients("hall") == ["c1"]
    assert repr(ctx) == f"<Context 'x' from c1 over {wire}>"
    assert repr(info) == f"<ClientInfo {wire} 192.0.2.1 rooms=['hall']>"
    assert repr(house.server) == "<VirtualServer on 127.0.0.1:3000, 1 clients>"


def test_metadata_is_the_client_s_own(house: House, wire: str) -> None:
    house.server.on_ack("set", lambda ctx: ctx.set_metadata("n", ctx.data))
    house.server.on_ack("get", lambda ctx: ctx.get_metadata("n"))
    first, second = house.connect(wire), house.connect(wire)
    first.stream.send(first.request("set", "set", 1))
    for client, expected in ((first, 1), (second, None)):
        client.heard()
        client.stream.send(client.request("get", "get"))
        assert client.heard() == [("answer", "get", expected, None)]

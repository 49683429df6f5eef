"""What a handler is given: the client that spoke, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.server import Context, RateLimit
from tests.server.house import House
from tests.support.memory import VirtualServer


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


def test_the_repr_of_a_server_names_the_port_that_it_has(house: House) -> None:
    server = VirtualServer(house.network, port=0, tcp_port=0)
    assert repr(server) == "<VirtualServer on 127.0.0.1:0, 0 clients>"
    server.start_now()
    assert repr(server) == f"<VirtualServer on 127.0.0.1:{server.get_port()}, 0 clients>"


def test_metadata_is_the_client_s_own(house: House, wire: str) -> None:
    house.server.on_ack("set", lambda ctx: ctx.set_metadata("n", ctx.data))
    house.server.on_ack("get", lambda ctx: ctx.get_metadata("n"))
    first, second = house.connect(wire), house.connect(wire)
    first.stream.send(first.request("set", "set", 1))
    for client, expected in ((first, 1), (second, None)):
        client.heard()
        client.stream.send(client.request("get", "get"))
        assert client.heard() == [("answer", "get", expected, None)]


ROOM, ID = "a room name is a", "a client id is a str"
CODE, REASON = "a close code is an int", "a close reason is a str"
MISUSES: list[tuple[str, str, Callable[[Any, Any], object]]] = [
    ("get_clients", ROOM, lambda it, wrong: it.get_clients(wrong or b"")),
    ("get_room_members", ROOM, lambda it, wrong: it.get_room_members(wrong)),
    ("to", ROOM, lambda it, wrong: it.to(wrong, "x")),
    ("to_binary", ROOM, lambda it, wrong: it.to_binary(wrong, "x", b"")),
    ("to_id", ID, lambda it, wrong: it.to_id(wrong, "x")),
    ("broadcast", ID, lambda it, wrong: it.broadcast("x", exclude_id=wrong or 0)),
    ("broadcast_binary", ID, lambda it, wrong: it.broadcast_binary("x", b"", exclude_id=wrong or 0)),
    ("disconnect", ID, lambda it, wrong: it.disconnect(wrong)),
    ("set_client_rate_limit", ID, lambda it, wrong: it.set_client_rate_limit(wrong, RateLimit())),
    ("remove_client_rate_limit", ID, lambda it, wrong: it.remove_client_rate_limit(wrong)),
    ("disconnect", CODE, lambda it, wrong: it.disconnect("c1", wrong)),
    ("disconnect", REASON, lambda it, wrong: it.disconnect("c1", 1000, wrong)),
]
OF_CONTEXTS: list[tuple[str, str, Callable[[Any, Any], object]]] = [
    *[row for row in MISUSES if row[0] in ("get_clients", "to", "to_binary", "to_id")],
    ("join_room", ROOM, lambda it, wrong: it.join_room(wrong)),
    ("leave_room", ROOM, lambda it, wrong: it.leave_room(wrong)),
    ("disconnect", CODE, lambda it, wrong: it.disconnect(wrong)),
    ("disconnect", REASON, lambda it, wrong: it.disconnect(1000, wrong)),
]


@pytest.mark.parametrize("wrong", [None, 1.5, b"hall", ["hall"]], ids=repr)
def test_an_argument_of_the_wrong_type_is_an_error_that_says_so_and_nothing_happens(
    house: House, wire: str, wrong: Any
) -> None:
    contexts: list[Context] = []
    house.server.on("x", contexts.append)
    client = house.connect(wire)
    client.say("x", 1)
    for target, misuses in ((house.server, MISUSES), (contexts[0], OF_CONTEXTS)):
        for _, words, misuse in misuses:
            with pytest.raises(TypeError, match=words):
                misuse(target, wrong)
    assert client.heard() == []
    assert house.server.get_clients() == ["c1"]

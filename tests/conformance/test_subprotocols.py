"""Subprotocols of ``StelarServer`` and ``StelarClient``: agreed upon over WebSocket, unknown to TCP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.world import World, url_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.feature("subprotocols", "ctx.subprotocol", "client: subprotocols"),
]


@pytest.mark.parametrize(
    ("offered", "accepted", "agreed"),
    [
        (["v2", "v1"], ["v1", "v2"], "v1"),  # the server's preference
        (["v3", "v2"], ["v1", "v2"], "v2"),
        (["v3"], ["v1"], None),
        ([], ["v1"], None),
        (["v1"], [], None),
    ],
)
async def test_both_know_what_was_agreed_upon_which_over_tcp_is_nothing(
    world: World, wire: str, offered: list[str], accepted: list[str], agreed: str | None
) -> None:
    seen: list[str | None] = []
    expected = agreed if wire == "ws" else None

    async def look(ctx: Any, go_on: Any) -> None:
        seen.append(ctx.subprotocol)
        await go_on()

    async with world.conversation(subprotocols=accepted) as (server,):
        server.use(look)
        server.on_ack("which", lambda ctx: ctx.subprotocol)
        client = world.client(server, wire, subprotocols=offered)
        assert client.subprotocol is None
        async with client:
            assert client.subprotocol == expected
            assert await client.request("which") == expected
    assert seen == [expected]
    assert client.subprotocol is None


async def test_a_running_server_accepts_others_from_then_on(world: World) -> None:
    async with world.conversation(subprotocols=["v1"]) as (server,):
        async with world.client(server, "ws", subprotocols=["v1", "v2"]) as first:
            server.update_config(subprotocols=["v2"])
            async with world.client_of(url_of(server, "ws"), subprotocols=["v1", "v2"]) as second:
                assert (first.subprotocol, second.subprotocol) == ("v1", "v2")


def test_what_is_no_list_of_names_is_refused(world: World) -> None:
    for wrong, words in (
        ("v1", r"subprotocols is a sequence of names: \['v1'\]"),
        (5, "subprotocols is a sequence of names, not 5"),
        (["a b"], "a subprotocol is an HTTP token, not 'a b'"),
    ):
        with pytest.raises(ValueError, match=words):
            world.server(subprotocols=wrong)
        with pytest.raises(ValueError, match=words):
            world.client_of("ws://localhost:1", subprotocols=wrong)
    with pytest.raises(ValueError, match="distinct tokens"):
        world.client_of("ws://localhost:1", subprotocols=["v1", "v1"])

"""Looking at a server's options and changing them while it runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from stelar_proto.errors import ConnectError
from stelar_proto.server import RateLimit
from tests.conformance.world import Inbox, World, inbox_of, raw_connection, read_to_end

pytestmark = pytest.mark.anyio


@pytest.mark.feature("update_config", "max_connections", "max_rooms_per_client", "rate_limit")
async def test_limits_change_at_once_for_those_who_are_connected_too(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        joined, ended = inbox_of(client, "joined-room"), inbox_of(client, "disconnect")
        server.update_config(max_rooms_per_client=1, max_connections=1)
        client.join_room("a")
        client.join_room("b")
        assert await client.request("echo", 1) == 1
        assert (joined.waiting, server.get_rooms()) == (1, ["a"])
        with pytest.raises(ConnectError):
            await world.client(server, wire).connect()
        server.update_config(rate_limit=RateLimit(1, 3600.0))
        assert await client.request("echo", 2) == 2
        client.emit("x")
        assert await ended.next() == (1008, "Rate limit exceeded")


@pytest.mark.feature("update_config", "max_payload_size")
async def test_sizes_change_for_connections_that_come_in_from_then_on(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, old):
        server.on_ack("size", lambda ctx: len(ctx.data))
        server.update_config(max_payload_size=100)
        async with world.client(server, wire) as new:
            ended = inbox_of(new, "disconnect")
            assert await old.request("size", "x" * 1000) == 1000
            news = [inbox_of(client, "news") for client in (old, new)]
            assert server.broadcast("news", 1) == 2
            assert [await inbox.next() for inbox in news] == [1, 1]
            new.emit("size", "x" * 1000)
            assert (await ended.next())[0] == 1009


@pytest.mark.feature("update_config", "generate_client_id", "health_endpoint")
async def test_generators_and_endpoints_change(world: World, wire: str) -> None:
    async with world.conversation(generate_client_id=lambda: "before") as (server,):
        server.update_config(generate_client_id=lambda: "after", health_endpoint="/up")
        ids = Inbox()
        server.on_connection(lambda ctx: ids(ctx.id))
        async with world.client(server, wire):
            assert await ids.next() == "after"
        for path, status in ((b"/up", b"200"), (b"/health", b"404")):
            async with raw_connection(server, "ws") as stream:
                await stream.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await read_to_end(stream))[9:12] == status


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": 4000}, "port cannot change here"),
        ({"host": "::1", "namespace": "/x"}, "host cannot change .*; namespace cannot change"),
        ({"tcp_dialect": "npm"}, "tcp_dialect cannot change"),
        ({"tls": ("chain.pem", "key.pem")}, "tls cannot change here: reload_tls"),
        ({"max_rooms": 5, "max_connections": 0}, "max_connections must be a positive whole number, not 0"),
        ({"max_rooms": 5, "prot": 1}, "there is no option 'prot'"),
        ({"max_rooms": 5, "trusted_proxies": ["x"]}, "trusted_proxies: 'x' is no network"),
    ],
)
@pytest.mark.feature("update_config")
async def test_a_change_that_makes_no_sense_changes_nothing(
    world: World, changes: dict[str, Any], words: str
) -> None:
    async with world.conversation("ws") as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        before = server.get_config()
        with pytest.raises(ValueError, match=words):
            server.update_config(**changes)
        assert server.get_config() == before
        assert await client.request("echo", 1) == 1


@pytest.mark.feature("get_config")
async def test_the_configuration_is_a_snapshot_that_tells_what_is_custom(world: World) -> None:
    server = world.server(generate_client_id=lambda: "x", max_rooms=5, rate_limit=RateLimit(5))
    config = server.get_config()
    assert (config.max_rooms, config.max_connections, config.rate_limit) == (5, 10_000, RateLimit(5))
    assert config.is_custom("generate_client_id")
    assert not config.is_custom("rate_limiter")
    assert config.custom == {"port", "tcp_port", "generate_client_id", "max_rooms", "rate_limit"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_rooms = 6  # type: ignore[misc]  # the mistake
    server.update_config(max_rooms=7)
    assert (config.max_rooms, server.get_config().max_rooms) == (5, 7)

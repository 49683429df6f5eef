"""Namespaces: several applications on one listener, apart in all but their limits."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from stelar_proto.errors import ConnectError
from tests.conformance.world import PATIENCE, Client, Inbox, Server, World, inbox_of, url_of

pytestmark = pytest.mark.anyio


def client_at(world: World, server: Server, path: str, **options: Any) -> Client:
    """A WebSocket client of the namespace at ``path``."""
    return world.client_of(url_of(server, "ws") + path, **options)


@pytest.mark.feature("of", "namespace", "on", "on_ack", "on_connection", "on_disconnect", "on_all")
async def test_each_namespace_has_its_own_handlers(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        log = Inbox()
        for name, namespace in (("root", server), ("game", server.of("/game"))):
            namespace.on_connection(lambda ctx, name=name: log((name, "connect", ctx.request.path)))
            namespace.on("hit", lambda ctx, name=name: log((name, "hit", ctx.data)))
            namespace.on_all(lambda ctx, name=name: log((name, "all", ctx.event)))
            namespace.on_ack("where", lambda ctx, name=name: name)
            namespace.on_disconnect(lambda ctx, name=name: log((name, "disconnect", ctx.data["code"])))
        async with server:
            for path, name in (("/", "root"), ("/game?token=1", "game")):
                async with client_at(world, server, path) as client:
                    client.emit("hit", 5)
                    assert await client.request("where") == name
                assert await log.take(4) == [
                    (name, "connect", path.partition("?")[0]),
                    (name, "hit", 5),
                    (name, "all", "hit"),
                    (name, "disconnect", 1000),
                ]


@pytest.mark.feature("of", "namespace", "broadcast", "broadcast_binary", "to", "to_binary", "to_id")
async def test_what_a_namespace_says_is_heard_by_its_clients_alone(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, browser, service):
        game = server.of("/game")
        async with client_at(world, server, "/game", reconnection=False) as player:
            for namespace in (server, game):
                namespace.on_ack("sync", lambda ctx: None)
            logs = {client: Inbox() for client in (browser, service, player)}
            for client, log in logs.items():
                client.join_room("hall")
                await client.request("sync")
                client.on_all(lambda event, data, log=log: log((event, data)))
            assert server.broadcast("news", 1) == 2
            assert game.broadcast("news", 2) == 1
            assert game.broadcast_binary("raw", b"\0") == 1
            assert server.to("hall", "news", 3) == 2
            assert game.to("hall", "news", 4) == 1
            assert game.to_binary("hall", "raw", b"\1") == 1
            player_id, service_id = str(player.get_id()), str(service.get_id())
            assert game.to_id(player_id, "news", 5)
            assert server.to_id(service_id, "news", 6)
            assert not server.to_id(player_id, "news", 7)
            assert not game.to_id(service_id, "news", 8)
            assert await logs[player].take(5) == [
                ("news", 2),
                ("raw", b"\0"),
                ("news", 4),
                ("raw", b"\1"),
                ("news", 5),
            ]
            assert await logs[service].take(3) == [("news", 1), ("news", 3), ("news", 6)]
            assert await logs[browser].take(2) == [("news", 1), ("news", 3)]
            assert [log.waiting for log in logs.values()] == [0, 0, 0]


@pytest.mark.feature(
    "of", "namespace", "get_clients", "get_room_members", "get_rooms", "get_stats", "disconnect"
)
async def test_a_namespace_knows_its_own_clients_and_rooms_and_the_server_counts_all(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, browser, service):
        game = server.of("/game")
        game.on_ack("sync", lambda ctx: None)
        async with client_at(world, server, "/game", reconnection=False) as player:
            player.join_room("hall")
            await player.request("sync")
            assert server.get_clients() == [browser.get_id(), service.get_id()]
            assert game.get_clients() == game.get_room_members("hall") == [player.get_id()]
            assert (server.get_rooms(), game.get_rooms()) == ([], ["hall"])
            stats = server.get_stats()
            assert (stats.ws_connections, stats.tcp_connections, stats.total_rooms) == (2, 1, 1)
            ended = inbox_of(player, "disconnect")
            assert not server.disconnect(str(player.get_id()))
            assert game.disconnect(str(player.get_id()), 4001, "game over")
            assert await ended.next() == (4001, "game over")
            await player.wait_closed()


@pytest.mark.feature(
    "of", "namespace", "ctx.broadcast", "ctx.broadcast_binary", "ctx.to", "ctx.to_id", "ctx.get_clients"
)
async def test_a_context_works_within_the_namespace_of_its_client(world: World) -> None:
    async with world.conversation("ws") as (server, stranger):
        game = server.of("/game")
        alone = inbox_of(stranger, "heard")
        async with client_at(world, server, "/game") as first, client_at(world, server, "/game") as second:

            @game.on_ack("speak")
            def speak(ctx: Any) -> list[Any]:
                return [
                    ctx.join_room("hall"),
                    ctx.broadcast("heard", 1),
                    ctx.broadcast_binary("heard", b"2"),
                    ctx.to("hall", "heard", 3),
                    ctx.to_id(second.get_id(), "heard", 4),
                    ctx.to_id(stranger.get_id(), "heard", 5),
                    ctx.get_clients() == [first.get_id(), second.get_id()],
                    ctx.get_clients("hall") == [first.get_id()],
                ]

            game.on_ack("enter", lambda ctx: ctx.join_room("hall"))
            assert await second.request("enter")
            heard = inbox_of(second, "heard")
            assert await first.request("speak") == [True, 1, 1, 1, True, False, True, False]
            assert await heard.take(4) == [1, b"2", 3, 4]
            server.broadcast("heard", 6)
            assert await alone.next() == 6
            assert alone.waiting == heard.waiting == 0


@pytest.mark.feature("of", "namespace", "max_connections")
async def test_connections_are_limited_over_all_namespaces_together(world: World, wire: str) -> None:
    async with world.conversation(wire, max_connections=2) as (server, _):
        server.of("/game")
        async with client_at(world, server, "/game"):
            for path in ("/", "/game"):
                with pytest.raises(ConnectError, match="503"):
                    await client_at(world, server, path).connect()


@pytest.mark.feature("of", "namespace", "max_rooms", "max_rooms_per_client")
async def test_rooms_are_limited_over_all_namespaces_together(world: World, wire: str) -> None:
    async with world.conversation(wire, max_rooms=2, max_rooms_per_client=1) as (server, client):
        for namespace in (server, server.of("/game")):
            namespace.on_ack("join", lambda ctx: ctx.join_room(ctx.data))
        async with client_at(world, server, "/game") as first, client_at(world, server, "/game") as second:
            assert await client.request("join", "hall")
            assert not await client.request("join", "yard")
            assert await first.request("join", "hall")
            assert not await second.request("join", "yard")
            assert await second.request("join", "hall")


@pytest.mark.feature("of", "namespace")
async def test_a_namespace_that_is_not_there_is_refused_with_404_until_it_is_made(world: World) -> None:
    async with world.conversation(namespace="/chat") as (server,):
        for path in ("", "/game"):
            with pytest.raises(ConnectError, match="404"):
                await client_at(world, server, path).connect()
        game = server.of("/game")
        async with client_at(world, server, "/game") as player, client_at(world, server, "/chat") as client:
            assert game.get_clients() == [player.get_id()]
            assert server.get_clients() == [client.get_id()]
            assert server.get_namespaces() == ["/chat", "/game"]


@pytest.mark.feature("of", "namespace")
async def test_namespaces_outlive_a_stop_and_their_clients_do_not(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        game = server.of("/game")
        for _ in range(2):
            async with server:
                client = client_at(world, server, "/game", reconnection=False)
                ended = inbox_of(client, "disconnect")
                await client.connect()
                assert game.get_clients() == [client.get_id()]
            assert await ended.next() == (1001, "Server shutting down")
            assert game.get_clients() == []
            await client.disconnect()

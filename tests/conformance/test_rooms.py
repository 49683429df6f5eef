"""Rooms and broadcasts: who hears what, on both wires at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.world import Inbox, World, inbox_of

pytestmark = pytest.mark.anyio


@pytest.mark.feature("ctx.broadcast", "one room for both wires")
async def test_a_broadcast_reaches_everyone_on_both_wires_but_the_sender(world: World) -> None:
    async with world.conversation("ws", "ws", "tcp", "tcp") as (server, *clients):
        server.on("say", lambda ctx: ctx.broadcast("said", ctx.data))
        inboxes = [inbox_of(client, "said") for client in clients]
        for number, client in enumerate(clients):
            client.emit("say", number)
            for other, inbox in enumerate(inboxes):
                if other != number:
                    assert await inbox.next() == number
        assert [inbox.waiting for inbox in inboxes] == [0, 0, 0, 0]


@pytest.mark.feature("ctx.broadcast_binary", "one room for both wires")
async def test_a_binary_broadcast_crosses_the_wires(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, browser, service):
        server.on("pic", lambda ctx: ctx.broadcast_binary("pic", ctx.data))
        at_browser, at_service = inbox_of(browser, "pic"), inbox_of(service, "pic")
        browser.emit_binary("pic", b"\0from ws")
        service.emit_binary("pic", b"\0from tcp")
        assert await at_service.next() == b"\0from ws"
        assert await at_browser.next() == b"\0from tcp"


@pytest.mark.feature("broadcast", "to", "to_id")
async def test_the_server_itself_sends_to_all_to_rooms_and_to_one(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, browser, service):
        for client in (browser, service):
            client.join_room("both")
        service.join_room("services")
        heard = {client: Inbox() for client in (browser, service)}
        for client, inbox in heard.items():
            client.on_all(lambda event, data, inbox=inbox: inbox((event, data)))
        server.on_ack("sync", lambda ctx: None)
        for client in (browser, service):
            await client.request("sync")  # joins are handled in order before it
        assert server.broadcast("news", 1) == 2
        assert server.to("both", "news", 2) == 2
        assert server.to("services", "news", 3) == 1
        assert server.to("both", "news", 4, exclude_id=browser.get_id()) == 1
        assert server.to("nobody", "news", 5) == 0
        assert server.to_id(str(browser.get_id()), "news", 6)
        assert not server.to_id("nobody", "news", 7)
        assert await heard[browser].take(4) == [
            ("joined-room", "both"),
            ("news", 1),
            ("news", 2),
            ("news", 6),
        ]
        assert await heard[service].take(6) == [
            ("joined-room", "both"),
            ("joined-room", "services"),
            ("news", 1),
            ("news", 2),
            ("news", 3),
            ("news", 4),
        ]


@pytest.mark.feature("rooms", "get_room_members", "get_rooms")
async def test_joining_and_leaving_is_confirmed_when_it_happened(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        log = Inbox()
        client.on_all(lambda event, data: log((event, data)))
        server.on_ack("rooms", lambda ctx: sorted(ctx.client_info.rooms))
        client.join_room("sala ñ ☃")
        client.join_room("sala ñ ☃")
        client.join_room("second")
        assert await client.request("rooms") == ["sala ñ ☃", "second"]
        assert server.get_room_members("second") == [client.get_id()]
        client.leave_room("sala ñ ☃")
        client.leave_room("never")
        assert await client.request("rooms") == ["second"]
        assert await log.take(3) == [
            ("joined-room", "sala ñ ☃"),
            ("joined-room", "second"),
            ("left-room", "sala ñ ☃"),
        ]
        assert log.waiting == 0
        assert server.get_rooms() == ["second"]


@pytest.mark.feature("rooms", "get_rooms", "get_clients")
async def test_a_client_that_goes_leaves_its_rooms_and_the_rooms_go_with_it(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        gone = Inbox()
        server.on_disconnect(lambda ctx: gone((ctx.id, server.get_rooms(), server.get_clients())))
        async with world.client(server, wire) as client:
            joined = inbox_of(client, "joined-room")
            client.join_room("a")
            client.join_room("b")
            await joined.take(2)
            client_id = client.get_id()
            assert server.get_rooms() == ["a", "b"]
        assert await gone.next() == (client_id, [], [])


@pytest.mark.feature("to", "order")
async def test_a_room_broadcast_comes_once_and_in_order_to_each_member(world: World) -> None:
    async with world.conversation("ws", "tcp", "ws", "tcp") as (server, *clients):
        server.on("say", lambda ctx: server.to("hall", "said", ctx.data))
        server.on_ack("sync", lambda ctx: None)
        inboxes = [inbox_of(client, "said") for client in clients]
        for client in clients:
            client.join_room("hall")
            await client.request("sync")
        for number in range(100):
            clients[0].emit("say", number)
        for inbox in inboxes:
            assert await inbox.take(100) == list(range(100))


@pytest.mark.feature("max_rooms", "max_rooms_per_client")
@pytest.mark.parametrize(("option", "rooms"), [("max_rooms", ["r0"]), ("max_rooms_per_client", ["r0"])])
async def test_a_join_over_a_limit_is_not_confirmed(
    world: World, wire: str, option: str, rooms: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    options: Any = {option: 1}
    async with world.conversation(wire, **options) as (server, client):
        server.on_ack("sync", lambda ctx: None)
        joined = inbox_of(client, "joined-room")
        client.join_room("r0")
        client.join_room("r1")
        await client.request("sync")
        assert await joined.next() == "r0"
        assert joined.waiting == 0
        assert server.get_rooms() == rooms
        assert "may not join" in caplog.text


@pytest.mark.feature("ctx.join_room", "ctx.leave_room")
async def test_handlers_put_clients_into_rooms_and_take_them_out(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):

        @server.on_ack("move")
        def move(ctx: Any) -> list[bool]:
            return [ctx.join_room("x"), ctx.join_room("x"), ctx.leave_room("x"), ctx.leave_room("x")]

        log = Inbox()
        client.on_all(lambda event, data: log((event, data)))
        assert await client.request("move") == [True, False, True, False]
        assert await log.take(2) == [("joined-room", "x"), ("left-room", "x")]


@pytest.mark.feature("ctx.to", "ctx.to_id", "ctx.get_clients", "get_clients")
async def test_a_handler_sends_to_a_room_or_to_one_and_leaves_the_sender_out(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, browser, service):
        heard = {client: inbox_of(client, "news") for client in (browser, service)}

        @server.on_ack("spread")
        def spread(ctx: Any) -> list[Any]:
            other = next(client for client in ctx.get_clients() if client != ctx.id)
            told = [ctx.to("hall", "news", "room"), ctx.to_id(other, "news", "one"), ctx.to_id("x", "news")]
            return [*told, ctx.get_clients("hall")]

        server.on_ack("sync", lambda ctx: None)
        for client in (browser, service):
            client.join_room("hall")
            await client.request("sync")
        ids = [browser.get_id(), service.get_id()]
        assert await browser.request("spread") == [1, True, False, ids]
        assert await heard[service].take(2) == ["room", "one"]
        assert heard[browser].waiting == 0
        assert server.get_clients() == ids


@pytest.mark.feature("broadcast_binary", "to_binary")
async def test_the_server_itself_sends_raw_bytes_to_all_and_to_rooms(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, browser, service):
        heard = {client: inbox_of(client, "pic") for client in (browser, service)}
        server.on_ack("join", lambda ctx: ctx.join_room("hall"))
        await service.request("join")
        assert server.broadcast_binary("pic", b"\0all", exclude_id="nobody") == 2
        assert server.to_binary("hall", "pic", b"\0hall") == 1
        assert server.to_binary("empty", "pic", b"\0") == 0
        assert await heard[service].take(2) == [b"\0all", b"\0hall"]
        assert await heard[browser].next() == b"\0all"
        assert heard[browser].waiting == 0

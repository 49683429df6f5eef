"""Hooks: told what a server does, and some of them asked whether it may, on both wires."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.errors import ConnectError
from stelar_proto.server import HOOKS, RateLimit
from tests.conformance.world import PATIENCE, Inbox, World, inbox_of, raw_connection, read_to_end

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def hooks_of(log: Inbox, is_async: bool, *names: str, answer: object = None) -> dict[str, Any]:
    """Hooks of ``names`` that put what they are told into ``log``, in order, and return ``answer``."""

    def plain(name: str, **arguments: Any) -> object:
        log((name, arguments))
        return answer

    async def later(name: str, **arguments: Any) -> object:
        await anyio.lowlevel.checkpoint()
        return plain(name, **arguments)

    return {name: partial(later if is_async else plain, name) for name in names}


@pytest.mark.feature("hooks", "on_client_connect", "on_client_disconnect")
async def test_coming_and_going_is_told(world: World, wire: str, is_async: bool) -> None:
    log = Inbox()
    hooks = hooks_of(log, is_async, "on_client_connect", "on_client_disconnect", answer=False)
    async with world.conversation(hooks=hooks) as (server,):
        server.on_connection(lambda ctx: log("connected"))
        server.on_disconnect(lambda ctx: log("disconnected"))
        async with world.client(server, wire) as client:
            name, told = await log.next()
            assert name == "on_client_connect"
            assert told["ctx"].id == client.get_id()
            assert {key: told[key] for key in told if key != "ctx"} == {
                "client_id": client.get_id(),
                "remote_address": "127.0.0.1",
                "transport": wire,
                "namespace": "/",
            }
            assert await log.next() == "connected"
            client_id = client.get_id()
        name, told = await log.next()
        assert (name, told["client_id"], told["code"], told["reason"]) == (
            "on_client_disconnect",
            client_id,
            1000,
            "",
        )
        assert await log.next() == "disconnected"


@pytest.mark.feature("on_client_disconnect", "on_disconnect", "graceful_shutdown")
async def test_a_server_that_stops_lets_goodbyes_come_to_their_end(world: World, wire: str) -> None:
    log = Inbox()

    async def forget(client_id: str, **_: Any) -> None:
        await anyio.sleep(0.05)
        log("hook")

    with anyio.fail_after(PATIENCE):
        server = world.server(hooks={"on_client_disconnect": forget})

        @server.on_disconnect
        async def say_so(ctx: Any) -> None:
            await anyio.sleep(0.05)
            log("handler")

        async with server:
            client = world.client(server, wire, reconnection=False)
            await client.connect()
        assert log.waiting == 2
        assert await log.take(2) == ["hook", "handler"]
        await client.disconnect()


@pytest.mark.feature("on_client_join_room", "on_client_leave_room")
async def test_joins_and_leaves_are_told_and_what_goes_leaves_too(
    world: World, wire: str, is_async: bool
) -> None:
    log = Inbox()
    hooks = hooks_of(log, is_async, "on_client_join_room", "on_client_leave_room", answer=True)
    async with world.conversation(hooks=hooks) as (server,):
        server.on_ack("sync", lambda ctx: None)
        async with world.client(server, wire) as client:
            client.join_room("a")
            client.join_room("b")
            client.leave_room("a")
            await client.request("sync")
        seen = [(name, told["room"], told.get("is_disconnect")) for name, told in await log.take(4)]
        assert seen == [
            ("on_client_join_room", "a", None),
            ("on_client_join_room", "b", None),
            ("on_client_leave_room", "a", False),
            ("on_client_leave_room", "b", True),
        ]
        assert server.get_rooms() == []


@pytest.mark.feature("on_client_join_room", "on_client_leave_room")
async def test_a_join_and_a_leave_that_a_hook_refuses_do_not_happen(
    world: World, wire: str, is_async: bool
) -> None:
    def may_join(room: str, **_: Any) -> bool:
        return room != "closed"

    async def may_join_later(room: str, **_: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return room != "closed"

    hooks = {
        "on_client_join_room": may_join_later if is_async else may_join,
        **hooks_of(Inbox(), is_async, "on_client_leave_room", answer=False),
    }
    async with world.conversation(wire, hooks=hooks) as (server, client):
        server.on_ack("rooms", lambda ctx: sorted(ctx.client_info.rooms))
        confirmed = Inbox()
        client.on_all(lambda event, data: confirmed((event, data)))
        client.join_room("closed")
        client.join_room("open")
        assert await client.request("rooms") == ["open"]  # decided in front of what was said next
        client.leave_room("open")
        assert await client.request("rooms") == ["open"]
        assert await confirmed.next() == ("joined-room", "open")
        assert confirmed.waiting == 0


@pytest.mark.feature("on_before_broadcast")
async def test_a_broadcast_that_a_hook_refuses_reaches_nobody(world: World, is_async: bool) -> None:
    def may_send(event: str, room: str | None, **_: Any) -> bool:
        return event != "secret" and room != "closed"

    async def may_send_later(**arguments: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return may_send(**arguments)

    hooks = {"on_before_broadcast": may_send_later if is_async else may_send}
    async with world.conversation("ws", "tcp", hooks=hooks) as (server, browser, service):
        server.on_ack("sync", lambda ctx: None)
        for client in (browser, service):
            client.join_room("closed")
            await client.request("sync")
        logs = [Inbox(), Inbox()]
        for client, log in zip((browser, service), logs, strict=True):
            client.on_all(lambda event, data, log=log: log((event, data)))
        sent = [
            server.broadcast("secret", 1),
            server.to("closed", "news", 2),
            server.broadcast("news", 3),
            server.broadcast_binary("news", b"4"),
        ]
        assert sent == ([0, 0, 0, 0] if is_async else [0, 0, 2, 2])
        for log in logs:
            assert await log.take(2) == [("news", 3), ("news", b"4")]
            assert log.waiting == 0


@pytest.mark.feature("on_max_connections_reached", "max_connections")
async def test_a_full_server_is_told(world: World, wire: str, is_async: bool) -> None:
    log = Inbox()
    hooks = hooks_of(log, is_async, "on_max_connections_reached", answer=False)
    async with world.conversation(wire, max_connections=1, hooks=hooks) as (server, _):
        with pytest.raises(ConnectError):
            await world.client(server, wire).connect()
        told = {"limit": 1, "current": 1, "remote_address": "127.0.0.1", "transport": wire}
        assert await log.next() == ("on_max_connections_reached", told)


@pytest.mark.feature("on_max_rooms_reached", "on_max_rooms_per_client_reached")
@pytest.mark.parametrize("option", ["max_rooms", "max_rooms_per_client"])
async def test_a_join_over_a_limit_is_told(world: World, wire: str, is_async: bool, option: str) -> None:
    log = Inbox()
    options: Any = {option: 1, "hooks": hooks_of(log, is_async, f"on_{option}_reached")}
    async with world.conversation(wire, **options) as (server, client):
        client.join_room("a")
        client.join_room("b")
        told = {"client_id": client.get_id(), "room": "b", "limit": 1, "current": 1}
        assert await log.next() == (f"on_{option}_reached", told)
        assert server.get_rooms() == ["a"]


@pytest.mark.feature("on_payload_too_large", "max_payload_size")
async def test_a_message_over_the_limit_is_told(world: World, wire: str, is_async: bool) -> None:
    log = Inbox()
    hooks = hooks_of(log, is_async, "on_payload_too_large")
    async with world.conversation(hooks=hooks, max_payload_size=1000) as (server,):
        client = world.client(server, wire, max_payload_size=10_000, reconnection=False)
        ended = inbox_of(client, "disconnect")
        await client.connect()
        client_id = client.get_id()
        client.emit("x", "y" * 5000)
        name, told = await log.next()
        assert (name, told["client_id"]) == ("on_payload_too_large", client_id)
        assert told["size"] > 5000
        assert 1000 <= told["limit"] < 1300
        code, _ = await ended.next()
        assert code == 1009
        await client.disconnect()


@pytest.mark.feature("on_rate_limit_exceeded", "rate_limit")
@pytest.mark.parametrize("is_spared", [False, True])
async def test_a_client_over_its_rate_limit_is_told_about_and_may_be_spared(
    world: World, wire: str, is_async: bool, is_spared: bool
) -> None:
    log, limit = Inbox(), RateLimit(2, 3600.0)
    hooks = hooks_of(log, is_async, "on_rate_limit_exceeded", answer=not is_spared)
    async with world.conversation(hooks=hooks, rate_limit=limit) as (server,):
        server.on_all(lambda ctx: log(ctx.data))
        client = world.client(server, wire, reconnection=False)
        ended = inbox_of(client, "disconnect")
        await client.connect()
        for number in range(4):
            client.emit("x", number)
        assert await log.take(2) == [0, 1]
        for _ in range(2 if is_spared else 1):
            name, told = await log.next()
            assert (name, told["event"], told["limit"]) == ("on_rate_limit_exceeded", "x", limit)
            assert told["client_id"] == told["ctx"].id
        if is_spared:
            assert server.broadcast("still-here") == 1
        else:
            assert await ended.next() == (1008, "Rate limit exceeded")
        await client.disconnect()
        assert log.waiting == 0


@pytest.mark.feature("on_invalid_message")
async def test_a_message_that_breaks_the_rules_is_told(world: World, is_async: bool) -> None:
    log = Inbox()
    async with world.conversation(hooks=hooks_of(log, is_async, "on_invalid_message")) as (server,):
        async with raw_connection(server, "tcp") as stream:
            await stream.send(b"\0\0\0\x0b\0\0\3a b1")
            name, told = await log.next()
            assert (name, set(told)) == ("on_invalid_message", {"client_id", "reason"})
            assert server.get_clients() == [told["client_id"]]
            await stream.send_eof()
            await read_to_end(stream)


@pytest.mark.feature("hooks", *HOOKS)
async def test_hooks_that_raise_are_logged_and_change_nothing(
    world: World, wire: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str, **_: Any) -> None:
        raise RuntimeError(name)

    async def fail_later(name: str, **_: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError(name)

    hooks = {name: partial(fail_later if is_async else fail, name) for name in HOOKS}
    with anyio.fail_after(PATIENCE):
        async with world.server(hooks=hooks, max_rooms=1, max_connections=1) as server:
            gone = Inbox()
            server.on_disconnect(lambda ctx: gone((server.get_clients(), server.get_rooms())))
            server.on_ack("sync", lambda ctx: None)
            async with world.client(server, wire) as client:
                news = inbox_of(client, "news")
                client.join_room("a")
                client.join_room("b")
                await client.request("sync")
                assert server.get_rooms() == ["a"]
                server.broadcast("news", 1)
                assert await news.next() == 1
                with pytest.raises(ConnectError):
                    await world.client(server, wire).connect()
            assert await gone.next() == ([], [])
    raised = {str(record.exc_info[1]) for record in caplog.records if record.exc_info}
    assert raised == {
        "on_client_connect",
        "on_client_join_room",
        "on_max_rooms_reached",
        "on_before_broadcast",
        "on_max_connections_reached",
        "on_client_leave_room",
        "on_client_disconnect",
    }


@pytest.mark.feature("hooks")
async def test_what_a_hook_does_itself_it_is_not_asked_about(world: World, wire: str, is_async: bool) -> None:
    def echo(event: str, **_: Any) -> None:
        server.broadcast("echo", event)

    async def echo_later(event: str, **_: Any) -> None:
        await anyio.lowlevel.checkpoint()
        echo(event)

    with anyio.fail_after(PATIENCE):
        server = world.server(hooks={"on_before_broadcast": echo_later if is_async else echo})
        async with server, world.client(server, wire) as client:
            log = Inbox()
            client.on_all(lambda event, data: log((event, data)))
            server.broadcast("x", 1)
            server.broadcast("y", 2)
            assert await log.take(4) == [("echo", "x"), ("x", 1), ("echo", "y"), ("y", 2)]


@pytest.mark.feature("hooks", "ctx.join_room", "ctx.disconnect", "disconnect")
async def test_a_hook_may_put_a_client_into_a_room_or_out_of_the_house(
    world: World, wire: str, is_async: bool
) -> None:
    def enter(ctx: Any, **_: Any) -> None:
        ctx.join_room("lobby")

    async def enter_later(ctx: Any, **_: Any) -> None:
        await anyio.lowlevel.checkpoint()
        enter(ctx)

    def expel(client_id: str, room: str, **_: Any) -> None:
        if room == "trap":
            server.disconnect(client_id, 4000, "not you")

    hooks = {"on_client_connect": enter_later if is_async else enter, "on_client_join_room": expel}
    with anyio.fail_after(PATIENCE):
        server = world.server(hooks=hooks)
        async with server:
            client = world.client(server, wire, reconnection=False)
            joined, ended = inbox_of(client, "joined-room"), inbox_of(client, "disconnect")
            await client.connect()
            assert await joined.next() == "lobby"
            client.join_room("trap")
            _, reason = await ended.next()
            assert reason == "not you"
            assert joined.waiting == 0
            await client.disconnect()  # else it would come again


@pytest.mark.feature("hooks", "on_before_broadcast")
async def test_hooks_decide_after_a_restart_too(world: World, wire: str, is_async: bool) -> None:
    with anyio.fail_after(PATIENCE):
        asked = Inbox()
        server = world.server(hooks=hooks_of(asked, is_async, "on_before_broadcast"))
        for number in range(2):
            async with server, world.client(server, wire) as client:
                news = inbox_of(client, "news")
                server.broadcast("news", number)
                assert await news.next() == number
            assert (await asked.next())[1]["data"] == number

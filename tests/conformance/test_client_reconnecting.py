"""A client that connects again, as its user sees it: states, events, waits, the queue, rooms."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.errors import ConnectError, ConnectionLost, MessageDropped, StateError
from tests.conformance.world import (
    PATIENCE,
    Client,
    Inbox,
    Server,
    World,
    inbox_of,
    read_head,
    read_to_end,
    url_of,
)

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"reconnection": True, "reconnection_delay": 0.01, "max_reconnection_delay": 0.05}


def kick(server: Server, client: Client) -> None:
    """End the connection, from the server's side."""
    assert server.disconnect(str(client.get_id()), 1001, "moving")


def log_of(client: Client) -> Inbox:
    """Everything that the client tells of itself."""
    log = Inbox()
    client.on("connect", lambda: log("connect"))
    client.on("disconnect", lambda code, reason: log(("disconnect", code)))
    client.on("reconnecting", lambda attempt: log(("reconnecting", attempt)))
    client.on("reconnect_failed", lambda: log("reconnect_failed"))
    client.on("error", lambda error: log(("error", type(error).__name__)))
    return log


@pytest.mark.feature(
    "client: reconnection", "client: connect", "client: disconnect", "client: reconnecting",
    "client: get_state", "client: is_connected", "client: on_state_change",
)  # fmt: skip
async def test_a_client_whose_connection_ends_connects_again(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        states = Inbox()
        hooks = {"on_state_change": lambda state, previous: states(state)}
        client = world.client(server, wire, hooks=hooks, **QUICK)
        log = log_of(client)
        async with client:
            first = client.get_id()
            kick(server, client)
            steps = ["connect", ("disconnect", 1001), ("reconnecting", 1), "connect"]
            assert await log.take(4) == steps
            assert client.is_connected()
            assert client.get_id() not in (None, first)
        assert await states.take(5) == [
            "connecting",
            "connected",
            "reconnecting",
            "connected",
            "disconnected",
        ]
        assert client.get_state() == "disconnected"


@pytest.mark.feature("client: reconnection")
async def test_with_reconnection_off_the_end_is_the_end(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire, reconnection=False)
        log = log_of(client)
        async with client:
            kick(server, client)
            await client.wait_closed()
            assert await log.take(2) == ["connect", ("disconnect", 1001)]
            assert client.get_state() == "disconnected"
        assert log.waiting == 0


@pytest.mark.feature("client: reconnection_attempts", "client: reconnect_failed", "client: error",
                     "client: get_last_error", "client: on_error", "client: wait_closed")  # fmt: skip
async def test_after_so_many_attempts_in_vain_it_stops(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        errors = Inbox()
        hooks = {"on_error": lambda error: errors(error)}
        client = world.client(server, wire, reconnection_attempts=3, hooks=hooks, **QUICK)
        log = log_of(client)
        async with client:
            await server.stop()
            await client.wait_closed()
            tried = [step for n in (1, 2, 3) for step in (("reconnecting", n), ("error", "ConnectError"))]
            assert await log.take(9) == ["connect", ("disconnect", 1001), *tried, "reconnect_failed"]
            assert client.get_state() == "disconnected"
            assert [type(error) for error in await errors.take(3)] == [ConnectError] * 3
            assert isinstance(client.get_last_error(), ConnectError)


@pytest.mark.feature("client: reconnection", "client: message_queue_size")
async def test_a_server_that_is_started_anew_is_found_again(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        ports = {"port": server.get_port(), "tcp_port": server.get_tcp_port()}
        async with world.client(server, wire, reconnection_attempts=None, **QUICK) as client:
            gone, back = inbox_of(client, "disconnect"), inbox_of(client, "connect")
            await server.stop()
            await gone.next()
            client.emit("x", "kept")
            async with world.server(**ports) as second:
                got = Inbox()
                second.on("x", lambda ctx: got(ctx.data))
                await back.next()
                assert await got.next() == "kept"


@pytest.mark.feature("client: reconnection_delay", "client: max_reconnection_delay",
                     "client: custom_reconnect_delay", "client: on_reconnect_delay")  # fmt: skip
async def test_waits_grow_and_may_be_chosen(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        delays: list[float] = []
        asked: list[Any] = []

        async def hook(attempt: int, delay: float) -> float:
            delays.append(delay)
            return 0.0

        def custom(attempt: int, base: float, maximum: float) -> float:
            asked.append((attempt, base, maximum))
            return 7.0

        options: dict[str, Any] = {
            "reconnection": True,
            "reconnection_attempts": 4,
            "hooks": {"on_reconnect_delay": hook},
        }
        options |= {"reconnection_delay": 1, "max_reconnection_delay": 2}
        clients = [
            world.client(server, wire, **options),
            world.client(server, wire, custom_reconnect_delay=custom, **options),
        ]
        for client in clients:
            await client.connect()
        await server.stop()
        for client in clients:
            await client.wait_closed()
            await client.disconnect()
        plain = [delay for delay in delays if delay != 7.0]
        for delay, most in zip(plain, (1, 1.5, 2, 2), strict=True):
            assert most / 2 <= delay <= most
        assert asked == [(attempt, 1, 2) for attempt in (1, 2, 3, 4)]
        assert len(delays) == 8


@pytest.mark.feature("client: reconnection", "client: connect")
async def test_the_first_connection_is_retried_when_that_is_asked_for(world: World, wire: str) -> None:
    with anyio.fail_after(PATIENCE):
        server = world.server()
        await server.start()
        ports = {"port": server.get_port(), "tcp_port": server.get_tcp_port()}
        url = url_of(server, wire)
        await server.stop()
        with pytest.raises(ConnectError, match="refused"):
            await world.client_of(url, **QUICK).connect()
        client = world.client_of(url, retry_first_connect=True, reconnection_attempts=None, **QUICK)
        trying, connected = inbox_of(client, "reconnecting"), inbox_of(client, "connect")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.connect)
            assert await trying.take(3) == [1, 2, 3]
            async with world.server(**ports):
                await connected.next()
                await client.disconnect()


@pytest.mark.feature("client: reconnection")
async def test_a_refusal_that_cannot_heal_is_not_tried_again(world: World) -> None:
    async with world.conversation(namespace="/chat") as (server,):
        client = world.client_of(f"{url_of(server, 'ws')}/chat", **QUICK)
        failed = inbox_of(client, "reconnect_failed")
        async with client:
            client.set_url(f"{url_of(server, 'ws')}/nowhere")
            kick(server, client)
            await failed.next()
            assert "404" in str(client.get_last_error())


@pytest.mark.feature("client: reconnection", "client: on_reconnect_delay")
async def test_a_refused_handshake_says_when_to_come_back_or_not_to(world: World) -> None:
    answers = [b"503 Full\r\nRetry-After: 40", b"429 Slowly\r\nRetry-After: 50", b"403 No\r\nRetry-After: 60"]
    heads: list[bytes] = []
    delays: list[float] = []

    async def refuse(stream: ByteStream) -> None:
        heads.append(await read_head(stream))
        await stream.send(b"HTTP/1.1 " + answers[len(heads) - 1] + b"\r\nContent-Length: 0\r\n\r\n")
        await read_to_end(stream)

    def hurry(attempt: int, delay: float) -> float:
        delays.append(delay)
        return 0.0

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(refuse) as port:
            options = {**QUICK, "retry_first_connect": True, "hooks": {"on_reconnect_delay": hurry}}
            with pytest.raises(ConnectError, match="HTTP 403 No"):
                await world.client_of(f"ws://localhost:{port}", **options).connect()
    assert delays == [40.0, 50.0]
    assert len(heads) == 3


@pytest.mark.feature("client: disconnect")
@pytest.mark.parametrize("delay", [0.0, 60.0], ids=["dialing", "waiting"])
@pytest.mark.sockets
async def test_disconnect_ends_the_attempts_at_once(world: World, wire: str, delay: float) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as deaf:
        port = deaf.extra(anyio.abc.SocketAttribute.local_port)
        async with world.conversation() as (server,):
            hooks = {"on_reconnect_delay": lambda attempt, delay_: delay}
            client = world.client(server, wire, reconnection=True, hooks=hooks)
            trying = inbox_of(client, "reconnecting")
            await client.connect()
            client.set_url(f"{wire}://127.0.0.1:{port}")  # where nobody answers
            kick(server, client)
            assert await trying.next() == 1
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5):
                await client.disconnect()
            assert client.get_state() == "disconnected"
            await client.disconnect()


@pytest.mark.feature(
    "client: message_queue_size", "client: emit", "client: emit_binary", "client: get_queue_size",
    "client: on_message_queued", "client: on_queue_drained",
)  # fmt: skip
async def test_what_is_emitted_meanwhile_is_sent_in_order(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        got, queued, drained = Inbox(), Inbox(), Inbox()
        server.on_all(lambda ctx: got((ctx.event, ctx.data)))
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        hooks = {
            "on_message_queued": lambda event, queue_size: queued((event, queue_size)),
            "on_queue_drained": lambda count: drained(count),
        }
        client = world.client(server, wire, hooks=hooks, **QUICK)
        answers = Inbox()
        client.on_ack("total", answers)
        client.emit("early", 0)
        async with client:
            assert await got.next() == ("early", 0)
            gone = inbox_of(client, "disconnect")
            kick(server, client)
            await gone.next()
            client.emit("a", {"ñ": 1})
            client.emit_binary("b", b"\0\xff")
            client.emit("sum", [1, 2], ack="total")
            assert client.get_queue_size() == 3
            assert await got.take(2) == [("a", {"ñ": 1}), ("b", b"\0\xff")]
            assert await answers.next() == 3
            assert client.get_queue_size() == 0
        assert await queued.take(4) == [("early", 1), ("a", 1), ("b", 2), ("sum", 3)]
        assert await drained.take(2) == [1, 3]


@pytest.mark.feature("client: message_queue_size", "client: on_error")
async def test_the_oldest_of_too_many_are_dropped_and_told(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        got, errors = Inbox(), Inbox()
        server.on("n", lambda ctx: got(ctx.data))
        client = world.client(
            server, wire, message_queue_size=3, hooks={"on_error": lambda error: errors(error)}
        )
        for number in range(5):
            client.emit("n", number)
        for _ in range(2):
            error = await errors.next()
            assert isinstance(error, MessageDropped)
            assert error.event == "n"
        assert client.get_messages_dropped() == 2
        async with client:
            assert await got.take(3) == [2, 3, 4]
        nothing = world.client(server, wire, message_queue_size=0)
        with pytest.raises(StateError, match="no connection"):
            nothing.emit("n")


@pytest.mark.feature("client: join_room", "client: leave_room")
async def test_rooms_are_joined_again_before_the_queue_is_sent(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, speaker):
        got = Inbox()
        server.on("say", lambda ctx: got(sorted(ctx.client_info.rooms)))
        client = world.client(server, wire, **QUICK)
        client.join_room("before")
        async with client:
            joined, heard = inbox_of(client, "joined-room"), inbox_of(client, "news")
            client.join_room("a")
            client.join_room("b")
            client.leave_room("a")
            gone = inbox_of(client, "disconnect")
            assert await joined.take(3) == ["before", "a", "b"]
            kick(server, client)
            await gone.next()
            client.emit("say")
            client.join_room("c")
            assert await got.next() == ["b", "before", "c"]
            server.to("c", "news", 1)
            assert await heard.next() == 1
        assert speaker.is_connected()


@pytest.mark.virtual_time
@pytest.mark.feature("client: queue_rate", "client: message_queue_size", "rate_limit")
async def test_what_waited_is_within_the_limits_that_servers_have_by_default(world: World, wire: str) -> None:
    server = world.package.StelarServer(port=0, tcp_port=0, network=world.network)
    got, joined = Inbox(), Inbox()
    server.on("n", lambda ctx: got(ctx.data))
    async with world.conversation(server=server):
        client = world.package.StelarClient(url_of(server, wire), network=world.network)
        client.on("joined-room", joined)
        client.on("connect", lambda: client.emit("n", 100))
        client.join_room("a")
        for number in range(100):
            client.emit("n", number)
        async with client:
            for number in range(101, 140):
                client.emit("n", number)
            assert await joined.next() == "a"
            assert await got.take(140) == list(range(140))
            assert client.is_connected()
            assert client.get_messages_dropped() == server.get_stats().rate_limited_messages == 0


@pytest.mark.feature("client: handler_timeout")
async def test_a_handler_that_hangs_holds_up_the_next_connection_for_a_bounded_time(
    world: World, wire: str
) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire, handler_timeout=0.05, **QUICK)
        log, hung = log_of(client), Inbox()

        @client.on("work")
        async def work(data: object) -> None:
            hung(data)
            await anyio.sleep_forever()

        async with client:
            assert await log.next() == "connect"
            server.broadcast("work", 1)
            await hung.next()
            kick(server, client)
            assert await log.take(3) == [("disconnect", 1001), ("reconnecting", 1), "connect"]
            assert client.get_handlers_cancelled() == 1


@pytest.mark.feature("client: request")
async def test_requests_in_flight_end_with_the_connection(world: World, wire: str) -> None:
    async with world.conversation(shutdown_timeout=0.1) as (server,):

        @server.on_ack("never")
        async def never(ctx: Any) -> None:
            await anyio.sleep_forever()

        server.on_ack("echo", lambda ctx: ctx.data)
        async with world.client(server, wire, **QUICK) as client, anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(ConnectionLost):
                    await client.request("never")
                ended("request")

            ended = Inbox()
            back = inbox_of(client, "connect")
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            kick(server, client)
            assert await ended.next() == "request"
            await back.next()
            assert await client.request("echo", 5) == 5


@pytest.mark.feature("client: disconnect", "client: once")
async def test_a_handler_may_end_it(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire, **QUICK)
        came = Inbox()
        server.on_connection(lambda ctx: came(ctx.id))

        @client.once("disconnect")
        async def leave(code: int, reason: str) -> None:
            await client.disconnect()

        await client.connect()
        kick(server, client)
        await client.wait_closed()
        await anyio.wait_all_tasks_blocked()
        assert came.waiting == 1
        assert client.get_state() == "disconnected"


@pytest.mark.feature("client: heartbeat_interval")
@pytest.mark.sockets
async def test_a_server_that_went_silent_is_left_for_another(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        target = server.get_port() if wire == "ws" else server.get_tcp_port()
        assert target is not None
        async with listener, anyio.create_task_group() as tasks:

            async def pass_the_welcome_on(stream: anyio.abc.SocketStream) -> None:
                """And then nothing."""
                async with stream, await anyio.connect_tcp("127.0.0.1", target) as behind:
                    if wire == "ws":
                        await behind.send(await stream.receive())
                    await stream.send(await behind.receive())
                    await anyio.sleep_forever()

            tasks.start_soon(listener.serve, pass_the_welcome_on)
            heartbeat = {"heartbeat_interval": 0.05, "heartbeat_timeout": 0.05}
            client = world.client_of(f"{wire}://127.0.0.1:{port}", **heartbeat, **QUICK)
            log = log_of(client)
            async with client:
                client.set_url(url_of(server, wire))
                assert (await log.take(5))[1:4] == [
                    ("error", "PeerTimeout"),
                    ("disconnect", 1011),
                    ("reconnecting", 1),
                ]
                assert client.is_connected()
            tasks.cancel_scope.cancel()


@pytest.mark.feature("client: connect", "client: disconnect", "client: async with client")
async def test_a_task_that_is_cancelled_at_any_moment_leaves_nothing(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        server.on_ack("double", lambda ctx: ctx.data * 2)

        async def live(client: Client) -> None:
            async with client:
                client.join_room("hall")
                client.emit("n", 1)
                assert await client.request("double", 2) == 4
                client.emit_binary("b", bytes(300_000))
                await client.drain()

        for steps in range(0, 60, 2):
            client = world.client(server, wire)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(live, client)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await client.wait_closed()
            assert client.get_state() == "disconnected"
        async with world.client(server, wire) as last:
            assert await last.request("double", 4) == 8

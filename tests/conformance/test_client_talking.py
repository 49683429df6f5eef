"""What a client can be told, asked and made to say: its methods, options and hooks, as its user sees them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from anyio.abc import ByteStream

from stelar_proto.errors import (
    AckTimeout,
    ConnectError,
    ConnectionLost,
    MessageError,
    SlowConsumer,
    StateError,
)
from tests.conformance.world import PATIENCE, Inbox, World, inbox_of, url_of, welcome

pytestmark = pytest.mark.anyio


# --- Connecting -------------------------------------------------------------------------------------------


@pytest.mark.feature("client: connect", "client: mode", "client: get_url")
async def test_every_form_of_url_finds_the_server(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        port = server.get_port() if wire == "ws" else server.get_tcp_port()
        urls: list[Any] = [port, f"localhost:{port}", f"{wire}://127.0.0.1:{port}"]
        if wire == "ws":
            urls.append(f"http://localhost:{port}")
        for url in urls:
            client = world.client_of(url, mode=wire)
            async with client:
                assert client.is_connected()
            assert client.get_url().endswith(f":{port}")


@pytest.mark.feature("client: connect", "client: async with client", "client: disconnect")
async def test_it_connects_once_and_may_do_so_again(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire)
        async with client:
            with pytest.raises(StateError, match="already"):
                await client.connect()
        await client.connect()
        assert client.is_connected()
        await client.disconnect()
        assert not client.is_connected()


@pytest.mark.feature("client: headers")
async def test_headers_stand_in_the_handshake(world: World) -> None:
    async with world.conversation() as (server,):
        got = Inbox()
        server.on_connection(lambda ctx: got(ctx.request.headers.get("authorization")))
        async with world.client(server, "ws", headers={"Authorization": "Bearer x"}):
            assert await got.next() == "Bearer x"


@pytest.mark.feature("client: connect_timeout", "client: connect")
@pytest.mark.sockets
async def test_a_server_that_never_answers_is_given_up_in_time(world: World, wire: str) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = world.client_of(f"{wire}://127.0.0.1:{port}", connect_timeout=0.05)
        with anyio.fail_after(PATIENCE), pytest.raises(ConnectError, match=rf":{port}: .* within 0\.05 s"):
            await client.connect()


def answer_names(world: World, monkeypatch: pytest.MonkeyPatch, name: str, places: list[Any]) -> None:
    """Have ``name`` be at all of ``places`` (host and port)."""

    async def resolve(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    class Resolver(trio.abc.HostnameResolver):
        getaddrinfo = resolve
        getnameinfo = resolve  # type: ignore[assignment]  # which nobody calls

    if world.backend == "trio":
        trio.socket.set_custom_hostname_resolver(Resolver())  # of this run
        return
    kind: Any = type(asyncio.get_running_loop())
    real = kind.getaddrinfo

    def look_up(loop: Any, host: object, *arguments: Any, **options: Any) -> Any:
        # uvloop asks about numbers, too
        return resolve() if host == name else real(loop, host, *arguments, **options)

    monkeypatch.setattr(kind, "getaddrinfo", look_up)


@pytest.mark.feature("client: connect")
@pytest.mark.sockets
@pytest.mark.parametrize("first", ["does not answer", "refuses"])
async def test_of_several_addresses_one_that_answers_is_enough(
    world: World, wire: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.conversation() as (server,):
        with contextlib.ExitStack() as sockets:
            closed = sockets.enter_context(socket.socket())
            closed.bind(("127.0.0.1", 0))
            if first == "does not answer":
                closed.listen(0)
                for _ in range(4):  # its backlog is full: the next handshakes are dropped
                    waiting = sockets.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(closed.getsockname())
            good = server.get_port() if wire == "ws" else server.get_tcp_port()
            places = [closed.getsockname(), ("127.0.0.1", good)]

            answer_names(world, monkeypatch, "two.example", places)
            async with world.client_of(f"{wire}://two.example:{good}", connect_timeout=PATIENCE / 2):
                pass
            places[1] = places[0]
            with pytest.raises(ConnectError, match=r"refused|within 0\.5 s"):
                await world.client_of(f"{wire}://two.example:{good}", connect_timeout=0.5).connect()


@pytest.mark.feature("client: set_url")
async def test_the_next_connection_may_go_elsewhere(world: World, wire: str) -> None:
    async with world.conversation() as (first,), world.conversation() as (second,):
        first.on_ack("who", lambda ctx: "first")
        second.on_ack("who", lambda ctx: "second")
        client = world.client(first, wire, reconnection=True, reconnection_delay=0.01)
        async with client:
            back = inbox_of(client, "connect")
            client.set_url(url_of(second, wire))
            assert await client.request("who") == "first"
            first.disconnect(str(client.get_id()))
            await back.next()
            assert await client.request("who") == "second"
            assert client.get_url() == url_of(second, wire)
            with pytest.raises(ValueError, match="host"):
                client.set_url("http://")


# --- Handlers ---------------------------------------------------------------------------------------------


@pytest.mark.feature(
    "client: on", "client: off", "client: once", "client: on_all", "client: remove_all_listeners"
)
async def test_handlers_are_called_in_order_as_long_as_they_are_registered(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        log = Inbox()

        @client.on("x")
        def first(data: Any) -> None:
            log(("first", data))

        @client.on("x")
        async def second(data: Any) -> None:
            await anyio.lowlevel.checkpoint()
            log(("second", data))

        client.once("x", lambda data: log(("once", data)))
        client.on_all(lambda event, data: log((event, data)))
        server.broadcast("x", 1)
        server.broadcast("x", 2)
        assert await log.take(4) == [("first", 1), ("second", 1), ("once", 1), ("x", 1)]
        assert await log.take(3) == [("first", 2), ("second", 2), ("x", 2)]
        assert client.off("x", first)
        server.broadcast("x", 3)
        assert await log.take(2) == [("second", 3), ("x", 3)]
        client.remove_all_listeners("x")
        server.broadcast("x", 4)
        assert await log.next() == ("x", 4)
        client.remove_all_listeners()
        server.broadcast("x", 5)
        client.on("y", log)
        server.broadcast("y", "last")
        assert await log.next() == "last"


@pytest.mark.feature("client: on_ack", "client: emit")
async def test_an_emit_may_ask_for_an_answer(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        totals = Inbox()
        client.on_ack("total", totals)
        client.emit("sum", [1, 2, 3], ack="total")
        assert await totals.next() == 6


@pytest.mark.feature("client: messages")
async def test_messages_may_be_iterated_over(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        client = world.client(server, wire)
        got: list[Any] = []
        async with anyio.create_task_group() as tasks:

            async def collect() -> None:
                async for message in messages:
                    got.append(message)
                    if message.event == "last":
                        await client.disconnect()

            await client.connect()
            messages = client.messages()
            tasks.start_soon(collect)
            server.broadcast("x", {"n": 1})
            server.broadcast_binary("y", b"2")
            server.broadcast("last", None)
        assert got == [("x", {"n": 1}, False), ("y", b"2", True), ("last", None, False)]


@pytest.mark.feature("client: messages")
async def test_an_iteration_that_falls_behind_is_bounded(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        latest = client.messages(limit=2, slow_consumer="drop_oldest")
        first = client.messages(limit=2, slow_consumer="drop_newest")
        strict = client.messages(limit=2)
        arrived = inbox_of(client, "n")
        for number in range(5):
            server.broadcast("n", number)
        await arrived.take(5)
        assert [(await latest.__anext__()).data for _ in range(2)] == [3, 4]
        assert [(await first.__anext__()).data for _ in range(2)] == [0, 1]
        assert latest.dropped == first.dropped == 3
        assert [(await strict.__anext__()).data for _ in range(2)] == [0, 1]
        with pytest.raises(SlowConsumer):
            await strict.__anext__()


# --- Saying -----------------------------------------------------------------------------------------------


@pytest.mark.feature("client: emit", "client: emit_binary", "client: request")
async def test_what_breaks_a_rule_raises_at_the_call(world: World, wire: str) -> None:
    async with world.conversation(wire) as (_, client):
        calls: list[Any] = [
            lambda: client.emit("a b"),
            lambda: client.emit("disconnect"),
            lambda: client.emit("x", object()),
            lambda: client.emit_binary("x", bytes(10 * 1024 * 1024 + 1)),
        ]
        for call in calls:
            with pytest.raises(MessageError):
                call()
        with pytest.raises(MessageError):
            await client.request("x", {1})
        assert client.is_connected()


@pytest.mark.feature("client: request", "client: ack_timeout")
async def test_a_request_that_is_not_answered_ends_in_time(world: World, wire: str) -> None:
    async with world.conversation(shutdown_timeout=0.1) as (server,):

        @server.on_ack("never")
        async def never(ctx: Any) -> None:
            await anyio.sleep_forever()

        async with world.client(server, wire, ack_timeout=0.05) as client:
            with pytest.raises(AckTimeout, match=r"within 0\.05 s"):
                await client.request("never")
            with pytest.raises(AckTimeout, match=r"within 0\.01 s"):
                await client.request("never", timeout=0.01)


@pytest.mark.feature("client: drain")
async def test_drain_waits_until_most_of_it_has_left(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        got = Inbox()
        server.on_all(lambda ctx: got(len(ctx.data)))
        for _ in range(20):
            client.emit_binary("big", bytes(100_000))
            await client.drain()
        assert await got.take(20) == [100_000] * 20


@pytest.mark.feature("client: send_file", "client: send_image")
@pytest.mark.sockets
async def test_files_are_sent_whatever_they_come_from(world: World, wire: str, tmp_path: Path) -> None:
    async with world.conversation(wire) as (server, client):
        got, progress = Inbox(), Inbox()
        server.on_all(lambda ctx: got((ctx.event, ctx.data)))
        content = bytes(range(256)) * 4096
        path = tmp_path / "large"
        path.write_bytes(content)
        assert await client.send_file(path, progress=progress) == len(content)
        assert (await progress.take(4))[-1] == (len(content), len(content))
        await client.send_file(io.BytesIO(b"open"), event="upload")
        await client.send_image(b"\x89PNG")
        assert await got.take(3) == [("file", content), ("upload", b"open"), ("image", b"\x89PNG")]
        with pytest.raises(FileNotFoundError):
            await client.send_file(tmp_path / "nothing")


@pytest.mark.feature("client: send_file")
async def test_a_large_file_leaves_piece_by_piece_and_nothing_comes_in_between(
    world: World, wire: str
) -> None:
    async with world.conversation(wire) as (server, client):
        got = Inbox()
        server.on_all(lambda ctx: got((ctx.event, ctx.data)))
        server.on_ack("echo", lambda ctx: ctx.data)
        content = bytes(range(256)) * 4096
        told = []

        async def progress(done: int, size: int) -> None:
            told.append((done, size))
            client.emit("done", done)
            if done < size:
                server.broadcast("ping-pong", {})  # the other way is free
            await anyio.lowlevel.checkpoint()

        client.emit("before")
        assert await client.send_file(content, progress=progress) == len(content)
        assert await client.request("echo", "behind") == "behind"
        steps = [(step * len(content) // 4) for step in range(1, 5)]
        assert told == [(done, len(content)) for done in steps]
        done = [("done", done) for done in steps]
        assert await got.take(6) == [("before", None), ("file", content), *done]


@pytest.mark.feature("client: send_file", "client: reconnection")
async def test_a_file_that_is_not_sent_to_its_end_ends_its_connection_only(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        got = Inbox()
        server.on_all(lambda ctx: got((ctx.event, ctx.data)))
        client = world.client(server, wire, reconnection=True, reconnection_delay=0.01)
        ended = inbox_of(client, "disconnect")
        async with client:
            with anyio.CancelScope() as scope:

                async def progress(done: int, size: int) -> None:
                    client.emit("meanwhile", done)
                    scope.cancel()
                    await anyio.sleep_forever()

                await client.send_file(bytes(2_000_000), progress=progress)
            assert scope.cancelled_caught
            assert (client.get_state(), client.is_connected()) == ("reconnecting", False)
            with pytest.raises(StateError, match="one is being made"):
                await client.request("early")
            assert await ended.next() == (1006, "a file could not be sent to its end")
            assert await got.next() == ("meanwhile", 256 * 1024)
            assert client.get_messages_dropped() == 0


@pytest.mark.feature("client: send_file")
async def test_a_file_is_taken_no_faster_than_its_server_reads(world: World, wire: str) -> None:
    size, taken = 64 * 2**20, [0]

    async def serve(stream: ByteStream) -> None:
        await welcome(stream, wire)
        await stream.receive(1)  # and no more
        await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port, anyio.create_task_group() as tasks:
            limits = {"max_payload_size": 2 * size, "max_frame_size": 2 * size}
            client = world.client_of(f"{wire}://127.0.0.1:{port}", close_timeout=0.01, **limits)
            async with client:
                content = memoryview(bytearray(size))

                async def send() -> None:
                    with pytest.raises(ConnectionLost):
                        await client.send_file(content, progress=lambda done, _: taken.append(done))

                tasks.start_soon(send)
                count = 0
                while count < len(taken) or count == 1:  # until no more of it is
                    count = len(taken)
                    await anyio.sleep(0.05)
                assert 0 < taken[-1] < size / 3  # it is in the buffers of the system, both ways


@pytest.mark.feature("client: max_payload_size", "client: max_frame_size")
async def test_a_server_that_sends_too_much_is_left(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        for limits in ({"max_payload_size": 1000}, {"max_frame_size": 1000}):
            client = world.client(server, wire, reconnection=False, **limits)
            ended = inbox_of(client, "disconnect")
            async with client:
                server.broadcast("x", "y" * 2000)
                assert (await ended.next())[0] == 1009
                assert "the limit is 1" in str(client.get_last_error())
        async with world.client(server, wire, max_payload_size=1000) as client:
            with pytest.raises(MessageError, match="max_payload_size"):
                client.emit("x", "y" * 2000)


# --- Information and options ------------------------------------------------------------------------------


@pytest.mark.feature("client: get_messages_sent", "client: get_messages_received", "client: get_connect_time",
                     "client: get_id")  # fmt: skip
async def test_a_client_counts_and_knows_itself(world: World, wire: str) -> None:
    async with world.conversation() as (server,):
        server.on_ack("echo", lambda ctx: ctx.data)
        client = world.client(server, wire)
        assert (client.get_id(), client.get_connect_time()) == (None, None)
        for sent in (2, 4):
            before = time.time()
            async with client:
                client.emit("x")
                await client.request("echo")
                assert client.get_messages_sent() == sent
                assert client.get_messages_received() == sent // 2
                assert before - 1 <= (client.get_connect_time() or 0) <= time.time() + 1
                assert server.get_clients() == [client.get_id()]


@pytest.mark.feature("client: update_options", "client: get_options")
async def test_options_may_change_and_are_checked_first(world: World, wire: str) -> None:
    async with world.conversation(shutdown_timeout=0.1) as (server,):

        @server.on_ack("never")
        async def never(ctx: Any) -> None:
            await anyio.sleep_forever()

        async with world.client(server, wire) as client:
            before = client.get_options()
            client.update_options(ack_timeout=0.02, headers={"X-A": "b"})
            assert (before.ack_timeout, client.get_options().ack_timeout) == (5.0, 0.02)
            with pytest.raises(AckTimeout):
                await client.request("never")
            wrong: Any = ({"ack_timeout": -1}, {"no_such_option": 1}, {"reconnection_attempts": 0})
            for changes in wrong:
                with pytest.raises(ValueError, match=r"must be|there is no option"):
                    client.update_options(**changes)
            assert client.get_options().ack_timeout == 0.02


@pytest.mark.feature("client: logger")
async def test_the_client_reports_where_it_is_told_to(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation() as (server,):
        async with world.client(server, wire, logger=logging.getLogger("mine")) as client:

            @client.on("x")
            def fail(data: Any) -> None:
                raise ZeroDivisionError

            handled = inbox_of(client, "x")
            server.broadcast("x", None)
            await handled.next()
    assert {record.name for record in caplog.records if record.exc_info} == {"mine"}


@pytest.mark.feature("client: serializer")
async def test_another_serializer_is_used_both_ways(world: World, wire: str) -> None:
    read: list[str] = []

    class Loud:
        def dumps(self, value: Any) -> str:
            return json.dumps(value.upper() if isinstance(value, str) else value)

        def loads(self, data: str) -> Any:
            read.append(data)
            return json.loads(data)

    async with world.conversation() as (server,):
        server.on("say", lambda ctx: ctx.emit("said", ctx.data))
        async with world.client(server, wire, serializer=Loud()) as client:
            said = inbox_of(client, "said")
            client.emit("say", "hola")
            assert await said.next() == "HOLA"
            assert "HOLA" in read[-1]


# --- Hooks ------------------------------------------------------------------------------------------------


@pytest.mark.feature("client: on_before_emit", "client: on_message", "client: hooks")
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_hooks_decide_and_are_told(world: World, wire: str, is_async: bool) -> None:
    async with world.conversation() as (server,):
        told = Inbox()

        def before(event: str, data: str) -> bool:
            return data != "secret"

        async def before_later(event: str, data: str) -> bool:
            await anyio.lowlevel.checkpoint()
            return before(event, data)

        async def message_later(event: str, data: Any, is_binary: bool) -> None:
            await anyio.lowlevel.checkpoint()
            told((event, data, is_binary))

        hooks = {
            "on_before_emit": before_later if is_async else before,
            "on_message": message_later if is_async else lambda **fields: told(tuple(fields.values())),
        }
        server.on("say", lambda ctx: ctx.emit("said", ctx.data))
        async with world.client(server, wire, hooks=hooks) as client:
            for words in ("first", "secret", "last"):
                client.emit("say", words)
            expected = [("said", "first", False), ("said", "last", False)]
            assert await told.take(2) == expected


# --- Servers that lie -------------------------------------------------------------------------------------


@pytest.mark.feature("client: error", "client: on_error", "client: get_last_error")
@pytest.mark.parametrize("lie", ["200", "wrong accept", "endless headers", "noise", "nothing"])
@pytest.mark.sockets
async def test_a_server_that_lies_is_named(world: World, lie: str) -> None:
    answers = {
        "200": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "wrong accept": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "endless headers": b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 100_000,
        "noise": bytes(range(256)) * 10,
        "nothing": b"",
    }

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            with contextlib.suppress(anyio.BrokenResourceError):
                await stream.send(answers[lie])

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with anyio.fail_after(PATIENCE):
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            errors: list[Exception] = []
            hooks = {"on_error": lambda error: errors.append(error)}
            options: dict[str, Any] = {
                "reconnection": True,
                "reconnection_delay": 0.01,
                "max_reconnection_delay": 0.01,
                "hooks": hooks,
            }
            client = world.client_of(
                f"ws://127.0.0.1:{port}", retry_first_connect=True, reconnection_attempts=2, **options
            )
            told = inbox_of(client, "error")
            with pytest.raises(ConnectError, match=f"cannot connect to ws://127.0.0.1:{port}: ") as caught:
                await client.connect()
            assert len(errors) == 3
            assert await told.take(2) == errors[:2]
            assert client.get_last_error() is errors[2] is caught.value
            tasks.cancel_scope.cancel()


@pytest.mark.feature("client: error", "client: get_last_error")
@pytest.mark.sockets
async def test_a_second_connect_frame_is_named_and_costs_nothing(world: World) -> None:
    def hello(client_id: bytes) -> bytes:
        return (14 + len(client_id)).to_bytes(4, "big") + b"\6\0\7connect" + client_id

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(hello(b"first") + hello(b"second"))
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with anyio.fail_after(PATIENCE):
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            client = world.client_of(f"tcp://127.0.0.1:{port}", close_timeout=0.05)
            errors = inbox_of(client, "error")
            async with client:
                error = await errors.next()
                assert "second client id" in str(error)
                assert client.get_last_error() is error
                assert (client.is_connected(), client.get_id()) == (True, "first")
            tasks.cancel_scope.cancel()

"""What a peer does wrong costs that peer its connection, is answered with words, and nobody else notices."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.server.peer import Peer
from stelar_proto.ws.handshake import accept_key
from tests.conformance.world import (
    PATIENCE,
    Inbox,
    World,
    inbox_of,
    raw_connection,
    read_exactly,
    read_head,
    read_to_end,
)

pytestmark = pytest.mark.anyio

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\0\0\0\0"


async def bystander_is_well(server: Any, client: Any) -> None:
    assert await client.request("echo", "still") == "still"
    assert server.get_clients() == [client.get_id()]


def error_frame(words: bytes) -> bytes:
    return (12 + len(words)).to_bytes(4, "big") + b"\x0a\0\5error" + words


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\0\0\0\6\0\0\0", error_frame(b"INVALID_FRAME_SIZE")),
        (b"\xff\xff\xff\xff", error_frame(b"FRAME_TOO_LARGE")),
        (b"\0\0\0\x0a\0\0\4abc", error_frame(b"INVALID_EVENT_LENGTH")),
        (b"\0\0\1\x08\0\1\1" + b"a" * 257, error_frame(b"EVENT_TOO_LONG")),
        (b"\0\0\0\x09\0\0\2\xc3\x28", error_frame(b"INVALID_EVENT")),
        (b"\0\0\0\7\xee\0\0", error_frame(b"UNKNOWN_FRAME_TYPE")),
        (b"GET / HTTP/1.1\r\n\r\n", error_frame(b"FRAME_TOO_LARGE")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", error_frame(b"FRAME_TOO_LARGE")),
    ],
    ids=lambda value: value[:8].hex() if isinstance(value, bytes) else None,
)
async def test_broken_tcp_frames_are_answered_with_their_code(
    world: World, sent: bytes, answer: bytes
) -> None:
    async with world.conversation("tcp") as (server, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        async with raw_connection(server, "tcp") as stream:
            await stream.send(sent + b"\0" * 50)
            received = await read_to_end(stream)
            assert received[52 - 2 :] == answer  # behind the Connect frame with its 36 characters of id
        await bystander_is_well(server, bystander)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x01x", 1002),
        (b"\xc1\x80" + MASK, 1002),
        (b"\x83\x80" + MASK, 1002),
        (b"\x89\xfe\0\x7e" + MASK, 1002),
        (b"\x09\x80" + MASK, 1002),
        (b"\x80\x80" + MASK, 1002),
        (b"\x82\xff\x80\0\0\0\0\0\0\0", 1002),
        (b"\x82\xff\0\0\0\0\x40\0\0\0", 1009),
        (b"\x81\x81" + MASK + b"\xff", 1007),
        (b"\x88\x82" + MASK + b"\x03\xed", 1002),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else None,
)
async def test_broken_websocket_frames_are_answered_with_their_close_code(
    world: World, frame: bytes, code: int
) -> None:
    async with world.conversation("ws", announce_id=False) as (server, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        async with raw_connection(server, "ws") as stream:
            await stream.send(UPGRADE)
            await read_head(stream)
            await stream.send(frame + b"\0" * 50)
            close = await read_to_end(stream)
            assert close[0] == 0x88
            assert int.from_bytes(close[2:4], "big") == code
            assert close[4:].decode()
        await bystander_is_well(server, bystander)


async def test_what_came_in_front_of_a_fault_is_answered_in_front_of_the_goodbye(
    world: World, wire: str
) -> None:
    async with world.conversation(announce_id=False, generate_client_id=lambda: "c") as (server,):
        server.on("ask", lambda ctx: ctx.emit("answer", 1))
        async with raw_connection(server, wire) as stream:
            if wire == "tcp":
                await stream.send(b"\0\0\0\x0b\0\0\3ask1" + b"\0\0\0\7\xff\0\0")
                expected = b"\0\0\0\x0e\0\0\6answer1" + error_frame(b"UNKNOWN_FRAME_TYPE")
            else:
                await stream.send(UPGRADE)
                await read_head(stream)
                await stream.send(b"\x81\x8f" + MASK + b'{"event":"ask"}' + b"\x88\x82" + MASK + b"\x03\xe8")
                expected = b'\x81\x1b{"event":"answer","data":1}' + b"\x88\x02\x03\xe8"
            assert (await read_to_end(stream)).endswith(expected)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000, 431),
        (UPGRADE.replace(b"Version: 13", b"Version: 8"), 426),
        (UPGRADE.replace(b"GET /", b"GET /nowhere"), 404),
        (UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
        pytest.param(UPGRADE + b"\x81\x80" + MASK, 400, marks=pytest.mark.sockets),  # if it comes at once
        (UPGRADE.replace(b"GET", b"POST"), 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
async def test_bad_requests_are_answered_with_their_status(world: World, head: bytes, status: int) -> None:
    async with world.conversation("ws") as (server, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        async with raw_connection(server, "ws") as stream:
            await stream.send(head)
            answer = await read_to_end(stream)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nConnection: close" in answer
            assert answer.partition(b"\r\n\r\n")[2].strip()
        await bystander_is_well(server, bystander)


async def test_a_message_that_breaks_the_rules_is_dropped_and_reported_and_the_client_stays(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "stelar.server")
    async with world.conversation(announce_id=False) as (server,):
        heard = Inbox()
        server.on_all(lambda ctx: heard((ctx.event, ctx.data)))
        async with raw_connection(server, wire) as stream:
            if wire == "tcp":
                bad = b"\0\0\0\x0c\0\0\1x{no}" + b"\0\0\0\x0d\0\0\4pingnu" + b"\0\0\0\x0a\0\0\3a b"
                await stream.send(bad + b"\0\0\0\x0c\0\0\4good1")
            else:
                await stream.send(UPGRADE)
                await read_head(stream)
                texts = [b"{no}", b"[]", b'{"event":"a b"}', b'{"event":"good","data":1}']
                await stream.send(b"".join(bytes((0x81, 0x80 | len(text))) + MASK + text for text in texts))
            assert await heard.next() == ("good", 1)
        assert server.get_stats().invalid_messages == 3
        assert caplog.text.count("was dropped") == 3


@pytest.mark.feature("max_payload_size", "max_frame_size")
@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.parametrize("limit", ["max_payload_size", "max_frame_size"])
async def test_a_message_over_the_limit_ends_its_sender_with_the_reason(
    world: World, wire: str, limit: str, size: int
) -> None:
    options: Any = {limit: 900}
    async with world.conversation(wire, wire, **options) as (server, offender, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        ended, errors = inbox_of(offender, "disconnect"), inbox_of(offender, "error")
        offender.emit_binary("big", b"x" * size)
        code, reason = await ended.next()
        assert code == 1009
        assert ("limit is 900" if wire == "ws" else "FRAME_TOO_LARGE") in reason
        assert errors.waiting == 0
        await bystander_is_well(server, bystander)


@pytest.mark.feature("connect_timeout")
async def test_a_client_that_says_nothing_is_given_up_at_the_connect_deadline(world: World) -> None:
    async with world.conversation("ws", connect_timeout=0.1) as (server, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        async with raw_connection(server, "ws") as silent, raw_connection(server, "ws") as slow:
            await slow.send(b"GET / HT")
            assert await read_to_end(silent) == b""
            assert await read_to_end(slow) == b""
        await bystander_is_well(server, bystander)


@pytest.mark.feature("heartbeat_interval", "heartbeat_timeout")
async def test_a_dead_client_is_dropped_and_a_live_one_is_not(world: World, wire: str) -> None:
    options: Any = {"heartbeat_interval": 0.05, "heartbeat_timeout": 0.1}
    async with world.conversation(wire, announce_id=False, **options) as (server, alive):
        gone = Inbox()
        server.on_disconnect(lambda ctx: gone((ctx.id, ctx.data)))
        server.on_ack("echo", lambda ctx: ctx.data)
        async with raw_connection(server, wire) as deaf:
            if wire == "ws":
                await deaf.send(UPGRADE)
            client_id, how = await gone.next()
            assert client_id != alive.get_id()
            assert how == {"code": 1011, "reason": "Heartbeat timeout"}
            received = await read_to_end(deaf)
            if wire == "ws":
                assert received.endswith(b"\x89\0\x88\x13\x03\xf3Heartbeat timeout")
            else:
                assert received.endswith(b"\0\0\0\7\2\0\0")
        await bystander_is_well(server, alive)


async def test_a_client_notices_a_server_that_went_silent(world: World, wire: str) -> None:
    async def serve(stream: ByteStream) -> None:
        if wire == "tcp":
            await stream.send(b"\0\0\0\x0f\6\0\7connectx")
        else:
            key = (await read_head(stream)).partition(b"Sec-WebSocket-Key: ")[2][:24].decode()
            accept = accept_key(key).encode()
            await stream.send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        await read_to_end(stream)

    with anyio.fail_after(PATIENCE):
        async with world.raw_server(serve) as port:
            client = world.client_of(
                f"{wire}://127.0.0.1:{port}",
                heartbeat_interval=0.05,
                heartbeat_timeout=0.05,
                reconnection=False,
            )
            ended, errors = inbox_of(client, "disconnect"), inbox_of(client, "error")
            async with client:
                assert await ended.next() == (1011, "Heartbeat timeout")
                assert "sign of life" in str(await errors.next())
                await client.wait_closed()


@pytest.mark.feature("outbox_limit", "slow_consumer")
async def test_a_client_that_never_reads_is_cut_and_the_others_are_served(world: World, wire: str) -> None:
    async with world.conversation(
        "ws", "tcp", outbox_limit=200_000, announce_id=False, close_timeout=0.2
    ) as (server, *others):
        gone = Inbox()
        server.on_disconnect(lambda ctx: gone((ctx.id, ctx.data["code"])))
        joined = Inbox()
        server.on_connection(lambda ctx: joined(ctx.id))
        numbers = [inbox_of(other, "number") for other in others]
        async with raw_connection(server, wire) as deaf:
            if wire == "ws":
                await deaf.send(UPGRADE)
            deaf_id = await joined.next()
            sent = 0
            while len(server.get_clients()) == 3 and sent < 2000:
                server.broadcast("number", "x" * 50_000)
                sent += 1
                for inbox in numbers:
                    await inbox.next()
            assert await gone.next() == (deaf_id, 1006)
        stats = server.get_stats()
        assert stats.dropped_messages > 0
        assert stats.active_connections == 2


@pytest.mark.feature("inbox_limit")
async def test_a_client_whose_handler_falls_behind_is_read_no_faster(world: World, wire: str) -> None:
    async with (
        world.conversation(inbox_limit=8) as (server,),
        world.client(server, wire, outbox_limit=64_000_000) as client,
    ):
        gate = anyio.Event()
        handled = Inbox()

        @server.on("work")
        async def work(ctx: Any) -> None:
            await gate.wait()
            handled(ctx.data["n"])

        padding = "x" * 60_000
        for number in range(400):
            client.emit("work", {"n": number, "padding": padding})
        with pytest.raises(TimeoutError), anyio.fail_after(0.2):
            await client.drain()  # 24 MB do not fit into the sockets' buffers
        assert server.get_stats().total_messages_received < 400
        gate.set()
        await client.drain()
        assert await handled.take(400) == list(range(400))


@pytest.mark.feature("on_disconnect")
async def test_a_client_killed_in_the_middle_of_a_message_is_forgotten(world: World, wire: str) -> None:
    async with world.conversation("ws", announce_id=False) as (server, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        gone = Inbox()
        server.on_disconnect(lambda ctx: gone(ctx.data["code"]))
        async with raw_connection(server, wire) as stream:
            if wire == "ws":
                await stream.send(UPGRADE + b"")
                await read_exactly(stream, 100)
                await stream.send(b"\x81\xfe\x10\0" + MASK + b'{"event":')
            else:
                await read_exactly(stream, 50)
                await stream.send(b"\0\0\x10\0\0\0\4half")
        assert await gone.next() == 1006
        await bystander_is_well(server, bystander)


async def test_a_fault_of_the_library_costs_one_connection(
    world: World, wire: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation(wire, wire) as (server, victim, bystander):
        server.on_ack("echo", lambda ctx: ctx.data)
        handle = Peer._handle

        def fail(peer: Peer, event: Any) -> Any:
            if peer.id == victim_id:
                raise RuntimeError("a fault of ours")
            return handle(peer, event)

        victim_id = victim.get_id()
        monkeypatch.setattr(Peer, "_handle", fail)
        ended = inbox_of(victim, "disconnect")
        victim.emit("x")
        assert (await ended.next())[0] == 1006
        await bystander_is_well(server, bystander)
    assert "a fault of ours" in caplog.text


@pytest.mark.feature("on")
async def test_an_event_that_nobody_handles_is_counted_and_nothing_else(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("echo", lambda ctx: ctx.data)
        client.emit("nobody", 1)
        client.emit_binary("nobody", b"1")
        await bystander_is_well(server, client)
        stats = server.get_stats()
        assert (stats.total_messages_received, stats.invalid_messages) == (3, 0)
    assert caplog.records == []

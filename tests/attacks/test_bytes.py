"""Attacks on the frames: bytes that lie, come one by one, or stop coming at the worst moment."""

from __future__ import annotations

import socket
import struct
import tracemalloc
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute

from tests.attacks.siege import besieged, closed_with, intruder, read_frame, speaker
from tests.conformance.grounds import SOCKETS
from tests.conformance.world import Inbox, World, raw_connection, read_exactly, read_head, read_to_end
from tests.support.wires import UPGRADE, frame, masked

pytestmark = pytest.mark.anyio

GROUNDS = SOCKETS

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("wire", "header", "code"),
    [
        ("ws", b"\x82\xff" + (2**63).to_bytes(8), 1002),
        ("ws", b"\x82\xff" + (2**64 - 1).to_bytes(8), 1002),
        ("ws", b"\x82\xff" + (2**63 - 1).to_bytes(8) + b"\0\0\0\0", 1009),
        ("ws", b"\x02\xff" + (10 * MIB + 1).to_bytes(8) + b"\0\0\0\0", 1009),
        ("tcp", (2**32 - 1).to_bytes(4), None),
        ("tcp", (10 * MIB + 1).to_bytes(4), None),
    ],
)
async def test_a_length_over_the_limit_is_refused_at_its_header(
    world: World, wire: str, header: bytes, code: int | None
) -> None:
    """Costs the header's 4 to 14 bytes; nothing is reserved. ``on_payload_too_large`` and the log tell."""
    async with besieged(world) as siege, intruder(siege, wire) as liar:
        tracemalloc.start()
        await liar.send(header)
        received = await read_to_end(liar)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MIB
        if code is None:
            assert closed_with(wire, received, 0, b"FRAME_TOO_LARGE")
        else:
            assert received[2:4] == code.to_bytes(2)
        await siege.only_the_honest_are_left()


async def test_a_conversation_in_segments_of_one_byte_is_one(world: World, wire: str) -> None:
    """What comes in a thousand segments costs a thousand reads, and is heard as if it had come in one."""
    async with besieged(world) as siege, raw_connection(siege.server, wire) as stream:
        stream.extra(SocketAttribute.raw_socket).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heard = Inbox()
        siege.server.on("chat", lambda ctx: heard(ctx.data))
        said = UPGRADE if wire == "ws" else b""
        for byte in said:
            await stream.send(bytes((byte,)))
        if wire == "ws":
            assert b" 101 " in await read_head(stream)
        await read_frame(stream, wire)
        message = speaker(wire).event("chat", "¡hola! " * 20)
        for byte in message * 3:
            await stream.send(bytes((byte,)))
        assert await heard.take(3) == ["¡hola! " * 20] * 3


@pytest.mark.parametrize("stage", ["connected", "in the head", "let in", "in a frame", "asked", "closing"])
async def test_a_reset_at_any_stage_costs_its_sender_the_connection_and_nobody_else(
    world: World, wire: str, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """8 resets: each frees its place at once; an INFO line tells of those that were clients."""
    async with besieged(world) as siege:
        for _ in range(8):
            async with raw_connection(siege.server, wire) as stream:
                sock = stream.extra(SocketAttribute.raw_socket)
                if stage == "in the head" and wire == "ws":
                    await stream.send(UPGRADE[:40])
                elif stage not in ("connected", "in the head"):
                    if wire == "ws":
                        await stream.send(UPGRADE)
                        await read_head(stream)
                    await read_frame(stream, wire)
                    question = speaker(wire).request("echo", "echo", "x" * 1000)
                    if stage == "in a frame":
                        await stream.send(question[:50])
                    elif stage == "asked":
                        await stream.send(question * 50)
                    elif stage == "closing" and wire == "ws":
                        await stream.send(masked(8, b""))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while len(siege.server._peers) > 2:
            await anyio.lowlevel.checkpoint()
        await siege.only_the_honest_are_left()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_what_is_not_our_protocol_is_told_so_and_ended(world: World, wire: str) -> None:
    """TLS, HTTP/2, SSH, zeros and chance on either port: an answer in the port's own words, and the end."""
    foreign = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\0" * 4096,
        b"\xff" * 4096,
        bytes(pow(3, index, 257) % 256 for index in range(4096)),
        frame(0, "chat", b"1") if wire == "ws" else UPGRADE,
    ]
    async with besieged(world) as siege:
        for data in foreign:
            async with raw_connection(siege.server, wire) as stream:
                with suppress(anyio.BrokenResourceError):
                    await stream.send(data)
                received = await read_to_end(stream)
                if wire == "ws":
                    assert received[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5", b"")
                else:  # behind its Connect frame
                    assert b"\0\5error" in received or len(received) <= 52
            await siege.honest_are_served()
        await siege.only_the_honest_are_left()


async def test_a_million_empty_fragments_end_at_the_most_that_a_message_may_have(world: World) -> None:
    """Costs 131 072 headers of 6 bytes, and no memory: empty fragments are counted, not kept."""
    async with besieged(world) as siege, intruder(siege, "ws") as stream:
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await stream.send(b"\x01\x80\0\0\0\0")
                    for _ in range(100):
                        await stream.send(b"\x00\x80\0\0\0\0" * 10_000)

            tasks.start_soon(send)
            close = await read_exactly(stream, 4)
            assert close[2:] == (1009).to_bytes(2)
            tasks.cancel_scope.cancel()
        assert (await siege.ends.next())[0] == 1009
        await siege.only_the_honest_are_left()

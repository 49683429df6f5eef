"""Those who take their time, over sockets, with limits of a moment: see ``test_slow``."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream

from tests.attacks.siege import besieged, closed_with, intruder
from tests.conformance.world import World, raw_connection, read_to_end
from tests.support.wires import UPGRADE

pytestmark = pytest.mark.anyio

MOMENT = 0.1  # seconds
BEAT = {"heartbeat_interval": MOMENT, "heartbeat_timeout": MOMENT}


async def drip(stream: ByteStream, data: bytes) -> bytes:
    """Send byte by byte, a breath apart, until the other side says something or ends; return what it said."""
    for index in range(len(data)):
        try:
            await stream.send(data[index : index + 1])
            with anyio.move_on_after(MOMENT / 10):
                return await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""
    raise AssertionError("it was let to its end")


async def test_a_handshake_that_drips_ends_at_the_connect_deadline(world: World) -> None:
    """Costs one connection for ``connect_timeout``, however many bytes come in it."""
    async with besieged(world) as siege, raw_connection(siege.server) as stream:
        siege.server.update_config(connect_timeout=MOMENT)
        async with raw_connection(siege.server) as late:
            assert await drip(late, UPGRADE[:-2] + b"X: " + b"x" * 8000) == b""
        await stream.send(UPGRADE)  # which had come under another limit
        assert (await stream.receive()).startswith(b"HTTP/1.1 101")


async def test_a_connection_that_says_nothing_ends_at_the_connect_deadline(world: World) -> None:
    """Costs one connection for ``connect_timeout``."""
    async with besieged(world) as siege:
        siege.server.update_config(connect_timeout=MOMENT)
        async with raw_connection(siege.server) as silent:
            assert await read_to_end(silent) == b""
        await siege.only_the_honest_are_left()


async def test_a_peer_that_never_answers_a_ping_is_gone(world: World, wire: str) -> None:
    """Costs a client's place for ``heartbeat_interval + heartbeat_timeout``."""
    async with besieged(world, **BEAT) as siege, intruder(siege, wire) as deaf:
        assert await siege.ends.next() == (1011, "Heartbeat timeout")
        await read_to_end(deaf)
        await siege.only_the_honest_are_left()


async def test_a_close_that_is_never_answered_is_over(world: World, wire: str) -> None:
    """Costs a socket for ``close_timeout``."""
    async with besieged(world, close_timeout=MOMENT) as siege, intruder(siege, wire) as deaf:
        [client_id] = set(siege.server.get_clients()) - {client.get_id() for client in siege.honest}
        assert siege.server.disconnect(client_id, 1008, "go")
        assert closed_with(wire, await read_to_end(deaf), 1008, b"go")  # and it does not end its side
        await siege.all_others_have_gone()
        await siege.only_the_honest_are_left()


async def test_fragments_for_ever_end_at_the_limit_of_a_message(world: World) -> None:
    """Costs what has come of the message, up to ``max_payload_size``, however long it takes."""
    async with besieged(world, max_payload_size=300, **BEAT) as siege, intruder(siege, "ws") as slow:
        opcode, received = 1, b""
        while (1009).to_bytes(2) not in received:
            await slow.send(bytes((opcode, 0x8A)) + b"\0\0\0\0" + b"x" * 10)
            opcode = 0
            with anyio.move_on_after(MOMENT / 10):
                received += await slow.receive()
        await siege.only_the_honest_are_left()

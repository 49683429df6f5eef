"""Faults that nobody means: disks that are full, processes that are killed, handlers that will not end.

What stands elsewhere, in the conformance tests: too many open files (``test_listening``), signals at each
stage and handlers that swallow their cancellation (``test_shutdown``), loops that stand still
(``test_heartbeat``).
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from stelar_proto.channel.lifecycle import Lifecycle
from tests.attacks.siege import besieged, intruder, speaker
from tests.conformance.world import PATIENCE, Client, World, inbox_of, raw_connection
from tests.support.programs import running

pytestmark = pytest.mark.anyio


class FullDisk(logging.Handler):
    """Where every line of a log fails."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.failures += 1
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_log_that_cannot_be_written_costs_nobody_anything(
    world: World, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coming, going, broken messages, handlers that raise: all of them are logged, and the log fails."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # else it is told on standard error
    logger, disk = logging.getLogger("full-disk"), FullDisk()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(disk)
    hand = speaker(wire)
    async with besieged(world, logger=logger, max_rooms_per_client=1) as siege:
        siege.server.on("fail", lambda ctx: 1 / 0)

        @siege.server.on("fail.later")
        async def fail_later(ctx: Any) -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError

        async with intruder(siege, wire) as stream, raw_connection(siege.server, "ws") as other:
            await other.send(b"\x16\x03\x01")
            await stream.send(hand.event("fail") + hand.event("fail.later") + hand.event("a b"))
            await stream.send(hand.room("join", "a") + hand.room("join", "b"))
            await stream.send(hand.request("ack", "echo", "answered"))
            received = b""
            while b"answered" not in received:
                received += await stream.receive()
        await siege.ends.next()
        await siege.only_the_honest_are_left()
        assert disk.failures >= 7
    logger.removeHandler(disk)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM])
async def test_a_system_that_has_no_more_to_give_is_asked_again_in_a_while(
    world: World, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten times a second, and logged every ten seconds: no busy loop, whatever accept() says."""
    async with besieged(world) as siege:
        lifecycle: Lifecycle[Any] = siege.server
        pauses = [lifecycle.accept_failed(OSError(number, os.strerror(number))) for _ in range(50)]
        assert pauses == [0.1] * 50
        assert lifecycle.accept_failed(OSError(errno.ECONNABORTED, "gone")) == 0
        assert caplog.text.count("connections have to wait") == 1


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
async def test_a_system_that_has_no_room_for_what_is_written_costs_that_connection_at_most(
    world: World, wire: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection, or on the loops of asyncio nothing if the system has room when it is asked again."""
    hand, write = speaker(wire), os.write
    async with besieged(world) as siege, intruder(siege, wire) as stream:
        port = stream.extra(anyio.abc.SocketAttribute.local_port)
        refused = []

        def refuse(descriptor: int, data: bytes) -> int:
            with suppress(OSError, TypeError, IndexError):  # of what is no such socket
                with socket.socket(fileno=os.dup(descriptor)) as it:
                    if it.getpeername()[1] == port:
                        refused.append(descriptor)
            if descriptor in refused:
                raise OSError(number, os.strerror(number))
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", refuse)
        await stream.send(hand.request("ack", "echo", "answered"))
        received = b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while b"answered" not in received:
                received += await stream.receive()
        assert refused
        assert b"answered" in received or (await siege.ends.next())[0] == 1006
        await siege.honest_are_served()


CLIENT = """
import sys, time
from socket import create_connection
stream = create_connection(("127.0.0.1", int(sys.argv[1])))
stream.sendall(bytes.fromhex(sys.argv[2]))
print("sent", flush=True)
time.sleep(60)
"""


async def test_a_client_that_is_killed_is_gone_at_once(world: World) -> None:
    """``kill -9`` in the middle of a message: its system ends the stream, and its place is free."""
    async with besieged(world) as siege:
        half = speaker("tcp").event("chat", "x" * 1000)[:500]
        command = [sys.executable, "-c", CLIENT, str(siege.server.get_tcp_port()), half.hex()]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - it is brief
            assert process.stdout is not None
            await anyio.to_thread.run_sync(process.stdout.readline)
            await siege.honest_are_served()
            process.send_signal(signal.SIGKILL)
            assert (await siege.ends.next())[0] == 1006
        await siege.only_the_honest_are_left()


CLIENTS = 200


async def test_a_server_that_is_killed_and_comes_back_gets_all_its_clients_back(world: World) -> None:
    """``kill -9`` under 200 clients of both wires: each notices at once, and is back in a second or two."""
    with anyio.fail_after(2 * PATIENCE), running("tests.support.restarted", world.backend, "0", "0") as first:
        ports = first.read()
        clients = [
            world.client_of(
                f"{wire}://127.0.0.1:{ports[wire]}",
                reconnection=True,
                reconnection_attempts=None,
                reconnection_delay=0.05,
                max_reconnection_delay=0.2,
                ack_timeout=PATIENCE,
            )
            for wire in ("ws", "tcp")
            for _ in range(CLIENTS // 2)
        ]
        attempts: list[int] = []
        ends = [inbox_of(client, "disconnect") for client in clients]
        for client in clients:
            client.on("reconnecting", attempts.append)
        await all_of(clients, connect)
        first.kill()
        for end in ends:
            assert (await end.next())[0] == 1006
        backs = [inbox_of(client, "connect") for client in clients]
        began_at = anyio.current_time()
        arguments = ("tests.support.restarted", world.backend, str(ports["ws"]), str(ports["tcp"]))
        with running(*arguments) as second:
            second.read()
            for back in backs:
                await back.next()
            elapsed = anyio.current_time() - began_at
            await all_of(clients, ask)
            assert len(attempts) <= CLIENTS * (elapsed / 0.05 + 2)
            await all_of(clients, disconnect)
            second.kill()


async def all_of(clients: list[Client], do: Any) -> None:
    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(do, client)


async def connect(client: Client) -> None:
    await client.connect()


async def disconnect(client: Client) -> None:
    await client.disconnect()


async def ask(client: Client) -> None:
    assert await client.request("echo", "back") == "back"

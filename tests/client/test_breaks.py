"""Connections that break: at every byte of a conversation, at every step of a task, and all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from stelar_proto.channel import Runtime
from stelar_proto.errors import ConnectError, ConnectionLost, StateError
from stelar_proto.testing.pipe import Pipe
from tests.client.house import House
from tests.support.memory import CAPACITY, VirtualClient, VirtualNetwork, VirtualServer
from tests.support.virtual import Cancelled, VirtualLoop, VirtualTask

URLS = {"ws": "ws://localhost:3000", "tcp": "tcp://localhost:3001"}


# --- At every byte ----------------------------------------------------------------------------------------


class CuttingNetwork(VirtualNetwork):
    """Cuts the first connection when so many bytes have gone one way; 0 is before the first of them."""

    def __init__(self, loop: VirtualLoop, way: str, after: int | None) -> None:
        super().__init__(loop)
        self.way = way
        self.left = after
        self.passed = Counter[str]()
        self.talked = Counter[str]()
        """What had passed when the conversation was over."""
        self.dials = 0
        self._ways = ["to the server", "to the client"]  # of the first connection

    def dial(self, *arguments: Any, **options: Any) -> None:
        super().dial(*arguments, **options)
        self.dials += 1

    def _make_pipe(self, runtime: Runtime | None) -> Pipe:
        return CuttingPipe(self, self._ways.pop()) if self._ways else super()._make_pipe(runtime)

    def let_pass(self, way: str, data: bytes) -> bytes:
        """Count ``data``, and return how much of it still passes."""
        self.passed[way] += len(data)
        if way != self.way or self.left is None:
            return data
        passing, self.left = data[: self.left], self.left - len(data)
        if self.left < 0:
            # Behind what still passes; then nothing goes either way.
            self.loop.call_soon(lambda: self.loop.call_soon(self.cut_first))
            self.left = 0
        return passing

    def cut_first(self) -> None:
        for connection in self.connections:
            if connection.client_address[1] == 50_000:
                connection.cut()


class CuttingPipe(Pipe):
    """Tells of all that is written to it, and takes what passes."""

    def __init__(self, network: CuttingNetwork, way: str) -> None:
        super().__init__(capacity=CAPACITY)
        self._network = network
        self._way = way

    def write(self, data: bytes) -> bytes:
        assert super().write(self._network.let_pass(self._way, data)) == b""
        return b""


async def settle(task: Coroutine[Any, Any, Any], into: list[Any]) -> None:
    try:
        into.append(await task)
    except (ConnectionLost, StateError) as error:
        into.append(type(error))


def converse(wire: str, way: str, after: int | None) -> tuple[CuttingNetwork, list[Any], list[int]]:
    """Have a conversation that is cut; return the network, how requests ended, and what the server got."""
    loop = VirtualLoop()
    network = CuttingNetwork(loop, way, after)
    server = VirtualServer(network)
    heard: list[int] = []
    answers: list[Any] = []
    rooms: list[Any] = []
    server.on("n", lambda ctx: heard.append(ctx.data))
    server.on("where", lambda ctx: rooms.append(sorted(ctx.client_info.rooms)))
    server.on_ack("double", lambda ctx: ctx.data * 2)
    server.start_now()
    client = VirtualClient(network, URLS[wire], retry_first_connect=True, max_reconnection_delay=2)

    async def talk() -> None:
        client.emit("n", 0)
        client.join_room("hall")
        await client.connect()
        for number in range(1, 4):
            client.emit("n", number)
            await settle(client.request("double", number), answers)
        client.emit_binary("picture", bytes(50))
        await client.drain()

    loop.run(talk())
    network.talked = network.passed.copy()
    loop.advance(10)
    assert client.is_connected()
    client.emit("n", 4)
    client.emit("where")
    assert loop.run(client.request("double", 21)) == 42
    assert (heard[-1], rooms) == (4, [["hall"]])
    loop.run(client.disconnect())
    loop.run(server.stop())
    assert loop.tasks == []
    assert client.virtual_runtime.deadline is None
    return network, answers, heard


@pytest.mark.parametrize("way", ["to the client", "to the server"])
@pytest.mark.parametrize("wire", ["ws", "tcp"])
def test_a_conversation_that_is_cut_at_any_byte_goes_on(wire: str, way: str) -> None:
    whole, answers, heard = converse(wire, way, None)
    assert (answers, heard, whole.dials) == ([2, 4, 6], [0, 1, 2, 3, 4], 1)
    size = whole.talked[way]
    assert size > 100
    for after in range(size):
        network, answers, heard = converse(wire, way, after)
        assert network.dials == 2
        assert len(answers) == 3
        assert all(
            answer in (2 * number, ConnectionLost, StateError) for number, answer in enumerate(answers, 1)
        )
        assert heard == sorted(set(heard))


# --- At every step ----------------------------------------------------------------------------------------


async def live(client: VirtualClient) -> None:
    """Everything a task may wait for."""
    async with client:
        client.join_room("hall")
        client.emit("n", 1)
        assert await client.request("double", 2) == 4
        client.emit_binary("b", bytes(100_000))
        await client.drain()
        await client.send_file(b"file")


@pytest.mark.parametrize("wire", ["ws", "tcp"])
def test_a_task_that_is_cancelled_at_any_step_leaves_nothing(wire: str) -> None:
    steps = 0
    while True:
        loop = VirtualLoop()
        network = VirtualNetwork(loop)
        server = VirtualServer(network)
        server.on_ack("double", lambda ctx: ctx.data * 2)
        server.start_now()
        client = VirtualClient(network, URLS[wire], close_timeout=3)
        task = loop.start(live(client))
        for _ in range(steps):
            if loop._ready:
                loop._ready.popleft()()
        was_done = task.is_done
        task.cancel()
        loop.run_until_idle()
        loop.advance(10)
        assert task.is_done
        assert task.error is None or isinstance(task.error, Cancelled)
        assert client.get_state() == "disconnected"
        assert loop.tasks == []
        assert client.virtual_runtime.deadline is None
        assert server.get_clients() == []
        again: VirtualTask[None] = loop.start(live(client))
        loop.advance(1)
        again.result()
        loop.run(server.stop())
        if was_done:
            break
        steps += 1
    assert steps > 15


# --- All at once ------------------------------------------------------------------------------------------


def test_a_thousand_clients_come_back_to_a_server_that_restarted_and_not_all_at_once() -> None:
    loop = VirtualLoop()
    network = VirtualNetwork(loop)
    times: list[float] = []
    dial = network.dial

    def note_and_dial(*arguments: Any, **options: Any) -> None:
        times.append(loop.now)
        dial(*arguments, **options)

    network.dial = note_and_dial  # type: ignore[method-assign]
    options: dict[str, Any] = {"max_connections_per_ip": 2000, "rate_limit": None}
    server = VirtualServer(network, **options)
    server.start_now()
    clients = [VirtualClient(network, URLS["tcp"]) for _ in range(1000)]
    for client in clients:
        loop.run(client.connect())
    loop.run(server.stop())
    times.clear()
    stopped_at = loop.now
    loop.advance(3)
    refused = len(times)
    server.start_now()
    loop.advance(30)
    assert all(client.is_connected() for client in clients)
    assert len(server.get_clients()) == 1000
    assert refused <= 3000
    assert len(times) - refused == 1000  # none needed another attempt
    per_tenth = Counter(int((instant - stopped_at) * 10) for instant in times)
    assert max(per_tenth.values()) < 300
    for client in clients:
        loop.run(client.disconnect())
    loop.run(server.stop())
    assert loop.tasks == []


# --- Handlers ---------------------------------------------------------------------------------------------


def test_a_connect_error_does_not_end_in_a_task(house: House) -> None:
    client = house.client(reconnection=True, reconnection_attempts=1)
    server = house.connect(client)
    house.network.stop_listening(3000)
    server.stream.reset()
    house.loop.advance(5)  # would raise what a task raised
    assert isinstance(client.get_last_error(), ConnectError)

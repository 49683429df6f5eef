"""Clients and a server of this house at random, in one virtual world: what a client believes is so."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stelar_proto.errors import AckTimeout, ConnectError, ConnectionLost, RemoteError, StateError
from stelar_proto.server import Context
from tests.support.memory import VirtualClient, VirtualNetwork, VirtualServer
from tests.support.strictness import assertions_raised
from tests.support.virtual import Cancelled, VirtualLoop, VirtualTask

URLS = ["ws://localhost:3000", "tcp://localhost:3001", "ws://localhost:3000", "tcp://localhost:3001"]
CLIENTS = st.sampled_from(range(len(URLS)))

LOGGER = logging.getLogger("machine")
LOGGER.propagate = False


class WorldMachine(RuleBasedStateMachine):
    """Every ``connect`` has its ``disconnect``, every request its end, every id its client."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.network = VirtualNetwork(self.loop)
        server = self.server = VirtualServer(self.network, logger=LOGGER, inbox_limit=2, max_connections=3)
        server.on("say", lambda ctx: ctx.broadcast("said", ctx.data))
        server.on("kick", lambda ctx: ctx.disconnect(4000, "kicked"))
        server.on_ack("same", lambda ctx: ctx.data)
        server.on_ack("slow", self.slow)
        server.start_now()
        self.strictness = assertions_raised("machine")
        self.strictness.__enter__()
        self.clients = [
            VirtualClient(self.network, url, logger=LOGGER, inbox_limit=2, ack_timeout=3) for url in URLS
        ]
        self.balance = [0] * len(URLS)
        self.requests: list[VirtualTask[Any]] = []
        self.tasks: list[VirtualTask[None]] = []
        for number, client in enumerate(self.clients):
            self.prepare(number, client)

    def prepare(self, number: int, client: VirtualClient) -> None:
        def connected() -> None:
            assert client.is_connected()
            assert self.balance[number] == 0
            self.balance[number] = 1

        def disconnected(code: int, reason: str) -> None:
            assert not client.is_connected()
            assert self.balance[number] == 1
            self.balance[number] = 0

        async def ask_back(data: object) -> None:
            with contextlib.suppress(AckTimeout, ConnectionLost, RemoteError, StateError):
                assert await client.request("same", data) == data

        client.on("connect", connected)
        client.on("disconnect", disconnected)
        client.on("said", ask_back)

    async def slow(self, ctx: Context) -> str:
        await self.loop.sleep(2)
        return "slow"

    # --- What happens -------------------------------------------------------------------------------------

    @rule(number=CLIENTS)
    def connect(self, number: int) -> None:
        self.tasks.append(self.loop.start(self.clients[number].connect()))
        self.loop.run_until_idle()

    @rule(number=CLIENTS)
    def disconnect(self, number: int) -> None:
        self.tasks.append(self.loop.start(self.clients[number].disconnect()))
        self.loop.run_until_idle()

    @rule(number=CLIENTS, event=st.sampled_from(["say", "kick", "unknown"]))
    def emit(self, number: int, event: str) -> None:
        client = self.clients[number]
        try:
            client.emit(event, number)
        except StateError:
            assert not client.is_connected()
        self.loop.run_until_idle()

    @rule(number=CLIENTS, event=st.sampled_from(["same", "slow", "missing"]))
    def request(self, number: int, event: str) -> None:
        self.requests.append(self.loop.start(self.clients[number].request(event, number)))
        self.loop.run_until_idle()

    @rule()
    def cancel_a_request(self) -> None:
        if self.requests:
            self.requests[-1].cancel()
            self.loop.run_until_idle()

    @rule(number=CLIENTS)
    def break_the_connection(self, number: int) -> None:
        link = self.clients[number]._link
        if link is not None and link.transport is not None:
            [connection] = [
                connection
                for connection in self.network.connections
                if connection.client_address == link.transport.local_address
            ]
            connection.cut()
            self.loop.run_until_idle()

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @rule()
    def restart_the_server(self) -> None:
        self.loop.run(self.server.stop())
        self.server.start_now()

    # --- What must hold -----------------------------------------------------------------------------------

    @invariant()
    def who_is_connected_is_known_by_its_id(self) -> None:
        for number, client in enumerate(self.clients):
            if client.is_connected():
                assert self.balance[number] == 1
        ids = [client.get_id() for client in self.clients if client.is_connected()]
        assert set(ids) <= set(self.server.get_clients())

    def teardown(self) -> None:
        for client in self.clients:
            self.loop.run(client.disconnect())
        self.loop.advance(100)
        self.strictness.__exit__(None, None, None)
        assert self.balance == [0] * len(URLS)
        for task in self.tasks:
            assert task.is_done
            assert task.error is None or isinstance(task.error, ConnectError | StateError)
        for request in self.requests:
            assert request.is_done
            if request.error is not None:
                assert isinstance(
                    request.error, AckTimeout | ConnectionLost | RemoteError | StateError | Cancelled
                )
        assert (self.server.get_clients(), len(self.server._peers), self.loop.tasks) == ([], 0, [])
        for client in self.clients:
            assert client.get_state() == "disconnected"
            assert client.virtual_runtime.deadline is None


TestWorld = WorldMachine.TestCase
TestWorld.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

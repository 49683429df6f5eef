"""A whole server at random: clients of both wires come, talk, misbehave and go; nothing is left of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from stelar_proto.errors import HandlerError
from stelar_proto.server import ConnectContext, Context, RateLimit
from tests.server.house import House
from tests.support.memory import RawStream
from tests.support.strictness import assertions_raised
from tests.support.wires import CLIENTS, UPGRADE, Heard, RawClient, upgrade_to

ROOMS = st.sampled_from(["r", "s", "sala ñ", "x" * 256, "closed"])
WIRES = st.sampled_from(["ws", "tcp"])
EVENTS = st.sampled_from(["say", "fail", "slow", "leave", "unknown", "flood"])
MAX_CONNECTIONS = 4
MAX_ROOMS_PER_CLIENT = 2
THINKING = 0.5
"""How long the middleware of the game takes."""

LOGGER = logging.getLogger("machine")
LOGGER.propagate = False


class Client:
    """A client, and everything it was told."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.stream = raw.stream
        assert raw.id is not None
        self.id = raw.id
        self.reads = True
        self.sent = 0
        self.heard: list[Heard] = []

    def send(self, data: bytes) -> None:
        self.stream.send(data)
        self.sent += 1

    def listen(self) -> None:
        self.heard += self.raw.heard()

    def rooms(self) -> set[str]:
        """Where it believes to be."""
        rooms: set[str] = set()
        for kind, name, *data in self.heard:
            if (kind, name) == ("event", "joined-room"):
                assert data[0] not in rooms
                rooms.add(data[0])
            elif (kind, name) == ("event", "left-room"):
                rooms.remove(data[0])
        return rooms


class ServerMachine(RuleBasedStateMachine):
    """The oracle: a client is in the rooms whose joining it was told of; who came has gone in the end."""

    clients: Bundle[Client] = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        # What the limits let in; who is here when one is lowered may stay.
        self.allowed_clients, self.allowed_rooms = MAX_CONNECTIONS, 10_000
        hooks = {"on_client_join_room": self.may_join, "on_before_broadcast": self.may_send}
        server = self.server = self.house.serve(
            hooks=hooks,
            logger=LOGGER,
            max_connections=MAX_CONNECTIONS,
            max_rooms_per_client=MAX_ROOMS_PER_CLIENT,
            outbox_limit=5000,
            inbox_limit=2,
        )
        self.strictness = assertions_raised("machine")
        self.strictness.__enter__()
        self.everybody: list[Client] = []
        self.streams: list[RawStream] = []
        self.came: list[str] = []
        self.gone: list[str] = []
        self.game = server.of("/game")
        self.game.use(self.think_about_it)
        for namespace in (server, self.game):
            namespace.on_connection(lambda ctx: self.came.append(ctx.id))
            namespace.on_disconnect(self.note_gone)
            namespace.on("say", lambda ctx: ctx.broadcast("said", ctx.data))
            namespace.on("flood", lambda ctx, namespace=namespace: namespace.broadcast("flood", "y" * 900))
            namespace.on("leave", lambda ctx: ctx.disconnect(4000, "you asked for it"))
            namespace.on("slow", lambda ctx: self.house.loop.sleep(1))
            namespace.on("fail", self.fail)
            namespace.on("fail", self.fail_later)
            namespace.on_ack("fail", self.fail)
            namespace.on_ack("slow", self.fail_later)
            namespace.on_ack("same", lambda ctx: ctx.data)

    async def think_about_it(self, ctx: ConnectContext, go_on: Callable[[], Awaitable[None]]) -> None:
        await self.house.loop.sleep(THINKING)
        await go_on()

    def may_join(self, room: str, ctx: Context, **_: Any) -> object:
        assert room not in ctx.client_info.rooms
        return self.decide_later() if room == "s" else room != "closed"

    async def decide_later(self) -> None:
        await self.house.loop.sleep(0.5)
        raise RuntimeError("on purpose")

    def may_send(self, event: str, **_: Any) -> object:
        return self.decide_later() if event == "flood" else None

    def note_gone(self, ctx: Context) -> None:
        self.gone.append(ctx.id)
        assert ctx.client_info.rooms == frozenset()
        assert ctx.id not in self.ids()
        ctx.broadcast("gone", ctx.id)
        raise RuntimeError("on purpose")

    def fail(self, ctx: Context) -> None:
        raise HandlerError("on purpose")

    async def fail_later(self, ctx: Context) -> None:
        await self.house.loop.sleep(0.5)
        raise RuntimeError("on purpose")

    # --- Coming -----------------------------------------------------------------------------------------

    @rule(target=clients, wire=WIRES)
    def connect(self, wire: str) -> Any:
        return self.come(wire, "/", 0)

    @rule(target=clients)
    def connect_to_the_game(self) -> Any:
        return self.come("ws", "/game", THINKING)

    def come(self, wire: str, path: str, patience: float) -> Any:
        is_full = len(self.ids()) >= self.server.get_config().max_connections
        stream = self.open_stream(wire)
        raw = CLIENTS[wire](stream)
        raw.ask(path)
        self.house.loop.advance(patience)
        if is_full:
            assert stream.has_ended
            return multiple()
        client = Client(raw.enter())
        self.everybody.append(client)
        return client

    @rule(client=clients, wire=WIRES)
    def come_under_a_name_that_somebody_has(self, client: Client, wire: str) -> None:
        if client.id in self.ids():
            new_ids = self.server.get_config().generate_client_id
            self.server.update_config(generate_client_id=lambda: client.id)
            stream = self.open_stream(wire)
            CLIENTS[wire](stream).ask("/")
            assert stream.has_ended
            self.server.update_config(generate_client_id=new_ids)

    @rule(seconds=st.sampled_from([0, THINKING / 2]), resets=st.booleans())
    def ask_for_the_game_and_go(self, seconds: float, resets: bool) -> None:
        stream = self.open_stream("ws")
        stream.send(upgrade_to("/game"))
        self.house.loop.advance(seconds)
        stream.reset() if resets else stream.end()

    def ids(self) -> list[str]:
        return self.server.get_clients() + self.game.get_clients()

    def open_stream(self, wire: str) -> RawStream:
        stream = self.house.stream(wire)
        self.streams.append(stream)
        return stream

    @rule(
        request=st.sampled_from([UPGRADE[:30], b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense", b""])
    )
    def come_and_be_no_client(self, request: bytes) -> None:
        self.open_stream("ws").send(request)

    # --- Talking ----------------------------------------------------------------------------------------

    @rule(client=clients, action=st.sampled_from(["join", "leave"]), room=ROOMS)
    def move(self, client: Client, action: str, room: str) -> None:
        client.send(client.raw.room(action, room))

    @rule(client=clients, event=EVENTS)
    def emit(self, client: Client, event: str) -> None:
        client.send(client.raw.event(event, 1))

    @rule(client=clients, event=st.sampled_from(["fail", "slow", "same", "say", "unknown"]))
    def request(self, client: Client, event: str) -> None:
        client.send(client.raw.request("name", event, 1, "7"))

    @rule(client=clients, name=st.sampled_from(["", "connect", "a b", "x" * 300]))
    def break_a_rule(self, client: Client, name: str) -> None:
        client.send(client.raw.event(name))

    @rule(client=clients)
    def stop_reading(self, client: Client) -> None:
        client.stream.stop_reading()
        client.reads = False

    @rule(client=clients)
    def read_on(self, client: Client) -> None:
        client.stream.read_on()
        client.reads = True

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.house.loop.advance(seconds)

    # --- Changing ---------------------------------------------------------------------------------------

    @rule(
        changes=st.fixed_dictionaries(
            {},
            optional={
                "max_connections": st.integers(1, MAX_CONNECTIONS),
                "max_rooms": st.integers(1, 3),
                "max_rooms_per_client": st.integers(1, MAX_ROOMS_PER_CLIENT),
                "slow_consumer": st.sampled_from(["close", "drop_oldest", "drop_newest"]),
                "outbox_limit": st.sampled_from([1500, 5000]),
                "inbox_limit": st.integers(1, 3),
                "heartbeat_interval": st.sampled_from([1.0, 30.0]),
                "rate_limit": st.sampled_from([None, RateLimit(5, 1.0)]),
                "max_payload_size": st.sampled_from([1000, 10_000]),
            },
        ),
        is_wrong=st.booleans(),
    )
    def change_options(self, changes: dict[str, Any], is_wrong: bool) -> None:
        before = self.server.get_config()
        if is_wrong:
            with pytest.raises(ValueError, match="inbox_limit"):
                self.server.update_config(**{**changes, "inbox_limit": 0})
            assert self.server.get_config() == before
        else:
            self.server.update_config(**changes)
            self.note_limits()

    def note_limits(self) -> None:
        config, rooms = self.server.get_config(), self.server.get_stats().total_rooms
        self.allowed_clients = max(config.max_connections, len(self.ids()))
        self.allowed_rooms = max(config.max_rooms, rooms)

    # --- Going ------------------------------------------------------------------------------------------

    @rule(client=consumes(clients), garbage=st.sampled_from([b"\xff\xff\xff\xff", b"\x81\x01x", b"\0" * 20]))
    def break_the_protocol(self, client: Client, garbage: bytes) -> None:
        client.send(garbage)

    @rule(client=consumes(clients), rest=st.sampled_from(["say", "slow", "leave"]))
    def say_goodbye(self, client: Client, rest: str) -> None:
        client.send(client.raw.event(rest, 1) + client.raw.bye())
        client.stream.end()

    @rule(client=consumes(clients))
    def end_the_stream(self, client: Client) -> None:
        client.stream.end()

    @rule(client=consumes(clients))
    def vanish(self, client: Client) -> None:
        client.stream.reset()

    @rule(client=clients, code=st.sampled_from([1000, 1001, 4000]))
    def be_disconnected(self, client: Client, code: int) -> None:
        for namespace in (self.server, self.game):
            is_here = client.id in namespace.get_clients()
            assert namespace.disconnect(client.id, code, "go") is is_here
        self.house.loop.run_until_idle()

    # --- What must hold ---------------------------------------------------------------------------------

    @invariant()
    def the_registries_agree(self) -> None:
        server = self.server
        ids = self.ids()
        assert len(ids) == len(set(ids)) <= self.allowed_clients
        assert set(ids) <= set(self.came)
        assert not set(ids) & set(self.gone)
        stats = server.get_stats()
        assert stats.active_connections == stats.ws_connections + stats.tcp_connections == len(ids)
        assert stats.total_connections == len(self.came)
        assert stats.total_rooms == len(server.get_rooms()) + len(self.game.get_rooms()) <= self.allowed_rooms
        self.note_limits()
        for namespace in (server, self.game):
            for room in namespace.get_rooms():
                assert room != "closed"
                assert namespace.get_room_members(room)
                assert set(namespace.get_room_members(room)) <= set(namespace.get_clients())
        assert server.virtual_runtime.deadline is not None or not server._peers

    @invariant()
    def who_reads_knows_where_it_is(self) -> None:
        for client in self.everybody:
            client.listen()
            is_open = not any(kind == "closed" for kind, *_ in client.heard)  # behind a close nothing is told
            if client.reads and is_open and client.id in self.ids():
                namespace = self.server if client.id in self.server.get_clients() else self.game
                rooms = {room for room in namespace.get_rooms() if client.id in namespace.get_clients(room)}
                assert client.rooms() == rooms
                assert len(rooms) <= MAX_ROOMS_PER_CLIENT

    def teardown(self) -> None:
        for stream in self.streams[::2]:
            stream.end()
        for stream in self.streams:
            stream.reset()
        self.house.loop.advance(100.0)  # the slowest handlers, and every timer that was ever set
        for client in self.everybody:
            client.listen()
        self.strictness.__exit__(None, None, None)
        server = self.server
        stats = server.get_stats()
        rooms = server.get_rooms() + self.game.get_rooms()
        assert (self.ids(), rooms, len(server._peers), len(server._deadlines)) == (
            [],
            [],
            0,
            0,
        )
        assert self.house.loop.tasks == []
        assert server.virtual_runtime.deadline is None
        assert Counter(self.gone) == Counter(self.came)
        heard = sum(kind != "closed" for client in self.everybody for kind, *_ in client.heard)
        assert heard <= stats.total_messages_sent <= heard + stats.dropped_messages
        assert stats.total_messages_received <= sum(client.sent for client in self.everybody)


TestServer = ServerMachine.TestCase
TestServer.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

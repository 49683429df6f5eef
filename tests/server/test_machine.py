"""A whole server at random: clients of both wires come, talk, misbehave and go; nothing is left of them."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from stelar_proto.errors import HandlerError
from stelar_proto.server import Context
from tests.server.house import House
from tests.support.memory import RawStream
from tests.support.strictness import assertions_raised
from tests.support.wires import CLIENTS, UPGRADE, Heard, RawClient

ROOMS = st.sampled_from(["r", "s", "sala ñ", "x" * 256])
WIRES = st.sampled_from(["ws", "tcp"])
EVENTS = st.sampled_from(["say", "fail", "slow", "leave", "unknown", "flood"])
MAX_CONNECTIONS = 4
MAX_ROOMS_PER_CLIENT = 2

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
        server = self.server = self.house.serve(
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
        server.on_connection(lambda ctx: self.came.append(ctx.id))
        server.on_disconnect(self.note_gone)
        server.on("say", lambda ctx: ctx.broadcast("said", ctx.data))
        server.on("flood", lambda ctx: server.broadcast("flood", "y" * 900))
        server.on("leave", lambda ctx: ctx.disconnect(4000, "you asked for it"))
        server.on("slow", lambda ctx: self.house.loop.sleep(1))
        server.on("fail", self.fail)
        server.on("fail", self.fail_later)
        server.on_ack("fail", self.fail)
        server.on_ack("slow", self.fail_later)
        server.on_ack("same", lambda ctx: ctx.data)

    def note_gone(self, ctx: Context) -> None:
        self.gone.append(ctx.id)
        assert ctx.client_info.rooms == frozenset()
        assert ctx.id not in self.server.get_clients()
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
        is_full = len(self.server.get_clients()) >= MAX_CONNECTIONS
        stream = self.open_stream(wire)
        if is_full:
            if wire == "ws":
                stream.send(UPGRADE)
            assert stream.has_ended
            return multiple()
        client = Client(CLIENTS[wire](stream).open())
        self.everybody.append(client)
        return client

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
        is_here = client.id in self.server.get_clients()
        assert self.server.disconnect(client.id, code, "go") is is_here
        self.house.loop.run_until_idle()

    # --- What must hold ---------------------------------------------------------------------------------

    @invariant()
    def the_registries_agree(self) -> None:
        server = self.server
        ids = server.get_clients()
        assert len(ids) == len(set(ids)) <= MAX_CONNECTIONS
        assert set(ids) <= set(self.came)
        assert not set(ids) & set(self.gone)
        stats = server.get_stats()
        assert stats.active_connections == stats.ws_connections + stats.tcp_connections == len(ids)
        assert stats.total_connections == len(self.came)
        assert stats.total_rooms == len(server.get_rooms())
        for room in server.get_rooms():
            assert server.get_room_members(room)
            assert set(server.get_room_members(room)) <= set(ids)
        assert server.virtual_runtime.deadline is not None or not server._peers

    @invariant()
    def who_reads_knows_where_it_is(self) -> None:
        for client in self.everybody:
            client.listen()
            is_open = not any(kind == "closed" for kind, *_ in client.heard)  # behind a close nothing is told
            if client.reads and is_open and client.id in self.server.get_clients():
                rooms = {
                    room for room in self.server.get_rooms() if client.id in self.server.get_clients(room)
                }
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
        assert (server.get_clients(), server.get_rooms(), len(server._peers), len(server._deadlines)) == (
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

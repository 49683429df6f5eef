"""Emitting and broadcasting: who gets what, what it costs, and what is refused at the call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.errors import MessageError
from stelar_proto.messages import JSON
from stelar_proto.server import Context
from stelar_proto.server.context import ClientInfo
from stelar_proto.server.peer import send_at_once
from stelar_proto.testing.transport import MemoryTransport
from stelar_proto.wire import TcpFormat, WebSocketFormat
from tests.server.house import House, heard_by
from tests.support.virtual import VirtualTask

NOT_NAMES = [
    ("", "EMPTY_EVENT"),
    ("error", "RESERVED_EVENT"),
    ('x","data":1,"y":"', "INVALID_EVENT_CHARS"),
    ("x" * 257, "EVENT_TOO_LONG"),
]


@pytest.fixture(autouse=True)
def _served(house: House) -> None:
    house.serve()


def context_of(house: House, wire: str) -> Context:
    """The context of a client that has connected."""
    contexts: list[Context] = []
    house.server.on_connection(contexts.append)
    house.connect(wire)
    return contexts[0]


# --- To the client itself ---------------------------------------------------------------------------------


def test_what_a_handler_emits_arrives_in_order(house: House, wire: str) -> None:
    @house.server.on("x")
    def answer(ctx: Context) -> None:
        assert ctx.emit("one", {"ñ": [1, None]})
        assert ctx.emit_binary("two", b"\0\xff")
        assert ctx.emit_binary("three", bytearray(b"3"))  # type: ignore[arg-type]
        assert ctx.emit("four")
        assert ctx.send("five", 5)

    client = house.connect(wire)
    client.say("x")
    assert client.heard() == [
        ("event", "one", {"ñ": [1, None]}),
        ("binary", "two", b"\0\xff"),
        ("binary", "three", b"3"),
        ("event", "four", None),
        ("event", "five", {"data": 5, "_isAck": True}),
    ]


def test_many_small_messages_of_one_turn_leave_in_one_write(house: House, wire: str) -> None:
    house.server.on("x", lambda ctx: [ctx.emit("y", number) for number in range(10)])
    client = house.connect(wire)
    client.stream.writes.clear()
    client.say("x")
    assert len(client.stream.writes) == 1
    assert len(client.heard()) == 10


@pytest.mark.parametrize(("name", "code"), NOT_NAMES)
def test_a_bad_name_is_refused_at_the_call(house: House, wire: str, name: str, code: str) -> None:
    ctx, server = context_of(house, wire), house.server
    calls: list[Callable[[], object]] = [
        lambda: ctx.emit(name),
        lambda: ctx.emit_binary(name, b""),
        lambda: ctx.send(name),
        lambda: ctx.broadcast(name),
        lambda: ctx.broadcast_binary(name, b""),
        lambda: ctx.to("room", name),
        lambda: ctx.to_binary("room", name, b""),
        lambda: ctx.to_id("c1", name),
        lambda: ctx.to_id("nobody", name),
        lambda: server.broadcast(name),
        lambda: server.to("room", name),
    ]
    for call in calls:
        with pytest.raises(MessageError) as caught:
            call()
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({1, 2}, "NOT_SERIALIZABLE"),
        (float("nan"), "NOT_SERIALIZABLE"),
        ("\ud800", "NOT_SERIALIZABLE"),
        ("x" * 11_000_000, "PAYLOAD_TOO_LARGE"),
    ],
    ids=["set", "nan", "surrogate", "large"],
)
def test_data_that_cannot_be_said_is_refused_at_the_call(
    house: House, wire: str, data: Any, code: str
) -> None:
    ctx = context_of(house, wire)
    calls: list[Callable[[], object]] = [
        lambda: ctx.emit("x", data),
        lambda: ctx.send("x", data),
        lambda: ctx.ack("x", data),
        lambda: house.server.broadcast("x", data),
        lambda: house.server.to("a room with nobody in it", "x", data),
        lambda: house.server.to_id("c1", "x", data),
        lambda: house.server.to_id("nobody", "x", data),
    ]
    for call in calls:
        with pytest.raises(MessageError) as caught:
            call()
        assert caught.value.code == code


def test_a_payload_is_bytes(house: House, wire: str) -> None:
    ctx = context_of(house, wire)
    wrong: Any
    for wrong in (5, "text", None):
        for call in (ctx.emit_binary, ctx.broadcast_binary, house.server.broadcast_binary):
            with pytest.raises(TypeError, match="a payload is bytes"):
                call("x", wrong)


def test_a_client_that_has_gone_is_sent_nothing(house: House, wire: str) -> None:
    contexts: list[Context] = []
    house.server.on_connection(contexts.append)
    house.leave(house.connect(wire))
    [ctx] = contexts
    assert not ctx.emit("x")
    assert not ctx.emit_binary("x", b"")
    assert not ctx.send("x")
    assert not ctx.ack("x")
    assert not ctx.to_id("c1", "x")
    assert house.server.broadcast("x") == 0
    assert not house.server.disconnect("c1")
    with pytest.raises(MessageError):  # a wrong name is wrong even so
        ctx.emit("")


# --- To many ----------------------------------------------------------------------------------------------


def test_a_broadcast_is_encoded_once_per_wire_and_everybody_gets_the_same_bytes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [house.connect(wire) for wire in ("ws", "tcp", "ws", "tcp", "ws")]
    encoded: list[str] = []
    sent: list[bytes] = []
    for cls in (WebSocketFormat, TcpFormat):

        def encode_frame(self: Any, message: Any, encode: Any = cls.encode_frame) -> bytes:
            encoded.append(self.kind)
            frame: bytes = encode(self, message)
            return frame

        monkeypatch.setattr(cls, "encode_frame", encode_frame)
    write = MemoryTransport.write

    def note_frame(self: MemoryTransport, frame: bytes) -> bool:
        sent.append(frame)
        return write(self, frame)

    monkeypatch.setattr(MemoryTransport, "write", note_frame)
    assert house.server.broadcast("news", [1]) == 5
    assert sorted(encoded) == ["tcp", "ws"]
    assert len({id(frame) for frame in sent}) == 2
    assert sorted(set(sent)) == [
        b"\0\0\0\x0e\0\0\4news[1]",
        b'\x81\x1b{"event":"news","data":[1]}',
    ]
    house.loop.run_until_idle()
    assert heard_by(*clients) == [[("event", "news", [1])]] * 5


def test_a_broadcast_with_bytes_crosses_the_wires(house: House) -> None:
    clients = [house.connect(wire) for wire in ("ws", "tcp")]
    assert house.server.broadcast_binary("pic", b"\0\1") == 2
    house.loop.run_until_idle()
    assert heard_by(*clients) == [[("binary", "pic", b"\0\1")]] * 2


def test_the_excluded_client_is_left_out(house: House, wire: str) -> None:
    clients = [house.connect(wire) for _ in range(3)]
    assert house.server.broadcast("x", 1, exclude_id="c2") == 2
    assert house.server.broadcast_binary("y", b"", exclude_id="c2") == 2
    assert house.server.broadcast("z", exclude_id="nobody") == 3
    house.loop.run_until_idle()
    assert [len(heard) for heard in heard_by(*clients)] == [3, 1, 3]


def test_a_context_leaves_its_own_client_out(house: House, wire: str) -> None:
    @house.server.on("say")
    def say(ctx: Context) -> None:
        assert ctx.broadcast("all", ctx.data) == 2
        assert ctx.broadcast_binary("all", b"a") == 2
        assert ctx.to("room", "room", ctx.data) == 1
        assert ctx.to_binary("room", "room", b"r") == 1
        assert ctx.to_id("c3", "one")

    clients = [house.connect(wire) for _ in range(3)]
    for client in clients[:2]:
        client.stream.send(client.room("join", "room"))
    heard_by(*clients)
    clients[0].say("say", 7)
    everybody = [("event", "all", 7), ("binary", "all", b"a")]
    assert heard_by(*clients) == [
        [],
        [*everybody, ("event", "room", 7), ("binary", "room", b"r")],
        [*everybody, ("event", "one", None)],
    ]


def test_clients_that_are_closing_are_skipped_and_not_counted(house: House, wire: str) -> None:
    house.connect(wire)
    other = house.connect(wire)
    assert house.server.disconnect("c1", 1000, "bye")
    assert house.server.broadcast("x") == 1
    assert not house.server.to_id("c1", "x")
    house.loop.run_until_idle()
    assert other.heard() == [("event", "x", None)]


def test_to_id_tells_whether_there_was_such_a_client(house: House, wire: str) -> None:
    client = house.connect(wire)
    assert house.server.to_id("c1", "x", 1)
    assert not house.server.to_id("c2", "x", 1)
    house.loop.run_until_idle()
    assert client.heard() == [("event", "x", 1)]


def test_what_one_wire_cannot_say_reaches_nobody() -> None:
    """The two wires count differently; half a broadcast would be worse than none."""
    house = House()
    house.serve(max_frame_size=200, max_payload_size=1000)
    clients = [house.connect("ws"), house.connect("tcp")]
    with pytest.raises(MessageError) as caught:
        house.server.broadcast("x", "y" * 300)
    assert caught.value.code == "FRAME_TOO_LARGE"
    house.loop.run_until_idle()
    assert heard_by(*clients) == [[], []]
    house.close()


def test_what_is_said_to_many_first_in_a_turn_leaves_at_once(house: House, wire: str) -> None:
    clients = [house.connect(wire) for _ in range(3)]
    clients[1].stream.stop_reading()
    house.server.to_id("c3", "first")
    assert house.server.broadcast("second", 2) == 3
    # It goes past nobody's outbox in which something waits, and into that of who does not read.
    assert heard_by(*clients) == [[("event", "second", 2)], [], []]
    sent = [peer.session.messages_sent for peer in house.server.hub]
    assert sent == [1, 1, 2]
    clients[1].stream.read_on()
    assert heard_by(*clients) == [
        [],
        [("event", "second", 2)],
        [("event", "first", None), ("event", "second", 2)],
    ]


def test_what_is_said_to_many_behind_that_in_a_turn_leaves_at_its_end_in_one_write(
    house: House, wire: str
) -> None:
    client = house.connect(wire)
    (peer,) = house.server.hub
    for turn in range(2):
        for number in range(3):
            assert house.server.broadcast("news", number) == 1
        assert heard_by(client) == [[("event", "news", 0)]], turn
        assert len(peer.session.outbox) == 2
        house.loop.run_until_idle()
        assert heard_by(client) == [[("event", "news", 1), ("event", "news", 2)]], turn


def test_a_broadcast_that_comes_to_a_client_when_it_has_gone_is_not_counted(house: House, wire: str) -> None:
    client = house.connect(wire)
    (peer,) = house.server.hub
    client.stream.reset()
    sent = peer.session.messages_sent
    assert send_at_once([peer], {peer.session.format: b"late"}) == 0
    assert peer.session.messages_sent == sent


# --- Clients that do not read -----------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_cut_and_its_losses_are_counted(house: House, wire: str) -> None:
    house = House()
    server = house.serve(outbox_limit=1024)
    gone: list[Any] = []
    server.on_disconnect(lambda ctx: gone.append(ctx.data))
    slow = house.connect(wire)
    slow.stream.stop_reading()
    results = [server.to_id("c1", "x", "y" * 100) for _ in range(20)]
    cut_at = results.index(False)
    assert results == [True] * cut_at + [False] * (20 - cut_at)
    house.loop.advance(0)
    assert slow.stream.is_cut
    assert gone == [{"code": 1006, "reason": ""}]
    assert server.get_stats().dropped_messages == cut_at + 1
    house.close()


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_a_client_that_does_not_read_misses_is_counted_and_reported_once(
    wire: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stelar.server")
    house = House()
    server = house.serve(outbox_limit=1024, slow_consumer=policy)
    infos: list[ClientInfo] = []
    server.on_connection(lambda ctx: infos.append(ctx.client_info))
    slow = house.connect(wire)
    for round_ in range(2):
        slow.heard()
        slow.stream.stop_reading()
        results = [server.to_id("c1", "x", "y" * 100) for _ in range(20)]
        house.loop.advance(0)
        assert results == sorted(results, reverse=True)
        assert all(results) is (policy == "drop_oldest")
        records = [record for record in caplog.records if "the peer does not read" in record.getMessage()]
        assert [record.__dict__["client_id"] for record in records] == ["c1"] * (round_ + 1)
        assert [record.levelno for record in records] == [logging.WARNING, logging.DEBUG][: round_ + 1]
        assert records[0].__dict__["slow_consumer"] == policy
        assert records[0].__dict__["messages_dropped"] >= 1
        assert 0 < records[0].__dict__["outbox_size"] <= 1024
        slow.stream.read_on()
        received = len(slow.heard())
        assert server.get_stats().dropped_messages == (20 - received) * (round_ + 1)
        assert infos[0].messages_dropped == server.get_stats().dropped_messages > 0
    house.leave(slow)
    assert server.get_stats().dropped_messages == (20 - received) * 2
    house.close()


def test_an_answer_that_no_outbox_can_hold_is_an_error_that_the_requester_reads(wire: str) -> None:
    house = House()
    server = house.serve(outbox_limit=1024)
    server.on_ack("large", lambda ctx: "y" * 1024)
    client = house.connect(wire)
    client.stream.send(client.request("name", "large", None, "7"))
    [(kind, *_)] = client.heard()
    assert kind == "error"
    house.close()


def test_a_room_whose_name_no_outbox_can_hold_is_not_joined(wire: str) -> None:
    house = House()
    server = house.serve(outbox_limit=1024)
    client = house.connect(wire)
    client.stream.send(client.room("join", "\x01" * 256))
    assert client.heard() == []
    assert (server.get_rooms(), server.get_clients()) == ([], ["c1"])
    assert server.get_stats().invalid_messages == 1
    house.close()


def test_a_recipient_that_is_cut_in_the_middle_of_a_broadcast_disturbs_nobody(wire: str) -> None:
    house = House()
    server = house.serve(outbox_limit=1024)
    server.on_disconnect(lambda ctx: ctx.broadcast("left", ctx.id))
    clients = [house.connect(wire) for _ in range(4)]
    for slow in clients[1:3]:
        slow.stream.stop_reading()
    counts = []
    for _ in range(20):
        counts.append(server.broadcast("x", "y" * 100))
        house.loop.advance(0)
    assert counts[0] == 4
    assert counts[-1] == 2
    assert server.get_clients() == ["c1", "c4"]
    for well in (clients[0], clients[3]):
        names = [name for _, name, _ in well.heard()]
        assert names.count("x") == 20
        assert names.count("left") == 2
    house.close()


def test_drain_waits_for_a_slow_client(house: House, wire: str) -> None:
    drained: list[bool] = []

    @house.server.on("flood")
    async def flood(ctx: Context) -> None:
        for _ in range(10):
            ctx.emit("x", "y" * 20_000)
        await ctx.drain()
        drained.append(True)

    client = house.connect(wire)
    client.stream.stop_reading()
    client.say("flood")
    assert not drained
    client.stream.read_on()
    assert drained == [True]
    assert len(client.heard()) == 10


def test_drain_ends_when_the_client_is_cut(house: House, wire: str) -> None:
    contexts: list[Context] = []
    house.server.on_connection(contexts.append)
    house.connect(wire).stream.stop_reading()
    [ctx] = contexts
    ctx.emit("x", "y" * 100_000)
    draining: VirtualTask[None] = house.loop.start(ctx.drain())
    house.loop.run_until_idle()
    assert not draining.is_done
    house.server.cut_all()
    house.loop.run_until_idle()
    assert draining.is_done


# --- The serializer ---------------------------------------------------------------------------------------


def test_a_serializer_of_one_s_own_is_used_both_ways(wire: str) -> None:
    class Shouting:
        def dumps(self, value: Any) -> str:
            return JSON.dumps(value.upper() if isinstance(value, str) else value)

        def loads(self, data: str) -> Any:
            value = JSON.loads(data)
            return {**value, "data": "loaded"} if isinstance(value, dict) and "data" in value else "loaded"

    house = House()
    server = house.serve(serializer=Shouting())
    server.on("x", lambda ctx: ctx.emit("y", ctx.data))
    client = house.connect(wire)
    client.say("x", "said")
    assert client.heard() == [("event", "y", "LOADED")]
    house.close()

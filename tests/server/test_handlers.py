"""Handlers of a server: which are called, in which order, and what they can do to the connection."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from stelar_proto.errors import MessageError, StateError
from stelar_proto.server import Context
from stelar_proto.server.peer import Peer
from tests.server.house import House, raised
from tests.support.virtual import VirtualEvent


@pytest.fixture(autouse=True)
def _served(house: House) -> None:
    house.serve()


def test_a_handler_is_given_the_event_its_data_and_the_client(house: House, wire: str) -> None:
    seen: list[Any] = []
    house.server.on(
        "chat", lambda ctx: seen.append((ctx.event, ctx.data, ctx.is_binary, ctx.id, ctx.transport))
    )
    client = house.connect(wire)
    client.say("chat", {"text": "hola"})
    client.stream.send(client.binary("chat", b"\0\1"))
    assert seen == [
        ("chat", {"text": "hola"}, False, "c1", wire),
        ("chat", b"\0\1", True, "c1", wire),
    ]


def test_handlers_are_called_in_the_order_in_which_they_were_registered(house: House, wire: str) -> None:
    called: list[str] = []
    house.server.on_all(lambda ctx: called.append("all"))
    house.server.on("x", lambda ctx: called.append("first"))

    @house.server.on("x")
    async def second(ctx: Context) -> None:
        called.append("second")

    house.server.on("x", lambda ctx: called.append("third"))
    house.server.on_all(lambda ctx: called.append("all too"))
    client = house.connect(wire)
    client.say("x")
    assert called == ["first", "second", "third", "all", "all too"]
    client.say("unknown")
    assert called[5:] == ["all", "all too"]


def test_an_event_that_nobody_handles_is_dropped(house: House, wire: str) -> None:
    client = house.connect(wire)
    client.say("x")
    assert client.heard() == []
    assert house.server.get_stats().total_messages_received == 1


def test_a_handler_registered_by_a_handler_hears_the_next_event(house: House, wire: str) -> None:
    heard: list[int] = []

    @house.server.on("x")
    def register(ctx: Context) -> None:
        house.server.on("x", lambda ctx: heard.append(ctx.data))

    client = house.connect(wire)
    client.say("x", 1)
    assert heard == []
    client.say("x", 2)
    assert heard == [2]


def test_plain_handlers_need_no_task(house: House, wire: str) -> None:
    house.server.on_connection(lambda ctx: ctx.emit("welcome"))
    house.server.on("x", lambda ctx: ctx.emit("y"))
    house.server.on_disconnect(lambda ctx: None)
    client = house.connect(wire)
    client.say("x")
    house.leave(client)
    assert house.server.virtual_runtime.spawned == 0


def test_one_client_s_messages_are_handled_one_at_a_time_and_others_do_not_wait(
    house: House, wire: str
) -> None:
    gates = {"c1": VirtualEvent(), "c2": VirtualEvent()}
    log: list[tuple[str, str, int]] = []

    @house.server.on("work")
    async def work(ctx: Context) -> None:
        log.append(("begin", ctx.id, ctx.data))
        await gates[ctx.id].wait()
        log.append(("end", ctx.id, ctx.data))

    first, second = house.connect(wire), house.connect(wire)
    first.say("work", 1)
    first.say("work", 2)
    second.say("work", 3)
    assert log == [("begin", "c1", 1), ("begin", "c2", 3)]
    gates["c2"].set()
    house.loop.run_until_idle()
    assert log[2:] == [("end", "c2", 3)]
    gates["c1"].set()
    house.loop.run_until_idle()
    assert log[3:] == [("end", "c1", 1), ("begin", "c1", 2), ("end", "c1", 2)]


def test_a_handler_that_raises_is_logged_once_and_disturbs_nothing(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    @house.server.on("x")
    def fail(ctx: Context) -> None:
        raise ValueError("plain")

    @house.server.on("x")
    async def fail_later(ctx: Context) -> None:
        await house.loop.sleep(1)
        raise ValueError("awaited")

    house.server.on("x", lambda ctx: ctx.emit("answer", ctx.data))
    client = house.connect(wire)
    client.say("x", 1)
    client.say("x", 2)
    house.loop.advance(2)
    assert client.heard() == [("event", "answer", 1), ("event", "answer", 2)]
    assert [str(error) for error in raised(caplog.records)] == ["plain", "awaited"] * 2
    record = next(record for record in caplog.records if record.exc_info)
    assert record.levelno == logging.ERROR
    assert "fail raised" in record.getMessage()
    assert record.__dict__["client_id"] == "c1"


def test_a_client_that_is_not_heard_is_not_read(house: House, wire: str) -> None:
    gate = VirtualEvent()
    handled: list[int] = []

    @house.server.on("work")
    async def work(ctx: Context) -> None:
        await gate.wait()
        handled.append(ctx.data)

    client = house.connect(wire)
    for number in range(100):
        client.say("work", number)
    assert not client.stream.transport.is_reading
    assert house.server.get_stats().total_messages_received == 65  # one at work, 64 waiting
    gate.set()
    house.loop.run_until_idle()
    assert client.stream.transport.is_reading
    assert handled == list(range(100))


def test_a_client_that_is_not_read_is_not_taken_for_dead(house: House, wire: str) -> None:
    gate = VirtualEvent()
    house.server.on("work", lambda ctx: gate.wait())
    client = house.connect(wire)
    for _ in range(100):
        client.say("work")
    house.loop.advance(3600)
    assert house.server.get_clients() == ["c1"]


# --- Coming and going -------------------------------------------------------------------------------------


def test_connection_handlers_come_before_everything_that_the_client_says(house: House, wire: str) -> None:
    log: list[str] = []
    gate = VirtualEvent()

    @house.server.on_connection
    async def welcome(ctx: Context) -> None:
        await gate.wait()
        log.append(f"welcome {ctx.event}")
        ctx.emit("welcome", ctx.id)

    house.server.on("x", lambda ctx: log.append("x"))
    client = house.connect(wire)
    client.say("x")
    assert log == []
    gate.set()
    house.loop.run_until_idle()
    assert log == ["welcome connect", "x"]
    assert client.heard() == [("event", "welcome", "c1")]


def test_disconnect_handlers_come_when_the_rooms_are_left_and_know_code_and_reason(
    house: House, wire: str
) -> None:
    gone: list[Any] = []
    house.server.on_connection(lambda ctx: ctx.join_room("hall"))

    @house.server.on_disconnect
    def note(ctx: Context) -> None:
        gone.append((ctx.event, ctx.id, ctx.data, ctx.client_info.rooms, house.server.get_rooms()))
        assert house.server.get_clients() == []
        assert not ctx.emit("late")
        assert not ctx.join_room("hall")
        assert not ctx.leave_room("hall")

    house.leave(house.connect(wire))
    assert gone == [("disconnect", "c1", {"code": 1000, "reason": ""}, frozenset(), [])]


def test_what_came_in_front_of_the_end_can_still_be_answered(house: House, wire: str) -> None:
    house.server.on("x", lambda ctx: ctx.emit("y", ctx.data))
    house.server.on_ack("sum", lambda ctx: sum(ctx.data))
    client = house.connect(wire)
    client.stream.send(client.event("x", 1) + client.request("name", "sum", [1, 2], "7") + client.bye())
    assert client.heard()[:2] == [("event", "y", 1), ("answer", "name", 3, "7")]


def test_a_disconnect_handler_may_send_to_everybody_else(house: House, wire: str) -> None:
    house.server.on_disconnect(lambda ctx: ctx.broadcast("left", ctx.id))
    first, second = house.connect(wire), house.connect(wire)
    house.leave(first)
    assert second.heard() == [("event", "left", "c1")]


def test_a_disconnect_handler_waits_for_the_handler_that_runs(house: House, wire: str) -> None:
    log: list[str] = []
    gate = VirtualEvent()

    @house.server.on("work")
    async def work(ctx: Context) -> None:
        await gate.wait()
        log.append("worked")

    house.server.on_disconnect(lambda ctx: log.append("gone"))
    client = house.connect(wire)
    client.say("work")
    client.stream.reset()
    assert house.server.get_clients() == []
    assert log == []
    gate.set()
    house.loop.run_until_idle()
    assert log == ["worked", "gone"]


def test_a_disconnect_handler_that_raises_leaves_nothing_behind(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    gone: list[str] = []

    @house.server.on_disconnect
    def fail(ctx: Context) -> None:
        raise RuntimeError("gone wrong")

    house.server.on_disconnect(lambda ctx: gone.append(ctx.id))
    house.leave(house.connect(wire))
    assert gone == ["c1"]
    assert [str(error) for error in raised(caplog.records)] == ["gone wrong"]
    house.loop.run(house.server.stop())


def test_even_a_disconnect_handler_that_stops_the_program_leaves_nothing_behind(
    house: House, wire: str
) -> None:
    @house.server.on_disconnect
    def interrupt(ctx: Context) -> None:
        raise KeyboardInterrupt

    client = house.connect(wire)
    with pytest.raises(KeyboardInterrupt):
        client.stream.reset()
    house.loop.run(house.server.stop())
    assert house.server.get_stats().active_connections == 0


def test_nothing_of_a_client_is_kept_when_it_has_gone(house: House, wire: str) -> None:
    """Not even until the garbage collector finds it: a busy server has better things to do."""
    house.server.on("x", lambda ctx: ctx.emit("y"))
    gc.collect()
    gc.disable()
    try:
        client = house.connect(wire)
        client.say("x")
        house.leave(client)
        del client.stream.transport.endpoint, client
        house.loop.advance(30)  # its last deadline may be looked at once more
        kept = [peer for peer in gc.get_objects() if type(peer) is Peer and peer.server is house.server]
        assert kept == []
    finally:
        gc.enable()


def test_a_handler_may_disconnect_its_own_client(house: House, wire: str) -> None:
    gone: list[Any] = []
    house.server.on_disconnect(lambda ctx: gone.append(ctx.data))

    @house.server.on("kick-me")
    def kick(ctx: Context) -> None:
        assert ctx.join_room("hall")
        assert ctx.emit("last", "words")
        ctx.disconnect(4001, "as you wish")
        assert not ctx.emit("later")
        assert not ctx.join_room("other")
        ctx.disconnect(4002, "again")

    client = house.connect(wire)
    client.say("kick-me")
    expected: list[Any] = [("event", "joined-room", "hall"), ("event", "last", "words")]
    words = "as you wish" if wire == "ws" else '{"code":4001,"message":"as you wish"}'
    assert client.heard() == [*expected, ("closed", 4001 if wire == "ws" else None, words)]
    if wire == "ws":
        client.stream.send(b"\x88\x82\0\0\0\0" + (4001).to_bytes(2, "big"))
    client.stream.end()
    assert gone == [{"code": 4001, "reason": "" if wire == "ws" else "as you wish"}]
    assert house.server.get_rooms() == []


def test_a_close_code_that_must_not_be_sent_is_refused_at_the_call(house: House, wire: str) -> None:
    refused: list[str] = []

    @house.server.on("kick-me")
    def kick(ctx: Context) -> None:
        with pytest.raises(MessageError) as caught:
            ctx.disconnect(1006)
        refused.append(caught.value.code)

    client = house.connect(wire)
    client.say("kick-me")
    with pytest.raises(MessageError):
        house.server.disconnect("c1", 1005)
    with pytest.raises(MessageError, match="1005"):
        house.server.disconnect("nobody", 1005)
    assert refused == ["INVALID_CLOSE"]
    assert house.server.get_clients() == ["c1"]


def test_a_server_may_be_stopped_by_a_handler(house: House, wire: str) -> None:
    house.server.on("stop", lambda ctx: house.server.stop())
    gone: list[Any] = []
    house.server.on_disconnect(lambda ctx: gone.append((ctx.id, ctx.data)))
    first, second = house.connect(wire), house.connect(wire)
    first.say("stop")
    for client in (first, second):
        assert client.heard() == [("closed", 1001, "Server shutting down")]
        house.leave(client)
    assert gone == [
        (
            "c2",
            {
                "code": 1000 if wire == "ws" else 1001,
                "reason": "" if wire == "ws" else "Server shutting down",
            },
        ),
        (
            "c1",
            {
                "code": 1000 if wire == "ws" else 1001,
                "reason": "" if wire == "ws" else "Server shutting down",
            },
        ),
    ]
    with pytest.raises(StateError, match="not running"):
        _ = house.server.runtime


# --- Registering ------------------------------------------------------------------------------------------


def test_names_that_clients_cannot_send_are_refused_when_registering(house: House) -> None:
    for name, code in [
        ("", "EMPTY_EVENT"),
        ("connect", "RESERVED_EVENT"),
        ("a b", "INVALID_EVENT_CHARS"),
        ("x" * 257, "EVENT_TOO_LONG"),
    ]:
        for register in (house.server.on, house.server.on_ack):
            with pytest.raises(MessageError) as caught:
                register(name, print)
            assert caught.value.code == code


def test_a_handler_is_a_function(house: House) -> None:
    server, wrong = house.server, "handler"
    for register in (server.on_all, server.on_connection, server.on_disconnect):
        with pytest.raises(TypeError, match="a handler is a function, not str"):
            register(wrong)  # type: ignore[type-var]
    for register_named in (server.on, server.on_ack):
        with pytest.raises(TypeError, match="a handler is a function, not str"):
            register_named("x", wrong)  # type: ignore[call-overload]


def test_a_handler_takes_a_context(house: House) -> None:
    server = house.server
    for register in (
        server.on_all,
        server.on_connection,
        server.on_disconnect,
        server.on("x"),
        server.on_ack("x"),
    ):
        with pytest.raises(TypeError, match=r"cannot be called as handler\(ctx\): missing .* 'data'"):
            register(lambda ctx, data: None)


def test_registering_returns_the_handler(house: House) -> None:
    def handler(ctx: Context) -> None: ...

    server = house.server
    assert server.on("x", handler) is handler
    assert server.on("x")(handler) is handler
    assert server.on_ack("x", handler) is handler
    assert server.on_ack("y")(handler) is handler
    assert server.on_all(handler) is handler
    assert server.on_connection(handler) is handler
    assert server.on_disconnect(handler) is handler


def test_only_one_handler_can_answer(house: House) -> None:
    house.server.on_ack("sum", lambda ctx: 1)
    with pytest.raises(StateError, match="'sum' have a handler already"):
        house.server.on_ack("sum", lambda ctx: 2)

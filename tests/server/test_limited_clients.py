"""Clients that say too much: which messages cost, which limit decides, and what becomes of the client."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.server import RateLimit
from tests.server.house import House, raised
from tests.server.limiters import AsyncLimiter, Limiter
from tests.support.memory import VirtualServer
from tests.support.virtual import VirtualEvent
from tests.support.wires import UPGRADE, Heard, RawClient, frame, masked, to_json

WORDS = "Rate limit exceeded"


def end_of(wire: str) -> Heard:
    return ("closed", 1008 if wire == "ws" else None, WORDS)


def collect(house: House, event: str = "x") -> list[Any]:
    """What the handler of ``event`` is given."""
    seen: list[Any] = []
    house.server.on(event, lambda ctx: seen.append(ctx.data))
    return seen


def events(client: RawClient, count: int, event: str = "x") -> bytes:
    return b"".join(client.event(event, number) for number in range(count))


def test_a_client_over_the_limit_is_told_and_disconnected_and_nothing_more_of_it_is_handled(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(rate_limit=RateLimit(3, 1))
    seen, bystander = collect(house), house.connect(wire)
    client = house.connect(wire)
    client.stream.send(events(client, 5))
    assert seen == [0, 1, 2]
    assert client.heard() == [end_of(wire)]
    house.loop.advance(2)  # by now the bucket would be full again
    client.stream.send(client.event("x", "late"))
    assert seen == [0, 1, 2]
    assert house.server.get_stats().rate_limited_messages == 3
    assert caplog.text.count("is disconnected: rate limit exceeded") == 1
    bystander.say("x", "still here")
    assert seen[-1] == "still here"
    assert bystander.heard() == []


def test_the_bucket_is_refilled_as_time_goes_by(house: House, wire: str) -> None:
    house.serve(rate_limit=RateLimit(2, 1))
    seen, client = collect(house), house.connect(wire)
    for number in range(50):
        client.say("x", number)
        house.loop.advance(0.5)
    assert seen == list(range(50))
    client.stream.send(events(client, 3))
    assert client.heard() == [end_of(wire)]


def test_the_default_is_a_hundred_messages_a_second(house: House, wire: str) -> None:
    house.serve()
    seen, client = collect(house), house.connect(wire)
    client.stream.send(events(client, 101))
    assert seen == list(range(100))
    assert client.heard() == [end_of(wire)]


def test_without_a_limit_everything_passes(house: House, wire: str) -> None:
    house.serve(rate_limit=None)
    seen, client = collect(house), house.connect(wire)
    client.stream.send(events(client, 1000))
    assert len(seen) == 1000
    assert house.server.get_stats().rate_limiter_entries == 0


@pytest.mark.parametrize(
    "kind", ["event", "binary", "request", "join", "leave", "invalid", "answer", "error"]
)
def test_every_message_costs_one(house: House, wire: str, kind: str) -> None:
    house.serve(rate_limit=RateLimit(2, 1))
    client = house.connect(wire)
    error = {"code": "X", "message": "x"}
    unasked = {"event": "a", "data": 1, "_isAck": True}
    if wire == "ws":
        broken, answer = masked(1, b"[]"), masked(1, to_json(unasked))
        error_answer = masked(1, to_json({**unasked, "_error": error}))
    else:
        broken, answer = frame(0, "x", b"no json"), frame(5, "a", b"1")
        error_answer = frame(10, "a", to_json(error))
    message = {
        "event": client.event("x"),
        "binary": client.binary("x", b"\0"),
        "request": client.request("a", "x", correlation_id="1"),
        "join": client.room("join", "r"),
        "leave": client.room("leave", "r"),
        "invalid": broken,
        "answer": answer,
        "error": error_answer,
    }[kind]
    client.stream.send(message * 2)
    client.heard()
    house.loop.run_until_idle()
    assert not client.stream.has_ended
    client.stream.send(client.event("x"))
    assert client.heard()[-1] == end_of(wire)


def test_signs_of_life_cost_nothing(house: House, wire: str) -> None:
    house.serve(rate_limit=RateLimit(1, 1))
    seen, client = collect(house), house.connect(wire)
    if wire == "ws":
        alive = [masked(9, b""), masked(10, b""), masked(1, to_json({"event": "pong", "data": 5}))]
    else:
        alive = [frame(2, "", b""), frame(3, "", b"")]
    client.stream.send(b"".join(alive) * 50 + client.event("x", 1))
    assert seen == [1]
    assert [heard for heard in client.heard() if heard[0] == "closed"] == []


def test_an_answer_that_nobody_asked_for_is_counted_as_an_invalid_message(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve()
    client = house.connect(wire)
    fields = {"event": "a", "data": 1, "_isAck": True}
    client.stream.send(masked(1, to_json(fields)) if wire == "ws" else frame(5, "a", b"1"))
    stats = house.server.get_stats()
    assert (stats.total_messages_received, stats.invalid_messages) == (1, 1)
    assert "an answer that nobody asked for: 'a'" in caplog.text
    assert client.heard() == []


def test_a_request_over_the_limit_is_answered_in_front_of_the_end(house: House, wire: str) -> None:
    house.serve(rate_limit=RateLimit(1, 1))
    house.server.on_ack("x", lambda ctx: ctx.data)
    client = house.connect(wire)
    client.stream.send(client.request("a", "x", 1, "1") + client.request("a", "x", 2, "2"))
    assert client.heard() == [
        ("answer", "a", 1, "1"),
        ("error", "a", "RATE_LIMITED", WORDS, "2"),
        end_of(wire),
    ]


def test_each_client_has_a_bucket_of_its_own(house: House) -> None:
    house.serve(rate_limit=RateLimit(1, 1))
    seen, clients = collect(house), [house.connect(wire) for wire in ("ws", "tcp", "ws")]
    for client in clients:
        client.say("x", client.id)
    assert seen == ["c1", "c2", "c3"]
    assert house.server.get_stats().rate_limiter_entries == 3
    for client in clients:
        house.leave(client)
    assert house.server.get_stats().rate_limiter_entries == 0


# --- Which limit decides ------------------------------------------------------------------------------------


def test_an_event_with_a_limit_of_its_own_is_counted_there_and_only_there(house: House, wire: str) -> None:
    house.serve(rate_limit=RateLimit(2, 1), event_rate_limits={"chat": RateLimit(3, 1)})
    chat, seen, client = collect(house, "chat"), collect(house), house.connect(wire)
    client.stream.send(events(client, 3, "chat") + events(client, 2))
    assert (chat, seen) == ([0, 1, 2], [0, 1])
    assert client.heard() == []
    client.say("chat")
    assert client.heard() == [end_of(wire)]


def test_joins_and_leaves_have_limits_under_their_names(house: House, wire: str) -> None:
    house.serve(event_rate_limits={"join-room": RateLimit(2, 60), "leave-room": RateLimit(1, 60)})
    client = house.connect(wire)
    for room in ("a", "b"):
        client.stream.send(client.room("join", room))
    client.stream.send(client.room("leave", "a"))
    assert len(client.heard()) == 3
    client.stream.send(client.room("join", "c"))
    assert client.heard() == [end_of(wire)]
    assert house.server.get_rooms() == ["b"]


def test_limits_of_events_come_and_go_while_clients_are_connected(house: House, wire: str) -> None:
    server = house.serve(rate_limit=None)
    seen, client = collect(house), house.connect(wire)
    server.set_event_rate_limit("x", RateLimit(2, 60))
    client.stream.send(events(client, 2))
    assert server.remove_event_rate_limit("x")
    assert not server.remove_event_rate_limit("x")
    client.stream.send(events(client, 50))
    assert len(seen) == 52
    server.set_event_rate_limit("x", RateLimit(1, 60))
    client.stream.send(events(client, 2))
    assert client.heard() == [end_of(wire)]


def test_a_clients_own_limit_holds_in_place_of_all_others_until_it_is_removed(
    house: House, wire: str
) -> None:
    server = house.serve(rate_limit=RateLimit(1, 60), event_rate_limits={"x": RateLimit(1, 60)})
    seen, client = collect(house), house.connect(wire)
    assert client.id is not None
    house.loop.advance(1)
    assert server.set_client_rate_limit(client.id, RateLimit(5, 60))
    client.stream.send(events(client, 5))
    assert len(seen) == 5
    assert server.remove_client_rate_limit(client.id)
    assert not server.remove_client_rate_limit(client.id)
    client.say("x", "the event's own")
    assert seen[-1] == "the event's own"
    client.say("x")
    assert client.heard() == [end_of(wire)]


def test_who_is_not_there_gets_no_limit(house: House) -> None:
    server = house.serve()
    assert not server.set_client_rate_limit("nobody", RateLimit())
    assert not server.remove_client_rate_limit("nobody")
    with pytest.raises(TypeError, match="a limit is a RateLimit, not int"):
        server.set_client_rate_limit("nobody", 5)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="'x' must have a RateLimit, not 5"):
        server.set_event_rate_limit("x", 5)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="reserved"):
        server.set_event_rate_limit("connect", RateLimit())


def test_a_limit_set_in_on_connection_holds_from_the_first_message(house: House, wire: str) -> None:
    server = house.serve(rate_limit=None)
    server.on_connection(lambda ctx: server.set_client_rate_limit(ctx.id, RateLimit(1, 1)))
    seen, client = collect(house), house.connect(wire)
    client.stream.send(events(client, 2))
    assert seen == [0]
    assert client.heard() == [end_of(wire)]


def test_clients_of_every_namespace_are_limited_and_found(house: House) -> None:
    server = house.serve(rate_limit=None)
    client_ids: list[str] = []
    server.of("/game").on_connection(lambda ctx: client_ids.append(ctx.id))
    stream = house.stream("ws")
    stream.send(UPGRADE.replace(b"GET /", b"GET /game"))
    assert server.set_client_rate_limit(client_ids[0], RateLimit(1, 1))
    stream.send(masked(1, to_json({"event": "x"})) * 2)
    assert stream.take().endswith(b"\x88\x15\x03\xf0" + WORDS.encode())


# --- A limiter of the application's own ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
def test_the_applications_limiter_decides_where_no_other_limit_is_set(
    house: House, wire: str, make: type[Limiter]
) -> None:
    limiter = make(lambda key: len(limiter.calls) <= 2)
    house.serve(rate_limiter=limiter, event_rate_limits={"free": RateLimit()})
    seen, client = collect(house), house.connect(wire)
    client.say("free")
    assert limiter.calls == []
    client.stream.send(events(client, 4))
    assert seen == [0, 1]
    assert client.heard() == [end_of(wire)]
    assert limiter.calls[:3] == [("check", "c1", 1)] * 3
    assert house.server.get_stats().rate_limited_messages == 2
    house.loop.run_until_idle()


def test_it_is_not_asked_where_a_general_limit_is_given(house: House, wire: str) -> None:
    limiter = Limiter(lambda key: False)
    house.serve(rate_limiter=limiter, rate_limit=RateLimit())
    seen, client = collect(house), house.connect(wire)
    client.say("x", 1)
    assert (seen, limiter.calls) == ([1], [])


def test_an_async_limiter_keeps_the_order_and_holds_its_client_only(house: House, wire: str) -> None:
    limiter = AsyncLimiter()
    house.serve(rate_limiter=limiter)
    seen, first = collect(house), house.connect(wire)
    house.server.on_ack("x", lambda ctx: ctx.data)
    second = house.connect(wire)
    limiter.gate = VirtualEvent()
    first.stream.send(events(first, 3) + first.request("a", "x", 1, "1"))
    assert (seen, first.heard()) == ([], [])
    gate, limiter.gate = limiter.gate, None
    second.say("x", "from another")
    assert seen == ["from another"]
    gate.set()
    house.loop.run_until_idle()
    assert seen == ["from another", 0, 1, 2]
    assert first.heard() == [("answer", "a", 1, "1")]


def test_a_handler_that_is_awaited_follows_the_limiter_that_was(house: House, wire: str) -> None:
    house.serve(rate_limiter=AsyncLimiter())
    gate, seen = VirtualEvent(), []

    @house.server.on("x")
    async def handle(ctx: Any) -> None:
        await gate.wait()
        seen.append(ctx.data)

    client = house.connect(wire)
    client.stream.send(events(client, 2))
    assert seen == []
    gate.set()
    house.loop.run_until_idle()
    assert seen == [0, 1]


def test_a_limiter_that_hangs_holds_its_client_only_which_is_read_no_more(house: House, wire: str) -> None:
    limiter = AsyncLimiter()
    house.serve(rate_limiter=limiter, inbox_limit=4)
    seen, hanging = collect(house), house.connect(wire)
    limiter.gate = VirtualEvent()
    hanging.stream.send(events(hanging, 10))
    assert not hanging.stream.transport.is_reading
    limiter.gate = None
    other = house.connect(wire)
    other.say("x", "fine")
    assert seen == ["fine"]
    assert other.stream.transport.is_reading


@pytest.mark.parametrize("error", [ConnectionError, SystemExit])
@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
def test_a_limiter_that_raises_is_reported_once_and_messages_pass_until_it_works_again(
    house: House,
    wire: str,
    make: type[Limiter],
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(key: str) -> bool:
        raise error("the database is gone")

    limiter = make(fail)
    house.serve(rate_limiter=limiter)
    seen, client = collect(house), house.connect(wire)
    client.stream.send(events(client, 5))
    assert seen == [0, 1, 2, 3, 4]
    assert [str(each) for each in raised(caplog.records)] == ["the database is gone"]
    limiter.allow = lambda key: True
    client.say("x")
    limiter.allow = fail
    client.stream.send(events(client, 5))
    assert len(raised(caplog.records)) == 2
    limiter.allow = lambda key: False
    client.say("x")
    assert client.heard() == [end_of(wire)]


@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
def test_a_limiter_is_told_who_left_and_to_clean_up_once_a_minute(
    house: House, wire: str, make: type[Limiter]
) -> None:
    limiter = make()
    house.serve(rate_limiter=limiter, heartbeat_interval=None)
    client = house.connect(wire)
    client.say("x")
    house.leave(client)
    assert limiter.calls == [("check", "c1", 1), ("reset", "c1")]
    house.loop.advance(59)
    assert "cleanup" not in limiter.calls
    house.loop.advance(1)
    assert limiter.calls.count("cleanup") == 1
    house.loop.advance(120)
    assert limiter.calls.count("cleanup") == 3


def test_what_a_limiter_remembers_is_counted(house: House, wire: str) -> None:
    limiter = Limiter()
    server = house.serve(rate_limiter=limiter)
    house.connect(wire).say("x")
    assert server.get_stats().rate_limiter_entries == 1


def test_an_async_limiter_is_asked_how_many_and_what_it_said_last_is_told(house: House) -> None:
    limiter = AsyncLimiter()
    server = house.serve(rate_limiter=limiter)
    house.connect("tcp").say("x")
    limiter.gate = VirtualEvent()
    spawned = server.virtual_runtime.spawned
    assert [server.get_stats().rate_limiter_entries for _ in range(5)] == [0] * 5
    assert server.virtual_runtime.spawned == spawned + 1, "one that hangs is not asked again and again"
    limiter.gate.set()
    house.loop.run_until_idle()
    assert server.get_stats().rate_limiter_entries == 1
    house.loop.run_until_idle()


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit("broken")], ids=repr)
@pytest.mark.parametrize("method", ["reset", "cleanup", "size"])
@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
def test_whatever_a_limiter_raises_is_reported_and_hurts_nobody(
    house: House,
    make: type[Limiter],
    method: str,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = make()

    def fail(*arguments: Any) -> Any:
        raise error

    async def fail_later(*arguments: Any) -> Any:
        raise error

    setattr(limiter, method, fail if make is Limiter else fail_later)
    server = house.serve(rate_limiter=limiter)
    house.leave(house.connect("tcp"))
    house.loop.advance(60)
    assert server.get_stats().rate_limiter_entries == 0
    house.loop.run_until_idle()
    assert raised(caplog.records) == [error]
    assert f"rate_limiter.{method} raised" in caplog.text


def test_a_limiter_that_hung_is_asked_again_when_the_server_has_been_started_again(house: House) -> None:
    limiter = AsyncLimiter()
    server = house.serve(rate_limiter=limiter)
    limiter.gate = VirtualEvent()
    server.get_stats()
    house.loop.run(server.stop())
    limiter.gate, limiter.keys = None, {"c1"}
    server.start_now()
    server.get_stats()
    house.loop.run_until_idle()
    assert server.get_stats().rate_limiter_entries == 1
    house.loop.run_until_idle()


def test_nothing_is_asked_of_a_limiter_while_the_server_does_not_run(house: House) -> None:
    server = VirtualServer(house.network, rate_limiter=AsyncLimiter())
    assert server.get_stats().rate_limiter_entries == 0

"""Hooks: what each is told, which of them can refuse, and that none of them takes anything down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import MessageError, StateError
from stelar_proto.server import HOOKS, Context, RateLimit, ServerConfig
from tests.server.house import House, raised
from tests.support.virtual import VirtualEvent
from tests.support.wires import UPGRADE, Heard, RawClient, upgrade_to

Log = list[tuple[str, dict[str, Any]]]


def noting(log: Log, *names: str, answer: object = None) -> dict[str, Callable[..., object]]:
    """Hooks of ``names`` that note what they are told, all but the contexts."""

    def note(name: str, **arguments: Any) -> object:
        assert tuple(arguments) == HOOKS[name] or set(arguments) == set(HOOKS[name])
        context = arguments.pop("ctx", None)
        assert context is None or context.id == arguments["client_id"]
        log.append((name, arguments))
        return answer

    return {name: partial(note, name) for name in names}


class Doubt:
    """A hook that answers when it is told to, the oldest question first."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers: list[tuple[VirtualEvent, list[object]]] = []
        self._count = 0

    async def __call__(self, **arguments: Any) -> object:
        self.asked.append(arguments)
        event, answer = VirtualEvent(), list[object]()
        self._answers.append((event, answer))
        await event.wait()
        if isinstance(answer[0], BaseException):
            raise answer[0]
        return answer[0]

    def answer(self, house: House, answer: object) -> None:
        house.loop.run_until_idle()
        event, slot = self._answers.pop(0)
        slot.append(answer)
        event.set()
        house.loop.run_until_idle()


def heard(house: House, client: RawClient) -> list[Heard]:
    """What ``client`` has heard when everything that is to be done is done."""
    house.loop.run_until_idle()
    return client.heard()


def join(client: RawClient, room: str = "hall") -> None:
    client.stream.send(client.room("join", room))


def leave(client: RawClient, room: str = "hall") -> None:
    client.stream.send(client.room("leave", room))


# --- The option -------------------------------------------------------------------------------------------


def test_there_are_eleven_hooks() -> None:
    assert len(HOOKS) == 11
    assert ServerConfig(hooks=noting([], *HOOKS)).hooks.keys() == HOOKS.keys()
    assert ServerConfig().hooks == {}


def test_all_that_is_wrong_with_the_hooks_is_said_at_once() -> None:
    hooks: Any = {
        "on_connect": print,
        "on_client_connect": 5,
        "on_client_disconnect": lambda client_id: None,
        "on_invalid_message": lambda client_id, **_: None,
        "on_before_broadcast": print,
    }
    with pytest.raises(ValueError, match="there is no 'on_connect'; there are on_rate_limit") as caught:
        ServerConfig(hooks=hooks, port=-1)
    for words in (
        "port must be",
        "on_client_connect must be a function, not 5",
        "on_client_disconnect is called with client_id, code, reason, remote_address, namespace, ctx; take",
        "on_before_broadcast is called with event, data",
    ):
        assert words in str(caught.value)
    assert "on_invalid_message" not in str(caught.value).partition("; hooks: ")[2].partition("there are")[0]
    with pytest.raises(ValueError, match="hooks must be a mapping from names to functions, not \\['x'\\]"):
        ServerConfig(hooks=["x"])  # type: ignore[arg-type]


def test_a_builtin_that_does_not_tell_its_arguments_is_taken() -> None:
    assert ServerConfig(hooks={"on_client_connect": dict}).hooks == {"on_client_connect": dict}


@pytest.mark.parametrize("backlog", [0, -1, 1.5, None, True])
def test_the_backlog_is_a_positive_whole_number(backlog: Any) -> None:
    with pytest.raises(ValueError, match="hook_backlog must be a positive whole number"):
        ServerConfig(hook_backlog=backlog)


# --- What each is told ------------------------------------------------------------------------------------


def test_coming_and_going_is_told_with_everything_in_place(house: House, wire: str) -> None:
    log: Log = []
    seen: list[Any] = []
    server = house.serve(
        hooks=noting(log, "on_client_connect", "on_client_leave_room", "on_client_disconnect")
    )
    game = server.of("/game")
    path = "/game" if wire == "ws" else "/"
    namespace = game if wire == "ws" else server
    namespace.on_connection(lambda ctx: seen.append((len(log), namespace.get_clients())))
    namespace.on_disconnect(
        lambda ctx: seen.append((len(log), namespace.get_clients(), namespace.get_rooms()))
    )
    client = house.connect(wire, path)
    join(client, "a")
    join(client, "b")
    house.leave(client)
    about = {"client_id": "c1", "namespace": path}
    assert log == [
        ("on_client_connect", {**about, "remote_address": "192.0.2.1", "transport": wire}),
        ("on_client_leave_room", {**about, "room": log[1][1]["room"], "is_disconnect": True}),
        ("on_client_leave_room", {**about, "room": log[2][1]["room"], "is_disconnect": True}),
        ("on_client_disconnect", {**about, "remote_address": "192.0.2.1", "code": 1000, "reason": ""}),
    ]
    assert {log[1][1]["room"], log[2][1]["room"]} == {"a", "b"}
    assert seen == [(1, ["c1"]), (4, [], [])]


def test_a_full_server_is_told_and_the_client_refused_all_the_same(house: House, wire: str) -> None:
    log: Log = []
    house.serve(max_connections=1, hooks=noting(log, "on_max_connections_reached", answer=True))
    house.connect("tcp")
    stream = house.stream(wire)
    if wire == "ws":
        stream.send(UPGRADE)
    assert stream.has_ended
    assert log == [
        (
            "on_max_connections_reached",
            {"limit": 1, "current": 1, "remote_address": "192.0.2.1", "transport": wire},
        )
    ]


def test_a_full_server_may_be_told_later(house: House, wire: str) -> None:
    doubt = Doubt()
    house.serve(max_connections=1, hooks={"on_max_connections_reached": doubt})
    house.connect("tcp")
    stream = house.stream(wire)
    if wire == "ws":
        stream.send(UPGRADE)
    assert stream.has_ended
    stream.end()
    doubt.answer(house, None)
    assert (len(house.server._peers), house.loop.tasks) == (1, [])


@pytest.mark.parametrize(
    ("option", "hook"),
    [
        ("max_rooms", "on_max_rooms_reached"),
        ("max_rooms_per_client", "on_max_rooms_per_client_reached"),
    ],
)
def test_a_join_over_a_limit_is_told_and_nobody_is_asked_to_allow_it(
    house: House, wire: str, option: str, hook: str
) -> None:
    log: Log = []
    hooks = noting(log, hook, "on_client_join_room", answer=True)
    server = house.serve(hooks=hooks, **{option: 1})
    client = house.connect(wire)
    join(client, "a")
    join(client, "a")
    join(client, "b")
    assert [name for name, _ in log] == ["on_client_join_room", hook]
    assert log[1][1] == {"client_id": "c1", "room": "b", "limit": 1, "current": 1}
    assert server.get_rooms() == ["a"]
    assert heard(house, client) == [("event", "joined-room", "a")]


def test_a_message_over_the_limit_is_told_with_its_size(house: House, wire: str) -> None:
    log: Log = []
    hooks = noting(log, "on_payload_too_large", "on_client_disconnect")
    house.serve(hooks=hooks, max_payload_size=1000)
    client = house.connect(wire)
    frame = client.event("x", "y" * 2000)
    client.stream.send(frame)
    (first, told), (second, how) = log
    assert (first, second) == ("on_payload_too_large", "on_client_disconnect")
    assert told["client_id"] == "c1"
    assert (told["size"], told["limit"]) == (len(frame) - 8, 1000)  # the head of either wire has 8 bytes here
    assert how["code"] == 1009


def test_a_message_that_breaks_the_rules_is_told(house: House, wire: str) -> None:
    log: Log = []
    house.serve(hooks=noting(log, "on_invalid_message"))
    client = house.connect(wire)
    client.say("a b")
    client.say("connect")
    assert [name for name, _ in log] == ["on_invalid_message"] * 2
    assert log[0][1]["client_id"] == "c1"
    assert "'a b'" in log[0][1]["reason"]
    assert house.server.get_stats().invalid_messages == 2


def test_a_join_that_cannot_be_confirmed_is_an_invalid_message_too(house: House) -> None:
    log: Log = []
    house.serve(hooks=noting(log, "on_invalid_message", "on_client_join_room"), max_payload_size=40)
    client = house.connect("tcp")
    join(client, "x" * 41)
    assert [name for name, _ in log] == ["on_invalid_message"]


def test_every_way_to_send_to_many_is_asked_about(house: House, wire: str) -> None:
    log: Log = []
    server = house.serve(hooks=noting(log, "on_before_broadcast"))
    client = house.connect(wire)
    server.on("x", lambda ctx: ctx.broadcast("said", ctx.data))
    server.broadcast("all", 1)
    server.broadcast_binary("all", b"2", exclude_id="c1")
    server.to("hall", "room", 3)
    server.of("/game").to_binary("hall", "room", b"4")
    client.say("x", 5)
    keys = ("event", "data", "is_binary", "room", "exclude_id", "namespace")
    assert [tuple(told[key] for key in keys) for _, told in log] == [
        ("all", 1, False, None, None, "/"),
        ("all", b"2", True, None, "c1", "/"),
        ("room", 3, False, "hall", None, "/"),
        ("room", b"4", True, "hall", None, "/game"),
        ("said", 5, False, None, "c1", "/"),
    ]


# --- What they can refuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, True, 0, "", [], "False"], ids=repr)
def test_only_false_refuses(house: House, wire: str, answer: object) -> None:
    log: Log = []
    names = ("on_client_join_room", "on_client_leave_room", "on_before_broadcast")
    server = house.serve(hooks=noting(log, *names, answer=answer))
    client = house.connect(wire)
    join(client)
    assert server.broadcast("x") == 1
    leave(client)
    assert heard(house, client) == [
        ("event", "joined-room", "hall"),
        ("event", "x", None),
        ("event", "left-room", "hall"),
    ]
    assert [name for name, _ in log] == [names[0], names[2], names[1]]


def test_a_refused_join_does_not_happen(house: House, wire: str) -> None:
    server = house.serve(hooks=noting([], "on_client_join_room", answer=False))
    server.on_ack("join", lambda ctx: ctx.join_room("hall"))
    client = house.connect(wire)
    join(client)
    client.stream.send(client.request("join", "join"))
    assert heard(house, client) == [("answer", "join", False, None)]
    assert server.get_rooms() == []


def test_a_refused_leave_does_not_happen_unless_the_client_goes(house: House, wire: str) -> None:
    log: Log = []
    server = house.serve(hooks=noting(log, "on_client_leave_room", answer=False))
    server.on_ack("leave", lambda ctx: ctx.leave_room("hall"))
    client = house.connect(wire)
    join(client)
    leave(client)
    client.stream.send(client.request("leave", "leave"))
    assert heard(house, client) == [("event", "joined-room", "hall"), ("answer", "leave", False, None)]
    assert server.get_room_members("hall") == ["c1"]
    client.stream.reset()
    assert server.get_rooms() == []
    assert [told["is_disconnect"] for _, told in log] == [False, False, True]


def test_nobody_is_asked_about_what_is_not_possible(house: House, wire: str) -> None:
    log: Log = []
    house.serve(hooks=noting(log, "on_client_join_room", "on_client_leave_room"))
    client = house.connect(wire)
    leave(client)
    join(client)
    join(client)
    assert [name for name, _ in log] == ["on_client_join_room"]


def test_a_refused_broadcast_reaches_nobody(house: House, wire: str) -> None:
    server = house.serve(hooks={"on_before_broadcast": lambda event, **_: event != "secret"})
    client = house.connect(wire)
    assert server.broadcast("secret") == 0
    assert server.broadcast("news") == 1
    assert heard(house, client) == [("event", "news", None)]


def test_what_cannot_be_said_is_wrong_at_the_call(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_before_broadcast": doubt})
    house.connect(wire)
    for data in (object(), {1: float("nan")}):
        with pytest.raises(MessageError, match="JSON"):
            server.broadcast("x", data)
    assert doubt.asked == []


def test_a_server_that_does_not_run_broadcasts_to_nobody_and_asks_nobody(house: House) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_before_broadcast": doubt})
    house.loop.run(server.stop())
    assert server.broadcast("x") == 0
    assert doubt.asked == []


@pytest.mark.parametrize("how", ["general", "event", "own", "custom"])
def test_a_client_over_a_rate_limit_is_told_about_and_may_be_spared(
    house: House, wire: str, how: str
) -> None:
    class Never:
        """A limiter that lets nothing pass."""

        def check(self, key: str, cost: int = 1) -> bool:
            return False

        def reset(self, key: str) -> None: ...
        def cleanup(self) -> None: ...
        def size(self) -> int:
            return 0

    limit, other = RateLimit(1, 60), RateLimit(100, 1)
    options: dict[str, dict[str, Any]] = {
        "general": {"rate_limit": limit},
        "event": {"rate_limit": other, "event_rate_limits": {"x": limit}},
        "own": {"rate_limit": other},
        "custom": {"rate_limiter": Never()},
    }
    log: Log = []
    server = house.serve(hooks=noting(log, "on_rate_limit_exceeded", answer=False), **options[how])
    handled: list[Any] = []
    server.on("x", lambda ctx: handled.append(ctx.data))
    client = house.connect(wire)
    if how == "own":
        server.set_client_rate_limit("c1", limit)
    for number in range(3):
        client.say("x", number)
    told = {"client_id": "c1", "event": "x", "limit": None if how == "custom" else limit}
    dropped = 3 if how == "custom" else 2
    assert log == [("on_rate_limit_exceeded", told)] * dropped
    assert handled == [0, 1, 2][: 3 - dropped]
    assert client.heard() == []
    assert server.get_stats().rate_limited_messages == dropped


@pytest.mark.parametrize("answer", [None, True, 0])
def test_a_client_over_a_rate_limit_is_disconnected_unless_it_is_spared(
    house: House, wire: str, answer: object
) -> None:
    log: Log = []
    house.serve(hooks=noting(log, "on_rate_limit_exceeded", answer=answer), rate_limit=RateLimit(1, 60))
    client = house.connect(wire)
    client.stream.send(client.event("x") + client.event("y") + client.event("z"))
    assert [told["event"] for _, told in log] == ["y"]  # what came behind it is dropped without a word
    assert client.heard() == [("closed", 1008 if wire == "ws" else None, "Rate limit exceeded")]


def test_a_client_over_a_rate_limit_may_be_spared_later(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_rate_limit_exceeded": doubt}, rate_limit=RateLimit(1, 60))
    client = house.connect(wire)
    client.stream.send(client.event("x") + client.event("y") + client.event("z"))
    assert len(doubt.asked) == 1
    doubt.answer(house, False)
    assert heard(house, client) == []
    doubt.answer(house, True)
    assert heard(house, client) == [("closed", 1008 if wire == "ws" else None, "Rate limit exceeded")]
    assert server.get_stats().rate_limited_messages == 2


# --- Hooks that take their time ---------------------------------------------------------------------------


def test_what_a_client_asks_for_is_decided_in_front_of_what_it_says_next(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_client_join_room": doubt, "on_client_leave_room": doubt})
    server.on_ack("rooms", lambda ctx: sorted(ctx.client_info.rooms))
    client = house.connect(wire)
    for action, answer, rooms in (
        ("join", False, []),
        ("join", None, ["hall"]),
        ("leave", False, ["hall"]),
        ("leave", True, []),
    ):
        client.stream.send(client.room(action, "hall") + client.request("rooms", "rooms"))
        assert heard(house, client) == []
        doubt.answer(house, answer)
        *confirmed, told = heard(house, client)
        assert told == ("answer", "rooms", rooms, None)
        assert len(confirmed) == (answer is not False)
    assert house.loop.tasks == []


def test_what_the_application_asks_for_is_done_later_in_the_order_of_the_calls(
    house: House, wire: str
) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_client_join_room": doubt})
    contexts: list[Context] = []
    server.on_connection(contexts.append)
    client = house.connect(wire)
    [ctx] = contexts
    assert [ctx.join_room("a"), ctx.leave_room("a"), ctx.join_room("b")] == [False, False, False]
    house.loop.run_until_idle()
    assert [told["room"] for told in doubt.asked] == ["a"]
    doubt.answer(house, True)
    assert heard(house, client) == [("event", "joined-room", "a"), ("event", "left-room", "a")]
    assert [told["room"] for told in doubt.asked] == ["a", "b"]
    join(client, "c")
    client.say("x")
    doubt.answer(house, True)
    doubt.answer(house, True)
    assert heard(house, client) == [("event", "joined-room", "b"), ("event", "joined-room", "c")]
    assert ctx.leave_room("b")  # nothing waits any more
    assert house.loop.tasks == []


def test_broadcasts_that_wait_leave_in_order_to_those_who_are_there_then(house: House) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_before_broadcast": doubt})
    first = house.connect("ws")
    data = {"n": 1}
    assert server.broadcast("x", data) == 0
    data["n"] = 2  # what was said is what it was
    assert server.broadcast_binary("y", b"2") == 0
    assert server.broadcast("z", exclude_id="c2") == 0
    second = house.connect("tcp")
    assert [heard(house, first), heard(house, second)] == [[], []]
    for answer in (True, False, None):
        doubt.answer(house, answer)
    assert heard(house, first) == [("event", "x", {"n": 1}), ("event", "z", None)]
    assert heard(house, second) == [("event", "x", {"n": 2})]
    assert house.loop.tasks == []


def test_what_can_no_longer_be_said_when_it_is_decided_is_reported(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_before_broadcast": doubt})
    house.connect("ws")
    data: list[object] = [1]
    server.broadcast("x", data)
    server.broadcast("y")
    data.append(object())  # and TCP, which has come meanwhile, never was told the first
    client = house.connect("tcp")
    doubt.answer(house, True)
    doubt.answer(house, True)
    assert heard(house, client) == [("event", "y", None)]
    assert [type(error) for error in raised(caplog.records)] == [MessageError]


def test_namespaces_do_not_wait_for_each_other(house: House) -> None:
    doubt = Doubt()
    server = house.serve(
        hooks={"on_before_broadcast": lambda namespace, **_: doubt() if namespace == "/game" else None}
    )
    client = house.connect("tcp")
    server.of("/game").broadcast("x")
    assert server.broadcast("y") == 1
    assert heard(house, client) == [("event", "y", None)]


def test_a_client_that_goes_meanwhile_joins_nothing(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_client_join_room": doubt})
    gone: list[str] = []
    server.on_disconnect(lambda ctx: gone.append(ctx.id))
    client = house.connect(wire)
    join(client)
    client.stream.reset()
    assert gone == []
    doubt.answer(house, True)
    assert (server.get_rooms(), gone) == ([], ["c1"])
    assert len(server._peers) == 0


def test_limits_hold_when_the_answer_comes(house: House, wire: str) -> None:
    doubt, log = Doubt(), list[tuple[str, dict[str, Any]]]()
    hooks = {"on_client_join_room": doubt, **noting(log, "on_max_rooms_reached")}
    server = house.serve(hooks=hooks, max_rooms=1)
    first, second = house.connect(wire), house.connect(wire)
    join(first, "a")
    join(second, "b")
    doubt.answer(house, True)
    doubt.answer(house, True)
    assert server.get_rooms() == ["a"]
    assert [(told["client_id"], told["room"]) for _, told in log] == [("c2", "b")]


def test_no_more_than_hook_backlog_wait(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stelar.server")
    doubt = Doubt()
    hooks = {"on_before_broadcast": doubt, "on_client_join_room": doubt, "on_max_rooms_reached": doubt}
    server = house.serve(hooks=hooks, hook_backlog=2)
    contexts: list[Context] = []
    server.on_connection(contexts.append)
    client = house.connect("tcp")
    for number in range(5):
        server.broadcast("x", number)
        contexts[0].join_room(f"room {number}")
    assert server.get_stats().refused_actions == 6
    told = [record for record in caplog.records if "refused a join, a leave or" in record.getMessage()]
    assert {record.getMessage() for record in told} == {
        "refused a join, a leave or a broadcast: 2 wait for an async hook"
    }
    assert [record.levelno for record in told] == [logging.WARNING] * 2 + [logging.DEBUG] * 4
    assert [record.__dict__["client_id"] for record in told] == [None, "c1"] * 3
    for _ in range(4):
        doubt.answer(house, True)
    assert [data for _, name, data in heard(house, client) if name == "x"] == [0, 1]
    assert server.get_rooms() == ["room 0", "room 1"]


def test_hooks_that_only_hear_of_it_come_in_order_in_front_of_the_handlers(house: House, wire: str) -> None:
    log: list[Any] = []

    async def slow(name: str, **arguments: Any) -> None:
        await house.loop.sleep(1)
        log.append((name, arguments.get("room")))

    names = ("on_client_connect", "on_client_leave_room", "on_client_disconnect", "on_invalid_message")
    server = house.serve(hooks={name: partial(slow, name) for name in names})
    server.on_connection(lambda ctx: log.append("connected"))
    server.on_disconnect(lambda ctx: log.append("disconnected"))
    client = house.connect(wire)
    client.say("a b")
    join(client)
    assert log == []
    house.loop.advance(2)
    client.stream.reset()
    house.loop.advance(2)
    assert log == [
        ("on_client_connect", None),
        "connected",
        ("on_invalid_message", None),
        ("on_client_leave_room", "hall"),
        ("on_client_disconnect", None),
        "disconnected",
    ]
    assert house.loop.tasks == []


def test_handlers_that_wait_come_behind_hooks_that_wait(house: House, wire: str) -> None:
    log: list[str] = []

    async def welcome(ctx: Context) -> None:
        await house.loop.sleep(1)
        log.append("welcome")

    server = house.serve(hooks={"on_client_connect": lambda **_: house.loop.sleep(1)})
    server.on_connection(welcome)
    server.on("x", lambda ctx: log.append("x"))
    house.connect(wire).say("x")
    house.loop.advance(1)
    assert log == []
    house.loop.advance(1)
    assert log == ["welcome", "x"]


def test_a_client_that_asks_for_too_much_waits_for_the_hook_that_hears_of_it(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_max_rooms_per_client_reached": doubt}, max_rooms_per_client=1)
    handled: list[Any] = []
    server.on("x", lambda ctx: handled.append(ctx.data))
    contexts: list[Context] = []
    server.on_connection(contexts.append)
    client = house.connect(wire)
    for room in ("a", "b", "c"):
        join(client, room)
    client.say("x", 1)
    assert len(doubt.asked) == 1
    assert handled == []
    contexts[0].join_room("d")  # behind it
    doubt.answer(house, False)
    doubt.answer(house, None)
    assert (len(doubt.asked), handled) == (3, [])
    doubt.answer(house, None)
    assert (len(doubt.asked), handled) == (3, [1])
    assert house.loop.tasks == []


# --- Hooks that fail --------------------------------------------------------------------------------------


def test_a_hook_that_raises_is_logged_once_and_has_said_nothing(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str, **_: Any) -> None:
        raise RuntimeError(name)

    server = house.serve(hooks={name: partial(fail, name) for name in HOOKS}, max_rooms=2)
    gone: list[Any] = []
    server.on_disconnect(lambda ctx: gone.append((ctx.id, server.get_rooms())))
    client = house.connect(wire)
    for room in ("a", "b", "c"):
        join(client, room)
    leave(client, "a")
    join(client, "a")
    client.say("a b")
    assert server.broadcast("x") == 1
    client.stream.reset()
    assert gone == [("c1", [])]
    told = [str(error) for error in raised(caplog.records)]
    assert told[:-2] == [
        "on_client_connect",
        "on_client_join_room",
        "on_client_join_room",
        "on_max_rooms_reached",
        "on_client_leave_room",
        "on_client_join_room",
        "on_invalid_message",
        "on_before_broadcast",
        "on_client_leave_room",
    ]
    assert told[-2:] == ["on_client_leave_room", "on_client_disconnect"]
    assert "hook on_client_connect raised" in caplog.text
    record = next(record for record in caplog.records if record.exc_info)
    assert (record.__dict__["hook"], record.__dict__["client_id"]) == ("on_client_connect", "c1")


def test_a_hook_that_raises_later_has_said_nothing_either(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_client_join_room": doubt})
    client = house.connect(wire)
    join(client)
    doubt.answer(house, RuntimeError("on purpose"))
    assert heard(house, client) == [("event", "joined-room", "hall")]
    assert [str(error) for error in raised(caplog.records)] == ["on purpose"]
    assert server.get_rooms() == ["hall"]


def test_a_hook_that_is_cancelled_stops_nobody_behind_it(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(hooks={"on_client_join_room": doubt})
    server.on_ack("rooms", lambda ctx: sorted(ctx.client_info.rooms))
    client = house.connect(wire)
    contexts: list[Context] = []
    server.on("ctx", contexts.append)
    client.say("ctx")
    join(client, "a")
    contexts[0].join_room("behind")  # nobody is there to ask about it any more
    client.stream.send(client.request("rooms", "rooms"))
    with pytest.raises(asyncio.CancelledError):  # as the loop does with what a task raised
        doubt.answer(house, asyncio.CancelledError())
    house.loop.run_until_idle()
    assert heard(house, client) == [("answer", "rooms", [], None)]
    join(client, "b")
    doubt.answer(house, True)
    assert heard(house, client) == [("event", "joined-room", "b")]
    assert [told["room"] for told in doubt.asked] == ["a", "b"]


def test_a_hook_that_waits_when_the_server_stops_is_cancelled(house: House, wire: str) -> None:
    left: list[str] = []

    async def wait(**_: Any) -> None:
        try:
            await house.loop.sleep(1000)
        except BaseException as error:
            left.append(type(error).__name__)
            raise

    server = house.serve(hooks={"on_before_broadcast": wait, "on_client_join_room": wait})
    join(house.connect(wire))
    server.broadcast("x")
    house.loop.run(server.stop())
    assert left == ["Cancelled", "Cancelled"]


def test_what_waits_for_a_hook_and_is_cancelled_before_it_began_leaves_room_for_others(house: House) -> None:
    left: list[object] = []

    async def wait(event: str, **_: Any) -> None:
        try:
            await house.loop.sleep(1)
            left.append(event)
        except BaseException as error:
            left.append(type(error).__name__)
            raise

    server = house.serve(hooks={"on_before_broadcast": wait})
    server.broadcast("first")
    server.runtime.cancel_tasks()
    house.loop.run_until_idle()
    server.broadcast("second")
    house.loop.advance(1)
    assert left == ["Cancelled", "second"]


def test_a_server_that_stops_leaves_nothing_waiting(house: House, wire: str) -> None:
    doubt = Doubt()
    server = house.serve(
        hooks={"on_before_broadcast": doubt, "on_client_join_room": doubt}, shutdown_timeout=1
    )
    client = house.connect(wire)
    join(client)
    server.broadcast("x", 1)
    server.broadcast("x", 2)
    house.loop.run(server.stop())
    assert house.loop.tasks == []
    server.start_now()
    house.connect(wire)
    doubt.asked.clear()
    server.broadcast("x", 3)
    house.loop.run_until_idle()
    assert [told["data"] for told in doubt.asked] == [3]


def test_a_server_that_stops_lets_goodbyes_come_to_their_end_but_not_for_ever(
    house: House, wire: str
) -> None:
    log: list[str] = []
    seconds = [1.0]

    async def forget(client_id: str, **_: Any) -> None:
        await house.loop.sleep(seconds[0])
        log.append(f"hook {client_id}")

    async def say_so(ctx: Context) -> None:
        await house.loop.sleep(1)
        log.append(f"handler {ctx.id}")

    server = house.serve(hooks={"on_client_disconnect": forget}, shutdown_timeout=5)
    server.on_disconnect(say_so)
    client = house.connect(wire)
    stopping = house.loop.start(server.stop())
    house.loop.run_until_idle()
    house.leave(client)
    house.loop.advance(1.5)
    assert (log, stopping.is_done) == (["hook c1"], False)
    house.loop.advance(0.5)
    assert (log, stopping.is_done) == (["hook c1", "handler c1"], True)

    seconds[0] = 100.0
    server.start_now()
    house.connect(wire).stream.reset()
    stopping = house.loop.start(server.stop())
    house.loop.advance(4.9)
    assert not stopping.is_done
    house.loop.advance(0.6)
    assert stopping.is_done
    assert len(log) == 2
    assert house.loop.tasks == []


# --- Hooks that do something themselves -------------------------------------------------------------------


def test_what_a_hook_broadcasts_it_is_not_asked_about(house: House, wire: str) -> None:
    asked: list[str] = []

    def echo(event: str, **_: Any) -> bool:
        asked.append(event)
        assert house.server.broadcast("echo") == 1
        return event != "secret"

    server = house.serve(hooks={"on_before_broadcast": echo})
    client = house.connect(wire)
    server.broadcast("x")
    server.broadcast("secret")
    assert asked == ["x", "secret"]
    assert heard(house, client) == [("event", "echo", None), ("event", "x", None), ("event", "echo", None)]


def test_nor_what_it_broadcasts_later_but_others_meanwhile_it_is(house: House, wire: str) -> None:
    asked: list[str] = []

    async def echo(event: str, **_: Any) -> None:
        asked.append(event)
        await house.loop.sleep(1)
        assert house.server.broadcast("echo") == 1

    server = house.serve(hooks={"on_before_broadcast": echo})
    client = house.connect(wire)
    server.broadcast("x")
    house.loop.run_until_idle()
    server.broadcast("y")
    house.loop.advance(5)
    assert asked == ["x", "y"]
    assert [name for _, name, _ in heard(house, client)] == ["echo", "x", "echo", "y"]
    assert house.loop.tasks == []


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_hook_may_put_a_client_into_rooms(house: House, wire: str, is_async: bool) -> None:
    def enter(ctx: Context, **_: Any) -> None:
        ctx.join_room("lobby")

    asked: list[str] = []

    def follow(ctx: Context, room: str, **_: Any) -> None:
        asked.append(room)
        assert ctx.join_room(f"{room} too")

    async def follow_later(**arguments: Any) -> None:
        await house.loop.sleep(1)
        follow(**arguments)

    hooks = {"on_client_connect": enter, "on_client_join_room": follow_later if is_async else follow}
    server = house.serve(hooks=hooks)
    house.connect(wire)
    house.loop.advance(10)
    assert server.get_rooms() == ["lobby too", "lobby"]
    assert asked == ["lobby"]


def test_a_hook_that_is_only_told_may_do_what_it_is_told_about(house: House, wire: str) -> None:
    contexts: list[Context] = []
    told: list[str] = []

    def try_again(room: str, **_: Any) -> None:
        told.append(room)
        assert not contexts[0].join_room(f"{room} again")

    server = house.serve(hooks={"on_max_rooms_per_client_reached": try_again}, max_rooms_per_client=1)
    server.on_connection(contexts.append)
    client = house.connect(wire)
    join(client, "a")
    join(client, "b")
    assert told == ["b"]


def test_a_limit_holds_for_what_a_hook_does(house: House, wire: str) -> None:
    def follow(ctx: Context, room: str, **_: Any) -> None:
        assert ctx.join_room("first")

    server = house.serve(hooks={"on_client_join_room": follow}, max_rooms_per_client=1)
    client = house.connect(wire)
    join(client, "second")
    assert server.get_rooms() == ["first"]
    assert heard(house, client) == [("event", "joined-room", "first")]


def test_a_hook_may_disconnect_whom_it_is_asked_about(house: House, wire: str) -> None:
    def expel(client_id: str, **_: Any) -> None:
        assert house.server.disconnect(client_id, 4000, "not you")

    server = house.serve(hooks={"on_client_join_room": expel})
    client = house.connect(wire)
    join(client)
    assert server.get_rooms() == []
    assert [kind for kind, *_ in heard(house, client)] == ["closed"]


def test_a_hook_may_disconnect_a_new_client(house: House, wire: str) -> None:
    server = house.serve(hooks={"on_client_connect": lambda ctx, **_: ctx.disconnect(4000, "not today")})
    gone: list[str] = []
    server.on_disconnect(lambda ctx: gone.append(ctx.id))
    stream = house.stream(wire)
    if wire == "ws":
        stream.send(UPGRADE)
    assert b"not today" in stream.take()
    stream.end() if wire == "tcp" else stream.send(b"\x88\x82\0\0\0\0\x0f\xa0")
    assert gone == ["c1"]


def test_hooks_may_change_while_the_server_runs(house: House) -> None:
    log: Log = []
    hooks = noting(log, "on_client_connect")
    server = house.serve()
    house.connect("tcp")
    server.update_config(hooks=hooks)
    assert server.get_config().hooks.keys() == {"on_client_connect"}
    hooks.clear()  # the server's are its own
    house.connect("tcp")
    assert [told["client_id"] for _, told in log] == ["c2"]
    with pytest.raises(ValueError, match="there is no 'on_connect'"):
        server.update_config(hooks={"on_connect": print})
    server.update_config(hooks={})
    house.connect("tcp")
    assert len(log) == 1


def test_a_refused_upgrade_is_no_client_and_no_hook_hears_of_it(house: House) -> None:
    log: Log = []
    house.serve(hooks=noting(log, *HOOKS))
    for request in (upgrade_to("/nowhere"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\0"):
        house.stream("ws").send(request)
    assert log == []


def test_lines_belong_to_servers_that_run(house: House) -> None:
    server = house.serve()
    house.loop.run(server.stop())
    with pytest.raises(StateError, match="start it first"):
        server.make_line()


# --- Many of them at random -------------------------------------------------------------------------------

ACTIONS = st.lists(st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from("ab")), max_size=8)
WAYS = st.sampled_from([None, "plain", "async"])


@given(
    ACTIONS,
    WAYS,
    WAYS,
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.booleans(),
    st.sampled_from(["ws", "tcp"]),
)
def test_the_order_of_the_calls_holds_whatever_has_to_be_awaited(
    actions: list[tuple[str, str]],
    joining: str | None,
    leaving: str | None,
    answers: list[bool],
    is_asked_by_the_client: bool,
    wire: str,
) -> None:
    """The oracle does one after the other."""
    house = House()
    ways = {"join": joining, "leave": leaving}
    waiting = list(answers)

    def ask(**_: Any) -> object:
        return waiting.pop(0)

    async def ask_later(**_: Any) -> object:
        await house.loop.sleep(1)
        return waiting.pop(0)

    by_way: dict[str, Callable[..., object]] = {"plain": ask, "async": ask_later}
    server = house.serve(hooks={f"on_client_{name}_room": by_way[way] for name, way in ways.items() if way})
    contexts: list[Context] = []
    server.on_connection(contexts.append)
    client = house.connect(wire)
    for action, room in actions:
        if is_asked_by_the_client:
            client.stream.send(client.room(action, room))
        elif action == "join":
            contexts[0].join_room(room)
        else:
            contexts[0].leave_room(room)
    house.loop.advance(10)

    rooms, told, left = set[str](), [], list(answers)
    for action, room in actions:
        if (room in rooms) == (action == "leave") and (ways[action] is None or left.pop(0)):
            rooms ^= {room}
            told.append(("event", "joined-room" if action == "join" else "left-room", room))
    assert contexts[0].client_info.rooms == rooms
    assert heard(house, client) == told
    assert waiting == left
    assert house.loop.tasks == []
    house.close()

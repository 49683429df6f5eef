"""What a server logs of its clients: the fields of every record, and how loud what clients set off may be."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stelar_proto
from stelar_proto.server import RateLimit
from stelar_proto.server.peer import Peer
from tests.server.house import House
from tests.server.limiters import Limiter, Tracker
from tests.support.virtual import VirtualEvent
from tests.support.wires import UPGRADE, RawClient

FIELDS = ("client_id", "remote_address", "transport", "event", "reason")
PROTO = Path(stelar_proto.__file__).parent


def log_calls() -> set[tuple[str, str]]:
    """The functions that log something of one client: their modules and names."""
    found = set()
    paths = [*PROTO.glob("server/*.py"), PROTO / "session/dispatcher.py", PROTO / "channel/endpoint.py"]
    for path in paths:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                    if re.search(r"logger\.(debug|info|warning|error|exception|log)$", called):
                        found.add((path.stem, function.name))
    return found


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("on purpose")


async def fail_later(*_: object, **__: object) -> Any:
    fail()


def ask(client: RawClient, event: str) -> None:
    client.stream.send(client.request("name", event, None, "7"))


def a_server_that_goes_wrong(house: House) -> None:
    """Everything of the application's own raises, and a client comes, speaks and goes."""
    hooks = {"on_invalid_message": fail}
    limiter, tracker = Limiter(fail), Tracker(5, "check", "add", "remove")
    server = house.serve(rate_limiter=limiter, ip_tracker=tracker, hooks=hooks, max_rooms_per_client=1)
    server.on("x", fail_later)
    for _ in range(2):  # once for each wire
        client = house.connect("tcp")
        client.say("x")
        client.say("a b")
        client.say("a b")
        for room in ("hall", "kitchen", "cellar"):
            client.stream.send(client.room("join", room))
        house.leave(client)
        house.loop.run_until_idle()


def those_who_do_not_come_in(house: House) -> None:
    house.serve(generate_client_id=fail, max_connections=1).on_http("/page", fail)
    stream = house.stream("ws")
    stream.send(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
    house.stream("tcp")  # there is no id for it
    server = house.server
    server.update_config(generate_client_id=None)
    server.use(fail)
    house.stream("ws").send(UPGRADE)
    server.middleware = ()
    house.connect("tcp")
    house.stream("tcp")  # the server is full


def those_who_say_too_much(house: House) -> None:
    house.serve(rate_limit=RateLimit(1, 1000.0))
    client = house.connect("ws")
    for _ in range(3):
        client.say("x")


def what_waits_for_hooks(house: House) -> None:
    gate = VirtualEvent()
    server = house.serve(hooks={"on_client_join_room": lambda **_: gate.wait()}, hook_backlog=1)
    contexts: list[Any] = []
    server.on("x", contexts.append)
    client = house.connect("ws")
    client.say("x")
    [ctx] = contexts
    ctx.join_room("a")
    ctx.join_room("b")
    server.hub.join = fail  # type: ignore[method-assign]
    gate.set()
    house.loop.run_until_idle()


def a_proxy_that_is_not_trusted(house: House) -> None:
    house.serve(proxy_protocol=True, trusted_proxies=["10.0.0.0/8"])
    house.stream("tcp")


def those_of_an_address_that_is_full(house: House) -> None:
    server = house.serve(max_connections_per_ip=1)
    house.connect("tcp")
    assert server.begin_handshake("ws", "192.0.2.1") is None


def a_fault_of_ours(house: House) -> None:
    house.serve()
    client = house.connect("ws")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Peer, "_handle", fail)
        client.say("x")


SCENES: list[Callable[[House], None]] = [
    a_server_that_goes_wrong,
    those_who_do_not_come_in,
    those_who_say_too_much,
    what_waits_for_hooks,
    a_proxy_that_is_not_trusted,
    those_of_an_address_that_is_full,
    a_fault_of_ours,
]


def test_every_record_about_a_client_says_whom_it_is_about_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stelar.server")
    seen = set()
    for scene in SCENES:
        caplog.clear()
        house = House()
        scene(house)
        house.close()
        for record in caplog.records:
            fields = {name: record.__dict__[name] for name in FIELDS}
            assert fields["remote_address"] == "192.0.2.1", record
            assert fields["transport"] in ("ws", "tcp")
            assert fields["client_id"] is None or isinstance(fields["client_id"], str)
            seen.add((Path(record.pathname).stem, record.funcName))
    assert seen == log_calls()


def test_what_a_client_sets_off_again_and_again_is_one_warning_and_a_count(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(max_rooms_per_client=1, rate_limit=None)
    client = house.connect(wire)
    for _ in range(100):
        client.say("a b")
        client.stream.send(client.room("join", "hall") + client.room("join", "kitchen"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    house.leave(client)
    assert caplog.messages[2:] == ["client c1 had more: 99 times invalid messages, 99 times refused rooms"]
    assert caplog.records[2].__dict__["repeats"] == {"invalid messages": 99, "refused rooms": 99}
    assert house.server.get_stats().invalid_messages == 100


def test_one_who_set_off_nothing_twice_goes_without_a_word(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve()
    client = house.connect(wire)
    client.say("a b")
    house.leave(client)
    assert len(caplog.records) == 1


def test_connections_are_a_warning_a_minute(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(max_connections=1)
    house.connect(wire)
    for warnings in (1, 1, 2):
        stream = house.stream(wire)
        if wire == "ws":
            stream.send(UPGRADE)
        assert len(caplog.records) == warnings
        house.loop.advance(31)
    house.close()


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_proxies_that_are_not_trusted_are_a_warning_a_minute(
    house: House, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "stelar.server")
    a_proxy_that_is_not_trusted(house)
    house.stream("tcp")
    expected = [logging.WARNING, logging.INFO] if level == logging.INFO else [logging.WARNING]
    assert [record.levelno for record in caplog.records] == expected

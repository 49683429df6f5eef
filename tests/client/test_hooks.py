"""Hooks: what they are told, what they decide, and that nothing they do takes anything down."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest

from stelar_proto.errors import MessageError, StateError
from tests.client.house import House
from tests.support.memory import VirtualClient
from tests.support.virtual import VirtualEvent


def hooked(house: House, name: str, hook: Any, **options: Any) -> VirtualClient:
    return house.client(hooks={name: hook}, **options)


def raised(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("is_async", [False, True])
def test_on_before_emit_may_cancel(house: House, is_async: bool) -> None:
    asked: list[Any] = []

    def plain(event: str, data: Any) -> object:
        asked.append((event, data))
        return event != "secret" and None

    async def later(event: str, data: Any) -> object:
        await house.loop.sleep(0.5 if event == "a" else 0.1)
        return plain(event, data)

    client = hooked(house, "on_before_emit", later if is_async else plain)
    server = house.connect(client)
    client.emit("a", 1)
    client.emit("secret", 2)
    client.emit_binary("b", b"3")
    client.emit("c", 4, ack="d")
    house.loop.advance(1)
    assert asked == [("a", 1), ("secret", 2), ("b", b"3"), ("c", 4)]
    assert server.heard() == [("event", "a", 1), ("binary", "b", b"3"), ("request", "d", "c", 4, "e1")]
    assert client.get_messages_dropped() == 0


def test_what_a_hook_lets_pass_has_not_waited_for_a_connection(house: House) -> None:
    drained: list[int] = []
    hooks = {"on_before_emit": lambda **_: None, "on_queue_drained": lambda count: drained.append(count)}
    client = house.client(hooks=hooks)
    server = house.connect(client)
    client.emit("a", 1)
    client.emit_binary("b", b"2")
    assert client.get_queue_size() == 0
    house.loop.run_until_idle()
    assert server.heard() == [("event", "a", 1), ("binary", "b", b"2")]
    assert drained == []


def test_what_a_hook_lets_pass_waits_for_a_server_that_does_not_read(house: House) -> None:
    client = hooked(house, "on_before_emit", lambda **_: None, outbox_limit=200_000)
    server = house.connect(client)
    server.stream.stop_reading()

    def emit_too_much() -> None:
        for number in range(1000):
            client.emit("x", [number, "y" * 50_000])

    with pytest.raises(StateError, match=r"the outbox is full .*: await drain\(\)"):
        emit_too_much()
    count = client.get_messages_sent() + client.get_queue_size()
    assert client.get_queue_size() > 0
    server.stream.read_on()
    house.loop.run_until_idle()
    assert client.get_queue_size() == 0
    assert client.get_messages_sent() == count


def test_a_hook_that_decides_later_decides_about_what_was_said(house: House) -> None:
    async def hook(event: str, data: Any) -> None:
        await house.loop.sleep(1)

    client = hooked(house, "on_before_emit", hook)
    server = house.connect(client)
    data = {"n": 1}
    client.emit("x", data)
    data["n"] = 2
    with pytest.raises(MessageError):
        client.emit("x", {1})
    client.update_options(hooks={})
    client.emit("y")  # behind the other all the same
    house.loop.advance(1)
    assert server.heard() == [("event", "x", {"n": 1}), ("event", "y", None)]


def test_a_hook_that_decides_later_may_do_so_without_a_connection(house: House) -> None:
    async def hook(event: str, data: int) -> bool:
        await house.loop.sleep(0.1)
        return data != 2

    client = hooked(house, "on_before_emit", hook)
    for number in range(1, 4):
        client.emit("x", number)
    server = house.connect(client)
    house.loop.advance(1)
    assert server.heard() == [("event", "x", 1), ("event", "x", 3)]


def test_what_a_hook_had_not_decided_about_at_the_end_is_counted(house: House) -> None:
    async def wait() -> None:
        await VirtualEvent().wait()

    def hook(event: str, data: int) -> object:
        return wait() if data < 3 else None

    client = hooked(house, "on_before_emit", hook)
    server = house.connect(client)
    client.emit("x", 1)
    client.emit("x", 2)
    client.emit("x", 3)
    house.loop.run_until_idle()
    leaving = house.start(client.disconnect())
    server.stream.reset()
    assert leaving.is_done
    assert client.get_messages_dropped() == 3
    assert house.loop.tasks == []


def test_what_a_hook_allows_too_late_to_be_kept_is_counted(house: House) -> None:
    async def hook(event: str, data: Any) -> None:
        await house.loop.sleep(1)

    client = hooked(house, "on_before_emit", hook, message_queue_size=0)
    server = house.connect(client)
    client.emit("x", 1)
    server.stream.reset()
    house.loop.advance(1)
    assert client.get_messages_dropped() == 1


def test_too_many_messages_to_decide_about_are_an_error(house: House) -> None:
    async def hook(event: str, data: Any) -> bool:
        return True

    client = hooked(house, "on_before_emit", hook)
    house.connect(client)
    for _ in range(1000):
        client.emit("x")
    with pytest.raises(StateError, match="emit more slowly"):
        client.emit("x")
    house.loop.run_until_idle()
    assert client.get_messages_sent() == 1000


def test_on_message_is_told_before_the_handlers(house: House) -> None:
    def hook(event: str, data: Any, is_binary: bool) -> None:
        house.log.append((event, data, is_binary))

    client = hooked(house, "on_message", hook)
    server = house.connect(client)
    client.on("x", house.note("handler"))
    server.stream.send(server.event("x", 1) + server.binary("y", b"2"))
    assert house.log == [("x", 1, False), ("handler", 1), ("y", b"2", True)]


def test_on_message_may_be_async_and_keeps_the_order(house: House) -> None:
    async def hook(event: str, data: Any, is_binary: bool) -> None:
        await house.loop.sleep(1)
        house.log.append(data)

    client = hooked(house, "on_message", hook)
    server = house.connect(client)
    client.on("x", house.note("handler"))
    server.stream.send(server.event("x", 1) + server.event("x", 2))
    house.loop.advance(3)
    assert house.log == [1, ("handler", 1), 2, ("handler", 2)]


@pytest.mark.parametrize("is_async", [False, True])
def test_on_state_change_is_told_of_each(house: House, is_async: bool) -> None:
    states: list[tuple[str, str]] = []

    def plain(state: str, previous: str) -> None:
        states.append((previous, state))

    async def later(state: str, previous: str) -> None:
        await house.loop.sleep(0.1)
        plain(state, previous)

    client = hooked(house, "on_state_change", later if is_async else plain, reconnection=True)
    house.connect(client).stream.reset()
    house.loop.advance(0.3)
    house.loop.run(client.disconnect())
    steps = ["disconnected", "connecting", "connected", "reconnecting", "disconnected"]
    assert states == list(itertools.pairwise(steps))


def test_on_error_is_told_what_get_last_error_returns(house: House) -> None:
    errors: list[Exception] = []
    client = hooked(house, "on_error", lambda error: errors.append(error), reconnection=True)
    server = house.connect(client)
    house.network.stop_listening(3000)
    server.stream.reset()
    house.loop.advance(1)
    assert len(errors) >= 2
    assert client.get_last_error() is errors[-1]


@pytest.mark.parametrize("name", ["on_before_emit", "on_message", "on_state_change", "on_message_queued"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_that_raises_is_logged_and_changes_nothing(
    house: House, name: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(**fields: Any) -> None:
        raise ZeroDivisionError

    async def later(**fields: Any) -> None:
        raise ZeroDivisionError

    client = hooked(house, name, later if is_async else plain)
    client.on("y", house.note("y"))
    client.emit("x", 1)
    server = house.connect(client)
    server.stream.send(server.event("y"))
    assert server.heard() == [("event", "x", 1)]
    assert house.log == [("y", None)]
    assert raised(caplog)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_async_hooks_run_to_their_end_when_the_client_ends(house: House) -> None:
    async def hook(state: str, previous: str) -> None:
        if state == "disconnected":
            await house.loop.sleep(5)
            house.log.append(state)

    client = hooked(house, "on_state_change", hook)
    server = house.connect(client)
    leaving = house.start(client.disconnect())
    server.stream.reset()
    assert not leaving.is_done
    house.loop.advance(5)
    assert leaving.is_done
    assert house.log == ["disconnected"]


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"on_mesage": print}, "there is no hook 'on_mesage'; there are on_before_emit, on_message"),
        ({"on_message": 5}, "the hook on_message must be a function, not 5"),
        ([print], "hooks must be a mapping from names to functions"),
    ],
)
def test_hooks_that_make_no_sense_are_refused(house: House, hooks: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        house.client(hooks=hooks)

"""Handlers of a client: events of the server, answers, and what the client itself has to tell."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stelar_proto.errors import MessageError, RemoteError, StateError
from tests.client.house import SERVERS, House
from tests.support.virtual import VirtualEvent


def test_handlers_get_the_data_in_the_order_in_which_they_were_registered(house: House) -> None:
    client, server = house.pair()
    client.on_all(house.note("all"))
    client.on("x", house.note("first"))

    @client.on("x")
    async def second(data: object) -> None:
        await house.loop.sleep(1)
        house.log.append(("second", data))

    client.on("x", house.note("third"))
    server.stream.send(server.event("x", {"ñ": 1}) + server.binary("x", b"\0\1") + server.event("y"))
    house.loop.advance(2)
    assert house.log == [
        *[(name, {"ñ": 1}) for name in ("first", "second", "third")],
        ("all", "x", {"ñ": 1}),
        *[(name, b"\0\1") for name in ("first", "second", "third")],
        ("all", "x", b"\0\1"),
        ("all", "y", None),
    ]


def test_an_event_that_nobody_handles_is_dropped(house: House) -> None:
    client, server = house.pair()
    server.stream.send(server.event("x"))
    assert client.is_connected()
    assert client.get_messages_received() == 1


def test_plain_handlers_need_no_task(house: House) -> None:
    client, server = house.pair()
    client.on("x", house.note("x"))
    spawned = client.virtual_runtime.spawned
    server.stream.send(server.event("x"))
    assert client.virtual_runtime.spawned == spawned


def test_once_is_once(house: House) -> None:
    client, server = house.pair()
    handler = house.note("once")
    assert client.once("x", handler) is handler

    @client.once("x")
    def decorated(data: object) -> None:
        house.log.append(("decorated", data))

    server.stream.send(server.event("x", 1) + server.event("x", 2))
    assert house.log == [("once", 1), ("decorated", 1)]


def test_once_for_a_handler_that_raises_is_once_and_goes_by_its_name(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = house.pair()

    @client.once("x")
    def misbehave(data: object) -> None:
        raise ValueError(data)

    server.stream.send(server.event("x", 1) + server.event("x", 2))
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.getMessage().endswith("misbehave raised")


def test_once_twice_with_one_handler_is_twice(house: House) -> None:
    client, server = house.pair()
    handler = house.note("once")
    client.once("x", handler)
    client.once("x", handler)
    server.stream.send(server.event("x", 1) + server.event("x", 2))
    assert house.log == [("once", 1), ("once", 1)]


def test_off_takes_off_one_handler_or_all(house: House) -> None:
    client, server = house.pair()
    first, second, third = (house.note(name) for name in ("first", "second", "third"))
    for handler in (first, second):
        client.on("x", handler)
    client.once("x", third)
    assert client.off("x", first)
    assert not client.off("x", first)
    assert client.off("x", third)
    assert not client.off("y", second)
    server.stream.send(server.event("x", 1))
    assert house.log == [("second", 1)]
    client.on("x", first)
    assert client.off("x")
    assert not client.off("x")
    server.stream.send(server.event("x", 2))
    assert house.log == [("second", 1)]


def test_off_knows_a_method_again(house: House) -> None:
    class Page:
        def show(self, data: object) -> None:
            house.log.append(data)

    client, server = house.pair()
    page = Page()
    client.on("x", page.show)
    client.once("x", page.show)
    assert client.off("x", page.show)
    server.stream.send(server.event("x"))
    assert house.log == []


def test_an_event_goes_to_the_handlers_that_were_there_when_it_came(house: House) -> None:
    client, server = house.pair()

    def replace(data: object) -> None:
        client.remove_all_listeners()
        client.on("x", replace)
        house.log.append(data)

    client.on("x", replace)
    client.on("x", house.note("second"))
    client.on_all(house.note("all"))
    server.stream.send(server.event("x", 1) + server.event("x", 2))
    assert house.log == [1, ("second", 1), ("all", "x", 1), 2]


def test_remove_all_listeners_of_one_event(house: House) -> None:
    client, server = house.pair()
    for name in ("x", "y"):
        client.on(name, house.note(name))
        client.on_ack(name, house.note(f"ack {name}"))
    client.on_all(house.note("all"))
    client.remove_all_listeners("x")
    client.remove_all_listeners("never")
    server.stream.send(server.event("x") + server.event("y") + server.answer("x", 1) + server.answer("y", 2))
    assert house.log == [("all", "x", None), ("y", None), ("all", "y", None), ("ack y", 2)]
    client.remove_all_listeners()
    server.stream.send(server.event("y") + server.answer("y", 2))
    assert len(house.log) == 4


def test_a_handler_that_raises_is_logged_and_disturbs_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = house.pair()

    @client.on("x")
    async def fail(data: object) -> None:
        raise RuntimeError("awaited")

    @client.on_all
    def fail_too(event: str, data: object) -> None:
        raise RuntimeError("plain")

    client.on_all(house.note("all"))
    server.stream.send(server.event("x"))
    assert house.log == [("all", "x", None)]
    raised = [record for record in caplog.records if record.exc_info]
    assert [record.name for record in raised] == ["stelar.client"] * 2
    assert ["fail raised" in raised[0].getMessage(), "fail_too raised" in raised[1].getMessage()] == [
        True,
        True,
    ]


def test_names_that_no_server_sends_are_refused(house: House) -> None:
    client = house.client()
    for register in (client.on, client.once, client.on_ack):
        for name in ("", "ping", "a b", "x" * 257):
            with pytest.raises(MessageError):
                register(name, print)
    with pytest.raises(MessageError):
        client.on_ack("connect", print)
    for register_named in (client.on, client.once, client.on_ack):
        with pytest.raises(TypeError, match="a handler is a function, not int"):
            register_named("x", 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a handler is a function, not int"):
        client.on_all(5)  # type: ignore[type-var]


# --- What the client itself has to tell -------------------------------------------------------------------


def test_connect_and_disconnect_frame_everything_else(house: House) -> None:
    client = house.client()
    client.on_all(house.note("all"))  # hears the server's events only
    for event in ("connect", "disconnect", "error"):
        client.on(event, house.note(event))
    server = house.connect(client)
    server.stream.send(server.event("x") + server.bye())
    server.stream.end()
    assert house.log == [("connect",), ("all", "x", None), ("disconnect", 1001, "Server shutting down")]
    assert repr(house.log[-1][1]) == "1001"  # a plain number on either wire
    assert client.get_last_error() is None


def test_connect_handlers_may_talk_at_once(house: House) -> None:
    client = house.client()
    client.once("connect", lambda: client.emit("hello"))
    server = house.connect(client)
    assert server.heard() == [("event", "hello", None)]


def test_a_disconnect_handler_has_nobody_to_talk_to(house: House) -> None:
    client, server = house.pair(message_queue_size=0)

    @client.on("disconnect")
    def leave(code: int, reason: str) -> None:
        with pytest.raises(StateError, match=r"await connect\(\) first"):
            client.emit("late")
        house.log.append(client.get_state())

    server.stream.send(server.bye())
    assert house.log == ["disconnected"]


def test_what_came_in_front_of_the_end_can_still_be_answered(house: House) -> None:
    client, server = house.pair()
    client.on("question", lambda data: client.emit("answer", data))
    server.stream.send(server.event("question", 1) + server.bye())
    assert server.heard()[0] == ("event", "answer", 1)


def test_a_connection_that_breaks_is_an_error_and_then_a_disconnect(house: House) -> None:
    client, server = house.pair()
    for event in ("disconnect", "error"):
        client.on(event, house.note(event))
    server.stream.reset()
    error = client.get_last_error()
    assert house.log == [("error", error), ("disconnect", 1006, "")]
    assert error is not None


def test_even_a_handler_that_stops_the_program_leaves_nothing_behind(house: House) -> None:
    client, server = house.pair()

    @client.once("disconnect")
    def interrupt(code: int, reason: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.stream.reset()
    house.loop.run(client.wait_closed())
    house.connect(client)


def test_a_server_that_breaks_the_protocol_is_told_and_left(house: House) -> None:
    client, server = house.pair()
    for event in ("disconnect", "error"):
        client.on(event, house.note(event))
    server.stream.send(b"\xff" * 10)
    assert [name for name, *_ in house.log] == ["error", "disconnect"]
    assert house.log[1][1] in (1002, 1009)
    assert server.stream.take() != b""


def test_an_error_answer_that_nobody_waits_for_is_an_error_event(house: House) -> None:
    client, server = house.pair()
    client.on("error", house.note("error"))
    server.stream.send(server.error("name", "NOPE", "no"))
    [(name, error)] = house.log
    assert isinstance(error, RemoteError)
    assert (name, error.code, error.message) == ("error", "NOPE", "no")


def test_a_message_that_breaks_the_rules_is_dropped_and_logged(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = house.pair()
    client.on_all(house.note("all"))
    server.stream.send(server.event("a b") + server.event("fine"))
    assert house.log == [("all", "fine", None)]
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith("from the server: ")


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_server_that_talks_nonsense_is_one_warning_and_a_count_for_each_connection(
    house: House, caplog: pytest.LogCaptureFixture, is_busy: bool
) -> None:
    caplog.set_level(logging.DEBUG, "stelar.client")
    client = house.client(reconnection=True)
    server = house.connect(client)
    errors: list[Exception] = []
    gate = VirtualEvent()
    client.on("error", errors.append)
    client.on("work", lambda data: gate.wait() if is_busy else None)
    for size in (50, 1):
        server.stream.send(server.event("work") + server.event("a b") * size + server.bye())
        house.loop.advance(0.5)
        server.stream.reset()
        gate.set()
        house.loop.advance(2)
        server = SERVERS[house.wire](house.streams[-1]).open()
    house.loop.run(client.disconnect())
    invalid = [record for record in caplog.records if record.getMessage().startswith("from the server: ")]
    assert [record.levelno for record in invalid] == [
        logging.WARNING, *[logging.DEBUG] * 49, logging.WARNING
    ]  # fmt: skip
    assert [getattr(error, "code", None) for error in errors].count("INVALID_MESSAGE") == 51
    [record] = [record for record in caplog.records if hasattr(record, "repeats")]
    assert record.getMessage() == "the server at localhost:3000 had more: 49 times invalid messages"
    assert record.__dict__["repeats"] == {"invalid messages": 49}
    assert record.__dict__["client_id"] == "me"
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_server_that_asks_is_told_that_clients_do_not_answer(house: House, is_busy: bool) -> None:
    client, server = house.pair()
    gate = VirtualEvent()
    client.on("work", lambda data: gate.wait() if is_busy else None)
    server.stream.send(server.event("work") + server.request("name", "question", "7"))
    gate.set()
    house.loop.run_until_idle()
    assert server.heard() == [("error", "name", "NO_HANDLER", "a client does not answer 'question'", "7")]


def test_a_server_that_asks_and_does_not_read_gets_no_answer(house: House) -> None:
    client, server = house.pair(outbox_limit=1024)
    server.stream.stop_reading()
    for _ in range(30):
        server.stream.send(server.request("name", "question", "7"))
    server.stream.send(server.event("x"))
    assert client.is_connected()
    server.stream.read_on()
    assert 0 < len(server.heard()) < 30


def test_a_question_that_is_only_read_when_all_is_over_is_not_answered(house: House) -> None:
    client, server = house.pair()
    gate = VirtualEvent()
    client.on("work", lambda data: gate.wait())
    server.stream.send(server.event("work") + server.request("name", "question", "7"))
    server.stream.reset()
    gate.set()
    house.loop.run_until_idle()
    assert not client.is_connected()


def test_a_client_that_falls_behind_reads_no_faster(house: House) -> None:
    gate = VirtualEvent()
    client, server = house.pair(inbox_limit=3)
    client.on("work", lambda data: gate.wait())
    for _ in range(10):
        server.stream.send(server.event("work"))
    assert not server.stream.transport.is_reading
    assert client.get_messages_received() == 4
    gate.set()
    house.loop.run_until_idle()
    assert client.get_messages_received() == 10


def test_the_client_logs_where_it_is_told_to(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _, server = house.pair(logger=logging.getLogger("mine"))
    server.stream.reset()
    [record] = caplog.records
    assert record.name == "mine"
    assert record.getMessage().startswith(f"connection to {house.url} ended: ")


def test_answers_that_no_request_waits_for_go_to_on_ack(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stelar.client")
    client, server = house.pair()

    @client.on_ack("total")
    async def total(data: Any) -> None:
        house.log.append(("total", data))

    client.on_ack("total", house.note("second"))
    client.emit("sum", [1, 2], ack="total")
    house.loop.run_until_idle()
    assert server.heard() == [("request", "total", "sum", [1, 2], "e1")]
    server.stream.send(server.answer("total", 3, "e1") + server.answer("other", 4))
    assert house.log == [("total", 3), ("second", 3)]
    assert "an answer under 'other' came that nobody waits for" in caplog.text

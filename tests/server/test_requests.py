"""Requests of clients: every one is answered, once, with what may be known."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.errors import HandlerError, MessageError
from stelar_proto.server import Context
from stelar_proto.server.reply import Reply
from tests.server.house import House, raised
from tests.support.virtual import VirtualEvent
from tests.support.wires import Heard, RawClient


@pytest.fixture(autouse=True)
def _served(house: House) -> None:
    house.serve()


def ask(
    client: RawClient, event: str, data: object = None, ack: str = "name", id_: str | None = "7"
) -> list[Heard]:
    """Ask, and return what is heard at once."""
    client.stream.send(client.request(ack, event, data, id_))
    return client.heard()


@pytest.mark.parametrize("answer", [None, 0, "ñ", [1], {"data": 1, "_isAck": True}], ids=repr)
@pytest.mark.parametrize("correlation_id", [None, "7"])
def test_the_return_value_is_the_answer(
    house: House, wire: str, answer: Any, correlation_id: str | None
) -> None:
    async def later(ctx: Context) -> Any:
        return answer

    house.server.on_ack("plain", lambda ctx: answer)
    house.server.on_ack("later", later)
    client = house.connect(wire)
    for event in ("plain", "later"):
        assert ask(client, event, id_=correlation_id) == [("answer", "name", answer, correlation_id)]


def test_an_answer_that_looks_like_a_wrapped_one_survives(house: House, wire: str) -> None:
    answer = {"data": 1, "_correlationId": "mine"}
    house.server.on_ack("x", lambda ctx: answer)
    client = house.connect(wire)
    assert ask(client, "x") == [("answer", "name", answer, "7")]


def test_the_handler_is_given_what_was_asked(house: House, wire: str) -> None:
    house.server.on_ack("double", lambda ctx: [ctx.event, ctx.data * 2])
    client = house.connect(wire)
    assert ask(client, "double", 21) == [("answer", "name", ["double", 42], "7")]


def test_requests_are_handled_in_order_with_the_events(house: House, wire: str) -> None:
    log: list[str] = []
    gate = VirtualEvent()

    @house.server.on_ack("slow")
    async def slow(ctx: Context) -> str:
        await gate.wait()
        log.append("slow")
        return "slow"

    house.server.on("event", lambda ctx: log.append("event"))
    house.server.on_ack("quick", lambda ctx: log.append("quick"))
    client = house.connect(wire)
    client.stream.send(
        client.request("a", "slow", None, "1")
        + client.event("event")
        + client.request("b", "quick", None, "2")
    )
    assert log == []
    gate.set()
    house.loop.run_until_idle()
    assert log == ["slow", "event", "quick"]
    assert client.heard() == [("answer", "a", "slow", "1"), ("answer", "b", None, "2")]


def test_a_request_that_nobody_answers_says_so(house: House, wire: str) -> None:
    client = house.connect(wire)
    assert ask(client, "what") == [("error", "name", "NO_HANDLER", "nothing here answers 'what'", "7")]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_handler_error_answers_with_its_words_and_is_not_logged(
    house: House, wire: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(ctx: Context) -> None:
        raise HandlerError("no such user", code="NOT_FOUND")

    async def later(ctx: Context) -> None:
        plain(ctx)

    house.server.on_ack("user", later if is_async else plain)
    client = house.connect(wire)
    assert ask(client, "user") == [("error", "name", "NOT_FOUND", "no such user", "7")]
    assert raised(caplog.records) == []


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_any_other_exception_is_logged_and_answered_without_its_text(
    house: House, wire: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(ctx: Context) -> None:
        raise RuntimeError("the password is 1234")

    async def later(ctx: Context) -> None:
        plain(ctx)

    house.server.on_ack("user", later if is_async else plain)
    client = house.connect(wire)
    assert ask(client, "user") == [("error", "name", "HANDLER_ERROR", "the handler failed", "7")]
    assert [str(error) for error in raised(caplog.records)] == ["the password is 1234"]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ({1}, "HANDLER_ERROR", "the handler failed"),
        (float("inf"), "HANDLER_ERROR", "the handler failed"),
        ("\ud800", "HANDLER_ERROR", "the handler failed"),
        ("x" * 11_000, "PAYLOAD_TOO_LARGE", "the answer is too large"),
        ("x" * 9_990, "PAYLOAD_TOO_LARGE", "the answer is too large"),  # with what is around it
    ],
    ids=["set", "inf", "surrogate", "big", "a bit too big"],
)
def test_an_answer_that_cannot_be_said_is_logged_and_answered_as_a_failure(
    wire: str, answer: Any, code: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    house.serve(max_payload_size=10_000, max_frame_size=10_000)

    async def later(ctx: Context) -> Any:
        return answer

    house.server.on_ack("plain", lambda ctx: answer)
    house.server.on_ack("later", later)
    client = house.connect(wire)
    for event in ("plain", "later"):
        assert ask(client, event) == [("error", "name", code, words, "7")]
    assert [type(error) for error in raised(caplog.records)] == [MessageError, MessageError]
    house.close()


def test_a_handler_error_of_what_cannot_be_said_is_answered_without_it(house: House, wire: str) -> None:
    def fail(ctx: Context) -> None:
        raise HandlerError("half of a character: \ud800", code="X")

    house.server.on_ack("user", fail)
    client = house.connect(wire)
    assert ask(client, "user") == [("error", "name", "HANDLER_ERROR", "the handler failed", "7")]


def test_an_answer_for_a_client_that_has_gone_is_dropped(house: House, wire: str) -> None:
    gate = VirtualEvent()
    answers: list[bool] = []

    @house.server.on_ack("slow")
    async def slow(ctx: Context) -> None:
        await gate.wait()
        answers.append(ctx.ack("name"))

    client = house.connect(wire)
    assert ask(client, "slow") == []
    client.stream.reset()
    gate.set()
    house.loop.run_until_idle()
    assert answers == [False]


# --- ctx.ack ----------------------------------------------------------------------------------------------


def test_an_ordinary_handler_may_answer(house: House, wire: str) -> None:
    house.server.on("ask", lambda ctx: ctx.ack("name", ctx.data + 1))
    client = house.connect(wire)
    assert ask(client, "ask", 1) == [("answer", "name", 2, "7")]


def test_a_handler_may_answer_another_request_by_its_name(house: House, wire: str) -> None:
    house.server.on("ask", lambda ctx: None)
    house.server.on("now", lambda ctx: ctx.ack("name", "late"))
    client = house.connect(wire)
    assert ask(client, "ask") == []
    client.say("now")
    assert client.heard() == [("answer", "name", "late", None)]


def test_the_request_at_hand_is_not_taken_for_another_of_another_name(house: House, wire: str) -> None:
    house.server.on("ask", lambda ctx: ctx.ack("other", 1))
    client = house.connect(wire)
    assert ask(client, "ask") == [("answer", "other", 1, None)]


def test_each_answer_to_the_request_at_hand_carries_its_id(house: House, wire: str) -> None:
    """Without it, the second would be taken for the answer to another request of that name."""
    house.server.on("ask", lambda ctx: ctx.ack("name", 1))
    house.server.on("ask", lambda ctx: ctx.ack("name", 2))
    client = house.connect(wire)
    assert ask(client, "ask") == [("answer", "name", 1, "7"), ("answer", "name", 2, "7")]


def test_what_an_ack_handler_returns_is_no_second_answer(house: House, wire: str) -> None:
    house.server.on_ack("ask", lambda ctx: ctx.ack("name", "first"))
    client = house.connect(wire)
    assert ask(client, "ask") == [("answer", "name", "first", "7")]


def test_an_answer_that_cannot_be_said_leaves_the_request_open(house: House, wire: str) -> None:
    @house.server.on("ask")
    def answer(ctx: Context) -> None:
        with pytest.raises(MessageError):
            ctx.ack("name", {1})
        ctx.ack("name", [1])

    client = house.connect(wire)
    assert ask(client, "ask") == [("answer", "name", [1], "7")]


@pytest.mark.parametrize("name", ["", "x" * 257, "\ud800"])
def test_an_ack_name_that_no_request_can_have_is_refused(house: House, wire: str, name: str) -> None:
    refused: list[str] = []

    @house.server.on("x")
    def answer(ctx: Context) -> None:
        with pytest.raises(MessageError) as caught:
            ctx.ack(name)
        refused.append(caught.value.code)

    house.connect(wire).say("x")
    assert len(refused) == 1


def test_a_request_may_go_by_any_name(house: House, wire: str) -> None:
    house.server.on("ask", lambda ctx: ctx.ack("sala ñ ☃"))
    client = house.connect(wire)
    assert ask(client, "ask", ack="sala ñ ☃") == [("answer", "sala ñ ☃", None, "7")]
    assert ask(client, "what", ack='"') == [("error", '"', "NO_HANDLER", "nothing here answers 'what'", "7")]


def test_an_ordinary_handler_that_raises_answers_with_an_error(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    @house.server.on("ask")
    async def fail(ctx: Context) -> None:
        raise HandlerError("no", code="NO") if ctx.data else RuntimeError("secret")

    client = house.connect(wire)
    assert ask(client, "ask", True) == [("error", "name", "NO", "no", "7")]
    assert raised(caplog.records) == []
    assert ask(client, "ask", False) == [("error", "name", "HANDLER_ERROR", "the handler failed", "7")]
    assert [str(error) for error in raised(caplog.records)] == ["secret"]


def test_a_handler_that_raises_behind_its_answer_is_only_logged(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    @house.server.on_ack("ask")
    def answer(ctx: Context) -> None:
        ctx.ack("name", "done")
        raise HandlerError("too late")

    client = house.connect(wire)
    assert ask(client, "ask") == [("answer", "name", "done", "7")]
    assert [str(error) for error in raised(caplog.records)] == ["too late"]


def test_an_event_that_raises_answers_nothing(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ctx: Context) -> None:
        raise HandlerError("nobody asked")

    house.server.on("x", fail)
    client = house.connect(wire)
    client.say("x")
    assert client.heard() == []
    assert [str(error) for error in raised(caplog.records)] == ["nobody asked"]


def test_answers_that_nobody_asked_for_are_counted_and_change_nothing(house: House, wire: str) -> None:
    house.server.on_all(lambda ctx: pytest.fail("an answer is no event"))
    client = house.connect(wire)
    if wire == "tcp":
        client.stream.send(b"\0\0\0\x0c\5\0\4name1")
    else:
        client.stream.send(client.text({"event": "name", "data": 1, "_isAck": True}))  # type: ignore[attr-defined]
    assert client.heard() == []
    assert house.server.get_stats().invalid_messages == 1
    assert house.server.get_clients() == ["c1"]


def test_a_reply_knows_what_it_answers(house: House, wire: str) -> None:
    replies: list[Reply | None] = []
    house.server.on("ask", lambda ctx: replies.append(ctx._reply))
    ask(house.connect(wire), "ask", ack="name", id_="9")
    assert replies[0] is not None
    assert (replies[0].ack, replies[0].correlation_id, replies[0].given) == ("name", "9", False)

"""Requests and their answers (WIRE: ACK), as the one who asks sees them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from stelar_proto.errors import (
    AckTimeout,
    ConnectionLost,
    HandlerError,
    MessageError,
    RemoteError,
    StateError,
)
from tests.conformance.world import Inbox, World, inbox_of

pytestmark = pytest.mark.anyio


@pytest.mark.feature("on_ack")
@pytest.mark.parametrize(
    "answer", [None, 0, "ñ", [1, {"a": 2}], {"_correlationId": "mine", "data": 1}, {"_error": {}}], ids=repr
)
async def test_the_return_value_is_the_answer(world: World, wire: str, answer: Any) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("plain", lambda ctx: answer)

        @server.on_ack("later")
        async def later(ctx: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return answer

        assert await client.request("plain") == answer
        assert await client.request("later") == answer


async def test_requests_under_one_name_run_at_once_and_are_told_apart(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("double", lambda ctx: ctx.data * 2)
        answers: dict[int, int] = {}

        async def ask(number: int) -> None:
            answers[number] = await client.request("double", number, "same-name")

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(ask, number)
        assert answers == {number: 2 * number for number in range(100)}


@pytest.mark.feature("on_ack", "raising handlers")
async def test_an_error_answer_raises_with_code_and_words(world: World, wire: str) -> None:
    async with world.conversation(wire, max_payload_size=10_000) as (server, client):

        @server.on_ack("raise")
        def fail(ctx: Any) -> None:
            raise HandlerError("no such user", code="NOT_FOUND")

        @server.on_ack("crash")
        async def crash(ctx: Any) -> None:
            raise RuntimeError("the password is 1234")

        server.on_ack("unsayable", lambda ctx: {1, 2})
        server.on_ack("large", lambda ctx: "x" * 10_001)
        for event, code, words in [
            ("raise", "NOT_FOUND", "no such user"),
            ("crash", "HANDLER_ERROR", "the handler failed"),
            ("unsayable", "HANDLER_ERROR", "the handler failed"),
            ("large", "PAYLOAD_TOO_LARGE", "the answer is too large"),
            ("missing", "NO_HANDLER", "nothing here answers 'missing'"),
        ]:
            with pytest.raises(RemoteError) as caught:
                await client.request(event)
            assert (caught.value.code, caught.value.message) == (code, words)
        server.on_ack("fine", lambda ctx: "still here")
        assert await client.request("fine") == "still here"


async def test_no_answer_in_time_is_a_timeout_and_the_late_answer_is_dropped(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        gate = anyio.Event()

        @server.on_ack("slow")
        async def slow(ctx: Any) -> str:
            await gate.wait()
            return "late"

        server.on_ack("quick", lambda ctx: "quick")
        with pytest.raises(AckTimeout, match=r"no answer to 'slow' within 0\.05 s"):
            await client.request("slow", timeout=0.05)
        gate.set()
        assert await client.request("quick") == "quick"


async def test_a_lost_connection_ends_every_request(world: World, wire: str) -> None:
    async with world.conversation(wire, shutdown_timeout=0.05) as (server, client):

        @server.on_ack("never")
        async def never(ctx: Any) -> None:
            await anyio.sleep_forever()

        async def ask() -> None:
            with pytest.raises(ConnectionLost):
                await client.request("never")
            ended.append(True)

        ended: list[bool] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            server.disconnect(str(client.get_id()), 1001, "moving")
        assert len(ended) == 3


async def test_a_cancelled_request_leaves_nothing_behind(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        gate = anyio.Event()

        @server.on_ack("slow")
        async def slow(ctx: Any) -> str:
            await gate.wait()
            return "late"

        with anyio.move_on_after(0.02):
            await client.request("slow", "x", "name")
        gate.set()
        server.on_ack("next", lambda ctx: "next")
        assert await client.request("next", None, "name") == "next"


async def test_an_emit_may_ask_for_an_answer_that_a_handler_gets(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("sum", lambda ctx: sum(ctx.data))
        sums = Inbox()
        client.on_ack("total", sums)
        client.emit("sum", [1, 2, 3], ack="total")
        assert await sums.next() == 6


@pytest.mark.feature("ctx.ack")
async def test_a_handler_of_events_may_answer_with_ctx_ack(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("ask", lambda ctx: ctx.ack("reply", ctx.data + 1))
        assert await client.request("ask", 1, "reply") == 2


@pytest.mark.feature("ctx.send")
async def test_ctx_send_is_an_event_of_that_shape(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on("reply", lambda ctx: ctx.send("custom-ack", {"x": 1}))
        custom = inbox_of(client, "custom-ack")
        client.emit("reply", 1)
        assert await custom.next() == {"data": {"x": 1}, "_isAck": True}


async def test_a_request_that_cannot_be_sent_raises_at_the_call(world: World, wire: str) -> None:
    async with world.conversation(wire) as (_, client):
        with pytest.raises(MessageError, match="reserved"):
            await client.request("ping")
        with pytest.raises(MessageError, match="JSON"):
            await client.request("x", object())
        await client.disconnect()
        with pytest.raises(StateError, match="connect"):
            await client.request("x")


@pytest.mark.feature("requests within handlers")
async def test_a_handler_may_ask_the_server_while_it_handles_an_event(world: World, wire: str) -> None:
    async with world.conversation(wire) as (server, client):
        server.on_ack("double", lambda ctx: ctx.data * 2)
        server.on("start", lambda ctx: ctx.emit("go", 21))
        answers = Inbox()

        async def go(number: int) -> None:
            answers(await client.request("double", number))

        client.on("go", go)
        client.emit("start")
        assert await answers.next() == 42

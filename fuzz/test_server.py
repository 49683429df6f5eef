"""A whole server in memory, on a loop whose clock moves when it is told to: whatever anybody says to it.

Three connections say anything in any order, over either wire, in a handshake or behind it, end their side,
are cut, or say nothing for a while. Two good clients, one on each wire, are there all the time.

Held for every history:

- Nothing is logged as an error, and no task raises. Allowed exceptions: none.
- What the good clients say is answered, once and in order, and the room they share hears it, whatever the
  others do.
- What the handlers were given, what broke the rules and what was over a rate limit was received.
- In the end everybody has gone, and no registry, room, address, deadline or task is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.server import RateLimit
from stelar_proto.tcp import Dialect
from stelar_proto.ws import Role
from tests.server.house import House
from tests.support.wires import UPGRADE, RawClient

from .inputs import corpus, mutated
from .vocabulary import STREAMS

Step: TypeAlias = tuple[int, str, Any]

WIRES = ("ws", "ws", "tcp")
"""Of the connections that say anything; the first is a client already."""
PATIENT = 300.0
"""Seconds in which every deadline has come."""

SAID: dict[str, st.SearchStrategy[bytes]] = {
    "ws": st.one_of(
        STREAMS[None, Role.SERVER], mutated([UPGRADE, *corpus("http_request")]), st.just(UPGRADE)
    ),
    "tcp": STREAMS[Dialect.DOCUMENTED, Role.SERVER],
}
STEPS = st.lists(
    st.one_of(
        *(st.tuples(st.just(who), st.just("say"), SAID[wire]) for who, wire in enumerate(WIRES)),
        st.tuples(st.integers(0, 2), st.sampled_from(["end", "reset", "stop reading"]), st.none()),
        st.tuples(st.just(0), st.just("wait"), st.sampled_from([0.1, 3, 12])),
    ),
    max_size=12,
)


class Errors(logging.Handler):
    """What is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(logging.Formatter().format(record))


@contextmanager
def no_errors() -> Iterator[None]:
    """Nothing is logged as an error."""
    logger, errors = logging.getLogger("stelar"), Errors()
    logger.addHandler(errors)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.removeHandler(errors)
        logger.setLevel(level)
    assert not errors.records, "\n".join(errors.records)


class Application:
    """What is asked for is done; everything is counted."""

    def __init__(self, house: House) -> None:
        self.handled = 0
        server = self.server = house.serve(
            rate_limit=RateLimit(max_points=30, window=1.0), outbox_limit=4000, max_payload_size=2000
        )
        server.on_all(self.count)
        server.on("chat", self.chat)
        server.on_ack("sum", self.answer)

    def count(self, ctx: Any) -> None:
        self.handled += 1

    def chat(self, ctx: Any) -> None:
        words = ctx.data if ctx.data in WIRES else None  # not all that can be heard can be said
        self.server.to("general", "said", [ctx.id, words])

    async def answer(self, ctx: Any) -> Any:
        self.handled += 1
        await self.server.runtime.wait_for(self.server.runtime.make_event(), 0.01)
        return ctx.data


def all_is_well(house: House, good: list[RawClient]) -> None:
    """The good clients are served, each in its turn."""
    for client in good:
        client.say("chat", client.kind)
        client.stream.send(client.request("sum", "sum", client.kind, "q"))
    house.loop.advance(0.1)
    said = [("event", "said", [f"c{number}", client.kind]) for number, client in enumerate(good, 1)]
    for client in good:
        heard = client.heard()
        assert [each for each in heard if each in said] == said
        assert heard.count(("answer", "sum", client.kind, "q")) == 1


@given(STEPS)
def test_any_history_of_a_server(steps: list[Step]) -> None:
    house = House()
    with no_errors():
        application = Application(house)
        good = [house.connect(wire) for wire in ("ws", "tcp")]
        for client in good:
            client.stream.send(client.room("join", "general"))
        streams = [house.connect("ws").stream, *(house.stream(wire) for wire in WIRES[1:])]
        for number, (who, action, argument) in enumerate(steps, 1):
            match action:
                case "say":
                    streams[who].send(argument)
                case "end":
                    streams[who].end()
                case "reset":
                    streams[who].reset()
                case "stop reading":
                    streams[who].stop_reading()
                case "wait":
                    house.loop.advance(argument)
            if action == "wait" or number in (len(steps), 1, 4, 8):  # who says nothing is taken for dead
                all_is_well(house, good)
                house.loop.advance(1)  # a new second: nobody of the good says too much
        for client in good:
            house.leave(client)
        house.loop.advance(PATIENT)
    check_end(application)


def check_end(application: Application) -> None:
    server = application.server
    stats = server.get_stats()
    books: list[Sized] = [server._peers, server._deadlines, server.hub, server.admission._places]
    assert [len(book) for book in books] == [0] * len(books)
    assert len(server.gate.counts) == server.admission.client_count == server.count_rooms() == 0
    assert not [task for task in server.virtual_runtime._tasks if not task.is_done]
    assert server.virtual_runtime.deadline is None
    uncounted = stats.invalid_messages + stats.rate_limited_messages
    assert application.handled <= stats.total_messages_received - uncounted

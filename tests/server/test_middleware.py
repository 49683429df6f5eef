"""Middleware: who is asked before a client is taken in, what each can say, and what comes of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import StateError
from stelar_proto.server import ConnectContext, Context
from tests.server.house import House, raised
from tests.server.test_admission import assert_refused, refusal
from tests.support.memory import RawStream
from tests.support.virtual import VirtualEvent
from tests.support.wires import ACCEPTED, CLIENTS, UPGRADE, TcpClient, frame, upgrade_to

Next = Callable[[], Awaitable[None]]
Middleware = Callable[[ConnectContext, Next], Any]

PING, PONG = b"\0\0\0\7\2\0\0", b"\0\0\0\7\3\0\0"


def let_on(ctx: ConnectContext, go_on: Next) -> None:
    go_on()


async def let_on_later(ctx: ConnectContext, go_on: Next) -> None:
    await go_on()


def noting(log: list[Any], what: object) -> Middleware:
    """Middleware that lets everybody on."""

    def note(ctx: ConnectContext, go_on: Next) -> Awaitable[None]:
        log.append(what)
        return go_on()

    return note


def knock(house: House, wire: str) -> RawStream:
    """Ask to be taken in."""
    stream = house.stream(wire)
    if wire == "ws":
        stream.send(UPGRADE)
    return stream


class Gate:
    """Middleware that waits until it is told."""

    def __init__(self) -> None:
        self.opened = VirtualEvent()
        self.entered = 0
        self.left: list[str] = []

    async def __call__(self, ctx: ConnectContext, go_on: Next) -> None:
        self.entered += 1
        try:
            await self.opened.wait()
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        self.left.append("let on")
        await go_on()

    def open(self, house: House) -> None:
        self.opened.set()
        house.loop.run_until_idle()


@pytest.fixture
def gate(house: House) -> Gate:
    house.serve(max_connections=1)
    return house.server.use(Gate())


# --- Letting on -------------------------------------------------------------------------------------------


def test_middleware_runs_in_order_in_front_of_the_101_and_of_the_connect_frame(
    house: House, wire: str
) -> None:
    server = house.serve()
    log: list[Any] = []
    streams: list[RawStream] = []

    @server.use
    async def first(ctx: ConnectContext, go_on: Next) -> None:
        log.append("first")
        await go_on()
        log.append("first again")

    @server.use
    def second(ctx: ConnectContext, go_on: Next) -> Awaitable[None]:
        log.append("second")
        return go_on()

    @server.use
    async def third(ctx: ConnectContext, go_on: Next) -> None:
        await house.loop.sleep(1)
        log.append(("third", streams[0].take(), server.get_clients()))
        return await go_on()

    server.on_connection(lambda ctx: log.append(ctx.id))
    streams.append(knock(house, wire))
    assert log == ["first", "second"]
    house.loop.advance(1)
    assert log[2:] == [("third", b"", []), "first again", "c1"]
    told = streams[0].take()
    assert told.startswith(ACCEPTED) if wire == "ws" else told == b"\0\0\0\x10\6\0\7connectc1"


def test_plain_middleware_needs_no_task(house: House, wire: str) -> None:
    server = house.serve()
    order: list[int] = []
    for number in range(3):
        server.use(noting(order, number))
    house.connect(wire)
    assert order == [0, 1, 2]
    assert server.virtual_runtime.spawned == 0


def test_next_in_a_plain_function_says_yes_and_those_behind_run_when_it_has_returned(
    house: House, wire: str
) -> None:
    server = house.serve()
    log: list[str] = []

    @server.use
    def first(ctx: ConnectContext, go_on: Next) -> None:
        go_on()
        log.append("first returns")

    @server.use
    async def second(ctx: ConnectContext, go_on: Next) -> None:
        go_on()  # not awaited, which is no mistake
        log.append("second returns")

    @server.use
    async def third(ctx: ConnectContext, go_on: Next) -> None:
        await go_on()
        log.append("third returns")

    server.use(noting(log, "fourth"))
    assert house.connect(wire).id == "c1"
    assert log == ["first returns", "second returns", "fourth", "third returns"]


def test_awaiting_the_rest_a_second_time_runs_nothing_twice(house: House, wire: str) -> None:
    server = house.serve()
    asked: list[str] = []

    @server.use
    async def twice(ctx: ConnectContext, go_on: Next) -> None:
        rest = go_on()
        await rest
        await rest

    server.use(noting(asked, "x"))
    house.connect(wire)
    assert asked == ["x"]


def test_each_namespace_has_middleware_of_its_own(house: House) -> None:
    server = house.serve()
    asked: list[Any] = []
    server.use(noting(asked, "root"))
    server.of("/game").use(noting(asked, "game"))
    server.of("/open")
    for path in ("/game", "/open", "/"):
        house.connect("ws", path)
    house.connect("tcp")
    assert asked == ["game", "root", "root"]


def test_middleware_may_be_added_while_the_server_runs(house: House, wire: str) -> None:
    server = house.serve()
    first = house.connect(wire)
    server.use(lambda ctx, go_on: None)
    assert_refused(refusal(house, wire), wire, 403, "Forbidden")
    assert server.get_clients() == [first.id]


def test_what_is_no_function_is_no_middleware(house: House) -> None:
    server = house.serve()
    with pytest.raises(TypeError, match=r"cannot be called as handler\(ctx, next\)"):
        server.use(lambda ctx: None)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="a handler is a function, not int"):
        server.use(5)  # type: ignore[type-var]


def test_what_middleware_notes_is_there_in_every_handler(house: House, wire: str) -> None:
    server = house.serve()
    notes: list[Any] = []

    @server.use
    def note(ctx: ConnectContext, go_on: Next) -> None:
        ctx.set_metadata("user", "ana")
        notes.append(ctx.get_metadata("user"))
        notes.append((ctx.transport, ctx.client_info.remote_address, ctx.client_info.metadata))
        notes.append(None if ctx.request is None else ctx.request.path)
        notes.append((repr(ctx), hasattr(ctx, "id")))
        go_on()

    for register in (server.on_connection, server.on_disconnect, server.on_all):
        register(lambda ctx: notes.append((ctx.event, ctx.get_metadata("user"))))
    client = house.connect(wire)
    client.say("x")
    house.leave(client)
    assert notes == [
        "ana",
        (wire, "192.0.2.1", {"user": "ana"}),
        "/" if wire == "ws" else None,
        (f"<ConnectContext of 192.0.2.1 over {wire}>", False),
        ("connect", "ana"),
        ("x", "ana"),
        ("disconnect", "ana"),
    ]


def test_connection_handlers_that_wait_come_behind_middleware_that_waits(house: House, wire: str) -> None:
    server = house.serve()
    log: list[str] = []

    @server.use
    async def wait(ctx: ConnectContext, go_on: Next) -> None:
        await house.loop.sleep(1)
        log.append("middleware")
        go_on()

    @server.on_connection
    async def welcome(ctx: Context) -> None:
        await house.loop.sleep(1)
        log.append(ctx.id)

    server.on("x", lambda ctx: log.append("x"))
    stream = knock(house, wire)
    house.loop.advance(1)
    client = CLIENTS[wire](stream)
    client.heard() if wire == "tcp" else stream.take()
    client.say("x")
    assert log == ["middleware"]
    house.loop.advance(1)
    assert log == ["middleware", "c1", "x"]


# --- Refusing ---------------------------------------------------------------------------------------------


async def says_nothing(ctx: ConnectContext, go_on: Next) -> None:
    pass


def rejects(ctx: ConnectContext, go_on: Next) -> None:
    ctx.reject(429, "come back later")


async def rejects_later(ctx: ConnectContext, go_on: Next) -> None:
    await go_on()
    ctx.reject(401, "who are you?")


def rejects_and_raises(ctx: ConnectContext, go_on: Next) -> None:
    ctx.reject(401, "who are you?")
    raise RuntimeError("secret")


def raises(ctx: ConnectContext, go_on: Next) -> None:
    raise RuntimeError("secret")


async def raises_later(ctx: ConnectContext, go_on: Next) -> None:
    await go_on()
    raise RuntimeError("secret")


def exits(ctx: ConnectContext, go_on: Next) -> None:
    sys.exit("secret")


async def exits_later(ctx: ConnectContext, go_on: Next) -> None:
    await go_on()
    sys.exit("secret")


def calls_next_twice(ctx: ConnectContext, go_on: Next) -> None:
    go_on()
    go_on()


def rejects_twice(ctx: ConnectContext, go_on: Next) -> None:
    ctx.reject(401, "once")
    ctx.reject(403, "twice")


def lets_on_whom_it_rejected(ctx: ConnectContext, go_on: Next) -> None:
    ctx.reject(401, "no")
    go_on()


async def awaits_next_itself(ctx: ConnectContext, go_on: Any) -> None:
    await go_on


def returns_next_itself(ctx: ConnectContext, go_on: Any) -> Any:
    return go_on


FORBIDDEN, FAILED = (403, "Forbidden"), (500, "Internal server error")


@pytest.mark.parametrize(
    ("middleware", "answer", "report"),
    [
        (lambda ctx, go_on: None, FORBIDDEN, None),
        (says_nothing, FORBIDDEN, None),
        (rejects, (429, "come back later"), None),
        (rejects_later, (401, "who are you?"), None),
        (rejects_and_raises, (401, "who are you?"), "secret"),
        (raises, FAILED, "secret"),
        (raises_later, FAILED, "secret"),
        (exits, FAILED, "secret"),
        (exits_later, FAILED, "secret"),
        (calls_next_twice, FAILED, "next() was called already; a middleware lets a client on once"),
        (rejects_twice, (401, "once"), "reject() cannot turn the client away: it was rejected already"),
        (lets_on_whom_it_rejected, (401, "no"), "next() cannot let the client on: it was rejected already"),
        (awaits_next_itself, FAILED, "next is a function: await next(), or return next()"),
        (returns_next_itself, FAILED, "next is a function: await next(), or return next()"),
    ],
)
@pytest.mark.parametrize("behind", [(), (let_on,), (let_on_later, let_on)], ids=["last", "plain", "async"])
@pytest.mark.parametrize("front", [(), (let_on,), (let_on, let_on_later)], ids=["first", "plain", "async"])
def test_who_is_not_let_on_is_refused_and_every_failure_is_logged_once(
    house: House,
    wire: str,
    middleware: Middleware,
    answer: tuple[int, str],
    report: str | None,
    front: tuple[Middleware, ...],
    behind: tuple[Middleware, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "stelar.server")
    server = house.serve(max_connections=1)
    server.on_connection(lambda ctx: pytest.fail("it was refused"))
    for each in (*front, middleware, *behind):
        server.use(each)
    for _ in range(2):  # the place is free again
        assert_refused(refusal(house, wire), wire, *answer)
    assert [str(error) for error in raised(caplog.records)] == ([] if report is None else [report] * 2)
    assert caplog.messages[-1] == f"refused 192.0.2.1: {answer[0]} {answer[1]}"
    said = caplog.records[-1].__dict__
    assert (said["remote_address"], said["status"], said["reason"]) == ("192.0.2.1", *answer)
    assert (server.get_stats().total_connections, len(server._peers)) == (0, 0)


@pytest.mark.parametrize("middleware", [let_on, let_on_later])
def test_those_behind_one_that_refuses_are_not_asked(house: House, wire: str, middleware: Middleware) -> None:
    server = house.serve()
    server.use(middleware)
    server.use(says_nothing)
    server.use(lambda ctx, go_on: pytest.fail("it was refused already"))
    assert_refused(refusal(house, wire), wire, 403, "Forbidden")


def test_whoever_awaits_the_rest_may_put_words_to_its_failure(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = house.serve()

    @server.use
    async def explain(ctx: ConnectContext, go_on: Next) -> None:
        try:
            await go_on()
        except RuntimeError:
            ctx.reject(503, "the directory is down")

    server.use(raises)
    assert_refused(refusal(house, wire), wire, 503, "the directory is down")
    assert [str(error) for error in raised(caplog.records)] == ["secret"]


def test_a_failure_that_somebody_swallows_lets_nobody_in(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = house.serve()

    @server.use
    async def swallow(ctx: ConnectContext, go_on: Next) -> None:
        with suppress(RuntimeError):
            await go_on()

    server.use(raises_later)
    assert_refused(refusal(house, wire), wire, 500, "Internal server error")
    assert [str(error) for error in raised(caplog.records)] == ["secret"]


def test_what_is_raised_in_place_of_it_is_logged_too(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = house.serve()

    @server.use
    async def translate(ctx: ConnectContext, go_on: Next) -> None:
        try:
            await go_on()
        except RuntimeError as error:
            raise ValueError("worse") from error

    server.use(raises)
    assert_refused(refusal(house, wire), wire, 500, "Internal server error")
    assert [str(error) for error in raised(caplog.records)] == ["secret", "worse"]


async def lets_on_and_lingers(ctx: ConnectContext, go_on: Next) -> None:
    await go_on()
    await VirtualEvent().wait()


@pytest.mark.parametrize("behind", [Gate(), lets_on_and_lingers], ids=["waits", "lingers"])
def test_who_leaves_the_rest_to_itself_lets_nobody_in(house: House, wire: str, behind: Middleware) -> None:
    server = house.serve()

    @server.use
    async def impatient(ctx: ConnectContext, go_on: Next) -> None:
        async def rest() -> None:
            await go_on()

        house.loop.start(rest())
        await house.loop.sleep(1)

    server.use(behind)
    stream = knock(house, wire)
    house.loop.advance(1)
    assert stream.has_ended
    assert b"Forbidden" in stream.take()
    assert server.get_clients() == []


@pytest.mark.parametrize("status", [200, 399, 600, "401", None, True, 401.0], ids=repr)
def test_a_client_is_rejected_with_the_status_of_an_error(
    house: House, wire: str, status: Any, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve().use(lambda ctx, go_on: ctx.reject(status, "no"))
    assert_refused(refusal(house, wire), wire, 500, "Internal server error")
    assert [str(error) for error in raised(caplog.records)] == [
        f"a client is rejected with a status from 400 to 599, not {status!r}"
    ]


def test_a_client_is_rejected_with_words(house: House, wire: str, caplog: pytest.LogCaptureFixture) -> None:
    house.serve().use(lambda ctx, go_on: ctx.reject(401, b"no"))
    assert_refused(refusal(house, wire), wire, 500, "Internal server error")
    assert "a client is rejected with words in a str, not bytes" in str(raised(caplog.records))


@pytest.mark.parametrize("status", [400, 401, 403, 429, 503, 599])
@pytest.mark.parametrize("words", ["", "ñ ☃", "two\r\nlines: x"])
def test_a_rejection_says_what_it_was_told_to_say(house: House, wire: str, status: int, words: str) -> None:
    house.serve().use(lambda ctx, go_on: ctx.reject(status, words))
    told = refusal(house, wire)
    if wire == "ws":
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"two" not in head
        assert body == f"{words}\n".encode()
    else:
        assert told == frame(10, "error", words.encode())


def test_a_decision_stands(house: House, wire: str) -> None:
    server = house.serve()
    kept: list[Any] = []
    server.use(lambda ctx, go_on: go_on() and None)
    server.use(lambda ctx, go_on: kept.extend((ctx, go_on)))
    assert_refused(refusal(house, wire), wire, 403, "Forbidden")
    ctx, let_on = kept
    with pytest.raises(StateError, match="all middleware has returned, and it was decided"):
        ctx.reject(401, "too late")
    with pytest.raises(StateError, match="all middleware has returned, and it was decided"):
        let_on()


# --- While it is under way --------------------------------------------------------------------------------


def test_a_client_whose_middleware_is_under_way_has_a_place(house: House, wire: str, gate: Gate) -> None:
    first = knock(house, wire)
    assert_refused(refusal(house, wire), wire, 503, "Server full")
    assert house.server.get_stats().active_connections == 0
    gate.open(house)
    assert first.take().startswith(b"HTTP/1.1 101" if wire == "ws" else b"\0\0\0\x10\6\0\7connect")
    assert house.server.get_clients() == ["c1"]
    assert_refused(refusal(house, wire), wire, 503, "Server full")
    assert gate.entered == 1


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_goes_meanwhile_leaves_its_place_and_stops_its_middleware(
    house: House, wire: str, how: str, gate: Gate
) -> None:
    for _ in range(2):
        stream = knock(house, wire)
        getattr(stream, how)()
    assert gate.left == ["Cancelled", "Cancelled"]
    assert house.loop.tasks == []
    house.server.on_disconnect(lambda ctx: pytest.fail("it was no client"))
    gate.open(house)
    assert house.connect(wire).id == "c1"


def test_middleware_that_hangs_has_what_is_left_of_connect_timeout(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stelar.server")
    gate = house.serve(connect_timeout=5, max_connections=1).use(Gate())
    stream = house.stream(wire)
    house.loop.advance(3)
    if wire == "ws":
        stream.send(UPGRADE)
    house.loop.advance(1.9)
    assert not stream.is_cut
    house.loop.advance(0.1)
    assert stream.is_cut
    assert gate.left == ["Cancelled"]
    assert (house.loop.tasks, len(house.server._peers)) == ([], 0)
    assert caplog.messages == ["192.0.2.1: connection ended: no handshake within 5 s"]
    gate.open(house)
    assert house.connect(wire).id == "c1"


def test_a_server_that_stops_meanwhile_says_so(house: House, wire: str, gate: Gate) -> None:
    stream = knock(house, wire)
    stopping = house.loop.start(house.server.stop())
    house.loop.run_until_idle()
    assert_refused(stream.take(), wire, 503, "Server shutting down")
    assert stream.has_ended
    assert gate.left == ["Cancelled"]  # nobody waits for it
    stream.end()
    assert stopping.is_done
    assert house.server.get_clients() == []


def test_middleware_may_stop_the_server(house: House, wire: str) -> None:
    server = house.serve()
    server.use(lambda ctx, go_on: server.shut_down() and go_on() and None)
    assert_refused(refusal(house, wire), wire, 503, "Server shutting down")


def test_a_client_that_is_cut_meanwhile_is_not_taken_in(house: House, wire: str) -> None:
    server = house.serve()

    @server.use
    def cut_all(ctx: ConnectContext, go_on: Next) -> None:
        server.cut_all()
        go_on()

    stream = knock(house, wire)
    house.loop.advance(0)
    assert stream.is_cut
    assert (server.get_clients(), len(server._peers)) == ([], 0)
    assert server.get_stats().total_connections == 0


def test_a_client_that_was_cut_meanwhile_is_not_refused_as_well(house: House, wire: str, gate: Gate) -> None:
    stream = knock(house, wire)
    house.server.cut_all()
    house.server.shut_down()
    house.loop.advance(0)
    assert stream.take() == b""
    assert stream.is_cut
    assert (gate.left, len(house.server._peers)) == (["Cancelled"], 0)


def test_a_cancelled_middleware_refuses_and_frees_the_place(house: House, wire: str, gate: Gate) -> None:
    stream = knock(house, wire)
    [task] = house.loop.tasks
    task.cancel()
    house.loop.run_until_idle()
    assert_refused(stream.take(), wire, 403, "Forbidden")
    stream.end()
    gate.open(house)
    assert house.connect(wire).id == "c1"


def test_what_a_tcp_client_says_meanwhile_is_handled_behind_its_welcome(house: House, gate: Gate) -> None:
    log: list[Any] = []
    house.server.on_connection(lambda ctx: log.append(ctx.emit("welcome")))
    house.server.on("x", lambda ctx: log.append(ctx.data))
    client = TcpClient(house.stream("tcp"))
    for number in range(3):
        client.say("x", number)
    assert log == []
    gate.open(house)
    assert client.open().heard() == []
    assert log == [True, 0, 1, 2]


def test_what_a_tcp_client_says_meanwhile_is_nothing_when_it_is_refused(house: House) -> None:
    server = house.serve(inbox_limit=2)
    server.on("x", lambda ctx: pytest.fail("it was refused"))
    server.use(lambda ctx, go_on: house.loop.sleep(1))
    client = TcpClient(house.stream("tcp"))
    for number in range(5):
        client.say("x", number)
    transport = client.stream.transport
    assert (transport.pauses, transport.is_reading) == (1, False)
    house.loop.advance(1)
    assert client.heard() == [("closed", None, "Forbidden")]
    assert transport.is_reading
    client.stream.end()
    assert len(server._peers) == 0


def test_what_a_tcp_client_said_before_it_went_is_nothing(house: House, gate: Gate) -> None:
    house.server.on("x", lambda ctx: pytest.fail("it was never taken in"))
    client = TcpClient(house.stream("tcp"))
    client.say("x")
    client.stream.end()
    assert gate.left == ["Cancelled"]
    assert len(house.server._peers) == 0


def test_what_a_websocket_client_says_meanwhile_is_a_fault(house: House, gate: Gate) -> None:
    stream = knock(house, "ws")
    stream.send(b"\x81\x80\0\0\0\0")
    assert stream.take().startswith(b"HTTP/1.1 400 ")
    assert gate.left == ["Cancelled"]


def test_the_connect_frame_comes_first_whatever_is_asked_before(house: House, gate: Gate) -> None:
    stream = house.stream("tcp")
    stream.send(PING)
    assert stream.take() == b""
    gate.open(house)
    assert stream.take() == b"\0\0\0\x10\6\0\7connectc1"
    stream.send(PING)
    assert stream.take() == PONG


def test_the_path_the_origin_and_the_places_are_looked_at_first(house: House) -> None:
    server = house.serve(allowed_origins=["https://a.example"], max_connections=1)
    asked: list[str] = []
    server.use(noting(asked, "x"))

    def answer(path: str, origin: str) -> bytes:
        stream = house.stream("ws")
        stream.send(upgrade_to(path).replace(b"\r\n\r\n", b"\r\nOrigin: %s\r\n\r\n" % origin.encode()))
        return stream.take()[9:12]

    assert answer("/game", "https://b.example") == b"404"
    assert answer("/", "https://b.example") == b"403"
    assert asked == []
    assert answer("/", "https://a.example") == b"101"
    assert answer("/", "https://b.example") == b"403"
    assert answer("/", "https://a.example") == b"503"
    assert asked == ["x"]
    server.shut_down()
    assert answer("/game", "https://b.example") == b"503"


# --- All of it at random ----------------------------------------------------------------------------------

LINKS = st.tuples(
    st.booleans(),  # async
    st.sampled_from(["next", "await", "nothing", "reject", "raise"]),
    st.sampled_from([None, "reject", "raise"]),  # what it does after that
    st.booleans(),  # sleeps in front
)


@given(st.lists(LINKS, max_size=4), st.sampled_from(["ws", "tcp"]))
def test_a_client_is_taken_in_if_all_let_it_on_and_none_objects(
    links: list[tuple[bool, str, str | None, bool]], wire: str
) -> None:
    house = House()
    quiet = logging.getLogger("quiet")
    quiet.propagate = False
    server = house.serve(logger=quiet)
    for is_async, action, behind, sleeps in links:
        server.use(link(house, is_async, action, behind, sleeps))
    stream = knock(house, wire)
    house.loop.advance(5)
    is_welcome = all(action in ("next", "await") and behind is None for _, action, behind, _ in links)
    assert len(server.get_clients()) == is_welcome
    if is_welcome:
        assert CLIENTS[wire](stream).stream is stream
    else:
        assert stream.has_ended
        stream.end()
        assert (len(server._peers), house.loop.tasks) == (0, [])
    house.close()


def link(house: House, is_async: bool, action: str, behind: str | None, sleeps: bool) -> Middleware:
    def act(ctx: ConnectContext, what: str | None) -> None:
        if what == "reject":
            ctx.reject(401, "no")
        elif what == "raise":
            raise RuntimeError("on purpose")

    def plain(ctx: ConnectContext, go_on: Next) -> None:
        if action in ("next", "await"):
            go_on()
        act(ctx, action)
        act(ctx, behind)

    async def later(ctx: ConnectContext, go_on: Next) -> None:
        if sleeps:
            await house.loop.sleep(1)
        if action == "await":
            await go_on()
        elif action == "next":
            go_on()
        act(ctx, action)
        act(ctx, behind)

    return later if is_async else plain

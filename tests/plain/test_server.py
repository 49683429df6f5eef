"""The server of plain connections: who is let in, what handlers do, and how it ends."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stelar_proto.channel import HttpResponse
from stelar_proto.errors import ConnectionClosed, StateError
from stelar_proto.plain import WebSocketConnection
from stelar_proto.ws import Request
from tests.plain.house import CLOSE, TEXT, House
from tests.support.memory import RawStream, VirtualWebSocketServer
from tests.support.virtual import Cancelled, VirtualEvent
from tests.support.wires import UPGRADE

SHUTTING_DOWN = b"\x03\xe9Server shutting down"


def errors_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def upgrade(*fields: bytes) -> bytes:
    return UPGRADE.removesuffix(b"\r\n") + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def ask(house: House, request: bytes = UPGRADE) -> RawStream:
    stream = house.server.connect("ws")
    stream.send(request)
    return stream


def status_of(stream: RawStream) -> bytes:
    return stream.take().partition(b"\r\n")[0]


# --- Coming in ----------------------------------------------------------------------------------------------


def test_any_address_may_begin_a_tls_handshake(serving: House) -> None:
    server = serving.serve()
    ends = [server.begin_handshake("ws", "192.0.2.1") for _ in range(100)]
    assert [end() for end in ends if end is not None] == [None] * 100


# --- Handlers -----------------------------------------------------------------------------------------------


def test_a_handler_that_returns_closes_with_1000(serving: House) -> None:
    async def greet(connection: WebSocketConnection) -> None:
        await connection.send("hola")

    serving.serve(greet)
    peer = serving.raw_client()
    assert peer.heard() == [(TEXT, b"hola"), (CLOSE, b"\x03\xe8")]
    peer.close()
    peer.stream.end()
    assert peer.stream.has_ended


def test_a_handler_may_be_a_plain_function(serving: House) -> None:
    seen = []
    serving.serve(lambda connection: seen.append(connection.request.path))
    peer = serving.raw_client()
    assert seen == ["/"]
    assert peer.heard() == [(CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_that_raises_is_logged_once_and_closes_with_1011(
    serving: House, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    async def fail_later(connection: WebSocketConnection) -> None:
        raise ZeroDivisionError("oops")

    def fail(connection: WebSocketConnection) -> None:
        raise ZeroDivisionError("oops")

    serving.serve(fail_later if is_async else fail)
    peer = serving.raw_client()
    assert peer.heard() == [(CLOSE, b"\x03\xf3")]
    (record,) = errors_in(caplog)
    assert record.getMessage().startswith("the handler of <WebSocketConnection server")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_connection_closed_out_of_a_handler_is_no_error(
    serving: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive(connection: WebSocketConnection) -> None:
        while True:
            await connection.recv()

    serving.serve(receive)
    caplog.set_level(logging.DEBUG)
    peer = serving.raw_client()
    peer.close(4000)
    assert errors_in(caplog) == []
    assert "a handler ended with its connection: the connection is closed, 4000" in caplog.text


def test_a_group_of_nothing_else_is_no_error_either(serving: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is what a nursery or task group makes of it, in which one task receives and another sends."""

    async def receive(connection: WebSocketConnection) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as error:
            raise ExceptionGroup("tasks", [error, ExceptionGroup("inner", [error])]) from None

    serving.serve(receive)
    serving.raw_client().close(4000)
    assert errors_in(caplog) == []


def test_a_group_with_anything_else_in_it_is_an_error(
    serving: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive(connection: WebSocketConnection) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as error:
            raise ExceptionGroup("tasks", [error, ZeroDivisionError()]) from None

    serving.serve(receive)
    serving.raw_client().close(4000)
    assert len(errors_in(caplog)) == 1


def test_what_is_no_function_is_no_handler(serving: House) -> None:
    wrong: Any = "echo"
    with pytest.raises(TypeError, match="a handler is a function, not str"):
        VirtualWebSocketServer(serving.network, wrong)


def test_what_comes_when_the_handler_has_returned_is_dropped(serving: House) -> None:
    serving.serve(lambda connection: serving.connections.append(connection))
    peer = serving.raw_client()
    peer.say("a", "b")
    (connection,) = serving.connections
    assert connection._endpoint.messages_discarded == 2
    peer.close()
    with pytest.raises(ConnectionClosed):
        serving.run(connection.recv())


def test_messages_that_a_handler_did_not_take_do_not_hold_the_close_back(serving: House) -> None:
    gate = VirtualEvent()

    async def wait(connection: WebSocketConnection) -> None:
        await gate.wait()

    serving.serve(wait)
    peer = serving.raw_client()
    peer.stream.send(peer.frame(TEXT, b"unread") + peer.close_frame(4000))
    assert peer.heard() == []
    gate.set()
    serving.loop.run_until_idle()
    assert peer.heard() == [(CLOSE, b"\x0f\xa0")]


def test_the_open_connections_are_known(serving: House) -> None:
    server = serving.serve()
    assert len(server.connections) == 0
    first, second = serving.raw_client(), serving.raw_client()
    ask(serving, b"GET")
    assert set(server.connections) == set(serving.connections)
    first.stream.reset()
    assert list(server.connections) == serving.connections[1:]
    serving.start(serving.connections[1].close())
    assert server.connections == ()
    assert second.heard() == [(CLOSE, b"\x03\xe8")]


# --- Who is let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (b"chat, superchat", b"superchat"),
        (b"chat", b"chat"),
        (b"other, chat", b"chat"),
        (b"other", None),
        (None, None),
    ],
)
def test_the_servers_preference_selects_the_subprotocol(
    serving: House, offered: bytes | None, selected: bytes | None
) -> None:
    serving.serve(subprotocols=["superchat", "chat"])
    stream = ask(serving, UPGRADE if offered is None else upgrade(b"Sec-WebSocket-Protocol: " + offered))
    head = stream.take()
    assert head.startswith(b"HTTP/1.1 101 ")
    expected = [] if selected is None else [b"Sec-WebSocket-Protocol: " + selected]
    assert [line for line in head.split(b"\r\n") if b"Protocol:" in line] == expected
    assert serving.connections[0].subprotocol == (None if selected is None else selected.decode())


@pytest.mark.parametrize(
    ("origins", "origin", "is_let_in"),
    [
        (None, b"https://evil.example", True),
        (None, None, True),
        (["https://good.example"], b"https://good.example", True),
        (["https://good.example"], b"https://evil.example", False),
        (["https://good.example"], b"https://good.example.evil.example", False),
        (["https://good.example"], None, False),
        (["https://good.example", None], None, True),
        ([None], b"https://good.example", False),
        ([], None, False),
    ],
)
def test_only_these_origins_are_let_in(
    serving: House, origins: Any, origin: bytes | None, is_let_in: bool
) -> None:
    serving.serve(origins=origins)
    stream = ask(serving, UPGRADE if origin is None else upgrade(b"Origin: " + origin))
    expected = b"HTTP/1.1 101 Switching Protocols" if is_let_in else b"HTTP/1.1 403 Forbidden"
    assert status_of(stream) == expected
    assert len(serving.connections) == is_let_in


def test_one_connection_too_many_is_refused_with_503(
    serving: House, caplog: pytest.LogCaptureFixture
) -> None:
    serving.serve(max_connections=2)
    first = serving.raw_client()
    serving.raw_client()
    refused = ask(serving)
    answer = refused.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\nServer full\n")
    assert "refused a connection: 2 are open" in caplog.text
    assert refused.has_ended
    refused.end()
    serving.kept.set()
    first.stream.reset()
    serving.raw_client()


def test_plain_http_is_answered_with_426(serving: House) -> None:
    serving.serve()
    answer = ask(serving, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").take()
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in answer
    assert answer.endswith(b"\r\n\r\nthis is a WebSocket server\n")


def test_what_is_no_http_is_answered_with_400(serving: House) -> None:
    serving.serve()
    stream = ask(serving, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert status_of(stream) == b"HTTP/1.1 400 Bad Request"
    assert stream.has_ended
    assert serving.connections == []


def test_who_says_nothing_is_cut_in_connect_timeout(serving: House) -> None:
    server = serving.serve(connect_timeout=2)
    stream = serving.server.connect("ws")
    stream.send(UPGRADE[:20])
    serving.loop.advance(2)
    assert stream.is_cut
    assert not server._peers


def process(house: House, process_request: Any, request: bytes = UPGRADE) -> RawStream:
    house.serve(process_request=process_request)
    return ask(house, request)


def asynchronous(function: Any) -> Any:
    async def call(request: Request) -> Any:
        return function(request)

    return call


@pytest.fixture(params=[lambda function: function, asynchronous], ids=["plain", "async"])
def form(request: pytest.FixtureRequest) -> Any:
    """A process_request, plain or async."""
    return request.param


def test_process_request_may_let_in_and_sees_the_request(serving: House, form: Any) -> None:
    seen = []
    stream = process(serving, form(lambda request: seen.append((request.path, request.headers.get("host")))))
    assert status_of(stream) == b"HTTP/1.1 101 Switching Protocols"
    assert seen == [("/", "localhost")]


def test_process_request_may_refuse(serving: House, form: Any) -> None:
    response = HttpResponse.of_text("who are you?\n", status=401, headers=[("WWW-Authenticate", "Basic")])
    stream = process(serving, form(lambda request: response))
    answer = stream.take()
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Basic\r\n" in answer
    assert answer.endswith(b"\r\n\r\nwho are you?\n")
    assert serving.connections == []
    stream.end()
    assert not serving.server._peers


def test_process_request_may_answer_plain_http(serving: House, form: Any) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    stream = process(serving, form(lambda request: HttpResponse(200, request.path.encode())), request)
    answer = stream.take()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n/healthz")


def test_process_request_that_returns_none_leaves_plain_http_to_the_server(serving: House, form: Any) -> None:
    stream = process(serving, form(lambda request: None), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status_of(stream) == b"HTTP/1.1 426 Upgrade Required"


def fail(request: Request) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (fail, "process_request failed for '/'"),
        (lambda request: "nonsense", "process_request returns HttpResponse or None, not str"),
        (lambda request: (200, b""), "process_request returns HttpResponse or None, not tuple"),
        (lambda request: HttpResponse(99), "process_request failed"),
        (lambda request: HttpResponse(101), "process_request failed"),
        (lambda request: HttpResponse(headers=[("a b", "c")]), "process_request failed"),
        (lambda request: HttpResponse(headers=[("a", "c\r\nd: e")]), "process_request failed"),
        (lambda request: HttpResponse(body="text"), "process_request failed"),  # type: ignore[arg-type]
        (lambda request: HttpResponse(status="x"), "process_request failed"),  # type: ignore[arg-type]
    ],
)
def test_process_request_that_fails_is_logged_and_answered_with_500(
    serving: House, caplog: pytest.LogCaptureFixture, form: Any, function: Any, words: str
) -> None:
    stream = process(serving, form(function))
    answer = stream.take()
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert answer.endswith(b"\r\n\r\nthe request could not be processed\n")
    assert len(errors_in(caplog)) == 1
    assert words in caplog.text
    assert stream.has_ended
    stream.end()
    assert not serving.server._peers


@pytest.mark.parametrize("outcome", ["none", "response", "raises"])
def test_a_client_that_goes_while_process_request_thinks_is_forgotten(
    serving: House, caplog: pytest.LogCaptureFixture, outcome: str
) -> None:
    gate = VirtualEvent()

    async def think(request: Request) -> HttpResponse | None:
        await gate.wait()
        if outcome == "raises":
            raise ZeroDivisionError
        return None if outcome == "none" else HttpResponse(200)

    stream = process(serving, think)
    stream.reset()
    gate.set()
    serving.loop.run_until_idle()
    assert stream.take() == b""
    assert serving.connections == []
    assert not serving.server._peers
    assert len(errors_in(caplog)) == (outcome == "raises")


def test_process_request_that_thinks_too_long_is_not_waited_for(serving: House) -> None:
    async def think(request: Request) -> None:
        await VirtualEvent().wait()

    serving.serve(process_request=think, connect_timeout=3)
    stream = ask(serving)
    serving.loop.advance(3)
    assert stream.is_cut
    assert not serving.server._peers


def test_who_asks_while_the_server_shuts_down_is_refused_with_503(serving: House) -> None:
    server = serving.serve()
    serving.raw_client()
    stopping = serving.start(server.stop())
    assert status_of(ask(serving)) == b"HTTP/1.1 503 Service Unavailable"
    serving.kept.set()
    serving.loop.advance(60)
    assert stopping.is_done


# --- Starting and stopping ----------------------------------------------------------------------------------


def test_starting_twice_is_an_error_and_stopping_twice_is_none(serving: House) -> None:
    server = serving.serve()
    with pytest.raises(StateError, match="running already"):
        serving.run(server.start())
    assert server.get_port() == 8765
    assert repr(server) == "<VirtualWebSocketServer on 127.0.0.1:8765>"
    serving.run(server.stop())
    serving.run(server.stop())
    assert repr(server) == "<VirtualWebSocketServer on 127.0.0.1:8765>"
    with pytest.raises(StateError):
        server.get_port()
    with pytest.raises(StateError, match="start it first"):
        _ = server.runtime


def test_a_server_that_was_stopped_can_be_started_again(serving: House) -> None:
    server = serving.serve()
    for _ in range(2):
        peer = serving.raw_client()
        stopping = serving.start(server.stop())
        peer.close(1001)
        peer.stream.end()
        serving.kept.set()
        serving.loop.run_until_idle()
        assert stopping.is_done
        server.start_now()
    serving.raw_client()


def test_stopping_says_goodbye_and_waits_for_clients_and_handlers(serving: House) -> None:
    server = serving.serve()
    peer = serving.raw_client()
    unasked = serving.server.connect("ws")
    stopping = serving.start(server.stop())
    again = serving.start(server.stop())
    assert unasked.is_cut
    assert peer.heard() == [(CLOSE, SHUTTING_DOWN)]
    peer.say("still received")
    peer.close(1001)
    peer.stream.end()
    assert not stopping.is_done
    assert serving.run(serving.connections[0].recv()) == "still received"
    serving.kept.set()
    serving.loop.run_until_idle()
    assert stopping.is_done
    assert again.is_done


def test_a_handler_that_does_not_end_is_cancelled_at_shutdown_timeout(serving: House) -> None:
    ended = []

    async def stay(connection: WebSocketConnection) -> None:
        try:
            await VirtualEvent().wait()
        except Cancelled:
            ended.append(serving.loop.now)
            raise

    server = serving.serve(stay, shutdown_timeout=7, close_timeout=5)
    peer, gone = serving.raw_client(), serving.raw_client()
    gone.stream.reset()
    began = serving.loop.now
    stopping = serving.start(server.stop())
    serving.loop.advance(6.5)
    assert not stopping.is_done
    serving.loop.advance(0.5)
    assert stopping.is_done
    assert ended == [began + 7] * 2
    assert peer.stream.is_cut
    assert not server._peers


def test_stop_that_is_cancelled_cuts_everybody(serving: House) -> None:
    server = serving.serve()
    peer = serving.raw_client()
    stopping = serving.start(server.stop())
    serving.cancel(stopping)
    assert peer.stream.is_cut
    with pytest.raises(StateError):
        _ = server.runtime


def test_a_second_request_to_stop_does_not_wait_for_handlers(serving: House) -> None:
    server = serving.serve()
    peer = serving.raw_client()
    server.request_stop()
    stopping = serving.start(server.stop())
    assert not stopping.is_done
    server.request_stop()
    serving.loop.run_until_idle()
    assert stopping.is_done
    assert peer.stream.is_cut


@pytest.mark.parametrize("others", [[], [KeyboardInterrupt()]])
def test_what_a_group_of_tasks_raises_is_reported_but_for_what_is_for_the_main_task(
    serving: House, caplog: pytest.LogCaptureFixture, others: list[BaseException]
) -> None:
    async def fail(connection: WebSocketConnection) -> None:
        raise BaseExceptionGroup("tasks", [SystemExit(), ZeroDivisionError(), *others])

    serving.serve(fail)
    stream = serving.server.connect("ws")
    if others:
        with pytest.raises(BaseExceptionGroup) as caught:
            stream.send(UPGRADE)
        assert caught.value.exceptions == tuple(others)
    else:
        stream.send(UPGRADE)
    [record] = errors_in(caplog)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], BaseExceptionGroup)
    assert [type(error) for error in record.exc_info[1].exceptions] == [SystemExit, ZeroDivisionError]


def test_what_is_for_the_main_task_alone_is_not_reported(
    serving: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(connection: WebSocketConnection) -> None:
        raise BaseExceptionGroup("tasks", [KeyboardInterrupt()])

    serving.serve(fail)
    with pytest.raises(BaseExceptionGroup):
        serving.server.connect("ws").send(UPGRADE)
    assert errors_in(caplog) == []


def test_a_handler_may_stop_the_server_it_runs_in(serving: House) -> None:
    async def stop(connection: WebSocketConnection) -> None:
        await serving.server.stop()

    server = serving.serve(stop, shutdown_timeout=1)
    peer = serving.raw_client()
    assert peer.heard() == [(CLOSE, SHUTTING_DOWN)]
    serving.loop.advance(1)
    assert peer.stream.is_cut
    with pytest.raises(StateError):
        _ = server.runtime


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_handler_that_stops_the_server_is_not_waited_for(serving: House, is_gone: bool) -> None:
    gate, done = VirtualEvent(), []

    async def stop(connection: WebSocketConnection) -> None:
        await gate.wait()
        await serving.server.stop()
        done.append(connection)

    serving.serve(stop, shutdown_timeout=1000)
    peer = serving.raw_client()
    if is_gone:
        peer.stream.reset()
    gate.set()
    serving.loop.run_until_idle()
    if not is_gone:
        assert not done
        peer.close(1001)
        peer.stream.end()
    assert len(done) == 1


def test_async_with_starts_and_stops(serving: House) -> None:
    server = VirtualWebSocketServer(serving.network, lambda connection: None)

    async def use() -> int:
        async with server as same:
            assert same is server
            return server.get_port()

    assert serving.run(use()) == 8765
    with pytest.raises(StateError):
        server.get_port()

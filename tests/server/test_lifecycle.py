"""Starting, serving and stopping, whatever listens."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from stelar_proto.channel import Place
from stelar_proto.errors import StateError
from stelar_proto.server import Context
from tests.server.house import House, raised
from tests.support.memory import VirtualServer
from tests.support.virtual import Cancelled, VirtualEvent, VirtualRuntime
from tests.support.wires import CLIENTS


class FakeSocket:
    """What tells as much of itself as a stream socket."""

    type = SimpleNamespace(name="SOCK_STREAM")


def test_starting_returns_the_port(house: House) -> None:
    server = VirtualServer(house.network, port=4000, tcp_port=4001)
    assert house.loop.run(server.start()) == 4000
    assert (server.get_port(), server.get_tcp_port()) == (4000, 4001)
    house.loop.run(server.stop())
    with pytest.raises(StateError, match="start it first"):
        server.get_port()
    assert server.get_tcp_port() is None


def test_without_a_tcp_port_there_is_none(house: House) -> None:
    server = house.serve(tcp_port=None)
    assert (server.get_port(), server.get_tcp_port()) == (3000, None)


def test_starting_twice_is_an_error_that_says_so(house: House) -> None:
    server = house.serve()
    with pytest.raises(StateError, match="running already"):
        house.loop.run(server.start())
    assert server.get_port() == 3000


def test_the_tcp_port_may_be_of_another_host(house: House) -> None:
    class Noting(VirtualServer):
        async def _listen(self, place: Place) -> int:
            listened.append(place[:3])
            return await super()._listen(place)

    listened: list[tuple[str, str | None, int | None]] = []
    house.loop.run(Noting(house.network, host="::1", tcp_host="127.0.0.1").start())
    assert listened == [("ws", "::1", 3000), ("tcp", "127.0.0.1", 3001)]


class Unlucky(VirtualServer):
    """It waits for its second port, and does not get it."""

    free = VirtualEvent()

    async def _listen(self, place: Place) -> int:
        if place.kind == "tcp":
            await self.free.wait()
            raise OSError("the port is in use")
        return await super()._listen(place)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_nothing_is_left_of_a_start_that_fails(house: House, is_cancelled: bool) -> None:
    """Not even who came in on the one port while the other was tried."""
    server = Unlucky(house.network)
    server.free = VirtualEvent()
    starting = house.start(server.start())
    early = server.connect("ws")
    if is_cancelled:
        starting.cancel()
    server.free.set()
    house.loop.run_until_idle()
    assert isinstance(starting.error, Cancelled if is_cancelled else OSError)
    assert early.is_cut
    assert server._peers == set()
    assert house.serve().get_port() == 3000  # the first port is free again


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_server_whose_loop_does_not_start_may_be_started_again(house: House, is_cancelled: bool) -> None:
    class Failing(VirtualRuntime):
        async def start(self) -> None:
            if is_cancelled:
                raise Cancelled
            raise RuntimeError("no loop")

    server = VirtualServer(house.network)
    working, server.virtual_runtime = server.virtual_runtime, Failing(house.loop)
    with pytest.raises(Cancelled if is_cancelled else RuntimeError):
        house.loop.run(server.start())
    server.virtual_runtime = working
    house.loop.run(server.start())


def test_a_server_is_a_context(house: House) -> None:
    async def serve() -> None:
        async with VirtualServer(house.network) as server:
            assert server.get_port() == 3000
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        house.loop.run(serve())
    house.serve()


# --- Stopping -----------------------------------------------------------------------------------------------


def test_who_stops_a_server_that_stops_waits_for_the_same(house: House, wire: str) -> None:
    house.serve(shutdown_timeout=3, close_timeout=60)
    house.connect(wire)
    first, second = house.start(house.server.stop()), house.start(house.server.stop())
    house.loop.advance(2.9)
    assert (first.is_done, second.is_done) == (False, False)
    house.loop.advance(0.1)
    assert (first.is_done, second.is_done) == (True, True)
    house.loop.run(house.server.stop())


@pytest.mark.parametrize("part", ["_stop_listening", "shut_down", "cut_all"])
def test_a_stop_that_fails_ends_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    server = house.serve(shutdown_timeout=3)
    with monkeypatch.context() as broken:
        broken.setattr(server, part, Mock(side_effect=RuntimeError("another loop's")))
        with pytest.raises(RuntimeError, match="another loop's"):
            house.loop.run(server.stop())
    house.loop.run(server.stop())  # nobody waits for ever


def test_a_stop_that_is_cancelled_cuts_everybody(house: House, wire: str) -> None:
    house.serve(shutdown_timeout=30)
    client = house.connect(wire)
    stopping = house.start(house.server.stop())
    stopping.cancel()
    house.loop.run_until_idle()
    assert isinstance(stopping.error, Cancelled)
    assert client.stream.is_cut
    house.server.start_now()


def test_when_the_stop_returns_everybody_has_gone(house: House, wire: str) -> None:
    gone: list[str] = []
    house.serve(shutdown_timeout=1, close_timeout=60)
    house.server.on_disconnect(lambda ctx: gone.append(ctx.id))
    house.connect(wire)

    async def stop() -> None:
        await house.server.stop()
        assert (gone, house.server.get_clients(), house.server._peers) == (["c1"], [], set())

    house.loop.run(stop())


def test_handlers_that_do_not_end_are_cancelled_by_the_stop_which_is_no_news(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[str] = []
    house.serve(shutdown_timeout=1)

    @house.server.on("hang")
    async def hang(ctx: Context) -> None:
        try:
            await VirtualEvent().wait()
        except Cancelled:
            cancelled.append(ctx.id)
            raise

    client = house.connect(wire)
    client.say("hang")
    house.loop.run(house.server.stop())
    house.loop.run_until_idle()
    assert cancelled == ["c1"]
    assert house.loop.tasks == []
    assert caplog.records == []


# --- Serving ------------------------------------------------------------------------------------------------


def test_serving_ends_with_the_stop(house: House) -> None:
    house.serve()
    serving = house.start(house.server._serve_until_stopped())
    assert not serving.is_done
    house.loop.run(house.server.stop())
    assert serving.is_done
    house.loop.run(house.server._serve_until_stopped())  # a server that does not run is not waited for


def test_a_signal_ends_serving_and_the_second_one_cuts_who_is_left(house: House, wire: str) -> None:
    house.serve()
    client = house.connect(wire)
    serving = house.start(house.server._serve_until_stopped())
    house.server.request_stop()
    house.loop.run_until_idle()
    assert serving.is_done
    stopping = house.start(house.server.stop())
    assert not stopping.is_done
    house.server.request_stop()
    house.loop.run_until_idle()
    assert client.stream.is_cut
    assert stopping.is_done


def test_a_signal_is_for_the_run_in_which_it_came(house: House) -> None:
    house.serve()
    house.server.request_stop()
    house.loop.run(house.server.stop())
    house.server.request_stop()
    house.server.start_now()
    client = house.connect("tcp")
    serving = house.start(house.server._serve_until_stopped())
    assert not serving.is_done
    house.server.request_stop()
    house.loop.run_until_idle()
    assert serving.is_done
    assert not client.stream.is_cut


# --- What a stop waits for ----------------------------------------------------------------------------------


def hanging(house: House, *, swallows: int = 0) -> list[str]:
    """Have ``hang`` never return, even if it is cancelled so often; return a list of who was cancelled."""
    cancelled: list[str] = []

    @house.server.on("hang")
    async def hang(ctx: Context) -> None:
        for left in reversed(range(swallows + 1)):
            try:
                await VirtualEvent().wait()
            except Cancelled:
                cancelled.append(ctx.id)
                if not left:
                    raise

    return cancelled


@pytest.mark.parametrize("swallows", [0, 1, 5])
def test_a_thousand_handlers_that_do_not_end_cost_a_stop_half_a_second(
    house: House, wire: str, swallows: int, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(shutdown_timeout=2, max_connections_per_ip=1000)
    cancelled = hanging(house, swallows=swallows)
    for _ in range(1000):
        house.connect(wire).say("hang")
    began_at = house.loop.now
    house.loop.run(house.server.stop())
    assert 2 <= house.loop.now - began_at <= 2.5
    assert len(set(cancelled)) == 1000
    assert ("1000 tasks do not end although they are cancelled" in caplog.text) == (swallows == 5)
    assert (house.loop.tasks == []) == (swallows < 5)


def test_handlers_may_end_although_their_clients_have_gone(house: House, wire: str) -> None:
    house.serve(shutdown_timeout=5)
    gate, done = VirtualEvent(), list[object]()

    @house.server.on("save")
    async def save(ctx: Context) -> None:
        await gate.wait()
        done.append(ctx.data)

    house.server.on_disconnect(lambda ctx: done.append("gone"))
    client = house.connect(wire)
    client.say("save", 1)
    client.say("save", 2)
    stopping = house.start(house.server.stop())
    house.leave(client)
    assert (stopping.is_done, done) == (False, [])
    gate.set()
    house.loop.run_until_idle()
    assert (stopping.is_done, done) == (True, [1, 2, "gone"])


def test_a_second_request_does_not_wait_for_handlers_either(house: House, wire: str) -> None:
    house.serve(shutdown_timeout=60)
    cancelled = hanging(house)
    client = house.connect(wire)
    client.say("hang")
    house.server.request_stop()
    stopping = house.start(house.server.stop())
    house.leave(client)
    house.server.request_stop()
    house.loop.run_until_idle()
    assert (stopping.is_done, cancelled) == (True, ["c1"])


def test_who_asks_twice_before_the_stop_wants_no_goodbyes(house: House, wire: str) -> None:
    house.serve(shutdown_timeout=60)
    client = house.connect(wire)
    house.server.request_stop()
    house.server.request_stop()
    began_at = house.loop.now
    house.loop.run(house.server.stop())
    assert client.stream.is_cut
    assert house.loop.now - began_at <= 0.5


@pytest.mark.parametrize("goes", [False, True])
def test_the_end_of_a_client_is_handled_although_what_stands_in_front_of_it_is_not(
    house: House, wire: str, goes: bool
) -> None:
    house.serve(shutdown_timeout=1, close_timeout=60)
    cancelled, gone = hanging(house), list[str]()
    house.server.on("later", lambda ctx: pytest.fail("it stood behind a handler that was cancelled"))

    @house.server.on_disconnect
    async def leave(ctx: Context) -> None:
        await house.loop.sleep(0.01)
        gone.append(ctx.id)

    client = house.connect(wire)
    client.say("hang")
    client.say("later")
    if goes:
        house.leave(client)
    house.loop.run(house.server.stop())
    assert (cancelled, gone) == (["c1"], ["c1"])


def test_a_handler_that_is_cancelled_behind_its_client_leaves_the_rest_to_the_others(
    house: House, wire: str
) -> None:
    house.serve()
    log: list[object] = []

    @house.server.on("fail")
    async def fail(ctx: Context) -> None:
        await house.loop.sleep(1)
        raise Cancelled  # because it awaited a task that somebody cancelled

    house.server.on("later", lambda ctx: log.append(ctx.data))
    house.server.on_disconnect(lambda ctx: log.append("gone"))
    client = house.connect(wire)
    client.say("fail")
    client.say("later", 1)
    client.stream.reset()
    house.loop.advance(1)
    assert log == [1, "gone"]


def test_a_handler_that_is_cancelled_alone_holds_up_nothing_and_is_answered_and_reported(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = house.serve()

    @server.on("fail")
    async def fail(ctx: Context) -> None:
        await house.loop.sleep(1)
        raise Cancelled  # as above

    @server.on_ack("answered")
    async def answer_first(ctx: Context) -> None:
        ctx.ack("b", 1)
        await fail(ctx)

    server.on_ack("failed", fail)
    server.on_ack("later", lambda ctx: "here")
    client = house.connect(wire)
    client.say("fail")
    client.stream.send(client.request("a", "failed") + client.request("b", "answered"))
    client.stream.send(client.request("c", "later"))
    house.loop.advance(3)
    assert client.heard() == [
        ("error", "a", "HANDLER_ERROR", "the handler failed", None),
        ("answer", "b", 1, None),
        ("answer", "c", "here", None),
    ]
    assert [type(error) for error in raised(caplog.records)] == [Cancelled] * 3
    assert [record.__dict__["event"] for record in caplog.records] == ["fail", "failed", "answered"]
    assert "handler " in caplog.messages[0]
    assert caplog.messages[0].endswith(".fail was cancelled")


def test_a_handler_that_a_loop_leaves_behind_answers_nothing_when_it_is_thrown_away(
    house: House, wire: str
) -> None:
    house.serve()

    @house.server.on_ack("leave")
    async def leave(ctx: Context) -> None:
        raise GeneratorExit  # what is raised where such a coroutine stands

    client = house.connect(wire)
    with pytest.raises(GeneratorExit):
        client.stream.send(client.request("a", "leave"))
    assert client.heard() == []


# --- Callbacks ----------------------------------------------------------------------------------------------


def test_callbacks_come_behind_the_last_client_in_order_each_time(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(shutdown_timeout=5)
    log: list[str] = []
    house.server.on_disconnect(lambda ctx: log.append("gone"))

    @house.server.on_shutdown
    async def slow() -> None:
        await house.loop.sleep(4)
        log.append("slow")
        raise ZeroDivisionError

    @house.server.on_shutdown
    def plain() -> None:
        log.append("plain")
        raise SystemExit

    house.server.on_shutdown(lambda: log.append("last"))
    for _ in range(2):
        client = house.connect(wire)
        stopping = house.start(house.server.stop())
        assert log == []
        house.leave(client)
        house.loop.advance(4)
        assert stopping.is_done
        assert log == ["gone", "slow", "plain", "last"]
        log.clear()
        house.server.start_now()
    assert caplog.text.count("of on_shutdown raised") == 4
    with pytest.raises(TypeError, match="a handler is a function, not str"):
        house.server.on_shutdown("close")  # type: ignore[type-var]  # that is the point


def test_callbacks_that_do_not_end_are_cancelled(house: House) -> None:
    house.serve(shutdown_timeout=1)
    log: list[str] = []

    @house.server.on_shutdown
    async def hang() -> None:
        try:
            await VirtualEvent().wait()
        except Cancelled:
            log.append("cancelled")
            raise

    house.server.on_shutdown(lambda: pytest.fail("the one before it has not ended"))
    began_at = house.loop.now
    house.loop.run(house.server.stop())
    assert log == ["cancelled"]
    assert house.loop.now - began_at <= 1.5
    assert house.loop.tasks == []


# --- Stopping what starts -----------------------------------------------------------------------------------


def test_a_start_that_is_overtaken_by_a_stop_fails_and_listens_to_nothing(house: House) -> None:
    class Slow(VirtualServer):
        free = VirtualEvent()

        async def _listen(self, place: Place) -> int:
            if place.kind == "tcp":
                runtime = self.runtime
                await self.free.wait()
                self._demand_starting(runtime)
            return await super()._listen(place)

    server = Slow(house.network)
    server.free = VirtualEvent()
    starting = house.start(server.start())
    house.loop.run(server.stop())
    server.free.set()
    second = house.serve()  # on the same ports
    assert isinstance(starting.error, StateError)
    assert "stopped while it was starting" in str(starting.error)
    assert (second.get_port(), second.get_tcp_port()) == (3000, 3001)
    assert CLIENTS["ws"](second.connect("ws")).open().id == "c1"


# --- Accepting ----------------------------------------------------------------------------------------------


def test_what_went_away_before_it_was_accepted_costs_no_time(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    assert house.serve().accept_failed(ConnectionAbortedError(errno.ECONNABORTED, "gone")) == 0
    assert caplog.messages == []


def test_too_many_open_files_are_waited_for_and_reported_now_and_then(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    server = house.serve()
    for _ in range(3):
        assert server.accept_failed(OSError(errno.EMFILE, "Too many open files")) == 0.1
        house.loop.advance(5)
    assert (
        caplog.messages
        == ["connections have to wait, they cannot be accepted: [Errno 24] Too many open files"] * 2
    )


# --- Places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 0}, "on 127.0.0.1:0,"),
        ({"host": "::1", "port": 1}, "on [::1]:1,"),
        ({"unix_path": "/run/s"}, "on unix:/run/s,"),
        ({"sock": FakeSocket()}, "on the given socket,"),
    ],
)
def test_a_server_shows_where_it_listens(house: House, options: dict[str, object], words: str) -> None:
    assert words in repr(VirtualServer(house.network, **options))


def test_the_places_come_from_the_options(house: House) -> None:
    sock = FakeSocket()
    for options, places in (
        ({}, [("ws", "127.0.0.1", 3000, None, None), ("tcp", "127.0.0.1", 3001, None, None)]),
        ({"tcp_port": None}, [("ws", "127.0.0.1", 3000, None, None)]),
        ({"unix_path": "s"}, [("ws", None, None, "s", None), ("tcp", "127.0.0.1", 3001, None, None)]),
        (
            {"sock": sock, "tcp_port": None, "tcp_sock": sock},
            [("ws", None, None, None, sock), ("tcp", None, None, None, sock)],
        ),
    ):
        assert list(VirtualServer(house.network, **options)._places()) == places


def test_a_tracker_that_is_told_of_the_last_client_is_waited_for_a_moment(house: House, wire: str) -> None:
    class Slow:
        def check(self, ip: str) -> bool:
            return True

        def add(self, ip: str) -> None:
            log.append(f"add {ip}")

        async def remove(self, ip: str) -> None:
            await house.loop.sleep(0.22)
            log.append(f"remove {ip}")

        def get_count(self, ip: str) -> int:
            return 0

        def cleanup(self) -> None:
            pass

    log: list[str] = []
    house.serve(shutdown_timeout=0.0, ip_tracker=Slow())
    house.connect(wire)
    house.loop.run(house.server.stop())
    assert log == ["add 192.0.2.1", "remove 192.0.2.1"]


def test_a_loop_that_stood_still_drops_no_client(house: House, wire: str) -> None:
    server = house.serve(heartbeat_interval=10, heartbeat_timeout=5)
    house.connect(wire)
    house.loop.advance(10)  # it is asked for a sign of life
    house.loop.now += 100
    house.loop.advance(0)
    assert server.get_clients() == ["c1"]
    house.loop.advance(5)
    assert server.get_clients() == []

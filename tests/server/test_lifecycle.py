"""Starting, serving and stopping, whatever listens."""

from __future__ import annotations

import pytest

from stelar_proto.channel import Place
from stelar_proto.errors import StateError
from stelar_proto.server import Context
from tests.server.house import House
from tests.support.memory import VirtualServer
from tests.support.virtual import Cancelled, VirtualEvent, VirtualRuntime


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

<<<<<<< HEAD
    async def _listen(self, kind: str, host: str, port: int) -> int:
        if kind == "tcp":
            await self.free.wait()
=======
    async def _listen(self, place: Place) -> int:
        if place.kind == "tcp":
            await self.gate.wait()
>>>>>>> d9c8c29 (Runtimes stand on one package for what they ask of the system; the accept loop, the addresses and the stop are rules of the pure layer (work in progress))
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


def test_handlers_that_do_not_end_are_cancelled_by_the_stop(house: House, wire: str) -> None:
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

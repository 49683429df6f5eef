"""Starting, serving and stopping, in the order that holds on every event loop."""

from __future__ import annotations

import pytest

from stelar_proto.errors import StateError
from tests.support.memory import VirtualNetwork, VirtualServer
from tests.support.virtual import Cancelled, VirtualLoop


@pytest.fixture
def network() -> VirtualNetwork:
    return VirtualNetwork(VirtualLoop())


def test_a_server_knows_its_ports_while_it_runs(network: VirtualNetwork) -> None:
    server = VirtualServer(network, port=80, tcp_port=81)

    async def main() -> None:
        async with server:
            assert (server.get_port(), server.get_tcp_port()) == (80, 81)

    network.loop.run(main())
    assert server.get_tcp_port() is None
    with pytest.raises(StateError, match="start it first"):
        server.get_port()


def test_the_tcp_port_is_a_choice(network: VirtualNetwork) -> None:
    server = VirtualServer(network, port=80, tcp_port=None)
    assert network.loop.run(server.start()) == 80
    assert server.get_tcp_port() is None


def test_a_server_that_runs_cannot_be_started(network: VirtualNetwork) -> None:
    server = VirtualServer(network)
    server.start_now()
    with pytest.raises(StateError, match="running already"):
        server.start_now()
    assert server.get_port() == 3000


def test_a_port_that_cannot_be_had_leaves_nothing_behind(network: VirtualNetwork) -> None:
    first, second = VirtualServer(network, port=1, tcp_port=2), VirtualServer(network, port=3, tcp_port=2)
    first.start_now()
    with pytest.raises(AssertionError):  # the virtual network's word for a port in use
        second.start_now()
    assert second.get_tcp_port() is None
    network.loop.run(first.stop())
    second.start_now()
    assert second.get_tcp_port() == 2


def test_whoever_stops_a_stopping_server_waits_for_the_same_end(network: VirtualNetwork) -> None:
    server = VirtualServer(network, shutdown_timeout=5, close_timeout=60)
    server.start_now()
    server.connect("tcp")  # and it never goes
    stops = [network.loop.start(server.stop()) for _ in range(3)]
    network.loop.advance(4.9)
    assert not any(stop.is_done for stop in stops)
    network.loop.advance(0.2)
    assert all(stop.is_done for stop in stops)
    assert network.loop.run(server.stop()) is None


def test_a_stop_that_is_cancelled_cuts_everybody_at_once(network: VirtualNetwork) -> None:
    server = VirtualServer(network, shutdown_timeout=60)
    server.start_now()
    stream = server.connect("tcp")
    stopping = network.loop.start(server.stop())
    network.loop.run_until_idle()
    assert not stream.is_cut
    stopping.cancel()
    network.loop.run_until_idle()
    assert stopping.is_done
    assert isinstance(stopping.error, Cancelled)
    assert stream.is_cut
    server.start_now()


def test_a_request_to_stop_ends_serving_and_the_second_one_cuts(network: VirtualNetwork) -> None:
    server = VirtualServer(network, shutdown_timeout=60)
    server.request_stop()  # nothing runs yet, and nothing remembers it
    server.start_now()
    stream = server.connect("tcp")

    async def serve() -> None:
        await server._serve_until_stopped()
        await server.stop()

    serving = network.loop.start(serve())
    network.loop.run_until_idle()
    assert not serving.is_done
    server.request_stop()
    network.loop.run_until_idle()
    assert not serving.is_done
    assert not stream.is_cut
    server.request_stop()
    network.loop.run_until_idle()
    assert serving.is_done
    assert stream.is_cut


def test_what_never_ran_has_nothing_to_wait_for(network: VirtualNetwork) -> None:
    network.loop.run(VirtualServer(network)._serve_until_stopped())
    network.loop.run(VirtualServer(network).stop())

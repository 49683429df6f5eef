"""Being connected: the states, the end, and connecting again."""

from __future__ import annotations

import pytest

from stelar_proto.errors import (
    PeerTimeout,
    StateError,
)
from tests.client.house import House
from tests.support.memory import VirtualServer


def test_the_state_tells_where_the_connection_stands(house: House) -> None:
    client = house.client()
    states = []

    def note() -> None:
        states.append((client.get_state(), client.is_connected(), client.get_id()))

    note()
    connecting, server = house.dial(client)
    note()
    server.open()
    connecting.result()
    note()
    house.start(client.disconnect())
    note()
    server.stream.send(server.bye())
    server.stream.end()
    note()
    assert states == [
        ("disconnected", False, None),
        ("connecting", False, None),
        ("connected", True, "me"),
        ("disconnected", False, "me"),
        ("disconnected", False, None),
    ]
    assert client.get_url() == house.url
    assert repr(client) == f"<VirtualClient {house.url} disconnected>"


def test_a_client_talks_to_a_server_of_the_same_house(house: House) -> None:
    house.network.stop_listening(3000)
    port, tcp_port = (3000, 3001) if house.wire == "ws" else (3001, 3000)
    server = VirtualServer(house.network, port=port, tcp_port=tcp_port, subprotocols=["v1"])
    server.on("x", lambda ctx: ctx.emit("y", ctx.data))
    server.on_ack("sum", lambda ctx: sum(ctx.data))
    server.start_now()

    async def talk() -> None:
        async with house.client(subprotocols=["v2", "v1"]) as client:
            assert client.subprotocol == ("v1" if house.wire == "ws" else None)
            client.on("y", house.note("y"))
            client.on_all(house.note("all"))
            client.emit("x", 1)
            client.join_room("hall")
            assert await client.request("sum", [1, 2]) == 3
            assert client.get_id() == server.get_clients()[0]
            assert (client.get_messages_sent(), client.get_messages_received()) == (3, 3)

    house.loop.run(talk())
    assert house.client().subprotocol is None
    assert house.log == [("y", 1), ("all", "y", 1), ("all", "joined-room", "hall")]
    house.loop.run(server.stop())


def test_the_counters_are_those_of_all_connections(house: House) -> None:
    client = house.client()
    assert (client.get_messages_sent(), client.get_messages_received()) == (0, 0)
    server = house.connect(client)
    client.emit("x")
    server.stream.send(server.event("y"))
    server.stream.reset()
    assert (client.get_messages_sent(), client.get_messages_received()) == (1, 1)
    server = house.connect(client)
    assert (client.get_messages_sent(), client.get_messages_received()) == (1, 1)
    client.emit("x")
    assert (client.get_messages_sent(), client.get_messages_received()) == (2, 1)


def test_what_was_sent_leaves_in_front_of_the_goodbye(house: House) -> None:
    client, server = house.pair()
    client.emit("last", "words")
    leaving = house.start(client.disconnect())
    heard = server.heard()
    assert heard[0] == ("event", "last", "words")
    assert heard[1:] == ([("closed", 1000, "")] if house.wire == "ws" else [])
    assert server.stream.has_ended == (house.wire == "tcp")
    assert not leaving.is_done
    if house.wire == "ws":
        server.stream.send(b"\x88\x02\x03\xe8")
        assert not server.stream.has_ended  # the server ends its stream first
    server.stream.end()
    assert leaving.is_done


def test_a_server_that_does_not_agree_to_the_end_is_left(house: House) -> None:
    client, server = house.pair(close_timeout=3)
    leaving = [house.loop.start(client.disconnect()) for _ in range(2)]
    house.loop.advance(2.9)
    assert not server.stream.is_cut
    house.loop.advance(0.1)
    assert server.stream.is_cut
    assert all(task.is_done for task in leaving)


def test_without_a_connection_there_is_nothing_to_end(house: House) -> None:
    client = house.client()
    house.loop.run(client.disconnect())
    house.loop.run(client.wait_closed())
    with pytest.raises(StateError, match="await connect"):
        _ = client.runtime


def test_wait_closed_waits_for_the_end(house: House) -> None:
    client, server = house.pair()
    waiting = house.start(client.wait_closed())
    assert not waiting.is_done
    server.stream.reset()
    assert waiting.is_done
    assert client.virtual_runtime.deadline is None
    assert len(client._deadlines) == 0


def test_wait_closed_waits_for_the_socket_of_a_connection_that_has_ended(house: House) -> None:
    client, server = house.pair()
    server.stream.send(server.bye())
    assert client.get_state() == "disconnected"
    waiting = house.start(client.wait_closed())
    assert not waiting.is_done
    server.stream.end()
    assert waiting.is_done


def test_a_silent_server_is_noticed(house: House) -> None:
    client, _ = house.pair(heartbeat_interval=10, heartbeat_timeout=20)
    client.on("disconnect", house.note("disconnect"))
    house.loop.advance(29.9)
    assert client.is_connected()
    house.loop.advance(0.1)
    assert house.log == [("disconnect", 1011, "Heartbeat timeout")]
    assert isinstance(client.get_last_error(), PeerTimeout)


def test_connecting_again_after_the_end(house: House) -> None:
    client, server = house.pair()
    server.stream.reset()
    server = house.connect(client)
    server.stream.send(server.event("x"))
    assert client.get_messages_received() == 1


def test_connecting_again_waits_until_the_last_connection_is_gone(house: House) -> None:
    """Its session has ended, its socket not quite: a handler may connect again at once."""
    client, server = house.pair()

    @client.once("disconnect")
    async def connect_again(code: int, reason: str) -> None:
        await client.connect()
        house.log.append(client.get_state())

    server.stream.send(server.bye())
    assert (client.get_state(), len(house.streams)) == ("connecting", 1)
    server.stream.end()
    assert (client.get_state(), len(house.streams)) == ("connecting", 2)
    type(server)(house.streams[1]).open()
    assert house.log == ["connected"]


def test_of_two_that_connect_again_one_does(house: House) -> None:
    client, server = house.pair()
    server.stream.send(server.bye())
    first, second = house.start(client.connect()), house.start(client.connect())
    server.stream.end()
    type(server)(house.streams[1]).open()
    first.result()
    with pytest.raises(StateError, match=r"the client is connecting to .* already"):
        second.result()


@pytest.mark.parametrize("moment", ["connecting", "connected", "closing"])
def test_connecting_twice_is_an_error_that_says_so(house: House, moment: str) -> None:
    client = house.client()
    if moment == "connecting":
        house.dial(client)
    else:
        house.connect(client)
    if moment == "closing":
        house.start(client.disconnect())
    words = "the client is connecting" if moment == "connecting" else "there is a connection"
    with pytest.raises(StateError, match=rf"{words} to {house.url} already: disconnect\(\) first"):
        house.loop.run(client.connect())

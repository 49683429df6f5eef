"""Rooms: entering, leaving, limits, and what is told to whom."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.server import Context
from tests.server.house import House, heard_by


@pytest.fixture(autouse=True)
def _served(house: House) -> None:
    house.serve()


def test_joining_and_leaving_is_confirmed_when_it_happened_and_only_then(house: House, wire: str) -> None:
    client = house.connect(wire)
    for action, room in [
        ("leave", "a"),
        ("join", "a"),
        ("join", "a"),
        ("join", "sala ñ ☃"),
        ("leave", "a"),
        ("leave", "a"),
    ]:
        client.stream.send(client.room(action, room))
    assert client.heard() == [
        ("event", "joined-room", "a"),
        ("event", "joined-room", "sala ñ ☃"),
        ("event", "left-room", "a"),
    ]
    assert house.server.get_rooms() == ["sala ñ ☃"]


def test_handlers_join_and_leave_for_their_client(house: House, wire: str) -> None:
    house.server.on_ack(
        "move",
        lambda ctx: [ctx.join_room("x"), ctx.join_room("x"), ctx.leave_room("x"), ctx.leave_room("x")],
    )
    client = house.connect(wire)
    client.stream.send(client.request("move", "move"))
    assert client.heard() == [
        ("event", "joined-room", "x"),
        ("event", "left-room", "x"),
        ("answer", "move", [True, False, True, False], None),
    ]


def test_a_room_is_there_from_its_first_member_to_its_last(house: House) -> None:
    clients = [house.connect(wire) for wire in ("ws", "tcp")]
    for client in clients:
        client.stream.send(client.room("join", "hall"))
    assert house.server.get_room_members("hall") == house.server.get_clients("hall") == ["c1", "c2"]
    assert house.server.get_room_members("nowhere") == []
    assert house.server.get_stats().total_rooms == 1
    clients[0].stream.send(clients[0].room("leave", "hall"))
    assert house.server.get_room_members("hall") == ["c2"]
    house.leave(clients[1])
    assert house.server.get_rooms() == []
    assert house.server.get_stats().total_rooms == 0


def test_a_message_to_a_room_reaches_its_members_on_both_wires_and_nobody_else(house: House) -> None:
    clients = [house.connect(wire) for wire in ("ws", "tcp", "ws", "tcp")]
    for client in clients[:3]:
        client.stream.send(client.room("join", "hall"))
    heard_by(*clients)
    assert house.server.to("hall", "x", 1) == 3
    assert house.server.to_binary("hall", "y", b"\2") == 3
    assert house.server.to("hall", "z", exclude_id="c1") == 2
    assert house.server.to_binary("hall", "z", b"", exclude_id="c1") == 2
    assert house.server.to("nowhere", "x") == 0
    house.loop.run_until_idle()
    both: list[Any] = [("event", "x", 1), ("binary", "y", b"\2")]
    excluded: list[Any] = [("event", "z", None), ("binary", "z", b"")]
    assert heard_by(*clients) == [both, [*both, *excluded], [*both, *excluded], []]


@pytest.mark.parametrize("room", [None, 5, "", "x" * 257])
def test_a_message_to_what_is_no_room_reaches_nobody_and_is_an_error(
    house: House, wire: str, room: Any
) -> None:
    server = house.server
    client, contexts = house.connect(wire), list[Context]()
    server.on("ctx", contexts.append)
    house.connect(wire).say("ctx")
    for sender in (server, contexts[0]):
        with pytest.raises((TypeError, ValueError), match="a room name is a"):
            sender.to(room, "news")
        with pytest.raises((TypeError, ValueError), match="a room name is a"):
            sender.to_binary(room, "news", b"")
    assert client.heard() == []


def test_a_client_in_too_many_rooms_may_not_join_another(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.serve(max_rooms_per_client=2)
    client = house.connect(wire)
    for room in "abc":
        client.stream.send(client.room("join", room))
    assert client.heard() == [("event", "joined-room", "a"), ("event", "joined-room", "b")]
    assert "c1 may not join 'c': it is in 2 rooms" in caplog.text
    said = caplog.records[-1].__dict__
    assert (said["client_id"], said["room"], said["reason"]) == ("c1", "c", "it is in 2 rooms")
    client.stream.send(client.room("leave", "a") + client.room("join", "c"))
    assert house.server.get_rooms() == ["b", "c"]
    house.close()


def test_when_there_are_too_many_rooms_only_those_that_exist_can_be_joined(
    wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    house.serve(max_rooms=2)
    first, second = house.connect(wire), house.connect(wire)
    for room in "ab":
        first.stream.send(first.room("join", room))
    for room in "cb":
        second.stream.send(second.room("join", room))
    assert second.heard() == [("event", "joined-room", "b")]
    assert "c2 may not join 'c': there are 2 rooms" in caplog.text
    house.close()


@pytest.mark.parametrize("room", ["", "x" * 257, "ñ" * 129])
def test_a_room_name_of_no_or_too_many_bytes_is_refused(house: House, wire: str, room: str) -> None:
    refused: list[str] = []

    @house.server.on("x")
    def join(ctx: Context) -> None:
        with pytest.raises(ValueError, match="1 to 256 bytes") as caught:
            ctx.join_room(room)
        refused.append(str(caught.value))

    client = house.connect(wire)
    client.say("x")
    assert len(refused) == 1
    client.stream.send(client.room("join", room))
    assert house.server.get_rooms() == []
    assert house.server.get_stats().invalid_messages == 1
    assert client.heard() == []


def test_a_room_whose_name_cannot_be_confirmed_is_not_joined(caplog: pytest.LogCaptureFixture) -> None:
    """In JSON a name may be six times as long as in the Join frame."""
    house = House()
    house.serve(max_payload_size=300)
    client = house.connect("tcp")
    client.stream.send(client.room("join", "\0" * 100))
    assert house.server.get_rooms() == []
    assert client.heard() == []
    assert house.server.get_stats().invalid_messages == 1
    assert "could not be joined" in caplog.text
    client.stream.send(client.room("join", "fine"))
    assert client.heard() == [("event", "joined-room", "fine")]
    house.close()


def test_joins_that_come_from_a_client_that_is_being_closed_do_not_count(house: House, wire: str) -> None:
    client = house.connect(wire)
    client.stream.send(client.room("join", "a"))
    house.server.disconnect("c1")
    client.stream.send(client.room("join", "b") + client.room("leave", "a"))
    assert house.server.get_rooms() == []
    assert [heard for heard in client.heard() if heard[0] == "event"] == [("event", "joined-room", "a")]


def test_joins_that_waited_until_their_client_had_gone_do_not_count(house: House, wire: str) -> None:
    house.server.on("work", lambda ctx: house.loop.sleep(1))
    client = house.connect(wire)
    client.stream.send(client.event("work") + client.room("join", "a"))
    house.leave(client)
    assert house.server.get_clients() == []
    house.loop.advance(1)
    assert house.server.get_rooms() == []


def test_who_comes_back_under_the_same_id_does_not_inherit_the_rooms_of_the_one_before(wire: str) -> None:
    house = House()
    server = house.serve(generate_client_id=lambda: "ana")
    contexts: list[Context] = []
    server.on_connection(contexts.append)
    house.leave(house.connect(wire))
    house.connect(wire)
    assert not contexts[0].join_room("hall")
    assert server.get_rooms() == []
    assert contexts[1].join_room("hall")
    assert not contexts[0].leave_room("hall")
    assert server.get_room_members("hall") == ["ana"]
    house.close()

"""Namespaces: which clients a server has where, and what they share."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.errors import MessageError
from tests.server.house import House, heard_by
from tests.support.wires import upgrade_to


def test_a_path_gives_one_namespace_and_the_server_s_own_path_gives_the_server(house: House) -> None:
    server = house.serve(namespace="/chat")
    game = server.of("/game")
    assert server.of("/game") is game
    assert server.of("/chat") is server
    assert game is not server.of("/game/") is not server.of("/")
    assert server.get_namespaces() == ["/chat", "/game", "/game/", "/"]
    assert (server.path, game.path) == ("/chat", "/game")
    house.connect("ws", "/game")
    assert repr(game) == "<Namespace '/game', 1 clients>"
    assert repr(server) == "<VirtualServer on 127.0.0.1:3000, 1 clients>"


@pytest.mark.parametrize("path", ["", "game", "/game?level=1", None, 5, b"/game"], ids=repr)
def test_what_is_no_path_gives_no_namespace(house: House, path: Any) -> None:
    server = house.serve()
    with pytest.raises(ValueError, match="a namespace is a path that begins with a slash and has no query"):
        server.of(path)
    assert server.get_namespaces() == ["/"]


def test_a_path_is_compared_decoded(house: House) -> None:
    room = house.serve().of("/sala ñ")
    house.connect("ws", "/sala%20%C3%B1")
    assert room.get_clients() == ["c1"]


def test_rooms_of_the_same_name_have_nothing_in_common(house: House) -> None:
    server = house.serve()
    game = server.of("/game")
    client, player = house.connect("tcp"), house.connect("ws", "/game")
    for who in (client, player):
        who.stream.send(who.room("join", "hall"))
    heard_by(client, player)
    assert (server.get_room_members("hall"), game.get_room_members("hall")) == (["c1"], ["c2"])
    assert server.get_stats().total_rooms == 2
    assert game.to("hall", "x", 1) == 1
    client.stream.send(client.room("leave", "hall"))
    assert heard_by(client, player) == [[("event", "left-room", "hall")], [("event", "x", 1)]]
    assert (server.get_rooms(), game.get_rooms()) == ([], ["hall"])
    player.stream.reset()
    assert game.get_rooms() == []
    assert (server.get_stats().total_rooms, server.get_stats().active_connections) == (0, 1)


def test_what_cannot_be_said_is_wrong_in_an_empty_namespace_too(house: House) -> None:
    game = house.serve().of("/game")
    with pytest.raises(MessageError, match="JSON"):
        game.broadcast("x", object())
    assert game.broadcast("x") == 0
    assert not game.disconnect("c1")


def test_an_id_that_is_taken_in_one_namespace_is_taken_in_all(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    server = house.serve(generate_client_id=lambda: "ana")
    server.of("/game")
    first = house.connect("ws", "/game")
    stream = house.stream("ws")
    stream.send(upgrade_to("/"))
    assert stream.take().startswith(b"HTTP/1.1 500 ")
    assert "'ana' is taken" in caplog.text
    first.stream.reset()
    assert house.connect("ws").id == "ana"


def test_a_stopping_server_refuses_every_path_alike(house: House) -> None:
    server = house.serve()
    house.connect("tcp")
    house.loop.start(server.stop())
    house.loop.run_until_idle()
    for path in ("/", "/game"):
        stream = house.stream("ws")
        stream.send(upgrade_to(path))
        assert stream.take().startswith(b"HTTP/1.1 503 ")

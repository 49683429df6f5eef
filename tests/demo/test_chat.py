"""The rules of the demo's chat, held against a server that is two dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stelar_proto.demo.chat import (
    MAX_LISTED_ROOMS,
    MAX_PICTURE_SIZE,
    ChatContext,
    ChatServer,
    install_chat,
)
from stelar_proto.errors import HandlerError

Sent = tuple[str, Any]
"""What a client was sent: the event, and its data or its bytes."""


class FakeServer:
    """Rooms and handlers; what a client is sent stands in its list."""

    def __init__(self) -> None:
        self.events: dict[str, Callable[..., Any]] = {}
        self.requests: dict[str, Callable[..., Any]] = {}
        self.rooms: dict[str, dict[str, FakeContext]] = {}
        self.refused_rooms: set[str] = set()

    def on(self, event: str, handler: Callable[..., Any], /) -> None:
        self.events[event] = handler

    def on_ack(self, name: str, handler: Callable[..., Any], /) -> None:
        self.requests[name] = handler

    def on_connection(self, handler: Callable[..., Any], /) -> None:
        self.connected = handler

    def on_disconnect(self, handler: Callable[..., Any], /) -> None:
        self.disconnected = handler

    def to(self, room: str, event: str, data: Any, /, exclude: str | None = None) -> None:
        for member in self.rooms.get(room, {}).values():
            if member.id != exclude:
                member.sent.append((event, data))

    def get_rooms(self) -> list[str]:
        return list(self.rooms)

    def get_room_members(self, room: str, /) -> list[str]:
        return list(self.rooms.get(room, {}))


class FakeClientInfo:
    def __init__(self) -> None:
        self.rooms: set[str] = set()


class FakeContext:
    """One client, as handlers see it, and as the tests drive it."""

    def __init__(self, server: FakeServer, client_id: str) -> None:
        self.id = client_id
        self.data: Any = None
        self.is_binary = False
        self.client_info = FakeClientInfo()
        self.sent: list[Sent] = []
        self._server = server
        server.connected(self)

    def emit(self, event: str, data: Any, /) -> None:
        self.sent.append((event, data))

    def to(self, room: str, event: str, data: Any, /) -> None:
        self._server.to(room, event, data, exclude=self.id)

    def to_binary(self, room: str, event: str, payload: bytes, /) -> None:
        self._server.to(room, event, payload, exclude=self.id)

    def join_room(self, room: str, /) -> None:
        if room not in self._server.refused_rooms:
            self.client_info.rooms.add(room)
            self._server.rooms.setdefault(room, {})[self.id] = self

    def leave_room(self, room: str, /) -> None:
        if room in self.client_info.rooms:
            self.client_info.rooms.discard(room)
            del self._server.rooms[room][self.id]
            if not self._server.rooms[room]:
                del self._server.rooms[room]

    def request(self, name: str, data: Any = None) -> Any:
        self.data, self.is_binary = data, False
        return self._server.requests[name](self)

    def enter(self, name: str, room: str) -> Any:
        return self.request("enter", {"name": name, "room": room})

    def send_picture(self, payload: Any, *, is_binary: bool = True) -> None:
        self.data, self.is_binary = payload, is_binary
        self._server.events["picture"](self)

    def vanish(self) -> None:
        for room in tuple(self.client_info.rooms):
            self.leave_room(room)
        self._server.disconnected(self)

    def take(self) -> list[Sent]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def server() -> FakeServer:
    server = FakeServer()
    install_chat(server)
    return server


@pytest.fixture
def ana(server: FakeServer) -> FakeContext:
    return _entered(server, "1", "Ana")


@pytest.fixture
def ben(server: FakeServer, ana: FakeContext) -> FakeContext:
    ben = _entered(server, "2", "Ben")
    ana.take()
    return ben


def _entered(server: FakeServer, client_id: str, name: str, room: str = "lobby") -> FakeContext:
    client = FakeContext(server, client_id)
    client.enter(name, room)
    client.take()
    return client


def _refusal(client: FakeContext, name: str, data: Any = None) -> HandlerError:
    with pytest.raises(HandlerError) as caught:
        client.request(name, data)
    return caught.value


def test_the_fakes_are_what_the_chat_asks_for(server: FakeServer) -> None:
    chat_server: ChatServer = server
    context: ChatContext = FakeContext(server, "1")
    assert (chat_server, context.id) == (server, "1")


# --- Coming and going ---------------------------------------------------------------------------------


def test_a_new_client_is_told_its_id(server: FakeServer) -> None:
    assert FakeContext(server, "7").sent == [("welcome", {"id": "7"})]


def test_entering_answers_with_the_room_and_everyone_in_it(server: FakeServer, ana: FakeContext) -> None:
    members = [{"id": "1", "name": "Ana"}, {"id": "2", "name": "Ben"}]
    assert FakeContext(server, "2").enter("Ben", "lobby") == {
        "room": "lobby",
        "you": {"id": "2", "name": "Ben"},
        "members": members,
    }
    assert ana.take() == [("presence", {"room": "lobby", "members": members})]


def test_members_are_listed_by_name_whatever_the_case(server: FakeServer, ana: FakeContext) -> None:
    _entered(server, "2", "zoe")
    answer = FakeContext(server, "3").enter("Ben", "lobby")
    assert [member["name"] for member in answer["members"]] == ["Ana", "Ben", "zoe"]


def test_spaces_around_names_are_dropped(server: FakeServer) -> None:
    answer = FakeContext(server, "1").enter("  Ana ", " lobby\n")
    assert (answer["you"]["name"], answer["room"]) == ("Ana", "lobby")


def test_entering_another_room_leaves_the_first_and_both_are_told(
    server: FakeServer, ana: FakeContext, ben: FakeContext
) -> None:
    cem = _entered(server, "3", "Cem", "garden")
    ana.take()
    ben.enter("Ben", "garden")
    assert ana.take() == [("presence", {"room": "lobby", "members": [{"id": "1", "name": "Ana"}]})]
    garden = [{"id": "2", "name": "Ben"}, {"id": "3", "name": "Cem"}]
    assert cem.take() == [("presence", {"room": "garden", "members": garden})]
    assert ben.client_info.rooms == {"garden"}


def test_entering_the_same_room_again_changes_the_name(server: FakeServer, ana: FakeContext) -> None:
    assert ana.enter("Anna", "lobby")["members"] == [{"id": "1", "name": "Anna"}]
    assert ana.client_info.rooms == {"lobby"}


def test_words_that_bring_a_name_and_a_room_enter_it_first(server: FakeServer, ana: FakeContext) -> None:
    ben = FakeContext(server, "2")
    said = {"text": "back", "name": "Ben", "room": "lobby"}
    assert ben.request("say", said) == {"seq": 1}
    assert [event for event, _ in ana.take()] == ["presence", "said"]
    assert ben.request("say", said) == {"seq": 2}
    assert [event for event, _ in ana.take()] == ["said"], "once is enough"
    assert _refusal(ben, "say", {"text": "back", "name": "", "room": "lobby"}).code == "BAD_REQUEST"


def test_who_is_refused_a_room_keeps_the_one_it_has(server: FakeServer, ana: FakeContext) -> None:
    server.refused_rooms.add("vault")
    refusal = _refusal(ana, "enter", {"name": "Ana", "room": "vault"})
    assert refusal.code == "REFUSED"
    assert "vault" in refusal.message
    assert ana.request("say", {"text": "still here"}) == {"seq": 1}


def test_those_who_stay_are_told_when_somebody_vanishes(ana: FakeContext, ben: FakeContext) -> None:
    ben.vanish()
    assert ana.take() == [("presence", {"room": "lobby", "members": [{"id": "1", "name": "Ana"}]})]


def test_a_client_that_never_entered_vanishes_without_a_word(server: FakeServer, ana: FakeContext) -> None:
    FakeContext(server, "2").vanish()
    assert ana.take() == []


def test_nothing_is_remembered_of_a_room_whose_last_member_vanished(server: FakeServer) -> None:
    ana = _entered(server, "1", "Ana")
    ana.request("say", {"text": "one"})
    ana.vanish()
    assert _entered(server, "2", "Ben").request("say", {"text": "anew"}) == {"seq": 1}


def test_a_client_that_joined_without_a_name_is_listed_as_anonymous(server: FakeServer) -> None:
    FakeContext(server, "9").join_room("lobby")
    answer = FakeContext(server, "1").enter("Zoe", "lobby")
    assert answer["members"] == [{"id": "9", "name": "anonymous"}, {"id": "1", "name": "Zoe"}]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "Ana",
        {},
        {"name": "Ana"},
        {"room": "lobby"},
        {"name": "", "room": "lobby"},
        {"name": "  ", "room": "lobby"},
        {"name": 7, "room": "lobby"},
        {"name": "Ana", "room": ["lobby"]},
        {"name": "A" * 41, "room": "lobby"},
        {"name": "Ana", "room": "r" * 61},
        {"name": "A\x1b[2J", "room": "lobby"},
        {"name": "A\nB", "room": "lobby"},
        {"name": "A\u2028B", "room": "lobby"},
        {"name": "A\u202eB", "room": "lobby"},
        {"name": "Ana", "room": "a\u2066b"},
        {"name": "\ud800", "room": "lobby"},
    ],
)
def test_a_name_or_room_that_breaks_the_rules_is_a_bad_request(server: FakeServer, data: Any) -> None:
    client = FakeContext(server, "1")
    assert _refusal(client, "enter", data).code == "BAD_REQUEST"
    assert client.client_info.rooms == set()


def test_the_longest_names_are_accepted(server: FakeServer) -> None:
    answer = FakeContext(server, "1").enter("é" * 40, "👩\u200d🚀" * 20)
    assert (len(answer["you"]["name"]), len(answer["room"])) == (40, 60)


# --- Talking ------------------------------------------------------------------------------------------


def test_what_is_said_reaches_the_others_in_the_room_and_nobody_else(
    server: FakeServer, ana: FakeContext, ben: FakeContext
) -> None:
    cem = _entered(server, "3", "Cem", "garden")
    assert ana.request("say", {"text": " hello\nyou "}) == {"seq": 1}
    said = {"id": "1", "name": "Ana", "room": "lobby", "text": " hello\nyou ", "seq": 1}
    assert ben.take() == [("said", said)]
    assert ana.take() == []
    assert cem.take() == []


def test_messages_and_pictures_of_a_room_are_numbered_together(ana: FakeContext, ben: FakeContext) -> None:
    assert ana.request("say", {"text": "one"}) == {"seq": 1}
    ben.send_picture(b"\x89PNG")
    assert ben.request("say", {"text": "three"}) == {"seq": 3}
    assert [data["seq"] for event, data in ana.take() if event != "picture"] == [2, 3]


@pytest.mark.parametrize("data", [None, "hello", {}, {"text": 1}, {"text": " \n"}, {"text": "x" * 2001}])
def test_a_text_that_breaks_the_rules_is_a_bad_request(ana: FakeContext, ben: FakeContext, data: Any) -> None:
    assert _refusal(ana, "say", data).code == "BAD_REQUEST"
    assert ben.take() == []


def test_half_a_character_is_a_bad_request_because_nobody_could_be_sent_it(ana: FakeContext) -> None:
    assert _refusal(ana, "say", {"text": "\ud83d"}).code == "BAD_REQUEST"


def test_the_longest_text_is_accepted(ana: FakeContext) -> None:
    assert ana.request("say", {"text": "x" * 2000}) == {"seq": 1}


def test_who_is_in_no_room_cannot_speak(server: FakeServer) -> None:
    assert _refusal(FakeContext(server, "1"), "say", {"text": "anyone?"}).code == "NOT_IN_ROOM"


def test_who_left_by_leave_room_alone_cannot_speak_until_it_enters_again(
    ana: FakeContext, ben: FakeContext
) -> None:
    ben.leave_room("lobby")
    assert _refusal(ben, "say", {"text": "hello?"}).code == "NOT_IN_ROOM"
    ben.enter("Ben", "lobby")
    assert ben.request("say", {"text": "hello!"}) == {"seq": 1}


# --- Pictures -----------------------------------------------------------------------------------------


def test_a_picture_reaches_the_others_announced_and_byte_for_byte(ana: FakeContext, ben: FakeContext) -> None:
    ana.send_picture(b"\x00\xffGIF8")
    about = {"id": "1", "name": "Ana", "room": "lobby", "size": 6, "seq": 1}
    assert ben.take() == [("picture-from", about), ("picture", b"\x00\xffGIF8")]
    assert ana.take() == []


def test_the_largest_picture_is_passed_on(ana: FakeContext, ben: FakeContext) -> None:
    picture = bytes(MAX_PICTURE_SIZE)
    ana.send_picture(memoryview(picture))
    assert ben.take()[1] == ("picture", picture)


@pytest.mark.parametrize(
    ("payload", "is_binary", "code"),
    [
        (bytes(MAX_PICTURE_SIZE + 1), True, "PAYLOAD_TOO_LARGE"),
        (b"", True, "BAD_REQUEST"),
        ({"url": "http://example.org"}, False, "BAD_REQUEST"),
    ],
)
def test_a_picture_that_breaks_the_rules_is_refused_to_its_sender(
    ana: FakeContext, ben: FakeContext, payload: Any, is_binary: bool, code: str
) -> None:
    ana.send_picture(payload, is_binary=is_binary)
    [(event, data)] = ana.take()
    assert (event, data["event"], data["code"]) == ("refused", "picture", code)
    assert ben.take() == []


def test_a_picture_from_outside_every_room_is_refused(server: FakeServer) -> None:
    client = FakeContext(server, "1")
    client.take()
    client.send_picture(b"\x89PNG")
    message = "You are not in a room; enter one first."
    assert client.take() == [("refused", {"event": "picture", "code": "NOT_IN_ROOM", "message": message})]


# --- Looking around -----------------------------------------------------------------------------------


def test_rooms_are_listed_fullest_first(server: FakeServer, ana: FakeContext, ben: FakeContext) -> None:
    _entered(server, "3", "Cem", "garden")
    _entered(server, "4", "Dua", "Attic")
    assert FakeContext(server, "5").request("rooms") == [
        {"room": "lobby", "members": 2},
        {"room": "Attic", "members": 1},
        {"room": "garden", "members": 1},
    ]


def test_the_list_of_rooms_is_bounded(server: FakeServer) -> None:
    for number in range(MAX_LISTED_ROOMS + 1):
        _entered(server, str(number), "Ana", f"room {number}")
    assert len(FakeContext(server, "x").request("rooms")) == MAX_LISTED_ROOMS


def test_latency_answers_null(server: FakeServer) -> None:
    assert FakeContext(server, "1").request("latency") is None

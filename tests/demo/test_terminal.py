"""The demo's chat in a terminal, driven without an event loop: nothing here ever has to wait."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from stelar_proto.demo.chat import MAX_PICTURE_SIZE
from stelar_proto.demo.terminal import ChatClient, Lines, Screen
from stelar_proto.errors import AckTimeout, ConnectionLost, RemoteError, StateError
from tests.demo.fakes import ENTERED, FakeClient, FakeLines, FakeScreen, chat, chat_json, visit

ANA = {"id": "1", "name": "Ana"}
BEN = {"id": "2", "name": "Ben"}


def test_the_fakes_are_what_the_session_asks_for() -> None:
    client: ChatClient = FakeClient()
    lines: Lines = FakeLines([])
    screen: Screen = FakeScreen()
    assert lines.__aiter__() is lines
    assert (client.is_connected(), screen.is_live) == (True, False)


# --- Entering and leaving -----------------------------------------------------------------------------


def test_the_end_of_input_leaves_politely() -> None:
    client = FakeClient()
    assert chat(client) == (0, ["* You are Ana in lobby (1 here: Ana)", "* You left."])
    assert client.asked == [("enter", {"name": "Ana", "room": "lobby"})]


def test_quit_leaves_at_once() -> None:
    client = FakeClient()
    status, written = chat(client, "/quit", "never said")
    assert (status, written[-1]) == (0, "* You left.")
    assert [event for event, _ in client.asked] == ["enter"]


def test_a_refused_name_ends_the_session_with_the_servers_words() -> None:
    with pytest.raises(RemoteError, match="too long"):
        chat(FakeClient(enter=RemoteError("BAD_REQUEST", "too long")))


def test_a_server_without_a_chat_still_takes_events_and_questions() -> None:
    client = FakeClient(enter=RemoteError("NO_HANDLER", "no handler"), sum=3)
    status, records = chat_json(client, "/request sum [1,2]", "/emit wave", "/quit")
    assert status == 0
    assert [record["type"] for record in records] == ["error", "answer", "emitted", "left"]
    assert records[0]["code"] == "NO_CHAT"


def test_a_connection_that_ends_is_told_with_its_reason_and_status_1() -> None:
    client = FakeClient()
    status, written = chat(client, client.lose, "never said")
    assert (status, written[-1]) == (1, "! The connection ended: Server shutting down (1001).")
    assert [event for event, _ in client.asked] == ["enter"]


def test_a_connection_that_ends_during_a_request_leaves_its_answer_open() -> None:
    client = FakeClient()

    def cut(_data: Any) -> Exception:
        client.lose(1006, "")
        return ConnectionLost("the connection ended")

    client.answers["say"] = cut
    status, records = chat_json(client, "hello", "never said")
    assert status == 1
    assert [record["type"] for record in records] == ["entered", "lost", "error"]
    assert records[2]["code"] == "CONNECTION_LOST"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionLost, "The connection ended before the answer; it may have been carried out."),
        (StateError, "The connection ended."),
    ],
)
def test_a_request_that_learns_first_of_the_end_says_so(error: type[Exception], words: str) -> None:
    client = FakeClient(say=error("the connection ended"))
    status, written = chat(client, "hello", lambda: client.lose(1006, ""))
    assert status == 1
    assert written[1:] == [f"! {words}", "! The connection ended: it broke off (1006)."]


def test_a_connection_that_ends_while_entering_is_told_once() -> None:
    client = FakeClient()

    def cut(_data: Any) -> Exception:
        client.lose(1011, "Heartbeat timeout")
        return ConnectionLost("the connection ended")

    client.answers["enter"] = cut
    assert chat(client, "never said") == (1, ["! The connection ended: Heartbeat timeout (1011)."])


def test_no_answer_to_entering_is_the_callers_to_tell() -> None:
    with pytest.raises(ConnectionLost):
        chat(FakeClient(enter=ConnectionLost("gone")))
    with pytest.raises(AckTimeout):
        chat(FakeClient(enter=AckTimeout("no answer")))


def test_the_end_of_the_connection_after_leaving_is_not_a_loss() -> None:
    client, screen = FakeClient(), FakeScreen()
    visit(client, screen)
    client.lose(1000, "")
    client.handlers["reconnect_failed"]()
    assert screen.lines[-1] == "* You left."


# --- What the user types ------------------------------------------------------------------------------


def test_what_is_said_is_acknowledged_with_the_time_it_took() -> None:
    client = FakeClient(say={"seq": 4})
    _, records = chat_json(client, "hello there")
    assert client.asked[1] == ("say", {"text": "hello there", "name": "Ana", "room": "lobby"})
    assert records[1] == {"type": "sent", "text": "hello there", "seq": 4, "ms": 12.5}


def test_blank_lines_are_nothing() -> None:
    client = FakeClient()
    chat(client, "", "  \n")
    assert [event for event, _ in client.asked] == ["enter"]


def test_joining_another_room_enters_it_under_the_same_name() -> None:
    garden = {"room": "garden", "you": ANA, "members": [ANA, BEN]}
    client = FakeClient(enter=lambda data: garden if data["room"] == "garden" else ENTERED)
    _, written = chat(client, "/join garden", "/who")
    assert client.asked[1] == ("enter", {"name": "Ana", "room": "garden"})
    assert written[1:3] == ["* You are Ana in garden (2 here: Ana, Ben)", "* In garden: Ana, Ben"]


def test_who_outside_every_room_says_how_to_enter_one() -> None:
    client = FakeClient(enter=RemoteError("NO_HANDLER", "no handler"))
    _, written = chat(client, "/who")
    assert written[1] == "! You are not in a room; /join ROOM enters one."


def test_rooms_ping_help_emit_and_request() -> None:
    client = FakeClient(rooms=[{"room": "lobby", "members": 1, "secret": 1}, "nonsense"], sum=3)
    _, records = chat_json(client, "/rooms", "/ping", "/help", '/emit wave {"a":1}', "/request sum [1,2]")
    assert [record["type"] for record in records[1:-1]] == ["rooms", "pong", "help", "emitted", "answer"]
    assert records[1] == {"type": "rooms", "rooms": [{"room": "lobby", "members": 1}], "ms": 12.5}
    assert records[2] == {"type": "pong", "ms": 12.5}
    assert records[5] == {"type": "answer", "event": "sum", "data": 3, "ms": 12.5}
    assert client.emitted == [("wave", {"a": 1})]


@pytest.mark.parametrize(
    ("line", "answers", "code", "message"),
    [
        ("hello", {"say": RemoteError("NOT_IN_ROOM", "enter one first")}, "NOT_IN_ROOM", "enter one first"),
        (
            "hello",
            {"say": AckTimeout("slow")},
            "TIMEOUT",
            "No answer came in time; it may have been carried out all the same.",
        ),
        ("/emit ping", {}, "RESERVED_EVENT", "Ping is reserved."),
        (
            "/dance",
            {},
            "BAD_COMMAND",
            "There is no command /dance; /help lists those there are.",
        ),
    ],
)
def test_what_goes_wrong_is_told_and_the_session_goes_on(
    line: str, answers: dict[str, Any], code: str, message: str
) -> None:
    status, records = chat_json(FakeClient(**answers), line, "/ping")
    assert records[1] == {"type": "error", "code": code, "message": message}
    assert [record["type"] for record in records[2:]] == ["pong", "left"]
    assert status == 1, "a script learns that something failed"


def test_a_failed_command_is_no_failure_for_a_person() -> None:
    assert chat(FakeClient(), "/dance")[0] == 0


def test_a_picture_is_sent_byte_for_byte_and_confirmed(tmp_path: Path) -> None:
    picture = tmp_path / "my cat.png"
    picture.write_bytes(b"\x89PNG\x00\xff")
    client = FakeClient()
    client.seconds_a_chunk = 0.0
    status, records = chat_json(client, f"/picture {picture}")
    assert status == 0
    assert client.emitted == [("picture", b"\x89PNG\x00\xff")]
    assert records[1] == {"type": "picture-sent", "size": 6, "ms": 12.5}


def test_a_long_transfer_shows_how_far_it_is_in_place_on_a_terminal(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(bytes(4096))
    client, screen = FakeClient(), FakeScreen(is_live=True)
    visit(client, screen, f"/picture {picture}")
    assert screen.updates == [
        f"  … {picture}: {done}.0 KiB of 4.0 KiB, {25 * done} %" for done in (1, 2, 3, 4)
    ]
    assert screen.lines[1] == "  ✓ picture, 4.0 KiB, 2012 ms"


def test_a_long_transfer_shows_how_far_it_is_once_a_second_elsewhere(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(bytes(4096))
    _, records = chat_json(FakeClient(), f"/picture {picture}")
    done = {"type": "progress", "path": str(picture), "total": 4096}
    assert records[1:3] == [{**done, "done": 2048}, {**done, "done": 4096}]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "There is no file"),
        (b"", "is empty."),
        (bytes(MAX_PICTURE_SIZE + 1), "is larger than 2 MiB"),
    ],
)
def test_a_picture_that_cannot_be_sent_is_not(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    picture = tmp_path / "cat.png"
    if content is not None:
        picture.write_bytes(content)
    client = FakeClient()
    _, written = chat(client, f"/picture {picture}")
    assert complaint in written[1]
    assert client.emitted == []


def test_the_largest_picture_is_sent(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(bytes(MAX_PICTURE_SIZE))
    client = FakeClient()
    chat(client, f"/picture {picture}")
    assert client.emitted == [("picture", bytes(MAX_PICTURE_SIZE))]


# --- What arrives -------------------------------------------------------------------------------------


def arrived(*messages: tuple[str, Any]) -> list[dict[str, Any]]:
    """The records shown for ``messages`` that arrive in the room."""
    client = FakeClient()

    def arrive() -> None:
        for message in messages:
            client.receive(*message)

    _, records = chat_json(client, arrive)
    return records[1:-1]


def test_what_others_say_is_shown() -> None:
    said = {"id": "2", "name": "Ben", "room": "lobby", "text": "hi", "seq": 3}
    assert arrived(("said", said)) == [{"type": "said", **said}]


def test_what_others_say_cannot_paint_on_the_terminal() -> None:
    client = FakeClient()
    said = {"id": "2", "name": "\x1b]0;x\x07", "text": "\x1b[2J"}
    _, written = chat(client, lambda: client.receive("said", said))
    assert written[1] == "<\\x1b]0;x\\x07> \\x1b[2J"


def test_presence_is_shown_as_who_entered_and_who_left() -> None:
    cem = {"id": "3", "name": "Cem"}
    assert arrived(
        ("presence", {"room": "lobby", "members": [ANA, BEN]}),
        ("presence", {"room": "lobby", "members": [ANA, BEN]}),
        ("presence", {"room": "garden", "members": [cem]}),
        ("presence", {"room": "lobby", "members": [ANA, cem]}),
    ) == [
        {"type": "presence", "room": "lobby", "entered": ["Ben"], "left": [], "members": [ANA, BEN]},
        {"type": "presence", "room": "lobby", "entered": ["Cem"], "left": ["Ben"], "members": [ANA, cem]},
    ]


def test_a_picture_is_shown_with_who_sent_it_and_its_digest() -> None:
    about = {"id": "2", "name": "Ben", "room": "lobby", "size": 3, "seq": 5}
    digest = hashlib.sha256(b"abc").hexdigest()
    assert arrived(("picture-from", about), ("picture", memoryview(b"abc")), ("picture", b"abc")) == [
        {"type": "picture", **about, "sha256": digest},
        {"type": "binary", "event": "picture", "size": 3, "sha256": digest},
    ]


def test_a_refused_picture_is_shown_and_is_a_failure() -> None:
    client = FakeClient()
    refusal = {"event": "picture", "code": "NOT_IN_ROOM", "message": "enter one first"}
    status, records = chat_json(client, lambda: client.receive("refused", refusal))
    assert (status, records[1]) == (1, {"type": "refused", **refusal})


def test_other_events_are_shown_and_what_is_known_already_is_not() -> None:
    assert arrived(
        ("welcome", {"id": "1"}),
        ("stelar:connect", {"id": "1"}),
        ("joined-room", "lobby"),
        ("left-room", "lobby"),
        ("wave", {"to": "all"}),
        ("blob", b"\x00"),
    ) == [
        {"type": "event", "event": "wave", "data": {"to": "all"}},
        {"type": "binary", "event": "blob", "size": 1, "sha256": hashlib.sha256(b"\x00").hexdigest()},
    ]


@pytest.mark.parametrize("event", ["said", "presence", "picture-from", "refused"])
def test_an_event_of_the_chat_in_another_shape_is_shown_as_it_is(event: str) -> None:
    assert arrived((event, ["odd"])) == [{"type": "event", "event": event, "data": ["odd"]}]


def test_members_in_another_shape_do_no_harm() -> None:
    odd = {"room": "lobby", "members": [ANA, "nonsense", {"id": 5}]}
    [record] = arrived(("presence", odd))
    assert record["members"] == [ANA, {"id": "5", "name": "?"}]


@pytest.mark.parametrize("answer", [None, [], {"you": 3, "members": 4}])
def test_an_answer_to_entering_in_another_shape_does_no_harm(answer: Any) -> None:
    status, written = chat(FakeClient(enter=answer))
    assert (status, written[0]) == (0, "* You are Ana in lobby (0 here: )")

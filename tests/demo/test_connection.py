"""What the user of the demo's terminal is told about the connection, and what becomes of what they say."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.errors import (
    AckTimeout,
    ConnectError,
    ConnectionLost,
    MessageDropped,
    RemoteError,
    StateError,
)
from tests.demo.fakes import ENTERED, FakeClient, FakeScreen, chat, chat_json, visit

SEAT = {"name": "Ana", "room": "lobby"}


def test_a_connection_that_comes_back_is_told_and_the_room_entered_again() -> None:
    client = FakeClient()

    def later() -> None:
        client.clock += 2.5

    status, written = chat(client, client.break_off, later, client.come_back)
    assert status == 0
    assert written[1:] == [
        "! The connection ended: it broke off (1006).",
        "* attempt 1 in 1.0 s …",
        "* Connected again after 1 attempt, 2.5 s.",
        "* You are Ana in lobby (1 here: Ana)",
        "* You left.",
    ]
    assert [event for event, _ in client.asked] == ["enter", "enter"]


def test_an_attempt_that_fails_is_told_with_its_reason_and_without_the_address() -> None:
    client = FakeClient()

    def fail() -> None:
        client.hooks["on_error"](error=ConnectError("cannot connect to ws://[::1]:3000/: connection refused"))
        client.hooks["on_reconnect_delay"](attempt=2, delay=1.5)

    _, records = chat_json(client, client.break_off, fail)
    told = [record for record in records if record["type"] == "reconnecting"]
    assert told == [
        {"type": "reconnecting", "attempt": 1, "delay": 1.0, "reason": ""},
        {"type": "reconnecting", "attempt": 2, "delay": 1.5, "reason": "connection refused"},
    ]


def test_attempts_at_the_first_connection_are_told_too() -> None:
    client, screen = FakeClient(), FakeScreen()
    visit(client, screen)
    screen.lines.clear()
    client.hooks["on_state_change"](state="reconnecting", previous="connecting")
    client.hooks["on_error"](error=ConnectError("cannot connect to ws://h: connection refused"))
    client.hooks["on_reconnect_delay"](attempt=1, delay=0.5)
    assert screen.lines == ["* connection refused; attempt 1 in 0.5 s …"]


def test_the_first_connection_is_not_one_that_came_back() -> None:
    client = FakeClient()
    assert chat(client, client.come_back) == (0, ["* You are Ana in lobby (1 here: Ana)", "* You left."])


def test_giving_up_ends_the_session_and_says_what_was_never_sent() -> None:
    client = FakeClient()

    def give_up() -> None:
        client.hooks["on_error"](error=ConnectError("cannot connect to ws://h: 404 Not Found"))
        client.handlers["reconnect_failed"]()

    status, written = chat(client, client.break_off, "hello", give_up, "never said")
    assert status == 1
    assert written[-1] == "! Given up after 1 attempt: 404 Not Found. 1 message never sent."


def test_a_connection_that_ends_while_entering_is_entered_when_it_is_back() -> None:
    client = FakeClient()

    def cut(_data: Any) -> Exception:
        client.answers["enter"] = ENTERED
        client.break_off()
        return ConnectionLost("the connection ended")

    client.answers["enter"] = cut
    _, records = chat_json(client, client.come_back)
    assert [record["type"] for record in records] == ["lost", "reconnecting", "back", "entered", "left"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteError("REFUSED", "The room is closed."), "REFUSED"),
        (AckTimeout("slow"), "TIMEOUT"),
        (ConnectionLost("gone"), "CONNECTION_LOST"),
    ],
)
def test_a_room_that_cannot_be_entered_again_is_told(error: Exception, code: str) -> None:
    client = FakeClient()

    def closed() -> None:
        client.answers["enter"] = error

    _, records = chat_json(client, client.break_off, closed, client.come_back)
    assert [record.get("code") for record in records if record["type"] == "error"] == [code]


def test_without_a_chat_nothing_is_entered_again() -> None:
    client = FakeClient(enter=RemoteError("NO_HANDLER", "no handler"))
    _, records = chat_json(client, client.break_off, "hello", client.come_back)
    assert client.asked == [("enter", {"name": "Ana", "room": "lobby"})]
    assert client.emitted == [("say", {"text": "hello"})]
    assert records[-2]["type"] == "back"


def test_who_was_here_before_is_not_compared_with_who_is_there_after() -> None:
    client = FakeClient()

    def others_enter_first() -> None:
        client.answers["enter"] = RemoteError("RATE_LIMITED", "too fast")
        client.come_back()
        client.receive("presence", {"room": "lobby", "members": [{"id": "9", "name": "Ben"}]})

    _, records = chat_json(client, client.break_off, others_enter_first)
    assert "presence" not in [record["type"] for record in records]


# --- What waits -----------------------------------------------------------------------------------------


def test_what_is_said_without_a_connection_waits_and_is_confirmed_when_it_is_back() -> None:
    client = FakeClient()

    def answer() -> None:
        client.clock += 2.0
        client.said({"seq": 5})

    steps = (client.break_off, "hello", "/emit wave 1", "again", client.come_back, answer, answer)
    status, records = chat_json(client, *steps[:3], steps[4], *steps[5:])
    assert status == 0
    assert client.emitted == [("say", {"text": "hello", **SEAT}), ("wave", 1)]
    assert [record for record in records if record["type"] in ("queued", "drained", "sent")] == [
        {"type": "queued", "event": "say", "text": "hello", "waiting": 1},
        {"type": "queued", "event": "wave", "text": None, "waiting": 2},
        {"type": "drained", "count": 2},
        {"type": "sent", "text": "hello", "seq": 5, "ms": 2012.5, "queued": True},
    ]


def test_an_answer_may_come_before_it_is_told_that_all_is_sent() -> None:
    client = FakeClient()

    def send_and_answer() -> None:
        client.state = "connected"
        client.waiting.clear()
        client.said(None)

    _, records = chat_json(client, client.break_off, "/emit wave", "hello", send_and_answer)
    assert [record["text"] for record in records if record["type"] == "sent"] == ["hello"]
    assert records[-1] == {"type": "left"}


def test_what_is_too_much_is_dropped_from_the_oldest_on_and_told() -> None:
    client = FakeClient()
    status, written = chat(client, client.break_off, "one", "two", "three")
    assert "! Never sent, because more than 2 waited: one" in written
    assert (status, written[-1]) == (1, "* You left; 2 messages never sent.")


def test_messages_that_the_connection_took_with_it_are_told_by_their_number() -> None:
    client = FakeClient()
    lost = MessageDropped("the connection ended before they left", count=3)
    _, written = chat(client, lambda: client.hooks["on_error"](error=lost))
    assert written[1] == "! 3 messages never sent: the connection ended before they left"


def test_what_was_sent_and_never_answered_is_told_when_the_connection_ends() -> None:
    client = FakeClient()
    steps = (client.break_off, "hello", "/emit wave", client.come_back, client.break_off, client.come_back)
    status, records = chat_json(client, *steps)
    errors = [record for record in records if record["type"] == "error"]
    assert errors == [{"type": "error", "code": "NOT_CONFIRMED", "message": "Sent and not confirmed: hello"}]
    assert status == 1


def test_an_event_that_was_sent_before_the_connection_ended_again_is_no_failure() -> None:
    client = FakeClient()

    def send_one_and_break_off() -> None:
        client.emitted.append(client.waiting.pop(0))
        client.break_off()

    steps = (client.break_off, "/emit wave", "hello", send_one_and_break_off, client.come_back)
    status, records = chat_json(client, *steps)
    assert client.emitted == [("wave", None), ("say", {"text": "hello", **SEAT})]
    assert (status, records[-1]) == (0, {"type": "left"})


def test_words_that_the_server_refuses_after_they_waited_are_told() -> None:
    client = FakeClient()

    def refuse() -> None:
        client.handlers["error"](ConnectError("not about words"))
        client.handlers["error"](RemoteError("BAD_REQUEST", "Say something."))
        client.handlers["error"](RemoteError("BAD_REQUEST", "a late answer to something else"))
        client.said({"seq": 1})

    _, records = chat_json(client, client.break_off, "hello", client.come_back, refuse)
    assert [record["message"] for record in records if record["type"] == "error"] == ["Say something."]
    assert "sent" not in [record["type"] for record in records]


@pytest.mark.parametrize("line", ["/rooms", "/join garden", "/request sum [1]", "/ping", "/picture {}"])
def test_what_needs_an_answer_needs_a_connection(line: str, tmp_path: Any) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"x")
    refusal = StateError("words for programmers")
    client = FakeClient(rooms=refusal, sum=refusal)

    def no_connection() -> None:
        client.break_off()
        client.answers.update(enter=refusal, latency=refusal)

    status, records = chat_json(client, no_connection, line.format(picture))
    assert records[-2] == {
        "type": "error",
        "code": "NOT_CONNECTED",
        "message": "There is no connection just now; try again when it is back.",
    }
    assert (status, client.emitted) == (1, [])


def test_the_status_tells_how_the_connection_stands() -> None:
    client = FakeClient()
    _, records = chat_json(client, "/status", client.break_off, "hello", "/status")
    status = {"type": "status", "url": "ws://localhost:3000/", "sent": 7, "received": 9, "dropped": 0}
    assert [record for record in records if record["type"] == "status"] == [
        {**status, "state": "connected", "id": "1", "waiting": 0},
        {**status, "state": "reconnecting", "id": None, "waiting": 1},
    ]

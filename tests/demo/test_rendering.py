"""The lines of the demo's terminal: readable ones, and JSON; and what hostile text becomes in them."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.demo.rendering import render, render_json, visible

MEMBERS = [{"id": "1", "name": "Ana"}, {"id": "2", "name": "Ben"}]


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("over\rwritten", "over\\x0dwritten"),
        ("two\nlines", "two\\x0alines"),
        ("back\x08\x7fspace", "back\\x08\\x7fspace"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("a\u200b\ufeffb", "a\\u200b\\ufeffb"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_spelled_out(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


@pytest.mark.parametrize(
    "text", ["", "plain", "José", "日本語", "שלום", "👩\u200d🚀", "\u0645\u06cc\u200c\u062e\u0648"]
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_other_values_are_shown_as_text() -> None:
    assert visible(None) == "None"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_visible_makes_is_a_control_character(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    shown.encode()


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            {"type": "connected", "url": "ws://h:1", "id": "7"},
            "* Connected to ws://h:1; /help lists what can be typed.",
        ),
        (
            {"type": "entered", "room": "lobby", "id": "1", "name": "Ana", "members": MEMBERS, "ms": 1.0},
            "* You are Ana in lobby (2 here: Ana, Ben)",
        ),
        ({"type": "said", "name": "Ben", "text": "hello"}, "<Ben> hello"),
        ({"type": "said", "name": "B\x1b", "text": "a\n* Ana left\n"}, "<B\\x1b> a\n  ┆ * Ana left\n  ┆ "),
        ({"type": "sent", "text": "hi", "seq": 4, "ms": 1.234}, "  ✓ 1.2 ms"),
        ({"type": "sent", "text": "hi", "seq": 4, "ms": 123.4}, "  ✓ 123 ms"),
        (
            {"type": "presence", "room": "lobby", "entered": ["Ben"], "left": ["Cem"], "members": MEMBERS},
            "* Ben entered, Cem left (2 here)",
        ),
        ({"type": "picture", "name": "Ben", "size": 1023}, "<Ben> sent a picture, 1023 bytes"),
        ({"type": "picture", "name": "Ben", "size": 1536}, "<Ben> sent a picture, 1.5 KiB"),
        ({"type": "picture-sent", "size": 1572864, "ms": 12}, "  ✓ picture, 1.5 MiB, 12 ms"),
        ({"type": "refused", "message": "The picture is empty."}, "! Not passed on: The picture is empty."),
        (
            {"type": "rooms", "rooms": [{"room": "lobby", "members": 2}, {"room": "a\tb", "members": 1}]},
            "* Rooms:\n  lobby  2\n  a\\x09b  1",
        ),
        ({"type": "rooms", "rooms": []}, "* No rooms."),
        ({"type": "who", "room": "lobby", "members": MEMBERS}, "* In lobby: Ana, Ben"),
        ({"type": "pong", "ms": 0.34}, "* 0.3 ms"),
        ({"type": "emitted", "event": "wave"}, "  ✓ emitted wave"),
        ({"type": "answer", "event": "sum", "data": {"n": 3, "é": "\x1b"}, "ms": 10.0}, None),
        ({"type": "error", "code": "X", "message": "no\x1b[m"}, "! no\\x1b[m"),
        ({"type": "event", "event": "wave", "data": ["\u202e"]}, '~ wave ["\\u202e"]'),
        ({"type": "binary", "event": "blob", "size": 3}, "~ blob, binary, 3 bytes"),
        ({"type": "help", "text": "  a\n  b"}, "  a\n  b"),
        ({"type": "left"}, "* You left."),
        ({"type": "lost", "code": 1001, "reason": "bye\x07"}, "! The connection ended: bye\\x07 (1001)."),
        ({"type": "lost", "code": 1006, "reason": ""}, "! The connection ended: it broke off (1006)."),
        ({"type": "lost", "code": 4711, "reason": ""}, "! The connection ended: it gave no reason (4711)."),
        (
            {"type": "reconnecting", "attempt": 2, "delay": 1.234, "reason": "connection\x1b refused"},
            "* connection\\x1b refused; attempt 2 in 1.2 s …",
        ),
        ({"type": "reconnecting", "attempt": 1, "delay": 12.34, "reason": ""}, "* attempt 1 in 12 s …"),
        ({"type": "back", "attempts": 1, "seconds": 0.52}, "* Connected again after 1 attempt, 0.5 s."),
        (
            {"type": "given-up", "attempts": 2, "reason": "404", "unsent": 1},
            "! Given up after 2 attempts: 404. 1 message never sent.",
        ),
        ({"type": "given-up", "attempts": 2, "reason": "", "unsent": 0}, "! Given up after 2 attempts."),
        (
            {"type": "queued", "event": "say", "text": "hi", "waiting": 2},
            "  … no connection: it waits (2 messages waiting)",
        ),
        ({"type": "drained", "count": 2}, "* 2 messages that waited: sent"),
        (
            {"type": "sent", "text": "a\nb\x1b", "seq": 1, "ms": 2345.6, "queued": True},
            "  ✓ a\n  ┆ b\\x1b (after 2.3 s)",
        ),
        (
            {"type": "dropped", "event": "say", "text": "hi\x1b", "count": 1, "reason": "too many"},
            "! Never sent, because too many: hi\\x1b",
        ),
        (
            {"type": "dropped", "event": None, "text": None, "count": 3, "reason": "it ended"},
            "! 3 messages never sent: it ended",
        ),
        (
            {"type": "progress", "path": "a\x1b.png", "done": 512, "total": 2048},
            "  … a\\x1b.png: 512 bytes of 2.0 KiB, 25 %",
        ),
        (
            {
                "type": "status",
                "state": "connected",
                "url": "ws://h",
                "id": "7",
                "sent": 1,
                "received": 2,
                "waiting": 3,
                "dropped": 4,
            },
            "* connected, ws://h as 7\n  messages: 1 sent, 2 received, 3 waiting, 4 dropped",
        ),
        ({"type": "left", "unsent": 2}, "* You left; 2 messages never sent."),
        ({"type": "novelty", "x": "\x1b"}, '{"type":"novelty","x":"\\u001b"}'),
    ],
)
def test_each_record_has_its_readable_line(record: dict[str, Any], line: str | None) -> None:
    assert render(record) == (line if line is not None else '= {"n": 3, "é": "\\u001b"}  10 ms')


def test_json_is_one_ascii_line_that_reads_back_the_same() -> None:
    record = {"type": "said", "text": "a\n\x1b\u202e\ud800é"}
    line = render_json(record)
    assert line == '{"type":"said","text":"a\\n\\u001b\\u202e\\ud800\\u00e9"}'
    assert json.loads(line) == record


def test_a_number_that_json_cannot_say_is_said_in_words() -> None:
    line = render_json({"type": "event", "event": "far", "data": [1e999]})
    assert line == '{"type":"event","event":"far","data":"[inf]"}'

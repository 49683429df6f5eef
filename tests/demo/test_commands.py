"""What can be typed into the demo's terminal, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.demo.commands import (
    HELP,
    Command,
    CommandError,
    Emit,
    Help,
    JoinRoom,
    ListRooms,
    Ping,
    Quit,
    Request,
    Say,
    SendPicture,
    Status,
    Who,
    parse_line,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("hello", Say("hello")),
        ("  hello there \r\n", Say("hello there")),
        ("1/2", Say("1/2")),
        ("//join is a command", Say("/join is a command")),
        ("/join garden of paths", JoinRoom("garden of paths")),
        ("/join\tgarden", JoinRoom("garden")),
        ("/rooms", ListRooms()),
        (" /who \n", Who()),
        ("/ping", Ping()),
        ("/status", Status()),
        ("/help", Help()),
        ("/quit", Quit()),
        ("/picture my cat.png", SendPicture("my cat.png")),
        ("/emit wave", Emit("wave", None)),
        ('/emit wave  {"to": "all"}', Emit("wave", {"to": "all"})),
        ("/request sum [1,2]", Request("sum", [1, 2])),
        ('/request echo "a b"', Request("echo", "a b")),
        ("/request echo null", Request("echo", None)),
    ],
)
def test_a_line_means_its_command(line: str, command: Command) -> None:
    assert parse_line(line) == command


@pytest.mark.parametrize("line", ["", " ", "\n", "\t\r\n"])
def test_a_blank_line_means_nothing(line: str) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/dance", "There is no command /dance; /help lists those there are."),
        ("/", "There is no command /; /help lists those there are."),
        ("/JOIN x", "There is no command /JOIN; /help lists those there are."),
        ("/join", "Something is missing: /join ROOM"),
        ("/picture  ", "Something is missing: /picture PATH"),
        ("/emit", "Something is missing: /emit EVENT [JSON]"),
        ("/request", "Something is missing: /request EVENT [JSON]"),
        ("/who is it", "/who takes nothing after it."),
        (
            "/emit wave hello",
            "The data is not JSON (Expecting value: line 1 column 1 (char 0)). "
            'Text needs quotes: "like this".',
        ),
        ("/emit wave NaN", 'The data is not JSON (NaN is not JSON). Text needs quotes: "like this".'),
        ("/emit wave " + "[" * 100_000, "The data is not usable: it is nested too deeply."),
    ],
)
def test_a_line_that_is_no_command_says_what_would_be_one(line: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_line(line)
    assert str(caught.value) == message


def test_every_command_is_in_the_help() -> None:
    for command in (
        "/join",
        "/rooms",
        "/who",
        "/picture",
        "/ping",
        "/status",
        "/emit",
        "/request",
        "/help",
        "/quit",
    ):
        assert f"  {command}" in HELP


@given(st.text())
def test_text_after_two_slashes_is_said_with_one(text: str) -> None:
    assert parse_line("//" + text) == Say(("/" + text).strip())


@given(st.text(alphabet=st.sampled_from('/joinemt rqus{}[]"1 \t')))
def test_any_line_is_a_command_or_a_clear_mistake(line: str) -> None:
    try:
        command = parse_line(line)
    except CommandError:
        assert line.lstrip().startswith("/")
    else:
        assert (command is None) == (not line.strip())

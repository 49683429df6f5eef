"""Which ways of saying where to listen make sense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stelar_proto.channel.places import Place, place_problems

STREAM = SimpleNamespace(type=SimpleNamespace(name="SOCK_STREAM"))
DATAGRAM = SimpleNamespace(type=SimpleNamespace(name="SOCK_DGRAM"))


@pytest.mark.parametrize(
    "options",
    [
        {"host": None, "port": None},
        {"host": "localhost", "port": 0},
        {"host": "", "port": 65535},
        {"host": None, "port": None, "unix_path": "/run/stelar.sock"},
        {"host": None, "port": None, "unix_path": Path("stelar.sock")},
        {"host": None, "port": None, "sock": STREAM},
    ],
)
def test_one_way_is_fine(options: dict[str, Any]) -> None:
    assert place_problems(**options) == []


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({"port": -1}, ["port must be from 0 to 65535, not -1"]),
        ({"port": True}, ["port must be from 0 to 65535, not True"]),
        ({"host": 5}, ["host must be a name or an address, not 5"]),
        ({"unix_path": ""}, ["unix_path must be the path of a file, not ''"]),
        ({"unix_path": "\0abstract"}, ["unix_path must be the path of a file, not '\\x00abstract'"]),
        ({"unix_path": 5}, ["unix_path must be the path of a file, not 5"]),
        ({"sock": 5}, ["sock must be a stream socket, not 5"]),
        ({"sock": DATAGRAM}, [f"sock must be a stream socket, not {DATAGRAM!r}"]),
        ({"unix_path": "s", "port": 0}, ["unix_path says where to listen: port cannot say so too"]),
        (
            {"sock": STREAM, "unix_path": "s", "host": "::1", "port": 99999},
            [
                "sock says where to listen: unix_path and host and port cannot say so too",
                "port must be from 0 to 65535, not 99999",
            ],
        ),
        (
            {"sock": STREAM, "port": 0, "prefix": "tcp_"},
            ["tcp_sock says where to listen: tcp_port cannot say so too"],
        ),
    ],
)
def test_what_makes_no_sense_is_named(options: dict[str, Any], problems: list[str]) -> None:
    assert place_problems(**{"host": None, "port": None, **options}) == problems


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place("ws", "localhost", 3000), "localhost:3000"),
        (Place("ws", "::1", 3000), "[::1]:3000"),
        (Place("ws", unix_path=Path("/run/s")), "unix:/run/s"),
        (Place("ws", sock=STREAM), "the given socket"),
    ],
)
def test_a_place_reads_like_one(place: Place, words: str) -> None:
    assert str(place) == words

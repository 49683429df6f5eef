"""``SECURITY.md`` against the code: its limits are the defaults, and its tests exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from stelar_proto.messages import MAX_EVENT_SIZE
from stelar_proto.server import RateLimit
from stelar_proto.server.config import ServerConfig
from stelar_proto.ws.frames import MAX_CONTROL_SIZE
from stelar_proto.ws.heads import HeadLimits
from stelar_proto.ws.receiver import MAX_FRAGMENTS

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()
HEADS = HeadLimits()
FIXED = {
    "fragments of a message": MAX_FRAGMENTS,
    "request line": HEADS.max_request_line_size,
    "header line": HEADS.max_header_line_size,
    "header lines": HEADS.max_headers,
    "headers": HEADS.max_headers_size,
    "request body": 0,
    "control frame": MAX_CONTROL_SIZE,
    "names": MAX_EVENT_SIZE,
    "digits of an integer": sys.int_info.default_max_str_digits,
}
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}
# What concerns no peer, or is off unless somebody asks for it.
ELSEWHERE = {"host", "port", "tcp_port"}


def rows(section: str) -> list[list[str]]:
    table = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LIMITS = {name.strip("`"): default for name, default, *_ in rows("Limits")}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_in_the_document_is_the_default(name: str) -> None:
    value = FIXED[name] if name in FIXED else getattr(ServerConfig(), name)
    if isinstance(value, RateLimit):
        assert LIMITS[name] == f"{value.max_points} per {value.window:g} s"
    else:
        number, _, unit = LIMITS[name].partition(" ")
        assert int(number) * UNITS[unit] == value


def test_every_number_that_a_server_can_be_told_is_in_the_document() -> None:
    config = ServerConfig()
    numbers = {
        name
        for name in ServerConfig.__dataclass_fields__
        if type(getattr(config, name)) in (int, float) and name not in ELSEWHERE
    }
    assert numbers <= LIMITS.keys()


def test_every_test_that_is_named_exists() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = re.findall(r"`(test_\w+)`", TEXT)
    assert len(named) == len(rows("What an attack costs, and where that is tested"))
    assert [name for name in named if name not in there] == []


def test_the_readme_leads_to_it() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()

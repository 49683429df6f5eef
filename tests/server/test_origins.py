"""The Origin header against the option ``allowed_origins``."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.server import ServerConfig
from stelar_proto.server.origins import may_connect
from tests.server.house import House
from tests.support.wires import UPGRADE

ALLOWED = ["https://App.example", "http://localhost:8080", "https://[::1]", "null"]


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        ("https://app.example", True),
        ("HTTPS://APP.EXAMPLE", True),
        ("http://localhost:8080", True),
        ("https://[::1]", True),
        ("null", True),
        ("", False),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example/", False),
        ("https://app.example.evil.example", False),
        ("https://evil.example?https://app.example", False),
        ("http://localhost", False),
        ("https://app.example, https://app.example", False),
        ("*", False),
    ],
)
def test_an_origin_is_allowed_if_it_is_one_of_those_listed(origin: str | None, is_allowed: bool) -> None:
    assert may_connect(origin, ALLOWED) is is_allowed
    assert may_connect(origin, None)
    assert may_connect(origin, []) is (origin is None)


def test_null_is_allowed_only_by_name() -> None:
    assert not may_connect("null", ["https://app.example"])


@pytest.mark.parametrize(
    ("allowed", "problem"),
    [
        (
            "https://app.example",
            "must be a collection of origins, or None for all, not 'https://app.example'",
        ),
        (5, "must be a collection of origins, or None for all, not 5"),
        (["*"], r"an origin is scheme://host or scheme://host:port, in ASCII, or 'null', not '\*'"),
        (["app.example"], "not 'app.example'"),
        (["https://app.example/"], "not 'https://app.example/'"),
        (["https://app.example/x"], "an origin is"),
        (["https://a@app.example"], "an origin is"),
        (["https://ñ.example"], "an origin is"),
        (["https://"], "an origin is"),
        ([None], "not None"),
        (
            ["https://app.example:443"],
            "browsers leave the default port out; so must 'https://app.example:443'",
        ),
        (["http://app.example:80"], "browsers leave the default port out"),
        (["a", "b"], "not 'a'; allowed_origins: .*not 'b'"),
    ],
)
def test_what_no_browser_would_send_is_no_origin(allowed: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"allowed_origins.*{problem}"):
        ServerConfig(allowed_origins=allowed)


@pytest.mark.parametrize("allowed", [None, (), ALLOWED, {"https://a.example:80", "moz-extension://a-b-1"}])
def test_collections_of_origins_are_taken(allowed: Any) -> None:
    assert ServerConfig(allowed_origins=allowed).allowed_origins == allowed


def test_pages_of_other_origins_are_refused_in_front_of_the_upgrade(house: House) -> None:
    house.serve(allowed_origins=["https://a.example"])
    for field, status in (
        (b"Origin: https://b.example\r\n", 403),
        (b"Origin: https://A.example\r\n", 101),
        (b"", 101),
    ):
        stream = house.stream("ws")
        stream.send(UPGRADE.replace(b"Host:", field + b"Host:"))
        told = stream.take()
        assert told.startswith(b"HTTP/1.1 %d " % status)
        assert told.endswith(b"Origin not allowed\n") == (status == 403)
    house.connect("tcp")

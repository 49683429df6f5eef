"""What a server may be told."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from stelar_proto.server import ServerConfig
from stelar_proto.tcp import Dialect


def test_the_defaults_make_sense() -> None:
    config = ServerConfig()
    assert (config.host, config.port, config.tcp_port, config.namespace) == ("127.0.0.1", 3000, None, "/")
    assert (config.max_connections, config.max_rooms, config.max_rooms_per_client) == (10_000, 10_000, 50)
    assert (config.health_endpoint, config.announce_id) == ("/health", True)


async def draw_later() -> str:
    return "an id"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("port", 0),
        ("port", 65535),
        ("tcp_port", None),
        ("tcp_port", 0),
        ("health_endpoint", None),
        ("heartbeat_interval", None),
        ("shutdown_timeout", 0),
        ("inbox_limit", 1),
        ("namespace", "/game/1"),
        ("generate_client_id", lambda: "x"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[:20],
)
def test_what_makes_sense_is_taken(option: str, value: Any) -> None:
    assert getattr(ServerConfig(**{option: value}), option) == value


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("port", -1, "port must be from 0 to 65535, not -1"),
        ("port", 65536, "port must be from 0 to 65535"),
        ("port", "3000", "port must be from 0 to 65535, not '3000'"),
        ("port", True, "port must be from 0 to 65535, not True"),
        ("tcp_port", 70000, "tcp_port must be from 0 to 65535"),
        ("namespace", "chat", "namespace must be a path"),
        ("namespace", None, "namespace must be a path"),
        ("namespace", b"/", "namespace must be a path"),
        ("namespace", "/chat?x", "namespace must be a path that begins with a slash and has no query"),
        ("health_endpoint", "health", "health_endpoint must be a path"),
        ("health_endpoint", "", "health_endpoint must be a path"),
        ("max_connections", 0, "max_connections must be a positive whole number, not 0"),
        ("max_connections", 2.5, "max_connections must be a positive whole number"),
        ("max_rooms", -1, "max_rooms must be a positive whole number"),
        ("max_rooms_per_client", None, "max_rooms_per_client must be a positive whole number"),
        ("inbox_limit", True, "inbox_limit must be a positive whole number"),
        ("graceful_shutdown", 1, "graceful_shutdown must be True or False, not 1"),
        ("announce_id", "yes", "announce_id must be True or False, not 'yes'"),
        ("tcp_host", "::1", "tcp_host needs a tcp_port: without one there is no TCP"),
        ("shutdown_timeout", True, "shutdown_timeout must be 0 or more seconds, not True"),
        ("shutdown_timeout", -1, "shutdown_timeout must be 0 or more seconds, not -1"),
        ("shutdown_timeout", float("nan"), "shutdown_timeout must be 0 or more seconds"),
        ("shutdown_timeout", "10", "shutdown_timeout must be 0 or more seconds"),
        ("generate_client_id", "uuid", "generate_client_id must be a function, not 'uuid'"),
        ("generate_client_id", draw_later, "generate_client_id must be a plain function, not an async one"),
        ("connect_timeout", 0, "connect_timeout must be a positive number"),
        ("outbox_limit", 0, "outbox_limit must be a positive whole number"),
        (
            "trusted_proxies",
            ["unix"],
            "trusted_proxies: 'unix' needs a unix_path, or a sock or tcp_sock",
        ),
        ("outbox_limit", 1023, "outbox_limit must be 1024 or more: the protocol needs that itself, not 1023"),
        ("max_frame_size", 1, "max_frame_size must be from 12 to 4294967295"),
        ("tcp_dialect", "esperanto", "a TCP dialect is 'documented' or 'npm', not 'esperanto'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(option: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        ServerConfig(**{option: value})


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"port .*; namespace .*; max_rooms .*; close_timeout .*"):
        ServerConfig(port=-1, namespace="", max_rooms=0, close_timeout=0)


def test_an_option_that_there_is_not_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="prot"):
        ServerConfig(**cast("Any", {"prot": 3000}))


def test_what_concerns_the_sessions_is_handed_on() -> None:
    options = {
        "connect_timeout": 1.0,
        "heartbeat_interval": 2.0,
        "heartbeat_timeout": 3.0,
        "close_timeout": 4.0,
    }
    sizes = {"max_payload_size": 500, "max_frame_size": 600, "outbox_limit": 1700}
    session = ServerConfig(**options, **sizes, tcp_dialect="npm").session_config()  # type: ignore[arg-type]
    assert {name: getattr(session, name) for name in (*options, *sizes)} == {**options, **sizes}
    assert session.tcp_dialect is Dialect.NPM


def test_a_configuration_does_not_change() -> None:
    config: Any = ServerConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1

"""The options of plain servers and clients: which make sense, and that they are the same everywhere."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from stelar_proto.channel import ChannelConfig
from stelar_proto.plain import ConnectConfig, ConnectOptions, ServeConfig, ServeOptions
from stelar_proto.plain.config import WebSocketConfig
from tests.plain.house import House
from tests.support.memory import VirtualNetwork, VirtualWebSocketServer
from tests.support.virtual import VirtualLoop

PAIRS = [(ServeConfig, ServeOptions), (ConnectConfig, ConnectOptions)]
CONFIGS = [ChannelConfig, WebSocketConfig, ServeConfig, ConnectConfig]


@pytest.mark.parametrize(("config", "options"), PAIRS)
def test_the_keywords_are_the_fields_with_the_same_types(config: type, options: type) -> None:
    assert get_type_hints(options) == get_type_hints(config)
    assert options.__total__ is False  # type: ignore[attr-defined]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_docstring_names_every_option_of_its_own_in_order(config: type) -> None:
    own = [name for name in config.__annotations__ if not name.startswith("_")]
    arguments = (inspect.getdoc(config) or "").partition("Raises:")[0]
    documented = re.findall(r"^    (\w+): ", arguments, re.MULTILINE)
    assert documented == own


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_has_a_default_that_makes_sense(config: Any) -> None:
    assert {field.name for field in dataclasses.fields(config())} == set(get_type_hints(config))


@pytest.mark.parametrize(
    ("config", "options", "problems"),
    [
        (
            ServeConfig,
            {"connect_timeout": 0, "max_size": 0, "origins": "https://a.example", "shutdown_timeout": -1},
            [
                "connect_timeout must be a positive number, not 0",
                "max_size must be a positive whole number, not 0",
                "shutdown_timeout must be 0 or more seconds, not -1",
                "origins is a sequence of origins: ['https://a.example']",
            ],
        ),
        (
            ServeConfig,
            {"max_connections": 0, "process_request": 5, "inbox_limit": 1.5, "inbox_size": True},
            [
                "inbox_limit must be a positive whole number, not 1.5",
                "inbox_size must be a positive whole number, not True",
                "max_connections must be a positive whole number, not 0",
                "process_request must be a function, not 5",
            ],
        ),
        (
            ConnectConfig,
            {"subprotocols": "chat", "heartbeat_interval": 0, "outbox_limit": None, "close_timeout": "5"},
            [
                "heartbeat_interval must be a positive number, not 0",
                "close_timeout must be a positive number, not '5'",
                "outbox_limit must be a positive whole number, not None",
                "subprotocols is a sequence of names: ['chat']",
            ],
        ),
        (
            ConnectConfig,
            {"subprotocols": ["a b", 5, "chat"], "heartbeat_timeout": True},
            [
                "heartbeat_timeout must be a positive number, not True",
                "a subprotocol is an HTTP token, not 'a b'",
                "a subprotocol is an HTTP token, not 5",
            ],
        ),
        (ServeConfig, {"subprotocols": None}, ["subprotocols is a sequence of names, not None"]),
        (
            ConnectConfig,
            {"outbox_limit": 1023},
            ["outbox_limit must be 1024 or more: the protocol needs that itself, not 1023"],
        ),
        (ServeConfig, {"shutdown_timeout": "x"}, ["shutdown_timeout must be 0 or more seconds, not 'x'"]),
        (ServeConfig, {"shutdown_timeout": True}, ["shutdown_timeout must be 0 or more seconds, not True"]),
        (
            ServeConfig,
            {"connect_timeout": float("nan")},
            ["connect_timeout must be a positive number, not nan"],
        ),
    ],
)
def test_all_problems_are_named_at_once(config: Any, options: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ValueError, match=r"must|is a") as caught:
        config(**options)
    assert str(caught.value).split("; ") == problems


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": 1}, [("a", "b")], "a: b", None])
def test_headers_that_cannot_be_sent_are_a_problem(headers: Any) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        ConnectConfig(headers=headers)


def test_what_may_be_switched_off_may_be_none() -> None:
    config = ServeConfig(max_size=None, heartbeat_interval=None, origins=[None], shutdown_timeout=0)
    assert config.max_size is None
    assert ConnectConfig(heartbeat_interval=None).heartbeat_interval is None


def test_an_option_that_there_is_not_is_a_type_error(serving: House) -> None:
    with pytest.raises(TypeError, match="max_sise"):
        VirtualWebSocketServer(serving.network, lambda connection: None, max_sise=1)


@pytest.mark.parametrize("port", [-1, 65536, "80", 1.0, True])
def test_a_port_that_is_none_is_refused(port: Any) -> None:
    with pytest.raises(ValueError, match="port must be from 0 to 65535"):
        Elsewhere("127.0.0.1", port)


class Elsewhere(VirtualWebSocketServer):
    """A server that is told where to listen, as those of the runtimes are."""

    def __init__(self, host: str | None, port: int | None, **options: Any) -> None:
        network = VirtualNetwork(VirtualLoop())
        super(VirtualWebSocketServer, self).__init__(network, lambda connection: None, host, port, **options)


@pytest.mark.parametrize("host", [None, "", "::1"])
@pytest.mark.parametrize(("port", "expected"), [(None, 8765), (0, 0), (80, 80)])
def test_host_and_port_have_defaults(host: str | None, port: int | None, expected: int) -> None:
    server = Elsewhere(host, port)
    assert list(server._places()) == [("ws", host or "127.0.0.1", expected, None, None)]


def test_a_unix_socket_or_a_given_one_takes_the_place_of_host_and_port() -> None:
    sock = SimpleNamespace(type=SimpleNamespace(name="SOCK_STREAM"))
    assert list(Elsewhere(None, None, unix_path="/s")._places()) == [("ws", None, None, "/s", None)]
    assert list(Elsewhere(None, None, sock=sock)._places()) == [("ws", None, None, None, sock)]
    assert "on unix:/s>" in repr(Elsewhere(None, None, unix_path="/s"))


def test_the_problems_of_places_and_of_options_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"shutdown_timeout must .*; unix_path says where .*; port must"):
        Elsewhere(None, -1, unix_path="/s", shutdown_timeout=-1)
    with pytest.raises(ValueError, match="graceful_shutdown must be True or False, not 1"):
        ServeConfig(graceful_shutdown=1)  # type: ignore[arg-type]  # that is the point

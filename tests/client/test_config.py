"""What a client may be told."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from stelar_proto.client import ClientConfig
from stelar_proto.tcp import Dialect
from tests.support.memory import VirtualClient, VirtualNetwork
from tests.support.virtual import VirtualLoop


def test_the_defaults_make_sense() -> None:
    config = ClientConfig()
    assert (config.mode, config.ack_timeout, config.connect_timeout, config.reject_unauthorized) == (
        None,
        5.0,
        10.0,
        True,
    )


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("mode", "udp", "mode must be 'ws' or 'tcp', not 'udp'"),
        ("ack_timeout", 0, "ack_timeout must be a positive number, not 0"),
        ("ack_timeout", float("nan"), "ack_timeout must be a positive number"),
        ("ack_timeout", "5", "ack_timeout must be a positive number, not '5'"),
        ("inbox_limit", 0, "inbox_limit must be a positive whole number, not 0"),
        ("inbox_limit", 1.5, "inbox_limit must be a positive whole number"),
        ("connect_timeout", None, "connect_timeout must be a positive number"),
        ("max_payload_size", -1, "max_payload_size must be a positive whole number"),
        ("tcp_dialect", "esperanto", "a TCP dialect is 'documented' or 'npm'"),
        ("headers", {"a b": "c"}, "'a b' is no header name"),
        ("headers", {"a": 5}, "a header is a pair of str"),
        ("headers", {"Authorization": "secret\r\n"}, "the value of header 'Authorization'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(option: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ClientConfig(**{option: value})
    assert "secret" not in str(caught.value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"mode .*; ack_timeout .*; close_timeout .*; 'ñ' is no header name"):
        ClientConfig(mode="x", ack_timeout=0, close_timeout=0, headers={"ñ": ""})


def test_an_option_that_there_is_not_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="timeuot"):
        ClientConfig(**cast("Any", {"timeuot": 3}))


@pytest.mark.parametrize("name", ["Upgrade", "sec-websocket-key", "Sec-WebSocket-Extensions"])
def test_headers_that_are_the_handshake_s_own_are_refused_when_they_are_given(name: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){name}"):
        VirtualClient(VirtualNetwork(VirtualLoop()), "localhost:3000", headers={name: "x"})


def test_what_concerns_the_session_is_handed_on() -> None:
    options = {
        "connect_timeout": 1.0,
        "heartbeat_interval": None,
        "heartbeat_timeout": 3.0,
        "close_timeout": 4.0,
    }
    sizes = {"max_payload_size": 500, "max_frame_size": 600, "outbox_limit": 700}
    config = ClientConfig(**options, **sizes, tcp_dialect="npm", accept_npm_handshake=True)  # type: ignore[arg-type]
    session = config.session_config()
    assert {name: getattr(session, name) for name in (*options, *sizes)} == {**options, **sizes}
    assert (session.tcp_dialect, session.accept_npm_handshake) == (Dialect.NPM, True)


def test_a_configuration_does_not_change() -> None:
    config: Any = ClientConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.mode = "tcp"

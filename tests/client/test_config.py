"""What a client may be told."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from stelar_proto.client import ClientConfig
from stelar_proto.tcp import Dialect
from stelar_proto.ws import PerMessageDeflate
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
        ("compression", 1, "compression must be True, False or a PerMessageDeflate, not 1"),
        (
            "compression",
            PerMessageDeflate(client_no_context_takeover=False),
            "compression must leave client_no_context_takeover on",
        ),
        ("reconnection", "no", "reconnection must be True or False, not 'no'"),
        ("reject_unauthorized", None, "reject_unauthorized must be True or False, not None"),
        ("serializer", 1, "serializer must have the methods dumps and loads; 1 has no dumps"),
        ("headers", None, "headers must be a mapping, such as {'Authorization': '…'}, not NoneType"),
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
    sizes = {"max_payload_size": 500, "max_frame_size": 600, "outbox_limit": 1700}
    config = ClientConfig(**options, **sizes, tcp_dialect="npm", accept_npm_handshake=True)  # type: ignore[arg-type]
    session = config.session_config()
    assert {name: getattr(session, name) for name in (*options, *sizes)} == {**options, **sizes}
    assert (session.tcp_dialect, session.accept_npm_handshake) == (Dialect.NPM, True)


def test_a_configuration_does_not_change() -> None:
    config: Any = ClientConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.mode = "tcp"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("reconnection_delay", 0, "reconnection_delay must be a positive number, not 0"),
        ("max_reconnection_delay", float("inf"), "max_reconnection_delay must be a positive number, not inf"),
        ("reconnection_delay", 31, r"reconnection_delay \(31\) must not be more than .* \(30\)"),
        ("reconnection_attempts", 0, "must be a positive whole number, or None for no end, not 0"),
        ("message_queue_size", -1, "message_queue_size must be a whole number, 0 or more, not -1"),
        ("message_queue_size", 1.5, "message_queue_size must be a whole number"),
        ("queue_rate", 0, "queue_rate must be a positive number, not 0"),
        ("queue_rate", "50", "queue_rate must be a positive number, not '50'"),
        ("handler_timeout", -1, "handler_timeout must be a positive number, not -1"),
        ("custom_reconnect_delay", 5, "custom_reconnect_delay must be a function, not 5"),
        ("tls", "yes", "tls must be an ssl.SSLContext, or True, not 'yes'"),
        ("nonsense", 1, "there is no option 'nonsense'; there are accept_npm_handshake, ack_timeout"),
    ],
)
def test_options_that_are_changed_are_checked_before_anything_changes(
    option: str, value: Any, words: str
) -> None:
    client = VirtualClient(VirtualNetwork(VirtualLoop()), "localhost:3000")
    before = client.get_options()
    with pytest.raises(ValueError, match=words):
        client.update_options(**{"ack_timeout": 7, option: value})
    assert client.get_options() is before


def test_options_are_a_snapshot() -> None:
    headers = {"Authorization": "Bearer secret"}
    client = VirtualClient(VirtualNetwork(VirtualLoop()), "localhost:3000", headers=headers)
    headers["x"] = "y"
    before = client.get_options()
    client.update_options(ack_timeout=7, headers={"x": "y"})
    assert (before.ack_timeout, dict(before.headers)) == (5.0, {"Authorization": "Bearer secret"})
    assert (client.get_options().ack_timeout, dict(client.get_options().headers)) == (7, {"x": "y"})
    assert "secret" not in repr(before)
    with pytest.raises(TypeError):
        before.headers["x"] = "z"  # type: ignore[index]


def test_tls_asks_for_a_url_that_has_it() -> None:
    network = VirtualNetwork(VirtualLoop())
    assert VirtualClient(network, "localhost:3000", tls=True).get_url() == "wss://localhost:3000"
    client = VirtualClient(network, "localhost:3000")
    client.update_options(tls=True, mode="tcp")
    assert client.get_url() == "tcps://localhost:3000"
    client.set_url("tcps://localhost:4000")
    with pytest.raises(ValueError, match="TLS is asked for"):
        client.set_url("tcp://localhost:4000")
    assert client.get_url() == "tcps://localhost:4000"


def test_an_outbox_holds_at_least_what_the_protocol_says_and_is_one_problem_of_several() -> None:
    words = r"heartbeat_timeout must be .*; outbox_limit must be 1024 or more: .* not 1$"
    with pytest.raises(ValueError, match=words):
        ClientConfig(outbox_limit=1, heartbeat_timeout=0)

"""Changing options while the server runs: which may change, what that does, and that nothing is half done."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from stelar_proto.server import RateLimit, ServerConfig
from tests.server.house import House, numbered
from tests.server.limiters import Limiter, Tracker
from tests.support.memory import VirtualServer
from tests.support.wires import UPGRADE

NEW_SERVER = "it takes a new server"
FIXED = {
    "host": NEW_SERVER,
    "port": NEW_SERVER,
    "unix_path": NEW_SERVER,
    "sock": NEW_SERVER,
    "tcp_host": NEW_SERVER,
    "tcp_port": NEW_SERVER,
    "tcp_sock": NEW_SERVER,
    "tcp_dialect": NEW_SERVER,
    "namespace": r"of\(path\) gives another one beside it",
    "logger": "set the level of the one it has, or make a new server",
    "ip_tracker": NEW_SERVER,
    "tls": r"reload_tls\(\) reads the certificate again, or takes another",
    "network": NEW_SERVER,
}


@pytest.mark.parametrize("option", FIXED)
def test_what_a_server_is_made_of_stays_and_it_is_said_what_to_do_instead(house: House, option: str) -> None:
    server = house.serve()
    before = server.get_config()
    with pytest.raises(ValueError, match=f"^{option} cannot change here: {FIXED[option]}$"):
        server.update_config(**{option: getattr(before, option, None)})  # type: ignore[arg-type]
    assert server.get_config() is before


def test_everything_else_may_change() -> None:
    values: dict[str, Any] = {
        field.name: getattr(ServerConfig(), field.name)
        for field in dataclasses.fields(ServerConfig)
        if field.init and field.name not in FIXED
    }
    assert ServerConfig().changed(values) == ServerConfig()


def test_all_problems_are_named_at_once_and_nothing_changes(house: House) -> None:
    server = house.serve()
    before = server.get_config()
    changes: Any = {"prot": 1, "port": 1, "max_rooms": 0, "close_timeout": 0, "serializer": 5}
    with pytest.raises(
        ValueError,
        match=r"no option 'prot'; did you mean 'port'.; port .*; max_rooms .*; close_timeout .*; serializer",
    ):
        server.update_config(**changes, max_connections=1)
    assert server.get_config() is before
    assert server.config.max_connections == 10_000


def test_a_server_that_does_not_run_may_be_changed_too(house: House) -> None:
    server = VirtualServer(house.network)
    server.update_config(max_connections=5, rate_limiter=Limiter())
    assert server.get_config().max_connections == 5


# --- What it does -------------------------------------------------------------------------------------------


def test_limits_hold_at_once(house: House, wire: str) -> None:
    server = house.serve()
    client = house.connect(wire)
    server.update_config(max_rooms_per_client=1, rate_limit=RateLimit(2, 60))
    client.stream.send(client.room("join", "a") + client.room("join", "b"))
    assert client.heard() == [("event", "joined-room", "a")]
    client.say("x")
    assert client.heard()[0][0] == "closed"
    server.update_config(max_connections_per_ip=1)
    stream = house.stream(wire)
    if wire == "ws":
        stream.send(UPGRADE)
    assert b"Too many connections from this IP" in stream.take()


def test_ids_are_made_by_the_new_generator(house: House, wire: str) -> None:
    server = house.serve()
    server.update_config(generate_client_id=numbered("new"))
    assert house.connect(wire).id == "new1"


def test_sizes_hold_for_new_connections_and_everybody_goes_on_to_hear_broadcasts(
    house: House, wire: str
) -> None:
    server = house.serve()
    seen: list[int] = []
    server.on("x", lambda ctx: seen.append(len(ctx.data)))
    old = house.connect(wire)
    server.update_config(max_payload_size=100)
    new = house.connect(wire)
    assert server.broadcast("news", 1) == 2
    house.loop.run_until_idle()
    assert old.heard() == new.heard() == [("event", "news", 1)]
    old.say("x", "a" * 500)
    assert seen == [500]
    new.say("x", "a" * 500)
    assert new.heard()[-1][0] == "closed"
    assert not old.stream.has_ended


def test_broadcasts_are_still_encoded_once_after_a_change_that_concerns_no_format(house: House) -> None:
    server = house.serve()
    formats = server.ws_format, server._tcp_format
    server.update_config(max_rooms=5, heartbeat_interval=5, max_payload_size=10 * 1024 * 1024)
    assert (server.ws_format, server._tcp_format) == formats


def test_heartbeats_hold_for_new_connections(house: House, wire: str) -> None:
    server = house.serve(heartbeat_interval=None)
    old = house.connect(wire)
    server.update_config(heartbeat_interval=1, heartbeat_timeout=1)
    new = house.connect(wire)
    house.loop.advance(3)
    assert not old.stream.has_ended
    assert new.stream.is_cut or new.stream.has_ended


def test_the_health_document_moves(house: House) -> None:
    server = house.serve()
    server.update_config(health_endpoint="/up")
    statuses = []
    for path in (b"/health", b"/up"):
        stream = house.stream("ws")
        stream.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        statuses.append(stream.take()[9:12])
    assert statuses == [b"404", b"200"]


def test_trusted_proxies_hold_for_new_connections(house: House) -> None:
    server = house.serve()
    seen: list[Any] = []
    server.on_connection(lambda ctx: seen.append(ctx.client_info.remote_address))
    for proxies in ([], ["192.0.2.1"]):
        server.update_config(trusted_proxies=proxies)
        house.stream("ws").send(UPGRADE[:-2] + b"X-Forwarded-For: 198.51.100.7\r\n\r\n")
    assert seen == ["192.0.2.1", "198.51.100.7"]


def test_origins_hold_for_who_connects_next_and_hooks_at_once(house: House) -> None:
    told: list[str] = []
    server = house.serve()
    client = house.connect("ws")
    server.update_config(
        allowed_origins=["https://a.example"],
        hooks={"on_client_join_room": lambda room, **_: told.append(room)},
    )
    client.stream.send(client.room("join", "a"))
    stream = house.stream("ws")
    stream.send(UPGRADE[:-2] + b"Origin: https://b.example\r\n\r\n")
    assert told == ["a"]
    assert stream.take().startswith(b"HTTP/1.1 403 ")
    assert set(server.get_config().hooks) == {"on_client_join_room"}


def test_a_limiter_that_is_given_later_makes_the_default_limit_go_and_come_back(
    house: House, wire: str
) -> None:
    server = house.serve()
    limiter = Limiter()
    client = house.connect(wire)
    server.update_config(rate_limiter=limiter)
    assert server.get_config().rate_limit is None
    client.say("x")
    assert limiter.calls == [("check", "c1", 1)]
    house.loop.advance(60)
    assert limiter.calls[-1] == "cleanup"
    server.update_config(rate_limiter=None)
    assert server.get_config().rate_limit == RateLimit()
    server.update_config(rate_limit=RateLimit())
    server.update_config(rate_limiter=limiter)
    assert server.get_config().rate_limit == RateLimit(), "it was asked for"
    server.update_config(rate_limit=None)
    assert server.get_config().rate_limit is None


# --- The snapshot -------------------------------------------------------------------------------------------


def test_a_snapshot_does_not_change(house: House) -> None:
    limits = {"x": RateLimit(1)}
    server = house.serve(event_rate_limits=limits)
    before = server.get_config()
    limits["y"] = RateLimit(2)
    server.set_event_rate_limit("z", RateLimit(3))
    assert dict(before.event_rate_limits) == {"x": RateLimit(1)}
    assert dict(server.get_config().event_rate_limits) == {"x": RateLimit(1), "z": RateLimit(3)}
    with pytest.raises(TypeError):
        before.event_rate_limits["y"] = RateLimit(2)  # type: ignore[index]  # the mistake
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.port = 1  # type: ignore[misc]  # the mistake


def test_a_snapshot_tells_what_is_custom(house: House) -> None:
    config = house.serve(ip_tracker=Tracker(), max_rooms=10_000, event_rate_limits={}).get_config()
    assert config.custom == {"ip_tracker", "generate_client_id", "tcp_port"}
    assert config.is_custom("ip_tracker")
    assert not config.is_custom("rate_limiter")
    assert not config.is_custom("rate_limit")
    with pytest.raises(ValueError, match=r"^there is no option 'prot'; did you mean 'port'\?$"):
        config.is_custom("prot")
    assert ServerConfig().custom == frozenset()
    assert ServerConfig(rate_limit=RateLimit(5)).custom == {"rate_limit"}


# --- What these options may be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_limit": 5}, r"rate_limit must be a RateLimit or None, not 5"),
        (
            {"event_rate_limits": [RateLimit()]},
            r"event_rate_limits must be a mapping from names to RateLimit",
        ),
        (
            {"event_rate_limits": {"ping": RateLimit()}},
            r"event_rate_limits: the event name 'ping' is reserved",
        ),
        ({"event_rate_limits": {5: RateLimit()}}, r"event_rate_limits: an event name is a str, not int"),
        ({"event_rate_limits": {"x": 5}}, r"event_rate_limits: 'x' must have a RateLimit, not 5"),
        (
            {"rate_limiter": print},
            r"must have the methods check, reset, cleanup, size; .* has no check, reset",
        ),
        ({"ip_tracker": Limiter()}, r"ip_tracker must have the methods .*; .* has no add, remove, get_count"),
        ({"max_connections_per_ip": 0}, r"max_connections_per_ip must be a positive whole number, not 0"),
        ({"trusted_proxies": "10.0.0.0/8"}, r"trusted_proxies must be several networks, such as \['10"),
        ({"trusted_proxies": 5}, r"trusted_proxies must be several networks"),
        ({"trusted_proxies": ["x", "::1", "y"]}, r"'x' is no network.*; trusted_proxies: 'y' is no network"),
        ({"proxy_protocol": 1, "trusted_proxies": ["::1"]}, r"proxy_protocol must be True or False, not 1"),
        ({"proxy_protocol": True}, r"proxy_protocol needs trusted_proxies: nobody else's header"),
        (
            {"proxy_protocol": True, "trusted_proxies": ["::1"]},
            r"proxy_protocol needs a tcp_port or tcp_sock: it concerns TCP only",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerConfig(**cast("Any", options))


def test_networks_are_taken_from_any_iterable() -> None:
    config = ServerConfig(trusted_proxies=iter(["10.0.0.0/8", "::1"]), max_rooms=3)
    assert [str(network) for network in config.proxy_networks] == ["10.0.0.0/8", "::1/128"]
    assert config.changed({"max_rooms": 5}).proxy_networks == config.proxy_networks

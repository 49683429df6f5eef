"""The keywords of servers and clients: what type checkers and editors know of them is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any, get_type_hints

import pytest

from stelar_proto.client import ClientConfig, ClientOptions
from stelar_proto.client.config import ClientChanges
from stelar_proto.server import ServerConfig, ServerOptions

RUNTIMES = ["stelar_runtime_asyncio", "stelar_runtime_trio"]


def fields_of(config: type) -> dict[str, Any]:
    """The types of what can be given to ``config``, by name."""
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config) if field.init}


@pytest.mark.parametrize(
    ("config", "options"), [(ServerConfig, ServerOptions), (ClientConfig, ClientChanges)]
)
def test_the_keywords_are_the_fields_with_the_same_types_in_order(config: type, options: type) -> None:
    wanted = fields_of(config)
    hints = get_type_hints(options)
    assert hints == wanted
    assert not options.__required_keys__  # type: ignore[attr-defined]
    kept = [name for name in hints if name != "tls"]  # which a client takes beside them
    assert kept == [name for name in wanted if name != "tls"]


def test_a_client_s_options_are_its_changes_but_for_tls() -> None:
    assert get_type_hints(ClientChanges).keys() - get_type_hints(ClientOptions).keys() == {"tls"}


@pytest.mark.parametrize("config", [ServerConfig, ClientConfig])
def test_every_option_is_documented_where_it_stands(config: type) -> None:
    arguments = inspect.getdoc(config) or ""
    names = re.findall(r"^    (\w+(?:, \w+)*): ", arguments, re.MULTILINE)
    documented = [name for line in names for name in line.split(", ")]
    undocumented = [name for name in fields_of(config) if name not in documented]
    assert undocumented == [name for name in undocumented if name == "tcp_host"]  # it stands with host
    assert set(documented) <= fields_of(config).keys()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_known_is_what_is_taken(runtime: str) -> None:
    package = import_module(runtime)
    for make, options in ((package.StelarServer, ServerOptions), (package.StelarClient, ClientOptions)):
        variable = list(inspect.signature(make).parameters.values())[-1]
        assert (variable.kind, variable.annotation) == (variable.VAR_KEYWORD, f"Unpack[{options.__name__}]")


def defaults_of(config: type, names: Iterable[str]) -> dict[str, Any]:
    made = config()
    return {name: getattr(made, name) for name in names}


def test_the_default_of_each_is_a_value_that_may_be_given() -> None:
    server = defaults_of(ServerConfig, ServerOptions.__annotations__)
    assert dataclasses.replace(ServerConfig(**server)) == ServerConfig(**server)
    assert ClientConfig(**defaults_of(ClientConfig, ClientChanges.__annotations__)) == ClientConfig()


def test_a_mistake_is_seen_without_running_it() -> None:
    """By mypy, which fails here if one of these were no mistake."""
    from stelar_runtime_asyncio import StelarClient, StelarServer

    with pytest.raises(TypeError):
        StelarServer(prot=3000)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="port"):
        StelarServer(port="3000")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        StelarClient(3000, ack_timout=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="ack_timeout"):
        StelarClient(3000, ack_timeout="1")  # type: ignore[arg-type]

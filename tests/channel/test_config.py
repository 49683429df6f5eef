"""What all connections can be told."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from stelar_proto.channel import ChannelConfig, HttpResponse
from stelar_proto.channel.config import check_options
from stelar_proto.channel.logs import SafeLogger, choose_logger, logger_problems


@pytest.mark.parametrize(
    "name", ["connect_timeout", "heartbeat_interval", "heartbeat_timeout", "close_timeout"]
)
@pytest.mark.parametrize("value", [0, -1, "1", True, float("nan")])
def test_times_are_positive_numbers(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name} must be a positive number, not {value!r}$"):
        ChannelConfig(**options)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None])
def test_the_limit_of_the_outbox_is_a_positive_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=f"^outbox_limit must be a positive whole number, not {value!r}$"):
        ChannelConfig(outbox_limit=value)


@pytest.mark.parametrize("name", ["connect_timeout", "heartbeat_timeout", "close_timeout"])
def test_only_the_heartbeat_can_be_switched_off(name: str) -> None:
    options: dict[str, Any] = {name: None}
    with pytest.raises(ValueError, match="must be a positive number, not None"):
        ChannelConfig(**options)
    assert ChannelConfig(heartbeat_interval=None).heartbeat_interval is None


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"connect_timeout.*; close_timeout.*; outbox_limit"):
        ChannelConfig(connect_timeout=0, close_timeout=0, outbox_limit=0)


def test_a_json_response_is_compact_and_kept_by_no_cache() -> None:
    response = HttpResponse.of_json({"name": "ñ", "numbers": [1, 2]}, status=201)
    assert response.status == 201
    assert response.body == b'{"name":"\\u00f1","numbers":[1,2]}'
    assert response.headers == (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


def target_of(logger: logging.Logger) -> logging.Logger:
    assert isinstance(logger, SafeLogger)
    return logger.target


def test_the_logger_is_the_librarys_own_unless_another_is_given() -> None:
    mine = logging.getLogger("mine")
    assert target_of(choose_logger(mine, "stelar.server")) is mine
    assert target_of(choose_logger(None, "stelar.server")) is logging.getLogger("stelar.server")


def test_the_name_of_a_level_sets_that_of_the_librarys_own_logger() -> None:
    own = logging.getLogger("stelar.tested")
    assert target_of(choose_logger("debug", "stelar.tested")) is own
    assert own.level == logging.DEBUG


def test_a_handler_that_raises_is_told_on_standard_error_and_raises_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(28, "No space left on device")

    target = logging.getLogger("full")
    target.propagate = False
    target.addHandler(Full())
    safe = choose_logger(target, "stelar.server")
    safe.warning("it is %s", "late")
    told = capsys.readouterr().err
    assert "No space left on device" in told
    assert "it is %s" in told
    safe.debug("nobody listens to that")
    assert not safe.isEnabledFor(logging.DEBUG)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("LOUD", r"name of a level \(CRITICAL, .*DEBUG.*\), not 'LOUD'"),
        (10, "a logger or the name of a level, not 10"),
    ],
)
def test_what_is_neither_logger_nor_level_is_refused(option: object, problem: str) -> None:
    [found] = logger_problems(option)
    assert re.search(problem, found)
    for valid in (None, "Info", logging.getLogger("mine")):
        assert not [*logger_problems(valid)]


def test_an_option_that_does_not_exist_is_named_with_what_may_be_meant() -> None:
    check_options(ChannelConfig, {"close_timeout": 1}, "a server")
    with pytest.raises(
        TypeError, match=r"^a server has no option 'close_timout'; did you mean 'close_timeout'\?$"
    ):
        check_options(ChannelConfig, {"close_timout": 1}, "a server")
    with pytest.raises(TypeError, match=r"^a server has no option 'xyz'$"):
        check_options(ChannelConfig, {"xyz": 1}, "a server")


def test_options_that_do_not_exist_are_named_with_what_is_wrong_with_the_others() -> None:
    words = r"^it has no option 'a'; it has no option 'b'; close_timeout must be a positive number, not 0$"
    with pytest.raises(TypeError, match=words):
        check_options(ChannelConfig, {"a": 1, "close_timeout": 0, "b": 2}, "it")
    with pytest.raises(TypeError, match=r"^it has no option 'a'$"):
        check_options(ChannelConfig, {"a": 1, "close_timeout": 1}, "it")

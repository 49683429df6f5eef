"""What applications hand to a server or a client is checked at the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stelar_proto.channel.handlers import check_handler, is_awaitable
from stelar_proto.errors import MessageError
from stelar_proto.session.arguments import check_ack_name, check_payload, check_room_name, register


def test_a_handler_is_something_that_can_be_called() -> None:
    assert check_handler(print) is print
    with pytest.raises(TypeError, match="a handler is a function, not str"):
        check_handler("print")  # type: ignore[type-var]


def test_a_handler_can_be_called_with_what_it_will_be_called_with() -> None:
    def two(ctx: Any, data: Any) -> None: ...

    assert check_handler(two, "ctx", "next") is two
    assert check_handler(range, "ctx") is range  # it does not tell what it takes
    wrongs: list[Any] = [(two, "ctx"), (two,), (lambda *, ctx: None, "ctx"), (lambda: None, "code", "reason")]
    for wrong in wrongs:
        with pytest.raises(TypeError) as caught:
            check_handler(*wrong)
        function, *arguments = wrong
        words = f"{function.__qualname__} cannot be called as handler({', '.join(arguments)}): "
        assert str(caught.value).startswith(words)


def test_registering_is_a_call_or_a_decorator() -> None:
    added: list[Any] = []
    assert register(added.append, print) is print

    @register(added.append, None)  # type: ignore[arg-type]
    def handler() -> None: ...

    assert added == [print, handler]
    with pytest.raises(TypeError, match="not int"):
        register(added.append, 5)  # type: ignore[arg-type]


def test_coroutines_and_other_awaitables_are_awaited_and_nothing_else_is() -> None:
    async def coroutine() -> None: ...

    class Awaitable:
        def __await__(self) -> Iterator[None]: ...  # type: ignore[empty-body]

    started = coroutine()
    assert is_awaitable(started)
    started.close()
    assert is_awaitable(Awaitable())
    assert not is_awaitable(coroutine)
    assert not is_awaitable(5)


@pytest.mark.parametrize("room", ["a", "sala ñ ☃", " ", "\0", "x" * 256, "ñ" * 128])
def test_a_room_name_is_any_text_of_1_to_256_bytes(room: str) -> None:
    assert check_room_name(room) == room
    assert check_ack_name(room) == room


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "EMPTY_EVENT"),
        ("x" * 257, "EVENT_TOO_LONG"),
        ("ñ" * 129, "EVENT_TOO_LONG"),
        ("\ud800", "INVALID_EVENT_CHARS"),
    ],
)
def test_a_name_of_no_or_too_many_bytes_is_refused(name: str, code: str) -> None:
    with pytest.raises(ValueError, match="1 to 256 bytes"):
        check_room_name(name)
    with pytest.raises(MessageError, match="1 to 256 bytes") as caught:
        check_ack_name(name)
    assert caught.value.code == code


@pytest.mark.parametrize("name", [None, 5, b"room"])
def test_a_name_that_is_no_text_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError, match="is a str, not"):
        check_room_name(name)
    with pytest.raises(TypeError, match="is a str, not"):
        check_ack_name(name)


def test_a_payload_is_bytes_or_what_is_made_of_them() -> None:
    for payload in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert check_payload(payload) == b"ab"
        assert type(check_payload(payload)) is bytes
    for wrong in (5, "ab", [1, 2], None):
        with pytest.raises(TypeError, match="a payload is bytes"):
            check_payload(wrong)  # type: ignore[arg-type]

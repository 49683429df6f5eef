"""From a connection that was asked for to one that is open, or to the reason why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from stelar_proto.channel import Closed, Transport, WaitableEvent
from stelar_proto.channel.dialing import Route, establish, take_turns
from stelar_proto.errors import ConnectError, PeerTimeout
from tests.support.virtual import Cancelled, VirtualEvent, VirtualLoop, VirtualTask

URL = "ws://localhost:1"


class Link:
    """What is dialled for, and what was done with it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.end: Closed | None = None
        self.transport: Transport | None = None
        self.was_open = False
        self.settled: WaitableEvent = VirtualEvent()
        self.lost: WaitableEvent = VirtualEvent()
        self.done: list[str] = []
        self.route = Route(
            wire="ws", secure=True, host="localhost", port=1, connect_timeout=1.0, began_at=0.0
        )
        self._loop = loop

    def abort(self, end: Closed) -> None:
        self.done.append(f"abort {end.code}")
        if self.transport is not None:
            self._loop.call_soon(self.lost.set)

    def connection_lost(self) -> None:
        self.done.append("connection_lost")

    def settle(self, end: Closed | None) -> None:
        self.end = end
        self.was_open = end is None
        self.settled.set()


async def connected() -> None:
    """A stream is there at once."""


def establishing(
    loop: VirtualLoop, link: Link, dial: Callable[[], Awaitable[None]] = connected
) -> VirtualTask[None]:
    task = loop.start(establish(link, URL, dial))
    loop.run_until_idle()
    return task


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def dial() -> None:
        raise error

    return dial


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


@pytest.fixture
def link(loop: VirtualLoop) -> Link:
    return Link(loop)


def test_it_returns_when_messages_can_be_sent(loop: VirtualLoop, link: Link) -> None:
    task = establishing(loop, link)
    assert not task.is_done
    link.settle(None)
    loop.run_until_idle()
    assert task.result() is None
    assert link.done == []


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (Closed(1006, "", PeerTimeout("no handshake within 1 s")), "no handshake within 1 s"),
        (Closed(1001, "Server shutting down", None), "Server shutting down"),
        (Closed(1006, "", None), "the server ended it at once"),
    ],
)
def test_what_ended_first_is_the_reason_and_the_stream_is_gone(
    loop: VirtualLoop, link: Link, end: Closed, words: str
) -> None:
    link.transport = object()  # type: ignore[assignment]  # nobody looks into it
    task = establishing(loop, link)
    link.settle(end)
    loop.run_until_idle()
    with pytest.raises(ConnectError) as caught:
        task.result()
    assert str(caught.value) == f"cannot connect to {URL}: {words}"
    assert caught.value.__cause__ is end.error
    assert link.done == [f"abort {end.code}"]


def test_an_error_of_dialling_is_the_cause(loop: VirtualLoop, link: Link) -> None:
    for error, words in (
        (ConnectionRefusedError(111, "Connect call failed ('::1', 1)"), "connection refused"),
        (OSError(113, "No route to host"), "No route to host"),
        (TimeoutError("no connection within 1 s"), "no connection within 1 s"),
    ):
        task = establishing(loop, link, raising(error))
        with pytest.raises(ConnectError) as caught:
            task.result()
        assert str(caught.value) == f"cannot connect to {URL}: {words}"
        assert caught.value.__cause__ is error
    assert link.done == ["abort 1006", "connection_lost"] * 3


def test_several_attempts_that_were_all_refused_are_a_refusal(loop: VirtualLoop, link: Link) -> None:
    error = OSError("all attempts failed")
    error.__cause__ = ConnectionRefusedError()
    with pytest.raises(ConnectError, match=r"connection refused$"):
        establishing(loop, link, raising(error)).result()


def test_what_is_no_os_error_comes_out_as_it_is(loop: VirtualLoop, link: Link) -> None:
    with pytest.raises(ZeroDivisionError):
        establishing(loop, link, raising(ZeroDivisionError())).result()
    assert link.done == ["abort 1006", "connection_lost"]


def test_cancelled_behind_the_stream_it_aborts_that(loop: VirtualLoop, link: Link) -> None:
    link.transport = object()  # type: ignore[assignment]  # nobody looks into it
    task = establishing(loop, link)
    task.cancel()
    loop.run_until_idle()
    with pytest.raises(Cancelled):
        task.result()
    assert link.done == ["abort 1006"]  # the stream will tell that it is lost


def test_a_server_that_does_not_speak_tls_is_named_as_one() -> None:
    error = OSError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"  # type: ignore[attr-defined]  # as ssl.SSLError has it
    loop = VirtualLoop()
    task = establishing(loop, Link(loop), raising(error))
    words = "the server does not speak TLS on this port: use ws://, or the port on which it does"
    assert str(task.error) == f"cannot connect to {URL}: {words}"
    assert task.error is not None
    assert task.error.__cause__ is error


@pytest.mark.parametrize(
    ("families", "turns"),
    [("", ""), ("6", "6"), ("66644", "64646"), ("4666", "4666"), ("44", "44"), ("6464", "6464")],
)
def test_the_families_of_a_host_take_turns_the_first_first(families: str, turns: str) -> None:
    addresses = [(family, 1, 6, "", ("host", place)) for place, family in enumerate(families)]
    ordered = take_turns(addresses)
    assert "".join(address[0] for address in ordered) == turns
    assert sorted(ordered) == sorted(addresses)
    for family in set(families):  # the resolver's order within each
        assert [a for a in ordered if a[0] == family] == [a for a in addresses if a[0] == family]

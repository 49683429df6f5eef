"""Connecting again: when, how often, in which order things happen, and what ends it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stelar_proto.client.link import Link
from stelar_proto.errors import ConnectError, ConnectionLost, HandlerError, PeerError, StateError
from tests.client.house import SERVERS, House, RawServer
from tests.support.memory import VirtualClient
from tests.support.virtual import Cancelled, VirtualEvent
from tests.support.wires import frame

LOCAL = ("connect", "disconnect", "reconnecting", "reconnect_failed", "error")


def persistent(house: House, **options: Any) -> VirtualClient:
    """A client that connects again, and whose every step is logged."""
    client = house.client(**{"reconnection": True, **options})
    for event in LOCAL:
        client.on(event, house.note(event))
    return client


def names(house: House) -> list[str]:
    return [entry[0] for entry in house.log]


def attempts(house: House) -> list[int]:
    return [entry[1] for entry in house.log if entry[0] == "reconnecting"]


def latest(house: House) -> RawServer:
    return SERVERS[house.wire](house.streams[-1])


def refuse(house: House) -> None:
    """Let nobody listen."""
    house.network.stop_listening(3000)


def listen(house: House) -> None:
    """Let somebody listen again."""
    house.network.listen_raw(3000, house.streams)


def test_a_connection_that_breaks_is_replaced(house: House) -> None:
    client = persistent(house)
    server = house.connect(client)
    server.stream.reset()
    assert client.get_state() == "reconnecting"
    assert not client.is_connected()
    assert len(house.streams) == 1
    house.loop.advance(1)
    assert len(house.streams) == 2
    assert client.get_state() == "reconnecting"
    latest(house).open()
    assert client.get_state() == "connected"
    assert names(house) == ["connect", "error", "disconnect", "reconnecting", "connect"]
    assert attempts(house) == [1]


@pytest.mark.parametrize("reason", ["bye", "end", "silence"])
def test_however_it_ended_without_us_it_is_replaced(house: House, reason: str) -> None:
    client = persistent(house, heartbeat_interval=1, heartbeat_timeout=1)
    server = house.connect(client)
    if reason == "bye":
        server.stream.send(server.bye())
        server.stream.end()
    elif reason == "end":
        server.stream.end()
        server.stream.reset()
    house.loop.advance(3)
    assert len(house.streams) == 2


def test_there_are_never_two_connections(house: House) -> None:
    """The socket of the last may go long after its session has ended."""
    client = persistent(house, close_timeout=4)
    server = house.connect(client)
    server.stream.send(server.bye())  # and does not end the stream
    house.loop.advance(3.9)
    assert (client.get_state(), len(house.streams)) == ("reconnecting", 1)
    house.loop.advance(0.1)
    assert server.stream.transport.is_lost
    assert len(house.streams) == 2  # the wait was over already


def test_the_waits_grow_and_end_in_reconnect_failed(house: House) -> None:
    delays: list[float] = []
    client = persistent(
        house,
        reconnection_attempts=4,
        max_reconnection_delay=2,
        hooks={"on_reconnect_delay": lambda attempt, delay: delays.append(delay)},
    )
    server = house.connect(client)
    refuse(house)
    server.stream.reset()
    house.loop.advance(100)
    assert attempts(house) == [1, 2, 3, 4]
    for delay, most in zip(delays, (1, 1.5, 2, 2), strict=True):
        assert most / 2 <= delay <= most
    assert names(house)[3:] == ["reconnecting", *["error", "reconnecting"] * 3, "error", "reconnect_failed"]
    assert client.get_state() == "disconnected"
    assert isinstance(client.get_last_error(), ConnectError)
    assert client.virtual_runtime.deadline is None
    listen(house)
    house.log.clear()
    house.connect(client)  # it may be tried again
    assert names(house) == ["connect"]


def test_attempts_without_end(house: House) -> None:
    client = persistent(house, reconnection_attempts=None, max_reconnection_delay=2)
    server = house.connect(client)
    refuse(house)
    server.stream.reset()
    house.loop.advance(1000)
    assert len(attempts(house)) > 400
    assert client.get_state() == "reconnecting"
    listen(house)
    house.loop.advance(2)
    latest(house).open()
    assert client.is_connected()


@pytest.mark.parametrize(("lasted", "attempt"), [(4.9, 2), (5.0, 1)])
def test_the_count_begins_anew_after_a_stable_connection(house: House, lasted: float, attempt: int) -> None:
    client = persistent(house)
    house.connect(client).stream.reset()
    house.loop.advance(1)
    server = latest(house).open()
    house.loop.advance(lasted)
    server.stream.reset()
    assert attempts(house) == [1, attempt]


def test_a_custom_delay_and_the_hook_that_wins_over_it(house: House) -> None:
    asked: list[tuple[Any, ...]] = []

    async def custom(attempt: int, base: float, maximum: float) -> float:
        asked.append((attempt, base, maximum))
        return 7.0

    async def hook(attempt: int, delay: float) -> float | None:
        asked.append((attempt, delay))
        return None if attempt == 1 else 3.0

    client = persistent(house, custom_reconnect_delay=custom, hooks={"on_reconnect_delay": hook})
    house.connect(client).stream.reset()
    house.loop.advance(6.9)
    assert len(house.streams) == 1
    house.loop.advance(0.1)
    assert len(house.streams) == 2
    house.streams[1].reset()
    house.loop.advance(2.9)
    assert len(house.streams) == 2
    house.loop.advance(0.1)
    assert len(house.streams) == 3
    assert asked == [(1, 1.0, 30.0), (1, 7.0), (2, 1.0, 30.0), (2, 7.0)]


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), "soon", ZeroDivisionError])
def test_a_delay_that_makes_no_sense_is_not_waited_for(
    house: House, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(attempt: int, delay: float) -> Any:
        if answer is ZeroDivisionError:
            raise ZeroDivisionError
        return answer

    client = persistent(house, hooks={"on_reconnect_delay": hook})
    house.connect(client).stream.reset()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    house.loop.advance(1)
    assert len(house.streams) == 2


@pytest.mark.parametrize("code", [1012, 1013])
def test_a_server_that_restarts_is_given_time(house: House, code: int) -> None:
    client = persistent(house)
    server = house.connect(client)
    if house.wire == "ws":
        server.stream.send(b"\x88\x06" + code.to_bytes(2, "big") + b"wait")
    else:
        server.stream.send(frame(10, "error", b'{"code":%d,"message":"wait"}' % code))
    server.stream.end()
    assert house.log == [("connect",), ("disconnect", code, "wait"), ("reconnecting", 1)]
    assert client.get_last_error() is None
    house.loop.advance(4.9)
    assert len(house.streams) == 1
    house.loop.advance(25.1)
    assert len(house.streams) == 2


def respond(house: House, status: str, *headers: str) -> None:
    """Refuse the handshake of the last connection."""
    lines = [f"HTTP/1.1 {status}", "Content-Length: 0", *headers]
    house.streams[-1].send("\r\n".join([*lines, "", ""]).encode())
    house.streams[-1].end()


def test_retry_after_is_respected() -> None:
    house = House("ws")
    client = persistent(house)
    house.connect(client).stream.reset()
    house.loop.advance(1)
    respond(house, "503 Service Unavailable", "Retry-After: 40")
    house.loop.advance(39.9)
    assert len(house.streams) == 2
    house.loop.advance(0.1)
    assert len(house.streams) == 3
    house.close()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_cannot_heal_ends_it_unless_that_is_asked_for(status: int) -> None:
    for asked in (False, True):
        house = House("ws")
        client = persistent(house, retry_refused=asked)
        house.connect(client).stream.reset()
        house.loop.advance(1)
        respond(house, f"{status} No")
        assert client.get_state() == ("reconnecting" if asked else "disconnected")
        assert (names(house)[-1] == "reconnect_failed") == (not asked)
        error = client.get_last_error()
        assert f"HTTP {status}" in str(error)
        assert ("error", error) in house.log
        house.close()


def test_a_failure_that_is_no_connection_error_ends_it_with_words(house: House) -> None:
    class Broken(VirtualClient):
        async def _dial(self, link: Link) -> None:
            if house.streams:
                raise UnicodeError("label empty or too long")
            await super()._dial(link)

    client = Broken(house.network, house.url)
    client.on("reconnect_failed", house.note("failed"))
    house.connect(client).stream.reset()
    house.loop.advance(1)
    assert (client.get_state(), house.log) == ("disconnected", [("failed",)])
    assert isinstance(client.get_last_error(), UnicodeError)


# --- The first connection ---------------------------------------------------------------------------------


def test_the_first_connection_is_not_retried_unless_that_is_asked_for(house: House) -> None:
    client = persistent(house)
    refuse(house)
    with pytest.raises(ConnectError):
        house.loop.run(client.connect())
    assert (client.get_state(), house.log) == ("disconnected", [])


def test_the_first_connection_is_retried_if_that_is_asked_for(house: House) -> None:
    states: list[str] = []
    client = persistent(
        house,
        retry_first_connect=True,
        hooks={"on_state_change": lambda state, previous: states.append(state)},
    )
    refuse(house)
    connecting = house.start(client.connect())
    assert client.get_state() == "reconnecting"
    listen(house)
    house.loop.advance(1)
    assert not connecting.is_done
    latest(house).open()
    connecting.result()
    assert states == ["connecting", "reconnecting", "connected"]
    assert names(house) == ["error", "reconnecting", "connect"]


def test_a_first_connection_that_is_retried_in_vain_raises_the_last_error(house: House) -> None:
    client = persistent(house, retry_first_connect=True, reconnection_attempts=2)
    refuse(house)
    connecting = house.start(client.connect())
    house.loop.advance(10)
    with pytest.raises(ConnectError, match="connection refused") as caught:
        connecting.result()
    assert names(house) == ["error", "reconnecting", "error", "reconnecting", "reconnect_failed"]
    assert client.get_last_error() is caught.value


def test_connecting_while_it_reconnects_is_an_error_that_says_so(house: House) -> None:
    client = persistent(house)
    house.connect(client).stream.reset()
    with pytest.raises(StateError, match=r"the client is reconnecting to .* already: disconnect\(\) first"):
        house.loop.run(client.connect())


@pytest.mark.parametrize("state", ["connecting", "reconnecting"])
def test_a_request_while_a_connection_is_made_says_what_to_wait_for(house: House, state: str) -> None:
    client = persistent(house)
    if state == "connecting":
        house.dial(client)
    else:
        house.connect(client).stream.reset()
    assert client.get_state() == state
    with pytest.raises(StateError, match=f"no connection to {house.url} yet: .* the event 'connect'"):
        house.loop.run(client.request("x"))


# --- The end of it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["waiting", "dialing", "shaking hands", "asking for the delay"])
def test_disconnect_ends_it_at_any_moment(house: House, moment: str) -> None:
    gate = VirtualEvent()

    class Slow(VirtualClient):
        async def _dial(self, link: Link) -> None:
            if moment == "dialing" and house.streams:
                await gate.wait()
            await super()._dial(link)

    async def hook(attempt: int, delay: float) -> None:
        if moment == "asking for the delay":
            await gate.wait()

    client = Slow(house.network, house.url, hooks={"on_reconnect_delay": hook})
    for event in LOCAL:
        client.on(event, house.note(event))
    house.connect(client).stream.reset()
    if moment != "waiting":
        house.loop.advance(1)
    assert client.get_state() == "reconnecting"
    waiting = house.start(client.wait_closed())
    assert not waiting.is_done
    leaving = house.start(client.disconnect())
    assert leaving.is_done
    assert waiting.is_done
    assert client.get_state() == "disconnected"
    gate.set()
    house.loop.advance(100)
    assert all(stream.transport.is_lost for stream in house.streams)
    assert len(house.streams) == (2 if moment == "shaking hands" else 1)
    assert names(house) == ["connect", "error", "disconnect", "reconnecting"]
    assert (house.loop.tasks, client.virtual_runtime.deadline) == ([], None)


@pytest.mark.parametrize("event", ["disconnect", "reconnecting", "error"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_may_end_it(house: House, event: str, is_async: bool) -> None:
    client = persistent(house)

    async def leave(*arguments: object) -> None:
        await client.disconnect()
        house.log.append(("left",))

    client.on(event, leave if is_async else lambda *_: house.loop.start(leave()) and None)
    house.connect(client).stream.reset()
    house.loop.advance(100)
    assert len(house.streams) == 1
    assert client.get_state() == "disconnected"
    assert ("left",) in house.log
    assert names(house).count("disconnect") == 1
    assert house.loop.tasks == []


def test_the_hook_for_the_delay_may_end_it(house: House) -> None:
    async def hook(attempt: int, delay: float) -> None:
        await client.disconnect()

    client = persistent(house, hooks={"on_reconnect_delay": hook})
    house.connect(client).stream.reset()
    house.loop.advance(100)
    assert (client.get_state(), len(house.streams), house.loop.tasks) == ("disconnected", 1, [])


def test_after_disconnect_one_may_connect_anew(house: House) -> None:
    client = persistent(house)
    house.connect(client).stream.reset()
    house.loop.run(client.disconnect())
    house.loop.advance(100)
    assert len(house.streams) == 1
    server = house.connect(client)
    server.stream.reset()
    assert attempts(house) == [1, 1]


def test_reconnection_may_be_turned_off_meanwhile(house: House) -> None:
    client = persistent(house)
    house.connect(client).stream.reset()
    client.update_options(ack_timeout=3)  # looked at again, and goes on
    house.loop.run_until_idle()
    assert client.get_state() == "reconnecting"
    client.update_options(reconnection=False)
    house.loop.run_until_idle()
    assert client.get_state() == "disconnected"
    assert names(house)[-1] == "reconnect_failed"
    house.loop.advance(100)
    assert len(house.streams) == 1


def test_the_end_without_reconnection_is_the_end(house: House) -> None:
    client = persistent(house, reconnection=False)
    waiting_for = house.connect(client)
    waiting = house.start(client.wait_closed())
    waiting_for.stream.reset()
    assert waiting.is_done
    assert names(house) == ["connect", "error", "disconnect"]


def test_a_connect_that_is_cancelled_while_it_retries_leaves_nothing(house: House) -> None:
    client = persistent(house, retry_first_connect=True)
    refuse(house)
    connecting = house.start(client.connect())
    connecting.cancel()
    house.loop.run_until_idle()
    with pytest.raises(Cancelled):
        connecting.result()
    house.loop.advance(100)
    assert (client.get_state(), house.loop.tasks) == ("disconnected", [])


def test_a_connect_that_is_cancelled_when_it_has_just_succeeded_leaves_nothing(house: House) -> None:
    client = persistent(house)
    connecting, server = house.dial(client)
    client.once("connect", connecting.cancel)
    server.open()
    house.loop.run_until_idle()
    with pytest.raises(Cancelled):
        connecting.result()
    assert (client.get_state(), server.stream.is_cut) == ("disconnected", True)
    assert names(house) == ["connect", "disconnect"]
    assert house.loop.tasks == []


def test_wait_closed_goes_on_over_reconnects(house: House) -> None:
    client = persistent(house)
    server = house.connect(client)
    waiting = [house.start(client.wait_closed()) for _ in range(2)]
    server.stream.reset()
    house.loop.advance(1)
    latest(house).open()
    assert not any(task.is_done for task in waiting)
    leaving = house.start(client.disconnect())
    assert not any(task.is_done for task in waiting)  # its socket is not gone
    house.streams[-1].reset()
    assert leaving.is_done
    assert all(task.is_done for task in waiting)


# --- The order of things ----------------------------------------------------------------------------------


def test_handlers_that_are_slow_hold_up_what_follows_and_not_the_reconnect(house: House) -> None:
    client = persistent(house)

    @client.on("work")
    async def work(data: Any) -> None:
        await house.loop.sleep(10)
        house.log.append(("worked", data))

    server = house.connect(client)
    server.stream.send(server.event("work", 1))
    server.stream.reset()
    assert names(house) == ["connect"]
    house.loop.advance(1)
    server = latest(house).open()
    assert client.is_connected()  # already
    server.stream.send(server.event("work", 2))
    assert names(house) == ["connect"]
    house.loop.advance(10)
    steps = ["connect", "worked", "error", "disconnect", "reconnecting", "connect"]
    assert names(house) == steps
    house.loop.advance(10)
    assert house.log[-1] == ("worked", 2)


def test_a_handler_that_cancels_itself_holds_up_nothing(house: House) -> None:
    """As a task of asyncio may."""
    client = persistent(house)

    @client.on("work")
    async def work(data: Any) -> None:
        await house.loop.sleep(2)
        raise Cancelled

    server = house.connect(client)
    server.stream.send(server.event("work"))
    server.stream.reset()
    house.loop.advance(1)
    latest(house).open()
    assert names(house) == ["connect"]
    house.loop.advance(1)
    assert names(house) == ["connect", "error", "disconnect", "reconnecting", "connect"]


def test_disconnect_tells_what_slow_handlers_held_up(house: House) -> None:
    client = persistent(house)

    @client.on("work")
    async def work(data: Any) -> None:
        try:
            await VirtualEvent().wait()
        finally:
            house.log.append(("cancelled", data))

    @client.on("disconnect")
    async def later(code: int, reason: str) -> None:
        await house.loop.sleep(0.1)
        house.log.append(("later", code))

    @client.on("disconnect")
    def fail(code: int, reason: str) -> None:
        raise HandlerError("logged")

    server = house.connect(client)
    server.stream.send(server.event("work", 1) + server.event("work", 2))
    server.stream.reset()
    house.loop.advance(1)
    latest(house).open().stream.send(server.event("work", 3))
    leaving = house.start(client.disconnect())
    house.streams[-1].send(server.bye())
    house.streams[-1].end()
    house.loop.advance(1)
    assert leaving.is_done
    told = ["error", "disconnect", "later", "reconnecting", "connect", "disconnect", "later"]
    assert names(house) == ["connect", "cancelled", *told]


def test_async_handlers_of_the_end_are_waited_for_and_not_for_ever(house: House) -> None:
    client = persistent(house, close_timeout=3)
    gate = VirtualEvent()

    @client.on("disconnect")
    async def save(code: int, reason: str) -> None:
        await gate.wait()
        house.log.append(("saved",))

    for is_quick in (True, False):
        gate = VirtualEvent()
        server = house.connect(client)
        leaving = house.start(client.disconnect())
        server.stream.reset()
        assert not leaving.is_done
        if is_quick:
            gate.set()
            house.loop.run_until_idle()
        house.loop.advance(0 if is_quick else 3)
        assert leaving.is_done
    assert names(house).count("saved") == 1


def test_requests_in_flight_end_with_the_connection(house: House) -> None:
    client = persistent(house)
    server = house.connect(client)
    request = house.start(client.request("x"))
    server.stream.reset()
    with pytest.raises(ConnectionLost):
        request.result()
    with pytest.raises(StateError, match="no connection"):
        house.loop.run(client.request("x"))


def test_a_server_that_lies_is_named(house: House) -> None:
    """A message that is none costs itself; what is no frame costs the connection, and that is replaced."""
    client = persistent(house)
    server = house.connect(client)
    server.stream.send(server.event("a b"))
    error = client.get_last_error()
    assert isinstance(error, PeerError)
    assert (error.code, house.log[-1]) == ("INVALID_MESSAGE", ("error", error))
    assert client.is_connected()
    server.stream.send(b"\xff" * 20)
    house.loop.advance(10)
    assert names(house)[2:5] == ["error", "disconnect", "reconnecting"]


def test_the_id_and_the_time_are_those_of_the_connection(house: House) -> None:
    client = persistent(house)
    assert client.get_connect_time() is None
    server = house.connect(client)
    began = client.get_connect_time()
    assert began == house.loop.wall_clock()
    server.stream.reset()
    assert (client.get_id(), client.get_connect_time()) == (None, began)
    house.loop.advance(1)
    latest(house).open()
    assert client.get_id() == "me"
    assert client.get_connect_time() == house.loop.wall_clock() != began


def test_the_next_connection_may_go_elsewhere(house: House) -> None:
    client = persistent(house)
    server = house.connect(client)
    other = "tcp" if house.wire == "ws" else "ws"
    streams = house.network.listen_raw(4000)
    client.set_url(f"{other}://localhost:4000")
    assert client.get_url() == f"{other}://localhost:4000"
    assert client.is_connected()
    client.emit("kept")  # over the connection there is
    house.loop.run_until_idle()
    assert server.heard() == [("event", "kept", None)]
    server.stream.reset()
    client.emit("moved", {"n": 1})
    client.set_url(f"{other}://localhost:4001")
    client.set_url(f"{other}://localhost:4000")
    house.loop.advance(1)
    second = SERVERS[other](streams[0]).open()
    assert client.is_connected()
    assert second.heard() == [("event", "moved", {"n": 1})]
    with pytest.raises(ValueError, match="mode"):
        client.update_options(mode=house.wire)


def test_a_campaign_that_is_called_off_before_its_first_turn_does_nothing(house: House) -> None:
    """Some loops let a cancelled task run to where it first waits."""
    client = persistent(house)
    server = house.connect(client)
    spawned: list[Any] = []
    client.virtual_runtime.spawn = spawned.append  # type: ignore[method-assign,assignment]
    server.stream.reset()
    house.loop.run(client.disconnect())
    [campaign] = spawned
    with pytest.raises(StopIteration):
        campaign.send(None)
    assert client.get_state() == "disconnected"
    assert attempts(house) == []


def test_disconnect_tells_that_a_connection_came_which_nobody_was_told_of(house: House) -> None:
    client = persistent(house)
    client.on("work", lambda data: VirtualEvent().wait())
    server = house.connect(client)
    server.stream.send(server.event("work"))
    server.stream.reset()
    house.loop.advance(1)
    latest(house).open()
    leaving = house.start(client.disconnect())
    house.streams[-1].reset()
    assert leaving.is_done
    assert [name for name in names(house) if name != "error"] == [
        *("connect", "disconnect", "reconnecting", "connect", "disconnect")
    ]


def test_a_connection_that_opens_when_it_was_called_off_is_none(house: House) -> None:
    client = persistent(house)
    connecting, server = house.dial(client)
    house.loop.start(client.disconnect())
    server.open()
    with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
        connecting.result()
    assert (client.get_state(), house.log, server.stream.is_cut) == ("disconnected", [], True)
    client.handle_deadlines()  # a timer that was on its way


def test_disconnect_that_is_cancelled_cuts_what_it_was_waiting_for(house: House) -> None:
    client = persistent(house)
    server = house.connect(client)
    leaving = house.start(client.disconnect())
    leaving.cancel()
    house.loop.run_until_idle()
    assert leaving.is_done
    assert server.stream.is_cut
    assert (client.get_state(), house.loop.tasks) == ("disconnected", [])
    assert names(house) == ["connect", "disconnect"]


# --- Handlers that hang -------------------------------------------------------------------------------------


def chain_length(client: VirtualClient) -> int:
    link, length = client._last_link, 0
    while link is not None:
        link, length = link._previous, length + 1
    return length


def hang_at(house: House, client: VirtualClient, event: str) -> None:
    @client.on(event)
    async def hang(*arguments: object) -> None:
        house.log.append(("hangs", event))
        await VirtualEvent().wait()


def test_a_handler_that_hangs_holds_up_the_next_connection_for_a_bounded_time(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    client = persistent(house, handler_timeout=10)
    hang_at(house, client, "x")
    server = house.connect(client)
    server.stream.send(server.event("x"))
    server.stream.reset()
    house.loop.advance(1)
    SERVERS[house.wire](house.streams[-1]).open()
    assert client.is_connected()
    house.loop.advance(8.9)
    assert names(house) == ["connect", "hangs"]
    house.loop.advance(1.2)
    assert names(house) == ["connect", "hangs", "error", "disconnect", "reconnecting", "connect"]
    assert client.get_handlers_cancelled() == 1
    assert (
        caplog.messages.count(
            "a handler of a connection that has ended is cancelled: it held up all events for 10 s"
        )
        == 1
    )


def test_connections_whose_handlers_all_hang_do_not_pile_up(house: House) -> None:
    client = persistent(house, handler_timeout=10, reconnection_attempts=None, max_reconnection_delay=2)
    hang_at(house, client, "x")
    hang_at(house, client, "disconnect")
    server = house.connect(client)
    longest = 0
    for _ in range(100):
        server.stream.send(server.event("x"))
        server.stream.reset()
        house.loop.advance(3)
        server = SERVERS[house.wire](house.streams[-1]).open()
        longest = max(longest, chain_length(client))
    assert len(house.streams) > 90
    assert 3 < longest < 12
    assert client.get_handlers_cancelled() > 150


def test_a_handler_that_goes_on_when_it_is_cancelled_is_counted_once(house: House) -> None:
    client = persistent(house, handler_timeout=5)

    @client.on("x")
    async def stubborn(_: object) -> None:
        for _ in range(3):
            try:
                await VirtualEvent().wait()
            except Cancelled:
                house.log.append(("no",))

    server = house.connect(client)
    server.stream.send(server.event("x"))
    server.stream.reset()
    house.loop.advance(1)
    SERVERS[house.wire](house.streams[-1]).open()
    house.loop.advance(10)
    assert names(house) == ["connect", "no", "no", "no", "error", "disconnect", "reconnecting", "connect"]
    assert client.get_handlers_cancelled() == 1


def test_handlers_may_be_given_all_the_time_they_want(house: House) -> None:
    client = persistent(house, handler_timeout=None)
    hang_at(house, client, "x")
    server = house.connect(client)
    server.stream.send(server.event("x"))
    server.stream.reset()
    house.loop.advance(1)
    SERVERS[house.wire](house.streams[-1]).open()
    house.loop.advance(25)
    assert names(house) == ["connect", "hangs"]
    assert client.get_handlers_cancelled() == 0

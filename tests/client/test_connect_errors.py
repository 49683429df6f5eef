"""Connecting when something is in the way, and the handshake: every failure is told with its cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stelar_proto.client.link import Link
from stelar_proto.errors import (
    ConnectError,
    HandshakeError,
    PeerFailure,
    PeerTimeout,
    StateError,
    StreamEnded,
    UpgradeRefused,
)
from tests.client.house import SERVERS, House, RawWebSocketServer
from tests.support.memory import VirtualClient
from tests.support.virtual import Cancelled, VirtualRuntime
from tests.support.wires import frame


@pytest.fixture
def web() -> Iterator[House]:
    house = House("ws")
    yield house
    house.close()


@pytest.fixture
def binary() -> Iterator[House]:
    house = House("tcp")
    yield house
    house.close()


def fail(house: House, client: VirtualClient, *said: bytes) -> ConnectError:
    """Connect to a server that says ``said``; ``b""`` ends its stream. Return what came of it."""
    connecting, server = house.dial(client)
    for data in said:
        server.stream.send(data)
    house.loop.advance(30)
    assert server.stream.transport.is_lost
    assert client.get_state() == "disconnected"
    with pytest.raises(ConnectError) as caught:
        connecting.result()
    assert client.get_last_error() is caught.value
    assert str(caught.value).startswith(f"cannot connect to {house.url}: ")
    return caught.value


def test_where_nobody_listens_the_error_names_the_address(house: House) -> None:
    client = house.client()
    house.network.stop_listening(3000)
    with pytest.raises(ConnectError) as caught:
        house.loop.run(client.connect())
    assert str(caught.value) == f"cannot connect to {house.url}: connection refused"
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert client.get_last_error() is caught.value
    assert client.get_state() == "disconnected"
    house.network.listen_raw(3000)
    house.start(client.connect())
    assert client.get_state() == "connecting"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(113, "No route to host"), "No route to host"),
        (TimeoutError("no connection within 3 s"), "no connection within 3 s"),
    ],
)
def test_what_the_system_says_is_handed_on(house: House, error: OSError, words: str) -> None:
    class Unlucky(VirtualClient):
        async def _dial(self, link: Link) -> None:
            raise error

    client = Unlucky(house.network, house.url)
    for event in ("connect", "disconnect", "error"):
        client.on(event, house.note(event))
    with pytest.raises(ConnectError, match=words) as caught:
        house.loop.run(client.connect())
    assert caught.value.__cause__ is error
    assert house.log == []


def test_a_server_that_says_nothing_is_given_up_in_time(house: House) -> None:
    error = fail(house, house.client(connect_timeout=7))
    words = str(error).removeprefix(f"cannot connect to {house.url}: ")
    assert words.startswith("no handshake within 7 s")
    assert ("use ws://" in words) == (house.wire == "tcp")  # where a server speaks first
    assert isinstance(error.__cause__, PeerTimeout)


def test_a_server_that_ends_the_stream_at_once(house: House) -> None:
    error = fail(house, house.client(), b"")
    assert error.__cause__ is not None
    if house.wire == "tcp":
        assert isinstance(error.__cause__, StreamEnded)
    else:
        assert isinstance(error.__cause__, HandshakeError)


def test_a_connection_that_breaks_at_once(house: House) -> None:
    client = house.client()
    connecting, server = house.dial(client)
    server.stream.reset()
    with pytest.raises(ConnectError) as caught:
        connecting.result()
    assert caught.value.__cause__ is not None


def test_a_refusal_is_told_with_its_status(web: House) -> None:
    error = fail(web, web.client(), b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nFull")
    assert str(error).endswith("the server refused the upgrade: HTTP 503 Service Unavailable")
    assert isinstance(error.__cause__, UpgradeRefused)
    assert error.__cause__.response.body == b"Full"


def test_an_answer_to_another_question_is_no_answer(web: House) -> None:
    client = web.client()
    connecting, server = web.dial(client)
    assert isinstance(server, RawWebSocketServer)
    server.stream.send(server.accept(b"AAAAAAAAAAAAAAAAAAAAAA=="))
    with pytest.raises(ConnectError, match="Sec-WebSocket-Accept") as caught:
        connecting.result()
    assert isinstance(caught.value.__cause__, HandshakeError)


def test_when_the_error_is_raised_the_connection_is_gone(house: House) -> None:
    async def connect() -> None:
        with pytest.raises(ConnectError):
            await house.client().connect()
        assert house.streams[0].transport.is_lost

    connecting = house.start(connect())
    house.streams[0].send(b"\xff" * 20)
    house.loop.advance(30)
    connecting.result()


def test_what_is_no_http_is_no_server(web: House) -> None:
    assert isinstance(fail(web, web.client(), b"220 smtp.example.com\r\n\r\n").__cause__, HandshakeError)


def test_an_error_frame_tells_why(binary: House) -> None:
    error = fail(binary, binary.client(), frame(10, "error", b"Server full"))
    assert str(error).endswith(": Server full")
    assert isinstance(error.__cause__, PeerFailure)


def test_a_goodbye_instead_of_a_welcome(binary: House) -> None:
    error = fail(binary, binary.client(), frame(7, "", b""))
    assert str(error).endswith(": Server shutting down")
    assert error.__cause__ is None


def test_a_failed_connection_disturbs_no_handler_and_may_be_tried_again(house: House) -> None:
    client = house.client()
    for event in ("connect", "disconnect", "error"):
        client.on(event, house.note(event))
    fail(house, client, b"")
    assert house.log == []
    house.connect(client)
    assert house.log == [("connect",)]


def test_disconnect_ends_a_connection_that_is_being_made(house: House) -> None:
    client = house.client()
    connecting, server = house.dial(client)
    leaving = house.start(client.disconnect())
    with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
        connecting.result()
    assert leaving.is_done
    assert server.stream.is_cut
    assert client.get_state() == "disconnected"


def test_a_cancelled_connect_leaves_nothing_behind(house: House) -> None:
    client = house.client()
    connecting, server = house.dial(client)
    connecting.cancel()
    house.loop.run_until_idle()
    with pytest.raises(Cancelled):
        connecting.result()
    assert server.stream.is_cut
    assert client.get_state() == "disconnected"
    house.connect(client)


def test_a_stream_that_comes_when_the_dial_was_given_up_is_let_go(house: House) -> None:
    class Slow(VirtualClient):
        async def _dial(self, link: Link) -> None:
            links.append(link)
            await house.loop.sleep(5)
            await super()._dial(link)

    links: list[Link] = []
    client = Slow(house.network, house.url)
    connecting = house.start(client.connect())
    connecting.cancel()
    house.loop.run_until_idle()
    assert client.get_state() == "disconnected"
    following = house.start(client.connect())
    house.network.dial(client.virtual_runtime, links[0], "localhost", 3000)  # the stream of the first attempt
    house.loop.run_until_idle()
    assert house.streams[0].is_cut
    assert client.get_state() == "connecting"
    house.loop.advance(5)
    SERVERS[house.wire](house.streams[1]).open()
    following.result()
    assert client.is_connected()


def test_disconnect_while_dialling_ends_that_at_once(house: House) -> None:
    class Slow(VirtualClient):
        async def _dial(self, link: Link) -> None:
            await house.loop.sleep(5)
            await super()._dial(link)

    client = Slow(house.network, house.url)
    connecting, leaving = house.start(client.connect()), house.start(client.disconnect())
    with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
        connecting.result()
    assert leaving.is_done
    house.loop.advance(5)
    assert house.streams == []


class SlowlyStarting(VirtualRuntime):
    async def start(self) -> None:
        await self.loop.sleep(1)


def test_of_two_that_connect_while_the_loop_starts_one_does(house: House) -> None:
    client = house.client()
    client.virtual_runtime = SlowlyStarting(house.loop, client.handle_deadlines)
    first, second = house.start(client.connect()), house.start(client.connect())
    with pytest.raises(StateError, match="already"):
        second.result()
    assert house.streams == []
    house.loop.advance(1)
    SERVERS[house.wire](house.streams[0]).open()
    first.result()
    assert client.is_connected()


def test_a_connect_that_is_cancelled_while_the_loop_starts_leaves_nothing_behind(house: House) -> None:
    client = house.client()
    client.virtual_runtime = SlowlyStarting(house.loop, client.handle_deadlines)
    connecting = house.start(client.connect())
    assert client.get_state() == "connecting"
    connecting.cancel()
    house.loop.run_until_idle()
    assert (client.get_state(), client._runtime) == ("disconnected", None)


def test_disconnect_while_the_loop_starts_ends_that(house: House) -> None:
    client = house.client()
    client.virtual_runtime = SlowlyStarting(house.loop, client.handle_deadlines)
    connecting, leaving = house.start(client.connect()), house.start(client.disconnect())
    house.loop.advance(1)
    with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
        connecting.result()
    assert leaving.is_done
    assert (client.get_state(), house.streams, house.loop.tasks) == ("disconnected", [], [])


class SlowlyClosing(VirtualRuntime):
    async def close(self, timeout: float | None = None) -> int:
        await self.loop.sleep(1)
        return await super().close(timeout)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_disconnect_ends_a_connection_that_is_being_made_however_slowly(
    house: House, is_cancelled: bool
) -> None:
    client = house.client()
    client.virtual_runtime = SlowlyClosing(house.loop, client.handle_deadlines)
    connecting, server = house.dial(client)
    leaving = house.loop.start(client.disconnect())
    if is_cancelled:
        house.loop.call_soon(connecting.cancel)
    house.loop.run_until_idle()
    assert server.stream.is_cut
    house.loop.advance(1)
    with pytest.raises(Cancelled if is_cancelled else ConnectError):
        connecting.result()
    assert leaving.is_done
    assert house.loop.tasks == []


def test_who_ended_a_connection_does_not_end_the_next(house: House) -> None:
    """Both wait for the same end; one of them connects again before the other has gone on."""

    async def connect_again() -> None:
        with pytest.raises(ConnectError):
            await connecting()
        client.virtual_runtime = VirtualRuntime(house.loop, client.handle_deadlines)
        await client.connect()

    client = house.client()
    connecting = client.connect
    again = house.start(connect_again())
    leaving = house.start(client.disconnect())
    assert leaving.is_done
    SERVERS[house.wire](house.streams[1]).open()
    again.result()
    assert client.is_connected()
    assert client._runtime is client.virtual_runtime


# --- The handshake ----------------------------------------------------------------------------------------


def test_the_url_and_the_headers_stand_in_the_handshake(web: House) -> None:
    web.url = "ws://ana:secret@localhost:3000/chat?token=1"
    client = web.client(headers={"X-App": "demo"})
    _, server = web.dial(client)
    assert isinstance(server, RawWebSocketServer)
    lines = server.read_request().split(b"\r\n")
    assert lines[0] == b"GET /chat?token=1 HTTP/1.1"
    assert {b"Host: localhost:3000", b"X-App: demo", b"Authorization: Basic YW5hOnNlY3JldA=="} <= set(lines)


def test_a_password_is_in_no_message(web: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    web.url = "ws://ana:secret@localhost:3000/"
    client = web.client()
    connecting, server = web.dial(client)
    server.stream.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ConnectError, match="401") as caught:
        connecting.result()
    with pytest.raises(StateError) as caught_too:
        web.loop.run(client.request("x"))
    texts = [str(caught.value), str(caught_too.value), repr(client), client.get_url(), caplog.text]
    assert not any("secret" in text for text in texts)


def test_the_wrong_accept_of_the_npm_package_is_taken_if_that_is_asked_for(web: House) -> None:
    wrong = b"258EAFA5-E914-47DA-95CA-5AB5A7E3A741"
    for option in (False, True):
        client = web.client(accept_npm_handshake=option)
        connecting, server = web.dial(client)
        assert isinstance(server, RawWebSocketServer)
        server.stream.send(server.accept(guid=wrong))
        if option:
            connecting.result()
        else:
            with pytest.raises(ConnectError):
                connecting.result()


def test_the_npm_dialect_is_spoken_if_that_is_asked_for(binary: House) -> None:
    client = binary.client(tcp_dialect="npm")
    connecting, server = binary.dial(client)
    server.stream.send(frame(7, "connect", b"me"))
    connecting.result()
    client.emit("x", 1)
    binary.loop.run_until_idle()
    assert server.stream.take() == b"\0\0\0\x09\1\0\1x1"


def test_a_server_that_tells_no_id_is_talked_to_without_one(web: House) -> None:
    client = web.client()
    connecting, server = web.dial(client)
    assert isinstance(server, RawWebSocketServer)
    server.stream.send(server.accept().replace(b"Sec-Stelar-Client-Id: me\r\n", b""))
    connecting.result()
    assert client.get_id() is None
    server.stream.send(server.event("stelar:connect", {"id": "you"}))
    assert client.get_id() == "you"

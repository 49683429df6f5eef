"""The client of plain connections: what it asks, why it cannot connect, and how it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.errors import (
    ConnectError,
    ConnectionClosed,
    HandshakeError,
    PeerTimeout,
    StateError,
    UpgradeRefused,
)
from tests.plain.house import CLOSE, PORT, TEXT, House, RawPeer, accept
from tests.support.memory import RawStream, VirtualConnector
from tests.support.virtual import Cancelled, VirtualEvent, VirtualTask


class Dialing:
    """One attempt to connect, and the server's end of it."""

    def __init__(self, house: House, url: str = "ws://localhost:8765", **options: Any) -> None:
        accepted = house.network.listen_raw(PORT)
        self.house = house
        self.connector = VirtualConnector(house.network, url, **options)
        self.task: VirtualTask[Any] = house.start(self.connector.__aenter__())
        self.stream: RawStream = accepted[0]
        self.request = self.stream.take()

    def error(self) -> ConnectError:
        """Why it failed."""
        with pytest.raises(ConnectError) as caught:
            self.task.result()
        return caught.value


def leave(connector: VirtualConnector) -> Any:
    return connector.__aexit__(None, None, None)


# --- Asking -------------------------------------------------------------------------------------------------


def test_the_request_names_the_target_and_nothing_else(connecting: House) -> None:
    dialing = Dialing(connecting, "ws://localhost:8765/chat?room=1")
    lines = dialing.request.split(b"\r\n")
    assert lines[:4] == [
        b"GET /chat?room=1 HTTP/1.1",
        b"Host: localhost:8765",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
    ]
    assert b"Authorization" not in dialing.request
    assert b"Sec-WebSocket-Protocol" not in dialing.request
    dialing.stream.send(accept(dialing.request))
    request = dialing.task.result().request
    assert (request.path, request.query) == ("/chat", {"room": ["1"]})


def test_user_and_password_are_basic_authorization(connecting: House) -> None:
    dialing = Dialing(connecting, "ws://user:pass@localhost:8765")
    assert b"\r\nAuthorization: Basic dXNlcjpwYXNz\r\n" in dialing.request
    assert b"pass@" not in dialing.request
    assert "pass" not in repr(dialing.connector)
    dialing.stream.end()
    assert "pass" not in str(dialing.error())


def test_headers_and_subprotocols_are_asked_with(connecting: House) -> None:
    dialing = Dialing(connecting, headers={"Origin": "https://a.example"}, subprotocols=["chat", "v2"])
    assert b"\r\nOrigin: https://a.example\r\n" in dialing.request
    assert b"\r\nSec-WebSocket-Protocol: chat, v2\r\n" in dialing.request
    dialing.stream.send(accept(dialing.request, b"Sec-WebSocket-Protocol: v2", b"Server: hand"))
    connection = dialing.task.result()
    assert connection.subprotocol == "v2"
    assert connection.response.headers.get("server") == "hand"


@pytest.mark.parametrize("url", ["ftp://localhost", "ws://", "localhost", "ws://localhost/#part", ""])
def test_a_url_that_makes_no_sense_is_refused_at_once(connecting: House, url: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        VirtualConnector(connecting.network, url)


def test_a_header_that_the_handshake_owns_is_refused_at_once(connecting: House) -> None:
    with pytest.raises(ValueError, match="Upgrade"):
        VirtualConnector(connecting.network, headers={"Upgrade": "h2c"})


# --- Why it cannot connect ----------------------------------------------------------------------------------


def test_nobody_listening_is_a_connect_error_that_names_the_address(connecting: House) -> None:
    connector = VirtualConnector(connecting.network)
    with pytest.raises(
        ConnectError, match=r"^cannot connect to ws://localhost:8765/?: connection refused$"
    ) as caught:
        connecting.run(connector.__aenter__())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_refusal_is_a_connect_error_whose_cause_has_the_response(connecting: House) -> None:
    dialing = Dialing(connecting)
    dialing.stream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nX-Why: so\r\n\r\nno!\n")
    dialing.stream.end()
    error = dialing.error()
    assert "403" in str(error)
    cause = error.__cause__
    assert isinstance(cause, UpgradeRefused)
    assert cause.response is not None
    assert (cause.response.status, cause.response.body) == (403, b"no!\n")
    assert cause.response.headers.get("x-why") == "so"


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ],
)
def test_garbage_for_an_answer_is_a_connect_error(connecting: House, answer: bytes) -> None:
    dialing = Dialing(connecting)
    dialing.stream.send(answer)
    error = dialing.error()
    assert str(error).startswith("cannot connect to ws://localhost:8765")
    assert error.__cause__ is not None
    assert dialing.stream.is_cut


def test_a_subprotocol_that_was_not_asked_for_is_a_connect_error(connecting: House) -> None:
    dialing = Dialing(connecting)
    dialing.stream.send(accept(dialing.request, b"Sec-WebSocket-Protocol: chat"))
    assert "subprotocol" in str(dialing.error())


def test_a_stream_that_ends_is_a_connect_error(connecting: House) -> None:
    dialing = Dialing(connecting)
    dialing.stream.end()
    error = dialing.error()
    assert "the connection ended before a complete HTTP response had come" in str(error)
    assert isinstance(error.__cause__, HandshakeError)


def test_a_stream_that_is_cut_is_a_connect_error(connecting: House) -> None:
    dialing = Dialing(connecting)
    dialing.stream.reset()
    assert str(dialing.error()).startswith("cannot connect to ws://localhost:8765")


def test_a_server_that_does_not_answer_is_a_connect_error_in_connect_timeout(connecting: House) -> None:
    dialing = Dialing(connecting, connect_timeout=2)
    dialing.stream.send(b"HTTP/1.1 101")
    connecting.loop.advance(1.5)
    assert not dialing.task.is_done
    connecting.loop.advance(0.5)
    error = dialing.error()
    assert str(error).endswith("no handshake within 2 s")
    assert isinstance(error.__cause__, PeerTimeout)
    assert dialing.stream.is_cut


@pytest.mark.parametrize(
    "error", [TimeoutError("no connection within 1 s"), OSError(113, "No route to host")]
)
def test_what_dialing_raises_is_the_cause(connecting: House, error: OSError) -> None:
    class Unlucky(VirtualConnector):
        async def _dial(self, runtime: Any, endpoint: Any) -> None:
            raise error

    with pytest.raises(ConnectError, match=str(error.strerror or error)) as caught:
        connecting.run(Unlucky(connecting.network).__aenter__())
    assert caught.value.__cause__ is error


def test_what_is_no_os_error_comes_out_of_dialing_as_it_is(connecting: House) -> None:
    class Broken(VirtualConnector):
        async def _dial(self, runtime: Any, endpoint: Any) -> None:
            raise ZeroDivisionError

    connector = Broken(connecting.network)
    for _ in range(2):  # and nothing of the attempt is left
        with pytest.raises(ZeroDivisionError):
            connecting.run(connector.__aenter__())


def test_a_cancelled_attempt_cuts_the_stream(connecting: House) -> None:
    dialing = Dialing(connecting)
    connecting.cancel(dialing.task)
    with pytest.raises(Cancelled):
        dialing.task.result()
    assert dialing.stream.is_cut


# --- Being connected, and leaving ---------------------------------------------------------------------------


def test_messages_in_one_chunk_with_the_answer_are_received(connecting: House) -> None:
    dialing = Dialing(connecting)
    peer = RawPeer(dialing.stream, masks=False)
    frames = peer.frame(TEXT, b"early") + peer.close_frame(4000, b"and gone")
    dialing.stream.send(accept(dialing.request) + frames)
    connection = dialing.task.result()
    assert connecting.run(connection.recv()) == "early"
    with pytest.raises(ConnectionClosed, match="4000: and gone"):
        connecting.run(connection.recv())


def test_entering_twice_is_an_error_that_says_so(connecting: House) -> None:
    dialing = Dialing(connecting)
    for _ in range(2):
        with pytest.raises(StateError, match="already: make another connector"):
            connecting.run(dialing.connector.__aenter__())
        dialing.stream.send(accept(dialing.request) if not dialing.task.is_done else b"\x89\x00")
    assert dialing.task.result().is_open


def test_leaving_closes_in_good_order_and_the_connector_can_be_used_again(connecting: House) -> None:
    accepted = connecting.network.listen_raw(PORT)
    connector = VirtualConnector(connecting.network)
    assert repr(connector).startswith("<VirtualConnector to ws://localhost:8765")
    for attempt in range(2):
        entering = connecting.start(connector.__aenter__())
        stream = accepted[attempt]
        stream.send(accept(stream.take()))
        peer = RawPeer(stream, masks=False)
        peer.say("unread")
        leaving = connecting.start(leave(connector))
        assert peer.heard() == [(CLOSE, b"\x03\xe8")]
        assert not leaving.is_done
        peer.close(1000)
        peer.stream.end()
        assert leaving.is_done
        assert entering.result().close_code == 1000


def test_leaving_a_connection_that_has_ended_raises_nothing(connecting: House) -> None:
    dialing = Dialing(connecting)
    dialing.stream.send(accept(dialing.request))
    dialing.stream.reset()
    connecting.run(leave(dialing.connector))
    dialing.connector.handle_deadlines()  # a timer that came too late


def test_leaving_is_bounded_by_close_timeout(connecting: House) -> None:
    dialing = Dialing(connecting, close_timeout=3)
    dialing.stream.send(accept(dialing.request))
    leaving = connecting.start(leave(dialing.connector))
    connecting.loop.advance(2.5)
    assert not leaving.is_done
    connecting.loop.advance(0.5)
    assert leaving.is_done
    assert dialing.stream.is_cut


def test_leaving_that_is_cancelled_cuts_the_stream(connecting: House) -> None:
    dialing = Dialing(connecting)
    dialing.stream.send(accept(dialing.request))
    leaving = connecting.start(leave(dialing.connector))
    connecting.cancel(leaving)
    with pytest.raises(Cancelled):
        leaving.result()
    assert dialing.stream.is_cut


@pytest.fixture
def served(connecting: House) -> House:
    """A server of ours on the same network."""
    connecting.serve()
    return connecting


@pytest.mark.parametrize("how", ["exception", "cancelled"])
def test_a_body_that_does_not_end_well_closes_the_connection_too(served: House, how: str) -> None:
    async def use() -> None:
        async with VirtualConnector(served.network) as connection:
            await connection.send("hola")
            if how == "exception":
                raise ZeroDivisionError
            await VirtualEvent().wait()

    task = served.start(use())
    if how == "cancelled":
        served.cancel(task)
    served.kept.set()
    served.loop.run_until_idle()
    with pytest.raises(ZeroDivisionError if how == "exception" else Cancelled):
        task.result()
    assert served.connections[0].close_code == 1000


def test_client_and_server_of_ours_talk_to_each_other(served: House) -> None:
    async def use() -> list[str | bytes]:
        async with VirtualConnector(served.network) as connection:
            await connection.send_fragments(["frag", "ments"])
            await connection.send(b"binary")
            (server_side,) = served.connections
            received = [await server_side.recv() for _ in range(2)]
            await server_side.send("x" * 300_000)
            received.append(await connection.recv())
            assert await connection.ping() == 0
            return received

    assert served.run(use()) == ["fragments", b"binary", "x" * 300_000]

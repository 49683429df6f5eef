"""A server that sends the client elsewhere: one attempt, one deadline, and no word to anybody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stelar_proto.client.campaign import Campaign
from stelar_proto.errors import ConnectError, UpgradeRefused
from tests.client.house import House, RawWebSocketServer
from tests.support.memory import RawStream, VirtualClient


@pytest.fixture
def house() -> Iterator[House]:
    house = House("ws")
    yield house
    house.close()


def redirect(stream: RawStream, location: str, status: int = 302) -> None:
    stream.send(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


def request_of(stream: RawStream) -> bytes:
    return RawWebSocketServer(stream).read_request()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_client_asks_again_where_it_is_sent_with_all_that_it_had_to_say(
    house: House, status: int
) -> None:
    client = VirtualClient(
        house.network,
        "ws://me:pass@localhost:3000/a",
        reconnection=False,
        headers={"Cookie": "token=1"},
        hooks={"on_error": house.note("error")},
    )
    states: list[str] = []
    client.update_options(hooks={"on_state_change": lambda state, previous: states.append(state)})
    connecting, _ = house.dial(client)
    first = request_of(house.streams[0])
    redirect(house.streams[0], "/b?c", status)
    assert house.streams[0].transport.is_lost
    server = RawWebSocketServer(house.streams[1])
    server.open()
    connecting.result()
    assert first.startswith(b"GET /a HTTP/1.1\r\n")
    assert server.request_head.startswith(b"GET /b?c HTTP/1.1\r\n")
    for head in (first, server.request_head):
        assert b"\r\nAuthorization: Basic bWU6cGFzcw==\r\n" in head
        assert head.endswith(b"\r\nCookie: token=1")
    assert states == ["connecting", "connected"]
    assert house.log == []
    assert client.get_url() == "ws://localhost:3000/a"  # which is asked first the next time, too


def test_another_host_is_named_and_hears_nothing(house: House) -> None:
    client = house.client(headers={"Authorization": "Bearer secret"})
    connecting, _ = house.dial(client)
    house.network.listen_raw(80, house.streams)
    redirect(house.streams[0], "http://other.example/b")
    with pytest.raises(ConnectError) as caught:
        connecting.result()
    assert str(caught.value) == (
        "cannot connect to ws://localhost:3000/: the server redirects (HTTP 302) to another host, which is "
        "not followed: if you trust it, connect to ws://other.example/b"
    )
    assert isinstance(caught.value.__cause__, UpgradeRefused)
    assert len(house.streams) == 1


def test_five_in_a_row_are_enough(house: House) -> None:
    connecting, _ = house.dial(house.client())
    for index in range(6):
        redirect(house.streams[index], "/")
    with pytest.raises(ConnectError, match="as did 5 before it"):
        connecting.result()
    assert len(house.streams) == 6


def test_what_goes_wrong_there_tells_how_it_got_there(house: House) -> None:
    connecting, _ = house.dial(house.client())
    redirect(house.streams[0], "/b")
    house.streams[1].send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ConnectError) as caught:
        connecting.result()
    assert str(caught.value).startswith("cannot connect to ws://localhost:3000/b: ")
    assert str(caught.value).endswith("HTTP 404 Not Found (redirected there from ws://localhost:3000/)")
    assert isinstance(caught.value.__cause__, UpgradeRefused)


@pytest.mark.parametrize("answer", [b"302 Found\r\n", b"304 Not Modified\r\nLocation: /b\r\n"])
def test_what_is_no_redirect_is_a_refusal(house: House, answer: bytes) -> None:
    connecting, _ = house.dial(house.client())
    house.streams[0].send(b"HTTP/1.1 " + answer + b"Content-Length: 0\r\n\r\n")
    with pytest.raises(ConnectError, match=r"HTTP 30[24]"):
        connecting.result()
    assert len(house.streams) == 1


def test_all_of_it_together_has_one_deadline(house: House) -> None:
    connecting, _ = house.dial(house.client(connect_timeout=5))
    house.loop.advance(3)
    redirect(house.streams[0], "/b")
    house.loop.advance(1.9)
    assert not connecting.is_done
    house.loop.advance(0.1)
    with pytest.raises(ConnectError, match="no handshake within 5 s"):
        connecting.result()
    assert house.streams[1].is_cut


def test_disconnect_while_it_is_redirected_ends_it(house: House) -> None:
    client = house.client()
    connecting, _ = house.dial(client)
    redirect(house.streams[0], "/b")
    leaving = house.start(client.disconnect())
    with pytest.raises(ConnectError, match=r"disconnect\(\) was called"):
        connecting.result()
    leaving.result()
    assert house.streams[1].is_cut
    assert len(house.streams) == 2


def test_an_attempt_that_was_called_off_while_the_last_server_was_left_asks_nobody(house: House) -> None:
    client = house.client()
    connecting, _ = house.dial(client)
    others = Campaign(client.runtime, is_first=True)
    with pytest.raises(ConnectError, match="it was called off"):
        house.start(client._attempt(others, client.runtime)).result()
    assert len(house.streams) == 1
    RawWebSocketServer(house.streams[0]).open()
    connecting.result()

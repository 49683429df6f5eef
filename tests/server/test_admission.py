"""Who is taken in and who is not: every refusal comes before the 101, or in front of the Connect frame."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stelar_proto.errors import StateError
from stelar_proto.server import Context
from tests.server.house import House, raised
from tests.support.wires import ACCEPTED, UPGRADE

ERROR = b"\x0a\0\5error"


def refusal(house: House, wire: str) -> bytes:
    """What a client is told that is not taken in; its connection ends."""
    stream = house.stream(wire)
    if wire == "ws":
        stream.send(UPGRADE)
    told = stream.take()
    assert stream.has_ended
    stream.end()
    return told


def assert_refused(told: bytes, wire: str, status: int, words: str) -> None:
    if wire == "tcp":
        size = 12 + len(words)
        assert told == size.to_bytes(4, "big") + ERROR + words.encode()
    else:
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"\r\nConnection: close" in head
        assert body == f"{words}\n".encode()


def test_the_id_is_the_first_thing_a_client_is_told(house: House, wire: str) -> None:
    house.serve()
    stream = house.stream(wire)
    if wire == "tcp":
        assert stream.take() == b"\0\0\0\x10\6\0\7connectc1"
        return
    stream.send(UPGRADE)
    assert stream.take() == (
        ACCEPTED
        + b"Sec-Stelar-Client-Id: c1\r\n\r\n"
        + b'\x81\x2d{"event":"stelar:connect","data":{"id":"c1"}}'
    )


def test_without_announce_id_it_stands_in_the_101_alone(house: House) -> None:
    house.serve(announce_id=False)
    stream = house.stream("ws")
    stream.send(UPGRADE)
    assert stream.take() == ACCEPTED + b"Sec-Stelar-Client-Id: c1\r\n\r\n"


def test_ids_are_random_uuids_by_default(house: House, wire: str) -> None:
    house.serve(generate_client_id=None)
    first, second = house.connect(wire), house.connect(wire)
    for client in (first, second):
        assert client.id is not None
        assert [len(part) for part in client.id.split("-")] == [8, 4, 4, 4, 12]
        assert client.id[14] == "4"
    assert first.id != second.id
    assert house.server.get_clients() == [first.id, second.id]


def test_a_namespace_that_is_not_there_is_refused_with_404(house: House) -> None:
    house.serve(namespace="/chat")
    for path, status in [(b"/", 404), (b"/chat/", 404), (b"/chat?token=1", 101), (b"/ch%61t", 101)]:
        stream = house.stream("ws")
        stream.send(UPGRADE.replace(b"GET /", b"GET " + path))
        assert stream.take().startswith(b"HTTP/1.1 %d " % status)
        assert stream.has_ended == (status == 404)
    assert len(house.server.get_clients()) == 2


def test_the_namespace_concerns_websocket_only(house: House) -> None:
    house.serve(namespace="/chat")
    house.connect("tcp")
    assert house.server.get_clients() == ["c1"]


def test_a_full_server_refuses_and_takes_in_again_when_somebody_leaves(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(max_connections=2)
    first = house.connect(wire)
    house.connect("tcp")
    assert_refused(refusal(house, wire), wire, 503, "Server full")
    assert "refused 192.0.2.1: the server is full" in caplog.text
    assert house.server.get_clients() == ["c1", "c2"]
    house.leave(first)
    assert house.connect(wire).id == "c3"


def test_who_was_refused_is_no_client(house: House, wire: str) -> None:
    calls: list[Context] = []
    house.serve(max_connections=1)
    house.server.on_connection(calls.append)
    house.server.on_disconnect(calls.append)
    house.connect(wire)
    refusal(house, wire)
    stats = house.server.get_stats()
    assert (stats.total_connections, stats.active_connections) == (1, 1)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("client_id", "problem"),
    [
        ("", "1 to 256 ASCII"),
        ("x" * 257, "1 to 256 ASCII"),
        ("ñ", "1 to 256 ASCII"),
        (5, "1 to 256 ASCII"),
        (None, "1 to 256 ASCII"),
        ("a\r\nSet-Cookie: x", "cannot be printed"),
        ("a\0", "cannot be printed"),
        (" a", "spaces around it"),
        ("a\t", "cannot be printed"),
    ],
    ids=repr,
)
def test_an_id_that_cannot_travel_refuses_the_client(
    house: House, wire: str, client_id: Any, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(generate_client_id=lambda: client_id)
    assert_refused(refusal(house, wire), wire, 500, "No client id")
    assert problem in caplog.text


@pytest.mark.parametrize("client_id", ["a", "~" * 256, 'a "quoted" id', "{}"])
def test_any_printable_ascii_is_an_id(house: House, wire: str, client_id: str) -> None:
    house.serve(generate_client_id=lambda: client_id)
    assert house.connect(wire).id == client_id
    assert house.server.get_clients() == [client_id]


def test_an_id_that_is_taken_refuses_the_second_client(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.serve(generate_client_id=lambda: "ana")
    first = house.connect(wire)
    assert_refused(refusal(house, wire), wire, 500, "No client id")
    assert "'ana' is taken" in caplog.text
    first.stream.reset()
    assert house.connect(wire).id == "ana"


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_generator_that_raises_refuses_the_client(
    house: House, wire: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def generate() -> str:
        raise error("no more ids")

    house.serve(generate_client_id=generate)
    assert_refused(refusal(house, wire), wire, 500, "No client id")
    assert [str(error) for error in raised(caplog.records)] == ["no more ids"]


def test_coming_and_going_is_logged_with_the_id(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stelar.server")
    house.serve()
    house.leave(house.connect(wire))
    house.connect(wire).stream.reset()
    assert [record.getMessage() for record in caplog.records][::2] == [
        f"client c1 connected over {wire} from 192.0.2.1",
        f"client c2 connected over {wire} from 192.0.2.1",
    ]
    assert caplog.records[1].getMessage() == "client c1 left: 1000 "
    assert caplog.records[3].getMessage().startswith("c2: connection ended: ")
    assert [record.__dict__["client_id"] for record in caplog.records] == ["c1", "c1", "c2", "c2"]


def test_who_goes_without_having_been_a_client_is_logged_by_address(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stelar.server")
    house.serve()
    house.server.on_disconnect(lambda ctx: pytest.fail("it was no client"))
    house.stream("ws").end()
    [record] = caplog.records
    assert record.getMessage().startswith("192.0.2.1: connection ended: the stream ended before")


def test_the_server_logs_where_it_is_told_to(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house.serve(logger=logging.getLogger("mine"))
    house.connect("tcp")
    assert [record.name for record in caplog.records] == ["mine"]


def test_who_does_not_finish_the_handshake_in_time_is_cut(house: House) -> None:
    house.serve(connect_timeout=3)
    stream = house.stream("ws")
    stream.send(UPGRADE[:50])
    house.loop.advance(2)
    stream.send(UPGRADE[50:60])  # not a new lease
    house.loop.advance(0.9)
    assert not stream.is_cut
    house.loop.advance(0.1)
    assert stream.is_cut


def test_a_dead_client_is_dropped(house: House, wire: str) -> None:
    gone: list[Any] = []
    house.serve(heartbeat_interval=10, heartbeat_timeout=20)
    house.server.on_disconnect(lambda ctx: gone.append(ctx.data))
    house.connect(wire)
    house.loop.advance(29.9)
    assert gone == []
    house.loop.advance(0.1)
    assert gone == [{"code": 1011, "reason": "Heartbeat timeout"}]


# --- Starting and stopping --------------------------------------------------------------------------------


def test_a_stopping_server_says_goodbye_and_takes_nobody_in(house: House, wire: str) -> None:
    house.serve()
    client, early = house.connect(wire), house.stream("ws")
    early.send(UPGRADE[:20])
    stopping = house.loop.start(house.server.stop())
    house.loop.run_until_idle()
    assert client.heard() == [("closed", 1001, "Server shutting down")]
    assert early.is_cut  # whoever had not asked yet is not waited for
    assert_refused(refusal(house, wire), wire, 503, "Server shutting down")
    assert not stopping.is_done
    house.leave(client)
    assert stopping.is_done
    assert house.server.get_stats().active_connections == 0


def test_stopping_waits_for_the_clients_only_so_long(house: House, wire: str) -> None:
    house.serve(shutdown_timeout=3, close_timeout=60)
    client = house.connect(wire)
    stopping = house.loop.start(house.server.stop())
    house.loop.advance(2.9)
    assert not client.stream.is_cut
    house.loop.advance(0.1)
    assert client.stream.is_cut
    assert stopping.is_done


def test_shutting_down_twice_waits_for_the_same(house: House, wire: str) -> None:
    house.serve()
    client = house.connect(wire)
    emptied = house.server.shut_down()
    assert house.server.shut_down() is emptied
    house.loop.run_until_idle()
    house.leave(client)
    assert emptied.is_set()  # type: ignore[attr-defined]


def test_a_server_without_clients_has_stopped_at_once(house: House) -> None:
    house.serve()
    house.loop.run(house.server.stop())
    house.loop.run(house.server.stop())
    assert house.loop.now == 1000


def test_a_server_starts_again_and_counts_anew(house: House, wire: str) -> None:
    server = house.serve()
    with pytest.raises(StateError, match="running already"):
        server.begin(server.virtual_runtime)
    house.leave(house.connect(wire))
    house.loop.advance(5)
    assert server.get_stats().uptime == 5
    house.loop.run(server.stop())
    assert server.get_stats().total_connections == 1
    server.start_now()
    assert server.get_stats().total_connections == 0
    assert house.connect(wire).id == "c2"
    assert (server.get_stats().total_connections, server.get_stats().uptime) == (1, 0)


def test_a_server_that_was_not_started_says_so(house: House) -> None:
    house.serve()
    house.loop.run(house.server.stop())
    with pytest.raises(StateError, match="start it first"):
        house.server.connect("tcp")
    assert house.server.get_stats().uptime == 0

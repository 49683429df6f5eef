"""How many may come from one address, whoever counts; and whose word about addresses is taken."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.server.ip_tracking import ConnectionCounts
from tests.server.house import House, raised
from tests.server.limiters import AsyncTracker, Tracker
from tests.support.memory import ADDRESS, RawStream
from tests.support.virtual import VirtualEvent
from tests.support.wires import CLIENTS, UPGRADE, RawClient

WORDS = "Too many connections from this IP"
PROXY = "10.0.0.1"


def upgrade(*forwarded_for: str, path: str = "/") -> bytes:
    lines = "".join(f"X-Forwarded-For: {line}\r\n" for line in forwarded_for)
    return UPGRADE.replace(b"GET /", b"GET " + path.encode())[:-2] + lines.encode() + b"\r\n"


def assert_refused(stream: RawStream, wire: str, status: int = 429, words: str = WORDS) -> None:
    told = stream.take()
    if wire == "tcp":
        assert told == (12 + len(words)).to_bytes(4, "big") + b"\x0a\0\5error" + words.encode()
    else:
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert body.decode() == f"{words}\n"
    assert stream.has_ended


def try_to_connect(house: House, wire: str, address: str | None = ADDRESS) -> RawStream:
    stream = house.server.connect(wire, address)
    if wire == "ws":
        stream.send(UPGRADE)
    return stream


def connect(house: House, wire: str, address: str | None = ADDRESS) -> RawClient:
    return CLIENTS[wire](house.server.connect(wire, address)).open()


def counts(house: House) -> dict[str, int]:
    return dict(house.server.gate.counts._counts)


# --- TLS handshakes -----------------------------------------------------------------------------------------


def test_a_tls_handshake_counts_for_its_address_until_it_is_over(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stelar.server")
    server = house.serve(max_connections_per_ip=2)
    connect(house, "tcp")
    end = server.begin_handshake("tcp", ADDRESS)
    assert end is not None
    assert server.begin_handshake("tcp", f"::ffff:{ADDRESS}") is None
    assert f"refused {ADDRESS}: too many connections" in caplog.text
    assert server.begin_handshake("tcp", "192.0.2.99") is not None
    assert counts(house)[ADDRESS] == 2
    end()
    end()  # as it is when a connection was made and then ends
    assert counts(house)[ADDRESS] == 1
    connect(house, "tcp")
    assert server.begin_handshake("tcp", ADDRESS) is None


def test_the_handshakes_of_a_trusted_proxy_are_not_counted(house: House) -> None:
    server = house.serve(max_connections_per_ip=1, trusted_proxies=[PROXY])
    for _ in range(3):
        end = server.begin_handshake("tcp", PROXY)
        assert end is not None
        end()
    assert counts(house) == {}


def test_beside_a_tracker_handshakes_are_counted_among_themselves(house: House) -> None:
    server = house.serve(max_connections_per_ip=1, ip_tracker=Tracker(limit=9))
    connect(house, "tcp")
    end = server.begin_handshake("tcp", ADDRESS)
    assert end is not None
    assert server.begin_handshake("tcp", ADDRESS) is None
    end()
    assert counts(house) == {}


# --- The built-in count -------------------------------------------------------------------------------------


def test_one_too_many_from_an_address_is_refused_and_taken_in_when_another_has_left(
    house: House, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stelar.server")
    house.serve(max_connections_per_ip=2)
    first = connect(house, wire)
    connect(house, "tcp")
    assert_refused(try_to_connect(house, wire), wire)
    assert f"refused {ADDRESS}: 429 {WORDS}" in caplog.text
    connect(house, wire, "192.0.2.2")
    house.leave(first)
    connect(house, wire)
    assert_refused(try_to_connect(house, wire), wire)


def test_fifty_may_come_by_default(house: House, wire: str) -> None:
    house.serve()
    for _ in range(50):
        connect(house, wire)
    assert_refused(try_to_connect(house, wire), wire)


def test_connections_in_the_handshake_count(house: House) -> None:
    house.serve(max_connections_per_ip=2)
    silent, slow = house.stream("ws"), house.stream("ws")
    slow.send(UPGRADE[:30])
    assert_refused(try_to_connect(house, "ws"), "ws")
    silent.reset()
    connect(house, "ws")
    assert counts(house) == {ADDRESS: 2}


def test_one_too_many_is_refused_even_if_others_leave_before_it_asks(house: House) -> None:
    house.serve(max_connections_per_ip=1)
    first, second = connect(house, "ws"), house.stream("ws")
    house.leave(first)
    second.send(UPGRADE)
    assert_refused(second, "ws")


def test_a_page_may_be_read_by_one_too_many(house: House) -> None:
    house.serve(max_connections_per_ip=1)
    connect(house, "ws")
    stream = house.stream("ws")
    stream.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stream.take().startswith(b"HTTP/1.1 200 ")


def test_without_an_address_nobody_is_counted(house: House, wire: str) -> None:
    house.serve(max_connections_per_ip=1, trusted_proxies=["0.0.0.0/0", "::/0"])
    for _ in range(5):
        connect(house, wire, None)
    assert counts(house) == {}


def test_one_host_has_one_count_however_its_address_is_spelt(house: House, wire: str) -> None:
    house.serve(max_connections_per_ip=1)
    connect(house, wire, "::ffff:192.0.2.1")
    assert_refused(try_to_connect(house, wire, ADDRESS), wire)
    connect(house, wire, "fe80::1%eth0")
    assert_refused(try_to_connect(house, wire, "fe80::1%eth1"), wire)


def test_all_namespaces_are_counted_together(house: House) -> None:
    house.serve(max_connections_per_ip=1).of("/game")
    connect(house, "ws")
    stream = house.stream("ws")
    stream.send(upgrade(path="/game"))
    assert_refused(stream, "ws")


@pytest.mark.parametrize("end", ["leave", "reset", "silence", "garbage", "elsewhere", "page"])
def test_counts_return_to_zero_whatever_happened(house: House, end: str) -> None:
    house.serve(max_connections_per_ip=3)
    for wire in ("ws", "tcp"):
        client, stream = connect(house, wire), house.stream(wire)
        refused = [try_to_connect(house, wire), try_to_connect(house, wire)]
        assert sum(counts(house).values()) == 3
        if end == "leave":
            house.leave(client)
            stream.end()
        else:
            client.stream.reset()
            if end == "reset":
                stream.reset()
            elif end == "garbage":
                stream.send(b"\xff" * 20)
            elif end == "elsewhere":
                stream.send(upgrade(path="/nowhere"))
            elif end == "page":
                stream.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        for other in refused:
            other.end()
        house.loop.advance(200)  # whoever says nothing is given up
        assert counts(house) == {}


def test_counts_return_to_zero_when_the_server_stops(house: House, wire: str) -> None:
    house.serve()
    connect(house, wire)
    house.stream("ws")
    house.loop.run(house.server.stop())
    assert counts(house) == {}


def test_the_count_itself() -> None:
    limits = [2]
    count = ConnectionCounts(lambda: limits[0])
    assert count.check("a")
    count.add("a")
    count.add("a")
    count.add("b")
    assert not count.check("a")
    assert (count.get_count("a"), count.get_count("b"), count.get_count("c"), len(count)) == (2, 1, 0, 2)
    limits[0] = 3
    assert count.check("a")
    count.remove("a")
    count.remove("b")
    count.cleanup()
    assert (count.get_count("a"), count.get_count("b"), len(count)) == (1, 0, 1)


# --- Proxies ------------------------------------------------------------------------------------------------


def address_of(house: House, lines: list[str], peer: str | None) -> str | None:
    """Where a client comes from as the server sees it."""
    seen: list[Any] = []
    house.server.on_connection(lambda ctx: seen.append(ctx.client_info.remote_address))
    stream = house.server.connect("ws", peer)
    stream.send(upgrade(*lines))
    assert stream.take().startswith(b"HTTP/1.1 101 ")
    [address] = seen
    assert address is None or isinstance(address, str)
    return address


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        (PROXY, ["198.51.100.7"], "198.51.100.7"),
        (PROXY, ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        (PROXY, ["6.6.6.6", "198.51.100.7"], "198.51.100.7"),
        (PROXY, ["[2001:db8::1]:443"], "2001:db8::1"),
        (PROXY, ["garbage"], PROXY),
        (PROXY, [], PROXY),
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),
    ],
)
def test_a_client_is_known_by_the_address_that_trusted_proxies_saw(
    house: House, peer: str, lines: list[str], address: str
) -> None:
    house.serve(trusted_proxies=["10.0.0.0/8"])
    assert address_of(house, lines, peer) == address
    assert counts(house) == {address: 1}


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"unix_path": "/run/app.sock", "trusted_proxies": ["unix", "10.0.0.0/8"]}, "198.51.100.7"),
        ({"unix_path": "/run/app.sock", "trusted_proxies": ["10.0.0.0/8"]}, None),
        ({"trusted_proxies": ["10.0.0.0/8"]}, None),
    ],
)
def test_who_connects_through_a_unix_socket_is_believed_if_that_is_said(
    house: House, options: dict[str, Any], address: str | None
) -> None:
    house.serve(**options)
    assert address_of(house, ["6.6.6.6, 198.51.100.7, 10.0.0.3"], None) == address
    assert counts(house) == ({} if address is None else {address: 1})
    expected = ("unix",) if "unix" in options["trusted_proxies"] else ()
    assert house.server.get_config().trusted_proxies[1:] == expected  # type: ignore[index]


def test_one_whose_stream_is_gone_has_no_address_and_is_not_taken_for_one_of_a_unix_socket(
    house: House,
) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        house.serve(trusted_proxies=["unix"], tcp_port=None, tcp_sock=sock)
        assert address_of(house, ["198.51.100.7"], None) is None


def test_clients_behind_a_proxy_are_counted_apart(house: House) -> None:
    house.serve(trusted_proxies=[PROXY], max_connections_per_ip=1)
    streams = [house.server.connect("ws", PROXY) for _ in range(4)]
    assert counts(house) == {}, "the proxy's own address stands for nobody"
    for stream, client in zip(streams, ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"], strict=True):
        stream.send(upgrade(client))
    assert_refused(streams[2], "ws")
    assert counts(house) == {"192.0.2.1": 1, "192.0.2.2": 1, "192.0.2.3": 1}


def test_tcp_has_no_header_and_the_proxys_address_is_the_clients(house: House) -> None:
    house.serve(trusted_proxies=[PROXY])
    connect(house, "tcp", PROXY)
    assert counts(house) == {PROXY: 1}


# --- A tracker of the application's own ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [Tracker, AsyncTracker])
@pytest.mark.parametrize("proxies", [[], [ADDRESS]])
def test_the_applications_tracker_decides_and_counts(
    house: House, wire: str, make: type[Tracker], proxies: list[str]
) -> None:
    tracker = make(2)
    house.serve(ip_tracker=tracker, max_connections_per_ip=1, trusted_proxies=proxies)
    first = connect(house, wire)
    connect(house, "tcp")
    assert_refused(try_to_connect(house, wire), wire)
    house.leave(first)
    connect(house, wire)
    assert tracker.counts == {ADDRESS: 2}
    assert counts(house) == {}
    house.loop.run(house.server.stop())
    assert tracker.counts == {ADDRESS: 0}


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
@pytest.mark.parametrize("make", [Tracker, AsyncTracker])
@pytest.mark.parametrize("broken", ["check", "add", "remove", "cleanup"])
def test_a_tracker_that_raises_is_reported_and_refuses_nobody_and_counts_return_to_zero(
    house: House,
    wire: str,
    make: type[Tracker],
    broken: str,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker = make(2, broken)
    tracker.error = error
    house.serve(ip_tracker=tracker, heartbeat_interval=None)
    client = connect(house, wire)
    house.loop.advance(60)
    house.leave(client)
    assert tracker.counts == {ADDRESS: 0}
    assert [str(each) for each in raised(caplog.records)] == [f"{broken} is broken"]
    assert f"ip_tracker.{broken} raised" in caplog.text
    assert tracker.calls == ["check", "add", "cleanup", "remove"]


def test_a_tracker_that_hangs_holds_its_client_only_and_no_longer_than_the_connect_timeout(
    house: House, wire: str
) -> None:
    tracker = AsyncTracker(2)
    house.serve(ip_tracker=tracker)
    tracker.gates["check"] = VirtualEvent()
    stream = try_to_connect(house, wire)
    assert stream.take() == b""
    del tracker.gates["check"]
    connect(house, wire)
    house.loop.advance(10)
    assert stream.is_cut
    assert tracker.counts == {ADDRESS: 1}


@pytest.mark.parametrize("method", ["check", "add", "remove"])
@pytest.mark.parametrize("proxies", [[], [ADDRESS]])
def test_who_left_while_it_was_counted_is_counted_no_more(
    house: House, wire: str, method: str, proxies: list[str]
) -> None:
    tracker = AsyncTracker(2)
    house.serve(ip_tracker=tracker, trusted_proxies=proxies)
    gate = tracker.gates[method] = VirtualEvent()
    try_to_connect(house, wire).reset()
    gate.set()
    house.loop.run_until_idle()
    assert tracker.counts.get(ADDRESS, 0) == 0
    assert tracker.calls == ([] if method == "check" else ["check", "add", "remove"])
    assert house.server.get_stats().total_connections == (method == "remove")


@pytest.mark.parametrize("proxies", [[], [ADDRESS]])
def test_who_asks_while_it_is_counted_is_answered_when_that_is_done(
    house: House, wire: str, proxies: list[str]
) -> None:
    tracker = AsyncTracker(1)
    house.serve(ip_tracker=tracker, trusted_proxies=proxies)
    for is_let_in in (True, False):
        gate = tracker.gates["check"] = VirtualEvent()
        stream = try_to_connect(house, wire)
        assert stream.take() == b""
        gate.set()
        house.loop.run_until_idle()
        if is_let_in:
            assert (b"101" if wire == "ws" else b"connectc1") in stream.take()
        else:
            assert_refused(stream, wire)


def test_who_was_counted_is_greeted_in_front_of_what_it_says(house: House, wire: str) -> None:
    house.serve(ip_tracker=AsyncTracker(), trusted_proxies=[ADDRESS])
    gate, log = VirtualEvent(), []

    @house.server.on_connection
    async def greet(ctx: Any) -> None:
        await gate.wait()
        log.append("greeted")

    house.server.on("x", lambda ctx: log.append("x"))
    client = connect(house, wire)
    client.say("x")
    assert log == []
    gate.set()
    house.loop.run_until_idle()
    assert log == ["greeted", "x"]


def test_middleware_knows_where_a_client_comes_from(house: House) -> None:
    house.serve(trusted_proxies=["10.0.0.0/8"])
    seen: list[Any] = []

    @house.server.use
    def look(ctx: Any, go_on: Any) -> None:
        seen.append(ctx.client_info.remote_address)
        go_on()

    stream = house.server.connect("ws", PROXY)
    stream.send(upgrade("6.6.6.6, 198.51.100.7"))
    assert seen == ["198.51.100.7"]


def test_who_asks_for_no_namespace_and_left_meanwhile_is_no_fault(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = AsyncTracker(2)
    house.serve(ip_tracker=tracker, trusted_proxies=[ADDRESS])
    gate = tracker.gates["check"] = VirtualEvent()
    stream = house.stream("ws")
    stream.send(upgrade(path="/nowhere"))
    stream.reset()
    gate.set()
    house.loop.run_until_idle()
    assert raised(caplog.records) == []


def test_a_server_that_stops_waits_for_the_tracker_but_not_for_ever(house: House, wire: str) -> None:
    tracker = AsyncTracker(2)
    server = house.serve(ip_tracker=tracker, close_timeout=5)
    connect(house, wire)
    gate = tracker.gates["remove"] = VirtualEvent()
    stopping = house.start(server.stop())
    house.loop.advance(6)  # the client did not close
    assert not stopping.is_done
    gate.set()
    house.loop.run_until_idle()
    assert stopping.is_done
    assert tracker.counts == {ADDRESS: 0}

    server.start_now()
    connect(house, wire)
    tracker.gates["remove"] = VirtualEvent()
    stopping = house.start(server.stop())
    house.loop.advance(5 + 5)
    assert stopping.is_done
    server.start_now()  # what hung does not hold up the next time
    assert server.get_stats().active_connections == 0


def test_a_connection_that_is_being_counted_when_the_server_stops_is_counted_no_more(
    house: House, wire: str
) -> None:
    tracker = AsyncTracker(2)
    server = house.serve(ip_tracker=tracker)
    gate = tracker.gates["add"] = VirtualEvent()
    try_to_connect(house, wire)
    stopping = house.start(server.stop())
    assert not stopping.is_done
    gate.set()
    house.loop.run_until_idle()
    assert stopping.is_done
    assert tracker.counts == {ADDRESS: 0}


ACTIONS = st.sampled_from(["connect", "ask", "garbage", "end", "reset", "wait", "close", "open"])


@given(
    steps=st.lists(st.tuples(ACTIONS, st.integers(0, 20), st.sampled_from(["ws", "tcp"])), max_size=40),
    tracker=st.sampled_from([None, Tracker, AsyncTracker]),
    broken=st.sets(st.sampled_from(["check", "add", "remove"])),
    proxies=st.sampled_from([[], [ADDRESS]]),
    stops=st.booleans(),
)
def test_whatever_happens_counts_return_to_zero(
    steps: list[tuple[str, int, str]],
    tracker: type[Tracker] | None,
    broken: set[str],
    proxies: list[str],
    stops: bool,
) -> None:
    house = House()
    counting = None if tracker is None else tracker(3, *broken)
    house.serve(ip_tracker=counting, max_connections_per_ip=3, trusted_proxies=proxies, connect_timeout=5)
    streams: list[RawStream] = []
    gates: dict[str, VirtualEvent] = counting.gates if isinstance(counting, AsyncTracker) else {}
    for action, number, wire in steps:
        stream = streams[number % len(streams)] if streams else None
        method = ("check", "add", "remove")[number % 3]
        if action == "connect":
            streams.append(house.stream(wire))
        elif action == "wait":
            house.loop.advance(number)
        elif action == "close" and isinstance(counting, AsyncTracker):
            gates.setdefault(method, VirtualEvent())
        elif action == "open" and method in gates:
            gates.pop(method).set()
            house.loop.run_until_idle()
        elif stream is not None and action == "reset":
            stream.reset()
        elif stream is not None and not stream.transport.is_lost:
            stream.send({"ask": UPGRADE, "garbage": b"\xff" * 9}.get(action, b""))
        assert sum(counts(house).values()) <= 3
    for gate in gates.values():
        gate.set()
    gates.clear()
    if stops:
        house.loop.run(house.server.stop())
    for stream in streams:
        stream.reset()
    house.loop.run_until_idle()
    assert counts(house) == {}
    if counting is not None:
        assert set(counting.counts.values()) <= {0}
        assert counting.calls.count("add") == counting.calls.count("remove")
    house.close()

"""Servers and clients joined in memory: what reaches whom, what is refused, and what a test can do to it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.channel import Endpoint, Transport
from stelar_proto.channel.outbox import FRAME_COST
from stelar_proto.errors import ConnectError
from stelar_proto.testing import MemoryNetwork, MemoryStream
from tests.support.memory import CAPACITY, VirtualClient, VirtualNetwork, VirtualServer
from tests.support.virtual import VirtualEvent, VirtualLoop, VirtualRuntime


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def network(loop: VirtualLoop) -> VirtualNetwork:
    return VirtualNetwork(loop)


def serve(network: VirtualNetwork, **options: Any) -> VirtualServer:
    server = VirtualServer(network, **options)
    server.start_now()
    return server


def connect(network: VirtualNetwork, url: str = "localhost:3000", **options: Any) -> VirtualClient:
    client = VirtualClient(network, url, **options)
    network.loop.run(client.connect())
    return client


# --- Connecting ---------------------------------------------------------------------------------------------


def test_both_ends_know_each_other(network: VirtualNetwork) -> None:
    server = serve(network)
    client = connect(network)
    [connection] = network.connections
    assert repr(network) == "<VirtualNetwork listening on [3000, 3001], 1 connections>"
    assert repr(connection) == "<MemoryConnection 127.0.0.1:50000 -> 127.0.0.1:3000 open>"
    [peer], link = server.hub, client._link
    assert link is not None
    assert peer.transport is not None
    assert link.transport is not None
    assert (peer.transport.local_address, peer.transport.remote_address) == (
        connection.server_address,
        connection.client_address,
    )
    assert (link.transport.local_address, link.transport.remote_address) == (
        connection.client_address,
        connection.server_address,
    )
    network.loop.run(client.disconnect())
    assert network.connections == ()
    assert repr(connection).endswith(" closed>")


def test_a_client_may_be_at_another_host(network: VirtualNetwork, loop: VirtualLoop) -> None:
    there = network.from_host("192.0.2.7")
    assert repr(there).startswith("<MemoryHost 192.0.2.7 on <VirtualNetwork ")
    accepted = Recorder()

    def attach(transport: Transport) -> Endpoint:
        accepted.transport = transport
        return accepted

    listener = there.listen(VirtualRuntime(loop), attach, "localhost", 0)
    there.dial(VirtualRuntime(loop), Recorder(), "localhost", listener.port, secure=False)
    loop.run_until_idle()
    assert accepted.transport is not None
    assert accepted.transport.remote_address == ("192.0.2.7", 50_000)
    assert accepted.transport.local_address == ("127.0.0.1", listener.port)
    network.cut()
    loop.run_until_idle()


def test_nobody_listening_is_a_refusal(network: VirtualNetwork) -> None:
    client = VirtualClient(network, "localhost:3000")
    with pytest.raises(
        ConnectError, match=r"^cannot connect to ws://localhost:3000: connection refused$"
    ) as caught:
        network.loop.run(client.connect())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.__cause__.errno == errno.ECONNREFUSED
    server = serve(network)
    network.loop.run(server.stop())
    with pytest.raises(ConnectionRefusedError):
        network.open_stream(3000)


def test_a_port_is_listened_on_once_and_port_0_finds_one(network: VirtualNetwork) -> None:
    first = network.listen_by_hand(0, lambda stream: None)
    second = network.listen_by_hand(0, lambda stream: None)
    assert first.port != second.port
    with pytest.raises(OSError, match="Address already in use") as caught:
        network.listen_by_hand(first.port, lambda stream: None)
    assert caught.value.errno == errno.EADDRINUSE
    first.close()
    assert network.listen_by_hand(first.port, lambda stream: None).port == first.port


def test_tls_meets_tls_and_nothing_else(network: VirtualNetwork, loop: VirtualLoop) -> None:
    runtime, endpoint = VirtualRuntime(loop), Recorder()
    network.listen(runtime, lambda transport: endpoint, "localhost", 1, secure=True)
    network.listen(runtime, lambda transport: endpoint, "localhost", 2)
    with pytest.raises(ConnectionResetError, match="speaks TLS: wss:// and tcps:// reach it"):
        network.dial(runtime, Recorder(), "localhost", 1)
    with pytest.raises(ConnectionResetError, match="no TLS here: ws:// and tcp:// reach it"):
        network.dial(runtime, Recorder(), "localhost", 2, secure=True)
    network.dial(runtime, Recorder(), "localhost", 1, secure=True)
    assert [connection.server_address for connection in network.connections] == [("127.0.0.1", 1)]
    network.cut()
    loop.run_until_idle()


def test_what_came_when_a_server_stopped_listening_is_cut(loop: VirtualLoop) -> None:
    network, runtime = MemoryNetwork(), VirtualRuntime(loop)
    listener = network.listen(runtime, lambda transport: pytest.fail("too late"), "localhost", 1)
    stream = network.open_stream(1)
    listener.close()
    assert stream.is_cut
    loop.run_until_idle()
    assert loop.tasks == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chunk_size": 0}, "chunk_size must be at least 1 byte, not 0"),
        ({"capacity": 0}, "capacity must be at least 1 byte, not 0"),
        ({"latency": -1}, "latency must be seconds, 0 or more, not -1"),
        ({"latency": float("nan")}, "not nan"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MemoryNetwork(**arguments)


# --- What a test does to it ---------------------------------------------------------------------------------


def test_connections_are_cut_all_or_those_to_a_port(network: VirtualNetwork) -> None:
    server = serve(network)
    gone: list[Any] = []
    server.on_disconnect(lambda ctx: gone.append((ctx.client_info.protocol, ctx.data["code"])))
    urls = ("localhost:3000", "localhost:3000", "tcp://localhost:3001")
    clients = [connect(network, url, reconnection=False) for url in urls]
    assert network.cut(3001) == 1
    network.loop.run_until_idle()
    assert gone == [("tcp", 1006)]
    assert [client.get_state() for client in clients] == ["connected", "connected", "disconnected"]
    assert network.cut() == 2
    assert network.cut() == 0
    network.loop.run_until_idle()
    assert gone[1:] == [("ws", 1006)] * 2
    assert network.loop.tasks == []


def test_a_network_that_is_held_is_silent_and_goes_on_when_it_is_released(network: VirtualNetwork) -> None:
    server = serve(network)
    server.on_ack("echo", lambda ctx: ctx.data)
    client = connect(network)
    network.hold()
    asking = network.loop.start(client.request("echo", 1, timeout=100))
    connecting = network.loop.start(VirtualClient(network, "localhost:3000").connect())
    network.loop.advance(5)
    assert not asking.is_done
    network.release()
    network.loop.run_until_idle()
    assert asking.result() == 1
    assert connecting.is_done
    assert len(server.hub) == 2
    network.cut()
    network.loop.run_until_idle()


def test_a_side_that_gives_up_a_silent_network_is_not_noticed_by_the_other(network: VirtualNetwork) -> None:
    server = serve(network, heartbeat_interval=100, heartbeat_timeout=100)
    client = connect(network, heartbeat_interval=10, heartbeat_timeout=10, reconnection=False)
    [connection] = network.connections
    connection.hold()
    network.loop.advance(40)
    assert client.get_state() == "disconnected"
    server.broadcast("anybody-there")
    network.loop.run_until_idle()
    assert len(server.hub) == 1
    connection.release()
    network.loop.run_until_idle()
    assert len(server.hub) == 0


def test_what_is_written_takes_its_time_to_arrive(loop: VirtualLoop) -> None:
    network = VirtualNetwork(loop, latency=0.5)
    began = loop.now
    server = serve(network)
    server.on_ack("echo", lambda ctx: ctx.data)
    client = connect(network)
    assert loop.now == began + 1  # a handshake is a question and an answer; connecting is none
    numbers: list[int] = []
    client.on("number", numbers.append)
    for number in range(20):
        server.broadcast("number", number)
    assert loop.run(client.request("echo", 2)) == 2
    assert loop.now == began + 2
    assert numbers == list(range(20))
    loop.run(client.disconnect())
    loop.run(server.stop())
    assert loop.tasks == []


def test_by_hand_there_is_latency_too(loop: VirtualLoop) -> None:
    network = VirtualNetwork(loop, latency=0.5)
    serve(network)
    stream = network.open_stream(3001)
    loop.advance(0.4)
    assert stream.take() == b""
    loop.advance(0.1)
    assert stream.take().startswith(b"\0\0\0")


def test_from_hand_to_hand_there_is_none_for_nobody_there_has_a_clock() -> None:
    network, accepted = MemoryNetwork(latency=0.5), list[MemoryStream]()
    network.listen_by_hand(1, accepted.append)
    network.open_stream(1).send(b"hello")
    assert accepted[0].take() == b"hello"


def test_chunks_are_of_the_size_that_is_asked_for(loop: VirtualLoop) -> None:
    network = VirtualNetwork(loop, chunk_size=1)
    server = serve(network)
    server.on_ack("echo", lambda ctx: ctx.data)
    for url in ("localhost:3000", "tcp://localhost:3001"):
        client = connect(network, url)
        assert loop.run(client.request("echo", "ñandú ☃")) == "ñandú ☃"
        loop.run(client.disconnect())


# --- As a transport is to behave ----------------------------------------------------------------------------


def test_a_stream_holds_only_so_much_for_a_side_that_does_not_read(network: VirtualNetwork) -> None:
    loop = network.loop
    server = serve(network, inbox_limit=1)
    gate = VirtualEvent()
    server.on("work", lambda ctx: gate.wait())
    client = connect(network, "tcp://localhost:3001", outbox_limit=10_000_000)
    for _ in range(100):
        client.emit("work", "x" * 10_000)
    loop.run_until_idle()
    assert client._link is not None
    outbox = client._link.session.outbox
    held = outbox.size - FRAME_COST * len(outbox)
    assert 1_000_000 - 2 * CAPACITY < held < 1_010_000 - CAPACITY  # each has a head beside its 10,000 bytes
    gate.set()
    loop.run_until_idle()
    assert outbox.size == 0
    assert server.get_stats().total_messages_received == 100
    loop.run(client.disconnect())
    loop.run(server.stop())


def test_nothing_is_delivered_while_a_call_is_under_way(network: VirtualNetwork) -> None:
    log: list[str] = []
    server = serve(network)

    @server.on("ask")
    def answer(ctx: Any) -> None:
        ctx.emit("answer")
        log.append("the handler ends")

    client = connect(network)
    client.on("answer", lambda data: log.append("the answer comes"))
    client.emit("ask")
    network.loop.run_until_idle()
    assert log == ["the handler ends", "the answer comes"]
    network.loop.run(client.disconnect())


class Recorder(Endpoint):
    """Notes what a transport does with it."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.sending: list[bytes] = []
        self.state = ""
        self.transport = None
        self.unsent = 0

    def note_unsent(self, size: int) -> None:
        self.unsent = size

    def receive_data(self, data: bytes) -> bool:
        self.log.append(data)
        return False

    def connection_lost(self) -> None:
        self.log.append("lost")

    def data_to_send(self) -> bytes:
        return self.sending.pop(0) if self.sending else b""

    @property
    def is_ending(self) -> bool:
        return bool(self.state)

    @property
    def wants_eof(self) -> bool:
        return self.state in ("eof", "finished")

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"

    @property
    def is_aborted(self) -> bool:
        return self.state == "aborted"

    def _take(self, events: Any) -> None:
        raise NotImplementedError

    def _on_closed(self, event: Any) -> None:
        raise NotImplementedError


class Scene:
    """Two endpoints, joined."""

    def __init__(self, **options: Any) -> None:
        self.loop = VirtualLoop()
        self.network = MemoryNetwork(**options)
        self.left, self.right = Recorder(), Recorder()
        self.runtime = VirtualRuntime(self.loop)
        self.network.listen(self.runtime, self.attach, "localhost", 1)
        self.network.dial(self.runtime, self.left, "localhost", 1)
        self.loop.run_until_idle()

    def attach(self, transport: Any) -> Recorder:
        self.right.transport = transport
        return self.right

    def flush(self, endpoint: Recorder) -> None:
        endpoint.flush_soon()
        self.loop.run_until_idle()


def test_each_side_ends_and_hears_the_other_end() -> None:
    scene = Scene()
    scene.left.sending = [b"hello"]
    scene.left.state = "eof"
    scene.flush(scene.left)
    scene.flush(scene.left)
    assert scene.right.log == [b"hello", b""]
    scene.right.sending, scene.right.state = [b"bye"], "finished"
    scene.flush(scene.right)
    assert (scene.left.log, scene.right.log) == ([b"bye", b""], [b"hello", b"", "lost"])
    scene.left.state = "finished"
    scene.flush(scene.left)
    assert scene.left.log == [b"bye", b"", "lost"]
    assert scene.loop.tasks == []


def test_an_abort_loses_what_was_not_written_and_nothing_else() -> None:
    scene = Scene()
    left = scene.left.transport
    assert left is not None
    assert left.write(b"written")
    scene.left.sending, scene.left.state = [b"unwritten"], "aborted"
    scene.flush(scene.left)
    assert (scene.left.log, scene.right.log) == (["lost"], [b"written", "lost"])


def test_a_side_that_closes_with_something_unread_cuts_the_connection() -> None:
    scene = Scene()
    assert scene.right.transport is not None
    scene.right.transport.pause_reading()
    scene.left.sending = [b"never read"]
    scene.flush(scene.left)
    scene.right.state = "finished"
    scene.flush(scene.right)
    assert (scene.left.log, scene.right.log) == ([b"", "lost"], ["lost"])


def test_who_writes_to_a_side_that_has_gone_finds_out() -> None:
    scene = Scene()
    scene.right.state = "finished"
    scene.flush(scene.right)
    assert (scene.left.log, scene.right.log) == ([b""], ["lost"])
    left = scene.left.transport
    assert left is not None
    assert not left.write(b"x")
    scene.left.sending = [b"x"]
    scene.flush(scene.left)
    assert scene.left.log == [b"", "lost"]
    assert not left.write(b"x")
    left.flush_soon()
    left.resume_reading()
    assert scene.loop.tasks == []


def test_writes_past_the_endpoint_keep_their_place_and_wait_for_room() -> None:
    scene = Scene(capacity=4, chunk_size=2)
    left, right = scene.left.transport, scene.right.transport
    assert left is not None
    assert right is not None
    right.pause_reading()
    assert left.write(b"123456")
    assert not left.write(b"789")
    assert scene.left.unsent == 2
    scene.left.sending, scene.left.state = [b"789"], "eof"
    scene.flush(scene.left)
    assert scene.right.log == []
    right.resume_reading()
    scene.loop.run_until_idle()
    assert scene.left.unsent == 0
    assert scene.right.log == [b"12", b"34", b"56", b"78", b"9", b""]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "write", "pause", "resume", "eof", "finished", "aborted", "cut", "run"]),
        st.booleans(),
        st.binary(min_size=1, max_size=9),
    ),
    max_size=30,
)


@given(steps=STEPS, capacity=st.integers(1, 10), chunk_size=st.one_of(st.none(), st.integers(1, 5)))
def test_whatever_happens_bytes_come_in_order_and_the_loss_comes_once_and_last(
    steps: list[tuple[str, bool, bytes]], capacity: int, chunk_size: int | None
) -> None:
    scene = Scene(capacity=capacity, chunk_size=chunk_size)
    sides = (scene.left, scene.right)
    transports: list[Any] = [side.transport for side in sides]
    accepted = [b"", b""]
    for step, which, data in steps:
        side, transport = sides[which], transports[which]
        match step:
            case "send" if not side.state:
                side.sending.append(data)
                accepted[which] += data
            case "write" if not side.state and not side.sending:
                accepted[which] += data if transport.write(data) else b""
            case "pause":
                transport.pause_reading()
            case "resume":
                transport.resume_reading()
            case "eof" | "finished" | "aborted":
                side.state = step
            case "cut":
                scene.network.cut()
            case "run":
                scene.loop.run_until_idle()
        transport.flush_soon()
    for transport in transports:
        transport.resume_reading()
    scene.loop.run_until_idle()
    scene.loop.run(scene.runtime.close())
    for side, sent in zip(sides, accepted[::-1], strict=True):
        assert side.log.count("lost") == 1
        assert side.log[-1] == "lost"
        chunks = side.log[:-1]
        assert b"" not in chunks[:-1]
        assert sent.startswith(b"".join(chunks))
    assert scene.loop.tasks == []


def test_a_loop_that_ends_takes_its_connections_with_it() -> None:
    scene = Scene()
    scene.loop.run(scene.runtime.close())
    assert (scene.left.log, scene.right.log) == (["lost"], ["lost"])
    assert scene.network.connections == ()

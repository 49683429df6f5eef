"""Streams in memory: servers and clients joined without a socket, and streams in the hands of a test.

A :class:`VirtualTransport` does for its endpoint what a runtime's transport does, and only with bytes. At its
other end is another one, or a :class:`RawStream`. Nothing is delivered while a call of an endpoint is under
way: what is sent arrives in the loop's next turn, as it does everywhere else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

from stelar_proto.channel import Endpoint, Lifecycle, Place, Runtime
from stelar_proto.channel.runtime import Address
from stelar_proto.client import ClientApplication
from stelar_proto.client.link import Link
from stelar_proto.plain import ConnectionHandler, PlainServer, ServedEndpoint, WebSocketConnector
from stelar_proto.plain.endpoint import WebSocketEndpoint
from stelar_proto.server import ServerApplication
from tests.support.virtual import VirtualLoop, VirtualRuntime

CAPACITY = 256 * 1024
"""Bytes that a stream holds for a side that does not read; then the other side cannot write."""

P = TypeVar("P", bound=Endpoint)

ADDRESS = "192.0.2.1"
"""Where clients come from."""


class StreamEnd(Protocol):
    """What one side of a stream knows of the other."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be written."""
        ...

    def feed(self, data: bytes) -> None:
        """Bytes come; ``b""`` is the end of the stream."""
        ...

    def feed_reset(self) -> None:
        """The stream is cut."""
        ...

    def has_room(self) -> None:
        """What was written is read; more can be."""
        ...


class VirtualTransport:
    """Carries one endpoint."""

    def __init__(self, loop: VirtualLoop, remote_address: Address | None = None) -> None:
        self.endpoint: Endpoint
        self.other: StreamEnd
        self.opened_at = loop.now
        self.local_address: Address | None = ("127.0.0.1", 3000)
        self.remote_address = remote_address
        self.gathers = False
        self.is_reading = True
        self.pauses = 0
        """How often reading was paused."""
        self.is_lost = False
        self.cut_into_chunks: Callable[[bytes], Iterable[bytes]] = lambda data: (data,)
        """What is done to each write of the other side; the chunks are not empty."""
        self._loop = loop
        self._incoming: deque[bytes] = deque()
        self._size = 0
        self._flush_is_due = False
        self._end_sent = False

    # --- For the endpoint -------------------------------------------------------------------------------

    @property
    def unsent_size(self) -> int:
        return int(self.other.is_full)  # what it takes, it takes at once

    def flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def write(self, data: bytes) -> bool:
        if self.is_lost or self.other.is_full:
            return False
        self.other.feed(data)
        return True

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False
        self.pauses += 1

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True
        self._loop.call_soon(self._deliver)

    # --- For the other end ------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return self._size >= CAPACITY

    def feed(self, data: bytes) -> None:
        if not self.is_lost:
            self._incoming.extend(self.cut_into_chunks(data) if data else (b"",))
            self._size += len(data)
            self._loop.call_soon(self._deliver)

    def feed_reset(self) -> None:
        if not self.is_lost:
            self._lose()

    def has_room(self) -> None:
        self.flush_soon()

    # --- In the loop's turn -----------------------------------------------------------------------------

    def _deliver(self) -> None:
        was_full = self.is_full
        if self.is_reading and self._incoming and not self.is_lost:
            data = self._incoming.popleft()
            self._size -= len(data)
            if self.endpoint.receive_data(data):
                self._flush()
            if self._incoming:  # who waits for what came has a turn in front of the next chunk
                self._loop.call_soon(self._deliver)
        if was_full and not self.is_full:
            self.other.has_room()

    def _flush(self) -> None:
        self._flush_is_due = False
        endpoint = self.endpoint
        if self.is_lost:
            return
        if endpoint.is_aborted:
            self._lose()
            self.other.feed_reset()
            return
        while not self.other.is_full and (data := endpoint.data_to_send()):
            self.other.feed(data)
        if endpoint.is_ending:
            self._end_if_due(endpoint)

    def _end_if_due(self, endpoint: Endpoint) -> None:
        if (endpoint.wants_eof or endpoint.is_finished) and not self._end_sent:
            self._end_sent = True
            self.other.feed(b"")
        if endpoint.is_finished:
            self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        self._incoming.clear()
        self._size = 0
        self._loop.call_soon(self.endpoint.connection_lost)


class RawStream:
    """One end of a stream in the hands of a test.

    What the test does has reached the other end, with all its consequences, when the call returns.
    """

    def __init__(self, loop: VirtualLoop, transport: VirtualTransport) -> None:
        self.transport = transport
        self.has_ended = False
        """Whether the other side has ended its stream."""
        self.is_cut = False
        """Whether the other side has cut the connection."""
        self.writes: list[int] = []
        """The sizes of what was written to it."""
        self._loop = loop
        self._received = bytearray()
        self._is_reading = True

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.feed(data)
        self._loop.run_until_idle()

    def end(self) -> None:
        """End this side of the stream."""
        self.send(b"")

    def reset(self) -> None:
        """Cut the stream."""
        self.transport.feed_reset()
        self._loop.run_until_idle()

    def take(self) -> bytes:
        """Return what came since the last call."""
        received = bytes(self._received)
        self._received.clear()
        return received

    def stop_reading(self) -> None:
        """Read no more: what the other side writes stays with it."""
        self._is_reading = False

    def read_on(self) -> None:
        """Read again."""
        self._is_reading = True
        self.transport.has_room()
        self._loop.run_until_idle()

    # --- For the transport at the other end -------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return not self._is_reading

    def feed(self, data: bytes) -> None:
        if data:
            self.writes.append(len(data))
            self._received += data
        else:
            self.has_ended = True

    def feed_reset(self) -> None:
        self.is_cut = True

    def has_room(self) -> None:
        pass


class VirtualNetwork:
    """Who listens on which port."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self._listeners: dict[int, Callable[[VirtualTransport], StreamEnd]] = {}

    def listen(self, port: int, accept: Callable[[VirtualTransport], StreamEnd]) -> None:
        """Have connections to ``port`` accepted: ``accept`` is given the dialling end and returns its own."""
        assert port not in self._listeners
        self._listeners[port] = accept

    def listen_raw(self, port: int) -> list[RawStream]:
        """Accept connections to ``port``; they appear in the returned list."""
        accepted: list[RawStream] = []

        def accept(transport: VirtualTransport) -> StreamEnd:
            stream = RawStream(self.loop, transport)
            accepted.append(stream)
            return stream

        self.listen(port, accept)
        return accepted

    def stop_listening(self, *ports: int) -> None:
        """Refuse connections to ``ports`` from now on."""
        for port in ports:
            del self._listeners[port]

    def dial(self, port: int, link: Endpoint) -> None:
        """Connect ``link`` to whoever listens on ``port``.

        Raises:
            ConnectionRefusedError: nobody does.
        """
        accept = self._listeners.get(port)
        if accept is None:
            raise ConnectionRefusedError(f"nobody listens on {port}")
        transport = VirtualTransport(self.loop)
        transport.endpoint, link.transport = link, transport
        transport.other = accept(transport)
        transport.flush_soon()


class VirtualListening(Lifecycle[P]):
    """A network's part of a server; the application comes behind it among the bases."""

    def __init__(self, network: VirtualNetwork, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._network = network
        self._listening: list[int] = []
        self.virtual_runtime = VirtualRuntime(network.loop, self.handle_deadlines)

    def start_now(self) -> None:
        """Take clients in from now on."""
        self._network.loop.run(self.start())

    def _make_runtime(self) -> VirtualRuntime:
        return self.virtual_runtime

    async def _listen(self, place: Place) -> int:
        port = place.port
        assert port is not None
        self._network.listen(port, partial(self._accept, place.kind))
        self._listening.append(port)
        return port

    def _stop_listening(self) -> None:
        self._network.stop_listening(*self._listening)
        self._listening.clear()

    def connect(self, kind: str, address: str | None = ADDRESS) -> RawStream:
        """Connect a stream over which nothing has been said yet."""
        loop = self._network.loop
        transport = VirtualTransport(loop, None if address is None else (address, 50000))
        stream = RawStream(loop, transport)
        self._attach(kind, transport, stream)
        loop.run_until_idle()
        return stream

    def _accept(self, kind: str, other: VirtualTransport) -> VirtualTransport:
        transport = VirtualTransport(self._network.loop, (ADDRESS, 50000))
        self._attach(kind, transport, other)
        return transport

    def _attach(self, kind: str, transport: VirtualTransport, other: StreamEnd) -> None:
        transport.other = other
        transport.endpoint = self.connected(kind, transport)


class VirtualServer(VirtualListening[Any], ServerApplication):
    """A server on the ports 3000 and 3001 of a network, or those it is told."""

    def __init__(self, network: VirtualNetwork, **options: Any) -> None:
        super().__init__(network, **{"tcp_port": 3001, **options})


class VirtualWebSocketServer(VirtualListening[ServedEndpoint], PlainServer):
    """A plain WebSocket server on port 8765 of a network."""

    def __init__(self, network: VirtualNetwork, handler: ConnectionHandler, **options: Any) -> None:
        super().__init__(network, handler, "127.0.0.1", 8765, **options)


class VirtualClient(ClientApplication):
    """A client of whoever listens on the network."""

    def __init__(self, network: VirtualNetwork, url: str | int, **options: Any) -> None:
        super().__init__(url, **options)
        self._network = network
        self.virtual_runtime = VirtualRuntime(network.loop, self.handle_deadlines)
        self._used_runtime: VirtualRuntime | None = None

    async def _dial(self, link: Link) -> None:
        self._network.dial(self.target.port, link)

    def _make_runtime(self) -> VirtualRuntime:
        if self.virtual_runtime is self._used_runtime:  # the last one may still be closing
            self.virtual_runtime = VirtualRuntime(self._network.loop, self.handle_deadlines)
        self._used_runtime = self.virtual_runtime
        return self.virtual_runtime


class VirtualConnector(WebSocketConnector):
    """A plain WebSocket client of whoever listens on the network."""

    def __init__(self, network: VirtualNetwork, url: str = "ws://localhost:8765", **options: Any) -> None:
        super().__init__(url, **options)
        self._network = network
        self.virtual_runtime = VirtualRuntime(network.loop, self.handle_deadlines)

    async def _dial(self, runtime: Runtime, endpoint: WebSocketEndpoint) -> None:
        self._network.dial(self.target.port, endpoint)

    def _make_runtime(self) -> VirtualRuntime:
        return self.virtual_runtime

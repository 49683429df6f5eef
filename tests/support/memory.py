"""Servers and clients on a network in memory, run by a virtual loop; and streams in the hands of a test.

The network is the one that the library gives to its users. What is added here is that a call of a test
returns when all that it brings about has happened, and that a transport is strict with what it carries.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from stelar_proto.channel import Endpoint, Lifecycle, Place, Runtime
from stelar_proto.channel.network import Listener
from stelar_proto.channel.runtime import Address
from stelar_proto.client import ClientApplication
from stelar_proto.client.link import Link
from stelar_proto.plain import ConnectionHandler, PlainServer, ServedEndpoint, WebSocketConnector
from stelar_proto.plain.endpoint import WebSocketEndpoint
from stelar_proto.server import ServerApplication
from stelar_proto.testing import ChunkSize, MemoryNetwork, MemoryStream
from stelar_proto.testing.network import MemoryListener
from stelar_proto.testing.pipe import Pipe
from stelar_proto.testing.transport import MemoryTransport
from tests.support.virtual import VirtualLoop, VirtualRuntime

CAPACITY = 256 * 1024
"""Bytes that a stream holds for a side that does not read; then the other side cannot write."""

P = TypeVar("P", bound=Endpoint)

ADDRESS = "192.0.2.1"
"""Where clients come from."""


class VirtualTransport(MemoryTransport):
    """Carries one endpoint, which pauses and resumes by turns; without a task, for tests count those."""

    pauses = 0
    """How often reading was paused."""

    def pause_reading(self) -> None:
        assert self.is_reading
        self.pauses += 1
        super().pause_reading()

    def resume_reading(self) -> None:
        assert not self.is_reading
        super().resume_reading()


class RawStream(MemoryStream):
    """One end of a stream in the hands of a test.

    What the test does has reached the other end, with all its consequences, when the call returns. What is
    not read stays with the writer.
    """

    def __init__(self, network: VirtualNetwork, inbound: Pipe, outbound: Pipe) -> None:
        super().__init__(inbound, outbound)
        self._network = network

    @property
    def transport(self) -> VirtualTransport:
        """The other end."""
        return self._network.transports[self._inbound]

    def send_soon(self, data: bytes) -> None:
        """Send bytes, which arrive when the loop runs; ``b""`` ends the stream."""
        if data:
            super().send(data)
        else:
            super().end()

    def send(self, data: bytes) -> None:
        self.send_soon(data)
        self._network.loop.run_until_idle()

    def end(self) -> None:
        self.send(b"")

    def reset(self) -> None:
        """Cut the stream at once."""
        self._outbound.break_off()
        self._inbound.close()
        self._network.loop.run_until_idle()

    def stop_reading(self) -> None:
        super().stop_reading()
        self._inbound.capacity = 0

    def read_on(self) -> None:
        self._inbound.capacity = CAPACITY
        super().read_on()
        self._inbound.on_room()
        self._network.loop.run_until_idle()


class VirtualNetwork(MemoryNetwork):
    """A network whose loop is run by hand."""

    def __init__(self, loop: VirtualLoop, *, chunk_size: ChunkSize = None, latency: float = 0.0) -> None:
        super().__init__(capacity=CAPACITY, chunk_size=chunk_size, latency=latency)
        self.loop = loop
        self.transports: dict[Pipe, VirtualTransport] = {}
        """What carries endpoints, by the pipe that they write to."""
        self._by_hand: dict[int, MemoryListener] = {}

    def listen_raw(self, port: int, accepted: list[RawStream] | None = None) -> list[RawStream]:
        """Accept connections to ``port``; they are appended to ``accepted``, which is returned."""
        streams: list[Any] = [] if accepted is None else accepted
        self._by_hand[port] = self.listen_by_hand(port, streams.append)
        return streams

    def stop_listening(self, port: int) -> None:
        """Refuse connections to ``port`` again."""
        self._by_hand.pop(port).close()

    def connect_raw(self, listener: Listener, address: str | None = ADDRESS) -> RawStream:
        """Connect a stream over which nothing has been said yet, even if nobody listens there any more."""
        assert isinstance(listener, MemoryListener)
        stream = self._make_stream(*self._connect(listener, None, address or "").pipes)
        self.loop.run_until_idle()
        return stream

    def _guard(self, runtime: Runtime, transport: MemoryTransport) -> None:
        """A virtual loop carries its connections to their end."""

    def _make_stream(self, inbound: Pipe, outbound: Pipe) -> RawStream:
        return RawStream(self, inbound, outbound)

    def _make_transport(
        self, runtime: Runtime, inbound: Pipe, outbound: Pipe, local: Address, remote: Address
    ) -> VirtualTransport:
        transport = VirtualTransport(runtime, inbound, outbound, local_address=local)
        transport.remote_address = remote if remote[0] else None
        self.transports[outbound] = transport
        return transport


class VirtualListening(Lifecycle[P]):
    """A network's part of a server; the application comes behind it among the bases."""

    def __init__(self, network: VirtualNetwork, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._network = network
        self._listening: dict[str, Listener] = {}
        self.virtual_runtime = VirtualRuntime(network.loop, self.handle_deadlines)

    def start_now(self) -> None:
        """Take clients in from now on."""
        self._network.loop.run(self.start())

    def _make_runtime(self) -> VirtualRuntime:
        return self.virtual_runtime

    async def _listen(self, place: Place) -> int:
        attach = partial(self.connected, place.kind)
        # A Unix socket has a port of this network's choice.
        listener = self._network.listen(self.virtual_runtime, attach, place.host or "unix", place.port or 0)
        self._listening[place.kind] = listener
        return listener.port

    def _stop_listening(self) -> None:
        for listener in self._listening.values():
            listener.close()

    def connect(self, kind: str, address: str | None = ADDRESS) -> RawStream:
        """Connect a stream over which nothing has been said yet; while the server stops, it comes just then.

        Arguments:
            kind: ``"ws"`` or ``"tcp"``.
            address: where it comes from; None where the system does not tell.

        Raises:
            StateError: the server is not running.
        """
        assert self.runtime is self.virtual_runtime
        return self._network.connect_raw(self._listening[kind], address)


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
        self._network.dial(self.runtime, link, self.target.host, self.target.port)

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
        self._network.dial(runtime, endpoint, self.target.host, self.target.port)

    def _make_runtime(self) -> VirtualRuntime:
        return self.virtual_runtime

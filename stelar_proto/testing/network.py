"""Who listens on which port, and the connections between them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from stelar_proto.channel import Endpoint, Runtime, Transport
from stelar_proto.channel.network import Listener
from stelar_proto.channel.runtime import Address

from .pipe import ChunkSize, Pipe
from .stream import MemoryStream
from .transport import MemoryTransport

_LOOPBACK = "127.0.0.1"
_FIRST_FREE_PORT = 40_000
_FIRST_CLIENT_PORT = 50_000


class MemoryConnection:
    """One connection on a :class:`MemoryNetwork`.

    Attributes:
        client_address: the end that connected: host and port.
        server_address: the end that listened.
    """

    def __init__(self, client_address: Address, server_address: Address, pipes: tuple[Pipe, Pipe]) -> None:
        self.client_address = client_address
        self.server_address = server_address
        self.pipes = pipes
        """The client's: from the server, and to it."""

    def __repr__(self) -> str:
        (client, client_port), (server, port) = self.client_address, self.server_address
        state = "open" if self.is_open else "closed"
        return f"<{type(self).__name__} {client}:{client_port} -> {server}:{port} {state}>"

    @property
    def is_open(self) -> bool:
        """Whether at least one side still has it."""
        return not all(pipe.is_closed for pipe in self.pipes)

    def cut(self) -> None:
        """Cut it at once: both sides lose it, and what was on its way."""
        for pipe in self.pipes:
            pipe.break_off()

    def hold(self) -> None:
        """Have nothing arrive on either side, the end of the connection included, until :meth:`release`."""
        for pipe in self.pipes:
            pipe.hold()

    def release(self) -> None:
        """Have arrive what was held, in order."""
        for pipe in self.pipes:
            pipe.release()


class MemoryListener:
    """A port that is listened on.

    Arguments:
        accept: called with the pipes from and to each client, and both addresses, the server's first.
        runtime: the loop of the server, if it has one.
        address: where the server is.
        secure: whether it speaks TLS.
    """

    def __init__(
        self,
        accept: Callable[[Pipe, Pipe, Address, Address], object],
        runtime: Runtime | None,
        address: Address,
        *,
        secure: bool = False,
    ) -> None:
        self.accept = accept
        self.runtime = runtime
        self.address = address
        self.secure = secure
        self.is_closed = False
        self.backlog: set[MemoryTransport] = set()
        """What waits for the server's next turn."""

    @property
    def port(self) -> int:
        """Which one it is."""
        return self.address[1]

    def close(self) -> None:
        """Have no more connections come in; those that nobody has looked at are cut."""
        self.is_closed = True
        for transport in self.backlog:
            transport.cut()


class MemoryNetwork:
    """A network in memory, with one machine on it: whoever listens on a port of it is found by its number.

    ::

        network = MemoryNetwork()
        server = StelarServer(port=3000, tcp_port=3001, network=network)
        async with server, StelarClient("localhost:3000", network=network) as client:
            ...

    Host names are not looked at, and nothing is encrypted: TLS is taken as read, so ``wss://`` finds a server
    with ``tls=`` and no other, whatever its certificate.

    Arguments:
        chunk_size: how much is read at once: so many bytes, or what a function returns when it is told how
            many wait; by default each write comes as it was written.
        capacity: bytes that either direction of a connection holds for who does not read; then its peer
            cannot write.
        latency: seconds that what is written takes to arrive; connecting takes none.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self, *, chunk_size: ChunkSize = None, capacity: int = 64 * 1024, latency: float = 0.0
    ) -> None:
        if isinstance(chunk_size, int) and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1 byte, not {chunk_size!r}")
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 byte, not {capacity!r}")
        if not latency >= 0:
            raise ValueError(f"latency must be seconds, 0 or more, not {latency!r}")
        self._chunk_size = chunk_size
        self._capacity = capacity
        self._latency = latency
        self._listeners: dict[int, MemoryListener] = {}
        self._connections: list[MemoryConnection] = []
        self._is_held = False
        self._client_ports = count(_FIRST_CLIENT_PORT)

    def __repr__(self) -> str:
        ports = [port for port in self._listeners if not self._is_free(port)]
        return f"<{type(self).__name__} listening on {ports}, {len(self.connections)} connections>"

    # --- For a test -------------------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[MemoryConnection, ...]:
        """Those that are open, in the order they were made."""
        self._connections = [connection for connection in self._connections if connection.is_open]
        return tuple(self._connections)

    def cut(self, port: int | None = None) -> int:
        """Cut every connection, or those to ``port``, at once; return how many there were."""
        connections = list(self._connections_to(port))
        for connection in connections:
            connection.cut()
        return len(connections)

    def hold(self) -> None:
        """Have nothing arrive, on the connections there are and those to come, until :meth:`release`.

        Nobody is told: to both sides the other is only silent.
        """
        self._is_held = True
        for connection in self.connections:
            connection.hold()

    def release(self) -> None:
        """Have arrive what was held, and what will be sent."""
        self._is_held = False
        for connection in self.connections:
            connection.release()

    def from_host(self, host: str) -> MemoryHost:
        """Return this network as a machine with the address ``host`` sees it: give it to a client there."""
        return MemoryHost(self, host)

    def open_stream(self, port: int, *, host: str = _LOOPBACK) -> MemoryStream:
        """Connect to a server by hand, as a client at ``host``.

        Raises:
            ConnectionRefusedError: nobody listens on ``port``.
        """
        listener = self._listener_of(port)
        return self._make_stream(*self._connect(listener, None, host).pipes)

    def listen_by_hand(self, port: int, accept: Callable[[MemoryStream], object]) -> MemoryListener:
        """Listen on ``port``, 0 for any; ``accept`` is given the server's end of each connection.

        Raises:
            OSError: the port is in use.
        """

        def accept_pipes(inbound: Pipe, outbound: Pipe, local: Address, remote: Address) -> None:
            accept(self._make_stream(inbound, outbound))

        return self._add(MemoryListener(accept_pipes, None, (_LOOPBACK, self._free(port))))

    def _connections_to(self, port: int | None) -> Iterator[MemoryConnection]:
        for connection in self.connections:
            if port in (None, connection.server_address[1]):
                yield connection

    # --- For servers and clients ------------------------------------------------------------------------

    def listen(
        self,
        runtime: Runtime,
        attach: Callable[[Transport], Endpoint],
        host: str,
        port: int,
        *,
        secure: bool = False,
    ) -> Listener:
        """Have connections come in; see :meth:`stelar_proto.channel.network.Network.listen`.

        Raises:
            OSError: the port is in use.
        """

        def accept(inbound: Pipe, outbound: Pipe, local: Address, remote: Address) -> None:
            transport = self._make_transport(runtime, inbound, outbound, local, remote)
            listener.backlog.add(transport)
            transport.begin_soon(attach_accepted)
            self._guard(runtime, transport)

        def attach_accepted(transport: MemoryTransport) -> Endpoint:
            listener.backlog.discard(transport)
            return attach(transport)

        address = (_LOOPBACK if host == "localhost" else host, self._free(port))
        listener = self._add(MemoryListener(accept, runtime, address, secure=secure))
        return listener

    def dial(
        self,
        runtime: Runtime,
        endpoint: Endpoint,
        host: str,
        port: int,
        *,
        secure: bool = False,
        from_host: str = _LOOPBACK,
    ) -> None:
        """Connect ``endpoint``; see :meth:`stelar_proto.channel.network.Network.dial`.

        Raises:
            ConnectionRefusedError: nobody listens on ``port``.
            ConnectionResetError: one side speaks TLS, and the other does not.
        """
        listener = self._listener_of(port)
        if secure is not listener.secure:
            words = "no TLS here: ws:// and tcp:// reach it" if secure else "TLS: wss:// and tcps:// reach it"
            raise ConnectionResetError(errno.ECONNRESET, f"the server speaks {words}")
        connection = self._connect(listener, runtime, from_host)
        transport = self._make_transport(
            runtime, *connection.pipes, connection.client_address, connection.server_address
        )
        endpoint.transport = transport
        transport.begin(endpoint)
        self._guard(runtime, transport)

    def _free(self, port: int) -> int:
        if port == 0:
            return next(filter(self._is_free, count(_FIRST_FREE_PORT)))
        if not self._is_free(port):
            raise OSError(errno.EADDRINUSE, "Address already in use")  # in the system's words
        return port

    def _add(self, listener: MemoryListener) -> MemoryListener:
        self._listeners[listener.port] = listener
        return listener

    def _listener_of(self, port: int) -> MemoryListener:
        listener = self._listeners.get(port)
        if listener is None or listener.is_closed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on port {port}")
        return listener

    def _is_free(self, port: int) -> bool:
        return port not in self._listeners or self._listeners[port].is_closed

    def _connect(self, listener: MemoryListener, runtime: Runtime | None, host: str) -> MemoryConnection:
        """Connect to ``listener``, from ``host`` and, if it is not by hand, on the loop ``runtime``."""
        client = (host, next(self._client_ports))
        to_client, to_server = (
            self._make_pipe(reader or other)
            for reader, other in ((runtime, listener.runtime), (listener.runtime, runtime))
        )
        connection = MemoryConnection(client, listener.address, (to_client, to_server))
        self._connections = [*self.connections, connection]
        if self._is_held:
            connection.hold()
        listener.accept(to_server, to_client, listener.address, client)
        return connection

    def _make_transport(
        self, runtime: Runtime, inbound: Pipe, outbound: Pipe, local: Address, remote: Address
    ) -> MemoryTransport:
        return MemoryTransport(runtime, inbound, outbound, local_address=local, remote_address=remote)

    def _guard(self, runtime: Runtime, transport: MemoryTransport) -> None:
        runtime.spawn(transport.run())

    def _make_stream(self, inbound: Pipe, outbound: Pipe) -> MemoryStream:
        return MemoryStream(inbound, outbound)

    def _make_pipe(self, runtime: Runtime | None) -> Pipe:
        travel = None if runtime is None or not self._latency else partial(self._travel, runtime)
        return Pipe(capacity=self._capacity, chunk_size=self._chunk_size, travel=travel)

    def _travel(self, runtime: Runtime, arrive: Callable[[], None]) -> None:
        runtime.spawn(self._arrive_later(runtime, arrive))

    async def _arrive_later(self, runtime: Runtime, arrive: Callable[[], None]) -> None:
        await runtime.wait_for(runtime.make_event(), self._latency)
        arrive()


class MemoryHost:
    """A network as one machine on it sees it; clients that are given it come from there.

    Arguments:
        network: the network.
        host: the address of the machine.
    """

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self.network = network
        self.host = host
        self.listen = network.listen

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host} on {self.network!r}>"

    def dial(self, runtime: Runtime, endpoint: Endpoint, host: str, port: int, *, secure: bool) -> None:
        """Connect from here; see :meth:`MemoryNetwork.dial`."""
        self.network.dial(runtime, endpoint, host, port, secure=secure, from_host=self.host)

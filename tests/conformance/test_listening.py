"""Where servers listen: hosts and ports, Unix sockets, and sockets that somebody else has bound."""

from __future__ import annotations

import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from tests.conformance.world import PATIENCE, Inbox, World, read_exactly, read_to_end
from tests.support.programs import running
from tests.support.wires import UPGRADE

pytestmark = [pytest.mark.anyio, pytest.mark.sockets]


@pytest.fixture
def path() -> Iterator[Path]:
    """Where nothing is yet; the paths that pytest makes are too long for a Unix socket on some systems."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"


@pytest.fixture
def files(path: Path) -> Iterator[tuple[Path, Path]]:
    """A file, and a link to it; both are still there behind the test."""
    link = path.with_name("link")
    path.write_text("precious")
    link.symlink_to(path)
    yield path, link
    assert (path.read_text(), link.is_symlink()) == ("precious", True)


def bound_socket(port: int = 0, *, shared: bool = False) -> socket.socket:
    sock = socket.socket()
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def unix_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


async def upgrade(stream: SocketStream) -> bytes:
    """Open a WebSocket by hand; return the answer's head."""
    await stream.send(UPGRADE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive(1)
    return head


def plain_server(world: World, **options: Any) -> Any:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return world.package.serve_websocket(echo, **{"shutdown_timeout": 0.05, **options})


def quick_server(world: World, **options: Any) -> Any:
    """A server that does not wait long for clients by hand, who do not say goodbye."""
    return world.package.StelarServer(**{"shutdown_timeout": 0.05, **options})


SERVERS = pytest.mark.parametrize("kind", ["StelarServer", "serve_websocket"])


# In functions of their own, for the files are small and the checks of style are strict with coroutines.
def exists(path: Path) -> bool:
    return path.exists()


def replace_socket(path: Path) -> socket.socket:
    path.unlink()
    return unix_socket(path)


def is_socket(path: Path) -> bool:
    return stat.S_ISSOCK(path.lstat().st_mode)


def server_of(world: World, kind: str, **options: Any) -> Any:
    return quick_server(world, **options) if kind == "StelarServer" else plain_server(world, **options)


# --- Unix sockets -------------------------------------------------------------------------------------------


@pytest.mark.feature("unix_path")
@SERVERS
async def test_a_server_listens_on_a_unix_socket_and_removes_its_file(
    world: World, kind: str, path: Path
) -> None:
    with anyio.fail_after(PATIENCE):
        server = server_of(world, kind, unix_path=path)
        for _ in range(2):
            assert await server.start() == server.get_port() == 0
            assert is_socket(path)
            async with await anyio.connect_unix(path) as stream:
                assert (await upgrade(stream)).startswith(b"HTTP/1.1 101 ")
                await server.stop()
                assert b"Server shutting down" in await read_to_end(stream)
            assert not exists(path)
        assert str(path) in repr(server)


@pytest.mark.feature("unix_path", "ctx.client_info")
async def test_clients_of_both_places_meet_and_those_of_a_unix_socket_have_no_address(
    world: World, path: Path
) -> None:
    with anyio.fail_after(PATIENCE):
        server = quick_server(world, unix_path=str(path), tcp_port=0)
        addresses = Inbox()
        server.on_connection(lambda ctx: addresses(ctx.client_info.remote_address))
        async with server:
            async with await anyio.connect_unix(path) as stream:
                assert b" 101 " in await upgrade(stream)
                assert await addresses.next() is None
                async with world.client(server, "tcp"):
                    assert await addresses.next() == "127.0.0.1"
                    assert len(server.get_clients()) == 2
            async with await anyio.connect_unix(path) as stream:
                await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await read_to_end(stream)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.feature("unix_path")
async def test_the_socket_file_of_a_server_that_died_is_replaced(world: World, path: Path) -> None:
    with unix_socket(path) as dead:
        dead.listen()
    assert exists(path)
    async with quick_server(world, unix_path=path):
        async with await anyio.connect_unix(path) as stream:
            assert b" 101 " in await upgrade(stream)


@pytest.mark.feature("unix_path")
@pytest.mark.parametrize("is_busy", [False, True])
async def test_the_socket_file_of_a_living_server_is_an_error_that_names_it(
    world: World, path: Path, is_busy: bool
) -> None:
    words = rf"cannot listen on unix:{re.escape(str(path))}: a server is listening there"
    with unix_socket(path) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.listen(0)
        if is_busy:  # with others who wait
            waiting.connect(str(path))
        server = quick_server(world, unix_path=path)
        with pytest.raises(OSError, match=words):
            await server.start()
        assert exists(path)


@pytest.mark.feature("unix_path")
async def test_a_file_that_is_no_socket_is_never_removed(world: World, files: tuple[Path, Path]) -> None:
    for place in files:
        with pytest.raises(OSError, match=rf"cannot listen on unix:{place}: .*no socket"):
            await quick_server(world, unix_path=place).start()


@pytest.mark.feature("unix_path")
async def test_what_a_successor_listens_on_is_left_to_it(world: World, path: Path) -> None:
    async with quick_server(world, unix_path=path):
        successor = replace_socket(path)
    assert exists(path)
    successor.close()


@pytest.mark.feature("unix_path")
async def test_paths_that_cannot_be_are_errors_that_name_them(world: World, path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on unix:.*/none/s: No such file"):
        await quick_server(world, unix_path=path.parent / "none" / "s").start()
    with pytest.raises(OSError, match=r"xxx: the path is too long for a Unix socket"):
        await quick_server(world, unix_path=path.parent / ("x" * 200)).start()


# --- Sockets that are there already -------------------------------------------------------------------------


@pytest.mark.feature("sock", "host", "port")
@SERVERS
@pytest.mark.parametrize("is_listening", [False, True])
async def test_a_server_takes_a_socket_over_and_closes_it_when_it_stops(
    world: World, kind: str, is_listening: bool
) -> None:
    with anyio.fail_after(PATIENCE):
        sock = bound_socket()
        port = sock.getsockname()[1]
        if is_listening:
            sock.listen()
        server = server_of(world, kind, sock=sock)
        assert await server.start() == server.get_port() == port
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            assert b" 101 " in await upgrade(stream)
            assert sock.fileno() >= 0
        await server.stop()
        assert sock.fileno() == -1
        with pytest.raises(OSError, match="cannot listen on the given socket: it is closed"):
            await server.start()


@pytest.mark.feature("sock", "tcp_port")
async def test_both_ports_may_be_given_as_sockets(world: World, wire: str) -> None:
    first, second = bound_socket(), bound_socket()
    ports = first.getsockname()[1], second.getsockname()[1]
    server = quick_server(world, sock=first, tcp_sock=second)
    async with world.conversation(server=server):
        assert (server.get_port(), server.get_tcp_port()) == ports
        async with world.client(server, wire) as client:
            server.on_ack("who", lambda ctx: ctx.client_info.remote_address)
            assert await client.request("who") == "127.0.0.1"
    assert (first.fileno(), second.fileno()) == (-1, -1)


@pytest.mark.feature("sock", "unix_path")
async def test_a_unix_socket_may_be_given_and_its_file_is_left_alone(world: World, path: Path) -> None:
    sock = unix_socket(path)
    async with quick_server(world, sock=sock) as server:
        assert server.get_port() == 0
        async with await anyio.connect_unix(path) as stream:
            assert b" 101 " in await upgrade(stream)
    assert exists(path)
    assert sock.fileno() == -1


@pytest.mark.feature("sock", "host", "port")
@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system has no SO_REUSEPORT")
async def test_two_servers_share_a_port(world: World) -> None:
    with anyio.fail_after(PATIENCE):
        first = bound_socket(shared=True)
        port = first.getsockname()[1]
        second = bound_socket(port, shared=True)
        servers = [quick_server(world, sock=sock) for sock in (first, second)]
        for server in servers:
            await server.start()
        streams = []
        while not all(server.get_clients() for server in servers):  # the system chooses who gets it
            streams.append(await anyio.connect_tcp("127.0.0.1", port))
            await upgrade(streams[-1])
        await servers[0].stop()
        async with world.client_of(f"ws://127.0.0.1:{port}") as client:  # the other one goes on
            assert client.get_id() in servers[1].get_clients()
        await servers[1].stop()
        for stream in streams:
            await stream.aclose()


@pytest.mark.feature("host", "port")
async def test_a_socket_that_is_not_bound_is_refused(world: World) -> None:
    with socket.socket() as sock:
        with pytest.raises(OSError, match="cannot listen on the given socket: it is not bound"):
            await quick_server(world, sock=sock).start()


@pytest.mark.feature("host", "port", "unix_path")
@SERVERS
def test_options_that_contradict_each_other_are_all_named(world: World, kind: str) -> None:
    with bound_socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(ValueError, match="sock says where to listen: unix_path and host and port cannot"):
            server_of(world, kind, sock=sock, unix_path="/run/s", host="127.0.0.1", port=0)
        with pytest.raises(ValueError, match="unix_path says where to listen: port cannot") as caught:
            server_of(world, kind, unix_path="/run/s", port=70000, shutdown_timeout=-1)
        for words in ("port must be from 0 to 65535, not 70000", "shutdown_timeout must be 0 or more"):
            assert words in str(caught.value)
        with pytest.raises(ValueError, match="sock must be a stream socket, not <socket"):
            server_of(world, kind, sock=datagrams)
        with pytest.raises(ValueError, match="unix_path must be the path of a file, not ''"):
            server_of(world, kind, unix_path="")


def test_a_socket_for_tcp_and_a_port_contradict_each_other(world: World) -> None:
    with bound_socket() as sock:
        with pytest.raises(ValueError, match="tcp_sock says where to listen: tcp_host and tcp_port cannot"):
            quick_server(world, tcp_sock=sock, tcp_host="127.0.0.1", tcp_port=0)


# --- Hosts --------------------------------------------------------------------------------------------------


@pytest.mark.feature("host", "port")
async def test_all_addresses_of_a_name_get_the_same_port(world: World) -> None:
    async with world.conversation(host="localhost") as (server,):
        for family, _, _, _, (address, *_) in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
            with socket.socket(family) as probe:
                try:
                    probe.bind((address, 0))
                except OSError:
                    continue  # this machine does not have the family
            async with await anyio.connect_tcp(str(address), server.get_port()) as stream:
                assert b" 101 " in await upgrade(stream)


@pytest.mark.feature("host", "port")
async def test_a_name_without_address_is_an_error_that_names_it(world: World) -> None:
    with anyio.fail_after(PATIENCE), pytest.raises(OSError, match=r"cannot listen on no\.such\.invalid:0: "):
        await world.server(host="no.such.invalid").start()


# --- Too many open files ------------------------------------------------------------------------------------


@pytest.mark.feature("max_connections")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell what is open")
async def test_out_of_file_descriptors_it_serves_on_and_accepts_when_there_are_some(
    world: World, anyio_backend_options: dict[str, Any]
) -> None:
    """In a process of its own, since the limit is one of the process."""
    loop = "uvloop" if anyio_backend_options.get("use_uvloop") else world.backend
    with running("tests.support.crowded", loop) as program:
        port = program.read()["port"]
        with anyio.fail_after(PATIENCE):
            async with world.client_of(f"ws://127.0.0.1:{port}", ack_timeout=PATIENCE) as client:
                streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(40)]
                for stream in streams:
                    await stream.send(UPGRADE)
                failures = await client.request("failures")
                assert failures[-1] - failures[0] >= 0.09 * (len(failures) - 1)  # not as fast as it can
                let_in = [stream for stream in streams[:20] if b" 101 " in await read_exactly(stream, 20)]
                assert len(let_in) == 20
                for stream in let_in:
                    await stream.aclose()
                assert b" 101 " in await read_exactly(streams[-1], 20)  # the last of those who waited
                assert await client.request("failures")
                for stream in streams[20:]:
                    await stream.aclose()
        program.terminate()
        status, errors = program.wait()
        assert status == 0
        assert errors.count("cannot be accepted: [Errno 24] Too many open files") == 1

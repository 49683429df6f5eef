"""Sockets to listen on, bound or taken over from whoever started the process; and those that come in."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from stelar_proto.channel import Place

AddressInfo: TypeAlias = tuple[int, int, int, str, Any]
"""What ``getaddrinfo()`` returns a list of."""

_BACKLOG = 1024
_UNSENT_SIZE = 128 * 1024  # two of the writes that an outbox gives: less would cut them in pieces


class Listener:
    """A listening socket, non-blocking; and the file of a Unix socket, which goes with it.

    Arguments:
        sock: the socket; it is closed by :meth:`close`.
        path: the file that was made for it.
    """

    def __init__(self, sock: socket.socket, path: str | None = None) -> None:
        self.socket = sock
        self._path = path
        self._file = None if path is None else _identity(path)
        sock.setblocking(False)

    @property
    def port(self) -> int:
        """The port that is listened on; 0 where there is no such thing."""
        return _port_of(self.socket)

    def close(self) -> None:
        """Listen no more; called again, it does nothing."""
        path, self._path = self._path, None
        # It may be another's by now, who found it in the way.
        if path is not None and _identity(path) == self._file:
            os.unlink(path)
        self.socket.close()


def known_addresses(place: Place) -> Sequence[AddressInfo] | None:
    """Return the addresses to bind if no name has to be resolved for them; None if one has to be."""
    if place.host is None:
        return ()
    flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
    try:
        return socket.getaddrinfo(place.host or None, place.port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        return None


def open_listeners(place: Place, addresses: Sequence[AddressInfo]) -> list[Listener]:
    """Listen at ``place``.

    Arguments:
        place: where.
        addresses: what its host resolves to; all of them get the same port.

    Raises:
        OSError: that cannot be done; see :func:`listen_error`.
    """
    if place.sock is not None:
        return [Listener(_adopt(place.sock))]
    if place.unix_path is not None:
        path = os.path.abspath(place.unix_path)
        return [Listener(_bind_unix(path), path)]
    listeners: list[Listener] = []
    refusal: OSError | None = None
    try:
        for family, _, protocol, _, address in addresses:
            host, port, *rest = address
            if listeners and port == 0:
                port = listeners[0].port
            try:
                listeners.append(Listener(_bind(family, protocol, (host, port, *rest))))
            except OSError as error:
                # A name may stand for an address of a family that this machine does not have.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                refusal = error
        if not listeners:
            raise refusal or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen_error(error: OSError, place: Place) -> OSError:
    """Return ``error`` with a message that says where it is about."""
    return OSError(error.errno, f"cannot listen on {place}: {error.strerror or error}")


def _bind(family: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        if os.name == "posix":  # on Windows it would let two servers have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _adopt(sock: socket.socket) -> socket.socket:
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "it is closed; stopping a server closes the socket it was given")
    if sock.family in (socket.AF_INET, socket.AF_INET6) and _port_of(sock) == 0:
        raise OSError(errno.EINVAL, "it is not bound")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.listen(_BACKLOG)
    return sock


def _port_of(sock: socket.socket) -> int:
    address = sock.getsockname()
    return int(address[1]) if isinstance(address, tuple) else 0


class Connection(Protocol):
    """What the sockets of all event loops have in common."""

    @property
    def family(self) -> int: ...

    def setsockopt(self, level: int, option: int, value: int, /) -> object: ...


def keep_unsent_here(sock: Connection) -> None:
    """Have the system take little more from us than ``sock`` can send: what waits for the peer waits here.

    Here it counts towards ``outbox_limit``, and can be dropped for something newer. Where the system knows no
    such bound, or the socket has none, it is filled up as ever.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_SIZE)


# --- Unix sockets -------------------------------------------------------------------------------------------


def _bind_unix(path: str) -> socket.socket:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        try:
            _bind_path(sock, path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            _bind_path(sock, path)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_path(sock: socket.socket, path: str) -> None:
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno is None:  # Python's own check
            raise OSError(errno.ENAMETOOLONG, "the path is too long for a Unix socket") from error
        raise


def _remove_stale(path: str) -> None:
    """Remove the socket file of a server that has gone.

    Raises:
        OSError: it is no socket, or there is somebody behind it.
    """
    with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file of that name, and it is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except BlockingIOError:  # its backlog is full
                pass
        raise OSError(errno.EADDRINUSE, "a server is listening there")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino

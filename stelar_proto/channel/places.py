"""Where a server listens, and which ways of saying so make sense."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, NamedTuple


class Place(NamedTuple):
    """One place to listen at: a host and a port, a Unix socket, or a socket that somebody else has bound."""

    kind: str
    """Of the connections that come in there."""
    host: str | None = None
    port: int | None = None
    unix_path: str | PurePath | None = None
    sock: Any = None

    def __str__(self) -> str:
        if self.sock is not None:
            return "the given socket"
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        return f"[{self.host}]:{self.port}" if self.host and ":" in self.host else f"{self.host}:{self.port}"


def place_problems(
    *, host: object, port: object, unix_path: object = None, sock: object = None, prefix: str = ""
) -> list[str]:
    """Say what is wrong with the options of one place; None is an option that was not given.

    Arguments:
        host, port, unix_path, sock: the options.
        prefix: of their names.
    """
    options = {"sock": sock, "unix_path": unix_path, "host": host, "port": port}
    first, *others = [prefix + name for name, value in options.items() if value is not None] or [""]
    problems = []
    if others and first.endswith(("sock", "unix_path")):
        problems.append(f"{first} says where to listen: {' and '.join(others)} cannot say so too")
    if port is not None and not (type(port) is int and 0 <= port <= 0xFFFF):
        problems.append(f"{prefix}port must be from 0 to 65535, not {port!r}")
    if not isinstance(host, str | None):
        problems.append(f"{prefix}host must be a name or an address, not {host!r}")
    if unix_path is not None and not _is_path(unix_path):
        problems.append(f"{prefix}unix_path must be the path of a file, not {unix_path!r}")
    if sock is not None and getattr(getattr(sock, "type", None), "name", None) != "SOCK_STREAM":
        problems.append(f"{prefix}sock must be a stream socket, not {sock!r}")
    return problems


def _is_path(path: object) -> bool:
    return isinstance(path, str | PurePath) and str(path) != "" and "\0" not in str(path)

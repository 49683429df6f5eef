"""The PROXY protocol: what a proxy in front of a TCP port says first, about the client that it stands for.

Both versions of haproxy's specification: the line of version 1 and the binary header of version 2, read
without a socket. A header's bounds are known before it has come whole: 107 bytes, or what its length says.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from stelar_proto.errors import PeerError

MAX_V1_SIZE = 107
"""Of the line, its end included (section 2.1)."""

MAX_V2_SIZE = 4096
"""Of the binary header with its TLVs; the format would allow 64 KiB, no proxy sends that much."""

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_SIZE = 16
_V2_COMMANDS = {0x20: "LOCAL", 0x21: "PROXY"}
# Family and transport (section 2.2): how many bytes of addresses follow.
_V2_ADDRESS_SIZES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_V2_TCP4, _V2_TCP6 = 0x11, 0x21

_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)
_MAX_PORT = 0xFFFF


class ProxyHeader(NamedTuple):
    """What the proxy said: the client's address and port, and those that it connected to.

    Both are None where the connection is the proxy's own (LOCAL), or where it does not tell (UNKNOWN, and all
    but TCP over IP): then the connection's own addresses hold.
    """

    source: tuple[str, int] | None
    destination: tuple[str, int] | None


_OWN_ADDRESSES = ProxyHeader(None, None)


class ProxyHeaderError(PeerError):
    """There is no PROXY header, or it is broken."""

    code = "INVALID_PROXY_HEADER"


class ProxyHeaderReader:
    """Reads one header from the front of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<ProxyHeaderReader {len(self._buffer)} bytes>"

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take bytes; return the header once it is complete, None while it is not.

        Then :meth:`rest` has what came behind it, and nothing more may be fed.

        Raises:
            ProxyHeaderError: these bytes are no header, and nothing that follows will make them one.
        """
        self._buffer += data
        start = bytes(self._buffer[: len(_V2_START)])
        if start.startswith(_V1_START):
            return self._read_line()
        if start == _V2_START:
            return self._read_binary()
        if not (_V1_START.startswith(start) or _V2_START.startswith(start)):
            raise ProxyHeaderError("the stream does not begin with a PROXY header")
        return None

    def rest(self) -> bytes:
        """Return what came behind the header."""
        return bytes(self._buffer)

    # --- Version 1 ----------------------------------------------------------------------------------------

    def _read_line(self) -> ProxyHeader | None:
        end = self._buffer.find(b"\r\n", 0, MAX_V1_SIZE)
        if end < 0:
            if len(self._buffer) >= MAX_V1_SIZE:
                raise ProxyHeaderError(f"a PROXY line has at most {MAX_V1_SIZE} bytes")
            return None
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return _parse_line(line)

    # --- Version 2 ----------------------------------------------------------------------------------------

    def _read_binary(self) -> ProxyHeader | None:
        buffer = self._buffer
        if len(buffer) < _V2_FIXED_SIZE:
            return None
        command, family = _V2_COMMANDS.get(buffer[12]), buffer[13]
        size = int.from_bytes(buffer[14:16], "big")
        if command is None:
            raise ProxyHeaderError(f"version and command {buffer[12]:#04x} are none that there are")
        if _V2_FIXED_SIZE + size > MAX_V2_SIZE:
            raise ProxyHeaderError(f"a PROXY header has at most {MAX_V2_SIZE} bytes here")
        if command == "PROXY":
            needed = _V2_ADDRESS_SIZES.get(family)
            if needed is None:
                raise ProxyHeaderError(f"address family and transport {family:#04x} are none that there are")
            if size < needed:
                raise ProxyHeaderError(f"{size} bytes are too few for the addresses, which take {needed}")
        if len(buffer) < _V2_FIXED_SIZE + size:
            return None
        block = bytes(buffer[_V2_FIXED_SIZE : _V2_FIXED_SIZE + size])
        del buffer[: _V2_FIXED_SIZE + size]
        return _OWN_ADDRESSES if command == "LOCAL" else _parse_block(family, block)


def _parse_line(line: str) -> ProxyHeader:
    _, family, *fields = line.split(" ")
    if family == "UNKNOWN":  # whatever else stands there is to be ignored
        return _OWN_ADDRESSES
    if family not in ("TCP4", "TCP6") or len(fields) != 4:
        raise ProxyHeaderError("a PROXY line is TCP4, TCP6 or UNKNOWN, two addresses and two ports")
    try:
        make = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
        source, destination = str(make(_without_zone(fields[0]))), str(make(_without_zone(fields[1])))
    except ValueError as error:
        raise ProxyHeaderError(f"a PROXY line with a bad address: {error}") from None
    return ProxyHeader((source, _parse_port(fields[2])), (destination, _parse_port(fields[3])))


def _without_zone(text: str) -> str:
    if "%" in text:
        raise ValueError("zones mean nothing on another machine")
    return text


def _parse_port(text: str) -> int:
    if _PORT.fullmatch(text) is None or int(text) > _MAX_PORT:
        raise ProxyHeaderError("a PROXY line with a bad port")
    return int(text)


def _parse_block(family: int, block: bytes) -> ProxyHeader:
    """The addresses; behind them stand TLVs, which are skipped."""
    if family == _V2_TCP4:
        source, destination, ports = block[:4], block[4:8], block[8:12]
    elif family == _V2_TCP6:
        source, destination, ports = block[:16], block[16:32], block[32:36]
    else:
        return _OWN_ADDRESSES
    return ProxyHeader(
        (str(ipaddress.ip_address(source)), int.from_bytes(ports[:2], "big")),
        (str(ipaddress.ip_address(destination)), int.from_bytes(ports[2:], "big")),
    )

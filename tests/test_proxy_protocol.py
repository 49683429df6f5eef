"""The PROXY protocol: headers as the specification shows them, whole and in pieces, and what is none."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.proxy_protocol import (
    MAX_V1_SIZE,
    MAX_V2_SIZE,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderReader,
)

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
NONE = ProxyHeader(None, None)
TCP4 = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
TCP6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + b"\x01\xbb\x00\x50"
TLVS = b"\x01\x00\x02h2" + b"\x04\x00\x04\0\0\0\0"


def v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2, "big") + block


# The lines of version 1 are the specification's own examples, with its longest cases.
VECTORS = [
    (
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        (("192.168.0.1", 56324), ("192.168.0.11", 443)),
    ),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        (("255.255.255.255", 65535), ("255.255.255.255", 65535)),
    ),
    (
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        b" 65535 65535\r\n",
        (
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
        ),
    ),
    (b"PROXY UNKNOWN\r\n", (None, None)),
    (
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        b" 65535 65535\r\n",
        (None, None),
    ),
    (b"PROXY TCP6 2001:db8::1 ::1 0 1\r\n", (("2001:db8::1", 0), ("::1", 1))),
    (v2(0x21, 0x11, TCP4), (("192.168.0.1", 56324), ("192.168.0.11", 443))),
    (v2(0x21, 0x11, TCP4 + TLVS), (("192.168.0.1", 56324), ("192.168.0.11", 443))),
    (v2(0x21, 0x21, TCP6), (("2001:db8::1", 443), ("2001:db8::2", 80))),
    (v2(0x21, 0x21, TCP6 + TLVS), (("2001:db8::1", 443), ("2001:db8::2", 80))),
    (v2(0x20, 0x00, b""), (None, None)),
    (v2(0x20, 0x11, TCP4), (None, None)),
    (v2(0x20, 0xFF, b"xyz"), (None, None)),
    (v2(0x21, 0x00, b""), (None, None)),
    (v2(0x21, 0x00, TLVS), (None, None)),
    (v2(0x21, 0x12, TCP4), (None, None)),
    (v2(0x21, 0x22, TCP6), (None, None)),
    (v2(0x21, 0x31, b"/a".ljust(108, b"\0") * 2), (None, None)),
    (v2(0x21, 0x32, b"/a".ljust(108, b"\0") * 2), (None, None)),
]


@pytest.mark.parametrize(("header", "expected"), VECTORS)
@pytest.mark.parametrize("behind", [b"", b"PROXY", SIGNATURE, b"\0\0\0\7\2\0\0"])
def test_a_header_is_read_whole_and_byte_by_byte_and_nothing_behind_it(
    header: bytes, expected: Any, behind: bytes
) -> None:
    reader = ProxyHeaderReader()
    assert reader.feed(header + behind) == expected
    assert reader.rest() == behind
    reader = ProxyHeaderReader()
    for byte in header[:-1]:
        assert reader.feed(bytes([byte])) is None
    assert reader.feed(header[-1:] + behind) == expected
    assert reader.rest() == behind


def test_the_longest_line_is_the_specifications() -> None:
    longest = max(len(header) for header, _ in VECTORS if header.startswith(b"PROXY "))
    assert longest == MAX_V1_SIZE == 107


BROKEN = [
    (b"GET / HTTP/1.1\r\n", "does not begin with"),
    (b"\0\0\0\7\2\0\0", "does not begin with"),
    (b"proxy TCP4", "does not begin with"),
    (b"PROXYTCP4", "does not begin with"),
    (b"\r\n\r\n\0\r\nQUIZ\n", "does not begin with"),
    (b"PROXY " + b"x" * 200, "at most 107 bytes"),
    (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "at most 107 bytes"),
    (b"PROXY \r\n", "is TCP4, TCP6 or UNKNOWN"),
    (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "is TCP4, TCP6 or UNKNOWN"),
    (b"PROXY TCP4\r\n", "is TCP4, TCP6 or UNKNOWN"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "two addresses and two ports"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "two addresses and two ports"),
    (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "is TCP4, TCP6 or UNKNOWN"),
    (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", "two addresses and two ports"),
    (b"PROXY TCP4 ::1 ::1 1 2\r\n", "bad address"),
    (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "bad address"),
    (b"PROXY TCP6 fe80::1%a ::1 1 2\r\n", "bad address"),
    (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "bad address"),
    (b"PROXY TCP4 1.2.3.4 x 1 2\r\n", "bad address"),
    (b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 2\r\n", "bad address"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "bad port"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 02\r\n", "bad port"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "bad port"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n", "bad port"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "bad port"),
    (v2(0x11, 0x11, TCP4), "version and command 0x11"),
    (v2(0x22, 0x11, TCP4), "version and command 0x22"),
    (v2(0x21, 0x13, TCP4), "family and transport 0x13"),
    (v2(0x21, 0x41, TCP4), "family and transport 0x41"),
    (v2(0x21, 0x10, TCP4), "family and transport 0x10"),
    (v2(0x21, 0x11, TCP4[:-1]), "11 bytes are too few for the addresses, which take 12"),
    (v2(0x21, 0x21, TCP6[:-1]), "35 bytes are too few"),
    (v2(0x21, 0x31, b"x" * 215), "215 bytes are too few"),
    (v2(0x21, 0x11, TCP4 + bytes(MAX_V2_SIZE)), "at most 4096 bytes"),
    (v2(0x20, 0x00, bytes(0xFFFF)), "at most 4096 bytes"),
]


@pytest.mark.parametrize(("header", "words"), BROKEN)
def test_what_is_no_header_is_refused_with_words_whole_or_byte_by_byte(header: bytes, words: str) -> None:
    with pytest.raises(ProxyHeaderError, match=words) as caught:
        ProxyHeaderReader().feed(header)
    assert caught.value.code == "INVALID_PROXY_HEADER"
    reader = ProxyHeaderReader()
    with pytest.raises(ProxyHeaderError, match=words):
        feed_bytes(reader, header)


def feed_bytes(reader: ProxyHeaderReader, header: bytes) -> None:
    for byte in header:
        assert reader.feed(bytes([byte])) is None


def test_what_is_too_large_is_refused_from_its_length_alone() -> None:
    reader = ProxyHeaderReader()
    with pytest.raises(ProxyHeaderError, match="at most 4096"):
        reader.feed(v2(0x21, 0x11, bytes(5000))[:16])
    assert repr(reader) == "<ProxyHeaderReader 16 bytes>"


ports = st.integers(0, 0xFFFF)


def header_of(source: tuple[Any, int], destination: tuple[Any, int], version: int, tlvs: bytes) -> bytes:
    (first, first_port), (second, second_port) = source, destination
    if version == 1:
        return f"PROXY TCP{first.version} {first} {second} {first_port} {second_port}\r\n".encode()
    family = 0x11 if first.version == 4 else 0x21
    tail = first_port.to_bytes(2, "big") + second_port.to_bytes(2, "big")
    return v2(0x21, family, first.packed + second.packed + tail + tlvs)


pairs = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


@given(
    addresses=pairs,
    ports=st.tuples(ports, ports),
    version=st.sampled_from([1, 2]),
    tlvs=st.binary(max_size=300),
    behind=st.binary(max_size=50),
    cuts=st.lists(st.integers(1, 60), max_size=20),
)
def test_what_is_written_is_read_however_it_is_cut(
    addresses: tuple[IPv4Address | IPv6Address, Any],
    ports: tuple[int, int],
    version: int,
    tlvs: bytes,
    behind: bytes,
    cuts: list[int],
) -> None:
    (source, destination), (source_port, destination_port) = addresses, ports
    header = header_of((source, source_port), (destination, destination_port), version, tlvs)
    stream = header + behind
    reader, read, result = ProxyHeaderReader(), 0, None
    for size in [*cuts, len(stream)]:
        if result is None and read < len(stream):
            result = reader.feed(stream[read : read + size])
            read += size
    assert result == ((str(source), source_port), (str(destination), destination_port))
    assert reader.rest() + stream[read:] == behind


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda data: SIGNATURE + data)))
def test_whatever_comes_is_a_header_or_an_error_or_waits_within_bounds(data: bytes) -> None:
    reader = ProxyHeaderReader()
    try:
        result = reader.feed(data)
    except ProxyHeaderError:
        return
    if result is None:
        assert len(data) < MAX_V2_SIZE
        assert data.startswith((b"PROXY ", SIGNATURE)) or len(data) < len(SIGNATURE)

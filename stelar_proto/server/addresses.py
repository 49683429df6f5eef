"""Where clients come from: IP addresses, and what proxies say about them.

A header says whatever its sender likes, so it is believed only as far as trusted proxies wrote it. Each proxy
appends the address that it was connected from, at the right end; whoever wrote the rest is not known.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_IPV4_MAPPED_BITS = 96

# What stands in a header: 1.2.3.4, 1.2.3.4:5, 2001:db8::1, [2001:db8::1], [2001:db8::1]:5. No zones: they
# mean something on one machine only.
_HOP = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([0-9.]+)(?::\d{1,5})?|([0-9A-Fa-f:.]+)", re.ASCII)


def parse_networks(networks: Iterable[object]) -> tuple[tuple[IPNetwork, ...], list[str]]:
    """Return what ``networks`` name, and a sentence about each that is none.

    Arguments:
        networks: such as ``"10.0.0.0/8"``, ``"::1"``, or objects of :mod:`ipaddress`. A single address stands
            for itself; IPv4 in IPv6 (``::ffff:10.0.0.0/104``) for IPv4.
    """
    parsed: list[IPNetwork] = []
    problems: list[str] = []
    for network in networks:
        try:
            parsed.append(_parse_network(network))
        except ValueError as error:
            problems.append(f"{network!r} is no network: {error}")
    return tuple(parsed), problems


def _parse_network(network: object) -> IPNetwork:
    if not isinstance(
        network,
        str | ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network,
    ):
        raise ValueError("it takes a text such as '10.0.0.0/8' or an object of ipaddress")
    parsed = ipaddress.ip_network(network)
    mapped = _unmapped(parsed.network_address)
    if parsed.prefixlen >= _IPV4_MAPPED_BITS and mapped.version != parsed.version:
        return ipaddress.ip_network((mapped, parsed.prefixlen - _IPV4_MAPPED_BITS))
    return parsed


def _unmapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one may stand for: the same host must have one name."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def parse_address(text: str) -> IPAddress | None:
    """Return the address of a socket, without its zone; None if it is none."""
    try:
        return _unmapped(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def parse_hop(text: str) -> IPAddress | None:
    """Return the address in one element of a header, without its port; None if it is none."""
    match = _HOP.fullmatch(text)
    return None if match is None else parse_address(match[1] or match[2] or match[3])


def is_within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    """Tell whether ``address`` is in one of ``networks``."""
    return any(address in network for network in networks)  # of the other version: it is not


def plain_address(text: str) -> str:
    """Return the address of a socket as all of its spellings are written here; what is none, as it is."""
    address = parse_address(text)
    return text if address is None else str(address)


def client_address(
    peer: str | None, forwarded_for: Iterable[str], trusted: Iterable[IPNetwork]
) -> str | None:
    """Return where a client comes from, as text without zone or port; None if nobody knows.

    ``X-Forwarded-For`` is walked from right to left for as long as the hop that wrote an element is trusted.
    What is no address, an empty element too, ends the walk at the hop that wrote it: everything left of it is
    anybody's word.

    Arguments:
        peer: the address of the other end of the socket; None for a trusted one that has none.
        forwarded_for: the values of the header's lines, in order.
        trusted: the networks of the proxies.
    """
    hops = _from_right(forwarded_for)
    address = None if peer is None else parse_address(peer)
    if peer is None:  # who wrote the last element
        address = parse_hop(next(hops, ""))
    if address is None:
        return peer
    while is_within(address, trusted) and (element := next(hops, None)) is not None:
        hop = parse_hop(element)
        if hop is None:
            break
        address = hop
    return str(address)


def _from_right(lines: Iterable[str]) -> Iterator[str]:
    """The elements of a list, the last first, no more of them taken apart than are asked for."""
    for line in reversed(list(lines)):
        rest = line
        while True:
            rest, comma, element = rest.rpartition(",")
            yield element.strip(" \t")
            if not comma:
                break

"""The spoofing matrix: what a header can make of an address, and what it cannot."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.server.addresses import client_address, is_within, parse_address, parse_hop, parse_networks

TRUSTED, _ = parse_networks(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])
PROXY, OTHER_PROXY, STRANGER, CLIENT = "10.0.0.1", "fd00::1", "203.0.113.9", "198.51.100.7"


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        # Nobody is believed who is not trusted.
        (STRANGER, [], STRANGER),
        (STRANGER, [CLIENT], STRANGER),
        (STRANGER, ["10.0.0.1"], STRANGER),
        (STRANGER, [f"{CLIENT}, {PROXY}"], STRANGER),
        (STRANGER, ["garbage"], STRANGER),
        # A trusted proxy is believed as to whom it was connected from, and no further.
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"6.6.6.6, {CLIENT}"], CLIENT),
        (PROXY, [f"127.0.0.1, {CLIENT}"], CLIENT),
        (PROXY, [f"{CLIENT}, {STRANGER}"], STRANGER),
        (PROXY, [f"6.6.6.6, {CLIENT}, {OTHER_PROXY}"], CLIENT),
        (PROXY, [f"6.6.6.6, {CLIENT}, {OTHER_PROXY}, 10.9.9.9"], CLIENT),
        (PROXY, ["10.0.0.7, 10.0.0.8"], "10.0.0.7"),  # a client inside
        # Several lines are one list.
        (PROXY, ["6.6.6.6", CLIENT], CLIENT),
        (PROXY, [f"6.6.6.6, {CLIENT}", OTHER_PROXY], CLIENT),
        (PROXY, [CLIENT, f"{STRANGER},{OTHER_PROXY}"], STRANGER),
        # What is no address ends the walk at the hop that wrote it.
        (PROXY, ["unknown"], PROXY),
        (PROXY, ["_hidden"], PROXY),
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [f"{CLIENT}, unknown, {OTHER_PROXY}"], OTHER_PROXY),
        (PROXY, [f"unknown, {CLIENT}"], CLIENT),
        (PROXY, [""], PROXY),
        (PROXY, [CLIENT, ""], PROXY),
        (PROXY, [f"{CLIENT},"], PROXY),
        (PROXY, [f"{CLIENT}, , {OTHER_PROXY}"], OTHER_PROXY),
        (PROXY, [f", {CLIENT}"], CLIENT),
        (PROXY, ["1.2.3"], PROXY),
        (PROXY, ["1.2.3.4.5"], PROXY),
        (PROXY, ["1.2.3.256"], PROXY),
        (PROXY, ["01.2.3.4"], PROXY),
        (PROXY, ["1.2.3.4/8"], PROXY),
        (PROXY, ["1.2.3.4 5.6.7.8"], PROXY),
        (PROXY, ['"1.2.3.4"'], PROXY),
        (PROXY, ["for=1.2.3.4"], PROXY),
        (PROXY, ["localhost"], PROXY),
        (PROXY, ["16909060"], PROXY),
        (PROXY, ["0x01020304"], PROXY),
        (PROXY, ["\xb9.2.3.4"], PROXY),
        (PROXY, ["fe80::1%eth0"], PROXY),
        (PROXY, ["[2001:db8::1"], PROXY),
        (PROXY, ["2001:db8::1]"], PROXY),
        (PROXY, ["1.2.3.4:"], PROXY),
        (PROXY, ["1.2.3.4:port"], PROXY),
        (PROXY, [":8080"], PROXY),
        # Ports are no part of an address.
        (PROXY, [f"{CLIENT}:5678"], CLIENT),
        (PROXY, ["[2001:db8::1]:5678"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, [f"6.6.6.6, {CLIENT}:1, 10.1.1.1:2"], CLIENT),
        # One host has one name, however it is spelt.
        (PROXY, ["2001:0DB8:0:0::0001"], "2001:db8::1"),
        (PROXY, ["::ffff:198.51.100.7"], CLIENT),
        (PROXY, ["::FFFF:c633:6407"], CLIENT),
        (PROXY, [f" \t{CLIENT}\t "], CLIENT),
        ("::ffff:10.0.0.1", [CLIENT], CLIENT),
        (f"::ffff:{STRANGER}", [CLIENT], STRANGER),
        ("::ffff:10.0.0.1", [f"{CLIENT}, ::ffff:10.0.0.2"], CLIENT),
        ("fd00::1%eth0", [CLIENT], CLIENT),
        ("fe80::1%eth0", [CLIENT], "fe80::1"),
        ("2001:DB8::1", [CLIENT], "2001:db8::1"),
        # What is no address of a socket is left as it is, and trusted by nobody.
        ("testclient", [CLIENT], "testclient"),
        # A trusted proxy that has none wrote the last element, and whoever that names the one in front of it.
        (None, [CLIENT], CLIENT),
        (None, [f"6.6.6.6, {CLIENT}"], CLIENT),
        (None, [f"6.6.6.6, {CLIENT}, {PROXY}"], CLIENT),
        (None, [f"garbage, {PROXY}"], PROXY),
        (None, [f"{CLIENT}, garbage"], None),
        (None, [f"{CLIENT},"], None),
        (None, [], None),
    ],
)
def test_the_spoofing_matrix(peer: str | None, lines: list[str], address: str | None) -> None:
    assert client_address(peer, lines, TRUSTED) == address


def test_without_trusted_proxies_no_header_counts() -> None:
    assert client_address("127.0.0.1", [CLIENT], ()) == "127.0.0.1"


addresses = st.ip_addresses().map(str)
untrusted: st.SearchStrategy[Any] = st.ip_addresses().filter(
    lambda address: not is_within(getattr(address, "ipv4_mapped", None) or address, TRUSTED)
)
trusted = st.integers(0, 2**24 - 1).map(lambda number: str(IPv4Address(number + (10 << 24))))
words = st.one_of(
    addresses,
    trusted,
    st.text(max_size=20),
    st.sampled_from(["", " ", ",", "unknown", "127.0.0.1", "::1", "1.2.3.4:80", "[::1]:80"]),
)
said = st.lists(st.lists(words, max_size=5).map(", ".join), max_size=4)


@given(peer=untrusted, lines=said)
def test_no_header_makes_an_untrusted_peer_anything_but_its_own_address(peer: Any, lines: list[str]) -> None:
    assert client_address(str(peer), lines, TRUSTED) == str(parse_address(str(peer)))


@given(
    client=untrusted,
    lines=said,
    proxies=st.lists(st.tuples(trusted, st.booleans()), min_size=1, max_size=4),
)
def test_no_header_makes_a_client_behind_trusted_proxies_anything_but_what_they_saw(
    client: Any, lines: list[str], proxies: list[tuple[str, bool]]
) -> None:
    seen = str(client)
    for proxy, on_the_last_line in proxies:
        appended = f"{lines[-1]}, {seen}" if lines and on_the_last_line else seen
        lines = [*(lines[:-1] if on_the_last_line else lines), appended]
        seen = proxy
    assert client_address(seen, lines, TRUSTED) == str(parse_address(str(client)))


@given(st.text(max_size=50))
def test_whatever_stands_in_a_header_is_an_address_or_it_is_none(text: str) -> None:
    hop = parse_hop(text)
    assert hop is None or ip_address(str(hop)) == hop


@given(st.ip_addresses())
def test_an_address_is_read_as_it_is_written(address: Any) -> None:
    expected = getattr(address, "ipv4_mapped", None) or address
    assert parse_address(str(address)) == parse_hop(str(address)) == expected
    written = f"[{address}]:443" if address.version == 6 else f"{address}:443"
    assert parse_hop(written) == expected


def test_the_walk_takes_no_more_of_a_header_apart_than_it_needs() -> None:
    huge = ", ".join(["6.6.6.6"] * 100_000)
    assert client_address(PROXY, [f"{huge}, {CLIENT}"], TRUSTED) == CLIENT


# --- Networks -----------------------------------------------------------------------------------------------


def test_networks_are_texts_or_objects() -> None:
    given_networks = ["10.0.0.0/8", "::1", ip_address("1.2.3.4"), ip_network("fd00::/8")]
    networks, problems = parse_networks(given_networks)
    assert [str(network) for network in networks] == ["10.0.0.0/8", "::1/128", "1.2.3.4/32", "fd00::/8"]
    assert problems == []


def test_ipv4_in_ipv6_stands_for_ipv4() -> None:
    networks, problems = parse_networks(["::ffff:10.0.0.0/104", "::ffff:1.2.3.4", "::/0"])
    assert [str(network) for network in networks] == ["10.0.0.0/8", "1.2.3.4/32", "::/0"]
    assert problems == []


def test_every_bad_network_is_named() -> None:
    networks, problems = parse_networks(["10.0.0.1/8", "::1", "proxy.example", 5, None, b"\1\2\3\4"])
    assert [str(network) for network in networks] == ["::1/128"]
    assert len(problems) == 5
    assert problems[0] == "'10.0.0.1/8' is no network: 10.0.0.1/8 has host bits set"
    assert problems[1].startswith("'proxy.example' is no network: ")
    assert problems[2] == "5 is no network: it takes a text such as '10.0.0.0/8' or an object of ipaddress"

"""Every form of URL, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from stelar_proto.client import Target, parse_target


@pytest.mark.parametrize(
    ("url", "options", "wire", "secure", "host", "port", "shown"),
    [
        ("localhost:3000", {}, "ws", False, "localhost", 3000, "ws://localhost:3000"),
        (3000, {}, "ws", False, "localhost", 3000, "ws://localhost:3000"),
        ("3000", {}, "ws", False, "localhost", 3000, "ws://localhost:3000"),
        (" 3000\n", {}, "ws", False, "localhost", 3000, "ws://localhost:3000"),
        ("ws://localhost", {}, "ws", False, "localhost", 80, "ws://localhost"),
        ("wss://example.com", {}, "ws", True, "example.com", 443, "wss://example.com"),
        ("http://example.com/", {}, "ws", False, "example.com", 80, "ws://example.com"),
        ("https://example.com:8443/", {}, "ws", True, "example.com", 8443, "wss://example.com:8443"),
        ("WS://EXAMPLE.com:3000", {}, "ws", False, "example.com", 3000, "ws://example.com:3000"),
        ("ws://h/chat?token=1", {}, "ws", False, "h", 80, "ws://h/chat?token=1"),
        ("h:3000/chat?back=http://x", {}, "ws", False, "h", 3000, "ws://h:3000/chat?back=http://x"),
        ("ws://[::1]:3000", {}, "ws", False, "::1", 3000, "ws://[::1]:3000"),
        ("[::1]:3000", {}, "ws", False, "::1", 3000, "ws://[::1]:3000"),
        ("ws://ñandú.example:1", {}, "ws", False, "xn--and-6ma2c.example", 1, "ws://xn--and-6ma2c.example:1"),
        ("tcp://localhost:3001", {}, "tcp", False, "localhost", 3001, "tcp://localhost:3001"),
        ("tcp://localhost:80", {}, "tcp", False, "localhost", 80, "tcp://localhost:80"),
        ("tcp://localhost:3001/", {}, "tcp", False, "localhost", 3001, "tcp://localhost:3001"),
        ("tcps://EXAMPLE.com:3001", {}, "tcp", True, "example.com", 3001, "tcps://example.com:3001"),
        ("tcp://[::1]:3001", {}, "tcp", False, "::1", 3001, "tcp://[::1]:3001"),
        ("localhost:3001", {"mode": "tcp"}, "tcp", False, "localhost", 3001, "tcp://localhost:3001"),
        (3001, {"mode": "tcp"}, "tcp", False, "localhost", 3001, "tcp://localhost:3001"),
        ("tcp://h:1", {"mode": "tcp"}, "tcp", False, "h", 1, "tcp://h:1"),
        ("ws://h", {"mode": "ws"}, "ws", False, "h", 80, "ws://h"),
        ("h:3000", {"secure": True}, "ws", True, "h", 3000, "wss://h:3000"),
        ("h:3001", {"secure": True, "mode": "tcp"}, "tcp", True, "h", 3001, "tcps://h:3001"),
        ("wss://h", {"secure": True}, "ws", True, "h", 443, "wss://h"),
        ("tcps://h:1", {"secure": True}, "tcp", True, "h", 1, "tcps://h:1"),
    ],
    ids=str,
)
def test_a_url_says_where_and_how(
    url: str | int, options: dict[str, Any], wire: str, secure: bool, host: str, port: int, shown: str
) -> None:
    target = parse_target(url, **options)
    assert (target.wire, target.secure, target.host, target.port, target.url) == (
        wire,
        secure,
        host,
        port,
        shown,
    )


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("ftp://h:1", {}, "begins with ftp://; it may begin with ws://, http://, wss://"),
        ("h:3000", {"mode": "udp"}, "mode must be 'ws' or 'tcp', not 'udp'"),
        ("ws://h", {"mode": "tcp"}, "mode='tcp' and a URL that begins with ws:// contradict"),
        ("http://h", {"mode": "tcp"}, "mode='tcp' and a URL that begins with http:// contradict"),
        ("tcp://h:1", {"mode": "ws"}, "mode='ws' and a URL that begins with tcp:// contradict"),
        ("ws://h", {"secure": True}, "TLS is asked for, and ws:// is without; write wss://"),
        ("http://h", {"secure": True}, "http:// is without; write wss://"),
        ("tcp://h:1", {"secure": True}, "tcp:// is without; write tcps://"),
        ("tcp://h", {}, "a tcp:// URL has a host, a port and nothing else"),
        ("tcp://[::1]", {}, "a tcp:// URL has a host, a port and nothing else"),
        ("tcp://h:1/path", {}, "a tcp:// URL has a host, a port and nothing else"),
        ("tcps://h:1?query", {}, "a tcps:// URL has a host, a port and nothing else"),
        ("tcp://user:secret@h:1", {}, "a tcp:// URL has a host, a port and nothing else"),
        ("tcp://h:0", {}, "a port is a number from 1 to 65535"),
        ("tcp://h:x", {}, "between // and path"),
        ("tcp://h:1#x", {}, "no fragment"),
        ("tcp://a b:1", {}, "no spaces"),
        ("", {}, "is no host name"),
        (0, {}, "a port is a number from 1 to 65535"),
        (-1, {}, "between // and path"),
        (70000, {}, "a port is a number from 1 to 65535"),
        ("ws://h#fragment", {}, "no fragment"),
        ("ws://h:port", {}, "between // and path"),
        ("ws://a_very bad host", {}, "no spaces"),
        ("ws://[1::2::3]", {}, "not an IPv6 address"),
    ],
    ids=str,
)
def test_a_url_that_makes_no_sense_is_refused_with_words(
    url: str | int, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")) as caught:
        parse_target(url, **options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", [None, b"localhost:3000", 3000.0, True], ids=repr)
def test_what_is_no_url_at_all_is_refused_with_words(url: Any) -> None:
    with pytest.raises(TypeError, match=f"an int for a port of this machine, not {type(url).__name__}"):
        parse_target(url)


def test_the_password_is_for_the_handshake_and_for_nothing_else() -> None:
    target = parse_target("wss://ana:secret@example.com/chat")
    assert target == Target(
        "ws", True, "example.com", 443, "wss://example.com/chat", "wss://ana:secret@example.com/chat"
    )
    assert "secret" not in repr(target)
    assert target.handshake_url == "wss://ana:secret@example.com/chat"

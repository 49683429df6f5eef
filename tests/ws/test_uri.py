from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.ws.uri import WebSocketURL, parse_websocket_url


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "resource", "host_header"),
    [
        ("ws://example.com", False, "example.com", 80, "/", "example.com"),
        ("wss://example.com", True, "example.com", 443, "/", "example.com"),
        ("http://example.com/", False, "example.com", 80, "/", "example.com"),
        ("https://example.com/", True, "example.com", 443, "/", "example.com"),
        ("WSS://Example.COM/Chat", True, "example.com", 443, "/Chat", "example.com"),
        ("ws://localhost:3000/chat?a=1", False, "localhost", 3000, "/chat?a=1", "localhost:3000"),
        ("ws://localhost:80/", False, "localhost", 80, "/", "localhost"),
        ("ws://localhost:443/", False, "localhost", 443, "/", "localhost:443"),
        ("wss://localhost:443/", True, "localhost", 443, "/", "localhost"),
        ("wss://localhost:80/", True, "localhost", 80, "/", "localhost:80"),
        ("ws://localhost:", False, "localhost", 80, "/", "localhost"),
        ("ws://localhost:00080", False, "localhost", 80, "/", "localhost"),
        ("ws://localhost:65535", False, "localhost", 65535, "/", "localhost:65535"),
        ("ws://127.0.0.1:1", False, "127.0.0.1", 1, "/", "127.0.0.1:1"),
        ("ws://[::1]/", False, "::1", 80, "/", "[::1]"),
        ("ws://[2001:DB8:0:0::1]:8080", False, "2001:db8::1", 8080, "/", "[2001:db8::1]:8080"),
        ("ws://[64:ff9b::1.2.3.4]", False, "64:ff9b::102:304", 80, "/", "[64:ff9b::102:304]"),
        ("ws://my_service.example.", False, "my_service.example.", 80, "/", "my_service.example."),
        ("ws://h?a=1", False, "h", 80, "/?a=1", "h"),
        ("ws://h/?", False, "h", 80, "/?", "h"),
        ("ws://h//a/../b;c=d,e", False, "h", 80, "//a/../b;c=d,e", "h"),
        ("ws://h/a@b:c?d?e/f", False, "h", 80, "/a@b:c?d?e/f", "h"),
        ("ws://h/~a-b.c_d!$&'()*+=[x]", False, "h", 80, "/~a-b.c_d!$&'()*+=[x]", "h"),
        ("ws://h/año?q=ñ€", False, "h", 80, "/a%C3%B1o?q=%C3%B1%E2%82%AC", "h"),
        ("ws://h/a%20b%2Fc%23", False, "h", 80, "/a%20b%2Fc%23", "h"),
        ('ws://h/{"a"}<|>^`', False, "h", 80, "/%7B%22a%22%7D%3C%7C%3E%5E%60", "h"),
        ("ws://bücher.example/", False, "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
        ("ws://xn--bcher-kva.example/", False, "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
    ],
)
def test_a_url_is_taken_apart(
    url: str, secure: bool, host: str, port: int, resource: str, host_header: str
) -> None:
    parsed = parse_websocket_url(url)
    assert parsed == WebSocketURL(secure, host, port, resource)
    assert parsed.host_header == host_header
    assert parsed.authorization is None


@pytest.mark.parametrize(
    ("user_info", "decoded", "authorization"),
    [
        (
            "Aladdin:open%20sesame",
            ("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),  # RFC 7617
        ("test:123%C2%A3", ("test", "123£"), "Basic dGVzdDoxMjPCow=="),  # RFC 7617, section 2.1
        ("test:123£", ("test", "123£"), "Basic dGVzdDoxMjPCow=="),
        ("user", ("user", ""), "Basic dXNlcjo="),
        ("user:", ("user", ""), "Basic dXNlcjo="),
        (":token", ("", "token"), "Basic OnRva2Vu"),
        ("u:a:b", ("u", "a:b"), "Basic dTphOmI="),
        ("u:a@b", ("u", "a@b"), "Basic dTphQGI="),
    ],
)
def test_user_info_becomes_basic_authorization(
    user_info: str, decoded: tuple[str, str], authorization: str
) -> None:
    parsed = parse_websocket_url(f"wss://{user_info}@example.com:8443/chat")
    assert parsed.user_info == decoded
    assert parsed.authorization == authorization
    assert (parsed.host, parsed.port) == ("example.com", 8443)


def test_an_empty_user_info_is_none() -> None:
    assert parse_websocket_url("ws://@h/").user_info is None


def test_neither_repr_nor_str_show_the_password() -> None:
    parsed = parse_websocket_url("wss://user:hunter2@[::1]:444/chat?x=1")
    assert "hunter2" not in repr(parsed)
    assert str(parsed) == "wss://[::1]:444/chat?x=1"
    assert str(parse_websocket_url("http://h")) == "ws://h/"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begins with ws://, wss://"),
        ("localhost:3000", "begins with ws://, wss://"),
        ("/chat", "begins with ws://, wss://"),
        ("ws:/h/", "begins with ws://, wss://"),
        ("tcp://h:1", "begins with ws://, wss://"),
        ("://h", "begins with ws://, wss://"),
        ("ws://h/#", "no fragment"),
        ("ws://h/a#b", "no fragment"),
        ("ws://h?a#b", "no fragment"),
        ("ws://h#b", "no fragment"),
        ("ws://", "is no host name"),
        ("ws:///chat", "is no host name"),
        ("ws://:80/", "is no host name"),
        ("ws://a..b/", "is no host name"),
        ("ws://.a/", "is no host name"),
        ("ws://a%20b/", "is no host name"),
        ("ws://a,b/", "is no host name"),
        ("ws://" + "a" * 64 + "/", "is no host name"),
        ("ws://" + "a." * 127 + "/", "is no host name"),
        ("ws://" + "ñ" * 254 + "/", "is no host name"),
        ("ws://a\uff0fb/", "is no host name"),  # full-width: the codec makes a slash of it
        ("ws://a⒈.com/", "is no host name"),  # the codec makes "1." of the second character, and "a1..com"
        ("ws://ñ..a/", "is not a valid international domain name"),
        ("ws://" + "ñ" * 64 + "/", "is not a valid international domain name"),
        ("ws://[::1", "host:port"),
        ("ws://::1/", "host:port"),
        ("ws://h:1:2/", "host:port"),
        ("ws://h:a/", "host:port"),
        ("ws://h:-1/", "host:port"),
        ("ws://h:٣/", "host:port"),
        ("ws://[::1]x/", "host:port"),
        ("ws://x[::1]/", "host:port"),
        ("ws://[]/", "is not an IPv6 address"),
        ("ws://[1.2.3.4]/", "is not an IPv6 address"),
        ("ws://[::g]/", "is not an IPv6 address"),
        ("ws://[fe80::1%25eth0]/", "has no zone"),
        ("ws://h:0/", "from 1 to 65535, not 0"),
        ("ws://h:65536/", "from 1 to 65535, not 65536"),
        ("ws://h:" + "9" * 5000 + "/", "from 1 to 65535"),
        ("ws://u%3Av:p@h/", "the user no colon"),
        ("ws://u:p%0D%0A@h/", "no control characters"),
        ("ws://u%00@h/", "no control characters"),
    ],
)
def test_a_url_that_is_not_allowed_raises_and_says_what_is(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_websocket_url(url)


@pytest.mark.parametrize("character", [*map(chr, range(33)), "\x7f", "\x85", "\\", "\ud800"])
@pytest.mark.parametrize(
    "url", ["{}ws://h/", "ws://h{}/", "ws://h/{}", "ws://h/?{}", "ws://u{}@h/", "ws://h/{}x"]
)
def test_spaces_controls_and_backslashes_are_refused_everywhere(url: str, character: str) -> None:
    with pytest.raises(ValueError, match="no spaces, control characters, backslashes or lone surrogates"):
        parse_websocket_url(url.format(character))


def test_messages_do_not_repeat_a_password() -> None:
    for url in ("tcp://u:hunter2@h/", "ws://u:hunter2@h:x/", "ws://u:hunter2@[x]/", "ws://u:hunter2%00@h/"):
        with pytest.raises(ValueError, match=r"URL|host|port|IPv6") as caught:
            parse_websocket_url(url)
        assert "hunter2" not in str(caught.value)


@given(st.text(), st.text())
def test_no_url_makes_more_than_visible_ascii(path: str, query: str) -> None:
    try:
        parsed = parse_websocket_url(f"ws://h/{path}?{query}")
    except ValueError:
        return
    assert all("!" <= character <= "~" for character in parsed.resource)
    assert parsed.resource.startswith("/")
    assert "#" not in parsed.resource


@given(st.text())
def test_any_text_as_a_host_is_an_ascii_host_or_a_value_error(host: str) -> None:
    try:
        parsed = parse_websocket_url(f"ws://{host}")
    except ValueError:
        return
    assert parsed.host_header.isascii()
    assert not set(parsed.host_header) & set(" /?#@\\\r\n,")
    assert parse_websocket_url(str(parsed)) == WebSocketURL(
        parsed.secure, parsed.host, parsed.port, parsed.resource
    )

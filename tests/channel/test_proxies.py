"""Which proxy is asked: the option, the environment, and what is never asked for through one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.channel.dialing import Route
from stelar_proto.channel.proxies import Proxy, choose_proxy, parse_proxy, proxy_problems
from stelar_proto.errors import ProxyError

ENVIRONMENT = {"http_proxy": "http://a:1", "https_proxy": "http://b:2", "all_proxy": "http://c:3"}


def choose(
    environ: Mapping[str, str], host: str = "chat.example", *, url: str = "ws", port: int = 80
) -> str | None:
    wire, secure = url.removesuffix("s") if url != "ws" else "ws", url.endswith("ss") or url == "tcps"
    chosen = choose_proxy(None, wire=wire, secure=secure, host=host, port=port, environ=environ)
    return None if chosen is None else str(chosen)


# --- The URL ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("HTTP://Proxy.Example/", Proxy("proxy.example", 80)),
        ("proxy:3128", Proxy("proxy", 3128)),
        ("http://[::1]:8080", Proxy("::1", 8080)),
        ("http://me:p%40ss@proxy:1", Proxy("proxy", 1, "Basic " + b64encode(b"me:p@ss").decode())),
        ("https://proxy.example", Proxy("proxy.example", 443, secure=True)),
        ("me:pass@proxy:1", Proxy("proxy", 1, "Basic " + b64encode(b"me:pass").decode())),
    ],
)
def test_a_proxy_is_host_and_port_and_maybe_credentials(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


def test_a_proxy_shows_its_address_and_not_its_credentials() -> None:
    proxy = parse_proxy("http://user:secret@[::1]:8080")
    assert str(proxy) == "[::1]:8080"
    assert "authorization" not in repr(proxy)
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("socks5://user:secret@proxy:1080", r"SOCKS proxies \(socks5://\) are not supported"),
        ("socks5h://proxy:1080", r"SOCKS proxies \(socks5h://\) are not supported"),
        ("ftp://proxy", "a proxy is http://host:port .*, and not ftp://"),
        ("http://", "no host name"),
        ("http://proxy:99999", "a port is a number"),
        ("http://pro\r\nxy:1", "its URL has no spaces"),
        ("http://proxy:1/path", "without a path"),
        ("http://user:sec/secret@proxy:1", "between // and path"),
    ],
)
def test_what_is_none_is_refused_without_repeating_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_proxy(url)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_proxy_or_a_value_error(url: str) -> None:
    try:
        assert parse_proxy(url).port > 0
    except ValueError:
        assert list(proxy_problems(url))


def test_the_option_is_a_url_or_false_or_none() -> None:
    assert [list(proxy_problems(option)) for option in (None, False, "http://proxy:1")] == [[], [], []]
    [problem] = proxy_problems("socks5://proxy")
    assert problem.startswith("proxy: SOCKS")
    allowed = "proxy must be the URL of a proxy, False for none, or None for what the environment says, not "
    assert list(proxy_problems(True)) == [allowed + "True"]
    assert list(proxy_problems(b"http://proxy")) == [allowed + "bytes"]


# --- The environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "all_set", "only_all"), [("ws", "a:1", "c:3"), ("wss", "b:2", "c:3"), ("tcp", "c:3", "c:3")]
)
def test_each_scheme_has_its_variable_and_all_proxy_is_for_the_others(
    url: str, all_set: str, only_all: str
) -> None:
    assert choose(ENVIRONMENT, url=url) == all_set
    assert choose({"all_proxy": "http://c:3"}, url=url) == only_all
    assert choose({}, url=url) is None


def test_tcp_with_tls_goes_by_all_proxy_too() -> None:
    assert choose(ENVIRONMENT, url="tcps") == "c:3"
    assert choose({"https_proxy": "http://b:2", "http_proxy": "http://a:1"}, url="tcps") is None


def test_lower_case_goes_first_and_an_empty_variable_is_none() -> None:
    assert choose({"HTTP_PROXY": "http://x:1"}) == "x:1"
    assert choose({"HTTP_PROXY": "http://x:1", "http_proxy": "http://y:2"}) == "y:2"
    assert choose({"HTTP_PROXY": "http://x:1", "http_proxy": ""}) is None
    assert choose({"ALL_PROXY": " x:1 "}) == "x:1"


def test_what_a_request_to_a_cgi_program_says_is_no_proxy() -> None:
    cgi = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil:1"}
    assert choose(cgi) is None
    assert choose({**cgi, "http_proxy": "http://y:2"}) == "y:2"
    assert choose({**cgi, "HTTPS_PROXY": "http://z:3"}, url="wss") == "z:3"


@pytest.mark.parametrize(
    ("no_proxy", "host", "goes_directly"),
    [
        ("", "chat.example", False),
        ("*", "chat.example", True),
        ("*", "10.0.0.1", True),
        ("example", "chat.example", True),
        (".example", "chat.example", True),
        ("*.example", "chat.example", True),
        ("EXAMPLE", "chat.example.", True),
        ("chat.example", "chat.example", True),
        ("other, chat.example other", "chat.example", True),
        ("hat.example", "chat.example", False),
        ("chat.example:8000", "chat.example", True),
        ("chat.example:8001", "chat.example", False),
        (" . , ", "chat.example", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1:8000", "10.0.0.1", True),
        ("10.0.0.1:8001", "10.0.0.1", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("2001:db8::/32", "2001:db8::5", True),
        ("[2001:db8::5]:8000", "2001:db8::5", True),
        ("0.0.1", "10.0.0.1", False),
        ("", "localhost", True),
        ("", "app.localhost", True),
        ("", "127.0.0.2", True),
        ("", "::1", True),
    ],
)
def test_no_proxy_and_this_machine_are_reached_directly(
    no_proxy: str, host: str, goes_directly: bool
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        chosen = choose({**ENVIRONMENT, name: no_proxy}, host, port=8000)
        assert (chosen is None) is goes_directly


def test_a_variable_that_is_no_proxy_is_named() -> None:
    with pytest.raises(
        ProxyError, match=r"the environment variable all_proxy .*SOCKS.*proxy=False"
    ) as caught:
        choose({"ALL_PROXY": "socks5://user:secret@proxy:1080"})
    assert "secret" not in str(caught.value)


# --- The route ----------------------------------------------------------------------------------------------


def route(proxy: str | bool | None) -> Route:
    return Route(
        wire="ws",
        secure=False,
        host="localhost",
        port=80,
        proxy=proxy,
        connect_timeout=5.0,
        began_at=10.0,
    )


def test_an_option_goes_before_the_environment_and_holds_for_this_machine_too() -> None:
    assert str(route("http://x:1").find_proxy(ENVIRONMENT)) == "x:1"
    assert route(None).find_proxy(ENVIRONMENT) is None
    assert route(False).find_proxy({"http_proxy": "nonsense://"}) is None
    assert "secret" not in repr(route("http://user:secret@x:1"))


def test_a_route_has_one_deadline() -> None:
    assert [route(None).time_left(now) for now in (10.0, 12.0, 15.0, 99.0)] == [5.0, 3.0, 0.0, 0.0]
    assert str(route(None).timed_out(None)) == "no connection within 5 s"
    words = "no connection within 5 s through the proxy x:1"
    assert str(route(None).timed_out(parse_proxy("http://user:secret@x:1"))) == words


def test_a_proxy_that_cannot_be_reached_is_named_and_what_happened() -> None:
    proxy = parse_proxy("http://user:secret@x:1")
    for error, words in (
        (ConnectionRefusedError(111, "Connect call failed"), "the proxy x:1: connection refused"),
        (OSError(113, "No route to host"), "the proxy x:1: No route to host"),
        (OSError("gone"), "the proxy x:1: gone"),
    ):
        assert str(proxy.unreachable(error)) == words


def test_a_tunnel_is_opened_by_whatever_sends_and_receives() -> None:
    sent: list[bytes] = []
    stream = bytearray(b"HTTP/1.1 200 OK\r\n\r\nhello")

    async def send(data: bytes) -> None:
        sent.append(data)

    async def receive(size: int) -> bytearray:
        data = stream[:size]
        del stream[:size]
        return data

    opening = parse_proxy("http://user:secret@x:1").open_tunnel("host", 5, send=send, receive=receive)
    with pytest.raises(StopIteration):
        opening.send(None)
    assert stream == b"hello"
    assert sent[0].startswith(b"CONNECT host:5 HTTP/1.1\r\n")

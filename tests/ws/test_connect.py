"""CONNECT: what a proxy is asked, and every answer that it may give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import ProxyError
from stelar_proto.ws.connect import Tunnel

SECRET = "Basic dXNlcjpzZWNyZXQ="


def tunnel(host: str = "chat.example", port: int = 443, authorization: str | None = None) -> Tunnel:
    return Tunnel(host, port, proxy="proxy.example:3128", authorization=authorization)


def feed(opening: Tunnel, stream: bytes) -> bytes:
    """Feed what may be read of ``stream``; return what is left of it when the tunnel is open."""
    while not opening.is_open:
        assert 1 <= opening.wanted <= 4
        chunk, stream = stream[: opening.wanted], stream[opening.wanted :]
        opening.receive_data(chunk)
        if not chunk:
            break
    return stream


def test_the_request_names_the_host_twice_and_has_no_body() -> None:
    assert tunnel().request == b"CONNECT chat.example:443 HTTP/1.1\r\nHost: chat.example:443\r\n\r\n"
    assert tunnel("::1", 80).request == b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"


def test_credentials_are_in_the_request_and_nowhere_else() -> None:
    opening = tunnel(authorization=SECRET)
    assert opening.request.endswith(b"443\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n")
    assert repr(opening) == "<Tunnel to chat.example:443 through proxy.example:3128>"


@pytest.mark.parametrize("host", ["", "a\r\nX: y", "a b", "a\n", "h:1", "ä", "a/b", "a@b", "a" * 256])
def test_a_host_that_could_change_the_request_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="no host name or address"):
        tunnel(host)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 204\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n",
    ],
)
@given(rest=st.binary(max_size=20))
def test_nothing_behind_the_head_of_a_yes_is_read(answer: bytes, rest: bytes) -> None:
    assert feed(tunnel(), answer + rest) == rest


def test_a_refusal_names_the_proxy_the_host_and_the_status() -> None:
    with pytest.raises(ProxyError) as caught:
        feed(tunnel(), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9999\r\n\r\n<html>")
    words = "the proxy proxy.example:3128 refused to connect to chat.example:443: HTTP 403 Forbidden"
    assert str(caught.value) == words
    assert caught.value.status == 403
    assert caught.value.response is not None


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        (None, "HTTP 407 Who; it wants a user and a password, as in proxy='http://user:password@host:port'"),
        (SECRET, "HTTP 407 Who; it does not accept the user and password that it was given"),
    ],
)
def test_what_is_wrong_with_the_credentials_is_told_without_them(
    authorization: str | None, words: str
) -> None:
    with pytest.raises(ProxyError) as caught:
        feed(tunnel(authorization=authorization), b"HTTP/1.1 407 Who\r\n\r\n")
    assert str(caught.value).endswith(words)
    assert "dXNl" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the connection ended before a complete HTTP response had come"),
        (b"HTTP/1.1 200 OK\r\n", "the connection ended before a complete HTTP response had come"),
        (b"\x15\x03\x03\x00\x02", "it looks like TLS; use https:// for it"),
        (b"\x05\x00\x00\x00", "the proxy's answer is no valid HTTP/1.1 response"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header line has no colon"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 9000, "a header line is longer than 8192 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200, "more than 128 header lines"),
        (b"HTTP/1.1 100 Go on\r\n\r\n" * 10, "too many interim responses"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP 101"),
    ],
)
def test_what_is_no_answer_is_an_error_and_bounded(answer: bytes, words: str) -> None:
    opening = tunnel()
    with pytest.raises(ProxyError) as caught:
        feed(opening, answer)
    assert str(caught.value).startswith("the proxy proxy.example:3128")
    assert words in str(caught.value)
    assert caught.value.status == (101 if b" 101 " in answer else 0)
    assert not opening.is_open


@given(st.binary(max_size=100))
def test_whatever_comes_is_taken_or_a_proxy_error(data: bytes) -> None:
    opening = tunnel()
    try:
        feed(opening, b"HTTP/1.1 " + data)
    except ProxyError:
        assert not opening.is_open
    else:
        assert data.startswith(b"2")

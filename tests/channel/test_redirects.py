"""Where a server that says "somewhere else" may send a client, and where not."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.channel.redirects import MAX_REDIRECTS, next_url
from stelar_proto.errors import UpgradeRefused
from stelar_proto.ws import Headers
from stelar_proto.ws.http1 import Response
from stelar_proto.ws.uri import parse_websocket_url


def refusal(location: str | None, status: int = 302) -> UpgradeRefused:
    fields = {} if location is None else {"Location": location}
    return UpgradeRefused(Response(status, "Found", Headers(fields)))


@pytest.mark.parametrize(
    ("url", "location", "followed"),
    [
        ("ws://host/a/b?c", "/d?e", "ws://host/d?e"),
        ("ws://host/a/b?c", "d", "ws://host/a/d"),
        ("ws://host/a/b?c", "?d", "ws://host/a/b?d"),
        ("ws://host/a", "http://HOST/b#part", "ws://host/b"),
        ("ws://host/a", "ws://host:81/b", "ws://host:81/b"),
        ("ws://host:8000/a", "//host:8001/b", "ws://host:8001/b"),
        ("ws://host/a", "wss://host/b", "wss://host/b"),
        ("ws://host/a", "https://host:8443/", "wss://host:8443/"),
        ("wss://host/a", "/b", "wss://host/b"),
        ("wss://[::1]:5/a", "https://[0:0::1]:6/b", "wss://[::1]:6/b"),
        ("ws://me:p%40s%2Fs@host/a", "/b", "ws://me:p%40s%2Fs@host/b"),
        ("ws://me:pass@host/a", "ws://you:secret@host/b", "ws://me:pass@host/b"),
        ("ws://host/a", "ws://you:secret@host/b", "ws://host/b"),
    ],
)
def test_the_same_host_may_be_asked_elsewhere_with_the_same_credentials(
    url: str, location: str, followed: str
) -> None:
    assert next_url(url, refusal(location)) == followed


@pytest.mark.parametrize(
    ("url", "location", "words"),
    [
        ("ws://me:secret@host/a", "ws://other/b", "another host.* connect to ws://other/b"),
        ("ws://host/a", "//host.evil/b", "another host"),
        ("ws://host/a", "http://host@evil/", "another host.* connect to ws://evil/"),
        ("ws://host/a", "ws://you:secret@evil/b", "another host.* connect to ws://evil/b"),
        ("wss://host/a", "ws://host/b", r"\(HTTP 302\) to ws://host/b, which would give up TLS"),
        ("wss://host/a", "http://host:443/b", "would give up TLS"),
        ("ws://host/a", "ftp://host/b", "to what is no URL of a server"),
        ("ws://host/a", "http://host:99999/", "to what is no URL of a server"),
        ("ws://host/a", "//[::1/", "to what is no URL of a server"),
        ("ws://host/a", "/a b", "to what is no URL of a server"),
    ],
)
def test_anything_else_is_the_applications_decision(url: str, location: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        next_url(url, refusal(location))
    assert "secret" not in str(caught.value)


def test_no_more_than_five_are_followed_in_a_row() -> None:
    assert MAX_REDIRECTS == 5
    assert next_url("ws://host/a", refusal("/b"), 4) == "ws://host/b"
    with pytest.raises(ValueError, match="as did 5 before it, and no more are followed"):
        next_url("ws://host/a", refusal("/b"), 5)


@given(st.sampled_from(["ws", "wss"]), st.text(max_size=30).map(lambda text: text.encode().decode("latin-1")))
def test_whatever_a_server_says_the_host_stays_and_tls_too(scheme: str, location: str) -> None:
    location = "".join(char for char in location if char.isprintable())
    try:
        followed = parse_websocket_url(next_url(f"{scheme}://me:secret@host/a", refusal(location)))
    except ValueError:
        return
    assert followed.host == "host"
    assert followed.secure or scheme == "ws"
    assert followed.user_info == ("me", "secret")


@given(
    st.text(st.characters(exclude_characters=":", exclude_categories=["Cc", "Cs"])),
    st.text(st.characters(exclude_categories=["Cc", "Cs"])),
)
def test_a_url_keeps_its_credentials(user: str, password: str) -> None:
    url = parse_websocket_url(f"wss://{quote(user, safe='')}:{quote(password, safe='')}@host:5/a?b")
    assert parse_websocket_url(url.with_credentials()) == url
    assert url.user_info == (user, password)

from __future__ import annotations

import pytest

from stelar_proto.errors import HandshakeError, UpgradeRefused
from stelar_proto.ws.handshake import check_response, read_upgrade, upgrade_request
from stelar_proto.ws.http1 import Headers, Request, RequestReader, Response
from stelar_proto.ws.uri import parse_websocket_url
from tests.ws.test_handshake import ACCEPT, CONNECTION, KEY, NPM_ACCEPT, NPM_KEY, UPGRADE, URL, answer

# --- Client: asking -------------------------------------------------------------------------------------


def test_an_upgrade_request_is_that_of_the_rfc() -> None:
    request, encoded = upgrade_request(
        URL, key=KEY, headers=[("Origin", "http://example.com")], subprotocols=["chat", "superchat"]
    )
    assert encoded == (
        b"GET /chat HTTP/1.1\r\n"
        b"Host: server.example.com\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: chat, superchat\r\n"
        b"Origin: http://example.com\r\n"
        b"\r\n"
    )
    assert RequestReader().feed(encoded) == request
    assert read_upgrade(request) == ("chat", "superchat")


def test_without_more_the_request_has_five_fields() -> None:
    request, _ = upgrade_request(parse_websocket_url("wss://[::1]:8443/a?b=c"), key=KEY)
    assert request == Request(
        "GET",
        "/a?b=c",
        Headers(
            [
                ("Host", "[::1]:8443"),
                UPGRADE,
                CONNECTION,
                ("Sec-WebSocket-Key", KEY),
                ("Sec-WebSocket-Version", "13"),
            ]
        ),
    )


def test_a_user_in_the_url_is_sent_as_basic_authorization() -> None:
    url = parse_websocket_url("ws://Aladdin:open%20sesame@h/")
    request, _ = upgrade_request(url, key=KEY)
    assert request.headers.get_all("authorization") == ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]
    assert request.headers["host"] == "h"


def test_host_and_authorization_can_be_replaced() -> None:
    url = parse_websocket_url("ws://user:password@h/")
    request, _ = upgrade_request(url, key=KEY, headers={"host": "other", "authorization": "Bearer t"})
    assert request.headers.get_all("host") == ["other"]
    assert request.headers.get_all("authorization") == ["Bearer t"]


def test_several_hosts_raise() -> None:
    with pytest.raises(ValueError, match="one Host"):
        upgrade_request(URL, key=KEY, headers=[("Host", "a"), ("Host", "b")])


@pytest.mark.parametrize("subprotocols", [["a b"], [""], ["a", "a"], ["a,b"], ["é"], ["a\r\nX: 1"]])
def test_subprotocols_that_are_not_distinct_tokens_raise(subprotocols: list[str]) -> None:
    with pytest.raises(ValueError, match="subprotocols have to be distinct tokens"):
        upgrade_request(URL, key=KEY, subprotocols=subprotocols)


def test_one_string_as_subprotocols_raises() -> None:
    with pytest.raises(TypeError, match="sequence of names"):
        upgrade_request(URL, key=KEY, subprotocols="chat")


@pytest.mark.parametrize("key", ["", "x\r\nY: z", "dGhlIHNhbXBsZSBub25jZR=="])
def test_a_key_that_no_server_would_accept_raises(key: str) -> None:
    with pytest.raises(ValueError, match="16 bytes in base64"):
        upgrade_request(URL, key=key)


# --- Client: checking the answer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("upgrade", "WebSocket")],
        [("Connection", "keep-alive, UPGRADE")],
        [("Connection", "keep-alive"), ("Connection", "upgrade")],
        [("X", "1")],
        [("Sec-WebSocket-Version", "13")],
    ],
)
def test_a_proper_101_is_accepted(fields: list[tuple[str, str]]) -> None:
    assert check_response(answer(*fields), key=KEY) is None
    assert check_response(answer(*fields), key=KEY, subprotocols=["chat"]) is None


def test_the_chosen_subprotocol_is_returned() -> None:
    response = answer(("Sec-WebSocket-Protocol", "b"))
    assert check_response(response, key=KEY, subprotocols=("a", "b")) == "b"


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answer(without="upgrade"), "its Upgrade is not websocket"),
        (answer(("Upgrade", "h2c")), "its Upgrade is not websocket"),
        (answer(("Upgrade", "websocket, h2c")), "its Upgrade is not websocket"),
        (answer(without="connection"), "its Connection has no Upgrade in it"),
        (answer(("Connection", "close")), "its Connection has no Upgrade in it"),
        (answer(("Connection", "upgraded")), "its Connection has no Upgrade in it"),
        (answer(without="sec-websocket-accept"), "it has 0 Sec-WebSocket-Accept fields, not one"),
        (answer(*[("Sec-WebSocket-Accept", ACCEPT)] * 2), "it has 2 Sec-WebSocket-Accept fields, not one"),
        (answer(("Sec-WebSocket-Accept", "")), "does not answer our key"),
        (answer(("Sec-WebSocket-Accept", KEY)), "does not answer our key"),
        (answer(("Sec-WebSocket-Accept", ACCEPT.lower())), "does not answer our key"),
        (answer(("Sec-WebSocket-Accept", ACCEPT + "=")), "does not answer our key"),
        (answer(("Sec-WebSocket-Accept", f"{ACCEPT}, {ACCEPT}")), "does not answer our key"),
        (answer(("Sec-WebSocket-Accept", "\xe9")), "does not answer our key"),
        (answer(("Sec-WebSocket-Protocol", "c")), "a subprotocol that was not offered"),
        (answer(("Sec-WebSocket-Protocol", "")), "a subprotocol that was not offered"),
        (answer(("Sec-WebSocket-Protocol", "A")), "a subprotocol that was not offered"),
        (answer(("Sec-WebSocket-Protocol", "a, b")), "it has several subprotocols"),
        (
            answer(("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b")),
            "it has several subprotocols",
        ),
        (
            answer(("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "a")),
            "it has several subprotocols",
        ),
    ],
)
def test_a_101_that_is_not_the_answer_to_our_handshake_is_a_handshake_error(
    response: Response, words: str
) -> None:
    for accept_npm_handshake in (False, True):
        with pytest.raises(HandshakeError) as caught:
            check_response(
                response, key=KEY, subprotocols=["a", "b"], accept_npm_handshake=accept_npm_handshake
            )
        assert caught.value.status == 101
        assert words in caught.value.reason
        assert not isinstance(caught.value, UpgradeRefused)


def test_the_accept_value_of_the_npm_package_is_accepted_only_when_asked_for() -> None:
    response = answer(("Sec-WebSocket-Accept", NPM_ACCEPT))
    with pytest.raises(HandshakeError, match="accept_npm_handshake=True accepts it"):
        check_response(response, key=NPM_KEY)
    assert check_response(response, key=NPM_KEY, accept_npm_handshake=True) is None
    with pytest.raises(HandshakeError, match="does not answer our key"):
        check_response(response, key=KEY, accept_npm_handshake=True)
    assert check_response(answer(), key=KEY, accept_npm_handshake=True) is None


@pytest.mark.parametrize("status", [200, 204, 301, 307, 401, 403, 404, 426, 500, 503])
def test_any_other_status_is_a_refusal_that_carries_the_response(status: int) -> None:
    response = answer(("Location", "wss://other/"), status=status)
    with pytest.raises(UpgradeRefused) as caught:
        check_response(response, key=KEY)
    assert caught.value.response is response
    assert caught.value.status == status
    assert ("wss://other/" in caught.value.reason) == (300 <= status < 400)

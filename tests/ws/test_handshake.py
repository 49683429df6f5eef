from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import HandshakeError
from stelar_proto.ws.handshake import (
    GUID,
    NPM_GUID,
    accept_key,
    accept_response,
    check_response,
    new_key,
    read_upgrade,
    select_subprotocol,
    upgrade_request,
)
from stelar_proto.ws.http1 import HeaderFields, Headers, Request, RequestReader, Response, ResponseReader
from stelar_proto.ws.uri import parse_websocket_url

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
# Recorded between the npm client and the npm server (tests/vectors/transcript_npm_3_2_0.json).
NPM_KEY = "gDHQyYZGhwPDSQA27Vn7Zw=="
NPM_ACCEPT = "pDyuwAcuejLCkBVb72gpy42D450="
UPGRADE = ("Upgrade", "websocket")
CONNECTION = ("Connection", "Upgrade")
URL = parse_websocket_url("ws://server.example.com/chat")


def upgrade(*more: tuple[str, str], without: str = "", method: str = "GET", version: str = "1.1") -> Request:
    """A request that asks for an upgrade as it should; ``more`` replaces fields of the same name."""
    fields = [("Host", "h"), UPGRADE, CONNECTION, ("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")]
    replaced = {without.lower(), *(name.lower() for name, _ in more)}
    kept = [(name, value) for name, value in fields if name.lower() not in replaced]
    return Request(method, "/", Headers([*kept, *more]), version)


def answer(*more: tuple[str, str], without: str = "", status: int = 101) -> Response:
    """A 101 as it should be; ``more`` replaces fields of the same name."""
    fields = [UPGRADE, CONNECTION, ("Sec-WebSocket-Accept", ACCEPT)]
    replaced = {without.lower(), *(name.lower() for name, _ in more)}
    kept = [(name, value) for name, value in fields if name.lower() not in replaced]
    return Response(status, "Reason", Headers([*kept, *more]))


def refusal(request: Request) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    with pytest.raises(HandshakeError) as caught:
        read_upgrade(request)
    return caught.value.status, caught.value.reason, caught.value.headers


# --- The key --------------------------------------------------------------------------------------------


def test_the_sample_key_of_the_rfc_is_answered_as_the_rfc_says() -> None:
    assert GUID == "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_npm_package_answers_with_another_guid() -> None:
    assert NPM_GUID == "258EAFA5-E914-47DA-95CA-5AB5A7E3A741"
    assert accept_key(NPM_KEY, NPM_GUID) == NPM_ACCEPT


def test_the_recorded_handshake_of_the_npm_client_is_an_upgrade() -> None:
    request = RequestReader().feed(
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: gDHQyYZGhwPDSQA27Vn7Zw==\r\nSec-WebSocket-Version: 13\r\n"
        b"Host: localhost:3500\r\n\r\n"
    )
    assert request is not None
    assert read_upgrade(request) == ()


def test_a_key_is_16_bytes_of_entropy_in_base64() -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return b"the sample nonce"

    assert new_key(entropy) == KEY
    assert asked == [16]


@pytest.mark.parametrize("size", [0, 15, 17])
def test_entropy_of_another_size_raises(size: int) -> None:
    with pytest.raises(ValueError, match=f"has to return 16 bytes, it returned {size}"):
        new_key(lambda _: bytes(size))


# --- Server: reading the request ------------------------------------------------------------------------


def test_an_upgrade_without_subprotocols_offers_none_of_them() -> None:
    assert read_upgrade(upgrade()) == ()


@pytest.mark.parametrize("value", [None, "", "h2c", "websocket2", "websocket/13", "web socket"])
def test_a_request_without_the_websocket_token_is_plain_http(value: str | None) -> None:
    request = upgrade(without="upgrade") if value is None else upgrade(("Upgrade", value))
    assert read_upgrade(request) is None


def test_a_plain_request_may_be_anything_else() -> None:
    assert read_upgrade(Request("OPTIONS", "/", Headers(), "1.0")) is None


@pytest.mark.parametrize(
    "fields",
    [
        [("Upgrade", "WebSocket")],
        [("upgrade", "h2c, WEBSOCKET")],
        [("Upgrade", "h2c"), ("Upgrade", "websocket")],
        [("Connection", "upgrade")],
        [("Connection", "keep-alive, UPGRADE")],
        [("Connection", "keep-alive,\tUpgrade ,")],
        [("Connection", "keep-alive"), ("CONNECTION", "upgrade")],
    ],
)
def test_tokens_are_found_in_any_case_and_in_lists_on_several_lines(fields: list[tuple[str, str]]) -> None:
    assert read_upgrade(upgrade(*fields)) == ()


@pytest.mark.parametrize(
    "value", [None, "", "close", "keep-alive", "upgraded", "Upgrade-Insecure", "up grade"]
)
def test_a_connection_without_the_upgrade_token_is_refused_with_400(value: str | None) -> None:
    request = upgrade(without="connection") if value is None else upgrade(("Connection", value))
    status, reason, headers = refusal(request)
    assert (status, headers) == (400, ())
    assert reason.startswith("Connection has no Upgrade in it")


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get"])
def test_a_method_other_than_get_is_refused_with_405(method: str) -> None:
    expected = (405, "a WebSocket handshake is a GET request", (("Allow", "GET"),))
    assert refusal(upgrade(method=method)) == expected


def test_http_1_0_cannot_upgrade_and_is_refused_with_400() -> None:
    status, reason, headers = refusal(upgrade(version="1.0"))
    assert (status, headers) == (400, ())
    assert "needs HTTP/1.1, not 1.0" in reason


@pytest.mark.parametrize("version", ["8", "7", "14", "0", "013", "13, 8", "+13", "", "x", "13.0", "\xb9\xb3"])
def test_another_version_is_refused_with_426_that_names_ours(version: str) -> None:
    status, _, headers = refusal(upgrade(("Sec-WebSocket-Version", version)))
    assert status == 426
    assert headers == (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))


def test_a_missing_version_is_refused_with_400() -> None:
    status, reason, headers = refusal(upgrade(without="sec-websocket-version"))
    assert (status, headers) == (400, (("Sec-WebSocket-Version", "13"),))
    assert reason.endswith("not 0")


@pytest.mark.parametrize("second", ["13", "8"])
def test_several_versions_are_refused_with_400(second: str) -> None:
    status, reason, headers = refusal(
        upgrade(("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", second))
    )
    assert (status, headers) == (400, (("Sec-WebSocket-Version", "13"),))
    assert reason.endswith("not 2")


@pytest.mark.parametrize("last", "AQgw")
def test_each_last_character_of_a_canonical_key_is_accepted(last: str) -> None:
    assert read_upgrade(upgrade(("Sec-WebSocket-Key", "+/09azAZ0123456789abc" + last + "=="))) == ()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZR==",  # the same 16 bytes, with bits that mean nothing
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j",  # 15 bytes
        "dGhlIHNhbXBsZSBub25jZWE=",  # 17 bytes
        "dGhlIHNhbXBsZSBub25j-_==",
        "dGhlIHNhbX BsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j\xe9Q==",
        "======================Q==",
    ],
)
def test_a_key_that_is_not_16_bytes_in_base64_is_refused_with_400(key: str) -> None:
    assert refusal(upgrade(("Sec-WebSocket-Key", key))) == (
        400,
        "Sec-WebSocket-Key is not 16 bytes in base64",
        (),
    )


def test_a_missing_or_doubled_key_is_refused_with_400() -> None:
    reason = "a WebSocket handshake has exactly one Sec-WebSocket-Key, not "
    assert refusal(upgrade(without="sec-websocket-key")) == (400, reason + "0", ())
    doubled = upgrade(("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY))
    assert refusal(doubled) == (400, reason + "2", ())


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        (["chat"], ("chat",)),
        (["chat, superchat"], ("chat", "superchat")),
        (["b ,\ta,"], ("b", "a")),
        (["b", "a, c"], ("b", "a", "c")),
        (["chat, Chat"], ("chat", "Chat")),
        (["v1.json!#$%&'*+-.^_`|~"], ("v1.json!#$%&'*+-.^_`|~",)),
    ],
)
def test_offered_subprotocols_are_read_in_order(lines: list[str], offered: tuple[str, ...]) -> None:
    assert read_upgrade(upgrade(*(("Sec-WebSocket-Protocol", line) for line in lines))) == offered


@pytest.mark.parametrize(
    "lines",
    [[""], [","], ["a b"], ["a/b"], ['"a"'], ["a;q=1"], ["\xe9"], ["a, a"], ["a", "b", "a"], ["a, b c"]],
)
def test_malformed_or_repeated_subprotocols_are_refused_with_400(lines: list[str]) -> None:
    status, reason, _ = refusal(upgrade(*(("Sec-WebSocket-Protocol", line) for line in lines)))
    assert (status, reason) == (400, "Sec-WebSocket-Protocol is not a list of distinct tokens")


def test_offered_extensions_are_ignored() -> None:
    assert (
        read_upgrade(upgrade(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")))
        == ()
    )


@pytest.mark.parametrize(
    ("offered", "supported", "selected"),
    [
        (("a", "b"), ("b", "a"), "b"),
        (("a", "b"), ("a", "b"), "a"),
        (("a", "b"), ("c", "b"), "b"),
        (("a",), ("A",), None),
        ((), ("a",), None),
        (("a",), (), None),
    ],
)
def test_the_first_supported_subprotocol_that_was_offered_is_selected(
    offered: tuple[str, ...], supported: tuple[str, ...], selected: str | None
) -> None:
    assert select_subprotocol(offered, supported) == selected
    assert select_subprotocol(iter(offered), iter(supported)) == selected


# --- Server: accepting ----------------------------------------------------------------------------------


def test_an_upgrade_is_accepted_with_a_101() -> None:
    assert accept_response(upgrade()) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


def test_the_101_names_the_subprotocol_and_has_the_fields_of_the_application() -> None:
    request = upgrade(("Sec-WebSocket-Protocol", "chat, superchat"))
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Sec-Stelar-Client-Id", "x")]
    assert accept_response(request, subprotocol="superchat", headers=headers) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Sec-WebSocket-Protocol: superchat\r\n"
        b"Set-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\n"
        b"Sec-Stelar-Client-Id: x\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize("offer", [None, "chat", "Superchat"])
def test_accepting_with_a_subprotocol_that_was_not_offered_raises(offer: str | None) -> None:
    request = upgrade() if offer is None else upgrade(("Sec-WebSocket-Protocol", offer))
    with pytest.raises(ValueError, match="subprotocol 'superchat' was not offered; allowed are"):
        accept_response(request, subprotocol="superchat")


def test_accepting_plain_http_raises() -> None:
    with pytest.raises(ValueError, match="only an upgrade request can be accepted"):
        accept_response(Request("GET", "/", Headers()))


OWN_FIELDS = [
    "Upgrade", "CONNECTION", "Content-Length", "Transfer-Encoding", "sec-websocket-accept",
    "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
]  # fmt: skip


@pytest.mark.parametrize("name", OWN_FIELDS)
def test_the_fields_of_the_handshake_cannot_be_set_by_an_application(name: str) -> None:
    match = f"the header {name} is set by the handshake itself"
    with pytest.raises(ValueError, match=match):
        accept_response(upgrade(), headers=[("X", "1"), (name, "x")])
    with pytest.raises(ValueError, match=match):
        upgrade_request(URL, key=KEY, headers={"X": "1", name: "x"})


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, [("X: a\r\nY", "b")], {"X": "\u2028"}])
def test_headers_cannot_be_injected(headers: HeaderFields) -> None:
    with pytest.raises(ValueError, match="header"):
        accept_response(upgrade(), headers=headers)
    with pytest.raises(ValueError, match="header"):
        upgrade_request(URL, key=KEY, headers=headers)


# --- Both together ----------------------------------------------------------------------------------------

TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)


@given(
    st.binary(min_size=16, max_size=16),
    st.lists(TOKENS, unique=True, max_size=4),
    st.lists(TOKENS, max_size=4),
)
def test_what_a_server_accepts_its_client_accepts(
    nonce: bytes, subprotocols: list[str], supported: list[str]
) -> None:
    key = new_key(lambda _: nonce)
    assert base64.b64decode(key) == nonce
    _, encoded = upgrade_request(URL, key=key, subprotocols=subprotocols)
    request = RequestReader().feed(encoded)
    assert request is not None
    offered = read_upgrade(request)
    assert offered == tuple(subprotocols)
    subprotocol = select_subprotocol(offered, [*supported, *subprotocols[:1]])
    response = ResponseReader().feed(accept_response(request, subprotocol=subprotocol))
    assert response is not None
    assert check_response(response, key=key, subprotocols=subprotocols) == subprotocol


FIELD_NAMES = st.sampled_from(["Upgrade", "Connection", *OWN_FIELDS, "X"])
FIELD_VALUES = st.sampled_from(["websocket", "upgrade", KEY, ACCEPT, "13", "a, b", ""]) | st.text(
    st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=5
)


@given(st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES)), st.booleans())
def test_no_fields_raise_anything_but_handshake_errors(fields: list[tuple[str, str]], complete: bool) -> None:
    request = upgrade(*fields) if complete else Request("GET", "/", Headers(fields))
    response = answer(*fields) if complete else Response(101, "", Headers(fields))
    with contextlib.suppress(HandshakeError):
        offered = read_upgrade(request)
        assert offered is None or len(set(offered)) == len(offered)
    with contextlib.suppress(HandshakeError):
        assert check_response(response, key=KEY, subprotocols=["a"]) in (None, "a")

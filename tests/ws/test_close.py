"""Close codes and the payload of close frames (RFC 6455, sections 5.5.1 and 7.4)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelar_proto.errors import InvalidUtf8, MessageError, WebSocketError
from stelar_proto.ws import Close, CloseCode
from stelar_proto.ws.close import decode_close, encode_close, is_sendable, truncate_reason

# RFC 6455, section 7.4, and the registry of IANA: 1012 to 1014 came later. 1004 to 1006 and 1015 must not be
# on the wire, 1016 to 2999 are for future versions of the protocol, below 1000 and above 4999 is nothing.
ON_THE_WIRE = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]


def test_every_code_that_may_be_sent_is_encoded_and_decoded() -> None:
    for code in ON_THE_WIRE:
        payload = code.to_bytes(2, "big") + b"why"
        assert encode_close(code, "why") == payload
        assert decode_close(payload) == Close(code, "why")
        assert is_sendable(code)


def test_no_other_code_may_be_sent() -> None:
    for code in {*range(-1, 5001), 65535, 65536, 1 << 64} - {*ON_THE_WIRE}:
        assert not is_sendable(code)
        with pytest.raises(MessageError, match=f"close code {code} may not be sent: use 1000-1003") as caught:
            encode_close(code)
        assert caught.value.code == "INVALID_CLOSE"


def test_no_other_code_may_be_received() -> None:
    for code in {*range(5001), 65535} - {*ON_THE_WIRE}:
        with pytest.raises(WebSocketError, match=f"close code {code} must not be on the wire") as caught:
            decode_close(code.to_bytes(2, "big") + b"why")
        assert caught.value.close_code == 1002


def test_the_names_of_the_codes_are_those_of_the_registry() -> None:
    assert {code.name: code.value for code in CloseCode} == {
        "NORMAL_CLOSURE": 1000,
        "GOING_AWAY": 1001,
        "PROTOCOL_ERROR": 1002,
        "UNSUPPORTED_DATA": 1003,
        "NO_STATUS_RECEIVED": 1005,
        "ABNORMAL_CLOSURE": 1006,
        "INVALID_PAYLOAD": 1007,
        "POLICY_VIOLATION": 1008,
        "MESSAGE_TOO_BIG": 1009,
        "MANDATORY_EXTENSION": 1010,
        "INTERNAL_ERROR": 1011,
        "SERVICE_RESTART": 1012,
        "TRY_AGAIN_LATER": 1013,
        "BAD_GATEWAY": 1014,
        "TLS_HANDSHAKE": 1015,
    }


def test_no_payload_is_no_code_and_reads_as_1005() -> None:
    assert encode_close(None) == b""
    assert decode_close(b"") == Close(1005, "")


def test_a_reason_without_a_code_cannot_be_said() -> None:
    with pytest.raises(MessageError, match="a close reason needs a close code"):
        encode_close(None, "why")


@pytest.mark.parametrize("payload", [b"\x00", b"\x03", b"\xff"])
def test_a_payload_of_one_byte_is_refused(payload: bytes) -> None:
    with pytest.raises(WebSocketError, match="no payload or at least two bytes") as caught:
        decode_close(payload)
    assert caught.value.close_code == 1002


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"x" * 122 + b"\xe2"])
def test_a_reason_that_is_not_utf8_is_refused_with_1007(reason: bytes) -> None:
    with pytest.raises(InvalidUtf8, match="the close reason is not UTF-8") as caught:
        decode_close(b"\x03\xe8" + reason)
    assert caught.value.close_code == 1007


def test_a_broken_code_is_worse_than_a_broken_reason() -> None:
    with pytest.raises(WebSocketError, match="close code 1005 must not be on the wire"):
        decode_close(b"\x03\xed\xff")


@pytest.mark.parametrize(
    ("reason", "encoded"),
    [
        ("", b""),
        ("x" * 123, b"x" * 123),
        ("x" * 124, b"x" * 123),
        ("x" * 122 + "ñ", b"x" * 122),
        ("x" * 121 + "ñ", b"x" * 121 + b"\xc3\xb1"),
        ("x" * 121 + "☃", b"x" * 121),
        ("x" * 120 + "😀", b"x" * 120),
        ("x" * 119 + "😀!", b"x" * 119 + b"\xf0\x9f\x98\x80"),
        ("☃" * 1000, b"\xe2\x98\x83" * 41),
        ("half \ud83d", b"half ?"),  # a lone surrogate is no reason not to close
    ],
)
def test_a_reason_is_cut_behind_the_last_character_that_fits(reason: str, encoded: bytes) -> None:
    assert truncate_reason(reason) == encoded
    assert encode_close(1000, reason) == b"\x03\xe8" + encoded


@settings(deadline=None)
@given(st.sampled_from(ON_THE_WIRE), st.text())
def test_a_close_that_is_sent_is_received(code: int, reason: str) -> None:
    payload = encode_close(code, reason)
    assert len(payload) <= 125
    received = decode_close(payload)
    assert received.code == code
    assert reason.encode("utf-8", "replace").decode().startswith(received.reason)


@settings(deadline=None)
@given(st.binary(max_size=125))
def test_what_is_not_refused_is_read_without_loss(payload: bytes) -> None:
    with contextlib.suppress(WebSocketError):
        code, reason = decode_close(payload)
        assert encode_close(None if code == 1005 else code, reason) == payload

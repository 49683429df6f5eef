"""Close codes and the payload of close frames (RFC 6455, sections 5.5.1 and 7.4)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from stelar_proto.errors import InvalidUtf8, MessageError, WebSocketError

MAX_REASON_SIZE = 123  # a control frame carries 125 bytes, two of them are the code


class CloseCode(IntEnum):
    """The registered codes (RFC 6455, section 7.4.1, and the IANA registry that it founds)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


# 1005, 1006 and 1015 only ever stand in an API, 1004 is reserved: none may be on the wire.
_ON_THE_WIRE = frozenset(CloseCode) - {
    CloseCode.NO_STATUS_RECEIVED,
    CloseCode.ABNORMAL_CLOSURE,
    CloseCode.TLS_HANDSHAKE,
}


class Close(NamedTuple):
    """What a close frame said. A frame without a code reads as 1005 (RFC 6455, section 7.1.5)."""

    code: int
    reason: str


def is_sendable(code: int) -> bool:
    """Tell whether ``code`` may stand in a close frame: a registered one, or 3000 to 4999."""
    return code in _ON_THE_WIRE or 3000 <= code <= 4999


def truncate_reason(reason: str) -> bytes:
    """Encode ``reason``, cut behind the last whole character that fits in 123 bytes."""
    data = reason.encode("utf-8", "replace")
    if len(data) <= MAX_REASON_SIZE:
        return data
    return data[:MAX_REASON_SIZE].decode("utf-8", "ignore").encode()


def check_close(code: int, reason: str) -> None:
    """Make sure that ``code`` and ``reason`` can be what an application ends a conversation with.

    Raises:
        MessageError: the code may not be sent.
        TypeError: it is no int, or the reason no str.
    """
    if not isinstance(code, int):
        raise TypeError(f"a close code is an int, not {type(code).__name__}")
    if not isinstance(reason, str):
        raise TypeError(f"a close reason is a str, not {type(reason).__name__}")
    encode_close(code)


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Return the payload of a close frame; ``None`` as the code gives the empty payload.

    Raises:
        MessageError: the code may not be sent, or there is a reason without a code.
    """
    if code is None:
        if reason:
            raise MessageError("INVALID_CLOSE", "a close reason needs a close code")
        return b""
    if not is_sendable(code):
        raise MessageError(
            "INVALID_CLOSE",
            f"close code {code} may not be sent: use 1000-1003, 1007-1014 or 3000-4999 (RFC 6455, 7.4)",
        )
    return code.to_bytes(2, "big") + truncate_reason(reason)


def decode_close(payload: bytes) -> Close:
    """Read the payload of a close frame.

    Raises:
        WebSocketError: one byte of payload, or a code that must not be on the wire.
        InvalidUtf8: the reason is not UTF-8.
    """
    if not payload:
        return Close(CloseCode.NO_STATUS_RECEIVED, "")
    if len(payload) == 1:
        raise WebSocketError("a close frame has no payload or at least two bytes of it")
    code = int.from_bytes(payload[:2], "big")
    if not is_sendable(code):
        raise WebSocketError(f"close code {code} must not be on the wire")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise InvalidUtf8("the close reason is not UTF-8") from None

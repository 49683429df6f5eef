"""The opening handshake (RFC 6455, section 4): what the two heads have to say, and what they may not.

Responsible for the meaning of requests and responses that upgrade, on both sides, as pure functions. Not
responsible for HTTP syntax (:mod:`.http1`), nor for what an application allows: origins, paths, tokens. The
one extension that can be agreed upon has a module of its own (:mod:`.deflate`).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from stelar_proto.errors import HandshakeError, UpgradeRefused

from .deflate import DeflateAgreement, PerMessageDeflate, read_answer
from .extensions import Extension, parse_extensions
from .http1 import HeaderFields, Headers, Request, Response, encode_request, encode_response, is_token
from .uri import WebSocketURL

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
NPM_GUID = "258EAFA5-E914-47DA-95CA-5AB5A7E3A741"  # what stelar-time-real 3.2.0 on npm has in its place
VERSION = "13"

# 16 bytes in base64, and the one spelling of them: the last character carries two bits.
_KEY = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
_OWN_FIELDS = frozenset(
    {
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    }
)


def accept_key(key: str, guid: str = GUID) -> str:
    """Return the Sec-WebSocket-Accept that answers ``key`` (RFC 6455, section 4.2.2, item 5.4)."""
    digest = hashlib.sha1((key + guid).encode(), usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


# --- The server's side --------------------------------------------------------------------------------


def read_upgrade(request: Request) -> tuple[str, ...] | None:
    """Return the subprotocols that an upgrade request offers, in the client's order of preference.

    Returns:
        ``None`` when this is plain HTTP: no ``websocket`` in its Upgrade field.

    Raises:
        HandshakeError: it asks for a WebSocket, but not as RFC 6455, section 4.2.1, requires. Status 405,
            426 or 400, and the header fields that belong to it.
    """
    headers = request.headers
    if "websocket" not in headers.tokens("upgrade"):
        return None
    if request.method != "GET":
        reason = "a WebSocket handshake is a GET request"
        raise HandshakeError(405, reason, headers=[("Allow", "GET")])
    if request.version == "1.0":
        raise HandshakeError(400, "a WebSocket handshake needs HTTP/1.1, not 1.0 (a proxy's default?)")
    if "upgrade" not in headers.tokens("connection"):
        raise HandshakeError(400, "Connection has no Upgrade in it (does a proxy in between remove it?)")
    _check_version(headers)
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1:
        raise HandshakeError(400, f"a WebSocket handshake has exactly one Sec-WebSocket-Key, not {len(keys)}")
    if not _KEY.fullmatch(keys[0]):
        raise HandshakeError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return _read_subprotocols(headers)


def _check_version(headers: Headers) -> None:
    """Refuse what is not version 13 (RFC 6455, section 4.4).

    Another version is a client that can be told which one to speak: 426. None, or several fields (forbidden
    by section 11.3.5), is no valid handshake of any version: 400.
    """
    versions = headers.get_all("sec-websocket-version")
    if versions == [VERSION]:
        return
    spoken = ("Sec-WebSocket-Version", VERSION)
    if len(versions) != 1:
        reason = f"a WebSocket handshake has exactly one Sec-WebSocket-Version, not {len(versions)}"
        raise HandshakeError(400, reason, headers=[spoken])
    reason = f"only version {VERSION} of the WebSocket protocol is spoken here"
    raise HandshakeError(426, reason, headers=[("Upgrade", "websocket"), spoken])


def _read_subprotocols(headers: Headers) -> tuple[str, ...]:
    lines = headers.get_all("sec-websocket-protocol")
    if not lines:
        return ()
    offered = [name for name in (part.strip(" \t") for part in ",".join(lines).split(",")) if name]
    # RFC 6455, section 4.1, item 10: one or more distinct tokens.
    if not offered or len(set(offered)) != len(offered) or not all(map(is_token, offered)):
        raise HandshakeError(400, "Sec-WebSocket-Protocol is not a list of distinct tokens")
    return tuple(offered)


def read_offered_extensions(headers: Headers) -> list[Extension]:
    """Return the extensions that a request offers, the preferred one first.

    Raises:
        HandshakeError: the header field breaks its grammar, which fails the connection (RFC 6455, section
            9.1). Status 400.
    """
    lines = headers.get_all("sec-websocket-extensions")
    try:
        return parse_extensions(lines) if lines else []
    except ValueError as error:
        raise HandshakeError(400, f"Sec-WebSocket-Extensions is wrong: {error}") from None


def select_subprotocol(offered: Iterable[str], supported: Iterable[str]) -> str | None:
    """Return the first of ``supported``, in the server's order of preference, that the client offered."""
    offered = frozenset(offered)
    return next((name for name in supported if name in offered), None)


def accept_response(
    request: Request,
    *,
    subprotocol: str | None = None,
    extensions: str | None = None,
    headers: HeaderFields = (),
) -> bytes:
    """Return the bytes of the 101 that accepts an upgrade (RFC 6455, section 4.2.2, item 5).

    Arguments:
        request: one for which :func:`read_upgrade` returned subprotocols.
        subprotocol: the chosen one of those, or ``None``.
        extensions: the value of Sec-WebSocket-Extensions, or ``None``.
        headers: fields of the application's own.

    Raises:
        ValueError: a subprotocol that was not offered; header fields that are the handshake's own, or that
            have characters that are not allowed; a request that is no upgrade.
    """
    offered = read_upgrade(request)
    if offered is None:
        raise ValueError("only an upgrade request can be accepted; answer plain HTTP with a response")
    if subprotocol is not None and subprotocol not in offered:
        raise ValueError(f"subprotocol {subprotocol!r} was not offered; allowed are {list(offered)} and None")
    own = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(request.headers["sec-websocket-key"])),
    ]
    if subprotocol is not None:
        own.append(("Sec-WebSocket-Protocol", subprotocol))
    if extensions is not None:
        own.append(("Sec-WebSocket-Extensions", extensions))
    return encode_response(101, [*own, *_application_fields(headers).items()])


def _application_fields(headers: HeaderFields) -> Headers:
    headers = Headers(headers)
    for name in headers:
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"the header {name} is set by the handshake itself; leave it out")
    return headers


# --- The client's side --------------------------------------------------------------------------------


def new_key(entropy: Callable[[int], bytes]) -> str:
    """Return a new Sec-WebSocket-Key.

    Arguments:
        entropy: returns as many random bytes as it is asked for; ``os.urandom`` does.

    Raises:
        ValueError: it returned another number of bytes.
    """
    nonce = entropy(16)
    if len(nonce) != 16:
        raise ValueError(f"entropy(16) has to return 16 bytes, it returned {len(nonce)}")
    return binascii.b2a_base64(nonce, newline=False).decode()


def upgrade_request(
    url: WebSocketURL,
    *,
    key: str,
    headers: HeaderFields = (),
    subprotocols: Sequence[str] = (),
    extensions: str | None = None,
) -> tuple[Request, bytes]:
    """Return the request that asks for an upgrade, and its bytes (RFC 6455, section 4.1).

    Arguments:
        url: where to.
        key: from :func:`new_key`.
        headers: fields of the application's own; Host, and Authorization when the URL has a user, are
            replaced by those given here.
        subprotocols: distinct tokens, in order of preference.
        extensions: the value of Sec-WebSocket-Extensions, or ``None``.

    Raises:
        ValueError: header fields that are the handshake's own or have characters that are not allowed;
            subprotocols that are not distinct tokens; a key that is not 16 bytes in base64.
        TypeError: ``subprotocols`` is one string.
    """
    if isinstance(subprotocols, str):
        raise TypeError(f"subprotocols is a sequence of names: [{subprotocols!r}]")
    if len(set(subprotocols)) != len(subprotocols) or not all(map(is_token, subprotocols)):
        raise ValueError(f"subprotocols have to be distinct tokens, not {list(subprotocols)!r}")
    if not _KEY.fullmatch(key):
        raise ValueError("a Sec-WebSocket-Key is 16 bytes in base64; new_key makes one")
    custom = _application_fields(headers)
    if len(custom.get_all("host")) > 1:
        raise ValueError("a request has one Host header")
    own = [] if "host" in custom else [("Host", url.host_header)]
    own += [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", VERSION),
    ]
    if subprotocols:
        own.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions is not None:
        own.append(("Sec-WebSocket-Extensions", extensions))
    if url.authorization is not None and "authorization" not in custom:
        own.append(("Authorization", url.authorization))
    request = Request("GET", url.resource, Headers([*own, *custom.items()]))
    return request, encode_request(request.method, request.target, request.headers)


def check_response(
    response: Response, *, key: str, subprotocols: Sequence[str] = (), accept_npm_handshake: bool = False
) -> str | None:
    """Return the subprotocol that the server chose, or ``None``, if the response accepts the upgrade.

    Arguments:
        response: the answer to :func:`upgrade_request`.
        key: the key that was sent.
        subprotocols: the subprotocols that were offered.
        accept_npm_handshake: also accept the value of Sec-WebSocket-Accept that stelar-time-real 3.2.0 on
            npm computes, which no conforming client does.

    Raises:
        UpgradeRefused: the status is another than 101. Redirects are not followed.
        HandshakeError: the 101 is not the answer to this handshake (RFC 6455, section 4.1, items 2 to 6).
    """
    if response.status != 101:
        raise UpgradeRefused(response)
    headers = response.headers
    if headers.tokens("upgrade") != ("websocket",):
        _fail("its Upgrade is not websocket")
    if "upgrade" not in headers.tokens("connection"):
        _fail("its Connection has no Upgrade in it")
    _check_accept(headers.get_all("sec-websocket-accept"), key, accept_npm_handshake)
    chosen = headers.get_all("sec-websocket-protocol")
    if not chosen:
        return None
    if len(chosen) > 1 or "," in chosen[0]:
        _fail("it has several subprotocols; a server chooses one")
    if chosen[0] not in subprotocols:
        _fail("it has a subprotocol that was not offered")
    return chosen[0]


def check_extensions(response: Response, offered: PerMessageDeflate | None) -> DeflateAgreement | None:
    """Return what the response agrees to of what was offered.

    Raises:
        HandshakeError: it agrees to something else (RFC 6455, section 4.1, item 5; RFC 7692, section 5.1).
    """
    lines = response.headers.get_all("sec-websocket-extensions")
    try:
        return read_answer(parse_extensions(lines) if lines else [], offered)
    except ValueError as error:
        _fail(str(error))


def _check_accept(values: list[str], key: str, accept_npm_handshake: bool) -> None:
    if len(values) != 1:
        _fail(f"it has {len(values)} Sec-WebSocket-Accept fields, not one")
    received = values[0].encode("latin-1")
    if hmac.compare_digest(received, accept_key(key).encode()):
        return
    if not hmac.compare_digest(received, accept_key(key, NPM_GUID).encode()):
        _fail("its Sec-WebSocket-Accept does not answer our key")
    if not accept_npm_handshake:
        _fail(
            "its Sec-WebSocket-Accept is that of stelar-time-real on npm, which does not follow RFC 6455; "
            "accept_npm_handshake=True accepts it"
        )


def _fail(what: str) -> NoReturn:
    raise HandshakeError(101, f"the server's 101 is no valid WebSocket handshake: {what}")

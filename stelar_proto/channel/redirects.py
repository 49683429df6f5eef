"""Handshakes that are answered with "somewhere else": followed on the same host, and nowhere else.

What is sent along, passwords and tokens, is meant for the host that the application named. A server may move
it to another path, port or from ``ws://`` to ``wss://``; everything else is the application's decision.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urljoin

from stelar_proto.errors import ConnectError, UpgradeRefused
from stelar_proto.ws.uri import parse_websocket_url

MAX_REDIRECTS = 5
"""How many are followed in a row."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_SHOWN = 200

T = TypeVar("T")


async def follow_redirects(url: str, attempt: Callable[[str], Awaitable[T]]) -> T:
    """Return what ``attempt(url)`` does, or that with the URL that the server sends us to instead.

    Arguments:
        url: a WebSocket URL, user and password included.
        attempt: connects, or raises ConnectError, whose cause is the refusal.

    Raises:
        ConnectError: the last attempt failed, or the redirect is none that is followed.
    """
    first, count = str(parse_websocket_url(url)), 0
    while True:
        try:
            return await attempt(url)
        except ConnectError as error:
            refusal = error.__cause__
            if _location_of(refusal) is not None:
                assert isinstance(refusal, UpgradeRefused)
                try:
                    url = next_url(url, refusal, count)
                except ValueError as problem:
                    words = f"cannot connect to {first}: {problem}"
                    raise ConnectError(words) from refusal
                count += 1
            elif count:
                raise ConnectError(f"{error} (redirected there from {first})") from refusal
            else:
                raise


def next_url(url: str, refusal: UpgradeRefused, count: int = 0) -> str:
    """Return where to connect to instead of ``url``, with the same user and password.

    Arguments:
        url: where the server was asked.
        refusal: what it answered, with a Location (RFC 9110, section 10.2.2).
        count: how many redirects were followed before.

    Raises:
        ValueError: it is not followed: to another host, to a place without TLS from one with it, to no URL
            of a server, or it is one too many.
    """
    location = _location_of(refusal) or ""
    base = parse_websocket_url(url)
    http_base = f"http{str(base).removeprefix('ws')}"
    prefix = f"the server redirects (HTTP {refusal.status})"
    if count >= MAX_REDIRECTS:
        raise ValueError(f"{prefix}, as did {count} before it, and no more are followed")
    try:
        target = parse_websocket_url(urljoin(http_base, location).partition("#")[0])
    except ValueError as error:
        raise ValueError(f"{prefix} to what is no URL of a server: {error}") from None
    shown = str(target)[:_LONGEST_SHOWN]
    if target.host != base.host:
        raise ValueError(
            f"{prefix} to another host, which is not followed: if you trust it, connect to {shown}"
        )
    if base.secure and not target.secure:
        raise ValueError(f"{prefix} to {shown}, which would give up TLS, and is not followed")
    return replace(target, user_info=base.user_info).with_credentials()


def _location_of(error: BaseException | None) -> str | None:
    if not isinstance(error, UpgradeRefused) or error.status not in _REDIRECTS:
        return None
    return error.response.headers.get("location")

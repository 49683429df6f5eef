"""Which web pages may connect: the Origin header (RFC 6454) against the option ``allowed_origins``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

# What browsers send (RFC 6454, section 6.2): no path, no user, not even a slash at the end.
_ORIGIN = re.compile(
    r"null|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._~%-]+)(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII
)
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443", re.IGNORECASE)


def may_connect(origin: str | None, allowed: Collection[str] | None) -> bool:
    """Tell whether a client of ``origin`` may connect.

    Arguments:
        origin: the Origin header; None if there was none. Browsers always send it, so that whoever does not
            is no page, and could have sent anything.
        allowed: the option.
    """
    if origin is None or allowed is None or origin in allowed:
        return True
    # Scheme and host are all that an origin has beside the port, and the case of neither means anything.
    origin = origin.lower()
    return any(origin == each.lower() for each in allowed)


def origin_problems(allowed: object) -> Iterator[str]:
    """Say what is wrong with the option, if anything is."""
    if allowed is None:
        return
    if isinstance(allowed, str | bytes) or not isinstance(allowed, Collection):
        yield f"allowed_origins must be a collection of origins, or None for all, not {allowed!r}"
        return
    for origin in allowed:
        if not (isinstance(origin, str) and _ORIGIN.fullmatch(origin)):
            words = "an origin is scheme://host or scheme://host:port, in ASCII, or 'null'"
            yield f"allowed_origins: {words}, not {origin!r}"
        elif _DEFAULT_PORT.fullmatch(origin):
            yield f"allowed_origins: browsers leave the default port out; so must {origin!r}"

"""The page of the demo, as the server sends it: its bytes and the header fields that confine it.

Not responsible for what is in it; that is ``page.html``, one file with one style and one script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


@cache
def page_body() -> bytes:
    """The page, UTF-8."""
    return resources.files(__package__).joinpath("page.html").read_bytes()


@cache
def page_headers() -> tuple[tuple[str, str], ...]:
    """The header fields that belong to the page.

    Its own style and script may run, named by their hashes (CSP Level 3, section 2.3.1); nothing else may,
    and it may talk to no one but over WebSocket. ``blob:`` is for the pictures, ``data:`` for the icon.
    """
    hashes: dict[bytes, list[str]] = {b"style": [], b"script": []}
    for match in _INLINE.finditer(page_body()):
        digest = base64.b64encode(hashlib.sha256(match[2]).digest()).decode("ascii")
        hashes[match[1]].append(f"'sha256-{digest}'")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {' '.join(hashes[b'style'])}",
            f"script-src {' '.join(hashes[b'script'])}",
            "img-src blob: data:",
            # Not every browser reads 'self' as the page's own host over WebSocket.
            "connect-src 'self' ws: wss:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", policy),
        ("Cache-Control", "no-cache"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
    )

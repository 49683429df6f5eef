"""Plain HTTP in the place of a WebSocket: what an application answers with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class HttpResponse(NamedTuple):
    """What an HTTP handler returns: a status, a whole body, and header fields as (name, value) pairs."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()

    @classmethod
    def of_text(
        cls,
        text: str,
        *,
        status: int = 200,
        content_type: str = "text/plain; charset=utf-8",
        headers: Sequence[tuple[str, str]] = (),
    ) -> HttpResponse:
        """Return ``text`` as UTF-8."""
        return cls(status, text.encode(), (("Content-Type", content_type), *headers))

    @classmethod
    def of_json(cls, value: Any, *, status: int = 200) -> HttpResponse:
        """Return ``value`` as JSON that no cache keeps."""
        text = json.dumps(value, separators=(",", ":"))
        headers = (("Cache-Control", "no-store"),)
        return cls.of_text(text, status=status, content_type="application/json", headers=headers)

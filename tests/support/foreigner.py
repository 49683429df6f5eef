"""A guest of the demo's chat that is none of this project's clients."""

from __future__ import annotations

import json
from typing import Any

from websockets.sync.client import ClientConnection


class Foreigner:
    """A client of the ``websockets`` library that knows nothing but the envelope."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._next_id = 0
        self.said: list[tuple[str, str]] = []
        self.pictures: list[bytes] = []

    def ask(self, event: str, data: Any) -> Any:
        """Send a request; return its answer, skipping what comes before it."""
        self._next_id += 1
        correlation_id = f"q{self._next_id}"
        fields = {"event": event, "data": data, "_ackName": event, "_correlationId": correlation_id}
        self._connection.send(json.dumps(fields))
        while True:
            message = self.read()
            if message.get("_correlationId") == correlation_id:
                assert message["_isAck"] is True
                assert "_error" not in message
                return message["data"]

    def read(self) -> dict[str, Any]:
        """The next text message; pictures are put aside, and what others say is noted."""
        while True:
            message = self._connection.recv(timeout=10)
            if isinstance(message, bytes):
                header, _, payload = message.partition(b"\0")
                assert json.loads(header) == {"event": "picture", "_binary": True}
                self.pictures.append(payload)
                continue
            fields: dict[str, Any] = json.loads(message)
            if fields["event"] == "said":
                self.said.append((fields["data"]["name"], fields["data"]["text"]))
            return fields

    def share(self, picture: bytes) -> None:
        self._connection.send(b'{"event":"picture"}\0' + picture)

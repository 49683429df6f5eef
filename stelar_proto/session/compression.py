"""What a server says to clients with which it has agreed upon compression (RFC 7692).

A message to many is compressed once, not once per client: for that no message refers to one before it, which
is always allowed, and all clients that take the same window get the same frame.
"""

from __future__ import annotations

from stelar_proto.messages import Message, Serializer
from stelar_proto.wire import WebSocketFormat
from stelar_proto.ws import PerMessageDeflate, Role
from stelar_proto.ws.compression import CompressingEncoder, Deflater
from stelar_proto.ws.deflate import Direction
from stelar_proto.ws.frames import encode_frame


class CompressingFormat(WebSocketFormat):
    """The envelope of a server that compresses: itself for the clients that do not, and one for each window.

    Arguments:
        compression: the server's settings.
        serializer: JSON to and from text.
        max_payload_size: the most bytes of an encoded message.
    """

    def __init__(
        self, compression: PerMessageDeflate, *, serializer: Serializer, max_payload_size: int
    ) -> None:
        super().__init__(Role.SERVER, serializer=serializer, max_payload_size=max_payload_size)
        self._compression = compression
        self._serializer = serializer
        self._deflated: dict[int, _DeflatedFormat] = {}

    def deflated(self, window_bits: int) -> WebSocketFormat:
        """Return the format for clients that take messages compressed with this window, 8 to 15."""
        if window_bits not in self._deflated:
            deflater = Deflater(Direction(keeps_context=False, window_bits=window_bits), self._compression)
            encoder = CompressingEncoder(deflater, self._compression.min_size, encode_frame, encode_frame)
            self._deflated[window_bits] = _DeflatedFormat(
                encoder, serializer=self._serializer, max_payload_size=self.max_payload_size
            )
        return self._deflated[window_bits]


class _DeflatedFormat(WebSocketFormat):
    """The same envelope, its frames compressed."""

    def __init__(self, encoder: CompressingEncoder, *, serializer: Serializer, max_payload_size: int) -> None:
        super().__init__(Role.SERVER, serializer=serializer, max_payload_size=max_payload_size)
        self._encoder = encoder

    def encode_frame(self, message: Message) -> bytes:
        return self._encoder.encode_message(*self.encode(message))

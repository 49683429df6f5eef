"""Messages out of frames: fragmentation, compression, limits and UTF-8 (RFC 6455, sections 5.4 and 8.1).

A frame is judged when its header is there (:meth:`MessageReader.begin`) and its payload is taken as it
arrives (:meth:`MessageReader.feed`), so that a wrong byte of text is noticed when it comes and a message
over the limit before it does.
"""

from __future__ import annotations

import codecs
from io import BytesIO, StringIO
from typing import TypeAlias

from stelar_proto.errors import InvalidUtf8, MessageError, MessageTooBig, WebSocketError

from .compression import Inflater
from .events import BinaryReceived, PartReceived, TextReceived
from .frames import MAX_CONTROL_SIZE, Opcode

BytesLike: TypeAlias = bytes | bytearray | memoryview

# How soon a fault shows depends on how the bytes were cut, so the words that go to the peer do not say more.
NOT_UTF8 = "text is not UTF-8"

_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Utf8Decoder:
    """Incremental UTF-8 that fails at the first byte that cannot be right."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _new_utf8_decoder()

    def decode(self, data: bytes, final: bool) -> str:
        """Return the characters that are complete.

        Raises:
            InvalidUtf8: ``data`` cannot be the continuation of UTF-8, or ends inside a character.
        """
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise InvalidUtf8(NOT_UTF8) from None
        pending = self._decoder.getstate()[0]
        # CPython waits for the third byte of an encoded surrogate, although the second one condemns it.
        if len(pending) == 2 and pending[0] == 0xED and pending[1] >= 0xA0:
            raise InvalidUtf8(NOT_UTF8)
        return text


class MessageReader:
    """Puts the data frames of one connection together.

    Arguments:
        max_message_size: the most bytes of payload a message may have, compressed and inflated.
        max_fragments: the most frames a message may have.
        deliver_parts: hand pieces out as they come instead of collecting them; may be changed at any time.
    """

    __slots__ = (
        "_binary",
        "_compressed",
        "_decoder",
        "_fin",
        "_fragments",
        "_in_parts",
        "_inflated_size",
        "_max_fragments",
        "_max_message_size",
        "_size",
        "_text",
        "active",
        "deliver_parts",
        "inflater",
    )

    def __init__(self, *, max_message_size: int, max_fragments: int, deliver_parts: bool) -> None:
        self._max_message_size = max_message_size
        self._max_fragments = max_fragments
        self.deliver_parts = deliver_parts
        self._in_parts = False  # a piece of the message was handed out, so its end is one too
        self.active = False
        """Whether a message has begun and not ended."""
        self.inflater: Inflater | None = None
        """What inflates compressed messages; None until it was agreed upon that there may be some."""
        self._compressed = False  # the message is
        self._inflated_size = 0
        self._fin = False  # the frame that is being read ends the message
        self._size = 0
        self._fragments = 0
        self._decoder: Utf8Decoder | None = None  # None while the message is binary
        # What has come of a message, once it is in pieces; written to, and then given away without a copy.
        self._text: StringIO | None = None
        self._binary: BytesIO | None = None

    def begin(self, opcode: int, fin: bool, size: int, compressed: bool = False) -> None:
        """Judge the header of a data frame.

        Raises:
            WebSocketError: a continuation of nothing, or a new message inside another.
            MessageTooBig: the frame takes its message over a limit.
        """
        if opcode == Opcode.CONTINUATION:
            if not self.active:
                raise WebSocketError("a continuation frame came, but there is no message to continue")
        elif self.active:
            raise WebSocketError("a new message began before the one before it ended")
        else:
            self.active = True
            self._in_parts = False
            self._compressed = compressed
            self._size = self._fragments = self._inflated_size = 0
            self._decoder = Utf8Decoder() if opcode == Opcode.TEXT else None
        self._fin = fin
        self._size += size
        self._fragments += 1
        if self._size > self._max_message_size:
            size, limit = self._size, self._max_message_size
            words = f"a message of at least {size} bytes is announced, the limit is {limit}"
            raise MessageTooBig(words, size=size, limit=limit)
        if self._fragments > self._max_fragments:
            limit = self._max_fragments
            words = f"a message has more than {limit} frames"
            raise MessageTooBig(words, size=self._fragments, limit=limit)

    def feed(self, payload: bytes, end_of_frame: bool) -> TextReceived | BinaryReceived | PartReceived | None:
        """Take the next piece of the frame's payload; return the message if that completed it.

        Raises:
            InvalidUtf8: the message is text and a byte of it is wrong.
            InvalidDeflate: the message is compressed and cannot be inflated.
            MessageTooBig: it is longer than the limit when it is.
        """
        final = end_of_frame and self._fin
        if final:
            self.active = False
        if self._compressed:
            payload = self._inflate(payload, final)
        part = payload if self._decoder is None else self._decoder.decode(payload, final)
        if not part and not final:
            return None
        handed_out = final or self.deliver_parts
        data = (
            self._collect_text(part, handed_out)
            if isinstance(part, str)
            else self._collect_binary(part, handed_out)
        )
        if data is None:
            return None
        if self.deliver_parts or self._in_parts:
            self._in_parts = True
            return PartReceived(data, final)
        return TextReceived(data) if isinstance(data, str) else BinaryReceived(data)

    def _inflate(self, payload: bytes, final: bool) -> bytes:
        assert self.inflater is not None
        limit = self._max_message_size
        inflated = self.inflater.inflate(payload, final, limit + 1 - self._inflated_size)
        self._inflated_size += len(inflated)
        if self._inflated_size > limit:
            reason = f"a compressed message inflates to more than {limit} bytes"
            raise MessageTooBig(reason, size=self._inflated_size, limit=limit)
        return inflated

    @property
    def collected_size(self) -> int:
        """How much of a message that has not ended waits here, characters or bytes."""
        collected = self._text or self._binary
        return 0 if collected is None else collected.tell()

    def _collect_text(self, part: str, handed_out: bool) -> str | None:
        if self._text is None:
            if handed_out:
                return part
            self._text = StringIO()
        self._text.write(part)
        if not handed_out:
            return None
        text, self._text = self._text.getvalue(), None
        return text

    def _collect_binary(self, part: bytes, handed_out: bool) -> bytes | None:
        if self._binary is None:
            if handed_out:
                return part
            self._binary = BytesIO()
        self._binary.write(part)
        if not handed_out:
            return None
        data, self._binary = self._binary.getvalue(), None
        return data


# --- Out ------------------------------------------------------------------------------------------------


def encode_text(text: str) -> bytes:
    """Return the payload of a text message.

    Raises:
        MessageError: ``text`` holds a lone surrogate.
        TypeError: it is no str.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MessageError(
            "NOT_SERIALIZABLE", "the text holds a lone surrogate, which UTF-8 cannot say"
        ) from None
    except AttributeError:
        raise TypeError(f"text is a str, not {type(text).__name__}; send_binary() sends bytes") from None


def to_bytes(data: BytesLike) -> bytes:
    """Return the payload of a binary message or a control frame.

    Raises:
        TypeError: ``data`` is not bytes.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"a payload is bytes, bytearray or memoryview, not {type(data).__name__}")


def to_control_payload(data: BytesLike) -> bytes:
    """Return the payload of a ping or pong (RFC 6455, section 5.5).

    Raises:
        MessageError: it has more than 125 bytes.
        TypeError: ``data`` is not bytes.
    """
    payload = to_bytes(data)
    if len(payload) > MAX_CONTROL_SIZE:
        reason = f"a ping or pong carries at most {MAX_CONTROL_SIZE} bytes, not {len(payload)}"
        raise MessageError("PAYLOAD_TOO_LARGE", reason)
    return payload

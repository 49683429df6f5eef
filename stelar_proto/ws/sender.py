"""The sending half of a connection: messages, parts of messages and pings in, frames out.

Responsible for what may be sent when, and for the order in which it leaves. Not responsible for the
handshake and the close frames, which :class:`~.connection.Connection` puts into the same outgoing buffer.
"""

from __future__ import annotations

from collections.abc import Callable

from stelar_proto.errors import StateError

from .compression import CompressingEncoder, Deflater
from .frames import FIN, MASKED, MaskingEncoder, Opcode, apply_mask, encode_frame
from .messages import BytesLike, encode_text, to_bytes, to_control_payload
from .state import Role, State

# Looked up once: in CPython 3.11 the attribute of an enum costs as much as encoding a short frame's head.
_OPEN = State.OPEN
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)


class Sender:
    """What a connection of either role sends while it is open.

    Arguments:
        role: a client masks.
        entropy: the source of a client's masking keys.

    Raises:
        TypeError: a client without ``entropy``.
    """

    __slots__ = (
        "_encode_frame",
        "_encode_message",
        "_encode_part",
        "_last_words",
        "_out",
        "_part_type",
        "role",
        "state",
    )

    def __init__(self, role: Role, entropy: Callable[[int], bytes] | None) -> None:
        self.role = role
        self.state = State.CONNECTING
        self._encode_frame: Callable[..., bytes] = encode_frame
        self._encode_message: Callable[[int, bytes], bytes] = encode_frame
        if role is Role.CLIENT:
            if entropy is None:
                raise TypeError("a client needs a source of random bytes: pass entropy=os.urandom")
            masking = MaskingEncoder(entropy)
            self._encode_frame, self._encode_message = masking.encode_frame, masking.encode_message
        self._encode_part: Callable[[int, bytes, bool], bytes] = self._encode_frame
        self._part_type: type[str] | type[bytes] | None = None  # of the message being sent in parts
        self._out: list[bytes] = []
        # What ends the connection after an event that may still be answered: it leaves behind the answers.
        self._last_words: bytes | None = None

    def data_to_send(self) -> bytes:
        """Return, once, the bytes to send now, in order; ``b""`` if there are none."""
        out = self._out
        if not out and self._last_words is None:
            return b""
        if self._last_words is not None:
            out.append(self._last_words)
            self._last_words = None
            self._stop_deflating()
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    @property
    def can_send(self) -> bool:
        """Whether messages can be sent: the connection is open, or :class:`Closed` can still be preceded."""
        return self.state is _OPEN or self._last_words is not None

    def send_text(self, text: str) -> None:
        """Send a text message.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
            MessageError: ``text`` holds a lone surrogate, which UTF-8 cannot say.
            TypeError: ``text`` is no str.
        """
        if self.state is not _OPEN or self._part_type is not None:
            self._demand_between_messages()
        try:
            payload = text.encode()
        except (AttributeError, UnicodeEncodeError):
            payload = encode_text(text)  # says what is wrong with it
        self._out.append(self._encode_message(_TEXT, payload))

    def send_binary(self, data: BytesLike) -> None:
        """Send a binary message.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
            TypeError: ``data`` is not bytes.
        """
        if self.state is not _OPEN or self._part_type is not None:
            self._demand_between_messages()
        self._out.append(self._encode_message(_BINARY, data if type(data) is bytes else to_bytes(data)))

    def send_part(self, data: str | BytesLike, *, final: bool) -> None:
        """Send the next part of a message, a frame of its own; the first part decides: text or binary.

        Raises:
            StateError: the connection is not open.
            MessageError: a lone surrogate; a pair of them must not be split.
            TypeError: ``data`` is neither str nor bytes, or not what the parts before it were.
        """
        self._out.append(self.encode_part(data, final=final))

    def encode_part(self, data: str | BytesLike, *, final: bool) -> bytes:
        """Return the next part of a message as a frame: :meth:`send_part` as :meth:`encode_message` is."""
        self._demand_open()
        kind: type[str] | type[bytes] = str if isinstance(data, str) else bytes
        opcode = int(Opcode.CONTINUATION)
        if self._part_type is None:
            opcode = _TEXT if kind is str else _BINARY
        elif self._part_type is not kind:
            raise TypeError(f"this message began with {self._part_type.__name__}, so must all its parts be")
        payload = encode_text(data) if isinstance(data, str) else to_bytes(data)
        self._part_type = None if final else kind
        return self._encode_part(opcode, payload, final)

    def encode_message(self, opcode: int, payload: bytes) -> bytes:
        """Return a message as one frame, masked as the role asks, for an embedder with a queue of its own.

        The frame must be sent before anything that a later call of this connection returns.

        Arguments:
            opcode: :attr:`Opcode.TEXT` or :attr:`Opcode.BINARY`.
            payload: the whole message; UTF-8 if it is text, which is not checked.

        Raises:
            StateError: the connection is not open, or a message in parts has not ended.
        """
        if self.state is not _OPEN or self._part_type is not None:
            self._demand_between_messages()
        return self._encode_message(opcode, payload)

    def encode_head(self, opcode: int, size: int) -> tuple[bytes, Callable[[bytes], bytes]]:
        """Client: return the head of a message whose payload follows piece by piece; for an embedder, too.

        The frame is never compressed. Until its last piece was sent, nothing else may be.

        Arguments:
            opcode: as above.
            size: bytes of the whole payload, 64 KiB or more.

        Returns:
            The head, and a function that masks each piece of the payload, in order.

        Raises:
            StateError: as above.
        """
        self._demand_between_messages()
        assert self.role is Role.CLIENT
        assert size >= 0x10000, "a shorter length is written otherwise"
        key = self._encode_frame(opcode, b"")[2:]  # an empty frame is the shortest head, and a key
        masked = 0

        def mask_piece(piece: bytes) -> bytes:
            nonlocal masked
            phase, masked = masked, masked + len(piece)
            return apply_mask(piece, key, phase)

        return bytes((FIN | opcode, MASKED | 127)) + size.to_bytes(8) + key, mask_piece

    def ping(self, payload: BytesLike = b"") -> None:
        """Send a ping of up to 125 bytes; the peer answers with the same payload."""
        self._demand_open()
        self._out.append(self._encode_frame(Opcode.PING, to_control_payload(payload)))

    def pong(self, payload: BytesLike = b"") -> None:
        """Send a pong that nobody asked for, as a sign of life (section 5.5.3)."""
        self._demand_open()
        self._out.append(self._encode_frame(Opcode.PONG, to_control_payload(payload)))

    def _deflate_with(self, deflater: Deflater, min_size: int) -> None:
        """From now on messages of ``min_size`` bytes or more, and those in parts, are compressed."""
        encoder = CompressingEncoder(deflater, min_size, self._encode_frame, self._encode_message)
        self._encode_message, self._encode_part = encoder.encode_message, encoder.encode_part

    def _stop_deflating(self) -> None:
        """Give the compressor's memory back: no more messages will be sent."""
        self._encode_message = self._encode_part = self._encode_frame

    def _demand_between_messages(self) -> None:
        self._demand_open()
        if self._part_type is not None:
            raise StateError("a message is being sent in parts: end it with send_part(…, final=True)")

    def _demand_open(self) -> None:
        if not self.can_send:
            raise StateError(f"nothing can be sent now: the connection is {self.state.value}")

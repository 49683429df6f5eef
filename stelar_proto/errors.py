"""Every error of the project: what it means, and what it is answered with on the wire.

Two families that never mix. A :class:`LocalError` is the caller's: it is raised at the call that was wrong
and its message says what to do instead. A :class:`PeerError` is the other side's: a codec never raises it,
it stands in the event that ends the connection, and the answer the protocol asks for (a close code, an HTTP
status, an Error frame) is already in the outgoing buffer.

The third group is what the two ends of an application tell each other: answers that are errors, answers
that never came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ws.close import Close
    from .ws.http1 import Response


def printable(text: str) -> str:
    """Return the words of a peer for a line of a log or a terminal: what cannot be printed is escaped.

    Line ends would begin a line that we did not write, and marks of direction reorder the one that we did.
    """
    return text if text.isprintable() else repr(text)[1:-1]


class StelarError(Exception):
    """The root of every error that this project raises or reports."""


# --- The caller's mistakes: raised where they are made ------------------------------------------------


class LocalError(StelarError):
    """The library was used in a way that cannot work; the message says what to change."""


class StateError(LocalError, RuntimeError):
    """The call is right, the moment is wrong: for example a message sent after the close."""


class MessageError(LocalError, ValueError):
    """A message that may not be sent.

    Arguments:
        code: one of ``EMPTY_EVENT``, ``EVENT_TOO_LONG``, ``INVALID_EVENT_CHARS``, ``RESERVED_EVENT``,
            ``FRAME_TOO_LARGE``, ``PAYLOAD_TOO_LARGE``, ``NOT_SERIALIZABLE``, ``INVALID_CLOSE``.
        message: a sentence: what was wrong, what is allowed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- The peer's mistakes: reported in events, never raised by a codec -----------------------------------


class PeerError(StelarError):
    """Something the other side did that ends the connection.

    Attributes:
        code: the machine-readable name of the mistake, for example ``FRAME_TOO_LARGE``.
        reason: one sentence for people; it may be the peer's own. The error's text is that, escaped.
    """

    code: str = "PEER_ERROR"

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(printable(reason))
        self.reason = reason
        if code is not None:
            self.code = code


class WebSocketError(PeerError):
    """A connection that had to be failed (RFC 6455, section 7.1.7). Answered with ``close_code``."""

    code = "PROTOCOL_ERROR"
    close_code: int = 1002


class InvalidUtf8(WebSocketError):
    """Text that is not UTF-8 (RFC 6455, section 8.1). Answered with close code 1007."""

    code = "INVALID_UTF8"
    close_code = 1007


class InvalidDeflate(WebSocketError):
    """A compressed message that cannot be inflated (RFC 7692, section 7.2). Answered with close code 1007."""

    code = "INVALID_DEFLATE"
    close_code = 1007


class MessageTooBig(WebSocketError):
    """A frame or message over the limit, known from its header, or from inflating it up to there.

    Answered with close code 1009.

    Attributes:
        size: bytes that it has, as far as is known; frames, if they were too many.
        limit: how many it may have.
    """

    code = "FRAME_TOO_LARGE"
    close_code = 1009

    def __init__(self, reason: str, *, size: int, limit: int) -> None:
        super().__init__(reason)
        self.size = size
        self.limit = limit


class HandshakeError(PeerError):
    """A WebSocket handshake that failed. A server answers it with HTTP ``status`` and ``headers``.

    Arguments:
        status: the HTTP status a server answers with; on a client, the status that was received, or 0.
        reason: one sentence for people; the body of the answer.
        headers: header fields that belong to the answer, as (name, value) pairs.
    """

    code = "HANDSHAKE_FAILED"

    def __init__(self, status: int, reason: str, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = tuple(headers)


class UpgradeRefused(HandshakeError):
    """The server answered the handshake with another status than 101.

    Attributes:
        response: the whole response: status, headers, and as much of its body as the limit allows.
    """

    code = "UPGRADE_REFUSED"

    def __init__(self, response: Response) -> None:
        reason = f"the server refused the upgrade: HTTP {response.status} {response.reason}".rstrip()
        location = response.headers.get("location")
        if location is not None and 300 <= response.status < 400:
            reason += f" (to {location!r})"
        super().__init__(response.status, reason)
        self.response = response


class FrameError(PeerError):
    """A TCP frame that breaks the format (WIRE: TCP frames). Answered with an Error frame.

    ``code`` is one of ``INVALID_FRAME_SIZE``, ``FRAME_TOO_LARGE``, ``INVALID_EVENT_LENGTH``,
    ``EVENT_TOO_LONG``, ``INVALID_EVENT``, ``UNKNOWN_FRAME_TYPE``.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason, code=code)


class FrameTooLarge(FrameError):
    """A TCP frame over a limit, known from its header; its code is ``FRAME_TOO_LARGE``.

    Attributes:
        size: bytes of the whole frame, or of its payload.
        limit: how many there may be.
    """

    def __init__(self, *, size: int, limit: int, what: str = "frame") -> None:
        super().__init__("FRAME_TOO_LARGE", f"a {what} of {size} bytes; the limit is {limit} bytes")
        self.size = size
        self.limit = limit


class StreamEnded(PeerError):
    """The stream ended where the protocol does not end: without a close, or in the middle of a frame."""

    code = "STREAM_ENDED"


class PeerFailure(PeerError):
    """The peer reported an error of its own and ended the conversation; ``reason`` is what it said."""

    code = "PEER_FAILURE"


class PeerTimeout(PeerError):
    """The peer let a deadline pass: it did not connect, answer a heartbeat or close in time."""

    code = "TIMEOUT"


class SlowConsumer(PeerError):
    """The peer reads more slowly than it is written to, and its outbox is full."""

    code = "SLOW_CONSUMER"


# --- What the ends of an application tell each other --------------------------------------------------


class HandlerError(StelarError):
    """Raise this in a handler to answer a request with an error that the requester may read.

    Any other exception is answered as ``HANDLER_ERROR`` without its text, which may hold secrets.

    Arguments:
        message: a sentence for the requester.
        code: a name for the requester's code to branch on.
    """

    def __init__(self, message: str, *, code: str = "HANDLER_ERROR") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class RemoteError(StelarError):
    """A request was answered with an error.

    Attributes:
        code: ``HANDLER_ERROR``, ``NO_HANDLER``, ``REFUSED``, ``RATE_LIMITED``, ``PAYLOAD_TOO_LARGE`` or
            a code of the application's own.
        message: the remote side's words.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(printable(f"{code}: {message}"))
        self.code = code
        self.message = message


class AckTimeout(StelarError, TimeoutError):
    """No answer came in time. The request may still have been carried out."""


class ConnectionLost(StelarError, ConnectionError):
    """The connection ended before what was asked of it was done; the message names why."""


class MessageDropped(StelarError):
    """Messages that were accepted are given up; nothing else will be heard of them.

    Arguments:
        reason: why.
        event: of what the message was, if it is known.
        count: how many they are.
    """

    def __init__(self, reason: str, *, event: str | None = None, count: int = 1) -> None:
        if event is not None:
            subject = f"a message of {event!r} was"
        else:
            subject = "a message was" if count == 1 else f"{count} messages were"
        super().__init__(f"{subject} dropped: {reason}")
        self.reason = reason
        self.event = event
        self.count = count


class ConnectError(StelarError, ConnectionError):
    """A connection could not be made; the message names the address and what happened."""


class ConnectionClosed(StelarError):
    """A plain WebSocket connection has ended: nothing more will be received, nothing can be sent.

    Attributes:
        code: the close code: the peer's after a close handshake (1005 if it sent none), ours after a mistake
            of the peer's, 1006 if there was no close frame.
        reason: the words with it.
        received: what the peer's close frame said, as (code, reason); None if none came.
        sent: what our close frame said; None if none left.
        error: what went wrong, if anything did.
    """

    def __init__(
        self, code: int, reason: str, *, received: Close | None, sent: Close | None, error: PeerError | None
    ) -> None:
        self.code = code
        self.reason = reason
        self.received = received
        self.sent = sent
        self.error = error
        words = f": {printable(reason)}" if reason else ""
        cause = f" ({error})" if error is not None else ""
        super().__init__(f"the connection is closed, {code}{words}{cause}")

    @property
    def is_ordinary(self) -> bool:
        """Whether both sides parted in good order: with code 1000 or 1001, and nothing went wrong."""
        return self.code in (1000, 1001) and self.error is None

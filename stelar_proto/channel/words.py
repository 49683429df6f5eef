"""What went wrong with a connection, in words for people: what happened, and what may have to be changed.

Most connections that never were are wrong ports: each kind of server has its own way of being no server of
the kind that was asked for.
"""

from __future__ import annotations

from stelar_proto.errors import (
    FrameError,
    FrameTooLarge,
    PeerTimeout,
    ProxyError,
    StreamEnded,
    UpgradeRefused,
)

# What OpenSSL, depending on its version, calls an answer that is no TLS record.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")

_LONGEST_BODY = 200  # characters of a refusal's words that are shown


def words_for(error: Exception) -> str:
    """Return what ``error``, of the system, TLS or a peer, says, or what is known to stand behind it."""
    if isinstance(error, ProxyError):
        return str(error)
    if isinstance(error, ConnectionRefusedError) or isinstance(error.__cause__, ConnectionRefusedError):
        return "connection refused"
    if getattr(error, "reason", None) in _NO_TLS:
        return "the server does not speak TLS on this port"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def explain(error: Exception, *, wire: str, secure: bool) -> str:
    """Return what ``error`` says, and what may have to be changed.

    Arguments:
        error: why there is no connection.
        wire: how the server was spoken to: ``"ws"`` or ``"tcp"``.
        secure: whether over TLS.
    """
    words = words_for(error)
    if getattr(error, "reason", None) in _NO_TLS:
        return f"{words}: use {wire}://, or the port on which it does"
    if isinstance(error, UpgradeRefused):
        return words + _words_of_refusal(error)
    if wire == "tcp":
        return _explain_tcp(error, words, secure)
    return words


def _words_of_refusal(error: UpgradeRefused) -> str:
    response = error.response
    kind = response.headers.get("content-type", "") or ""
    if kind.partition(";")[0].strip().lower() == "text/plain":
        for line in response.body.decode("utf-8", "replace").strip().splitlines()[:1]:
            if line.isprintable():
                return f": {line[:_LONGEST_BODY]}"
    if 200 <= error.status <= 299:
        return "; something other than a WebSocket server answers there: check the port and the path"
    return ""


def _explain_tcp(error: Exception, words: str, secure: bool) -> str:
    ws, tls = ("wss://", "") if secure else ("ws://", "; if it speaks TLS, use tcps://")
    if isinstance(error, FrameTooLarge) and error.looks_like == "HTTP":
        return f"the server speaks HTTP on this port: use {ws}, or the port of its TCP protocol"
    if isinstance(error, FrameTooLarge) and error.looks_like == "TLS":
        return "the server speaks TLS on this port: use tcps://"
    if isinstance(error, FrameError) and error.code == "UNKNOWN_FRAME_TYPE":
        return f"{words}; is tcp_dialect what the server has?"
    if isinstance(error, PeerTimeout | StreamEnded):
        hint = f"a server of this protocol speaks first: if this is its WebSocket port, use {ws}{tls}"
        return f"{words}; {hint}"
    return words

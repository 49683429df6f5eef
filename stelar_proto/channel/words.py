"""What went wrong with a connection, in words for people: what happened, and what may have to be changed."""

from __future__ import annotations

# What OpenSSL, depending on its version, calls an answer that is no TLS record.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def words_for(error: Exception) -> str:
    """Return what ``error``, of the system, TLS or a peer, says, or what is known to stand behind it."""
    if isinstance(error, ConnectionRefusedError) or isinstance(error.__cause__, ConnectionRefusedError):
        return "connection refused"
    if getattr(error, "reason", None) in _NO_TLS:
        return "the server does not speak TLS on this port"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

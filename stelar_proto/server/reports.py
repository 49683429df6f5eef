"""What the server logs about its clients: under which fields, and how loud.

What a client can set off at will is a warning the first time on each connection, and what connections can,
one a minute. The others are said more quietly, and counted: nobody fills a log from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stelar_proto.channel.logs import Repeats

if TYPE_CHECKING:
    from .peer import Peer

_INTERVAL = 60.0
"""Seconds between two warnings of one kind about connections."""


def fields_of(
    peer: Peer | None, *, event: str | None = None, reason: str | None = None, **others: Any
) -> dict[str, Any]:
    """Return the ``extra`` of a record: the same fields in all of them, None where there is no such thing.

    Arguments:
        peer: whom it is about, if it is about one client.
        event: the message's name.
        reason: why, in words.
        others: fields that only some records have.
    """
    return {
        "client_id": None if peer is None else peer.id or None,
        "remote_address": None if peer is None else peer.remote_address,
        "transport": None if peer is None else peer.protocol,
        "event": event,
        "reason": reason,
        **others,
    }


def warn(peer: Peer, kind: str, message: str, *arguments: object, **fields: Any) -> None:
    """Log what a client set off: as a warning, or as DEBUG if it is not the first of this ``kind``.

    Arguments:
        kind: what :func:`tell_repeats` calls it.
        message, arguments: of the record.
        fields: see :func:`fields_of`.
    """
    if peer.repeats is None:
        peer.repeats = Repeats()
    level = peer.repeats.level_of(kind)
    peer.server.logger.log(level, message, *arguments, extra=fields_of(peer, **fields))


def tell_repeats(peer: Peer) -> None:
    """A connection has ended: tell how often there was what was said quietly."""
    repeats = peer.repeats
    if repeats is not None and (quiet := repeats.quiet()):
        extra = fields_of(peer, reason=str(repeats), repeats=quiet)
        peer.server.logger.warning(
            "client %s had more: %s", peer.id or peer.remote_address, repeats, extra=extra
        )


class Pace:
    """How often there may be a warning where each is about another connection."""

    def __init__(self) -> None:
        self._warned_at: dict[str, float] = {}

    def may_warn(self, kind: str, now: float) -> bool:
        """Tell whether it is time for another warning of ``kind``, which then was this one."""
        if now < self._warned_at.get(kind, -_INTERVAL) + _INTERVAL:
            return False
        self._warned_at[kind] = now
        return True

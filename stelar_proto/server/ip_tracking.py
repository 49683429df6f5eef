"""How many connections come from one address: who may come in, and who has left again.

A connection is counted from its first byte, or, behind a trusted proxy, from when its address is known; it is
counted until its stream is gone, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from stelar_proto.channel.handlers import FAULTS
from stelar_proto.session import Deferred
from stelar_proto.ws import Request

from .addresses import client_address, is_within, parse_address, plain_address
from .background import Background, outcome
from .reports import fields_of

if TYPE_CHECKING:
    from .application import ServerApplication
    from .peer import Peer


class IpTracker(Protocol):
    """A count of connections by address that is the application's own; each method may be ``async``.

    A connection is checked, then added if it may come, and removed when it has gone. Every ``add`` is
    followed by one ``remove``, even if ``add`` raised, for nobody knows what it did before that; so it must
    be no mistake to remove an address that is not known, or has nobody left.
    """

    def check(self, ip: str) -> bool | Awaitable[bool]:
        """Return whether another connection may come from ``ip``."""
        ...

    def add(self, ip: str) -> object:
        """Count a connection."""
        ...

    def remove(self, ip: str) -> object:
        """Count it no more."""
        ...

    def get_count(self, ip: str) -> int | Awaitable[int]:
        """Return how many connections there are from ``ip``: for those who watch; the server does not ask."""
        ...

    def cleanup(self) -> object:
        """Forget what has run out; called once a minute."""
        ...


class ConnectionCounts:
    """The built-in tracker.

    Arguments:
        limit: returns how many connections may come from one address, as it is configured now.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many addresses there are."""
        return len(self._counts)

    def check(self, ip: str) -> bool:
        return self.get_count(ip) < self._limit()

    def add(self, ip: str) -> None:
        self._counts[ip] = self.get_count(ip) + 1

    def remove(self, ip: str) -> None:
        if self._counts[ip] == 1:
            del self._counts[ip]
        else:
            self._counts[ip] -= 1

    def get_count(self, ip: str) -> int:
        return self._counts.get(ip, 0)

    def cleanup(self) -> None:
        """There is nothing to do: an address goes with its last connection."""


class Place:
    """One connection's place among those of its address."""

    __slots__ = ("has_left", "ip", "is_being_checked", "is_counted", "is_refused")

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.is_refused = False
        """Whether there were too many already."""
        self.is_counted = False
        self.has_left = False
        self.is_being_checked = False
        """Whether a tracker is asked about it; nobody needs the answer when it has gone."""


class Gate:
    """Where connections are counted, in and out.

    Arguments:
        server: whose connections they are.
        background: for what nobody waits for.
    """

    def __init__(self, server: ServerApplication, background: Background) -> None:
        self.counts = ConnectionCounts(lambda: server.config.max_connections_per_ip)
        self._server = server
        self._custom = server.config.ip_tracker
        self._background = background
        self._logger = server.logger

    def begin_handshake(self, kind: str, address: str) -> Callable[[], object] | None:
        """Count a connection while its TLS handshake is under way; :meth:`arrive` counts it from then on.

        Return what ends that, or None if there are too many. An ``ip_tracker`` is not asked about those: they
        count among themselves.
        """
        if self._is_proxy(address):
            return lambda: None
        place = Place(plain_address(address))
        if not self.counts.check(place.ip):
            words = "too many connections, and it wants a TLS handshake"
            extra = fields_of(None, reason=words, remote_address=place.ip, transport=kind)
            self._logger.info("refused %s: %s", place.ip, words, extra=extra)
            return None
        place.is_counted = True
        self.counts.add(place.ip)
        return partial(self._end_handshake, place)

    def _end_handshake(self, place: Place) -> None:
        if place.is_counted:
            place.is_counted = False
            self.counts.remove(place.ip)

    def arrive(self, peer: Peer) -> Deferred | None:
        """Count a new connection; return the rest if that takes a while.

        That of a trusted proxy that speaks WebSocket waits for :meth:`identify`.
        """
        waits = peer.protocol == "ws" and self.is_trusted(peer)
        return None if waits else self._count(peer)

    def is_trusted(self, peer: Peer) -> bool:
        """Tell whether a new connection is one of ``trusted_proxies``."""
        if peer.remote_address is None:
            return self._server.config.trusts_unix(peer.protocol)
        return self._is_proxy(peer.remote_address)

    def _is_proxy(self, address: str) -> bool:
        parsed = parse_address(address)
        return parsed is not None and is_within(parsed, self._server.config.proxy_networks)

    def identify(self, peer: Peer, request: Request) -> Deferred | None:
        """A proxy's ``request`` tells who the client is: count it, if it was not; return the rest of that."""
        if peer.place is not None or (peer.remote_address is None and not self.is_trusted(peer)):
            return None
        lines = request.headers.get_all("X-Forwarded-For")
        peer.remote_address = client_address(peer.remote_address, lines, self._server.config.proxy_networks)
        return self._count(peer)

    def _count(self, peer: Peer) -> Deferred | None:
        if peer.remote_address is None:  # a Unix socket's
            return None
        peer.place = place = Place(peer.remote_address)
        if self._custom is not None:
            return self._ask(self._custom, place, peer)
        place.is_counted = self.counts.check(place.ip)
        place.is_refused = not place.is_counted
        if place.is_counted:
            self.counts.add(place.ip)
        return None

    async def _ask(self, tracker: IpTracker, place: Place, peer: Peer) -> None:
        with self._background.busy():
            place.is_being_checked = True
            try:
                place.is_refused = not await self._may_enter(tracker, peer, place.ip)
            finally:
                place.is_being_checked = False
            if place.is_refused or place.has_left:
                return
            try:
                await outcome(tracker.add(place.ip))
            except FAULTS as error:
                extra = fields_of(peer, reason=type(error).__name__)
                self._logger.exception("ip_tracker.add raised", extra=extra)
            finally:  # cancelled too: nobody knows how far it came
                place.is_counted = True
                if place.has_left:
                    self._remove(tracker, place, peer)

    def leave(self, peer: Peer) -> None:
        """A connection is gone."""
        place = peer.place
        if place is not None:
            place.has_left = True
            if place.is_counted:
                self._remove(self.counts if self._custom is None else self._custom, place, peer)

    def _remove(self, tracker: IpTracker, place: Place, peer: Peer) -> None:
        place.is_counted = False
        self._background.call("ip_tracker.remove", tracker.remove, place.ip, peer=peer)

    async def _may_enter(self, tracker: IpTracker, peer: Peer, ip: str) -> bool:
        try:
            return bool(await outcome(tracker.check(ip)))
        except FAULTS as error:
            extra = fields_of(peer, reason=type(error).__name__)
            self._logger.exception("ip_tracker.check raised; the connection may come", extra=extra)
            return True

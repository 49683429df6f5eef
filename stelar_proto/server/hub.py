"""Who is here: clients by id, rooms by name. Nothing else remembers either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    """What a hub needs to know of a client."""

    @property
    def id(self) -> str: ...

    @property
    def rooms(self) -> set[str]: ...


M = TypeVar("M", bound=Member)


class Hub(Generic[M]):
    """The registry of one namespace.

    A room exists from its first member to its last. Order is the order of arrival, for clients and members
    alike, so that broadcasts are reproducible.
    """

    def __init__(self) -> None:
        self._clients: dict[str, M] = {}
        self._rooms: dict[str, dict[str, M]] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[M]:
        return iter(self._clients.values())

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._clients

    def get(self, client_id: str) -> M | None:
        """Return the client of that id, if it is here."""
        return self._clients.get(client_id)

    def add(self, member: M) -> None:
        """Enter a client, under an id that nobody else has."""
        assert member.id not in self._clients
        self._clients[member.id] = member

    def remove(self, member: M) -> None:
        """Take a client out, and out of every room."""
        if self._clients.get(member.id) is member:
            for room in tuple(member.rooms):
                self.leave(member, room)
            del self._clients[member.id]

    def join(self, member: M, room: str) -> bool:
        """Put a client into a room; False if it is not here, or in the room already."""
        # Somebody else may go by the same id by now: generators may give it again to who comes back.
        if room in member.rooms or self._clients.get(member.id) is not member:
            return False
        self._rooms.setdefault(room, {})[member.id] = member
        member.rooms.add(room)
        return True

    def leave(self, member: M, room: str) -> bool:
        """Take a client out of a room; False if it was not in it."""
        if room not in member.rooms:
            return False
        member.rooms.discard(room)
        members = self._rooms[room]
        del members[member.id]
        if not members:
            del self._rooms[room]
        return True

    @property
    def room_count(self) -> int:
        """How many rooms there are."""
        return len(self._rooms)

    def has_room(self, room: str) -> bool:
        """Tell whether somebody is in ``room``."""
        return room in self._rooms

    def rooms(self) -> list[str]:
        """Return the names of all rooms, the oldest first."""
        return list(self._rooms)

    def members(self, room: str | None = None) -> Iterable[M]:
        """Return the clients in ``room``, or all; a view: do not change the hub while iterating."""
        if room is None:
            return self._clients.values()
        members = self._rooms.get(room)
        return () if members is None else members.values()

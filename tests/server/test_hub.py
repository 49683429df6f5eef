"""Who is where: the hub held to a table of pairs."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stelar_proto.server.hub import Hub


class Member:
    def __init__(self, id_: str) -> None:
        self.id = id_
        self.rooms: set[str] = set()


def test_an_empty_hub() -> None:
    hub: Hub[Member] = Hub()
    assert len(hub) == 0
    assert list(hub) == list(hub.members()) == list(hub.members("a")) == []
    assert hub.rooms() == []
    assert hub.get("x") is None
    assert "x" not in hub


def test_order_is_the_order_of_arrival() -> None:
    hub: Hub[Member] = Hub()
    members = [Member(name) for name in "cab"]
    for member in members:
        hub.add(member)
    for member in reversed(members):
        assert hub.join(member, "hall")
    assert [member.id for member in hub] == ["c", "a", "b"]
    assert [member.id for member in hub.members("hall")] == ["b", "a", "c"]
    hub.join(members[0], "other")
    assert hub.rooms() == ["hall", "other"]


def test_an_id_has_one_member() -> None:
    hub: Hub[Member] = Hub()
    hub.add(Member("a"))
    with pytest.raises(AssertionError):
        hub.add(Member("a"))


def test_who_is_not_here_does_not_count_even_under_the_id_of_somebody_who_is() -> None:
    hub: Hub[Member] = Hub()
    here, impostor = Member("a"), Member("a")
    hub.add(here)
    assert not hub.join(impostor, "hall")
    assert impostor.rooms == set()
    assert hub.join(here, "hall")
    hub.remove(impostor)
    assert hub.get("a") is here
    assert list(hub.members("hall")) == [here]


class HubMachine(RuleBasedStateMachine):
    """The model: who is here, and pairs of client and room."""

    def __init__(self) -> None:
        super().__init__()
        self.hub: Hub[Member] = Hub()
        self.members = {name: Member(name) for name in "abc"}
        self.here: set[str] = set()
        self.pairs: set[tuple[str, str]] = set()

    names = st.sampled_from("abc")
    rooms = st.sampled_from(["r", "s", ""])

    @rule(name=names)
    def add(self, name: str) -> None:
        if name not in self.here:
            self.hub.add(self.members[name])
            self.here.add(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.hub.remove(self.members[name])
        self.here.discard(name)
        self.pairs = {pair for pair in self.pairs if pair[0] != name}

    @rule(name=names, room=rooms)
    def join(self, name: str, room: str) -> None:
        happens = name in self.here and (name, room) not in self.pairs
        assert self.hub.join(self.members[name], room) is happens
        if happens:
            self.pairs.add((name, room))

    @rule(name=names, room=rooms)
    def leave(self, name: str, room: str) -> None:
        happens = (name, room) in self.pairs
        assert self.hub.leave(self.members[name], room) is happens
        self.pairs.discard((name, room))

    @invariant()
    def agrees(self) -> None:
        assert {member.id for member in self.hub} == self.here
        assert len(self.hub) == len(self.here)
        assert set(self.hub.rooms()) == {room for _, room in self.pairs}
        assert self.hub.room_count == len(self.hub.rooms())
        for room in ("r", "s", ""):
            assert {member.id for member in self.hub.members(room)} == {n for n, r in self.pairs if r == room}
            assert self.hub.has_room(room) is any(r == room for _, r in self.pairs)
        for name, member in self.members.items():
            assert member.rooms == {room for n, room in self.pairs if n == name}
            assert (name in self.hub) is (name in self.here)
            assert self.hub.get(name) is (member if name in self.here else None)


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)

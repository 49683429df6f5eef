"""The balance sheet finds what it is there to find; a soak itself is not a test: ``make soak``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak.balance import Sheet, check_lives, check_registries, check_server, compare_censuses


def life(*connections: tuple[str, int], said: int, **counts: int) -> dict[str, Any]:
    return {"name": "h1", "connections": connections, "said": said, "dropped": 0, "parted": True, **counts}


def account(connection: str, first: int, last: int, *, code: int = 1000, **more: int) -> dict[str, Any]:
    numbers = {"first": first, "last": last, "events": last - first + 1 if first else 0}
    return {"id": connection, "code": code, "addressed": 0, "dropped": 0, "faults": 0, **numbers, **more}


def faults_of(life: dict[str, Any], *accounts: dict[str, Any]) -> list[str]:
    check_lives(sheet := Sheet(), [life], accounts)
    return sheet.faults


def test_what_was_said_was_handled_or_on_its_way_when_the_connection_was_cut() -> None:
    one, two = account("a", 1, 5, code=4000, addressed=3), account("b", 8, 9, addressed=2)
    assert faults_of(life(("a", 1), ("b", 2), said=9, requests=2, answers=2), one, two) == []


@pytest.mark.parametrize(
    ("said", "heard", "accounts", "fault"),
    [
        (9, (0, 0), [account("a", 1, 5), account("b", 8, 9)], "2 lost in front of"),
        (9, (0, 0), [account("a", 1, 5, code=4000), account("b", 5, 9)], "handled twice"),
        (9, (0, 0), [account("a", 1, 5, code=4000), account("b", 6, 8)], "lost its last words"),
        (5, (0, 0), [account("a", 1, 5, faults=1), account("b", 0, 0)], "out of order"),
        (4, (0, 0), [account("a", 1, 5), account("b", 0, 0)], "said 4, but 5"),
        (5, (4, 0), [account("a", 1, 5, addressed=3), account("b", 0, 0)], "heard 1 too many"),
    ],
)
def test_what_does_not_balance_is_found(
    said: int, heard: tuple[int, int], accounts: list[dict[str, Any]], fault: str
) -> None:
    faults = faults_of(life(("a", heard[0]), ("b", heard[1]), said=said), *accounts)
    assert any(fault in each for each in faults)


def test_a_request_that_did_not_end_is_found() -> None:
    [fault] = faults_of(life(said=0, requests=3, answers=2))
    assert fault.startswith("requests: 3 is not")


def test_messages_that_were_neither_handled_nor_counted_are_found() -> None:
    stats = dict.fromkeys(("total_connections", "total_messages_sent", "dropped_messages"), 0)
    stats |= {"total_messages_received": 9, "invalid_messages": 1, "rate_limited_messages": 2}
    check_server(sheet := Sheet(), stats, {"events": 6})
    assert sheet.faults == []
    check_server(sheet, stats, {"events": 5})
    assert len(sheet.faults) == 1


def test_what_is_left_is_found() -> None:
    before = {"rss": 100, "descriptors": 9, "tasks": 3, "timers": 1, "objects": 7, "our objects": {"Hub": 1}}
    compare_censuses(sheet := Sheet(), "server", before, {**before, "rss": 104})
    check_registries(sheet, {"rooms": 0})
    assert sheet.faults == []
    after = {**before, "rss": 106, "tasks": 4, "our objects": {"Hub": 1, "Peer": 2}}
    compare_censuses(sheet, "server", before, after)
    check_registries(sheet, {"rooms": 1})
    assert [fault.partition(" left")[0] for fault in sheet.faults] == [
        "server: memory has grown by 6.0%",
        "server: tasks are",
        "server: objects of Peer are",
        "server: 1 rooms are",
    ]

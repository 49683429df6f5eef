"""The balance sheet: what a soak found before and after, what was said and what was heard, line by line.

Responsible for what must be equal; not for running anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]

GOODBYES = (1000, 1001)
"""How a connection ended that its client closed in good order: nothing that it said is lost."""
MOST_GROWTH = 0.05
"""Of the memory, since the warm-up."""
ENDS = ("answers", "ConnectionLost", "AckTimeout", "StateError", "abandoned")
"""What a request may come to."""


@dataclass
class Sheet:
    """What is to be printed, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, title: str, left: int, **right: int) -> None:
        """``left`` must be the sum of what it is made of."""
        sum_of = " + ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in right.items())
        self.lines.append(f"  {title}: {left:,} = {sum_of}")
        if left != sum(right.values()):
            self.faults.append(f"{title}: {left:,} is not {sum_of}")

    def note(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def demand(self, condition: bool, fault: str) -> None:
        if not condition:
            self.faults.append(fault)


def compare_censuses(sheet: Sheet, who: str, before: Record, after: Record, *, slack: int = 0) -> None:
    """Nothing may be left of what came and went; ``slack``: bytes of memory that do not count as growth."""
    growth = after["rss"] / before["rss"] - 1
    was, now = (f"{each['rss'] / 2**20:.1f} MiB" for each in (before, after))
    sheet.note(f"{who}: {was} after the warm-up, {now} at the end: {growth:+.1%}")
    is_small = after["rss"] - before["rss"] <= max(slack, MOST_GROWTH * before["rss"])
    sheet.demand(is_small, f"{who}: memory has grown by {growth:.1%}")
    counted = ("descriptors", "tasks", "timers", "objects")
    sheet.note(f"{who}: " + ", ".join(f"{before[name]:,} and {after[name]:,} {name}" for name in counted))
    left = {name: (before[name], after[name]) for name in counted[:-1]}
    known: dict[str, int] = before["our objects"]
    left |= {
        f"objects of {kind}": (known.get(kind, 0), count) for kind, count in after["our objects"].items()
    }
    for name, (least, count) in left.items():
        sheet.demand(count <= least, f"{who}: {name} are left: {least} before, {count} now")


def check_registries(sheet: Sheet, registries: dict[str, int]) -> None:
    """Everybody has gone, and nobody remembers them."""
    sheet.note("registries: " + ", ".join(f"{count} {name}" for name, count in registries.items()))
    for name, count in registries.items():
        sheet.demand(not count, f"server: {count} {name} are left")


def check_server(sheet: Sheet, stats: Record, handled: Record) -> None:
    """Each message that came in was handled, or dropped and counted."""
    sheet.add(
        "messages received by the server",
        stats["total_messages_received"],
        **handled,
        invalid=stats["invalid_messages"],
        over_a_rate_limit=stats["rate_limited_messages"],
    )
    sheet.note(
        f"the server took in {stats['total_connections']:,} clients, sent {stats['total_messages_sent']:,} "
        f"messages and dropped {stats['dropped_messages']:,}"
    )


def check_lives(sheet: Sheet, lives: Iterable[Record], accounts: Iterable[Record]) -> None:
    """What the clients say they said, against what the server says it handled, connection by connection."""
    by_id = {account["id"]: account for account in accounts}
    totals: Counter[str] = Counter()
    for life in lives:
        totals["lives"] += 1
        totals["connections"] += len(life["connections"])
        totals["said"] += life["said"]
        for count in ("parted", "cuts", "refused", "tallies", "requests", *ENDS):
            totals[count] += life.get(count, 0)
        connections = [(by_id.pop(connection), heard) for connection, heard in life["connections"]]
        lost = _follow(sheet, life, [account for account, _ in connections])
        dropped = min(lost, life["dropped"])  # among which are requests and the like
        totals["dropped"] += dropped
        totals["cut off"] += lost - dropped
        for account, heard in connections:
            missing = account["addressed"] - heard
            sheet.demand(missing >= 0, f"{life['name']}: heard {-missing} too many: {account}")
            totals["events"] += account["events"]
            totals["addressed"] += account["addressed"]
            totals["heard"] += heard
            totals["dropped for them"] += min(account["dropped"], missing)
    _add_up(sheet, totals)


def _follow(sheet: Sheet, life: Record, accounts: Iterable[Record]) -> int:
    """Follow the numbers of a life over its connections; return how many were lost, where that may be."""
    name: str = life["name"]
    said: int = life["said"]
    at = lost = 0
    ended_well = True
    for account in accounts:
        sheet.demand(not account["faults"], f"{name}: messages out of order: {account}")
        if account["events"]:
            sheet.demand(account["first"] > at, f"{name}: handled twice: {account} after {at}")
            gap = account["first"] - at - 1
            sheet.demand(not gap or not ended_well, f"{name}: {gap} lost in front of {account}")
            lost += gap
            at = account["last"]
            ended_well = True
        ended_well &= account["code"] in GOODBYES
    sheet.demand(said >= at, f"{name}: said {said}, but {at} was handled")
    sheet.demand(said == at or not ended_well, f"{name}: lost its last words, from {at} to {said}")
    return lost + said - at


def _add_up(sheet: Sheet, totals: Counter[str]) -> None:
    sheet.note(
        f"{totals['lives']:,} honest lives over {totals['connections']:,} connections, "
        f"{totals['cuts']:,} of which the server was asked to cut; {totals['refused']:,} calls refused; "
        f"{totals['parted']:,} parted in good order"
    )
    sheet.add(
        "messages accepted by the clients",
        totals["said"],
        handled_by_the_server=totals["events"],
        dropped_and_counted=totals["dropped"],
        on_their_way_when_cut=totals["cut off"],
    )
    sheet.add("requests", totals["requests"], **{name: totals[name] for name in ENDS})
    dropped = totals["dropped for them"]
    sheet.add(
        "broadcasts, to each of their receivers",
        totals["addressed"],
        heard=totals["heard"],
        dropped_and_counted=dropped,
        on_their_way_at_an_end=totals["addressed"] - totals["heard"] - dropped,
    )
    sheet.note(f"compared in between, to the last message: {totals['tallies']:,} times")

"""Differences between handshakes: what a row says, and the rules that rows of servers and clients share.

The tables are :mod:`.websockets_handshakes` and :mod:`.wsproto_handshakes`. As in :mod:`.differences`, a row
says as what the other library reads a head, or what it answers where we answer something else, and the rows
of a library foretell all of what it answers. Each example is held against the installed version by
``test_handshake.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from stelar_proto.ws.headers import is_token

from .handshakes import Handshake, Verdict, accept_of
from .heads import Head, Line

REQUEST_LINE = re.compile(r"([^ ]+) ([^ ]+) (HTTP/[0-9]\.[0-9])")
STATUS_LINE = re.compile(r"(HTTP/[0-9]\.[0-9]) ([0-9]{3})(| .*)")


def _as_it_stands(head: Head) -> Head:
    return head


def _unchanged(head: Head, verdict: Verdict) -> Verdict:
    return verdict


class Difference(NamedTuple):
    """One row.

    Attributes:
        section: of RFC 6455, unless another is named, and what it says.
        right: who keeps to it; "both" where it leaves the choice.
        theirs: what the other library does.
        example: a head that shows it.
        our_verdict: what we make of the example.
        their_verdict: what they make of it.
        reads_as: the head of which we make what they make of this one.
        judges: their verdict, given this head and our verdict on the one that they read it as.
    """

    section: str
    right: Literal["stelar", "both", "theirs"]
    theirs: str
    example: Head
    our_verdict: Verdict
    their_verdict: Verdict
    reads_as: Callable[[Head], Head] = _as_it_stands
    judges: Callable[[Head, Verdict], Verdict] = _unchanged


def foretell(rows: list[Difference], handshake: Handshake, head: Head) -> Verdict:
    """What a library makes of a head, by what we make of one and its rows, in their order."""
    read = head
    for row in rows:
        read = row.reads_as(read)
    verdict = handshake("stelar", [read.encode()])
    for row in rows:
        verdict = row.judges(read, verdict)
    # Whatever a server takes for a key, it is the key as it stands that it answers.
    if verdict.accept is not None:
        verdict = verdict._replace(
            accept=accept_of(", ".join(lines_repaired(head).values("sec-websocket-key")))
        )
    return verdict


# --- What rows share ---------------------------------------------------------------------------------------


def elements(value: str) -> list[str]:
    """Return what a list has between its commas, empty elements left out (RFC 9110, section 5.6.1)."""
    return [element for element in (part.strip(" \t") for part in value.split(",")) if element]


def is_list(value: str) -> bool:
    """Return whether it is tokens, at least one; those of Upgrade may have a version (RFC 9110, 7.8)."""
    found = elements(value)
    return bool(found) and all(is_token(element.replace("/", "", 1)) for element in found)


def lines_repaired(head: Head) -> Head:
    """The head with CR LF at its ends, folded lines made one, and no control characters."""
    lines: list[Line] = []
    for line in head.lines:
        line = line._replace(end="\r\n")
        if line.is_folded and lines:
            value = f"{lines[-1].value} {f'{line.name}{line.separator}'.lstrip()}{line.value}"
            line = lines.pop()._replace(value=value)
        value = re.sub(r"\r\n[ \t]+", " ", line.value).replace("\x01", "")
        lines.append(line._replace(value=value))
    return head._replace(start_end="\r\n", lines=tuple(lines))


def other_upgrade(head: Head) -> Head:
    """A head that asks for an upgrade, but not for that to a WebSocket."""
    return head.with_values("upgrade", "other")


def nothing_in_front(refusal: Verdict) -> Callable[[Head, Verdict], Verdict]:
    """The refusal of a head that does not stand in front."""

    def judges(head: Head, verdict: Verdict) -> Verdict:
        return refusal if head.before else verdict

    return judges


def interim_is_final(head: Head, verdict: Verdict) -> Verdict:
    """The status of the first response, be it an interim one."""
    match = STATUS_LINE.match(head.before or head.start)
    interim = match is not None and match[2] != "101" and match[2].startswith("1")
    return Verdict(int(match[2])) if match and interim else verdict

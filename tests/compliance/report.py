"""What the suite found: reading its reports, judging them, and the words for them.

A target passes when every case that was asked for has a result, and each result is OK or INFORMATIONAL, for
what the peer did in the case and for how it closed the connection. Anything else fails it, NON-STRICT too.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Those that a table always shows; others get a column when they occur.
_COLUMNS = ("OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "UNCLEAN", "FAILED")
_PASSING = ("OK", "INFORMATIONAL")


@dataclass(frozen=True)
class Case:
    """One case of the suite, and what it found."""

    name: str
    behavior: str
    behavior_close: str
    description: str
    """What the case does and what went wrong; empty for a case that passed."""

    @property
    def verdict(self) -> str:
        """The worse of both results; that of the case itself if both are bad."""
        results = (self.behavior, self.behavior_close)
        for result in results:
            if result not in _PASSING:
                return result
        return "INFORMATIONAL" if "INFORMATIONAL" in results else "OK"

    @property
    def passed(self) -> bool:
        return self.verdict in _PASSING


@dataclass(frozen=True)
class Report:
    """The results of one target.

    Arguments:
        target: "trio-server" for example.
        cases: those with a result.
        seconds: how long it took.
        problem: why the run did not come to its end; empty if it did.
        expected_count: how many cases should have a result.
    """

    target: str
    cases: Sequence[Case]
    seconds: float
    problem: str = ""
    expected_count: int = field(kw_only=True)

    @property
    def passed_count(self) -> int:
        return sum(case.passed for case in self.cases)

    @property
    def failed_count(self) -> int:
        """The cases that did not pass or have no result; at least 1 if anything else went wrong."""
        failed = len(self.cases) - self.passed_count + abs(self.expected_count - len(self.cases))
        return max(failed, 1 if self.problem else 0)

    @property
    def complaints(self) -> list[str]:
        """What is wrong, a line or two each."""
        lines = [self.problem] if self.problem else []
        if len(self.cases) != self.expected_count:
            lines.append(f"{len(self.cases)} cases have a result, and not {self.expected_count}")
        for case in self.cases:
            if not case.passed:
                results = f"{case.behavior}, closing {case.behavior_close}"
                lines.append(f"{case.name}: {results}\n    {case.description}")
        return [f"{self.target}: {line}" for line in lines]


def read_cases(folder: Path, agent: str) -> list[Case]:
    """The results that the suite wrote into ``folder`` for ``agent``; none if it did not come to that."""
    try:
        results = json.loads((folder / "index.json").read_text())[agent]
    except (OSError, ValueError, KeyError):
        return []
    cases = []
    for name in sorted(results, key=lambda name: [int(part) for part in name.split(".")]):
        result = results[name]
        case = Case(name, result["behavior"], result["behaviorClose"], "")
        if not case.passed:
            details = json.loads((folder / result["reportfile"]).read_text())
            texts = [details["description"]]
            texts += [] if case.behavior in _PASSING else [details["result"]]
            texts += [] if case.behavior_close in _PASSING else [details["resultClose"]]
            case = Case(name, case.behavior, case.behavior_close, " / ".join(map(_plain, texts)))
        cases.append(case)
    return cases


def table(reports: Sequence[Report]) -> str:
    """One row a target: how often each result occurred, all cases, seconds."""
    verdicts = {case.verdict for report in reports for case in report.cases}
    columns = [*_COLUMNS, *sorted(verdicts - set(_COLUMNS))]
    rows = [["target", *columns, "cases", "seconds"]]
    for report in reports:
        found = [case.verdict for case in report.cases]
        counts = [str(found.count(column)) for column in columns]
        rows.append([report.target, *counts, str(len(found)), f"{report.seconds:.1f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def summary(reports: Sequence[Report]) -> str:
    """The closing line."""
    passed = sum(report.passed_count for report in reports)
    return f"{passed} passed, {sum(report.failed_count for report in reports)} failed"


def is_success(reports: Sequence[Report]) -> bool:
    """Whether targets were tested, and all of them passed."""
    return bool(reports) and all(report.failed_count == 0 for report in reports)


def _plain(text: str) -> str:
    """``text`` of a report, which is HTML, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())

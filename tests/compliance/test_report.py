"""A run of the suite passes when every case has a result and every result is good; nothing else passes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.compliance.report import Case, Report, is_success, read_cases, summary, table

CASE_COUNT = 301
GOOD = [Case(f"1.1.{number}", "OK", "OK", "") for number in range(1, CASE_COUNT + 1)]


def report(*changed: Case, problem: str = "") -> Report:
    """The report of a complete run in which ``changed`` came out otherwise."""
    return report_of("trio-server", [*changed, *GOOD[len(changed) :]], 14.96, problem)


def report_of(target: str, cases: Sequence[Case], seconds: float, problem: str = "") -> Report:
    return Report(target, cases, seconds, problem, expected_count=CASE_COUNT)


def write_reports(folder: Path, *results: tuple[str, str, str]) -> None:
    """What the suite writes for the agent "trio-server": an index, and a file for each case."""
    index = {}
    for name, behavior, behavior_close in results:
        file = f"trio_server_case_{name.replace('.', '_')}.json"
        index[name] = {
            "behavior": behavior,
            "behaviorClose": behavior_close,
            "duration": 2,
            "remoteCloseCode": 1000,
            "reportfile": file,
        }
        details = {
            "description": "Send a ping.<br/><br/>Then &lt;wait&gt;.",
            "result": "No pong came.",
            "resultClose": "The stream was cut.",
        }
        (folder / file).write_text(json.dumps(details))
    (folder / "index.json").write_text(json.dumps({"trio-server": index}))


def test_a_run_of_good_results_passes() -> None:
    informational = Case("7.1.6", "INFORMATIONAL", "INFORMATIONAL", "")
    assert report(informational).complaints == []
    assert is_success([report(), report(informational)])
    assert summary([report(), report(informational)]) == "602 passed, 0 failed"


@pytest.mark.parametrize(
    "result",
    [
        "FAILED",
        "NON-STRICT",
        "UNCLEAN",
        "UNIMPLEMENTED",
        "WRONG CODE",
        "FAILED BY CLIENT",
        "a word yet unknown",
    ],
)
@pytest.mark.parametrize("closing", [False, True])
def test_one_result_that_is_neither_ok_nor_informational_fails_the_run(result: str, closing: bool) -> None:
    bad = Case("3.2", "OK", result, "why") if closing else Case("3.2", result, "OK", "why")
    assert bad.verdict == result
    assert not is_success([report(), report(bad)])
    assert summary([report(), report(bad)]) == "601 passed, 1 failed"
    results = f"OK, closing {result}" if closing else f"{result}, closing OK"
    assert report(bad).complaints == [f"trio-server: 3.2: {results}\n    why"]


@pytest.mark.parametrize(
    ("behavior", "behavior_close", "verdict"),
    [
        ("OK", "OK", "OK"),
        ("OK", "INFORMATIONAL", "INFORMATIONAL"),
        ("INFORMATIONAL", "OK", "INFORMATIONAL"),
        ("INFORMATIONAL", "UNCLEAN", "UNCLEAN"),
        ("NON-STRICT", "FAILED", "NON-STRICT"),
    ],
)
def test_a_case_is_as_bad_as_the_worse_of_its_two_results(
    behavior: str, behavior_close: str, verdict: str
) -> None:
    assert Case("1.1.1", behavior, behavior_close, "").verdict == verdict


def test_a_missing_case_fails_the_run() -> None:
    incomplete = report_of("trio-server", GOOD[1:], 14.96)
    assert not is_success([incomplete])
    assert incomplete.complaints == ["trio-server: 300 cases have a result, and not 301"]
    assert summary([incomplete]) == "300 passed, 1 failed"


def test_a_case_too_many_fails_the_run() -> None:
    assert not is_success([report_of("trio-server", [*GOOD, Case("11.1", "OK", "OK", "")], 14.96)])


def test_a_run_that_tested_nothing_fails() -> None:
    assert not is_success([])
    assert not is_success([report_of("trio-server", [], 0.1)])
    assert summary([report_of("trio-server", [], 0.1)]) == "0 passed, 301 failed"


def test_a_run_that_did_not_end_well_fails_though_every_case_passed() -> None:
    cut = report(problem="the echo server ended with status 1")
    assert not is_success([cut])
    assert summary([cut]) == "301 passed, 1 failed"
    assert cut.complaints == ["trio-server: the echo server ended with status 1"]


def test_the_table_has_a_row_for_each_target_and_a_column_for_each_result() -> None:
    informational, wrong = Case("7.1.6", "INFORMATIONAL", "OK", ""), Case("7.9.1", "OK", "WRONG CODE", "why")
    reports = [report_of("one", [*GOOD, informational], 9.04), report_of("two", [wrong], 123.46)]
    assert table(reports).splitlines() == [
        "target   OK  INFORMATIONAL  NON-STRICT  UNIMPLEMENTED  UNCLEAN  FAILED  WRONG CODE  cases  seconds",
        "one     301              1           0              0        0       0           0    302      9.0",
        "two       0              0           0              0        0       0           1      1    123.5",
    ]


# --- Reading ------------------------------------------------------------------------------------------------


def test_results_are_read_in_the_order_of_the_cases(tmp_path: Path) -> None:
    write_reports(tmp_path, ("10.1.1", "OK", "OK"), ("2.10", "OK", "OK"), ("2.9", "INFORMATIONAL", "OK"))
    assert read_cases(tmp_path, "trio-server") == [
        Case("2.9", "INFORMATIONAL", "OK", ""),
        Case("2.10", "OK", "OK", ""),
        Case("10.1.1", "OK", "OK", ""),
    ]


@pytest.mark.parametrize(
    ("behavior", "behavior_close", "words"),
    [
        ("FAILED", "OK", "Send a ping. Then <wait>. / No pong came."),
        ("OK", "UNCLEAN", "Send a ping. Then <wait>. / The stream was cut."),
        ("FAILED", "UNCLEAN", "Send a ping. Then <wait>. / No pong came. / The stream was cut."),
    ],
)
def test_a_bad_result_comes_with_what_the_case_does_and_what_went_wrong(
    tmp_path: Path, behavior: str, behavior_close: str, words: str
) -> None:
    write_reports(tmp_path, ("2.10", behavior, behavior_close))
    assert read_cases(tmp_path, "trio-server") == [Case("2.10", behavior, behavior_close, words)]


@pytest.mark.parametrize("index", [None, "", '{"trio-server": {"1.1.1"', '{"another": {}}'])
def test_an_index_that_is_missing_cut_short_or_not_ours_has_no_results(
    tmp_path: Path, index: str | None
) -> None:
    if index is not None:
        (tmp_path / "index.json").write_text(index)
    assert read_cases(tmp_path, "trio-server") == []

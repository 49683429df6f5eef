"""A run that does not come to its end is a problem of its target; nothing that it started is left behind."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from tests.compliance import targets

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(targets, "REPORTS", tmp_path)
    return tmp_path


@pytest.fixture
def silent_fuzzer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzing server that listens, and never says a word."""

    def command(mode: str, spec: Path) -> list[str]:
        assert mode == "fuzzingserver"
        return [sys.executable, "-c", LISTEN, json.loads(spec.read_text())["url"].rpartition(":")[2]]

    monkeypatch.setattr(targets, "wstest", command)


def port_of(folder: Path) -> int:
    return int(json.loads((folder / "spec.json").read_text())["url"].rpartition(":")[2])


def test_a_server_that_ends_at_its_start_is_a_problem_and_no_case_has_a_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "wstest", lambda mode, spec: [sys.executable, "-c", "raise SystemExit(3)"])
    report = targets.run("trio-client")
    assert report.problem == "the server ended with status 3 at its start"
    assert report.failed_count == targets.USUAL.case_count


@pytest.mark.usefixtures("silent_fuzzer")
def test_a_program_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch, reports: Path) -> None:
    monkeypatch.setattr(targets, "echo", lambda target, port: [sys.executable, "-c", "print('no'); exit(1)"])
    assert targets.run("trio-client").problem == "the echo client ended with status 1"
    assert (reports / "trio-client" / "echo.log").read_text() == "no\n"


@pytest.mark.usefixtures("silent_fuzzer")
def test_a_program_that_does_not_end_is_ended_and_so_is_the_suite(
    monkeypatch: pytest.MonkeyPatch, reports: Path
) -> None:
    monkeypatch.setattr(
        targets, "echo", lambda target, port: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    hurried = targets.USUAL._replace(timeout=0.1)
    assert targets.run("trio-client", hurried).problem == "the echo client did not end within 0.1 seconds"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(reports / "trio-client")), timeout=10)


def test_results_of_an_earlier_run_do_not_count(monkeypatch: pytest.MonkeyPatch, reports: Path) -> None:
    (reports / "trio-client").mkdir()
    (reports / "trio-client" / "index.json").write_text('{"trio-client": {"1.1.1": {}}}')
    monkeypatch.setattr(targets, "wstest", lambda mode, spec: [sys.executable, "-c", ""])
    assert targets.run("trio-client").cases == []

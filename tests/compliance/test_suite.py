"""A Python 2.7 is recognised by running it; where there is none, that is said and is not a success."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.compliance import __main__ as command
from tests.compliance import suite
from tests.compliance.suite import NoPython27, find_python27


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_first_candidate_that_is_a_python_2_7_is_taken_by_its_own_path(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    refusing = program(tmp_path / "refusing", "echo /usr/bin/python2.7; exit 127")
    newer = sys.executable
    found = program(tmp_path / "found", "echo /opt/python2.7")
    later = program(tmp_path / "later", "echo /opt/another")
    assert find_python27([missing, refusing, newer, found, later]) == "/opt/python2.7"


def test_no_candidate_that_is_one_is_an_error_that_says_how_to_get_one() -> None:
    with pytest.raises(NoPython27, match=r"needs a Python 2\.7, and there is none here") as caught:
        find_python27([sys.executable])
    assert "pyenv install 2.7" in str(caught.value)
    assert "PYTHON27" in str(caught.value)


def test_without_a_python_2_7_the_command_ends_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(suite, "ENVIRONMENT", tmp_path / "none")
    monkeypatch.setattr(suite, "_candidates", lambda: iter([sys.executable]))
    assert command.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("The Autobahn suite was not run: ")

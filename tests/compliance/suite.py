"""The Autobahn test suite: a Python 2.7 that can run it, and its own virtual environment.

Not responsible for what is tested with it (:mod:`.targets`), nor for what came out (:mod:`.report`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv-autobahn"
REQUIREMENT = "autobahntestsuite==0.8.2"
VIRTUALENV = "virtualenv<20.22"  # 20.22 ended the support of Python 2.7

_SETUP_TIMEOUT = 900.0  # seconds a step; two of the suite's dependencies may be compiled
_PROBE_TIMEOUT = 60.0

# Left to itself, the fuzzing server listens on every interface of the machine.
_WSTEST = """
import functools
from autobahntestsuite import fuzzing, wstest
fuzzing.listenWS = functools.partial(fuzzing.listenWS, interface="127.0.0.1")
wstest.run()
"""


class NoPython27(Exception):
    """This machine has no Python 2.7."""

    def __init__(self) -> None:
        super().__init__(
            "The Autobahn suite was not run: it needs a Python 2.7, and there is none here.\n"
            "Looked at: $PYTHON27, python2.7 on the PATH, the versions of pyenv.\n"
            "To get one: `pyenv install 2.7.18`, or build it from its source and set PYTHON27 to its path."
        )


class SetupError(Exception):
    """The suite could not be installed; the message ends with what the failing step wrote."""


def wstest(mode: str, spec: Path) -> list[str]:
    """The command that runs the suite in ``mode``, "fuzzingclient" or "fuzzingserver", as ``spec`` says."""
    return [str(_python_of_environment()), "-c", _WSTEST, "-m", mode, "-s", str(spec), "--webport", "0"]


def set_up() -> None:
    """Install the suite into its environment, unless it is there.

    Raises:
        NoPython27: there is nothing to install it into.
        SetupError: a step failed.
    """
    if _is_installed():
        return
    python = find_python27(_candidates())
    print(f"Setting up the Autobahn suite in {ENVIRONMENT.name}, with {python}", file=sys.stderr, flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    # A bare Python 2.7 may lack pip and virtualenv; this Python's virtualenv makes an environment of it all
    # the same. It is needed this once, and its old version is nothing that others should find installed.
    with tempfile.TemporaryDirectory() as tools:
        _step([sys.executable, "-m", "pip", "install", "--quiet", "--target", tools, VIRTUALENV])
        _step([sys.executable, "-m", "virtualenv", "--python", python, str(ENVIRONMENT)], PYTHONPATH=tools)
    _step([str(_python_of_environment()), "-m", "pip", "install", "--quiet", REQUIREMENT])
    if not _is_installed():
        raise SetupError(f"{REQUIREMENT} was installed into {ENVIRONMENT}, but cannot be imported")


def find_python27(candidates: Sequence[str] | Iterator[str]) -> str:
    """The first of ``candidates`` that runs and is a Python 2.7, by the path that it gives of itself.

    Raises:
        NoPython27: none of them is.
    """
    probe = "import sys; print(sys.version_info[:2] == (2, 7) and sys.executable or '')"
    for candidate in candidates:
        if path := _output_of([candidate, "-c", probe]).strip():
            return path
    raise NoPython27


def _candidates() -> Iterator[str]:
    if chosen := os.environ.get("PYTHON27"):
        yield chosen
    yield "python2.7"  # may be a shim of pyenv's that refuses to run
    if root := _output_of(["pyenv", "root"]).strip():
        yield from map(str, sorted(Path(root).glob("versions/2.7*/bin/python2.7"), reverse=True))


def _python_of_environment() -> Path:
    return ENVIRONMENT / "bin" / "python"


def _is_installed() -> bool:
    probe = "import pkg_resources, autobahntestsuite.wstest; pkg_resources.require('%s'); print('yes')"
    return _output_of([str(_python_of_environment()), "-W", "ignore", "-c", probe % REQUIREMENT]) == "yes\n"


def _output_of(command: list[str]) -> str:
    """What ``command`` prints; nothing if it cannot be run or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout if result.returncode == 0 else ""


def _step(command: list[str], **environment: str) -> None:
    try:
        result = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SETUP_TIMEOUT,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{' '.join(command)} did not end within {_SETUP_TIMEOUT:g} seconds") from error
    if result.returncode != 0:
        said = "\n".join(result.stdout.splitlines()[-20:])
        raise SetupError(f"{' '.join(command)} failed with status {result.returncode}:\n{said}")

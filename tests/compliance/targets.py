"""What the suite is let loose on: an echo server and an echo client on every event loop, one after another.

Responsible for the processes: each waits a bounded time, and only those that were started here are ended.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .report import Report, read_cases
from .suite import ROOT, wstest

TARGETS = tuple(f"{loop}-{role}" for role in ("server", "client") for loop in ("asyncio", "uvloop", "trio"))
REPORTS = ROOT / "build" / "compliance"


class Selection(NamedTuple):
    """Some of the suite's cases.

    Attributes:
        cases: which, as the suite names them.
        case_count: how many that are.
        timeout: seconds a target may take.
    """

    cases: list[str]
    case_count: int
    timeout: float


_RFC_6455 = [f"{group}.*" for group in range(1, 11)]
_COMPRESSED = ["12.1.1", "12.2.1", "12.4.2", *(f"13.{number}.1" for number in range(1, 8))]
USUAL = Selection([*_RFC_6455, *_COMPRESSED], 301 + len(_COMPRESSED), 300.0)
"""Groups 1 to 10 in full, and a sample of the two groups of permessage-deflate."""
FULL = Selection([*_RFC_6455, "12.*", "13.*"], 301 + 90 + 126, 7200.0)
_START_TIMEOUT = 30.0
_END_TIMEOUT = 15.0


class TargetError(Exception):
    """A run did not come to its end."""


def run(target: str, selection: Selection = USUAL) -> Report:
    """Run the cases against ``target``, one of :data:`TARGETS`."""
    folder = REPORTS / target
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run found must not count for this one
    folder.mkdir(parents=True)
    started_at = time.monotonic()
    problem = ""
    try:
        (_test_server if target.endswith("-server") else _test_client)(target, folder, selection)
    except TargetError as error:
        problem = str(error)
    cases, seconds = read_cases(folder, target), time.monotonic() - started_at
    return Report(target, cases, seconds, problem, expected_count=selection.case_count)


def _test_server(target: str, folder: Path, selection: Selection) -> None:
    port = _free_port()
    servers = [{"agent": target, "url": f"ws://127.0.0.1:{port}"}]
    fuzzer = wstest("fuzzingclient", _write_spec(folder, selection, servers=servers))
    with _running(echo(target, port), folder / "echo.log") as server:
        _wait_until_it_listens(server, port)
        with _running(fuzzer, folder / "wstest.log") as client:
            _expect_success(client, "the fuzzing client", selection.timeout)
        server.terminate()
        _expect_success(server, "the echo server, told to end,", _END_TIMEOUT)


def _test_client(target: str, folder: Path, selection: Selection) -> None:
    port = _free_port()
    fuzzer = wstest("fuzzingserver", _write_spec(folder, selection, url=f"ws://127.0.0.1:{port}"))
    with _running(fuzzer, folder / "wstest.log") as server:
        _wait_until_it_listens(server, port)
        with _running(echo(target, port), folder / "echo.log") as client:
            _expect_success(client, "the echo client", selection.timeout)


def echo(target: str, port: int) -> list[str]:
    """The command that runs ``target`` as a program: serving on ``port``, or as a client of what is there."""
    return [sys.executable, "-m", "tests.compliance.echo", target, str(port)]


def _write_spec(folder: Path, selection: Selection, **roles: object) -> Path:
    cases = {"cases": selection.cases, "exclude-cases": [], "exclude-agent-cases": {}}
    spec = {"outdir": str(folder), **cases, **roles}
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to ``log``, and is ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    give_up_at = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < give_up_at:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=_START_TIMEOUT).close()
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise TargetError(f"the server ended with status {process.returncode} at its start") from None
            time.sleep(0.05)
        else:
            return
    raise TargetError(f"no server listened within {_START_TIMEOUT:g} seconds")


def _expect_success(process: subprocess.Popen[bytes], name: str, timeout: float) -> None:
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise TargetError(f"{name} did not end within {timeout:g} seconds") from None
    if status != 0:
        raise TargetError(f"{name} ended with status {status}")

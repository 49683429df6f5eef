"""Programs of this project in processes of their own, spoken to over their standard streams."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 20.0
"""Seconds until a program that says nothing, or does not end, has failed."""


class Program:
    """A running ``python -m``; its output is read line by line."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            cwd=ROOT,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        self.said: list[tuple[str, str]] = []
        """Who said what, of the JSON records that were read."""

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def type(self, line: str) -> None:
        """Type a line into the program."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end_of_input(self) -> None:
        """Type the end of input, as Ctrl-D does."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def read_line(self, patience: float = PATIENCE) -> str | None:
        """The next line it prints; None when it has closed its output."""
        return self._lines.get(timeout=patience)

    def read(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next JSON record it prints."""
        line = self.read_line(patience)
        assert line is not None, f"the program has ended: {self.wait()}"
        record: dict[str, Any] = json.loads(line)
        if record["type"] == "said":
            self.said.append((record["name"], record["text"]))
        return record

    def read_until(self, kind: str) -> dict[str, Any]:
        """The next JSON record of that type."""
        while True:
            record = self.read()
            if record["type"] == kind:
                return record

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self) -> tuple[int, str]:
        """Wait until it has ended; its exit status and what it wrote to standard error."""
        status = self._process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        assert self._process.stderr is not None
        return status, self._process.stderr.read()

    def close(self) -> None:
        """End it, however it stands."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


@contextmanager
def running(*arguments: str) -> Iterator[Program]:
    """A program that is ended with the block."""
    program = Program(*arguments)
    try:
        yield program
    finally:
        program.close()


@contextmanager
def serving(runtime: str, *arguments: str) -> Iterator[tuple[Program, int, int]]:
    """The demo's server on free ports; yields it with its WebSocket and its TCP port."""
    command = (f"stelar_runtime_{runtime}", "serve", "--port", "0", "--tcp-port", "0", "--json")
    with running(*command, *arguments) as server:
        listening = server.read()
        yield server, listening["port"], listening["tcp_port"]

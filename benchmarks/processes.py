"""The servers that are measured, each a process of its own that reports what it has taken.

Both ends stand here: :class:`ServerProcess` is the side that measures, :func:`be_a_server` is what the
program of a server does. They talk over the control socket, which is the server's standard input: the server
says on which port it listens, or what is not installed; after that every byte to it is answered with a
:class:`Mark`. The end of that socket is the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from time import process_time
from typing import Any, TypeAlias

from load import PATIENCE, ServerFailed

# A server that takes so much of the processor in so much time, seconds, has nothing to do but to say so.
IDLE_CPU, IDLE_TIME = 0.002, 0.02

PATIENCE_AT_FIRST = 60.0  # seconds; all begin at once, on one processor

Announce: TypeAlias = Callable[[int], None]
"""To be called with the port once the server listens on it."""

Server: TypeAlias = Callable[[Announce], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Mark:
    """What a server has taken since it began: processor time in seconds, memory in bytes, now and at most."""

    cpu: float
    memory: int
    peak: int


# --- The side that measures -------------------------------------------------------------------------------


class ServerProcess:
    """One server.

    Arguments:
        program: the file that runs it.
        library, loop: which of those that it has.
    """

    def __init__(self, program: str, library: str, loop: str) -> None:
        self.library, self.loop = library, loop
        self.port = 0
        self._control, theirs = socket.socketpair()
        self._control.settimeout(PATIENCE_AT_FIRST)
        self._answers = self._control.makefile("rb")
        command = [sys.executable, str(Path(__file__).with_name(program)), library, loop]
        self._process = subprocess.Popen(command, stdin=theirs.fileno())
        theirs.close()

    def __str__(self) -> str:
        return f"{self.library}-{self.loop}"

    def started(self) -> bool:
        """Wait until it listens; False if it cannot, because something is not installed."""
        answer = self._answer()
        if "missing" in answer:
            missing = answer["missing"]
            print(f"{self} is left out: {missing} is not installed (pip install {self.library})")
            return False
        self.port = answer["port"]
        self._control.settimeout(PATIENCE)
        return True

    def mark(self) -> Mark:
        """Ask what it has taken so far."""
        self._control.sendall(b"?")
        return Mark(**self._answer())

    def settle(self) -> None:
        """Wait until it has done what it was asked for: until it needs the processor no more."""
        before = -1.0
        while (cpu := self.mark().cpu) - before > IDLE_CPU:
            before = cpu
            time.sleep(IDLE_TIME)

    def _answer(self) -> Any:
        try:
            line = self._answers.readline()
        except TimeoutError:
            line = b""
        if not line:
            raise ServerFailed(f"{self} says nothing")
        return json.loads(line)

    def end(self) -> None:
        self._answers.close()
        self._control.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# --- The side that is measured ----------------------------------------------------------------------------


def be_a_server(servers: Mapping[str, Mapping[str, Server]]) -> None:
    """Run the server that the command line names, by library and loop, until nobody wants it any more."""
    library, loop = sys.argv[1:]
    control = socket.socket(fileno=sys.stdin.fileno())

    def announce(port: int) -> None:
        control.sendall(json.dumps({"port": port}).encode() + b"\n")
        Thread(target=_answer_marks, args=(control,), daemon=True).start()

    try:
        _run(servers[loop][library], loop, announce)
    except ModuleNotFoundError as error:
        control.sendall(json.dumps({"missing": error.name}).encode() + b"\n")


def _run(server: Server, loop: str, announce: Announce) -> None:
    match loop:
        case "asyncio":
            asyncio.run(server(announce))
        case "uvloop":
            import uvloop

            uvloop.run(server(announce))
        case "trio":
            import trio

            trio.run(server, announce)


def _answer_marks(control: socket.socket) -> None:
    while control.recv(1):
        mark = Mark(process_time(), _memory("VmRSS"), _memory("VmHWM"))
        control.sendall(json.dumps(asdict(mark)).encode() + b"\n")
    os._exit(0)


def _memory(field: str) -> int:
    """Return how many bytes of memory this process occupies; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0

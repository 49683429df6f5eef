"""A headless Chromium, driven over the DevTools protocol: enough of it to load a page and run JavaScript."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--remote-debugging-port=0", "about:blank"),
)
_STARTUP_LINES = 200  # among which Chromium says where it listens


class Page:
    """One open page."""

    def __init__(self, connection: ClientConnection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id

    def evaluate(self, expression: str) -> Any:
        """Run JavaScript, await it if it is a promise, and return its value."""
        arguments = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = _call(self._connection, "Runtime.evaluate", arguments, self._session_id)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, timeout: float = 10.0) -> Any:
        """Return the value of a JavaScript expression as soon as it is truthy."""
        return self.evaluate(
            f"""new Promise((resolve, reject) => {{
                const deadline = performance.now() + {timeout * 1000};
                const look = () => {{
                    const value = ({expression});
                    if (value) resolve(value);
                    else if (performance.now() > deadline) reject(new Error({json.dumps(expression)}));
                    else setTimeout(look, 5);
                }};
                look();
            }})"""
        )


def _call(
    connection: ClientConnection,
    method: str,
    arguments: dict[str, Any],
    session_id: str | None = None,
    *,
    until: str | None = None,
) -> Any:
    """Call a method and return its answer, at the earliest after the event ``until``."""
    message: dict[str, Any] = {"id": 1, "method": method, "params": arguments}
    if session_id is not None:
        message["sessionId"] = session_id
    connection.send(json.dumps(message))
    result = None
    while result is None or until is not None:
        answer = json.loads(connection.recv(timeout=30))
        if answer.get("sessionId") != session_id:
            continue
        if answer.get("id") == 1:
            assert "error" not in answer, answer
            result = answer["result"]
        elif answer.get("method") == until:
            until = None
    return result


@contextmanager
def open_page(url: str) -> Iterator[Page]:
    """Start Chromium, open ``url``, and end the browser afterwards."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, f"--user-data-dir={profile}", *_FLAGS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(Path(profile))},
        )
        try:
            with connect(_devtools_url(process), max_size=None) as connection:
                target = _call(connection, "Target.createTarget", {"url": "about:blank"})
                attach = {"targetId": target["targetId"], "flatten": True}
                session = _call(connection, "Target.attachToTarget", attach)["sessionId"]
                _call(connection, "Page.enable", {}, session)
                _call(connection, "Page.navigate", {"url": url}, session, until="Page.loadEventFired")
                yield Page(connection, session)
        finally:
            process.terminate()
            process.wait(timeout=10)
            if process.stderr is not None:
                process.stderr.close()


def _devtools_url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for _ in range(_STARTUP_LINES):
        line = process.stderr.readline()
        if line.startswith("DevTools listening on "):
            return line.removeprefix("DevTools listening on ").strip()
    raise AssertionError("Chromium did not say where it listens")

"""Which of a host's addresses asyncio's client takes, and what becomes of the others."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from stelar_runtime_asyncio import dialing


class Attempts:
    """Stands in for ``_connect``: each attempt ends when and as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: str) -> None:
        self.begun: dict[str, asyncio.Future[socket.socket]] = {}
        self.all_begun = asyncio.Event()
        self._places = places
        monkeypatch.setattr(dialing, "_connect", self._connect)
        monkeypatch.setattr(dialing, "ATTEMPT_DELAY", 0)
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", self._resolve)

    async def _resolve(self, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in self._places]

    async def _connect(self, address: Any) -> socket.socket:
        self.begun[address[4]] = asyncio.get_running_loop().create_future()
        if len(self.begun) == len(self._places):
            self.all_begun.set()
        return await self.begun[address[4]]


async def turns() -> None:
    """Let everything happen that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_of_two_that_answer_at_once_one_is_taken_and_one_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        attempts = Attempts(monkeypatch, "abc")
        reaching_it = asyncio.ensure_future(dialing._reach("host", 1))
        await attempts.all_begun.wait()
        sockets = [socket.socket(), socket.socket()]
        for future, sock in zip(attempts.begun.values(), sockets, strict=False):
            future.set_result(sock)
        taken = await reaching_it
        await turns()
        assert taken in sockets
        assert [sock.fileno() == -1 for sock in sockets] == [sock is not taken for sock in sockets]
        assert attempts.begun["c"].cancelled()
        taken.close()

    asyncio.run(main())


def test_a_cancelled_call_leaves_no_attempt_and_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        attempts = Attempts(monkeypatch, "ab")
        reaching_it = asyncio.ensure_future(dialing._reach("host", 1))
        await attempts.all_begun.wait()
        with socket.socket() as sock:
            attempts.begun["a"].set_result(sock)
            reaching_it.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reaching_it
            assert sock.fileno() == -1
        assert attempts.begun["b"].cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_where_none_can_be_reached_whichever_failed_first_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        attempts = Attempts(monkeypatch, "ab")
        reaching_it = asyncio.ensure_future(dialing._reach("host", 1))
        await attempts.all_begun.wait()
        attempts.begun["b"].set_exception(OSError("second"))
        await turns()
        attempts.begun["a"].set_exception(OSError("first"))
        with pytest.raises(OSError, match="second"):
            await reaching_it

    asyncio.run(main())

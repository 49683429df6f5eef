"""What every pair of libraries says to each other, whichever of the two is the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import pytest

Message: TypeAlias = str | bytes

SUBPROTOCOL = "chat"
MESSAGES: Sequence[Message] = (
    "hola, ¿qué tal? 😀",
    bytes(range(256)),
    "",
    b"",
    "x" * 125,
    b"y" * 126,
    "ñ" * 40_000,
    bytes(range(256)) * 4096,  # 1 MiB
    "z" * 2**20,
)
FRAGMENTS = ("one ", "", "¡dos! ", "three")
GOODBYE = (3000, "that was all")


class Ended(Exception):
    """The connection has ended: the close code and the reason that came."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)


class Talker(Protocol):
    """One side of a connection, in whatever library."""

    can_fragment: bool
    can_ping: bool

    @property
    def subprotocol(self) -> str | None: ...
    async def send(self, message: Message) -> None: ...
    async def send_fragments(self, fragments: Sequence[str]) -> None: ...
    async def recv(self) -> Message: ...
    async def ping(self) -> None: ...
    async def close(self, code: int, reason: str) -> None: ...


async def serve(talker: Talker) -> None:
    """The server's part: an echo that can also be asked for something else."""
    while True:
        try:
            message = await talker.recv()
        except Ended:
            return
        if message == "fragments" and talker.can_fragment:
            await talker.send_fragments(FRAGMENTS)
        elif message == "fragments":
            await talker.send("".join(FRAGMENTS))
        elif message == "ping":
            if talker.can_ping:
                await talker.ping()
            await talker.send("pong")
        elif message == "close":
            await talker.close(*GOODBYE)
            return
        else:
            await talker.send(message)


async def talk(talker: Talker) -> None:
    """The client's part, up to the server's goodbye."""
    assert talker.subprotocol == SUBPROTOCOL
    for message in MESSAGES:
        await talker.send(message)
        assert await talker.recv() == message
    await talker.send("fragments")
    assert await talker.recv() == "".join(FRAGMENTS)
    if talker.can_fragment:
        await talker.send_fragments(FRAGMENTS)
        assert await talker.recv() == "".join(FRAGMENTS)
    if talker.can_ping:
        await talker.ping()
    await talker.send("ping")
    assert await talker.recv() == "pong"
    await talker.send("close")
    with pytest.raises(Ended) as caught:
        await talker.recv()
    assert caught.value.args == GOODBYE

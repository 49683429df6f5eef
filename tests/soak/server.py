"""The server of a soak, in a process of its own; the arguments are a loop and the file of its ledger.

Each client that gives its name has an account: what it said and was handled, what was addressed to it. The
ledger gets one line for each account that is closed.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from stelar_proto.channel import Closed
from stelar_proto.errors import HandlerError
from stelar_proto.server import moves
from tests.support.crowded import run

from .census import Control, Errors, allow_many_files, census, say, soon

OPTIONS: dict[str, Any] = {
    "port": 0,
    "tcp_port": 0,
    "max_connections_per_ip": 5000,
    "heartbeat_interval": 5,
    "heartbeat_timeout": 5,
    "connect_timeout": 5,
    "close_timeout": 2,
    "outbox_limit": 256 * 1024,
    "max_payload_size": 256 * 1024,
    "max_frame_size": 256 * 1024,
    "compression": True,
}
_POLICIES = ("close", "drop_oldest", "drop_newest")
_PADDING = "x" * 8192


class Account:
    """What one connection said and was told, as far as the server knows."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self.events = 0
        self.faults = 0
        self.addressed = 0
        """Broadcasts and words that it was among the receivers of."""

        self.words = 0

    def said(self, number: int) -> None:
        """A numbered message was handled: numbers go up by one on one connection."""
        if not self.events:
            self.first = number
        elif number != self.last + 1:
            self.faults += 1
        self.last = number
        self.events += 1


def can_be_told(peer: Any) -> bool:
    """Tell whether something that is said now is addressed to ``peer``."""
    return peer.end is None and bool(peer.session.can_send)


class Answering(dict[str, Any]):
    """Who answers which requests; it counts those that nobody does: damage makes them of others."""

    def __init__(self, handled: dict[str, int]) -> None:
        self._handled = handled

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self._handled["requests"] += 1
        return super().get(name, default)


class SoakServer:
    """The application: it numbers what it says to each room and to all, and keeps the accounts."""

    def __init__(self, runtime: str, ledger: Path) -> None:
        self.runtime = runtime
        self.errors = Errors()
        self.handled = dict.fromkeys(("events", "requests", "join", "leave"), 0)
        self.rooms: dict[str, int] = {}
        self.ticks = 0
        self.ledger = ledger.open("w", encoding="utf-8")
        module = import_module(f"stelar_runtime_{'trio' if runtime == 'trio' else 'asyncio'}")
        self.server = module.StelarServer(**OPTIONS)
        for move in ("join", "leave"):
            setattr(moves, move, self.counted(move, getattr(moves, move)))
        self.server.ack_handlers = Answering(self.handled)
        on, on_ack = self.server.on, self.server.on_ack
        self.server.on_connection(lambda ctx: ctx.set_metadata("account", Account()))
        self.server.on_disconnect(self.left)
        self.server.on_all(self.count)
        for name in ("note", "say", "cut", "talk"):
            on(name, getattr(self, name))
        on_ack("sum", self.sum)
        on_ack("tally", self.tally)

    # --- What clients say -------------------------------------------------------------------------------

    def count(self, ctx: Any) -> None:
        self.handled["events"] += 1

    def account(self, ctx: Any) -> Account:
        account: Account = ctx.get_metadata("account")
        return account

    def note(self, ctx: Any) -> Any:
        """A numbered message, text or bytes; every tenth takes its time."""
        number = int(ctx.data)
        self.account(ctx).said(number)
        return self.pause(0.01) if number % 10 == 0 else None

    def say(self, ctx: Any) -> None:
        """The same, and it goes to a room."""
        number, room = ctx.data
        self.account(ctx).said(number)
        self.rooms[room] = self.rooms.get(room, 0) + 1
        self.address(room)
        data = [room, self.rooms[room]]
        if number % 3:
            self.server.to(room, "said", data)
        else:
            self.server.to_binary(room, "said", json.dumps(data).encode())

    def cut(self, ctx: Any) -> None:
        """A client wants to lose its connection."""
        if ctx.data == "close":
            ctx.disconnect(4000, "as you wish")
        else:
            ctx._peer.abort(Closed(1006, "", None))

    def talk(self, ctx: Any) -> None:
        """Say so many long words at once, which may be more than an outbox holds."""
        account, peer = self.account(ctx), ctx._peer
        for _ in range(ctx.data):
            if can_be_told(peer):
                account.addressed += 1
                account.words += 1
                ctx.emit("words", [account.words, _PADDING])

    async def sum(self, ctx: Any) -> int:
        self.handled["requests"] += 1
        if ctx.data and ctx.data[0] % 2:
            await self.pause(0.005)
        if not ctx.data:
            raise HandlerError("nothing to add", code="EMPTY")
        return sum(ctx.data)

    def tally(self, ctx: Any) -> bool:
        """Tell how the account stands, between all that is told before and behind."""
        self.handled["requests"] += 1
        account, session = self.account(ctx), ctx._peer.session
        standing = {
            "last": account.last,
            "events": account.events,
            "addressed": account.addressed,
            "dropped": session.messages_dropped,
        }
        told: bool = ctx.emit("tally", standing)
        return told

    async def pause(self, seconds: float) -> None:
        await self.server.runtime.wait_for(self.server.runtime.make_event(), seconds)

    # --- What it keeps ----------------------------------------------------------------------------------

    def address(self, room: str | None = None) -> None:
        """A broadcast follows; whoever can be told is among its receivers."""
        for peer in self.server.hub.members(room):
            if can_be_told(peer):
                peer.metadata["account"].addressed += 1

    def counted(self, kind: str, move: Callable[..., bool]) -> Callable[..., bool]:
        """Return ``move``, which counts the messages that ask for it, those in vain too."""

        def count_and_move(*arguments: Any) -> bool:
            self.handled[kind] += 1
            return move(*arguments)

        return count_and_move

    def left(self, ctx: Any) -> None:
        account, session = self.account(ctx), ctx._peer.session
        line = {"id": ctx.id, "code": ctx.data["code"], "dropped": session.messages_dropped, **vars(account)}
        self.ledger.write(json.dumps(line) + "\n")

    async def tick(self) -> None:
        """Speak to all each second, and change the policy for those who do not read each fifth."""
        while self.server.is_running:
            await self.pause(1)
            self.ticks += 1
            self.address()
            self.server.broadcast("tick", self.ticks)
            if self.ticks % 5 == 0:
                self.server.update_config(slow_consumer=_POLICIES[self.ticks // 5 % 3])

    def answer(self, question: str) -> dict[str, Any] | None:
        if question == "end":
            self.server.request_stop()
            return None
        server = self.server
        self.ledger.flush()
        books = {
            "connections": server._peers,
            "deadlines": server._deadlines,  # the server's own look at limiters is none while there are none
            "places": server.admission._places,
            "ids": server.admission._client_ids,
            "clients": server.hub,
            "rooms": server.get_rooms(),
            "addresses": server.gate.counts._counts,
        }
        return {
            "census": census(self.runtime),
            "registries": {name: len(book) for name, book in books.items()},
            "stats": asdict(server.get_stats()),
            "handled": self.handled,
        }

    async def serve(self) -> None:
        await self.server.start()
        Control(soon(self.runtime), self.answer)
        self.server.runtime.spawn(self.tick())
        say(ws=self.server.get_port(), tcp=self.server.get_tcp_port())
        await self.server.serve_forever()
        self.ledger.close()
        say(errors=self.errors.count, **{"first errors": self.errors.first})


async def main(runtime: str, ledger: str) -> None:
    await SoakServer(runtime, Path(ledger)).serve()


if __name__ == "__main__":
    random.seed(0)
    allow_many_files()
    run(sys.argv[1], lambda: main(*sys.argv[1:]))

"""A client of this library that counts what it says and hears, and compares that with the server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import anyio

from stelar_proto.errors import AckTimeout, ConnectionLost, RemoteError, StateError

ROOMS = [f"room {number}" for number in range(40)]
OPTIONS: dict[str, Any] = {
    "reconnection_attempts": None,
    "reconnection_delay": 0.05,
    "max_reconnection_delay": 1.0,
    "retry_first_connect": True,
    "ack_timeout": 30.0,
    "connect_timeout": 20.0,
    "heartbeat_interval": 5,
    "heartbeat_timeout": 20,
}
_ACTIONS = {
    "note": 30,
    "burst": 3,
    "say": 15,
    "ask": 15,
    "move": 12,
    "tally": 12,
    "listen": 1,
    "lose": 4,
    "come_again": 3,
}


class Honest:
    """One life: some connections, the last of which ends with everything compared.

    Arguments:
        name: nobody else goes by it.
        make_client: makes the client from a URL and options.
        url: whom it talks to.
        chance: decides what it does.
        record: takes each line of the ledger.
    """

    def __init__(
        self,
        name: str,
        make_client: Callable[..., Any],
        url: str,
        chance: Random,
        record: Callable[..., None],
    ) -> None:
        self.name = name
        self.chance = chance
        self.record = record
        self.number = 0  # of the last message that was accepted
        self.counts: Counter[str] = Counter()
        self.rooms: set[str] = set()
        self._heard: Counter[str] = Counter()  # on this connection
        self._last_said: dict[str, int] = {}  # in each room, since it was joined
        self.doing = "connect"
        self._asked_at = 0
        self._is_settled = False
        self._id = ""
        self._is_there = anyio.Event()
        self._connections: list[tuple[str, int]] = []
        client = self.client = make_client(url, **OPTIONS, compression=chance.random() < 0.3)
        client.on("connect", self.came)
        client.on("disconnect", self.went)
        client.on("said", self.hear)
        client.on("tick", lambda number: self.follow("tick", number))
        client.on("words", lambda words: self.follow("words", words[0]))
        client.on("tally", self.compare)
        client.on("joined-room", lambda room: self._last_said.pop(room, None))

    def __repr__(self) -> str:
        return f"<{self.name} in {self.doing}, {self.client.get_state()}, {dict(self.counts)}>"

    # --- What it hears ----------------------------------------------------------------------------------

    def came(self, *_: object) -> None:
        self._heard.clear()
        self._last_said.clear()
        self._id = self.client.get_id()
        self._is_there.set()

    def went(self, *_: object) -> None:
        self._connections.append((self._id, self._heard["broadcasts"]))
        self._is_there = anyio.Event()

    def hear(self, data: Any) -> None:
        self.follow(*(json.loads(data) if isinstance(data, bytes) else data))

    def follow(self, source: str, number: int) -> None:
        """A broadcast: each source counts its own."""
        self._heard["broadcasts"] += 1
        before = self._last_said.get(source)
        if before is not None and number <= before:
            self.fault(f"{source} says {number} after {before}")
        elif before is not None:
            self._heard["gaps"] += number - before - 1
        self._last_said[source] = number

    def compare(self, server: dict[str, int]) -> None:
        """What the server knows of this connection must be what is known here."""
        self.counts["tallies"] += 1
        if server["events"] and server["last"] != self._asked_at:
            self.fault(f"{self._asked_at} were said, {server['last']} were handled")
        heard, gaps = self._heard["broadcasts"], self._heard["gaps"]
        missing = server["addressed"] - server["dropped"] - heard
        self._is_settled = not missing
        # What was dropped behind this, to make room for something newer, is not known yet.
        if missing < 0 or (missing and not server["dropped"]):
            self.fault(f"{heard} were heard, {server}")
        if gaps and not server["dropped"]:
            self.fault(f"{gaps} are missing, {server}")

    def fault(self, words: str) -> None:
        """Something is not as it should be."""
        self.record(kind="fault", name=self.name, words=f"{self.client.get_id()}: {words}")

    # --- What it does -----------------------------------------------------------------------------------

    async def live(self, seconds: float) -> None:
        """Connect, do this and that for so long, part in good order, and settle the account."""
        try:
            await self.client.connect()
            with anyio.move_on_after(seconds):
                for room in self.chance.sample(ROOMS, self.chance.randint(0, 3)):
                    self.join(room)
                while True:
                    [action] = self.chance.choices(list(_ACTIONS), list(_ACTIONS.values()))
                    await self.do(action)
                    await anyio.sleep(self.chance.expovariate(3))
            self.doing = "part"
            is_good = await self.part()
            self.doing = "disconnect"
        finally:
            with anyio.CancelScope(shield=True):
                await self.client.disconnect()
        self.record(
            kind="life",
            name=self.name,
            connections=self._connections,
            said=self.number,
            dropped=self.client.get_messages_dropped() + self.client.get_queue_size(),
            parted=is_good,
            **self.counts,
        )

    async def do(self, action: str) -> None:
        self.doing = action
        try:
            await getattr(self, action)()
        except StateError:
            self.counts["refused"] += 1  # not connected, or full: nothing was accepted

    async def note(self) -> None:
        number = self.number + 1
        if self.chance.random() < 0.3:
            self.client.emit_binary("note", str(number).encode())
        else:
            self.client.emit("note", number)
        self.number = number

    async def burst(self) -> None:
        for _ in range(10):
            await self.note()

    async def say(self) -> None:
        if self.rooms:
            self.client.emit("say", [self.number + 1, self.chance.choice(sorted(self.rooms))])
            self.number += 1

    async def ask(self) -> None:
        numbers = [self.chance.randrange(100) for _ in range(self.chance.randrange(4))]
        answer = await self.request("sum", numbers)
        if answer is not None and answer != (sum(numbers) if numbers else "EMPTY"):
            self.fault(f"the sum of {numbers} is {answer}")

    async def request(self, name: str, data: Any = None) -> Any:
        """Ask, and count how it ends; None where there is no answer."""
        self.counts["requests"] += 1
        try:
            answer = await self.client.request(name, data)
        except RemoteError as error:
            self.counts["answers"] += 1
            return error.code
        except (ConnectionLost, AckTimeout, StateError) as error:
            self.counts[type(error).__name__] += 1
            return None
        except BaseException:
            self.counts["abandoned"] += 1
            raise
        self.counts["answers"] += 1
        return answer

    async def tally(self) -> None:
        self._asked_at = self.number
        await self.request("tally")

    async def move(self) -> None:
        if self.rooms and self.chance.random() < 0.5:
            room = self.chance.choice(sorted(self.rooms))
            self.rooms.remove(room)
            self.client.leave_room(room)
        else:
            self.join(self.chance.choice(ROOMS))

    def join(self, room: str) -> None:
        if room not in self.rooms:
            self.rooms.add(room)
            self.client.join_room(room)

    async def listen(self) -> None:
        """Have the server say more at once than it keeps for a client."""
        self.client.emit("talk", self.chance.choice([20, 60]))

    async def lose(self) -> None:
        """Have the server cut the connection; another follows by itself."""
        self.client.emit("cut", self.chance.choice(["close", "abort"]))
        self.counts["cuts"] += 1
        for _ in range(self.chance.choice([0, 3])):
            await self.note()

    async def come_again(self) -> None:
        await self.client.disconnect()
        await self.client.connect()

    async def part(self) -> bool:
        """Settle the account on a connection that holds; tell whether that was possible."""
        for _ in range(20):
            if self.client.get_state() == "disconnected":  # it was about to come again
                await self.client.connect()
            with anyio.move_on_after(20):
                await self._is_there.wait()
            self._is_settled = False
            with suppress(StateError):
                await self.tally()
            if self._is_settled:
                return True
            await anyio.sleep(0.1)
        self.fault("the account cannot be settled")
        return False

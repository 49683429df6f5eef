"""Says one thing in one room and shows what comes back: ``python examples/chat_client.py [URL]``."""

from __future__ import annotations

import sys

import trio

from stelar_runtime_trio import StelarClient


async def main(url: str) -> None:
    async with StelarClient(url, reconnection=False) as client:
        client.on("said", lambda data: print(data["from"], "says", data["text"]))
        members = await client.request("enter", {"room": "lobby"})
        print(len(members), "here, I am", client.get_id())
        client.emit("say", "hola")
        with trio.move_on_after(5):
            await client.wait_closed()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "tcp://localhost:3001")

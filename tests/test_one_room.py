"""Everybody in one room: a page in Chromium, a client of another library, a terminal over TCP, and trio.

Each of them is the real thing in a process of its own, but for the last two, which share this one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
import trio
from websockets.sync.client import connect

import stelar_runtime_trio
from tests.support.browser import CHROMIUM, Page, open_page
from tests.support.foreigner import Foreigner
from tests.support.programs import Program, running, serving

ROOM = "sala ñ"
PICTURE = (
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    + bytes(range(256)) * 40
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)


def said_on(page: Page) -> list[tuple[str, str]]:
    entries = page.evaluate(
        """Array.from(document.querySelectorAll("#log [data-own=false][data-kind=said]"),
                      (entry) => [entry.dataset.from, entry.dataset.text])"""
    )
    return [(who, text) for who, text in entries]


def type_on(page: Page, text: str) -> None:
    page.evaluate(
        f"""(() => {{
            const text = document.getElementById("text");
            text.value = {json.dumps(text)};
            text.dispatchEvent(new Event("input", {{bubbles: true}}));
        }})()"""
    )


def say_on(page: Page, text: str) -> float:
    """Type and send on the page; return the latency of the answer, milliseconds."""
    type_on(page, text)
    page.evaluate('document.getElementById("send").click()')
    latency = page.wait_for(
        f"""Array.from(document.querySelectorAll("#log [data-own=true][data-status=sent]"))
                 .filter((entry) => entry.dataset.text === {json.dumps(text)})
                 .map((entry) => entry.dataset.ms)[0]"""
    )
    return float(latency)


def share_on(page: Page, picture: bytes) -> None:
    page.evaluate(
        f"""(() => {{
            const text = atob("{base64.b64encode(picture).decode()}");
            const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
            const files = new DataTransfer();
            files.items.add(new File([bytes], "dot.png", {{type: "image/png"}}));
            const input = document.getElementById("picture");
            input.files = files.files;
            input.dispatchEvent(new Event("change", {{bubbles: true}}));
        }})()"""
    )


class TrioClient:
    """A client of this project on trio."""

    def __init__(self, client: stelar_runtime_trio.StelarClient) -> None:
        self.client = client
        self.said: list[tuple[str, str]] = []
        self.pictures: list[bytes] = []
        client.on("said", lambda data: self.said.append((data["name"], data["text"])))
        client.on("picture", self.pictures.append)

    async def until(self, condition: Any) -> None:
        with trio.fail_after(10):
            while not condition():
                await self.client.request("latency")  # what was sent before the answer is here by then
                await trio.sleep(0.02)  # the chat lets nobody say more than a hundred things a second


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_four_kinds_of_clients_share_one_room(runtime: str) -> None:
    with serving(runtime) as (_, http, tcp):
        with (
            open_page(f"http://127.0.0.1:{http}/?name=page&room={ROOM}") as page,
            connect(f"ws://127.0.0.1:{http}/") as connection,
            running(
                *("stelar_runtime_asyncio", "connect", f"tcp://127.0.0.1:{tcp}"),
                *("--name", "terminal", "--room", ROOM, "--json"),
            ) as terminal,
        ):
            page.wait_for('document.querySelector("#people li")')
            trio.run(meet, page, Foreigner(connection), terminal, http)


async def meet(page: Page, foreigner: Foreigner, terminal: Program, port: int) -> None:
    entered = foreigner.ask("enter", {"name": "foreigner", "room": ROOM})
    assert entered["you"]["name"] == "foreigner"
    terminal.read_until("entered")
    async with stelar_runtime_trio.StelarClient(f"ws://127.0.0.1:{port}") as client:
        triton = TrioClient(client)
        entered = await client.request("enter", {"name": "triton", "room": ROOM})
        everyone = ["foreigner", "page", "terminal", "triton"]
        assert [member["name"] for member in entered["members"]] == everyone
        people = """document.querySelectorAll("#people li").length === 4"""
        page.wait_for(people)

        # Each speaks in turn, and every word is answered before the next.
        said: list[tuple[str, str]] = []
        for turn in range(3):
            text = f"«{turn}» ☃ </script>"
            assert say_on(page, text) > 0
            assert foreigner.ask("say", {"text": text})["seq"] > 0
            terminal.type(text)
            assert terminal.read_until("sent")["ms"] > 0
            assert (await client.request("say", {"text": text}))["seq"] == (turn + 1) * 4
            said += [(who, text) for who in ("page", "foreigner", "terminal", "triton")]

        # Each heard every other once, in order.
        page.wait_for('document.querySelectorAll("#log [data-own=false][data-kind=said]").length >= 9')
        assert said_on(page) == [(who, text) for who, text in said if who != "page"]
        await triton.until(lambda: len(triton.said) >= 9)
        assert triton.said == [(who, text) for who, text in said if who != "triton"]
        foreigner.ask("latency", None)
        assert foreigner.said == [(who, text) for who, text in said if who != "foreigner"]
        terminal.type("/ping")
        terminal.read_until("pong")
        assert terminal.said == [(who, text) for who, text in said if who != "terminal"]

        # A picture from the page arrives byte for byte everywhere, and one from another library on the page.
        share_on(page, PICTURE)
        await triton.until(lambda: triton.pictures)
        assert triton.pictures == [PICTURE]
        foreigner.ask("latency", None)
        assert foreigner.pictures == [PICTURE]
        shown = terminal.read_until("picture")
        assert shown["sha256"] == hashlib.sha256(PICTURE).hexdigest()
        reply = PICTURE[::-1]
        foreigner.share(reply)
        digest = page.wait_for(
            """(document.querySelector("#log [data-kind=picture][data-own=false]") || {dataset: {}})
                 .dataset.sha256"""
        )
        assert digest == hashlib.sha256(reply).hexdigest()
        await triton.until(lambda: len(triton.pictures) == 2)


def test_a_page_keeps_what_is_said_until_the_server_is_back() -> None:
    with (
        serving("asyncio") as (server, http, tcp),
        open_page(f"http://127.0.0.1:{http}/?name=page&room=r") as page,
    ):
        page.wait_for('document.querySelector("#people li")')
        type_on(page, "☃" * 2001)
        assert page.evaluate('document.getElementById("send").disabled')
        assert page.evaluate('document.getElementById("left").textContent').startswith("1 character too many")
        server.kill()
        page.wait_for('!document.getElementById("banner").hidden')
        type_on(page, "kept")
        page.evaluate('document.getElementById("send").click()')
        assert page.evaluate('document.querySelector("#log [data-own=true]").dataset.status') == "waiting"
        again = ("--port", str(http), "--tcp-port", str(tcp))
        server.wait()
        with running("stelar_runtime_trio", "serve", *again):
            page.wait_for('document.querySelector("#log [data-own=true][data-status=sent]")', timeout=20)
            assert page.evaluate('document.getElementById("banner").hidden')

"""Hostile names, words and values: none means anything but itself, to handlers, to peers and in a log."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from stelar_proto.server import RateLimit
from tests.attacks.siege import besieged, intruder, read_frame, speaker
from tests.conformance.world import Inbox, World, read_to_end
from tests.support.wires import frame, masked

pytestmark = pytest.mark.anyio

HOSTILE = "x\r\n2026-01-01 ERROR root: all is lost\0\x1b[2J\u202egnp.exe\u2066\u2028\x85"
NAMES = ["__proto__", "__class__", "constructor", "toString", "hasOwnProperty", "__init__", "None", "0", "."]


async def test_words_of_a_peer_are_one_line_of_a_log(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reasons, rooms and names with line ends, NULs, escapes and bidi marks cost an escaped line each."""
    caplog.set_level(logging.DEBUG, "stelar")
    hand = speaker(wire)
    async with besieged(world, max_rooms_per_client=1) as siege, intruder(siege, wire) as stream:
        left = Inbox()
        siege.server.on_disconnect(lambda ctx: left(ctx.data["reason"]))
        siege.server.on("fail", lambda ctx: 1 / 0)
        await stream.send(hand.room("join", "a") + hand.room("join", HOSTILE))
        await stream.send(hand.event("fail", HOSTILE))
        await stream.send(hand.request("ack", "unknown." + "x" * 200, HOSTILE))
        if wire == "ws":
            await stream.send(hand.event(HOSTILE))
            await stream.send(masked(8, (3000).to_bytes(2) + HOSTILE.encode()))
        else:
            await stream.send(frame(10, "error", HOSTILE.encode()))
        await read_to_end(stream)
        assert await left.next() == HOSTILE  # to the application it is what was said
        await siege.only_the_honest_are_left()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("stelar")]
    assert [line for line in lines if not line.isprintable()] == []
    assert any(r"\r\n2026-01-01 ERROR" in line for line in lines)


async def test_words_of_a_server_are_one_line_of_a_clients_log(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A client escapes what its server says, too."""
    caplog.set_level(logging.DEBUG, "stelar")

    async def serve(stream: ByteStream) -> None:
        if wire == "tcp":
            await stream.send(frame(6, "connect", b"x") + frame(10, "error", HOSTILE.encode()))
        else:
            while b"\r\n\r\n" not in await stream.receive():
                pass
            await stream.send(b"HTTP/1.1 418 \x9b2J\x85\r\nLocation: \x9b\r\n\r\n" + HOSTILE.encode())

    async with world.raw_server(serve) as port:
        client = world.client_of(f"{wire}://127.0.0.1:{port}", connect_timeout=5)
        ends = Inbox()
        client.on("disconnect", lambda *end: ends(end))
        if wire == "tcp":
            await client.connect()
            assert await ends.next() == (1008, HOSTILE)
            await client.wait_closed()
        else:
            with pytest.raises(ConnectionError, match="418"):
                await client.connect()
        assert str(client.get_last_error()).isprintable()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("stelar")]
    assert [line for line in lines if not line.isprintable()] == []


async def test_names_that_mean_something_to_an_interpreter_are_names_like_others(
    world: World, wire: str
) -> None:
    """``__proto__`` and its like are keys of plain dictionaries; no attribute is ever looked up by them."""
    hand = speaker(wire)
    async with besieged(world) as siege, intruder(siege, wire) as stream:
        server = siege.server
        heard = Inbox()
        server.on_all(lambda ctx: heard((ctx.event, ctx.data)))
        for name in NAMES:
            await stream.send(hand.event(name, {name: {name: 1}, "__proto__": {"is_admin": True}}))
            assert await heard.next() == (name, {name: {name: 1}, "__proto__": {"is_admin": True}})
            await stream.send(hand.request(name, name, 1))
            assert name.encode() in await read_frame(stream, wire)
            await stream.send(hand.room("join", name))
            assert name.encode() in await read_frame(stream, wire)
            assert len(server.get_room_members(name)) == 1
        assert sorted(server.get_rooms()) == sorted(NAMES)
        bad = ["ping", "", "a b", "a\0b", "a\u202eb", "ä", "x" * 257, "stelar:connect\n"]
        for name in bad:
            await stream.send(frame(0, name[:257], b"1") if wire == "tcp" else hand.event(name, 1))
            if len(name) > 256 and wire == "tcp":
                break  # which is no frame any more
        if wire == "ws":
            await stream.send(hand.event("last"))
            assert await heard.next() == ("last", None)
            assert server.get_stats().invalid_messages == len(bad)


VALUES = {
    b"[" * 100_000 + b"]" * 100_000: False,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000: False,
    b"[" * 1_000_000: False,
    b"9" * 5000: False,  # int() refuses more than 4300 digits, which would take quadratic time
    b"-" + b"9" * 5000: False,
    b"9" * 4000: True,
    b"1e999": False,
    b"1e" + b"9" * 4000: False,
    b"0." + b"1" * 5000: True,
    b"NaN": False,
    b"-Infinity": False,
    rb'"\ud800"': False,
    rb'{"\udc00\ud800": 1}': False,
    rb'{"\ud800": 1}': False,
    rb'"\ud83d\ude00"': True,
    b"\xef\xbb\xbf1": False,
    rb'"a\u0000b"': True,
    b'"a\0b"': False,
    b"{'a': 1}": False,
    b"[1,]": False,
    b"1 2": False,
    b"1 /* */": False,
    b"__import__('os')": False,
}
"""JSON that is meant to hurt, and whether it is a value all the same."""


async def test_json_that_is_meant_to_hurt_is_a_value_or_an_invalid_message(
    world: World, wire: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs its sender one point of its rate limit; counted, logged in a line, told to a hook."""
    told, heard = Inbox(), Inbox()
    hooks = {"on_invalid_message": lambda reason, **_: told(reason)}
    async with besieged(world, hooks=hooks) as siege, intruder(siege, wire) as stream:
        siege.server.on("data", lambda ctx: heard(ctx.data))
        for text, is_value in VALUES.items():
            envelope = b'{"event":"data","data":' + text + b"}"
            await stream.send(frame(0, "data", text) if wire == "tcp" else masked(1, envelope))
            if is_value:
                assert await heard.next() == json.loads(text)
            else:
                assert 0 < len(await told.next()) < 300
        assert heard.waiting == told.waiting == 0
        assert siege.server.get_stats().invalid_messages == sum(not is_value for is_value in VALUES.values())
        assert all(len(record.getMessage()) < 300 for record in caplog.records)
        assert len(siege.server.get_clients()) == 3


async def test_of_keys_that_stand_twice_the_last_counts_for_the_limit_and_for_the_handler(
    world: World,
) -> None:
    """What is counted is what is handled: no name hides behind another."""
    limits = {"guarded": RateLimit(max_points=1, window=60)}
    async with besieged(world, event_rate_limits=limits) as siege, intruder(siege, "ws") as stream:
        heard = Inbox()
        siege.server.on_all(lambda ctx: heard(ctx.event))
        double = masked(1, b'{"event":"free","data":1,"event":"guarded"}')
        await stream.send(double * 2)
        assert await heard.next() == "guarded"
        assert await read_frame(stream, "ws") == (1008).to_bytes(2) + b"Rate limit exceeded"
        assert heard.waiting == 0


async def test_keys_that_would_collide_cost_what_others_cost(world: World, wire: str) -> None:
    """Texts are hashed with a secret of the process, so 50 000 chosen keys cost as much as any others."""
    modulus = 2**61 - 1  # of the hashes of numbers, which have no secret
    hand = speaker(wire)
    async with besieged(world) as siege, intruder(siege, wire) as stream:
        took: list[float] = []
        heard = Inbox()

        def note(ctx: Any) -> None:
            heard(len(ctx.data))

        siege.server.on("keys", note)
        for factor in (1, modulus):
            message = hand.event("keys", {str(number * factor): 0 for number in range(50_000)})
            began_at = siege.now
            await stream.send(message)
            assert await heard.next() == 50_000
            took.append(siege.now - began_at)
        assert took[1] < 20 * took[0] + 0.5  # a flood would take minutes


async def test_an_id_is_nobodys_twice(world: World, wire: str, caplog: pytest.LogCaptureFixture) -> None:
    """A collision costs the newcomer its connection; the one who has the id does not notice. Logged."""
    ids = iter(["a", "b", "a", "a"])
    async with besieged(world, generate_client_id=lambda: next(ids)) as siege:
        with pytest.raises(ConnectionError, match=r"500|No client id"):
            with anyio.fail_after(5):
                await world.client(siege.server, wire).connect()
        await siege.only_the_honest_are_left()
    assert "generate_client_id: 'a' is taken" in caplog.text

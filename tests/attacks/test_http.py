"""Attacks on the handshake: what two parsers could read differently, what is not HTTP, and false names.

An exchange is one request and one answer, and then the connection is over or a WebSocket: nothing can be
smuggled into the next request where there is none.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Any

import anyio
import pytest

from tests.attacks.siege import Siege, besieged
from tests.conformance.world import World, raw_connection, read_head, read_to_end
from tests.support.wires import UPGRADE, upgrade_to

pytestmark = pytest.mark.anyio

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def ask(siege: Siege, request: bytes) -> bytes:
    """What is answered, to the end of the connection."""
    async with raw_connection(siege.server) as stream:
        with contextlib.suppress(anyio.BrokenResourceError):  # it was refused while it came
            await stream.send(request)
        return await read_to_end(stream)


def answers_in(received: bytes) -> int:
    return len(re.findall(rb"HTTP/1\.1 [0-9]{3} ", received))


def with_field(*lines: bytes) -> bytes:
    """A good request with header lines that are not."""
    return HEALTH[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def test_what_could_hide_a_second_request_is_refused_and_the_second_is_never_answered(
    world: World,
) -> None:
    """Each costs one connection and one answer of about 150 bytes; the status tells, at once."""
    shapes = {
        with_field(b"Content-Length: 5", b"Transfer-Encoding: chunked"): 400,
        with_field(b"Transfer-Encoding: chunked", b"Content-Length: 0"): 400,
        with_field(b"Content-Length: 0", b"Content-Length: 40"): 400,
        with_field(b"Content-Length: 0", b"Content-Length: 0"): 400,
        with_field(b"Content-Length: 0, 0"): 400,
        with_field(b"Content-Length: +0"): 400,
        with_field(b"Content-Length: -1"): 400,
        with_field(b"Content-Length: 0x0"): 400,
        with_field(b"Content-Length: \xb2"): 400,
        with_field(b"Content-Length: " + b"9" * 5000): 413,
        with_field(b"Transfer-Encoding: chunked"): 413,
        with_field(b"Transfer-Encoding: xchunked"): 413,
        with_field(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"): 400,
        with_field(b"Content-Length : 40"): 400,
        with_field(b"Content-Length\t: 40"): 400,
        with_field(b" Content-Length: 40"): 400,
        with_field(b"X: a", b"\tContent-Length: 40"): 400,
        with_field(b"X: a\nContent-Length: 40"): 400,
        with_field(b"X: a\rContent-Length: 40"): 400,
        with_field(b"X: a\0Content-Length: 40"): 400,
        with_field(b"Content_Length: 0", b": 40"): 400,
        with_field(b"Content-Length"): 400,
        with_field(b"H\xc3\xb6st: x"): 400,
        with_field(b"Host: elsewhere"): 400,
        HEALTH.replace(b"localhost", b"localhost, elsewhere"): 400,
        HEALTH.replace(b"localhost", b"elsewhere/path"): 400,
        HEALTH.replace(b"localhost", b"localhost:99999"): 400,
        HEALTH.replace(b"Host: localhost\r\n", b""): 400,
        HEALTH.replace(b"\r\n", b"\n"): 400,
        HEALTH.replace(b"/health ", b"/health  "): 400,
        HEALTH.replace(b"/health ", b"/health\t"): 400,
        HEALTH.replace(b"/health", b"/he\0alth"): 400,
        HEALTH.replace(b"/health", b"/health#x"): 400,
        HEALTH.replace(b"/health", b"health"): 400,
        HEALTH.replace(b"/health", b"*"): 400,
        HEALTH.replace(b"GET", b"G\xc3\x89T"): 400,
        HEALTH.replace(b"GET", b"get"): 405,
        HEALTH.replace(b"HTTP/1.1", b"HTTP/1.10"): 400,
        HEALTH.replace(b"HTTP/1.1", b"http/1.1"): 400,
        HEALTH.replace(b"HTTP/1.1", b"HTTP/2.0"): 505,
        HEALTH.replace(b" HTTP/1.1", b""): 400,
        HEALTH.replace(b"GET /health HTTP/1.1", b"CONNECT localhost:80 HTTP/1.1"): 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00": 400,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,
        b"SSH-2.0-OpenSSH_9.9\r\n": 400,
    }
    async with besieged(world) as siege:
        for request, status in shapes.items():
            answer = await ask(siege, request + HEALTH)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (request, answer)
            assert answers_in(answer) == 1, (request, answer)
        await siege.only_the_honest_are_left()


@pytest.mark.parametrize(
    ("first", "status"), [(HEALTH, 200), (HEALTH.replace(b"/health", b"/nowhere"), 404)], ids=["200", "404"]
)
async def test_requests_in_a_pipeline_are_not_answered_but_for_the_first(
    world: World, first: bytes, status: int
) -> None:
    """A thousand requests cost what one does: the connection is over behind the first answer."""
    async with besieged(world) as siege:
        answer = await ask(siege, first * 1000)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answers_in(answer) == 1
        assert answers_in(await ask(siege, first + UPGRADE)) == 1


async def test_a_head_without_an_end_is_refused_at_its_limit(world: World) -> None:
    """Costs at most 72 KiB for as long as it comes; each of the four limits has its answer."""
    line, fields = HEALTH[:-2].split(b"\r\n")[0] + b"\r\n", b"X-Endless: " + b"x" * 1000 + b"\r\n"
    heads = {
        b"GET /" + b"a" * 10_000_000: 414,
        b"G" * 10_000_000: 501,
        line + b"X: " + b"x" * 10_000_000: 431,
        line + b"X: y\r\n" * 200: 431,
        line + fields * 10_000: 431,
    }
    async with besieged(world) as siege:
        for head, status in heads.items():
            async with raw_connection(siege.server) as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(send_until_refused, stream, head)
                answer = await read_to_end(stream)
                assert answer[:12] in (b"HTTP/1.1 %d" % status, b"")  # a reset may overtake it
            await siege.honest_are_served()
        await siege.only_the_honest_are_left()


async def send_until_refused(stream: Any, data: bytes) -> None:
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(data)


async def test_nothing_that_is_answered_can_become_a_header(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """CR LF in a path, an id, an origin or words of a refusal stays what it is; log lines show it escaped."""
    hostile = "x\r\nSet-Cookie: a=b\r\n\r\n<script>"
    ids = iter(["ws", "tcp", hostile, "ok"])
    async with besieged(world, generate_client_id=lambda: next(ids)) as siege:

        def judge(ctx: Any, go_on: Any) -> None:
            if ctx.request.query:
                ctx.reject(401, hostile)
            else:
                go_on()

        siege.server.use(judge)
        path = "/%0d%0aSet-Cookie:%20a=b"
        answers = {
            404: await ask(siege, upgrade_to(path)),
            401: await ask(siege, upgrade_to("/?a=1")),
            500: await ask(siege, UPGRADE),
        }
        for status, answer in answers.items():
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"Set-Cookie" not in head
            assert b"text/plain" in head
            assert (b"Set-Cookie" in body) is (status != 500)
        async with raw_connection(siege.server) as stream:
            offer = b"Sec-WebSocket-Protocol: chat, evil\r\nSec-WebSocket-Extensions: x-evil; a=b\r\n\r\n"
            await stream.send(UPGRADE[:-2] + offer)
            head = await read_head(stream)
            assert b"evil" not in head
            assert b"Sec-WebSocket-Protocol" not in head  # none was chosen
    assert not any("\n" in record.getMessage() for record in caplog.records if "refused" in record.msg)
    [record] = [record for record in caplog.records if "generate_client_id" in record.msg]
    assert r"'x\r\nSet-Cookie" in record.getMessage()


async def test_an_origin_is_the_whole_of_it_or_none(world: World) -> None:
    """Each trick costs one connection and a 403; what browsers call the same origin is let in."""
    same = [b"https://app.example", b"HTTPS://App.Example"]
    others = [
        b"null",
        b"",
        b"https://app.example.evil.example",
        b"https://evil-app.example",
        b"https://evil.example/https://app.example",
        b"https://app.example@evil.example",
        b"https://app.example:8443",
        b"https://app.example/",
        b"https://app.example.",
        b"http://app.example",
        b"https://app.example, https://app.example",
        b"https://app.example\r\nOrigin: https://evil.example",
        b"https://evil.example\r\nOrigin: https://app.example",
        b"https://\xe1pp.example",
        b"//app.example",
        b"app.example",
        b"*",
    ]
    async with besieged(world, allowed_origins=["https://app.example"]) as siege:
        for origin in others:
            request = UPGRADE[:-2] + b"Origin: " + origin + b"\r\n\r\n"
            assert (await ask(siege, request)).startswith(b"HTTP/1.1 403 "), origin
            answer = await ask(siege, HEALTH[:-2] + b"Origin: " + origin + b"\r\n\r\n")
            assert b"Access-Control-Allow-Origin" not in answer
        for origin in same:
            async with raw_connection(siege.server) as stream:
                await stream.send(UPGRADE[:-2] + b"Origin: " + origin + b"\r\n\r\n")
                assert (await read_head(stream)).startswith(b"HTTP/1.1 101 ")


async def test_a_forwarded_header_is_believed_as_far_as_trusted_proxies_wrote_it(world: World) -> None:
    """A spoofed address costs its sender the count of its real one: what it wrote stands to the left."""
    spoofs = {
        b"X-Forwarded-For: 6.6.6.6, 192.0.2.7": "192.0.2.7",
        b"X-Forwarded-For: 127.0.0.1, 192.0.2.7, 127.0.0.1": "192.0.2.7",
        b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: junk": "127.0.0.1",
        b"X-Forwarded-For: 6.6.6.6,": "127.0.0.1",
        b"X-Forwarded-For: 6.6.6.6, 192.0.2.7:99": "192.0.2.7",
        b"X-Forwarded-For: 6.6.6.6, ::ffff:192.0.2.7": "192.0.2.7",
        b"X-Forwarded-For: 6.6.6.6, 192.0.2.7%eth0": "127.0.0.1",
        b"X-Forwarded-For: 6.6.6.6, 192.0.2.07": "127.0.0.1",
        b"X-Forwarded-For: " + b"6.6.6.6, " * 800 + b"192.0.2.7": "192.0.2.7",
        b"X-Real-IP: 6.6.6.6": "127.0.0.1",
        b"Forwarded: for=6.6.6.6": "127.0.0.1",
        b"X-Client-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6": "127.0.0.1",
    }
    async with besieged(world, trusted_proxies=["127.0.0.1"]) as siege:
        seen: list[str | None] = []
        siege.server.on_connection(lambda ctx: seen.append(ctx.client_info.remote_address))
        for field, address in spoofs.items():
            async with raw_connection(siege.server) as stream:
                await stream.send(UPGRADE[:-2] + field + b"\r\n\r\n")
                await read_head(stream)
            assert seen.pop() == address, field
    async with besieged(world) as siege:
        siege.server.on_connection(lambda ctx: seen.append(ctx.client_info.remote_address))
        for field in spoofs:
            async with raw_connection(siege.server) as stream:
                await stream.send(UPGRADE[:-2] + field + b"\r\n\r\n")
                await read_head(stream)
            assert seen.pop() == "127.0.0.1", field


async def test_a_path_is_the_name_of_one_namespace_or_of_none(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Each trick costs one connection and a 404; a path is decoded once, and never joined or cut."""
    caplog.set_level(logging.INFO)
    tricks = [
        "//game",
        "/game/",
        "/game/.",
        "/x/../game",
        "/%2e%2e/game",
        "/..;/game",
        "/%2Fgame",
        "/%252Fgame",
        "/GAME",
        "/game%00",
        "/game%20",
        "/game%0d%0aX:%20y",
        "/game;x=y",
        "/game%3F",
        "/%C0%AFgame",
        "/ga%E2%80%AEme",
        "/\\game",
        "/__proto__",
        "/__class__",
    ]
    async with besieged(world) as siege:
        game = siege.server.of("/game")
        here: list[Any] = []
        game.on_connection(here.append)
        for path in tricks:
            answer = await ask(siege, upgrade_to(path))
            assert answer.startswith(b"HTTP/1.1 404 "), path
            assert b"X: y" not in answer.partition(b"\r\n\r\n")[0]
        assert here == []
        for path in ("/game", "/g%61me", "/game?x=/../", "http://elsewhere/game"):
            async with raw_connection(siege.server) as stream:
                await stream.send(upgrade_to(path))
                assert (await read_head(stream)).startswith(b"HTTP/1.1 101 "), path
        assert len(here) == 4
        await siege.honest_are_served()
    assert all(record.getMessage().isprintable() for record in caplog.records if record.args)

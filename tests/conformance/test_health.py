"""Plain HTTP beside the WebSocket, over real sockets: health, monitors, pages of other origins."""

from __future__ import annotations

import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stelar_proto.server import HttpResponse, Stats
from stelar_proto.ws import Request

from .world import PATIENCE, Server, World, raw_connection, read_to_end

pytestmark = pytest.mark.anyio

KEYS = {
    "status",
    "totalConnections",
    "activeConnections",
    "totalMessagesReceived",
    "totalMessagesSent",
    "totalRooms",
    "uptime",
    "uptimeSeconds",
    "wsConnections",
    "tcpConnections",
    "memoryMB",
    "memoryUsage",
    "rateLimiterEntries",
}


async def ask(server: Server, method: str, path: str, **fields: str) -> tuple[int, dict[str, str], bytes]:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{n}: {v}" for n, v in fields.items())]
    with anyio.fail_after(PATIENCE):
        async with raw_connection(server, "ws") as stream:
            await stream.send(("\r\n".join(lines) + "\r\n\r\n").encode())
            head, _, body = (await read_to_end(stream)).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@pytest.mark.feature("health_endpoint", "health: JSON")
async def test_a_monitor_reads_the_documented_json(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, *_):
        status, headers, body = await ask(server, "GET", "/health")
        document = json.loads(body)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert set(document) == KEYS
        assert (document["status"], document["wsConnections"], document["tcpConnections"]) == ("ok", 1, 1)
        assert document["memoryUsage"]["rss"] > 1_000_000


@pytest.mark.feature("health_endpoint", "health: HEAD")
async def test_head_is_get_without_the_body(world: World) -> None:
    async with world.conversation() as (server,):
        status, headers, body = await ask(server, "HEAD", "/health")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 100


@pytest.mark.feature("health_endpoint", "health: other paths")
@pytest.mark.parametrize("path", ["/", "/healthz", "/health/", "/HEALTH"])
async def test_other_paths_are_not_found(world: World, path: str) -> None:
    async with world.conversation() as (server,):
        assert (await ask(server, "GET", path))[0] == 404


@pytest.mark.feature("health_endpoint")
async def test_without_a_health_endpoint_there_is_none(world: World) -> None:
    async with world.conversation(health_endpoint=None) as (server,):
        assert (await ask(server, "GET", "/health"))[0] == 404


@pytest.mark.feature("health_endpoint", "max_connections")
async def test_a_full_server_still_tells_its_health(world: World) -> None:
    async with world.conversation("ws", max_connections=1) as (server, _):
        status, _, body = await ask(server, "GET", "/health")
        assert (status, json.loads(body)["activeConnections"]) == (200, 1)
        assert server.get_stats().total_connections == 1  # asking is no connection


@pytest.mark.feature("health_endpoint", "health: CORS", "allowed_origins")
async def test_pages_of_allowed_origins_may_read_it(world: World) -> None:
    async with world.conversation(allowed_origins=["https://a.example"]) as (server,):
        _, headers, _ = await ask(server, "GET", "/health", Origin="https://a.example")
        assert headers["Access-Control-Allow-Origin"] == "https://a.example"
        _, headers, _ = await ask(server, "GET", "/health", Origin="https://b.example")
        assert "Access-Control-Allow-Origin" not in headers
        status, headers, body = await ask(server, "OPTIONS", "/health", Origin="https://a.example")
        assert (status, body) == (204, b"")
        assert headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"


@pytest.mark.feature("health_handler")
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_an_own_handler_answers_with_status_headers_and_body(world: World, is_async: bool) -> None:
    def plain(request: Request, stats: Stats) -> HttpResponse:
        busy = {"busy": stats.active_connections, "query": request.query}
        return HttpResponse(503, json.dumps(busy).encode(), [("Retry-After", "1")])

    async def later(request: Request, stats: Stats) -> HttpResponse:
        await anyio.lowlevel.checkpoint()
        return plain(request, stats)

    handler: Any = later if is_async else plain
    async with world.conversation("tcp", health_handler=handler) as (server, _):
        status, headers, body = await ask(server, "GET", "/health?deep=1")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert json.loads(body) == {"busy": 1, "query": {"deep": ["1"]}}


@pytest.mark.feature("health_handler")
async def test_an_own_handler_that_raises_is_a_500_and_no_more(world: World) -> None:
    def broken(request: Request, stats: Stats) -> HttpResponse:
        raise LookupError("secret")

    async with world.conversation("ws", health_handler=broken) as (server, client):
        status, _, body = await ask(server, "GET", "/health")
        assert status == 500
        assert b"secret" not in body
        assert client.is_connected()


@pytest.mark.feature("get_stats")
async def test_the_statistics_are_the_same_in_python(world: World) -> None:
    async with world.conversation("ws", "tcp") as (server, *_):
        stats = server.get_stats()
        assert (stats.active_connections, stats.ws_connections, stats.tcp_connections) == (2, 1, 1)
        assert stats.uptime >= 0
        assert stats.memory_bytes > 1_000_000

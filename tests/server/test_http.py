"""Plain HTTP on the WebSocket port: health, pages, and the answer where there is nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stelar_proto.errors import StateError
from stelar_proto.server import HttpResponse, Stats
from stelar_proto.server.health import health_json
from stelar_proto.ws import Request
from tests.server.house import House, raised
from tests.support.memory import RawStream


@pytest.fixture(autouse=True)
def _served(house: House) -> None:
    house.serve()


def ask(house: House, request: bytes = b"GET / HTTP/1.1") -> RawStream:
    stream = house.stream("ws")
    stream.send(request + b"\r\nHost: localhost\r\n\r\n")
    return stream


def answer(house: House, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to ``request``, behind which the connection ends."""
    stream = ask(house, request)
    assert stream.has_ended
    stream.end()
    assert stream.transport.is_lost
    return parse(stream.take())


def parse(received: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


# --- Health -----------------------------------------------------------------------------------------------


def test_the_health_document_has_the_keys_that_monitors_know(house: House, wire: str) -> None:
    house.server.on("x", lambda ctx: ctx.join_room("hall"))
    client = house.connect(wire)
    client.say("x")
    house.leave(house.connect(wire))
    house.loop.advance(20.5)
    status, headers, body = answer(house, b"GET /health HTTP/1.1")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "application/json",
        "no-store",
    )
    assert json.loads(body) == {
        "status": "ok",
        "totalConnections": 2,
        "activeConnections": 1,
        "totalMessagesReceived": 1,
        "totalMessagesSent": 1,
        "totalRooms": 1,
        "uptime": 20_500,
        "uptimeSeconds": 20,
        "wsConnections": int(wire == "ws"),
        "tcpConnections": int(wire == "tcp"),
        "memoryMB": 0,
        "memoryUsage": {"rss": 0},
        "rateLimiterEntries": 1,
    }


def test_memory_is_told_in_bytes_and_megabytes() -> None:
    document = health_json(Stats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 10_000_000, 0, 0, 0))
    assert (document["memoryMB"], document["memoryUsage"]) == (9.54, {"rss": 10_000_000})


def test_health_is_told_while_the_server_is_full() -> None:
    house = House()
    house.serve(max_connections=1)
    house.connect("ws")
    assert answer(house, b"GET /health HTTP/1.1")[0] == 200
    house.close()


def test_health_stands_elsewhere_or_nowhere_if_told_so() -> None:
    for path, statuses in ((None, (404, 404)), ("/up", (404, 200))):
        house = House()
        house.serve(health_endpoint=path)
        assert answer(house, b"GET /health HTTP/1.1")[0] == statuses[0]
        assert answer(house, b"GET /up HTTP/1.1")[0] == statuses[1]
        house.close()


def test_http_is_no_client(house: House) -> None:
    house.server.on_connection(lambda ctx: pytest.fail("it is none"))
    house.server.on_disconnect(lambda ctx: pytest.fail("it was none"))
    answer(house, b"GET /health HTTP/1.1")
    assert house.server.get_stats().total_connections == 0


SHARED = "Access-Control-Allow-Origin"


def ask_health(
    *fields: bytes, method: bytes = b"GET", **options: Any
) -> tuple[House, tuple[int, dict[str, str], bytes]]:
    house = House()
    house.serve(**options)
    return house, answer(house, b"\r\n".join([method + b" /health HTTP/1.1", *fields]))


def test_pages_of_all_origins_may_read_the_health_unless_some_are_named() -> None:
    _, (status, headers, _) = ask_health(b"Origin: https://any.example")
    assert (status, headers[SHARED]) == (200, "*")


@pytest.mark.parametrize(
    ("origin", "shared"),
    [
        (b"Origin: https://a.example", "https://a.example"),
        (b"Origin: https://A.example", "https://A.example"),  # as for those who connect
        (b"Origin: https://b.example", None),
        (b"Origin: https://a.example.evil", None),
        (b"Origin: null", None),
        (b"X: no browser", None),
    ],
)
def test_pages_of_other_origins_than_the_named_ones_may_not(origin: bytes, shared: str | None) -> None:
    _, (status, headers, body) = ask_health(origin, allowed_origins=["https://a.example"])
    assert (status, headers.get(SHARED), headers["Vary"]) == (200, shared, "Origin")
    assert json.loads(body)["status"] == "ok"  # no page reads it, but a monitor does


def test_a_preflight_is_answered_without_a_body() -> None:
    fields = (b"Origin: https://a.example", b"Access-Control-Request-Headers: X-Token")
    _, (status, headers, body) = ask_health(*fields, method=b"OPTIONS", allowed_origins=["https://a.example"])
    assert (status, body) == (204, b"")
    assert headers == {
        "Allow": "GET, HEAD, OPTIONS",
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "https://a.example",
        "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
        "Access-Control-Allow-Headers": "X-Token",
        "Access-Control-Max-Age": "86400",
        "Connection": "close",
    }


def test_a_preflight_that_asks_for_no_headers_is_told_of_none() -> None:
    _, (_, headers, _) = ask_health(b"Origin: https://a.example", method=b"OPTIONS")
    assert (headers[SHARED], "Access-Control-Allow-Headers" in headers) == ("*", False)


def test_a_preflight_of_another_origin_allows_nothing() -> None:
    _, (status, headers, _) = ask_health(
        b"Origin: https://b.example", method=b"OPTIONS", allowed_origins=["https://a.example"]
    )
    assert status == 204
    assert not [name for name in headers if name.startswith("Access-Control")]


def test_other_methods_are_told_which_ones_there_are() -> None:
    _, (status, headers, body) = ask_health(method=b"DELETE")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert body == b"only GET, HEAD, OPTIONS\n"


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_health_handler_answers_in_place_of_the_document(is_async: bool) -> None:
    def plain(request: Request, stats: Stats) -> HttpResponse:
        words = f"{request.method} {stats.active_connections}"
        return HttpResponse.of_text(words, status=503, headers=[("Retry-After", "3")])

    async def later(request: Request, stats: Stats) -> HttpResponse:
        return plain(request, stats)

    _, (status, headers, body) = ask_health(health_handler=later if is_async else plain)
    assert (status, body) == (503, b"GET 0")
    assert (headers["Retry-After"], headers[SHARED]) == ("3", "*")


@pytest.mark.parametrize("result", [None, {"status": "ok"}, "ok"])
def test_a_health_handler_that_returns_no_response_is_a_500(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    _, (status, _, _) = ask_health(health_handler=lambda request, stats: result)
    assert status == 500
    assert "health_handler returns HttpResponse" in str(raised(caplog.records))


def test_a_health_handler_that_raises_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request, stats: Stats) -> HttpResponse:
        raise LookupError("no database")

    _, (status, _, body) = ask_health(health_handler=broken)
    assert (status, body) == (500, b"the handler failed\n")
    assert [str(error) for error in raised(caplog.records)] == ["no database"]


# --- Pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_page_is_what_its_handler_returns(house: House, is_async: bool) -> None:
    requests: list[Request] = []

    def plain(request: Request) -> HttpResponse:
        requests.append(request)
        return HttpResponse.of_text("¡hola!", content_type="text/html", headers=[("X-Page", "1")])

    async def later(request: Request) -> HttpResponse:
        await house.loop.sleep(1)
        return plain(request)

    house.server.on_http("/page", later if is_async else plain)
    stream = ask(house, b"GET /page?a=1 HTTP/1.1")
    house.loop.advance(1)
    status, headers, body = parse(stream.take())
    assert (status, headers["Content-Type"], headers["X-Page"], body.decode()) == (
        200,
        "text/html",
        "1",
        "¡hola!",
    )
    assert stream.has_ended
    assert requests[0].query == {"a": ["1"]}
    assert house.server.virtual_runtime.spawned == int(is_async)


def test_a_head_request_gets_the_head_only(house: House) -> None:
    house.server.on_http("/page", lambda request: HttpResponse(body=b"12345"))
    status, headers, body = answer(house, b"HEAD /page HTTP/1.1")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"BREW"])
def test_other_methods_are_refused_with_405(house: House, method: bytes) -> None:
    house.server.on_http("/page", lambda request: pytest.fail("not for this"))
    status, headers, body = answer(house, method + b" /page HTTP/1.1")
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"only GET, HEAD\n")


@pytest.mark.parametrize("path", [b"/", b"/nowhere", b"/page/", b"/Page"])
def test_where_there_is_nothing_the_answer_is_404(house: House, path: bytes) -> None:
    house.server.on_http("/page", lambda request: pytest.fail("not this one"))
    for method in (b"GET ", b"POST "):
        assert answer(house, method + path + b" HTTP/1.1")[::2] == (404, b"there is nothing here\n")


def test_a_page_may_stand_where_health_was(house: House) -> None:
    house.server.on_http("/health")(lambda request: HttpResponse(204))
    assert answer(house, b"GET /health HTTP/1.1")[0] == 204


def test_json_is_compact_and_kept_by_no_cache() -> None:
    assert HttpResponse.of_json({"a": [1]}, status=201) == HttpResponse(
        201, b'{"a":[1]}', (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    )


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(
    "response",
    [
        None,
        "text",
        b"bytes",
        (200, b"a tuple", ()),
        HttpResponse(101),
        HttpResponse(1000),
        HttpResponse("200"),  # type: ignore[arg-type]
        HttpResponse(204, b"a body"),
        HttpResponse(200, "text"),  # type: ignore[arg-type]
        HttpResponse(200, None),  # type: ignore[arg-type]
        HttpResponse(200, b"", [("X: y\r\nSet-Cookie", "z")]),
        HttpResponse(200, b"", [("X", "a\r\nSet-Cookie: z")]),
        HttpResponse(200, b"", ["X"]),  # type: ignore[list-item]
        HttpResponse(200, b"", 5),  # type: ignore[arg-type]
        HttpResponse(200, b"x", [("Content-Length", "7")]),
        HttpResponse(200, b"x" * (16 * 1024 * 1024 + 1)),
    ],
    ids=lambda response: repr(response)[:50],
)
def test_what_is_no_response_is_logged_and_answered_with_500(
    house: House, is_async: bool, response: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def later(request: Request) -> Any:
        return response

    house.server.on_http("/page", later if is_async else lambda request: response)
    assert answer(house, b"GET /page HTTP/1.1")[::2] == (500, b"the handler failed\n")
    assert "the HTTP handler of '/page' failed" in caplog.text
    assert len(raised(caplog.records)) == 1


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_handler_that_raises_is_logged_and_answered_with_500(
    house: House, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(request: Request) -> HttpResponse:
        raise RuntimeError("secret")

    async def later(request: Request) -> HttpResponse:
        return plain(request)

    house.server.on_http("/page", later if is_async else plain)
    assert answer(house, b"GET /page HTTP/1.1")[::2] == (500, b"the handler failed\n")
    assert [str(error) for error in raised(caplog.records)] == ["secret"]


@pytest.mark.parametrize("fails", [False, True])
def test_who_does_not_wait_for_the_page_gets_none(
    house: House, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def later(request: Request) -> HttpResponse:
        await house.loop.sleep(1)
        if fails:
            raise RuntimeError
        return HttpResponse()

    house.server.on_http("/page", later)
    stream = ask(house, b"GET /page HTTP/1.1")
    stream.reset()
    house.loop.advance(1)
    assert stream.take() == b""
    assert len(raised(caplog.records)) == int(fails)


def test_a_page_that_takes_too_long_is_cut_by_the_connect_timeout(house: House) -> None:
    async def later(request: Request) -> HttpResponse:
        await house.loop.sleep(60)
        return HttpResponse()

    house.server.on_http("/page", later)
    stream = ask(house, b"GET /page HTTP/1.1")
    house.loop.advance(10)
    assert stream.is_cut
    house.loop.advance(60)


def test_a_page_has_one_handler_and_a_path(house: House) -> None:
    server = house.server
    assert server.on_http("/page", HttpResponse) is HttpResponse  # type: ignore[comparison-overlap, arg-type]
    with pytest.raises(StateError, match="'/page' have a handler already"):
        server.on_http("/page", HttpResponse)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a path begins with a slash and has no query, not 'page'"):
        server.on_http("page")
    with pytest.raises(ValueError, match=r"has no query, not '/page\?x'"):
        server.on_http("/page?x", HttpResponse)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not 5"):
        server.on_http(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a handler is a function, not str"):
        server.on_http("/other", "text")  # type: ignore[call-overload]

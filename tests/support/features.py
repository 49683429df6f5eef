"""The feature tables, and which conformance tests show which row: the source of ``docs/features.md``.

A test names its rows with ``@pytest.mark.feature("row", …)``. ``python -m tests.support.features`` writes the
document; a test holds the two together, and no row may be without a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/features.md"
CONFORMANCE = ROOT / "tests/conformance"

SERVER_OPTIONS = {
    "host": "the address that is listened on",
    "port": "HTTP and WebSocket; 0 picks a free one; one in use is an error that names it",
    "unix_path": "a Unix socket in place of host and port",
    "sock": "a socket that listens already",
    "tcp_port": "the binary protocol on a second port, with `tcp_host` if it differs",
    "tcp_dialect": "`documented`, or `npm` for peers of the npm package",
    "namespace": "the path of WebSocket clients; `of(path)` adds others to the same listener",
    "max_connections": "clients of the whole server",
    "max_connections_per_ip": "clients from one address",
    "trusted_proxies": "whose word on a client's address is believed",
    "proxy_protocol": "the PROXY protocol, versions 1 and 2, in front of the binary one",
    "max_rooms": "rooms of the whole server",
    "max_rooms_per_client": "rooms that one client is in",
    "max_payload_size": "of a message, refused at its header",
    "max_frame_size": "of a frame, refused at its header",
    "rate_limit": "a token bucket for each client",
    "event_rate_limits": "one for each client and event of that name",
    "rate_limiter": "a limiter of the application's own, plain or async",
    "ip_tracker": "the count of connections by address, plain or async, of the application's own",
    "generate_client_id": "ids in the application's own format; a duplicate is refused",
    "heartbeat_interval": "silence after which a sign of life is asked for",
    "heartbeat_timeout": "how long that question may stand",
    "connect_timeout": "one deadline for TLS, handshake and middleware",
    "health_endpoint": "where the health of the server is told",
    "health_handler": "tells it in the application's own way",
    "allowed_origins": "whose pages may connect",
    "subprotocols": "of WebSocket clients, by preference",
    "tls": "for both ports; `reload_tls` takes a new certificate without dropping a connection",
    "graceful_shutdown": "SIGINT and SIGTERM say goodbye to every client first",
    "shutdown_timeout": "how long a stop waits for clients and handlers",
    "outbox_limit": "what may wait for one client to read",
    "slow_consumer": "what a client gets that does not read",
    "inbox_limit": "messages that wait for a client's handler; beyond them it is not read",
    "serializer": "JSON to and from text, the application's own",
    "compression": "permessage-deflate; a broadcast is compressed once",
    "hooks": "functions that are told, and some of them asked, what happens",
    "logger": "where the server reports",
}

SERVER_METHODS = {
    "on": "events from clients",
    "on_all": "events that nobody else handles",
    "on_connection": "a client was taken in",
    "on_disconnect": "a client is gone",
    "on_ack": "requests, answered with what the handler returns",
    "use": "middleware, in front of every client",
    "of": "another namespace on the same listener",
    "on_http": "plain HTTP beside the WebSocket",
    "broadcast": "to everyone in the namespace, encoded once per wire",
    "broadcast_binary": "raw bytes to everyone",
    "to": "to a room",
    "to_binary": "raw bytes to a room",
    "to_id": "to one client",
    "get_clients": "ids of all clients, or of those in a room",
    "get_room_members": "ids of those in a room",
    "get_rooms": "the rooms that somebody is in",
    "get_stats": "what was counted, and the memory in use",
    "get_port": "the port that is listened on",
    "get_tcp_port": "that of the binary protocol",
    "update_config": "options changed at run time, all or none",
    "get_config": "the options as they are, read only",
    "set_event_rate_limit": "a limit for one event, at run time",
    "remove_event_rate_limit": "takes it back",
    "set_client_rate_limit": "a limit for one client, before all others",
    "remove_client_rate_limit": "takes it back",
    "start": "returns the port",
    "stop": "says goodbye to every client, waits, cuts who is left",
    "serve_forever": "serves until a signal, a stop or a cancellation",
    "serve": "on trio: serves in a nursery, and tells when it has started",
    "on_shutdown": "called when the server stops",
    "disconnect": "closes one client's connection",
    "reload_tls": "a new certificate for new connections",
}

CONTEXT = {
    "ctx.id": "the client's id",
    "ctx.transport": "its wire",
    "ctx.request": "the request of its handshake",
    "ctx.subprotocol": "what was agreed upon in it",
    "ctx.event": "the event's name",
    "ctx.data": "the event's data",
    "ctx.is_binary": "whether that is raw bytes",
    "ctx.client_info": "rooms, metadata, address, wire, counters",
    "ctx.emit": "to the client",
    "ctx.emit_binary": "raw bytes to the client",
    "ctx.send": "in the shape of an answer, as an event",
    "ctx.ack": "answers a request",
    "ctx.broadcast": "to everyone else",
    "ctx.broadcast_binary": "raw bytes to everyone else",
    "ctx.to": "to everyone else in a room",
    "ctx.to_id": "to one client",
    "ctx.join_room": "puts the client into a room",
    "ctx.leave_room": "takes it out",
    "ctx.get_clients": "ids of all clients, or of those in a room",
    "ctx.set_metadata": "kept with the client",
    "ctx.get_metadata": "what was kept",
    "ctx.disconnect": "closes the connection",
    "ctx.drain": "waits for a client that reads slowly",
    "ctx.reject": "in middleware: refuses with a status and words",
}

HOOKS = {
    "on_rate_limit_exceeded": "a client was too fast; False: it is not disconnected",
    "on_max_connections_reached": "the server was full",
    "on_max_rooms_reached": "there were too many rooms",
    "on_max_rooms_per_client_reached": "a client was in too many rooms",
    "on_payload_too_large": "a client sent too large a message",
    "on_invalid_message": "a client sent what is no message",
    "on_client_join_room": "a client joins a room; False refuses",
    "on_client_leave_room": "a client leaves a room; False refuses",
    "on_before_broadcast": "something goes to many; False cancels",
    "on_client_connect": "a client was taken in",
    "on_client_disconnect": "a client is gone",
}

PROMISES = {
    "health: JSON": "the documented keys",
    "health: HEAD": "the head of the answer to GET",
    "health: CORS": "for allowed origins, with the preflight",
    "health: other paths": "404",
    "order": "messages of one client are handled in order, one at a time, clients independently",
    "raising handlers": "a handler that raises is logged and disturbs nothing",
    "requests within handlers": "a handler may await an answer of the same client",
    "rooms": "from the first join to the last leave, whatever ends the connection",
    "one room for both wires": "clients of WebSocket and TCP share rooms, broadcasts and events",
    "nothing is lost": "what was accepted arrives while the connection lives",
    "logs": "structured, with client id, event and reason",
}

CLIENT_OPTIONS = {
    "client: mode": "the wire, where the URL does not say",
    "client: tcp_dialect": "`documented`, or `npm` for a server of the npm package",
    "client: reconnection": "connects again by itself",
    "client: reconnection_attempts": "how often in a row",
    "client: reconnection_delay": "of the first attempt; exponential, with jitter",
    "client: max_reconnection_delay": "of any attempt",
    "client: custom_reconnect_delay": "the application's own delays",
    "client: message_queue_size": "messages kept while there is no connection",
    "client: queue_rate": "how many of them a second are sent when there is one",
    "client: handler_timeout": "how long handlers of a connection that has ended may go on",
    "client: heartbeat_interval": "a server that has gone silent is noticed",
    "client: connect_timeout": "for name, proxy, connection, TLS, redirects and handshake together",
    "client: proxy": "an HTTP proxy, by its URL or the environment, on both wires",
    "client: redirects": "of the handshake, followed on the same host only",
    "client: ack_timeout": "how long a request waits for its answer",
    "client: max_payload_size": "of a message, refused at its header",
    "client: max_frame_size": "of a frame, refused at its header",
    "client: tls": "certificate and host name are verified",
    "client: reject_unauthorized": "unless this is off, which is logged",
    "client: headers": "of the handshake",
    "client: subprotocols": "offered in it; `client.subprotocol` is what was chosen",
    "client: accept_npm_handshake": "for servers of the npm package",
    "client: serializer": "JSON to and from text, the application's own",
    "client: hooks": "functions that are told, and one of them asked, what happens",
    "client: logger": "where the client reports",
}

CLIENT_METHODS = {
    "client: async with client": "connected in its body",
    "client: connect": "raises what happened",
    "client: disconnect": "at any moment, at once and completely",
    "client: wait_closed": "until there is no connection and there will be none",
    "client: on": "several handlers of an event, plain or async, in order",
    "client: once": "a handler that is called once",
    "client: off": "takes a handler back",
    "client: on_all": "every event",
    "client: on_ack": "answers that nobody awaits",
    "client: remove_all_listeners": "of one event or of all",
    "client: emit": "an event, or a request whose answer a handler gets",
    "client: emit_binary": "raw bytes",
    "client: send_file": "from a path, bytes or a file object, with progress",
    "client: send_image": "the same for pictures",
    "client: request": "awaits the answer; every one ends",
    "client: join_room": "again after each reconnection",
    "client: leave_room": "and not again",
    "client: messages": "iterates over what comes in, bounded",
    "client: drain": "waits until most has left",
    "client: is_connected": "whether it is",
    "client: get_state": "`disconnected`, `connecting`, `connected`, `reconnecting`",
    "client: get_id": "what the server calls it",
    "client: get_url": "where it connects to",
    "client: set_url": "another, from the next connection on",
    "client: get_messages_sent": "counted",
    "client: get_messages_received": "counted",
    "client: get_last_error": "what went wrong last",
    "client: get_connect_time": "how long connecting took",
    "client: get_queue_size": "messages that wait for a connection",
    "client: update_options": "changed while it runs, all or none",
    "client: get_options": "as they are, read only",
}

CLIENT_EVENTS = {
    "client: reconnecting": "an attempt begins",
    "client: reconnect_failed": "the last one has failed",
    "client: error": "something went wrong",
    "client: on_before_emit": "hook: something is sent; False cancels",
    "client: on_message": "hook: something came in",
    "client: on_state_change": "hook: connected, or no more",
    "client: on_reconnect_delay": "hook: decides how long the next attempt waits",
    "client: on_message_queued": "hook: a message waits for a connection",
    "client: on_queue_drained": "hook: none does any more",
    "client: on_error": "hook: something went wrong",
}

PLAIN = {
    "serve_websocket": "a server of plain WebSocket connections",
    "connect_websocket": "a connection to one",
    "process_request": "answers plain HTTP, or refuses",
    "origins": "whose pages may connect",
    "ws.recv": "one message; cancelled, it loses none",
    "ws.send": "waits while the peer does not read",
    "ws.send_fragments": "a message in parts",
    "ws.ping": "measures the latency",
    "ws.close": "the closing handshake",
    "ws.close_code": "both sides know code and reason",
    "ws.subprotocol": "what was agreed on",
}

TABLES = {
    "Options of the server": SERVER_OPTIONS,
    "Methods of the server": SERVER_METHODS,
    "The context of a handler": CONTEXT,
    "Hooks of the server": HOOKS,
    "What else a server promises": PROMISES,
    "Options of the client": CLIENT_OPTIONS,
    "Methods of the client": CLIENT_METHODS,
    "Events and hooks of the client": CLIENT_EVENTS,
    "Plain WebSocket": PLAIN,
}


def marked_tests() -> Iterator[tuple[str, str, str]]:
    """The rows, file and name of each test that shows a row."""
    for path in sorted(CONFORMANCE.glob("test_*.py")):
        module = import_module(f"tests.conformance.{path.stem}")
        for name, test in vars(module).items():
            if name.startswith("test_"):
                for mark in [*_marks_of(module), *_marks_of(test)]:
                    if mark.name == "feature":
                        yield from ((row, path.name, name) for row in mark.args)


def _marks_of(marked: object) -> Iterator[Any]:
    marks = getattr(marked, "pytestmark", [])
    for mark in marks if isinstance(marks, list) else [marks]:
        yield getattr(mark, "mark", mark)  # that of a module is still a decorator


def rows_shown() -> dict[str, list[tuple[str, str]]]:
    """File and name of the tests that show each row."""
    tests: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row, file, name in marked_tests():
        tests[row].append((file, name))
    return tests


def render() -> str:
    """The document."""
    lines = [
        "# Features, and the tests that show them",
        "",
        "Every test below runs on asyncio, uvloop and trio; where a wire matters, over WebSocket and TCP."
        " `make features` writes this page from the tests' own marks.",
    ]
    tests = rows_shown()
    for title, rows in TABLES.items():
        lines += ["", f"## {title}", "", "| | | shown by |", "|---|---|---|"]
        for row, promise in rows.items():
            shown = "<br>".join(
                f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/conformance/{file})"
                for file, name in tests.get(row, [])
            )
            lines.append(f"| `{row}` | {promise} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render())

"""Control frames and the close handshake, both roles (RFC 6455, sections 5.5 and 7)."""

from __future__ import annotations

import pytest

from stelar_proto.errors import StateError, StreamEnded
from stelar_proto.ws import Close, Closed, PingReceived, PongReceived, Role, State, TextReceived

from .chunking import cuts
from .feeding import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIRST_TEXT,
    PING,
    PONG,
    REQUEST,
    TEXT,
    both_roles,
    bytewise,
    close_frame,
    closing_connection,
    comparable,
    failure,
    feed,
    new_connection,
    open_connection,
    sent_by,
    sent_to,
)

# --- Control frames -------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"x" * 125])
def test_a_ping_is_answered_with_its_payload_and_a_pong_with_nothing(role: Role, payload: bytes) -> None:
    for chunks in cuts(sent_to(role, PING, payload) + sent_to(role, PONG, payload)):
        conn = open_connection(role)
        assert feed(conn, chunks) == [PingReceived(payload), PongReceived(payload)]
        assert conn.data_to_send() == sent_by(role, PONG, payload)


@both_roles
def test_pings_are_answered_in_order_between_what_is_sent(role: Role) -> None:
    conn = open_connection(role)
    conn.send_text("a")
    conn.receive_data(sent_to(role, PING, b"1") + sent_to(role, PING, b"2"))
    conn.send_binary(b"b")
    assert conn.data_to_send() == (
        sent_by(role, TEXT, b"a")
        + sent_by(role, PONG, b"1")
        + sent_by(role, PONG, b"2")
        + sent_by(role, BINARY, b"b")
    )
    assert conn.data_to_send() == b""


# --- The close handshake --------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xe9going \xe2\x98\x83", 1001, "going ☃"),
        (b"\x0b\xb8", 3000, ""),
        (b"\x13\x87" + b"x" * 123, 4999, "x" * 123),
    ],
)
def test_a_close_is_echoed_and_ends_the_connection(
    role: Role, payload: bytes, code: int, reason: str
) -> None:
    data = sent_to(role, TEXT, b"last") + sent_to(role, CLOSE, payload)
    for chunks in cuts(data + sent_to(role, TEXT, b"ignored") + b"\xff\xff"):
        conn = open_connection(role)
        assert feed(conn, chunks) == [TextReceived("last"), Closed(code, reason, None)]
        assert conn.data_to_send() == sent_by(role, CLOSE, payload)
        assert conn.close_received == conn.close_sent == Close(code, reason)
        assert conn.state is State.CLOSED


@both_roles
def test_a_close_without_a_code_is_answered_with_1000(role: Role) -> None:
    conn = open_connection(role)
    assert conn.receive_data(sent_to(role, CLOSE)) == [Closed(1005, "", None)]
    assert conn.data_to_send() == close_frame(role, 1000)
    assert (conn.close_received, conn.close_sent) == (Close(1005, ""), Close(1000, ""))


@both_roles
@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (1000, "", b"\x03\xe8"),
        (1001, "Server shutting down", b"\x03\xe9Server shutting down"),
        (4000, "☃" * 42, b"\x0f\xa0" + "☃".encode() * 41),
        (None, "", b""),
    ],
)
def test_a_close_that_is_sent_waits_for_the_peers(
    role: Role, code: int | None, reason: str, payload: bytes
) -> None:
    conn = open_connection(role)
    conn.close(code, reason)
    assert repr(conn) == f"<ws.Connection {role.value} closing>"
    assert conn.data_to_send() == sent_by(role, CLOSE, payload)
    assert conn.close_sent == Close(1005 if code is None else code, payload[2:].decode())
    assert conn.close_received is None
    assert conn.receive_data(sent_to(role, CLOSE, b"\x03\xe8echo")) == [Closed(1000, "echo", None)]
    assert conn.state is State.CLOSED
    assert conn.data_to_send() == b""
    assert conn.receive_data(b"") == []


def test_a_plain_close_is_1000() -> None:
    conn = open_connection(Role.SERVER)
    conn.close()
    assert conn.data_to_send() == b"\x88\x02\x03\xe8"


@both_roles
def test_both_sides_may_close_at_once(role: Role) -> None:
    conn = open_connection(role)
    conn.close(1001, "mine")
    assert conn.data_to_send() == close_frame(role, 1001, "mine")
    assert conn.receive_data(sent_to(role, CLOSE, b"\x0f\xa0yours")) == [Closed(4000, "yours", None)]
    assert conn.data_to_send() == b""
    assert conn.close_sent == Close(1001, "mine")
    assert conn.close_received == Close(4000, "yours")


@both_roles
def test_a_close_between_fragments_ends_the_connection(role: Role) -> None:
    conn = open_connection(role)
    data = sent_to(role, FIRST_TEXT, b"never finished") + sent_to(role, CLOSE, b"\x03\xe8")
    assert conn.receive_data(data) == [Closed(1000, "", None)]


@both_roles
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"\x03", 1002, "a close frame has no payload or at least two bytes of it"),
        (b"\x03\xe7", 1002, "close code 999 must not be on the wire"),
        (b"\x03\xed", 1002, "close code 1005 must not be on the wire"),
        (b"\x03\xee", 1002, "close code 1006 must not be on the wire"),
        (b"\x03\xf7", 1002, "close code 1015 must not be on the wire"),
        (b"\x13\x88", 1002, "close code 5000 must not be on the wire"),
        (b"\x03\xe8\xc3\x28", 1007, "the close reason is not UTF-8"),
        (b"\x03\xe8" + b"x" * 122 + b"\xe2", 1007, "the close reason is not UTF-8"),
    ],
)
def test_a_broken_close_is_answered_with_what_is_wrong(
    role: Role, payload: bytes, code: int, reason: str
) -> None:
    for chunks in cuts(sent_to(role, CLOSE, payload) + b"\xff"):
        conn = open_connection(role)
        assert comparable(feed(conn, chunks)) == [failure(code, reason)]
        assert conn.data_to_send() == close_frame(role, code, reason)
        assert (conn.close_sent, conn.close_received) == (Close(code, reason), None)


@both_roles
def test_messages_and_pongs_are_received_while_closing(role: Role) -> None:
    data = (
        sent_to(role, FIRST_TEXT, b"still ")
        + sent_to(role, PONG, b"!")
        + sent_to(role, CONTINUATION, b"here")
        + sent_to(role, CLOSE, b"\x03\xe8")
    )
    for chunks in cuts(data):
        conn = closing_connection(role)
        assert feed(conn, chunks) == [PongReceived(b"!"), TextReceived("still here"), Closed(1000, "", None)]
        assert conn.data_to_send() == b""


@both_roles
def test_a_ping_is_answered_while_closing_but_not_behind_the_peers_close(role: Role) -> None:
    conn = closing_connection(role)
    ping, close = sent_to(role, PING, b"?"), sent_to(role, CLOSE)
    assert conn.receive_data(ping + close + ping) == [PingReceived(b"?"), Closed(1005, "", None)]
    assert conn.data_to_send() == sent_by(role, PONG, b"?")


@both_roles
def test_what_is_wrong_while_closing_ends_the_connection_without_a_second_close(role: Role) -> None:
    for data, code, reason in [
        (b"\x83", 1002, "opcode 0x3 is reserved"),
        (sent_to(role, TEXT, b"\xff"), 1007, "text is not UTF-8"),
        (sent_to(role, CLOSE, b"\x03"), 1002, "a close frame has no payload or at least two bytes of it"),
    ]:
        conn = closing_connection(role)
        assert comparable(conn.receive_data(data)) == [failure(code, reason)]
        assert conn.data_to_send() == b""
        assert conn.close_sent == Close(1000, "")


@both_roles
@pytest.mark.parametrize("closing", [False, True])
def test_the_end_of_the_stream_without_a_close_is_1006(role: Role, closing: bool) -> None:
    starts = [
        b"",
        b"\x81",
        sent_to(role, TEXT, b"half")[:-2],
        sent_to(role, FIRST_TEXT, b"x"),
        sent_to(role, PING)[:1],
    ]
    for start in starts:
        conn = closing_connection(role) if closing else open_connection(role)
        assert feed(conn, bytewise(start)) == []
        assert comparable(conn.receive_data(b"")) == [
            (1006, "", StreamEnded, "the stream ended without a close frame", None)
        ]
        assert conn.state is State.CLOSED
        assert conn.data_to_send() == b""
        assert conn.close_received is None
        assert conn.receive_data(b"") == conn.receive_data(sent_to(role, TEXT, b"late")) == []


# --- The last words -----------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize(
    ("first_byte", "payload", "code", "reason"),
    [
        (CLOSE, b"\x03\xe8bye", 1000, "bye"),
        (TEXT, b"\xff", 1007, "text is not UTF-8"),
        (0x83, b"", 1002, "opcode 0x3 is reserved"),
    ],
    ids=["close", "text", "header"],
)
def test_what_came_before_the_end_can_still_be_answered(
    role: Role, first_byte: int, payload: bytes, code: int, reason: str
) -> None:
    conn = open_connection(role)
    conn.send_part("un", final=False)
    conn.receive_data(sent_to(role, TEXT, b"a question") + sent_to(role, first_byte, payload))
    assert conn.can_send
    assert (conn.state, conn.close_sent) == (State.CLOSED, Close(code, reason))
    conn.send_part("finished", final=True)
    conn.send_text("an answer")
    conn.ping()
    conn.close(4000, "has no effect")
    assert conn.data_to_send() == b"".join(
        [
            sent_by(role, FIRST_TEXT, b"un"),
            sent_by(role, CONTINUATION, b"finished"),
            sent_by(role, TEXT, b"an answer"),
            sent_by(role, PING),
            close_frame(role, code, reason),
        ]
    )
    assert not conn.can_send
    assert conn.data_to_send() == b""
    with pytest.raises(StateError, match="nothing can be sent now: the connection is closed"):
        conn.send_text("too late")


@both_roles
def test_the_rules_of_sending_hold_for_the_last_answers_too(role: Role) -> None:
    conn = open_connection(role)
    conn.send_part("un", final=False)
    conn.receive_data(sent_to(role, CLOSE))
    with pytest.raises(StateError, match="a message is being sent in parts"):
        conn.send_text("an answer")
    assert conn.data_to_send() == sent_by(role, FIRST_TEXT, b"un") + close_frame(role, 1000)


@both_roles
def test_nothing_can_be_sent_behind_a_close_of_our_own_or_without_a_handshake(role: Role) -> None:
    conn = open_connection(role)
    assert conn.can_send
    conn.close()
    assert not conn.can_send
    for data in (sent_to(role, CLOSE), b"\xff", b""):
        conn = closing_connection(role)
        conn.receive_data(data)
        assert not conn.can_send
    conn = new_connection(role)
    assert not conn.can_send
    conn.receive_data(b"\x16\x03\x01")
    assert not conn.can_send
    conn = open_connection(role)
    conn.receive_data(b"")
    assert not conn.can_send


# --- The end of the stream (section 7.1.1) ------------------------------------------------------------------


def test_behind_a_close_handshake_the_server_ends_its_stream_first() -> None:
    server, client = open_connection(Role.SERVER), open_connection(Role.CLIENT)
    server.close()
    assert not server.wants_eof
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    assert (server.wants_eof, client.wants_eof) == (True, False)
    client.receive_data(b"")
    assert client.wants_eof


def test_a_server_ends_its_stream_when_its_last_words_were_taken() -> None:
    conn = open_connection(Role.SERVER)
    conn.receive_data(sent_to(Role.SERVER, CLOSE))
    assert not conn.wants_eof
    conn.data_to_send()
    assert conn.wants_eof
    refusing = new_connection(Role.SERVER)
    refusing.receive_data(REQUEST)
    assert not refusing.wants_eof
    refusing.respond(403)
    assert not refusing.wants_eof
    refusing.data_to_send()
    assert refusing.wants_eof


@both_roles
@pytest.mark.parametrize("data", [b"\xff", b""], ids=["fault", "end"])
def test_without_a_close_handshake_either_side_ends_its_stream_at_once(role: Role, data: bytes) -> None:
    for conn in (open_connection(role), closing_connection(role), new_connection(role)):
        conn.receive_data(data)
        conn.data_to_send()
        assert conn.wants_eof

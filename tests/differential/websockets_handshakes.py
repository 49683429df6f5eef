"""What websockets does otherwise than we in handshakes: two tables, with sections of RFC 6455 and of HTTP."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from stelar_proto.errors import HandshakeError
from stelar_proto.ws.http1 import RequestReader

from .handshake_rows import (
    REQUEST_LINE,
    Difference,
    elements,
    interim_is_final,
    is_list,
    nothing_in_front,
    other_upgrade,
)
from .handshakes import KEY, Verdict, opened
from .heads import INTERIM, REQUEST, RESPONSE, Head, Line


def _any_host(head: Head) -> Head:
    return head.with_values("host", "localhost")


def _any_target(head: Head) -> Head:
    match = REQUEST_LINE.fullmatch(head.start)
    return head._replace(start=f"{match[1]} / {match[3]}") if match and match[2].isascii() else head


def _one_protocol_to_upgrade_to(head: Head) -> Head:
    values = head.values("upgrade")
    protocols = [protocol.lower() for value in values for protocol in elements(value)]
    return other_upgrade(head) if all(map(is_list, values)) and protocols != ["websocket"] else head


def _any_spelling_of_a_key(head: Head) -> Head:
    keys = head.values("sec-websocket-key")
    try:
        right = len(keys) == 1 and len(base64.b64decode(keys[0].encode(), validate=True)) == 16
    except binascii.Error:
        right = False
    return head.with_values("sec-websocket-key", KEY) if right else head


def _doubles_are_offered_once(head: Head) -> Head:
    values = head.values("sec-websocket-protocol")
    if not values or not all(map(is_list, values)):
        return head
    offered = dict.fromkeys(name for value in values for name in elements(value))
    return head.with_values("sec-websocket-protocol", ", ".join(offered))


def _broken_http_gets_no_answer(head: Head, verdict: Verdict) -> Verdict:
    try:
        RequestReader().feed(head.encode())
    except HandshakeError:
        return Verdict("no answer")
    return verdict


def _http_1_0_is_505(head: Head, verdict: Verdict) -> Verdict:
    return Verdict(505) if head.start.endswith("HTTP/1.0") and verdict.answer == 400 else verdict


def _no_upgrade_is_426(head: Head, verdict: Verdict) -> Verdict:
    return Verdict(426) if verdict.answer == "plain HTTP" else verdict


def _no_connection_upgrade_is_426(head: Head, verdict: Verdict) -> Verdict:
    options = [option.lower() for value in head.values("connection") for option in elements(value)]
    return Verdict(426) if verdict.answer == 400 and "upgrade" not in options else verdict


def _another_version_is_400(head: Head, verdict: Verdict) -> Verdict:
    return (
        Verdict(400) if verdict.answer == 426 and head.values("sec-websocket-version") != ["13"] else verdict
    )


def _one_origin(head: Head, verdict: Verdict) -> Verdict:
    return Verdict(400) if len(head.values("origin")) > 1 else verdict


def _a_reason_is_needed(head: Head, verdict: Verdict) -> Verdict:
    return Verdict("failed") if re.fullmatch(r"HTTP/1\.[0-9] [0-9]{3}", head.start) else verdict


def _no_folded_lines(head: Head, verdict: Verdict) -> Verdict:
    folded = any("\r\n" in line.value or line.is_folded for line in head.lines)
    return Verdict("failed") if folded else verdict


def _a_list_of_one_subprotocol(head: Head) -> Head:
    values = head.values("sec-websocket-protocol")
    names = [name for value in values for name in elements(value)]
    if len(names) != 1 or not all(map(is_list, values)):
        return head
    return head.with_values("sec-websocket-protocol", *names)


def _lists_are_judged(names: tuple[str, ...], refusal: Verdict) -> Callable[[Head, Verdict], Verdict]:
    def judges(head: Head, verdict: Verdict) -> Verdict:
        right = all(is_list(value) for name in names for value in head.values(name))
        return verdict if right else refusal

    return judges


def _no_later_version(refusal: Verdict) -> Callable[[Head, Verdict], Verdict]:
    def judges(head: Head, verdict: Verdict) -> Verdict:
        return refusal if re.search(r"HTTP/1\.[2-9]", head.start) else verdict

    return judges


# --- The tables ---------------------------------------------------------------------------------------------

# The rows of a table are applied from top to bottom.
SERVER = [
    Difference(
        "4.2.1, item 2: a Host header field; RFC 9112, section 3.2: without a good one MUST be answered "
        "with 400",
        "stelar",
        "does not look at Host, which it documents as up to the caller",
        REQUEST.without("host"),
        Verdict(400),
        opened(),
        reads_as=_any_host,
    ),
    Difference(
        "4.2.1, item 1: a resource name or an absolute URL; RFC 9112, section 3.2: * is for OPTIONS only",
        "stelar",
        "does not look at the target, but that it is ASCII",
        REQUEST._replace(start="GET * HTTP/1.1"),
        Verdict(400),
        opened(),
        reads_as=_any_target,
    ),
    Difference(
        "4.2.1, item 5: the key is 16 bytes in base64; RFC 4648, section 3.5: other spellings MAY be refused",
        "both",
        "takes a key whose last character has bits that mean nothing",
        REQUEST.with_values("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR=="),
        Verdict(400),
        opened(key="dGhlIHNhbXBsZSBub25jZR=="),
        reads_as=_any_spelling_of_a_key,
    ),
    Difference(
        "4.1, item 10: the subprotocols that a client offers MUST all be unique",
        "stelar",
        "takes one that is offered twice",
        REQUEST.with_values("sec-websocket-protocol", "chat, chat"),
        Verdict(400),
        opened("chat"),
        reads_as=_doubles_are_offered_once,
    ),
    Difference(
        "4.2.1, item 3: an Upgrade that contains websocket; RFC 9110, section 7.8: it is a list",
        "stelar",
        "takes no choice of protocols, but websocket alone",
        REQUEST.with_values("upgrade", "websocket, h2c"),
        opened(),
        Verdict(426),
        reads_as=_one_protocol_to_upgrade_to,
    ),
    Difference(
        "RFC 9110, sections 7.8 and 15.5.22: a server MAY ignore Upgrade, and may ask for one with 426",
        "both",
        "serves no plain HTTP of itself, and answers with 426; we leave it to the application",
        REQUEST.without("upgrade"),
        Verdict("plain HTTP"),
        Verdict(426),
        judges=_no_upgrade_is_426,
    ),
    Difference(
        "4.2.1: an appropriate error code, such as 400",
        "both",
        "answers a Connection without Upgrade with 426",
        REQUEST.with_values("connection", "close"),
        Verdict(400),
        Verdict(426),
        judges=_no_connection_upgrade_is_426,
    ),
    Difference(
        "4.2.2, item 4, and 4.4: another version is answered with an error such as 426, and the versions "
        "spoken",
        "stelar",
        "answers another version with 400, and does not say which it speaks",
        REQUEST.with_values("sec-websocket-version", "8"),
        Verdict(426),
        Verdict(400),
        judges=_another_version_is_400,
    ),
    Difference(
        "4.2.1: an appropriate error code, such as 400; RFC 9110, section 15.6.6: 505 is for the major "
        "version",
        "both",
        "answers HTTP/1.0 with 505",
        REQUEST._replace(start="GET /chat HTTP/1.0"),
        Verdict(400),
        Verdict(505),
        judges=_http_1_0_is_505,
    ),
    Difference(
        "RFC 9110, section 5.6.1: a recipient MUST accept lists with empty elements, elements are tokens",
        "both",
        "refuses a line of a list that has no element, even if another line has, and what is no token; in "
        "Connection and Upgrade we look for the one that counts",
        REQUEST.with_values("connection", "keep alive, Upgrade"),
        opened(),
        Verdict(400),
        judges=_lists_are_judged(("connection", "upgrade", "sec-websocket-protocol"), Verdict(400)),
    ),
    Difference(
        "4.2.1, item 7: Origin is optional; RFC 6454, section 7.3: a user agent sends no more than one",
        "both",
        "refuses several Origin fields; we leave origins to the application",
        REQUEST.plus(Line("Origin", "http://a"), Line("Origin", "http://a")),
        opened(),
        Verdict(400),
        judges=_one_origin,
    ),
    Difference(
        "4.2.1: the server MUST return an HTTP response with an appropriate error code, such as 400",
        "stelar",
        "ends the connection without an answer to what is no HTTP, or has a body",
        REQUEST.plus(Line("X", "a\0b")),
        Verdict(400),
        Verdict("no answer"),
        judges=_broken_http_gets_no_answer,
    ),
    Difference(
        "4.2.1, item 1: HTTP/1.1 or higher; RFC 9110, section 2.5: a later minor version SHOULD be read as "
        "1.1",
        "stelar",
        "reads HTTP/1.1 and 1.0 only",
        REQUEST._replace(start="GET /chat HTTP/1.2"),
        opened(),
        Verdict("no answer"),
        judges=_no_later_version(Verdict("no answer")),
    ),
    Difference(
        "RFC 9112, section 2.2: an empty line in front of a request SHOULD be ignored",
        "stelar",
        "takes it for a request",
        REQUEST._replace(before="\r\n"),
        opened(),
        Verdict("no answer"),
        judges=nothing_in_front(Verdict("no answer")),
    ),
]
CLIENT = [
    Difference(
        "4.1: a status that is not 101 is handled as HTTP says; RFC 9110, section 15.2: a client MUST be "
        "able to parse interim responses in front of the final one",
        "stelar",
        "takes an interim response for the answer",
        RESPONSE._replace(before=INTERIM),
        Verdict(101),
        Verdict(103),
        judges=interim_is_final,
    ),
    Difference(
        "RFC 9112, section 4: the space behind the status MUST be there even if the reason is not",
        "both",
        "fails where it is not; we and h11 read what many servers send",
        RESPONSE._replace(start="HTTP/1.1 101"),
        Verdict(101),
        Verdict("failed"),
        judges=_a_reason_is_needed,
    ),
    Difference(
        "RFC 9112, section 5.2: a user agent MUST read folded lines as one",
        "stelar",
        "fails, as servers may",
        RESPONSE.plus(Line("X", "a\r\n b")),
        Verdict(101),
        Verdict("failed"),
        judges=_no_folded_lines,
    ),
    Difference(
        "RFC 9110, section 2.5: a later minor version SHOULD be read as 1.1",
        "stelar",
        "reads HTTP/1.1 only",
        RESPONSE._replace(start="HTTP/1.2 101 x"),
        Verdict(101),
        Verdict("failed"),
        judges=_no_later_version(Verdict("failed")),
    ),
    Difference(
        "4.2.2, item 5.5, and 11.3.4: the server says one subprotocol, which is no list",
        "stelar",
        "takes a list that has one element",
        RESPONSE.with_values("sec-websocket-protocol", "chat,"),
        Verdict("failed"),
        Verdict(101, "chat"),
        reads_as=_a_list_of_one_subprotocol,
    ),
    Difference(
        "RFC 9110, section 5.6.1: a recipient MUST accept lists with empty elements, elements are tokens",
        "both",
        "fails on a line of a list that has no element, even if another line has, and on what is no token; "
        "in Connection we look for the one that counts",
        RESPONSE.with_values("connection", '"x", Upgrade'),
        Verdict(101),
        Verdict("failed"),
        judges=_lists_are_judged(("connection", "upgrade"), Verdict("failed")),
    ),
]

"""What wsproto does otherwise than we in handshakes: two tables, with sections of RFC 6455 and of HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable

from stelar_proto.ws.headers import is_token

from .handshake_rows import (
    REQUEST_LINE,
    STATUS_LINE,
    Difference,
    elements,
    interim_is_final,
    lines_repaired,
    nothing_in_front,
    other_upgrade,
)
from .handshakes import KEY, Verdict, opened
from .heads import INTERIM, REQUEST, RESPONSE, Head, Line


def _any_visible_target(head: Head) -> Head:
    match = REQUEST_LINE.fullmatch(head.start)
    if match is None or not re.fullmatch("[!-~]+", match[2]):
        return head
    return head._replace(start=f"{match[1]} / {match[3]}")


def _any_key(head: Head) -> Head:
    return head.with_values("sec-websocket-key", *[KEY for _ in head.values("sec-websocket-key")])


def _one_host_of_any_kind(head: Head) -> Head:
    return head.with_values("host", "localhost") if len(head.values("host")) == 1 else head


def _bodies_are_allowed(head: Head) -> Head:
    if head.values("transfer-encoding") == ["chunked"]:
        head = head.with_values("transfer-encoding")
    if all(re.fullmatch("[0-9]+", length) for length in head.values("content-length")):
        head = head.with_values("content-length")
    return head


def _subprotocols_are_not_judged(head: Head) -> Head:
    names = [name for value in head.values("sec-websocket-protocol") for name in elements(value)]
    names = [name for name in dict.fromkeys(names) if is_token(name)]
    return head.with_values("sec-websocket-protocol", *[", ".join(names)] if names else [])


def _method_is_400(head: Head, verdict: Verdict) -> Verdict:
    return Verdict(400) if verdict.answer == 405 else verdict


def _no_upgrade_is_400(head: Head, verdict: Verdict) -> Verdict:
    return Verdict(400) if verdict.answer == "plain HTTP" else verdict


def _any_status(head: Head, verdict: Verdict) -> Verdict:
    match = STATUS_LINE.fullmatch(head.start)
    return Verdict(int(match[2])) if match and match[2] >= "600" else verdict


def _last_only(*names: str) -> Callable[[Head], Head]:
    def reads_as(head: Head) -> Head:
        for name in names:
            head = head.with_values(name, *head.values(name)[-1:])
        return head

    return reads_as


def _upgrade_is_no_list(head: Head) -> Head:
    return (
        head if [value.lower() for value in head.values("upgrade")] == ["websocket"] else other_upgrade(head)
    )


def _version_is_1_1(head: Head) -> Head:
    return head._replace(start=re.sub(r"HTTP/[0-9]\.[0-9]", "HTTP/1.1", head.start))


def _decodes_ascii(head: Head) -> Head:
    """Mark a head that raises with a line that no other head has, and no row takes away."""
    names = ("connection", "host", "sec-websocket-extensions", "sec-websocket-protocol")
    values = [value for name in names for value in head.values(name)]
    # Several Host lines are refused before one of them is decoded.
    return (
        head
        if all(map(str.isascii, values)) or len(head.values("host")) > 1
        else head.plus(Line("X-Not-ASCII", "1"))
    )


def _raises_where_it_is_not_ascii(head: Head, verdict: Verdict) -> Verdict:
    return Verdict("raised") if head.values("x-not-ascii") else verdict


# --- The tables ---------------------------------------------------------------------------------------------

# The rows of a table are applied from top to bottom.
SERVER = [
    Difference(
        "RFC 9112, sections 2.2 and 5.2: a bare LF MAY be taken for a line end, folded lines for one; RFC "
        "9110, section 5.5: most control characters MAY be kept",
        "both",
        "does so, by h11; what two can read in two ways we refuse",
        REQUEST._replace(start_end="\n"),
        Verdict(400),
        opened(),
        reads_as=lines_repaired,
    ),
    Difference(
        "4.2.1, item 1: HTTP/1.1 or higher",
        "stelar",
        "does not look at the version of HTTP",
        REQUEST._replace(start="GET /chat HTTP/1.0"),
        Verdict(400),
        opened(),
        reads_as=_version_is_1_1,
    ),
    Difference(
        "4.2.1, item 1: a resource name or an absolute URL; RFC 9112, section 3.2: * is for OPTIONS only",
        "stelar",
        "does not look at the target, but that it is visible ASCII",
        REQUEST._replace(start="GET /#x HTTP/1.1"),
        Verdict(400),
        opened(),
        reads_as=_any_visible_target,
    ),
    Difference(
        "4.2.1: the server MUST return an HTTP response with an appropriate error code, such as 400",
        "stelar",
        "raises UnicodeError where Host or a list is not ASCII",
        REQUEST.plus(Line("Sec-WebSocket-Protocol", "ch\xe4t")),
        Verdict(400),
        Verdict("raised"),
        reads_as=_decodes_ascii,
        judges=_raises_where_it_is_not_ascii,
    ),
    Difference(
        "RFC 9110, section 5.3: several lines of a list are one list; 11.3.1 and 11.3.5: the key and the "
        "version MUST NOT come more than once",
        "stelar",
        "reads the last line alone, and answers all keys as if they were one",
        REQUEST.plus(Line("Sec-WebSocket-Key", KEY)),
        Verdict(400),
        opened(key=f"{KEY}, {KEY}"),
        reads_as=_last_only("connection", "upgrade", "sec-websocket-key", "sec-websocket-version"),
    ),
    Difference(
        "4.2.1, item 3: an Upgrade that contains websocket; RFC 9110, section 7.8: it is a list",
        "stelar",
        "takes it for one name",
        REQUEST.with_values("upgrade", "websocket, h2c"),
        opened(),
        Verdict(400),
        reads_as=_upgrade_is_no_list,
    ),
    Difference(
        "4.2.1, item 5: the key is 16 bytes in base64",
        "stelar",
        "does not look at the key",
        REQUEST.with_values("sec-websocket-key", "short"),
        Verdict(400),
        opened(key="short"),
        reads_as=_any_key,
    ),
    Difference(
        "4.2.1, item 2: a Host header field; RFC 9112, section 3.2: a bad one MUST be answered with 400",
        "stelar",
        "does not look at what Host says",
        REQUEST.with_values("host", "local host"),
        Verdict(400),
        opened(),
        reads_as=_one_host_of_any_kind,
    ),
    Difference(
        "4.2.1: the client's handshake ends with its head; 4.1: it MUST be a GET, which has no body",
        "both",
        "takes a request that has a body, and passes over it",
        REQUEST.plus(Line("Content-Length", "5")),
        Verdict(413),
        opened(),
        reads_as=_bodies_are_allowed,
    ),
    Difference(
        "4.1, item 10: the subprotocols that a client offers are one or more tokens, all unique",
        "stelar",
        "does not look at them",
        REQUEST.with_values("sec-websocket-protocol", "a b, chat"),
        Verdict(400),
        opened("chat"),
        reads_as=_subprotocols_are_not_judged,
    ),
    Difference(
        "4.2.1: an appropriate error code, such as 400; RFC 9110, section 15.5.6, has 405",
        "both",
        "answers another method with 400",
        REQUEST._replace(start="POST /chat HTTP/1.1"),
        Verdict(405),
        Verdict(400),
        judges=_method_is_400,
    ),
    Difference(
        "RFC 9110, section 7.8: a server MAY ignore Upgrade; 4.2.1: an appropriate error code, such as 400",
        "both",
        "serves no plain HTTP of itself, and answers with 400; we leave it to the application",
        REQUEST.without("upgrade"),
        Verdict("plain HTTP"),
        Verdict(400),
        judges=_no_upgrade_is_400,
    ),
    Difference(
        "RFC 9112, section 2.2: an empty line in front of a request SHOULD be ignored",
        "stelar",
        "takes it for a request, by h11",
        REQUEST._replace(before="\r\n"),
        opened(),
        Verdict(400),
        judges=nothing_in_front(Verdict(400)),
    ),
]
CLIENT = [
    Difference(
        "RFC 9112, section 2.2: a bare LF MAY be taken for a line end; RFC 9110, section 5.5: most control "
        "characters MAY be kept",
        "both",
        "does so, by h11; what two can read in two ways we refuse",
        RESPONSE._replace(start_end="\n"),
        Verdict("failed"),
        Verdict(101),
        reads_as=lines_repaired,
    ),
    Difference(
        "RFC 9110, section 7.8: HTTP/1.0 has no Upgrade; section 2.5: another major version is another "
        "protocol",
        "stelar",
        "does not look at the version of HTTP",
        RESPONSE._replace(start="HTTP/1.0 101 x"),
        Verdict("failed"),
        Verdict(101),
        reads_as=_version_is_1_1,
    ),
    Difference(
        "4.1: the client MUST fail the connection",
        "stelar",
        "raises UnicodeError where a list or the subprotocol is not ASCII",
        RESPONSE.with_values("sec-websocket-protocol", "\xe4"),
        Verdict("failed"),
        Verdict("raised"),
        reads_as=_decodes_ascii,
        judges=_raises_where_it_is_not_ascii,
    ),
    Difference(
        "RFC 9110, section 5.3: several lines of a list are one list; 11.3.3 and 11.3.4: accept and "
        "subprotocol MUST NOT come more than once",
        "stelar",
        "reads the last line alone",
        RESPONSE.plus(Line("Sec-WebSocket-Protocol", "chat"), Line("Sec-WebSocket-Protocol", "superchat")),
        Verdict("failed"),
        Verdict(101, "superchat"),
        reads_as=_last_only("connection", "upgrade", "sec-websocket-accept", "sec-websocket-protocol"),
    ),
    Difference(
        "4.1, item 2 of the answer: Upgrade is websocket; RFC 9110, section 5.6.1: empty elements count "
        "for nothing",
        "both",
        "takes it for one name, empty elements included",
        RESPONSE.with_values("upgrade", ",websocket"),
        Verdict(101),
        Verdict("failed"),
        reads_as=_upgrade_is_no_list,
    ),
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
        "RFC 9110, section 15: a status over 599 is invalid, and SHOULD be processed as one of the 5xx",
        "theirs",
        "reports it as it came; we fail, which is no less a refusal",
        Head("HTTP/1.1 600 x", (Line("Content-Length", "0"),)),
        Verdict("failed"),
        Verdict(600),
        judges=_any_status,
    ),
]

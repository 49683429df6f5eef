"""What a fuzzer that is guided by coverage runs: its bytes become the arguments of the tests here.

An input begins with twelve bytes: six that choose, and three places to cut at, two bytes each. Behind them is
the stream; for a session and a server it is a list of steps, and what is heard in one begins with its length.
So recorded traffic is an input as it is, with zeros in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from stelar_proto import messages as m
from stelar_proto.messages import Message
from stelar_proto.tcp import Dialect
from stelar_proto.ws import Role
from stelar_proto.ws.http1 import HeadLimits
from tests.support.wires import UPGRADE

from . import test_http_heads as heads
from . import test_server as servers
from . import test_sessions as sessions
from . import test_tcp_connection as tcp
from . import test_ws_connection as ws
from .inputs import corpus
from .vocabulary import KINDS, Kind

T = TypeVar("T")

_HEAD_SIZE = 12
_CHOICES = 6
_STEPS = 16
"""So many are looked at: what goes wrong goes wrong sooner, and longer inputs only take longer."""


class Tape:
    """An input, read from its beginning; behind its end are zeros."""

    def __init__(self, data: bytes) -> None:
        head, self._rest = data[:_HEAD_SIZE].ljust(_HEAD_SIZE, b"\0"), data[_HEAD_SIZE:]
        self._choices = iter(head[:_CHOICES])
        places = (int.from_bytes(head[at : at + 2]) for at in range(_CHOICES, _HEAD_SIZE, 2))
        self.cuts = [place for place in places if place]

    def choose(self, options: Sequence[T]) -> T:
        """One of ``options``, by the next of the bytes that choose."""
        return options[next(self._choices) % len(options)]

    def take(self, size: int) -> bytes:
        """The next bytes of the stream."""
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``, by the next byte of the stream."""
        return options[int.from_bytes(self.take(1)) % len(options)]

    def rest(self) -> bytes:
        """All that is left of the stream."""
        return self.take(len(self._rest))

    def heard(self) -> bytes:
        """The next bytes of the stream that begin with their length, two bytes."""
        return self.take(int.from_bytes(self.take(2)))

    def steps(self) -> Iterator[int]:
        """As long as there is something left, the number of a step."""
        for _ in range(_STEPS):
            if not self._rest:
                return
            yield self.take(1)[0]


def body(test: Callable[..., None]) -> Callable[..., None]:
    """What a test of hypothesis does with the arguments that it is given."""
    inner: Callable[..., None] = test.hypothesis.inner_test  # type: ignore[attr-defined]
    return inner


# --- The targets ------------------------------------------------------------------------------------------

_HEAD_LIMITS = (HeadLimits(), HeadLimits(64, 64, 3, 130))


def read_request(tape: Tape) -> None:
    limits, data = tape.choose(_HEAD_LIMITS), tape.rest()
    body(heads.test_any_request)(data, limits, tape.cuts)
    body(heads.test_a_server_refuses_in_words_that_a_client_reads)(data, tape.cuts)
    body(heads.test_an_answer_is_understood)(data)


def read_response(tape: Tape) -> None:
    limits, size = tape.choose(_HEAD_LIMITS), tape.choose([65536, 0, 5])
    accept_npm_handshake, data = tape.choose([False, True]), tape.rest()
    body(heads.test_any_response)(data, limits, size, tape.cuts)
    body(heads.test_a_client_before_the_answer)(data, accept_npm_handshake, tape.cuts)


def _websocket(role: Role, tape: Tape, compressions: Sequence[Any]) -> None:
    compression, limits = tape.choose(compressions), tape.choose([{}, ws.SMALL])
    parts, closing = tape.choose([False, True]), tape.choose([False, True])
    body(ws.test_any_stream)((role, tape.rest()), compression, limits, parts, closing, tape.cuts)


def _tcp(dialect: Dialect, tape: Tape) -> None:
    limit, closing = tape.choose([10 * 1024 * 1024, 300, 12]), tape.choose([False, True])
    body(tcp.test_any_stream)((dialect, tape.rest()), limit, closing, tape.cuts)


_NAMES = ["chat", "sum", "joined-room", "x" * 256]
_VALUES: list[Any] = [None, {"id": 1}, [], "ñ☃", "x" * 400]


def _message(tape: Tape, role: Role) -> Message:
    name, value, number = tape.pick(_NAMES), tape.pick(_VALUES), tape.pick(["1", "2", None])
    kinds: list[Callable[[], Message]] = [
        lambda: m.Event(name, value),
        lambda: m.Binary(name, repr(value).encode()),
        lambda: m.AckResponse(name, value, number),
        lambda: m.AckError(name, "words", "CODE", number),
    ]
    if role is Role.CLIENT:
        kinds += [lambda: m.Join(name), lambda: m.Leave(name)]
    return tape.pick(kinds)()


def _step(tape: Tape, number: int, role: Role) -> sessions.Step:
    match number % 16:
        case 7:
            return "advance", tape.pick([0.5, 3, 5, 7, 10, 30, 60, 100])
        case 8:
            return "flush", tape.pick([1, 1 << 30])
        case 9:
            return "send", _message(tape, role)
        case 10:
            reaction = tape.pick(["", "", "close"])
            return "request", (tape.pick(_NAMES), "chat", tape.pick(_VALUES), tape.pick([1, 5, 40]), reaction)
        case 11:
            return "close", (tape.pick([1000, 1001, 1008, 4000, 1005, 0]), tape.pick(["", "ñ"]))
        case 12:
            return "pause", tape.pick([True, False])
        case 13:
            return "accept", "client-1"
        case 14:
            return tape.pick(["end", "lose", "abort", "refuse"]), None
        case _:
            return "receive", tape.heard()


def talk(kind: Kind, tape: Tape) -> None:
    """A session hears a stream, cut anywhere; or it hears and does this and that."""
    config, is_open = tape.choose(sessions.CONFIGS), tape.choose([True, False])
    peer_reads, is_stream = tape.choose([True, False]), tape.choose([False, True])
    if is_stream:
        body(sessions.test_the_chunks_make_no_difference)((kind, tape.rest()), tape.cuts)
        return
    steps = [_step(tape, number, kind[1]) for number in tape.steps()]
    body(sessions.test_any_history)((kind, steps), config, is_open, peer_reads)


def serve(tape: Tape) -> None:
    steps: list[servers.Step] = []
    for number in tape.steps():
        who, action = number % 3, number // 3 % 8
        match action:
            case 0:
                steps.append((who, tape.pick(["end", "reset", "stop reading"]), None))
            case 1:
                steps.append((0, "wait", tape.pick([0.1, 3, 12])))
            case _:
                steps.append((who, "say", tape.heard()))
    body(servers.test_any_history_of_a_server)(steps)


class Target(NamedTuple):
    """Something to fuzz."""

    run: Callable[[Tape], None]
    seeds: Sequence[bytes]
    """Inputs to begin with."""


def _streams(entries: Sequence[bytes]) -> list[bytes]:
    return [bytes(_HEAD_SIZE) + entry for entry in entries]


def _heard(entries: Sequence[bytes], step: int) -> list[bytes]:
    """Each of ``entries``, and all of them one after another, as what is heard in steps of that number."""
    steps = [bytes([step]) + len(entry).to_bytes(2) + entry for entry in entries]
    return _streams([*steps, b"".join(steps[:_STEPS])])


def _session_target(kind: Kind) -> Target:
    wire, role = kind
    entries = corpus(f"ws_{role.value}" if wire is None else f"tcp_{wire.value}")
    streams = [bytes([0, 0, 0, 1]) + bytes(_HEAD_SIZE - 4) + entry for entry in entries]
    return Target(lambda tape: talk(kind, tape), [*_heard(entries, 0), *streams])


def _websocket_target(role: Role, compressions: Sequence[Any]) -> Target:
    return Target(lambda tape: _websocket(role, tape, compressions), _streams(ws.seeds(role)))


_SERVER_SEEDS = [
    *_heard([UPGRADE, *corpus("ws_server")], 3 * 2 + 1),
    *_heard(corpus("ws_server"), 3 * 2),
    *_heard(corpus("tcp_documented"), 3 * 2 + 2),
]

TARGETS: dict[str, Target] = {
    "request": Target(read_request, _streams(heads.REQUESTS)),
    "response": Target(read_response, _streams(heads.RESPONSES)),
    **{f"websocket-{role.value}": _websocket_target(role, [None]) for role in Role},
    **{f"deflate-{role.value}": _websocket_target(role, ws.COMPRESSIONS[1:]) for role in Role},
    **{
        f"tcp-{dialect.value}": Target(
            lambda tape, dialect=dialect: _tcp(dialect, tape),  # type: ignore[misc]  # its default is one
            _streams(corpus(f"tcp_{dialect.value}")),
        )
        for dialect in Dialect
    },
    **{
        f"session-{'ws' if wire is None else wire.value}-{role.value}": _session_target((wire, role))
        for wire, role in KINDS
        if wire is not Dialect.NPM  # which differs in the numbers of the frames only
    },
    "server": Target(serve, _SERVER_SEEDS),
}


def run(name: str, data: bytes) -> None:
    """Give one input to a target; it raises what it finds."""
    TARGETS[name].run(Tape(data))

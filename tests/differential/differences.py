"""What wsproto and websockets do otherwise than we with frames: a table, with sections of RFC 6455.

A row says as what the other library reads a stream (:attr:`Difference.reads_as`), and what of our answer it
changes (:attr:`Difference.answers`). So the rows of a library foretell all of what it makes of a stream from
what we make of one; nothing else may differ. Each row has an example, with both outcomes, that
``test_frames.py`` holds against the installed version: a row that has ceased to be true is to be deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from stelar_proto.ws import Role

from .peers import Heard, Library, Outcome, hear
from .streams import (
    BINARY,
    CLOSE,
    PONG,
    Case,
    Frame,
    Head,
    encode_head,
    join,
    read_head,
    shortest,
    split,
)

Said = tuple[tuple[int, bytes], ...]


def _as_it_stands(case: Case) -> Case:
    return case


def _unchanged(case: Case, outcome: Outcome) -> Said:
    return outcome.said


class Difference(NamedTuple):
    """One row.

    Attributes:
        libraries: who differs from us.
        section: of RFC 6455, and what it says.
        right: who keeps to it; "both" where it leaves the choice.
        theirs: what the other library does.
        example: a case that shows it.
        our_outcome: what we make of the example.
        their_outcome: what they make of it.
        reads_as: the case of which we make what they make of this one.
        answers: what they send, given what we make of the case that they read this one as.
    """

    libraries: tuple[Library, ...]
    section: str
    right: Literal["stelar", "both"]
    theirs: str
    example: Case
    our_outcome: Outcome
    their_outcome: Outcome
    reads_as: Callable[[Case], Case] = _as_it_stands
    answers: Callable[[Case, Outcome], Said] = _unchanged


def foretell(library: Library, case: Case) -> Outcome:
    """What a library makes of a case, by what we make of one and its rows in the table, in their order."""
    rows = [row for row in DIFFERENCES if library in row.libraries]
    for row in rows:
        case = row.reads_as(case)
    outcome = hear("stelar", case, [case.stream] if case.stream else [])
    for row in rows:
        outcome = outcome._replace(said=row.answers(case, outcome))
    return outcome


# --- Where a stream is looked at ----------------------------------------------------------------------------


class _Tail(NamedTuple):
    """The frame at the end of a stream that is not all there."""

    head: Head | None
    size: int  # bytes of it that are there
    payload: bool  # whether some of its payload is


def _tail(case: Case) -> _Tail | None:
    frames, rest = split(case.stream)
    if rest:
        return _Tail(read_head(rest), len(rest), payload=False)
    if frames and not frames[-1].complete:
        last = frames[-1]
        return _Tail(last.head, len(join([last])), payload=bool(last.payload))
    return None


def _without_tail(case: Case, tail: _Tail) -> Case:
    return case._replace(stream=case.stream[: -tail.size])


def _wrongly_masked(case: Case, head: Head) -> bool:
    return head.masked is not (case.role is Role.SERVER)


class _TooBig(NamedTuple):
    """The first frame over what is left of the limit for its message.

    Attributes:
        at: how many frames stand in front of it.
        in_order: whether it is the next frame of a message, and nothing else is wrong with it.
    """

    at: int
    head: Head
    in_order: bool


def _too_big(case: Case) -> _TooBig | None:
    if case.limit is None:
        return None
    frames, rest = split(case.stream)
    heads = [frame.head for frame in frames] + [head for head in [read_head(rest)] if head is not None]
    in_message, message_size = False, 0
    for at, head in enumerate(heads):
        if not head.is_known or _wrongly_masked(case, head) or head.size is None:
            return None
        if head.size > case.limit - message_size:
            wrong = head.is_control or head.first_byte & 0x70 or head.size >= 1 << 63
            return _TooBig(at, head, not wrong and (head.opcode == 0) is in_message)
        if not head.is_control:
            in_message = not head.fin
            message_size = message_size + head.size if in_message else 0
    return None


def _each_close(case: Case, change: Callable[[Frame, bool], Frame]) -> Case:
    """Change close frames, given whether a message is open at them."""
    frames, rest = split(case.stream)
    in_message = False
    for at, frame in enumerate(frames):
        if frame.first_byte == CLOSE and frame.complete:
            frames[at] = change(frame, in_message)
        elif not frame.head.is_control:
            in_message = not frame.head.fin
    return case._replace(stream=join(frames, rest))


# --- How they read ------------------------------------------------------------------------------------------


def _lengths_are_not_judged(case: Case) -> Case:
    frames, rest = split(case.stream)
    frames = [frame._replace(width=shortest(frame.size)) for frame in frames]
    head = read_head(rest)
    if head is not None and head.size is not None:
        rest = encode_head(head._replace(width=shortest(head.size))) + rest[2 + head.width :]
    return case._replace(stream=join(frames, rest))


def _judged_when_complete(case: Case) -> Case:
    tail = _tail(case)
    if tail is None:
        return case
    if tail.head is not None and (not tail.head.is_known or _wrongly_masked(case, tail.head)):
        return case
    frames, _ = split(case.stream)
    too_big = _too_big(case)
    if too_big is not None and too_big.at == len([frame for frame in frames if frame.complete]):
        return case
    return _without_tail(case, tail)


def _limit_is_for_all_frames(case: Case) -> Case:
    too_big = _too_big(case)
    if case.limit is None or too_big is None or too_big.in_order:
        return case
    frames, _ = split(case.stream)
    size = case.limit + 1
    head = Head(BINARY, too_big.head.masked, shortest(size), size)
    return case._replace(stream=join(frames[: too_big.at], encode_head(head)))


def _no_close_within_a_message(case: Case) -> Case:
    def change(frame: Frame, in_message: bool) -> Frame:
        # A reason that is not UTF-8 is noticed before.
        if not in_message or not _is_utf8(frame.payload[2:]):
            return frame
        return frame._replace(first_byte=0x83)

    return _each_close(case, change)


def _reason_before_code(case: Case) -> Case:
    def change(frame: Frame, in_message: bool) -> Frame:
        return (
            frame if _is_utf8(frame.payload[2:]) else frame._replace(payload=b"\x03\xe8" + frame.payload[2:])
        )

    return _each_close(case, change)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _surrogates_wait_for_a_third_byte(case: Case) -> Case:
    """Put off the fault: the second byte of a surrogate goes, and a wrong one comes where a third would."""
    frames, rest = split(case.stream)
    text: bytes | None = None
    waiting = False
    for at, frame in enumerate(frames):
        if frame.head.is_control:
            continue
        payload = frame.payload
        if frame.head.opcode != 0:
            text, waiting = (b"" if frame.head.opcode == 1 else None), False
        if text is None:
            continue
        if waiting and (payload or frame.head.fin):
            frames[at] = frame._replace(payload=b"\xff" + payload, size=frame.size + 1)
            break
        text = (text + payload)[-2:]
        if (
            payload
            and text[:1] == b"\xed"
            and text[1:] >= b"\xa0"
            and not (frame.head.fin and frame.complete)
        ):
            cut = payload[:-1]
            frames[at] = frame._replace(payload=cut, size=frame.size - 1 if frame.complete else frame.size)
            waiting = True
    return case._replace(
        stream=join([frame._replace(width=max(frame.width, shortest(frame.size))) for frame in frames], rest)
    )


def _code_1014_is_unknown(case: Case) -> Case:
    def change(frame: Frame, in_message: bool) -> Frame:
        code, reason = frame.payload[:2], frame.payload[2:]
        return frame._replace(payload=b"\x03\xec" + reason) if code == b"\x03\xf6" else frame

    return _each_close(case, change)


def _no_limit(case: Case) -> Case:
    return case._replace(limit=None)


def _judged_with_the_payload(case: Case) -> Case:
    tail = _tail(case)
    if tail is None or tail.payload:
        return case
    head = tail.head
    if head is not None:
        long_control = head.is_control and (head.width > 0 or not head.fin)
        wrong_length = head.size is not None and (head.width > shortest(head.size) or head.size >= 1 << 63)
        reserved_bits = head.size is not None and head.first_byte & 0x70
        wrong_mask = head.size is not None and _wrongly_masked(case, head)
        if not head.is_known or long_control or wrong_length or reserved_bits or wrong_mask:
            return case
    return _without_tail(case, tail)


# --- How they answer ----------------------------------------------------------------------------------------


def _close_without_code_is_echoed(case: Case, outcome: Outcome) -> Said:
    if outcome.end == ("closed", 1005, "") and not case.closing:
        return (*outcome.said[:-1], (CLOSE, b""))
    return outcome.said


def _no_pong_behind_own_close(case: Case, outcome: Outcome) -> Said:
    return () if case.closing else outcome.said


# --- The table ----------------------------------------------------------------------------------------------


def _failed(code: int, *heard: Heard, said: Said = ()) -> Outcome:
    """A fault, reported in a close frame."""
    return Outcome(heard, ("failed", code, ""), (*said, (CLOSE, code.to_bytes(2))))


def _ended(*heard: Heard, said: Said = ()) -> Outcome:
    """The end of the stream, in front of which nothing was wrong."""
    return Outcome(heard, ("failed", 1006, ""), said)


# The rows of a library are applied from top to bottom.
DIFFERENCES = [
    Difference(
        ("wsproto",),
        "10.4: an implementation that has limits must protect itself against exceeding them",
        "both",
        "has no limits: who uses it counts what has come of a message",
        Case(Role.CLIENT, b"\x82\x03abc", limit=2),
        _failed(1009),
        _ended(("binary", b"abc")),
        reads_as=_no_limit,
    ),
    Difference(
        ("wsproto",),
        "7.4.2 and 11.7: the registry says what the codes from 1000 to 2999 are, and there 1014 is Bad "
        "Gateway",
        "stelar",
        "knows the registry up to 1013, and fails a close with 1014",
        Case(Role.CLIENT, b"\x88\x02\x03\xf6"),
        Outcome((), ("closed", 1014, ""), ((CLOSE, b"\x03\xf6"),)),
        _failed(1002),
        reads_as=_code_1014_is_unknown,
    ),
    Difference(
        ("wsproto",),
        "5.2 and 5.4 say what fails the connection, and not how soon",
        "both",
        "judges a head when its length is there, and the place of a frame in its message with the first "
        "byte of the payload; we judge both as soon as they are wrong",
        Case(Role.CLIENT, b"\xc1"),
        _failed(1002),
        _ended(),
        reads_as=_judged_with_the_payload,
    ),
    Difference(
        ("websockets",),
        "5.2: the minimal number of bytes MUST be used to encode the length",
        "stelar",
        "takes a length in more bytes than it needs",
        Case(Role.CLIENT, b"\x82\x7e\x00\x01a"),
        _failed(1002),
        _ended(("binary", b"a")),
        reads_as=_lengths_are_not_judged,
    ),
    Difference(
        ("websockets",),
        "5.4: control frames may come between the frames of a message; 5.5: they have up to 125 bytes",
        "stelar",
        "holds all frames, those of control too, against what is left of the message's size, and looks at "
        "that before anything but opcode and mask",
        Case(Role.CLIENT, b"\x02\x03abc\x89\x05hello", limit=4),
        _ended(("ping", b"hello"), said=((PONG, b"hello"),)),
        _failed(1009),
        reads_as=_limit_is_for_all_frames,
    ),
    Difference(
        ("websockets",),
        "5.2, 5.4, 5.5 and 8.1 say what fails the connection, and not how soon",
        "both",
        "judges reserved bits, control frames, the place in a message and UTF-8 when the frame is complete",
        Case(Role.CLIENT, b"\x89\x7e\x00\x7e"),
        _failed(1002),
        _ended(),
        reads_as=_judged_when_complete,
    ),
    Difference(
        ("websockets",),
        "5.4: control frames may be injected in the middle of a message; 5.5.1 makes no exception for Close",
        "stelar",
        "fails a close within a message as a protocol error",
        Case(Role.CLIENT, b"\x01\x01a\x88\x02\x03\xe8"),
        Outcome((), ("closed", 1000, ""), ((CLOSE, b"\x03\xe8"),)),
        _failed(1002),
        reads_as=_no_close_within_a_message,
    ),
    Difference(
        ("websockets",),
        "7.4.2 and 8.1: a wrong code and a wrong reason are a fault each, and either may be named",
        "both",
        "looks at the reason first",
        Case(Role.CLIENT, b"\x88\x03\x03\xe7\xff"),
        _failed(1002),
        _failed(1007),
        reads_as=_reason_before_code,
    ),
    Difference(
        ("websockets", "wsproto"),
        "8.1: text that is not UTF-8 MUST fail the connection, how soon is not said",
        "both",
        "waits for the third byte of a surrogate, whose second byte is wrong already, as CPython's decoder "
        "does",
        Case(Role.CLIENT, b"\x01\x02\xed\xa0\x89\x00\x80\x01\x80"),
        _failed(1007),
        _failed(1007, ("ping", b""), said=((PONG, b""),)),
        reads_as=_surrogates_wait_for_a_third_byte,
    ),
    Difference(
        ("websockets", "wsproto"),
        "5.5.1: typically the code is echoed; what answers a close that has none is not said",
        "both",
        "answers a close without a code with one, where we say 1000",
        Case(Role.CLIENT, b"\x88\x00"),
        Outcome((), ("closed", 1005, ""), ((CLOSE, b"\x03\xe8"),)),
        Outcome((), ("closed", 1005, ""), ((CLOSE, b""),)),
        answers=_close_without_code_is_echoed,
    ),
    Difference(
        ("wsproto",),
        "5.5.2: a ping MUST be answered with a pong, unless a close frame was received",
        "stelar",
        "lets no pong be sent behind our own close frame",
        Case(Role.CLIENT, b"\x89\x00", closing=True),
        _ended(("ping", b""), said=((PONG, b""),)),
        _ended(("ping", b"")),
        answers=_no_pong_behind_own_close,
    ),
]

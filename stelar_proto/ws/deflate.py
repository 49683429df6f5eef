"""The negotiation of permessage-deflate (RFC 7692, sections 5 and 7.1): what is wanted, and what is agreed.

Responsible for the four parameters in offers and answers, as pure functions of what the user wants. Not
responsible for the header's grammar (:mod:`.extensions`), nor for what is then done to messages
(:mod:`.compression`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from .extensions import Extension
from .state import Role

EXTENSION = "permessage-deflate"
LARGEST_WINDOW = 15  # bits: the window of DEFLATE itself, which is what is meant where nothing is said

_SERVER_FLAG, _CLIENT_FLAG = "server_no_context_takeover", "client_no_context_takeover"
_SERVER_BITS, _CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"
_WINDOW_BITS = re.compile(r"[89]|1[0-5]")  # section 7.1.2: decimal, no leading zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class PerMessageDeflate:
    """How messages are compressed (RFC 7692): what a server answers offers with, and what a client offers.

    By default no context is taken over from one message to the next: compression costs no memory between
    messages, and what goes to many is compressed once. Taking it over makes many small and similar messages
    much shorter, and costs ``2**(window bits + 2) + 2**(mem_level + 9)`` bytes a connection for sending and
    ``2**(window bits)`` for receiving.

    Arguments:
        server_no_context_takeover: whether the server forgets each message when it compresses the next.
        client_no_context_takeover: the same of the client. A server tells its clients to.
        server_max_window_bits: how far back a server's messages may refer, as a power of two: 8 to 15.
        client_max_window_bits: the same of the client's. A server tells those clients that say they can.
        level: how hard to try, from 1 (fastest) to 9 (shortest).
        mem_level: the memory for compressing, from 1 to 9.
        min_size: shorter messages are sent as they are, bytes. Below the default a message is one packet
            anyway, and so is not delivered sooner for being shorter.

    Raises:
        ValueError: a value makes no sense; the message names every such one.
    """

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = LARGEST_WINDOW
    client_max_window_bits: int = LARGEST_WINDOW
    level: int = 6
    mem_level: int = 8
    min_size: int = 1024

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be True or False, not {value!r}"
            for name in (_SERVER_FLAG, _CLIENT_FLAG)
            if not isinstance(value := getattr(self, name), bool)
        ]
        ranges = {_SERVER_BITS: (8, 15), _CLIENT_BITS: (8, 15), "level": (1, 9), "mem_level": (1, 9)}
        problems += [
            f"{name} must be a whole number from {low} to {high}, not {value!r}"
            for name, (low, high) in ranges.items()
            if not (type(value := getattr(self, name)) is int and low <= value <= high)
        ]
        if not (type(self.min_size) is int and self.min_size >= 0):
            problems.append(f"min_size must be 0 or more bytes, not {self.min_size!r}")
        if problems:
            raise ValueError("; ".join(problems))


_DEFAULTS = PerMessageDeflate()

CompressionOption: TypeAlias = bool | PerMessageDeflate | None
"""``True`` stands for the defaults, ``False`` and ``None`` for no compression."""


def choose_compression(option: CompressionOption) -> PerMessageDeflate | None:
    """Return what an option ``compression`` asks for.

    Raises:
        ValueError: it is neither a bool nor :class:`PerMessageDeflate`.
    """
    if option is None or option is False:
        return None
    if option is True:
        return _DEFAULTS
    if not isinstance(option, PerMessageDeflate):
        raise ValueError(f"compression must be True, False or a PerMessageDeflate, not {option!r}")
    return option


class Direction(NamedTuple):
    """What holds for the messages of one side.

    Attributes:
        keeps_context: whether a message may refer to those before it.
        window_bits: how far, as a power of two: 8 to 15.
    """

    keeps_context: bool
    window_bits: int


class DeflateAgreement(NamedTuple):
    """What both sides agreed upon; the names are those of RFC 7692, section 7.1."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int

    def of(self, role: Role) -> Direction:
        """Return what holds for the messages that this side sends."""
        if role is Role.SERVER:
            return Direction(not self.server_no_context_takeover, self.server_max_window_bits)
        return Direction(not self.client_no_context_takeover, self.client_max_window_bits)


# --- The client's side --------------------------------------------------------------------------------


def encode_offer(wanted: PerMessageDeflate) -> str:
    """Return what a client offers: the value of Sec-WebSocket-Extensions."""
    offer = [EXTENSION]
    if wanted.server_no_context_takeover:
        offer.append(_SERVER_FLAG)
    if wanted.client_no_context_takeover:
        offer.append(_CLIENT_FLAG)
    if wanted.server_max_window_bits < LARGEST_WINDOW:
        offer.append(f"{_SERVER_BITS}={wanted.server_max_window_bits}")
    # Without a value: the server may ask for any (section 7.1.2.2).
    is_limited = wanted.client_max_window_bits < LARGEST_WINDOW
    offer.append(f"{_CLIENT_BITS}={wanted.client_max_window_bits}" if is_limited else _CLIENT_BITS)
    return "; ".join(offer)


def read_answer(extensions: Sequence[Extension], wanted: PerMessageDeflate | None) -> DeflateAgreement | None:
    """Return what a server's answer agrees to; None if it declines.

    Arguments:
        extensions: what its response lists.
        wanted: what was offered; None if nothing was.

    Raises:
        ValueError: it is no answer to this offer, which fails the connection (section 5.1).
    """
    if not extensions:
        return None
    if wanted is None:
        raise ValueError("it has an extension, and none was offered")
    if any(extension.name != EXTENSION for extension in extensions):
        raise ValueError("it has an extension that was not offered")
    if len(extensions) > 1:
        raise ValueError(f"it has {EXTENSION} several times")
    answer = _read_parameters(extensions[0].parameters, is_offer=False)
    if wanted.server_no_context_takeover and _SERVER_FLAG not in answer:
        raise ValueError(f"it leaves out {_SERVER_FLAG}, which was asked for")
    server_bits, client_bits = answer.get(_SERVER_BITS), answer.get(_CLIENT_BITS)
    if (server_bits or LARGEST_WINDOW) > wanted.server_max_window_bits:
        raise ValueError(f"its {_SERVER_BITS} is larger than asked for")
    if (client_bits or 0) > wanted.client_max_window_bits:
        raise ValueError(f"its {_CLIENT_BITS} is larger than was offered")
    return DeflateAgreement(
        _SERVER_FLAG in answer,
        _CLIENT_FLAG in answer or wanted.client_no_context_takeover,
        server_bits or LARGEST_WINDOW,
        client_bits or wanted.client_max_window_bits,
    )


# --- The server's side --------------------------------------------------------------------------------


def answer_offers(
    offers: Iterable[Extension], wanted: PerMessageDeflate
) -> tuple[str, DeflateAgreement] | None:
    """Return the answer to the first acceptable offer, and what it agrees to; None if there is none.

    Arguments:
        offers: what a client's request lists, the preferred one first.
        wanted: what this server is willing to do.
    """
    for offer in offers:
        if offer.name == EXTENSION:
            try:
                return _answer(_read_parameters(offer.parameters, is_offer=True), wanted)
            except ValueError:
                continue  # section 7: a server declines what it cannot read
    return None


def _answer(offer: dict[str, int | None], wanted: PerMessageDeflate) -> tuple[str, DeflateAgreement]:
    server_bits = min(offer.get(_SERVER_BITS) or LARGEST_WINDOW, wanted.server_max_window_bits)
    client_bits = LARGEST_WINDOW
    if _CLIENT_BITS in offer:  # otherwise the client cannot be told (section 7.1.2.2)
        client_bits = min(offer[_CLIENT_BITS] or LARGEST_WINDOW, wanted.client_max_window_bits)
    agreement = DeflateAgreement(
        _SERVER_FLAG in offer or wanted.server_no_context_takeover,
        _CLIENT_FLAG in offer or wanted.client_no_context_takeover,
        server_bits,
        client_bits,
    )
    answer = [EXTENSION]
    if agreement.server_no_context_takeover:
        answer.append(_SERVER_FLAG)
    if agreement.client_no_context_takeover:
        answer.append(_CLIENT_FLAG)
    if server_bits < LARGEST_WINDOW or _SERVER_BITS in offer:
        answer.append(f"{_SERVER_BITS}={server_bits}")
    if client_bits < LARGEST_WINDOW:
        answer.append(f"{_CLIENT_BITS}={client_bits}")
    return "; ".join(answer), agreement


def _read_parameters(
    parameters: Iterable[tuple[str, str | None]], *, is_offer: bool
) -> dict[str, int | None]:
    """Return the parameters that are there, the window bits with their values.

    Raises:
        ValueError: one is unknown, repeated, or has a value that it may not have (section 7.1).
    """
    read: dict[str, int | None] = {}
    for name, value in parameters:
        if name in read:
            raise ValueError(f"it has the parameter {name} twice")
        if name in (_SERVER_FLAG, _CLIENT_FLAG):
            if value is not None:
                raise ValueError(f"its parameter {name} has a value")
            read[name] = None
        elif name == _CLIENT_BITS and value is None and is_offer:
            read[name] = None
        elif name in (_SERVER_BITS, _CLIENT_BITS):
            if value is None or not _WINDOW_BITS.fullmatch(value):
                raise ValueError(f"its parameter {name} is no number from 8 to 15")
            read[name] = int(value)
        else:
            raise ValueError(f"it has the unknown parameter {name}")
    return read

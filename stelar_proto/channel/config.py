"""What all connections of a server or client have in common, and which values make sense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches

from stelar_proto.ws.headers import is_token

SMALLEST_OUTBOX = 1024
"""Bytes for what the protocol has to say to a peer that has just come: a handshake, an id, a close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """The options of a channel. Times in seconds, sizes in bytes.

    Arguments:
        connect_timeout: from the first moment to the end of the handshake.
        heartbeat_interval: silence after which a ping is sent; None for never.
        heartbeat_timeout: how long an unanswered ping may stand.
        close_timeout: how long the peer may take to close.
        outbox_limit: what may wait to be sent.

    Raises:
        ValueError: a value makes no sense; the message names every such one.
    """

    connect_timeout: float = 10.0
    heartbeat_interval: float | None = 30.0
    heartbeat_timeout: float = 60.0
    close_timeout: float = 5.0
    outbox_limit: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))

    def _problems(self) -> list[str]:
        problems = [
            f"{name} must be a positive number, not {value!r}"
            for name in ("connect_timeout", "heartbeat_interval", "heartbeat_timeout", "close_timeout")
            if not is_positive(value := getattr(self, name))
            and not (name == "heartbeat_interval" and value is None)
        ]
        problems += not_positive_whole(self, ("outbox_limit",))
        return problems


def check_options(config: type, options: Mapping[str, object], owner: str) -> None:
    """Raise :class:`TypeError` if there are options that ``config`` does not have.

    It names all of them, and what is wrong with the others.

    Arguments:
        config: the class that is made of the options.
        options: by name.
        owner: whose they are.
    """
    names = {field.name for field in fields(config)}
    problems = [
        f"{owner} has no option {name!r}{did_you_mean(name, names)}" for name in options if name not in names
    ]
    if problems:
        try:
            config(**{name: value for name, value in options.items() if name in names})
        except (TypeError, ValueError) as error:
            problems.append(str(error))
        raise TypeError("; ".join(problems))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return which of ``names`` may have been meant by ``name``, in words that follow others; maybe none."""
    return "".join(f"; did you mean {close!r}?" for close in get_close_matches(name, list(names), 1))


def is_positive(value: object) -> bool:
    """Tell whether ``value`` is a number above zero; neither True nor NaN is one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def not_positive_whole(config: object, names: Iterable[str]) -> Iterator[str]:
    """Say of each option in ``names`` that it must be a positive whole number, if it is none."""
    for name in names:
        value = getattr(config, name)
        if not (type(value) is int and value > 0):
            yield f"{name} must be a positive whole number, not {value!r}"


def subprotocol_problems(names: object) -> Iterator[str]:
    """Say what is wrong with the ``subprotocols`` of a server or client, if anything is."""
    if isinstance(names, str):  # a string is a sequence of strings too
        yield f"subprotocols is a sequence of names: [{names!r}]"
    elif not isinstance(names, Sequence):
        yield f"subprotocols is a sequence of names, not {names!r}"
    else:
        for name in names:
            if not (isinstance(name, str) and is_token(name)):
                yield f"a subprotocol is an HTTP token, not {name!r}"


def small_outbox(limit: object) -> Iterator[str]:
    """Say that ``limit`` is too small an outbox to begin with, if it is a number and that.

    Channels live with any limit, and end where it does not suffice; an application wants to know before.
    """
    if type(limit) is int and 0 < limit < SMALLEST_OUTBOX:
        yield f"outbox_limit must be {SMALLEST_OUTBOX} or more: the protocol needs that itself, not {limit}"

"""The ids that clients go by: random, or made by the application and then checked."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Container

from stelar_proto.channel.handlers import FAULTS

MAX_ID_SIZE = 256


def new_client_id(
    generate: Callable[[], str] | None,
    *,
    entropy: Callable[[int], bytes],
    taken: Container[str],
    report: Callable[[str, BaseException | None], object],
) -> str | None:
    """Return the id of a new client; None if none could be made, which is reported.

    Arguments:
        generate: the application's; None for random UUIDs (version 4).
        entropy: ``entropy(n)`` returns ``n`` unpredictable bytes.
        taken: the ids of the clients that are here.
        report: told in words why there is none, and what was raised.
    """
    if generate is None:
        return str(uuid.UUID(bytes=entropy(16), version=4))
    try:
        client_id = generate()
    except FAULTS as error:
        report("generate_client_id raised; the client is refused", error)
        return None
    problem = _problem_of(client_id)
    if problem is None and client_id in taken:
        problem = "is taken"
    if problem is not None:
        report(f"generate_client_id: {client_id!r} {problem}; the client is refused", None)
        return None
    return client_id


def _problem_of(client_id: object) -> str | None:
    """The id travels in a header field, a frame and log lines; only what is safe in all of them will do."""
    if not (isinstance(client_id, str) and 0 < len(client_id) <= MAX_ID_SIZE and client_id.isascii()):
        return f"is not a text of 1 to {MAX_ID_SIZE} ASCII characters"
    if not client_id.isprintable() or client_id != client_id.strip():
        return "has characters that cannot be printed, or spaces around it"
    return None

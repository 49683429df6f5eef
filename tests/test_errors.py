"""Words of a peer, where people read them."""

from __future__ import annotations

import pytest

from stelar_proto.errors import ConnectionClosed, PeerFailure, RemoteError, printable


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("", ""),
        ("¿qué tal? 日本 \\ 'x'", "¿qué tal? 日本 \\ 'x'"),
        ("bye\r\nERROR root: all is lost", r"bye\r\nERROR root: all is lost"),
        ("\0\x1b[2J\x85\x9b", r"\x00\x1b[2J\x85\x9b"),
        ("a\u202eb\u2066c\u200b\ufeff\u2028", r"a\u202eb\u2066c\u200b\ufeff\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped_in_the_text_of_an_error_and_not_in_its_attributes(
    words: str, shown: str
) -> None:
    assert printable(words) == shown
    failure, remote = PeerFailure(words), RemoteError("CODE", words)
    assert (str(failure), failure.reason) == (shown, words)
    assert (str(remote), remote.message) == (f"CODE: {shown}", words)
    closed = ConnectionClosed(1008, words, received=None, sent=None, error=failure)
    assert closed.reason == words
    assert str(closed).isprintable()
    assert shown in str(closed)

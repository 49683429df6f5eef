"""One end of a connection in the hands of a test."""

from __future__ import annotations

from stelar_proto.testing import MemoryStream
from stelar_proto.testing.pipe import Pipe


def pair(capacity: int = 100) -> tuple[MemoryStream, MemoryStream]:
    there, back = Pipe(capacity=capacity), Pipe(capacity=capacity)
    return MemoryStream(back, there), MemoryStream(there, back)


def test_what_one_end_sends_the_other_takes() -> None:
    left, right = pair()
    left.send(b"one")
    left.send(b"two")
    assert (right.take(), right.take(), right.writes) == (b"onetwo", b"", [3, 3])
    right.send(b"three")
    assert left.take() == b"three"
    assert repr(left) == "<MemoryStream open, 0 bytes received>"


def test_an_end_is_half_of_a_goodbye() -> None:
    left, right = pair()
    left.send(b"last")
    left.end()
    assert (right.take(), right.has_ended, right.is_cut) == (b"last", True, False)
    right.send(b"answer")
    assert (left.take(), left.has_ended) == (b"answer", False)
    assert repr(right) == "<MemoryStream ended, 0 bytes received>"


def test_a_cut_comes_behind_what_was_sent() -> None:
    left, right = pair()
    left.send(b"last")
    left.cut()
    assert (right.take(), right.has_ended, right.is_cut) == (b"last", False, True)
    right.send(b"nobody hears this")
    assert (left.take(), right.unsent) == (b"", 0)
    assert repr(right) == "<MemoryStream cut, 0 bytes received>"


def test_who_does_not_read_holds_up_its_peer() -> None:
    left, right = pair(capacity=4)
    right.stop_reading()
    left.send(b"123456")
    left.end()
    assert (left.unsent, right.take(), right.has_ended) == (2, b"", False)
    right.read_on()
    assert (left.unsent, right.take(), right.has_ended) == (0, b"123456", True)


def test_closing_ends_or_cuts_if_something_is_unread_or_unsent() -> None:
    left, right = pair()
    left.send(b"last")
    left.close()
    assert (right.take(), right.has_ended, right.is_cut) == (b"last", True, False)
    left, right = pair()
    left.stop_reading()
    right.send(b"never read")
    left.close()
    assert (right.has_ended, right.is_cut) == (False, True)
    left, right = pair(capacity=4)
    right.stop_reading()
    left.send(b"123456")
    left.close()
    left.send(b"too late")
    left.cut()
    right.read_on()
    assert (right.take(), right.has_ended, right.is_cut) == (b"1234", False, True)


def test_whoever_wants_to_is_told_of_every_change() -> None:
    left, right = pair()
    log: list[bytes] = []
    right.on_change = lambda: log.append(right.take())
    left.send(b"one")
    left.send(b"two")
    left.end()
    assert [data for data in log if data] == [b"one", b"two"]
    left.cut()
    assert right.is_cut

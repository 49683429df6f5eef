"""Requests in flight: how each is matched with its answer, and how it ends without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelar_proto.errors import AckTimeout, ConnectionLost, RemoteError, StateError
from stelar_proto.messages import AckError, AckResponse
from stelar_proto.session import AckLedger, PendingAck


def test_an_answer_is_matched_by_its_correlation_id() -> None:
    ledger = AckLedger(10)
    first, second = ledger.open("sum", 0, 5), ledger.open("sum", 0, 5)
    assert first.correlation_id != second.correlation_id
    assert ledger.resolve(AckResponse("sum", 2, second.correlation_id))
    assert (first.done, second.done) == (False, True)
    assert second.result() == 2
    assert ledger.resolve(AckResponse("another name", 1, first.correlation_id))
    assert first.result() == 1
    assert len(ledger) == 0


def test_an_answer_without_an_id_goes_to_the_oldest_request_of_its_name() -> None:
    ledger = AckLedger(10)
    other, first, second = (ledger.open(ack, 0, 5) for ack in ("other", "sum", "sum"))
    assert ledger.resolve(AckResponse("sum", 1, None))
    assert ledger.resolve(AckError("sum", "C", "m", None))
    assert not ledger.resolve(AckResponse("sum", 3, None))
    assert first.result() == 1
    with pytest.raises(RemoteError, match="C: m"):
        second.result()
    assert not other.done


def test_an_error_answer_raises_at_the_requester_with_code_and_message() -> None:
    ledger = AckLedger(10)
    pending = ledger.open("sum", 0, 5)
    assert ledger.resolve(AckError("sum", "NO_HANDLER", "nothing answers", pending.correlation_id))
    with pytest.raises(RemoteError) as caught:
        pending.result()
    assert (caught.value.code, caught.value.message) == ("NO_HANDLER", "nothing answers")


def test_late_double_and_unknown_answers_belong_to_nobody() -> None:
    ledger = AckLedger(10)
    answered, expired, discarded = (ledger.open("sum", 0, 5) for _ in range(3))
    ledger.resolve(AckResponse("sum", 1, answered.correlation_id))
    ledger.discard(discarded)
    ledger.discard(discarded)
    ledger.expire(5)
    for pending in (answered, expired, discarded):
        assert not ledger.resolve(AckResponse("sum", 2, pending.correlation_id))
    assert not ledger.resolve(AckResponse("sum", 2, "999"))
    assert not ledger.resolve(AckResponse("sum", 2, None))
    assert answered.result() == 1
    assert not discarded.done


def test_a_request_ends_with_its_deadline() -> None:
    ledger = AckLedger(10)
    slow, quick = ledger.open("slow", 0, 20), ledger.open("quick", 0, 2.5)
    assert ledger.next_deadline() == 2.5
    ledger.expire(2.4)
    assert not quick.done
    ledger.expire(2.5)
    with pytest.raises(AckTimeout, match=r"no answer to 'quick' within 2\.5 s"):
        quick.result()
    assert not slow.done
    assert ledger.next_deadline() == 20
    ledger.expire(100)
    assert slow.done
    assert ledger.next_deadline() is None


def test_a_later_request_may_run_out_earlier() -> None:
    ledger = AckLedger(10)
    ledger.open("slow", 0, 20)
    ledger.open("quick", 5, 1)
    assert ledger.next_deadline() == 6


def test_there_are_never_more_in_flight_than_the_limit() -> None:
    ledger = AckLedger(2)
    first = ledger.open("a", 0, 5)
    ledger.open("b", 0, 5)
    with pytest.raises(StateError, match="2 requests are in flight already"):
        ledger.open("c", 0, 5)
    ledger.discard(first)
    ledger.open("c", 0, 5)
    assert len(ledger) == 2


def test_the_end_of_the_connection_ends_every_request() -> None:
    ledger = AckLedger(10)
    pending = [ledger.open("a", 0, 5) for _ in range(3)]
    ledger.fail_all(ConnectionLost("gone"))
    for request in pending:
        with pytest.raises(ConnectionLost, match="gone"):
            request.result()
    assert len(ledger) == 0
    assert ledger.next_deadline() is None


def test_who_waits_is_told_once_when_the_outcome_is_there() -> None:
    ledger = AckLedger(10)
    outcomes: list[object] = []
    pending = ledger.open("a", 0, 5)
    pending.on_done = lambda: outcomes.append(pending.result())
    ledger.resolve(AckResponse("a", [1], pending.correlation_id))
    ledger.expire(100)
    ledger.fail_all(ConnectionLost("gone"))
    assert outcomes == [[1]]


def test_ids_are_short_texts_that_are_not_used_twice() -> None:
    ledger = AckLedger(10)
    ids = [ledger.new_id(), ledger.open("a", 0, 5).correlation_id, ledger.new_id()]
    assert ids == ["1", "2", "3"]


def test_a_request_shows_whether_it_waits() -> None:
    ledger = AckLedger(10)
    pending = ledger.open("sum", 0, 5)
    assert repr(pending) == "<PendingAck 'sum' id=1 waiting>"
    ledger.expire(5)
    assert repr(pending) == "<PendingAck 'sum' id=1 done>"


@given(
    st.lists(
        st.tuples(st.integers(0, 10), st.sampled_from(["open", "answer", "discard"]), st.integers(1, 30)),
        max_size=40,
    )
)
def test_every_request_ends_at_its_deadline_when_asked_at_announced_deadlines_only(
    steps: list[tuple[int, str, int]],
) -> None:
    ledger = AckLedger(100)
    waiting: dict[PendingAck, float] = {}
    ended: list[float] = []
    now = 0.0

    def run_until(end: float) -> None:
        while (deadline := ledger.next_deadline()) is not None and deadline <= end:
            assert deadline <= min(waiting.values())
            before = set(waiting)
            ledger.expire(deadline)
            for pending in before:
                if pending.done:
                    assert waiting.pop(pending) == deadline
                    ended.append(deadline)
        assert all(deadline > end for deadline in waiting.values())

    for delay, what, timeout in steps:
        run_until(now + delay)
        now += delay
        if what == "open":
            waiting[ledger.open("a", now, timeout)] = now + timeout
        elif waiting:
            pending = list(waiting)[timeout % len(waiting)]
            del waiting[pending]
            if what == "discard":
                ledger.discard(pending)
            else:
                assert ledger.resolve(AckResponse("a", None, pending.correlation_id))
    run_until(1000)
    assert not waiting
    assert ended == sorted(ended)


def test_a_request_that_another_s_end_has_ended_does_not_end_again() -> None:
    ledger = AckLedger(10)
    ends: list[str] = []
    first, second = (ledger.open(name, 0, 1) for name in "ab")
    first.on_done = lambda: ledger.fail_all(ConnectionLost("gone"))
    second.on_done = lambda: ends.append("second")
    ledger.expire(1)
    assert ends == ["second"]
    with pytest.raises(ConnectionLost):
        second.result()

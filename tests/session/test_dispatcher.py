"""One connection and its handlers: order, back pressure, and what a handler can do to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from stelar_proto.channel import Closed, Deadlines, State, Transport
from stelar_proto.errors import AckTimeout, ConnectionLost, MessageError, RemoteError, StateError
from stelar_proto.messages import Event
from stelar_proto.session import Deferred, Dispatcher, Session, SessionConfig, TcpSession, WebSocketSession
from stelar_proto.wire import TcpFormat, WebSocketFormat
from stelar_proto.ws import Role, UpgradeRequested
from tests.session.peers import PING
from tests.support.memory import VirtualNetwork
from tests.support.virtual import Cancelled, VirtualEvent, VirtualLoop, VirtualRuntime, VirtualTask
from tests.support.wires import CLIENTS, RawClient, frame, to_json

LIMIT = 4
PATIENCE = 16 * LIMIT
LOGGER = logging.getLogger("stelar.test")


class Recorder(Dispatcher):
    """Calls :attr:`handler` with the data of every event; everything it saw stands in :attr:`seen`."""

    def __init__(self, session: Session, runtime: VirtualRuntime) -> None:
        super().__init__(session, runtime, LOGGER, inbox_limit=LIMIT)
        self.seen: list[Any] = []
        self.handler: Callable[[Any], Any] = lambda data: None
        self.closed: list[Closed] = []

    def _handle(self, event: Any) -> Deferred | None:
        if isinstance(event, UpgradeRequested):
            self.session.accept("id")
            return None
        self.seen.append(event.data if isinstance(event, Event) else event)
        return self._call([self.handler], self.seen[-1])

    def _on_closed(self, event: Closed) -> None:
        self.closed.append(event)


class Scene:
    """An endpoint of a server, and the client at the other end of its stream."""

    def __init__(self, wire: str, **config: Any) -> None:
        self.loop = VirtualLoop()
        self.runtime = VirtualRuntime(self.loop, lambda: deadlines.run(self.loop.now))
        deadlines = Deadlines(self.runtime.set_timer)
        session = make_session(wire, SessionConfig(**config), self.loop.now)
        self.endpoint = Recorder(session, self.runtime)
        session.on_deadline_changed = partial(deadlines.schedule, self.endpoint)
        network = VirtualNetwork(self.loop)
        listener = network.listen(VirtualRuntime(self.loop), self.attach, "localhost", 1)
        self.stream = network.connect_raw(listener)
        self.transport = self.stream.transport
        if wire == "tcp":
            session.accept("id")
            self.endpoint.flush_soon()
            self.loop.run_until_idle()
        self.client: RawClient = CLIENTS[wire](self.stream).open()

    def attach(self, transport: Transport) -> Recorder:
        self.endpoint.transport = transport
        return self.endpoint

    @property
    def session(self) -> Session:
        return self.endpoint.session

    def events(self, *data: object) -> bytes:
        return b"".join(self.client.event("x", value) for value in data)

    def answer(self, ack: str, data: object, correlation_id: str) -> bytes:
        if self.client.kind == "tcp":
            return frame(5, ack, to_json({"data": data, "_correlationId": correlation_id}))
        fields = {"event": ack, "data": data, "_isAck": True, "_correlationId": correlation_id}
        return self.client.text(fields)  # type: ignore[attr-defined,no-any-return]

    def ask(self, ack: str = "name", *, timeout: float = 5.0) -> VirtualTask[Any]:
        task = self.loop.start(self.endpoint.ask(ack, "question", None, timeout=timeout))
        self.run()
        return task

    def run(self) -> None:
        self.loop.run_until_idle()


def make_session(wire: str, config: SessionConfig, now: float) -> Session:
    if wire == "ws":
        return WebSocketSession(Role.SERVER, config, envelope=WebSocketFormat(Role.SERVER), now=now)
    return TcpSession(Role.SERVER, config, payloads=TcpFormat(Role.SERVER), now=now)


@pytest.fixture(params=["ws", "tcp"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(wire: str) -> Iterator[Scene]:
    scene = Scene(wire)
    yield scene
    scene.loop.close()


# --- Order ------------------------------------------------------------------------------------------------


def test_plain_functions_run_inside_receive_data_without_a_task(scene: Scene) -> None:
    scene.endpoint.receive_data(scene.events(1, 2, 3))
    assert scene.endpoint.seen == [1, 2, 3]
    assert scene.runtime.spawned == 0


def test_an_awaited_handler_holds_up_what_comes_behind_it_and_one_task_does_all_of_it(scene: Scene) -> None:
    gates = [VirtualEvent(), VirtualEvent()]

    async def wait(data: int) -> None:
        await gates[data].wait()

    scene.endpoint.handler = lambda data: wait(data) if data < 2 else None
    scene.stream.send(scene.events(0, 5))
    scene.stream.send(scene.events(1, 6))
    assert scene.endpoint.seen == [0]
    gates[0].set()
    scene.run()
    assert scene.endpoint.seen == [0, 5, 1]
    gates[1].set()
    scene.run()
    assert scene.endpoint.seen == [0, 5, 1, 6]
    assert scene.runtime.spawned == 1
    scene.stream.send(scene.events(7))
    assert scene.endpoint.seen[-1] == 7
    assert scene.runtime.spawned == 1


def test_data_that_comes_while_an_event_is_handled_waits_for_its_turn(scene: Scene) -> None:
    def feed_more(data: int) -> None:
        order.append(("begin", data))
        if data == 1:
            scene.endpoint.receive_data(scene.events(3))
        order.append(("end", data))

    order: list[tuple[str, int]] = []
    scene.endpoint.handler = feed_more
    scene.endpoint.receive_data(scene.events(1, 2))
    assert order == [(when, data) for data in (1, 2, 3) for when in ("begin", "end")]


def test_every_handler_of_an_event_is_called_whatever_those_before_it_do(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    async def later(name: str, data: object) -> None:
        called.append(name)
        raise ValueError(name)

    def now(name: str, data: object) -> None:
        called.append(name)
        raise KeyError(name)

    handlers = [
        partial(handler, name) for name, handler in zip("abcd", (now, later, later, now), strict=True)
    ]
    rest = scene.endpoint._call(handlers, None)
    assert rest is not None
    scene.loop.run(rest)
    assert called == ["a", "b", "c", "d"]
    raised = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in raised] == [KeyError, ValueError, ValueError, KeyError]
    assert "handler test_every_handler" in caplog.text
    assert ".<locals>.now raised" in caplog.text


def test_a_handler_without_a_name_is_reported_by_its_repr(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    class Callable:
        def __call__(self, data: object) -> None:
            raise RuntimeError

        def __repr__(self) -> str:
            return "<the callable>"

    scene.endpoint.handler = Callable()
    scene.stream.send(scene.events(1))
    assert "handler <the callable> raised" in caplog.text


def test_a_handler_that_is_cancelled_takes_nothing_with_it(scene: Scene) -> None:
    """For example because it awaited a task that somebody cancelled."""
    gate = VirtualEvent()

    async def wait(data: int) -> None:
        await gate.wait()
        if data == 1:
            raise Cancelled

    scene.endpoint.handler = wait
    scene.stream.send(scene.events(*range(1, 7)))
    assert not scene.transport.is_reading
    gate.set()
    scene.run()
    assert scene.endpoint.seen == [1]
    assert scene.transport.is_reading  # else nothing would ever come again
    scene.stream.send(scene.events(7))
    assert scene.endpoint.seen == [1, 2, 3, 4, 5, 6, 7]


def test_a_handler_that_is_cancelled_when_its_connection_is_gone_touches_no_stream(scene: Scene) -> None:
    scene.endpoint.handler = lambda data: VirtualEvent().wait()
    scene.stream.send(scene.events(*range(LIMIT + 1)))
    scene.stream.reset()
    scene.runtime.cancel_all()
    scene.run()
    assert scene.loop.tasks == []
    assert not scene.transport.is_reading


def test_a_plain_handler_that_stops_the_program_leaves_the_rest_to_the_next_call(scene: Scene) -> None:
    def interrupt(data: int) -> None:
        if data == 1:
            raise KeyboardInterrupt

    scene.endpoint.handler = interrupt
    with pytest.raises(KeyboardInterrupt):
        scene.endpoint.receive_data(scene.events(1, 2))
    scene.endpoint.receive_data(scene.events(3))
    assert scene.endpoint.seen == [1, 2, 3]


# --- The end ----------------------------------------------------------------------------------------------


def test_the_end_comes_in_its_turn_and_once(scene: Scene) -> None:
    scene.stream.send(scene.events(1) + scene.client.bye())
    scene.stream.end()
    assert scene.endpoint.seen == [1, Closed(1000, "", None)]
    assert scene.endpoint.closed == [Closed(1000, "", None)]
    assert scene.endpoint.end == Closed(1000, "", None)
    assert scene.stream.has_ended


def test_the_end_is_known_at_once_even_if_a_handler_keeps_its_event_waiting(scene: Scene) -> None:
    gate = VirtualEvent()
    scene.endpoint.handler = lambda data: gate.wait() if data == 1 else None
    scene.stream.send(scene.events(1, 2) + scene.client.bye())
    scene.stream.end()
    assert scene.endpoint.seen == [1]
    assert len(scene.endpoint.closed) == 1
    gate.set()
    scene.run()
    assert scene.endpoint.seen == [1, 2, Closed(1000, "", None)]
    assert len(scene.endpoint.closed) == 1


def test_a_lost_connection_ends_an_endpoint_and_leaves_the_transport_alone(scene: Scene) -> None:
    gate = VirtualEvent()
    scene.endpoint.handler = lambda data: gate.wait()
    scene.stream.send(scene.events(*range(LIMIT + 1)))
    assert scene.endpoint.paused
    scene.stream.reset()
    assert scene.endpoint.transport is None
    assert scene.endpoint.closed[0].code == 1006
    gate.set()
    scene.run()
    assert len(scene.endpoint.seen) == LIMIT + 2
    scene.endpoint.flush_soon()


def test_an_endpoint_tells_its_transport_when_it_has_nothing_more_to_say(scene: Scene) -> None:
    endpoint = scene.endpoint
    assert (endpoint.wants_eof, endpoint.is_finished, endpoint.is_aborted) == (False, False, False)
    endpoint.close(1000, "enough")
    assert endpoint.data_to_send()
    scene.stream.send(scene.client.bye())
    assert endpoint.wants_eof
    scene.stream.end()
    assert (endpoint.is_finished, endpoint.is_aborted) == (
        True,
        True,
    )  # lost, which the session calls aborted
    assert repr(endpoint).startswith("<Recorder of <")


def test_a_close_code_that_must_not_be_sent_is_refused_at_the_call(scene: Scene) -> None:
    with pytest.raises(MessageError, match="1006"):
        scene.endpoint.close(1006, "")
    assert scene.session.state is State.OPEN


def test_a_handler_that_closes_its_own_connection_still_hears_what_came_with_it(scene: Scene) -> None:
    scene.endpoint.handler = lambda data: scene.endpoint.close(4000, "no") if data == 1 else None
    scene.stream.send(scene.events(1, 2))
    assert scene.endpoint.seen == [1, 2]
    assert scene.session.state is State.CLOSING
    scene.loop.advance(5)
    assert scene.stream.is_cut
    assert [str(end.error) for end in scene.endpoint.closed] == ["the peer did not close within 5 s"]


# --- Back pressure ----------------------------------------------------------------------------------------


def test_reading_pauses_at_the_limit_and_goes_on_at_half_of_it(scene: Scene) -> None:
    gates = [VirtualEvent() for _ in range(LIMIT + 1)]
    scene.endpoint.handler = lambda data: gates[data].wait()
    for number in range(LIMIT):
        scene.stream.send(scene.events(number))
        assert scene.transport.is_reading
    scene.stream.send(scene.events(LIMIT))
    assert not scene.transport.is_reading
    for number, is_reading in enumerate([False, True, True, True, True]):
        gates[number].set()
        scene.run()
        assert scene.transport.is_reading is is_reading
    assert scene.transport.pauses == 1
    assert scene.endpoint.seen == list(range(LIMIT + 1))


def test_what_comes_while_reading_is_paused_waits_in_the_stream(scene: Scene) -> None:
    gate = VirtualEvent()
    scene.endpoint.handler = lambda data: gate.wait()
    scene.stream.send(scene.events(*range(LIMIT + 1)))
    scene.stream.send(scene.events(99))
    assert scene.session.messages_received == LIMIT + 1
    gate.set()
    scene.run()
    assert scene.endpoint.seen == [*range(LIMIT + 1), 99]


def test_the_heartbeat_asks_a_peer_that_is_not_read_and_does_not_judge_it(wire: str) -> None:
    scene = Scene(wire, heartbeat_interval=10, heartbeat_timeout=20)
    gate = VirtualEvent()
    scene.endpoint.handler = lambda data: gate.wait()
    scene.stream.send(scene.events(*range(LIMIT + 1)))
    scene.loop.advance(1000)
    assert scene.session.state is State.OPEN
    assert scene.stream.take() == PING[wire] * 100  # which finds a stream that was reset
    gate.set()
    scene.run()
    scene.loop.advance(10)
    assert scene.stream.take() != b""
    scene.loop.advance(20)
    assert scene.endpoint.closed[0].reason == "Heartbeat timeout"


def test_reading_goes_on_past_the_limit_while_an_answer_is_waited_for(scene: Scene) -> None:
    """The handler that waits for it holds up all events in front of the answer."""
    answers: list[object] = []

    async def handle(data: int) -> None:
        if data == 0:
            answers.append(await scene.endpoint.ask("name", "question", None, timeout=5))

    scene.endpoint.handler = handle
    scene.stream.send(scene.events(*range(PATIENCE)))
    assert scene.transport.is_reading
    scene.stream.send(scene.answer("name", 42, "1"))
    assert answers == [42]
    assert scene.endpoint.seen == list(range(PATIENCE))


def test_a_question_asked_while_reading_is_paused_makes_it_go_on(scene: Scene) -> None:
    gate = VirtualEvent()
    answers: list[object] = []

    async def handle(data: int) -> None:
        if data == 0:
            await gate.wait()
            answers.append(await scene.endpoint.ask("name", "question", None, timeout=5))

    scene.endpoint.handler = handle
    scene.stream.send(scene.events(*range(3 * LIMIT)))
    assert not scene.transport.is_reading
    scene.stream.send(scene.answer("name", 42, "1"))
    gate.set()
    scene.run()
    assert answers == [42]
    assert scene.endpoint.seen == list(range(3 * LIMIT))
    assert scene.transport.is_reading


def test_patience_for_an_answer_has_an_end(scene: Scene) -> None:
    """Memory stays bounded; the question ends with its timeout, and everything goes on."""
    failures: list[str] = []

    async def handle(data: int) -> None:
        if data == 0:
            try:
                await scene.endpoint.ask("name", "question", None, timeout=5)
            except AckTimeout as error:
                failures.append(str(error))

    scene.endpoint.handler = handle
    scene.stream.send(scene.events(*range(PATIENCE)))
    assert scene.transport.is_reading
    scene.stream.send(scene.events(PATIENCE))
    assert not scene.transport.is_reading
    scene.loop.advance(5)
    assert failures == ["no answer to 'name' within 5 s"]
    assert scene.transport.is_reading
    assert scene.endpoint.seen == list(range(PATIENCE + 1))


def test_the_limit_holds_again_when_the_answer_has_come(scene: Scene) -> None:
    gate = VirtualEvent()
    scene.endpoint.handler = lambda data: gate.wait()
    question = scene.ask()
    scene.stream.send(scene.events(*range(LIMIT + 1)))
    assert scene.transport.is_reading
    scene.stream.send(scene.answer("name", 1, "1"))
    assert question.result() == 1
    scene.stream.send(scene.events(LIMIT + 1))
    assert not scene.transport.is_reading


def test_closing_reads_on_so_that_the_peer_can_be_heard_to_agree(scene: Scene) -> None:
    gate = VirtualEvent()
    scene.endpoint.handler = lambda data: gate.wait()
    scene.stream.send(scene.events(*range(LIMIT + 1)))
    scene.stream.send(scene.client.bye())
    assert not scene.transport.is_reading
    scene.endpoint.close(1000, "")
    scene.run()
    assert scene.endpoint.closed == [Closed(1000, "", None)]


# --- Questions and drain ----------------------------------------------------------------------------------


def test_a_question_ends_with_its_answer(scene: Scene) -> None:
    first, second = scene.ask("name"), scene.ask("name")
    scene.stream.send(scene.answer("name", "b", "2") + scene.answer("name", "a", "1"))
    assert (first.result(), second.result()) == ("a", "b")


def test_a_question_ends_with_an_error_answer(scene: Scene) -> None:
    question = scene.ask("name")
    if scene.client.kind == "tcp":
        error = {"code": "NOPE", "message": "no", "_correlationId": "1"}
        scene.stream.send(frame(10, "name", to_json(error)))
    else:
        fields = {"event": "name", "data": None, "_isAck": True, "_error": {"code": "NOPE", "message": "no"}}
        scene.stream.send(scene.client.text({**fields, "_correlationId": "1"}))  # type: ignore[attr-defined]
    with pytest.raises(RemoteError, match="NOPE: no"):
        question.result()


def test_a_question_ends_with_its_deadline_in_virtual_time(scene: Scene) -> None:
    question = scene.ask("name", timeout=2.5)
    scene.loop.advance(2.4)
    assert not question.is_done
    scene.loop.advance(0.1)
    with pytest.raises(AckTimeout, match=r"no answer to 'name' within 2\.5 s"):
        question.result()
    assert len(scene.session.acks) == 0


def test_a_question_ends_with_the_connection(scene: Scene) -> None:
    question = scene.ask()
    scene.stream.reset()
    with pytest.raises(ConnectionLost):
        question.result()


def test_a_question_that_nobody_waits_for_any_more_is_forgotten(scene: Scene) -> None:
    question = scene.ask()
    assert len(scene.session.acks) == 1
    question.cancel()
    scene.run()
    assert len(scene.session.acks) == 0


def test_a_question_that_finds_the_outbox_full_ends_at_once(wire: str) -> None:
    scene = Scene(wire, outbox_limit=2000)
    scene.stream.stop_reading()
    scene.session.send(Event("x", "x" * 1500))
    with pytest.raises(ConnectionLost, match="does not read"):
        scene.loop.run(scene.endpoint.ask("name", "question", "x" * 1500, timeout=5))
    assert scene.stream.is_cut


def test_a_question_that_cannot_be_asked_is_an_error_at_the_call(scene: Scene) -> None:
    with pytest.raises(MessageError):
        scene.loop.run(scene.endpoint.ask("name", "question", {1}, timeout=5))
    assert len(scene.session.acks) == 0
    scene.stream.reset()
    with pytest.raises(StateError):
        scene.loop.run(scene.endpoint.ask("name", "question", None, timeout=5))


def test_drain_waits_for_the_low_water_mark_and_not_longer(scene: Scene) -> None:
    frame_of_1k = scene.session.format.encode_frame(Event("x", "y" * 1000))
    scene.stream.stop_reading()
    for _ in range(200):
        scene.session.send_frame(frame_of_1k)
    waiting = [scene.loop.start(scene.endpoint.drain()) for _ in range(2)]
    scene.run()
    sizes = []
    while not waiting[0].is_done:
        sizes.append(scene.session.outbox.size)
        assert scene.endpoint.data_to_send()
        scene.run()
    assert waiting[1].is_done
    assert sizes[-1] > 16 * 1024 >= scene.session.outbox.size
    scene.loop.run(scene.endpoint.drain())


def test_drain_goes_on_waiting_when_the_outbox_fills_again(scene: Scene) -> None:
    big = scene.session.format.encode_frame(Event("x", "y" * 100_000))
    scene.stream.stop_reading()
    scene.session.send_frame(big)
    waiting = scene.loop.start(scene.endpoint.drain())
    scene.run()
    assert scene.endpoint.data_to_send() == big
    scene.session.send_frame(big)
    scene.run()
    assert not waiting.is_done
    scene.stream.read_on()
    assert waiting.is_done


def test_drain_ends_when_the_peer_has_left_even_if_it_reads_no_more(scene: Scene) -> None:
    scene.stream.stop_reading()
    scene.session.send_frame(scene.session.format.encode_frame(Event("x", "y" * 100_000)))
    waiting = scene.loop.start(scene.endpoint.drain())
    scene.stream.send(scene.client.bye())
    assert waiting.is_done
    assert scene.session.outbox.congested


def test_drain_ends_with_the_connection(scene: Scene) -> None:
    scene.stream.stop_reading()
    scene.session.send_frame(scene.session.format.encode_frame(Event("x", "y" * 100_000)))
    waiting = scene.loop.start(scene.endpoint.drain())
    scene.run()
    assert not waiting.is_done
    scene.stream.reset()
    assert waiting.is_done
    assert waiting.error is None


# --- A fault of the library -----------------------------------------------------------------------------


@pytest.fixture(params=["receive_data", "handle_deadline", "connection_lost", "a task"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a fault comes up: an event makes the endpoint raise, there or when a task goes on with it."""
    handle = Recorder._handle

    def fail(endpoint: Recorder, event: Any) -> Deferred | None:
        if isinstance(event, Closed) or (isinstance(event, Event) and event.data == "break"):
            raise RuntimeError("a fault of ours")
        return handle(endpoint, event)

    monkeypatch.setattr(Recorder, "_handle", fail)
    return str(request.param)


def test_a_fault_of_the_library_is_logged_and_costs_the_connection_only(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene("tcp", heartbeat_interval=30, heartbeat_timeout=60)
    gate = VirtualEvent()
    client = scene.client
    if broken == "receive_data":
        client.say("x", "break")
    elif broken == "handle_deadline":
        scene.loop.advance(100)
    elif broken == "connection_lost":
        scene.endpoint.connection_lost()
    else:
        scene.endpoint.handler = lambda data: gate.wait()
        client.say("x", "wait")
        client.say("x", "break")
        gate.set()
    scene.loop.run_until_idle()
    assert scene.endpoint.is_aborted
    assert "RuntimeError: a fault of ours" in caplog.text
    assert scene.endpoint.end is not None

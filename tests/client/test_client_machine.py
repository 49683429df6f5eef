"""One client and a server made by hand, at random: no second connection, no lost callback, all in order."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stelar_proto.channel import Outbox
from stelar_proto.client.link import Link
from stelar_proto.errors import (
    AckTimeout,
    ConnectError,
    ConnectionLost,
    MessageDropped,
    RemoteError,
    StateError,
)
from stelar_proto.messages import Event
from tests.client.house import PORT, SERVERS, House, RawServer
from tests.support.memory import RawStream, VirtualClient
from tests.support.strictness import assertions_raised
from tests.support.virtual import Cancelled, VirtualTask
from tests.support.wires import Heard

LOGGER = logging.getLogger("client-machine")
LOGGER.propagate = False

QUEUE = 5
PING = {"ws": b"\x89\0", "tcp": b"\0\0\0\7\2\0\0"}


class OpenOutbox(Outbox):
    """One that remembers what left it, and what was thrown away."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.written = b""
        self.thrown_away: list[bytes] = []

    def take(self) -> bytes:
        data = super().take()
        self.written += data
        return data

    def waiting(self) -> list[bytes]:
        """The frames that are in it."""
        return [*self._frames, *(frame for _, frame, _ in self._kept)]

    def clear(self) -> int:
        self.thrown_away += self.waiting()
        return super().clear()


class OpenClient(VirtualClient):
    """A client all of whose connections can be looked into."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.outboxes: list[OpenOutbox] = []

    def _make_link(self, *arguments: Any) -> Link:
        link = super()._make_link(*arguments)
        outbox = OpenOutbox(self.config.outbox_limit)
        handshake = link.session.outbox.take()
        if handshake:
            outbox.keep(handshake)
        link.session.outbox = outbox
        self.outboxes.append(outbox)
        return link


def messages_in(wire: str, data: bytes) -> list[Heard]:
    """The client's messages among what it said; the protocol's own are none."""
    if data.startswith(b"GET "):
        data = data.partition(b"\r\n\r\n")[2]
    server = SERVERS[wire](None)  # type: ignore[arg-type]  # it is only read with
    return [message for message in server.parse(data) if message[0] in ("event", "request")]


def numbers_in(messages: Iterable[Heard]) -> list[int]:
    return [message[2][0] for message in messages if message[1] == "n"]


class ClientMachine(RuleBasedStateMachine):
    """What the handlers, the hooks and the server see must fit together at every moment."""

    @initialize(
        wire=st.sampled_from(["ws", "tcp"]),
        retry=st.booleans(),
        is_slow=st.booleans(),
        limit=st.sampled_from([1024, 1 << 24]),
    )
    def begin(self, wire: str, retry: bool, is_slow: bool, limit: int) -> None:
        self.house = House(wire)
        self.loop = self.house.loop
        self.strictness = assertions_raised("client-machine")
        self.strictness.__enter__()
        self.is_listening = True
        self.stories: list[str] = ["disconnected"]
        self.told: list[str] = []
        self.emitted = 0
        self.heard: list[int] = []
        self.lost: Counter[str | None] = Counter()  # by event; None for what a connection took with it
        self.servers: dict[RawStream, RawServer] = {}
        self.tasks: list[VirtualTask[Any]] = []
        self.requests: list[VirtualTask[Any]] = []
        hooks = {"on_state_change": self.state_changed, "on_error": self.failed}
        self.client = OpenClient(
            self.house.network,
            self.house.url,
            logger=LOGGER,
            hooks=hooks,
            message_queue_size=QUEUE,
            outbox_limit=limit,
            reconnection_attempts=3,
            max_reconnection_delay=2,
            close_timeout=2,
            ack_timeout=3,
            retry_first_connect=retry,
        )
        for event in ("connect", "disconnect", "reconnecting", "reconnect_failed"):
            self.client.on(event, self.teller(event))
        if is_slow:

            @self.client.on("work")
            async def work(data: object) -> None:
                await self.loop.sleep(1.5)

    # --- What the client tells ----------------------------------------------------------------------------

    def teller(self, event: str) -> Any:
        def tell(*arguments: object) -> None:
            self.told.append(event)

        return tell

    def state_changed(self, state: str, previous: str) -> None:
        assert previous == self.stories[-1] != state
        allowed = {
            "disconnected": {"connecting"},
            "connecting": {"connected", "reconnecting", "disconnected"},
            "connected": {"reconnecting", "disconnected"},
            "reconnecting": {"connected", "disconnected"},
        }
        assert state in allowed[previous]
        self.stories.append(state)

    def failed(self, error: Exception) -> None:
        if isinstance(error, MessageDropped):
            self.lost[error.event] += error.count

    # --- What is done ---------------------------------------------------------------------------------------

    def start(self, coroutine: Any) -> VirtualTask[Any]:
        task: VirtualTask[Any] = self.house.start(coroutine)
        self.listen_to_all()
        return task

    @rule()
    def connect(self) -> None:
        self.tasks.append(self.start(self.client.connect()))

    @rule()
    def disconnect(self) -> None:
        self.tasks.append(self.start(self.client.disconnect()))
        assert self.client.get_state() == "disconnected"

    @precondition(lambda self: self.tasks)
    @rule()
    def cancel(self) -> None:
        self.tasks[-1].cancel()
        self.loop.run_until_idle()

    @rule(size=st.sampled_from([0, 270]))
    def emit(self, size: int) -> None:
        with contextlib.suppress(StateError):  # the outbox is full
            self.client.emit("n", [self.emitted, "x" * size])
            self.emitted += 1
        self.loop.run_until_idle()
        self.listen_to_all()

    @rule()
    def request(self) -> None:
        self.requests.append(self.start(self.client.request("q", self.emitted)))

    @rule(room=st.sampled_from(["a", "b"]), enter=st.booleans())
    def move(self, room: str, enter: bool) -> None:
        with contextlib.suppress(StateError):
            (self.client.join_room if enter else self.client.leave_room)(room)
        self.loop.run_until_idle()

    @rule(attempts=st.one_of(st.none(), st.integers(1, 3)), on=st.booleans(), size=st.integers(1, QUEUE))
    def change_options(self, attempts: int | None, on: bool, size: int) -> None:
        self.client.update_options(
            reconnection_attempts=attempts, reconnection=on, message_queue_size=size, ack_timeout=1 + size
        )
        self.loop.run_until_idle()

    @rule()
    def listen_or_not(self) -> None:
        if self.is_listening:
            self.house.network.stop_listening(PORT)
        else:
            streams = self.house.network.listen_raw(PORT)
            streams[:0] = self.house.streams
            self.house.streams = streams
        self.is_listening = not self.is_listening

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.5, 20.0]))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.listen_to_all()

    # --- What the server does -------------------------------------------------------------------------------

    def listen_to_all(self) -> None:
        """Take what came over each connection; numbers only."""
        for stream in self.house.streams:
            server = self.servers.get(stream)
            if server is None:
                continue
            self.heard += numbers_in(server.heard())

    def latest(self) -> RawStream | None:
        return self.house.streams[-1] if self.house.streams else None

    @rule(how=st.sampled_from(["open", "open", "open", "refuse", "reset", "bye", "end", "garbage"]))
    def answer(self, how: str) -> None:
        stream = self.latest()
        if stream is None or stream.transport.is_lost:
            return
        server = self.servers.get(stream)
        if server is None:
            server = SERVERS[self.house.wire](stream)
            if how == "open":
                self.servers[stream] = server.open()
            elif how == "refuse" and self.house.wire == "ws":
                stream.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
                stream.end()
            else:
                stream.reset()
        else:
            match how:
                case "open":
                    stream.send(server.event("work") + PING[self.house.wire])
                case "bye":
                    stream.send(server.bye())
                case "end":
                    stream.end()
                case "garbage":
                    stream.send(b"\xff" * 20)
                case _:
                    stream.reset()
        self.listen_to_all()

    @rule(read=st.booleans())
    def read_or_not(self, read: bool) -> None:
        stream = self.latest()
        if stream is not None and not stream.transport.is_lost:
            if read:
                stream.read_on()
            else:
                stream.stop_reading()
            self.listen_to_all()

    # --- What must hold -------------------------------------------------------------------------------------

    @invariant()
    def there_is_at_most_one_connection(self) -> None:
        if hasattr(self, "house"):
            alive = [stream for stream in self.house.streams if not stream.transport.is_lost]
            assert len(alive) <= 1

    @invariant()
    def messages_come_in_order_and_once(self) -> None:
        if hasattr(self, "heard"):
            assert self.heard == sorted(set(self.heard))

    @invariant()
    def every_message_is_somewhere(self) -> None:
        """It waits, or was handed to a transport, or is counted as dropped and was told of."""
        if not hasattr(self, "client"):
            return
        client, wire = self.client, self.house.wire
        written = [message for box in client.outboxes for message in messages_in(wire, box.written)]
        waiting = [
            message for box in client.outboxes for message in messages_in(wire, b"".join(box.waiting()))
        ]
        gone = [
            message for box in client.outboxes for message in messages_in(wire, b"".join(box.thrown_away))
        ]
        assert client.get_messages_sent() == len(written) + len(waiting) + len(gone)
        queued = [item.message.data[0] for item in client.queue._items if isinstance(item.message, Event)]
        known = Counter(numbers_in(written) + numbers_in(waiting) + numbers_in(gone) + queued)
        assert set(known.values()) <= {1}
        assert len(known) + self.lost["n"] == self.emitted
        assert set(self.lost) <= {None, "n"}
        assert self.lost.total() == client.get_messages_dropped()
        if client._link is None:  # else it is told when that has gone
            assert self.lost[None] == len(gone)

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        self.loop.run(self.client.disconnect())
        self.loop.advance(100)
        self.listen_to_all()
        self.strictness.__exit__(None, None, None)
        assert self.client.get_state() == self.stories[-1] == "disconnected"
        for task in self.tasks:
            assert task.error is None or isinstance(task.error, ConnectError | StateError | Cancelled)
        for request in self.requests:
            assert request.is_done
            assert isinstance(request.error, AckTimeout | ConnectionLost | RemoteError | StateError)
        self.every_callback_came_once_and_in_order()
        self.every_message_is_somewhere()
        assert self.loop.tasks == []
        assert self.client.virtual_runtime.deadline is None
        assert all(stream.transport.is_lost for stream in self.house.streams)
        with contextlib.suppress(StateError):
            raise AssertionError(self.client.runtime)
        self.house.close()

    def every_callback_came_once_and_in_order(self) -> None:
        balance = 0
        for event in self.told:
            balance += {"connect": 1, "disconnect": -1}.get(event, 0)
            assert balance == (event == "connect")
        assert balance == 0
        assert self.told.count("connect") == self.stories.count("connected")


TestClientMachine = ClientMachine.TestCase
TestClientMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

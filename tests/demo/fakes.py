"""What the demo's terminal stands on, without an event loop: typed lines, a screen, and a client."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from stelar_proto.demo.terminal import ChatSession
from stelar_proto.errors import MessageDropped, MessageError

T = TypeVar("T")
Step = str | Callable[[], object]
"""What the user types next, or what happens meanwhile."""

ENTERED = {"room": "lobby", "you": {"id": "1", "name": "Ana"}, "members": [{"id": "1", "name": "Ana"}]}


class FakeLines:
    """Typed lines from a script; ends when the script does, or when it is closed."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self.closed = False

    def __aiter__(self) -> FakeLines:
        return self

    async def __anext__(self) -> str:
        while self._steps and not self.closed:
            step = self._steps.pop(0)
            if isinstance(step, str):
                return step
            step()
        raise StopAsyncIteration

    def close(self) -> None:
        self.closed = True


class FakeScreen:
    """What was shown, and, in ``updates``, what was shown in place."""

    def __init__(self, *, is_live: bool = False) -> None:
        self.is_live = is_live
        self.lines: list[str] = []
        self.updates: list[str] = []

    def __call__(self, line: str, /) -> None:
        self.lines.append(line)

    def update(self, line: str, /) -> None:
        self.updates.append(line)


class FakeClient:
    """Answers requests from a table: a value, an exception, or a function of the data.

    Without a connection it keeps two messages.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"enter": ENTERED, "latency": None, **answers}
        self.asked: list[tuple[str, Any]] = []
        self.emitted: list[tuple[str, Any]] = []
        self.waiting: list[tuple[str, Any]] = []
        self.clock = 100.0
        self.seconds_a_chunk = 0.5
        self.state = "connected"
        self.hooks: Mapping[str, Callable[..., Any]] = {}
        self.receive: Callable[[str, Any], Any] = lambda event, data: None
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.said: Callable[[Any], Any] = lambda answer: None

    def on(self, event: str, handler: Callable[..., Any], /) -> None:
        self.handlers[event] = handler

    def on_all(self, handler: Callable[[str, Any], Any], /) -> None:
        self.receive = handler

    def on_ack(self, name: str, handler: Callable[[Any], Any], /) -> None:
        assert name == "say"
        self.said = handler

    def emit(self, event: str, data: Any = None, *, ack: str | None = None) -> None:
        assert ack in (None, event)
        if event == "ping":
            raise MessageError("RESERVED_EVENT", "ping is reserved")
        if self.is_connected():
            self.emitted.append((event, data))
            return
        self.waiting.append((event, data))
        if len(self.waiting) > 2:
            dropped, _ = self.waiting.pop(0)
            self.hooks["on_error"](error=MessageDropped("more than 2 waited", event=dropped))

    async def send_image(self, source: str, *, event: str, progress: Callable[[int, int | None], Any]) -> int:
        picture = _read(source)
        for done in range(1, 5):
            self.clock += self.seconds_a_chunk
            progress(len(picture) * done // 4, None)
        self.emitted.append((event, picture))
        return len(picture)

    async def request(self, event: str, data: Any = None, /) -> Any:
        self.asked.append((event, data))
        self.clock += 0.0125
        answer = self.answers[event]
        if callable(answer):
            answer = answer(data)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def is_connected(self) -> bool:
        return self.state == "connected"

    def get_state(self) -> str:
        return self.state

    def get_id(self) -> str | None:
        return "1" if self.is_connected() else None

    def get_url(self) -> str:
        return "ws://localhost:3000/"

    def get_queue_size(self) -> int:
        return len(self.waiting)

    def get_messages_sent(self) -> int:
        return 7

    def get_messages_received(self) -> int:
        return 9

    def get_messages_dropped(self) -> int:
        return 0

    # --- What becomes of the connection: hooks and handlers in the order of the real client's -------------

    def _enter(self, state: str) -> None:
        previous, self.state = self.state, state
        self.hooks["on_state_change"](state=state, previous=previous)

    def lose(self, code: int = 1001, reason: str = "Server shutting down") -> None:
        """The connection ends, and there will be no other."""
        self._enter("disconnected")
        self.handlers["disconnect"](code, reason)

    def break_off(self) -> None:
        """The connection ends, and the first attempt at another is a second away."""
        self.hooks["on_error"](error=ConnectionError("the stream ended"))
        self._enter("reconnecting")
        self.handlers["disconnect"](1006, "")
        self.hooks["on_reconnect_delay"](attempt=1, delay=1.0)

    def come_back(self) -> None:
        """There is a connection again: what waited is sent, and then handlers hear of it."""
        self._enter("connected")
        if self.waiting:
            self.emitted += self.waiting
            self.hooks["on_queue_drained"](count=len(self.waiting))
            self.waiting.clear()
        finish(self.handlers["connect"]())


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine``, which never has to wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waited for an event loop")


def visit(client: FakeClient, screen: FakeScreen, *steps: Step, json: bool = False) -> int:
    """The exit status of a session on ``screen`` in which ``steps`` were typed or happened."""
    session = ChatSession(screen, name="Ana", room="lobby", now=lambda: client.clock, json=json)
    client.hooks = session.hooks
    return finish(session.run(client, FakeLines(list(steps))))


def chat(client: FakeClient, *steps: Step) -> tuple[int, list[str]]:
    """The exit status and the readable lines of a session."""
    screen = FakeScreen()
    return visit(client, screen, *steps), screen.lines


def chat_json(client: FakeClient, *steps: Step) -> tuple[int, list[dict[str, Any]]]:
    """The exit status and the records of a session with ``--json``."""
    screen = FakeScreen()
    status = visit(client, screen, *steps, json=True)
    return status, [json.loads(line) for line in screen.lines]

"""What a client has to say: events, rooms, and what a hook decides about first."""

from __future__ import annotations

from collections import deque
from typing import Any

from stelar_proto.channel.handlers import Handler, is_awaitable
from stelar_proto.errors import MessageError, StateError, StelarError
from stelar_proto.messages import AckRequest, Binary, Event, Join, Leave, check_event_name
from stelar_proto.session.arguments import check_payload, check_room_name
from stelar_proto.wire import TcpFormat, WebSocketFormat

from .files import CHUNK_SIZE, BytesContent, Content, Progress, Source, check_size, open_source, report
from .link import Link
from .queue import Queued, encode
from .reporting import ClientReporting, name_of

_MAX_UNDECIDED = 1000
"""How many messages may wait for a hook to decide about them."""


class ClientSending(ClientReporting):
    """Emitting, and the rooms of the client."""

    format: WebSocketFormat | TcpFormat
    """How messages are said over the next connection."""
    _before_emit: Handler | None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._asked = 0  # answers asked for with emit()
        self._undecided: deque[tuple[Any, Queued]] = deque()  # what on_before_emit returned, and the message

    def emit(self, event: str, data: Any = None, *, ack: str | None = None) -> None:
        """Send an event; with ``ack``, ask for an answer that :meth:`on_ack` handlers of that name will get.

        A plain call that never waits; ``await drain()`` waits for a slow server. Without a connection the
        message is kept and sent with the next; see ``message_queue_size``.

        Raises:
            MessageError: the name breaks the rules, or the data is not JSON or too large.
            StateError: the outbox is full: ``await drain()``; or there is no connection, and nothing is kept.
        """
        check_event_name(event)
        if ack is None:
            self._submit(Event(event, data), data)
        else:
            self._asked += 1
            self._submit(AckRequest(check_event_name(ack), event, data, f"e{self._asked}"), data)

    def emit_binary(self, event: str, payload: bytes | bytearray | memoryview) -> None:
        """Send an event with raw bytes, as :meth:`emit` sends one with JSON.

        Raises:
            MessageError: the name breaks the rules, or the payload is too large.
            StateError: the outbox is full: ``await drain()``; or there is no connection, and nothing is kept.
        """
        payload = check_payload(payload)
        self._submit(Binary(check_event_name(event), payload), payload)

    async def send_file(
        self, source: Source, *, event: str = "file", progress: Progress | None = None
    ) -> int:
        """Send a file as the bytes of one event, and wait until most of it has left.

        A large one is read in a thread while it is sent, as fast as the server takes it. It is not
        compressed, and what is emitted meanwhile waits for its end. Without a connection, or with a hook
        ``on_before_emit``, it is read as a whole and treated as every message is.

        If it cannot be sent to its end, because this call is cancelled or reading fails, the server cannot be
        told so: the connection is cut, and replaced like any other that breaks.

        Arguments:
            source: a path, bytes, or an open file, which is left open.
            event: the name of the event.
            progress: called with the bytes handed over to the connection so far, and their sum; plain or
                async.

        Returns:
            How many bytes they were.

        Raises:
            OSError: the file cannot be read.
            ConnectionLost: the connection ended in the middle of it.
            MessageError: it is larger than ``max_payload_size``, or the name breaks the rules.
            StateError: there is no connection, and nothing is kept.
            TypeError: it is nothing of the kind, or the file gives text.
        """
        check_event_name(event)
        runtime = self._runtime or self._make_runtime()  # threads are there before a connection is
        limit = self.config.max_payload_size
        async with open_source(source, runtime) as content:
            if content.size is None:
                content = BytesContent(await content.read_all(limit))
            size = content.size
            assert size is not None
            check_size(size, limit)
            if size <= CHUNK_SIZE or not await self._upload(event, content, size, progress):
                size = await self._send_whole(event, content, progress)
        await self.drain()
        return size

    async def _send_whole(self, event: str, content: Content, progress: Progress | None) -> int:
        payload = await content.read_all(self.config.max_payload_size)
        await self.drain()
        self.emit_binary(event, payload)
        await report(progress, len(payload), len(payload))
        return len(payload)

    async def _upload(self, event: str, content: Content, size: int, progress: Progress | None) -> bool:
        """Send ``content`` while it is read; False if that cannot be done, and then nothing was."""
        link = self.usable_link()
        if link is None or self._before_emit is not None or self._undecided:
            return False
        upload = await link.begin_upload(event, size)
        if upload is None:
            return False
        try:
            while upload.left:
                piece = await content.read(min(upload.left, CHUNK_SIZE))
                if not piece:
                    raise OSError(f"the file has become shorter: {upload.left} bytes of {size} are missing")
                await upload.wait_taken()
                if upload.taken:
                    await report(progress, upload.taken, size)
                upload.put(piece)
            await upload.wait_taken()
        finally:
            link.break_off(upload)
        await report(progress, size, size)
        return True

    async def send_image(
        self, source: Source, *, event: str = "image", progress: Progress | None = None
    ) -> int:
        """Send an image: :meth:`send_file` under another name."""
        return await self.send_file(source, event=event, progress=progress)

    def join_room(self, room: str) -> None:
        """Ask to be put into ``room``, now and after every reconnect; the event ``joined-room`` confirms it.

        Without a connection that is done when there is one.

        Raises:
            ValueError: the name is empty or longer than 256 bytes.
            StateError: the outbox is full: ``await drain()``.
        """
        link = self.usable_link()
        message = Join(check_room_name(room))
        if link is not None:
            link.send(message)
        self._rooms[room] = None

    def leave_room(self, room: str) -> None:
        """Ask to be taken out of ``room``; the event ``left-room`` confirms it.

        Raises:
            ValueError: the name is empty or longer than 256 bytes.
            StateError: the outbox is full: ``await drain()``.
        """
        link = self.usable_link()
        message = Leave(check_room_name(room))
        if link is not None:
            link.send(message)
        self._rooms.pop(room, None)

    async def drain(self) -> None:
        """Wait until what was sent is below the outbox's low-water mark, or the connection has ended."""
        if self._link is not None:
            await self._link.drain()

    def usable_link(self) -> Link | None:
        """Return the connection over which messages can be sent; None if there is none."""
        link = self._link
        return link if link is not None and link.is_usable else None

    def no_connection(self) -> StateError:
        """Return the error that says so."""
        if self._state in ("connecting", "reconnecting"):
            words = "one is being made; the event 'connect' tells when it is there"
            return StateError(f"there is no connection to {self.target.url} yet: {words}")
        if self._state == "connected":  # its end is known in the next turn of the loop
            return StateError(f"the connection to {self.target.url} has just ended")
        return StateError(f"there is no connection to {self.target.url}: await connect() first")

    def _submit(self, message: Event | Binary | AckRequest, data: Any) -> None:
        link = self._link
        if self._before_emit is not None or self._undecided:
            self._ask_first(encode(message, self.format), data)
        elif link is not None and link.is_usable:
            link.send(message)
        else:
            self._keep(encode(message, self.format))

    def _keep(self, item: Queued) -> None:
        """Have ``item`` sent behind what waits, or when there is a connection."""
        link = self.usable_link()
        if link is not None:
            link.put(item)
        elif self.queue.limit == 0:
            raise self.no_connection()
        elif item.size > self.config.outbox_limit:
            words = f"a message of {item.size} bytes is larger than outbox_limit, {self.config.outbox_limit}"
            raise MessageError("PAYLOAD_TOO_LARGE", words)
        else:
            self.queue.append(item)
            self.trim_queue()
            self.call_hook("on_message_queued", event=name_of(item.message), queue_size=len(self.queue))

    # --- The hook that decides ----------------------------------------------------------------------------

    def _ask_first(self, item: Queued, data: Any) -> None:
        if len(self._undecided) >= _MAX_UNDECIDED:
            raise StateError(
                f"on_before_emit has {_MAX_UNDECIDED} messages to decide about: emit more slowly"
            )
        hook, verdict = self._before_emit, None
        if hook is not None:
            try:
                verdict = hook(event=name_of(item.message), data=data)
            except Exception as error:
                self.hook_raised("on_before_emit", error)
        if self._undecided or is_awaitable(verdict):
            self._undecided.append((verdict, item))
            if len(self._undecided) == 1:
                self.run_later(self._decide())
        elif verdict is not False:
            self._keep(item)

    async def _decide(self) -> None:
        """Await one verdict after the other: messages leave in the order in which they were emitted."""
        undecided = self._undecided
        try:
            while undecided:
                verdict, item = undecided[0]
                if is_awaitable(verdict):
                    try:
                        verdict = await verdict
                    except Exception as error:
                        self.hook_raised("on_before_emit", error)
                undecided.popleft()
                if verdict is not False:
                    try:
                        self._keep(item)
                    except StelarError as error:
                        self.give_up(item, error)
        finally:
            while undecided:  # cancelled
                verdict, item = undecided.popleft()
                if hasattr(verdict, "close"):
                    verdict.close()
                self.give_up(item, StelarError("the client ended before on_before_emit had decided"))

"""What a client sends over one connection: rooms, what waited, what is emitted, and files piece by piece.

Everything leaves in the order in which it was asked for. The rooms go first, then what waits in the client's
queue; while there is any of that, or a file is under way, what is emitted goes into the queue too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stelar_proto.channel import Closed, Runtime, WaitableEvent
from stelar_proto.errors import AckTimeout, ConnectionLost, MessageError, StateError
from stelar_proto.messages import Join, Message
from stelar_proto.session import Dispatcher, Session

from .pace import Pace
from .queue import OfflineQueue, Queued, encode
from .upload import Upload

if TYPE_CHECKING:
    from .application import ClientApplication

_WRITE_SIZE = 64 * 1024  # what waits is written in pieces of about this many bytes
_LARGEST_JOIN = 2048  # the name of a room has 256 bytes, each of which JSON may have to escape


class Outgoing(Dispatcher):
    """The sending half of a :class:`~.link.Link`.

    Arguments:
        client: whose connection it is.
        session: its protocol.
        runtime: the loop.
    """

    __slots__ = (
        "_caught_up",
        "_client",
        "_joins",
        "_pace",
        "_resume_at",
        "_upload",
        "was_open",
    )

    def __init__(self, client: ClientApplication, session: Session, runtime: Runtime) -> None:
        super().__init__(session, runtime, client.logger, inbox_limit=client.config.inbox_limit)
        self._client = client
        self._joins: deque[str] = deque()  # rooms
        self._caught_up: WaitableEvent | None = None
        self._pace: Pace  # from when it is open
        self._resume_at: float | None = None  # when more of what waits may be sent
        self._upload: Upload | None = None
        self.was_open = False

    # --- For the transport ------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> bool:
        return super().receive_data(data) or (self._client.queue.size > 0 or bool(self._joins))

    def data_to_send(self) -> bytes:
        upload = self._upload
        if upload is not None and upload.has_begun:
            return self._take_of(upload)
        data = super().data_to_send()
        if not data and upload is not None:
            return self._take_of(upload)
        if not data and (self._client.queue.size or self._joins) and self.is_usable:
            self._fill_outbox()
            data = super().data_to_send()
        return data

    @property
    def wants_eof(self) -> bool:
        return self._upload is None and super().wants_eof

    @property
    def unsent_size(self) -> int:
        # What is read meanwhile waits for the server as much as what has been.
        return super().unsent_size + (self._upload is not None)

    def next_deadline(self) -> float | None:
        deadline, resume_at = super().next_deadline(), self._resume_at
        if resume_at is None or not self._has_more:
            return deadline
        return resume_at if deadline is None else min(deadline, resume_at)

    def handle_deadline(self, now: float) -> None:
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None  # the transport, which is told in any case, comes for more when it can
        super().handle_deadline(now)

    # --- What waits to be sent --------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether messages can be sent; its end, once it has come to be handled, is the end of that."""
        return self.was_open and self.end is None and self.session.can_send

    @property
    def _has_more(self) -> bool:
        return self._must_wait and self.is_usable

    @property
    def _must_wait(self) -> bool:
        return self._client.queue.size > 0 or bool(self._joins) or self._upload is not None

    def send(self, message: Message) -> None:
        """Send ``message`` behind what waits.

        Raises:
            MessageError: it may not be sent, or is too large.
            StateError: the outbox is full.
        """
        if self._must_wait:
            self.put(encode(message, self._client.format))
        else:
            self.session.send(message)
            self.flush_soon()

    def put(self, item: Queued) -> None:
        """Have ``item`` sent behind what waits.

        Raises:
            MessageError: it was accepted for another wire or other limits, and cannot be sent over this one.
            StateError: too much waits.
        """
        queue = self._client.queue
        if not self._must_wait:
            frame = self._frame_of(item)
            if self.session.outbox.has_room_for(frame):  # so it does not wait at all
                self.session.send_frame(frame, droppable=False)
                self.flush_soon()
                return
        if queue.size + item.size > self.session.config.outbox_limit:
            raise StateError(f"the outbox is full ({queue.size} bytes): await drain() before sending more")
        queue.append(item)
        self._pace.add()
        self.flush_soon()

    def rejoin(self, rooms: Sequence[str]) -> None:
        """Have the client join its rooms again, in front of everything that waits."""
        self._joins.extend(rooms)
        self._pace = Pace(self._client.config.queue_rate, self._runtime.now())

    def _fill_outbox(self) -> None:
        """Put into the empty outbox what the transport takes at once: what is written waits no longer."""
        outbox, queue, joins = self.session.outbox, self._client.queue, self._joins
        limit = min(_WRITE_SIZE, self.session.config.outbox_limit)
        while joins and (not outbox.size or outbox.size < limit - _LARGEST_JOIN) and self._is_due():
            self._join(joins.popleft())
        while (
            not joins
            and queue
            and (not outbox.size or outbox.size + queue.first().size < limit)
            and self._is_due()
        ):
            if not self._send_first(queue):
                break
        if not joins and not queue:
            self._client.queue_is_empty()
            self._wake_caught_up()

    def _is_due(self) -> bool:
        """Tell whether the next of what waits may be sent; if not, see to it that it is in time."""
        if self._pace.take(self._runtime.now()):
            return True
        self._resume_at = self._pace.next_at()
        self.session._deadline_changed()
        return False

    def _send_first(self, queue: OfflineQueue) -> bool:
        """Send the first of what waits, or give it up if that cannot be done; False if it has to wait on."""
        client, outbox, item = self._client, self.session.outbox, queue.first()
        try:
            frame = self._frame_of(item)
            if outbox.size and not outbox.has_room_for(frame):
                self._pace.add()  # it was not its turn
                return False
            self.session.send_frame(frame, droppable=False)
        except MessageError as error:  # another wire or other limits than it was accepted for
            client.give_up(queue.popleft(), error)
        else:
            queue.popleft()
            client.sent_from_queue()
        return True

    def _join(self, room: str) -> None:
        """Join ``room`` again, or give that up if it cannot be done."""
        message = Join(room)
        try:
            self.session.send_frame(self._frame_of(Queued(message)), droppable=False)
        except MessageError as error:
            self._client.give_up(Queued(message), error)

    def _frame_of(self, item: Queued) -> bytes:
        if item.format is not self.session.format:
            item = encode(item.message, self.session.format)
        if isinstance(item.encoded, bytes):
            return item.encoded
        frame: bytes = self.session.codec.encode_message(*item.encoded)  # type: ignore[union-attr]  # of WebSocket
        return frame

    # --- Files --------------------------------------------------------------------------------------------

    async def begin_upload(self, event: str, size: int) -> Upload | None:
        """Begin a binary message that is read while it is sent, behind what waits.

        Return where to put its ``size`` bytes, None if the connection has ended. What is emitted from now on
        waits for its end; whoever cannot put all of them in calls :meth:`break_off`.

        Raises:
            MessageError: it may not be sent, or is too large.
        """
        await self.catch_up()
        if not self.is_usable:
            return None
        head, encode_piece = self.session.encode_head(event, size)
        self._upload = Upload(self._runtime, head, encode_piece, size, self.flush_soon)
        return self._upload

    def break_off(self, upload: Upload) -> None:
        """Give ``upload`` up. A message that has begun cannot be taken back: it ends with its connection."""
        if self._upload is not upload:
            return
        self._upload = None
        if upload.has_begun:
            self._logger.warning("the connection is cut: a file could not be sent to its end")
            self.abort(Closed(1006, "a file could not be sent to its end", None))
            self.handle_deadline(self._runtime.now())  # the caller, who goes on, finds no connection
        else:
            self.flush_soon()
            self._wake_caught_up()

    def _take_of(self, upload: Upload) -> bytes:
        data = upload.take()
        self.session.outbox.taken += len(data)
        if upload.is_over:
            self._upload = None
            self.session.messages_sent += 1
            self._wake_caught_up()
        return data

    def _on_closed(self, event: Closed) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.fail(ConnectionLost(f"the connection ended after {upload.taken} bytes of {upload.size}"))
            if upload.has_begun:
                self.session.abort(event)  # in the middle of a message there are no last words
        self._wake_caught_up()

    # --- Waiting ------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The loop."""
        return self._runtime

    async def ask(self, ack: str, event: str, data: object, *, timeout: float) -> Any:
        if self._has_more:
            until, left = self._runtime.now() + timeout, timeout
            while self._has_more and left > 0:  # another file may have begun behind one
                await self._runtime.wait_for(self._make_caught_up(), left)
                left = until - self._runtime.now()
            if left <= 0:
                raise AckTimeout(f"{ack!r} was not asked within {timeout:g} s: earlier messages still wait")
            if not self.is_usable:
                raise ConnectionLost("the connection ended before the question was sent")
            timeout = left
        return await super().ask(ack, event, data, timeout=timeout)

    async def catch_up(self) -> None:
        """Wait until nothing is queued in front of what is sent next, or the connection has ended."""
        while self._has_more:
            await self._make_caught_up().wait()

    async def drain(self) -> None:
        await self.catch_up()
        await super().drain()

    def _make_caught_up(self) -> WaitableEvent:
        if self._caught_up is None:
            self._caught_up = self._runtime.make_event()
        return self._caught_up

    def _wake_caught_up(self) -> None:
        if self._caught_up is not None:
            self._caught_up.set()
            self._caught_up = None

"""What carries an endpoint over two pipes, as a runtime's transport does over a socket."""

from __future__ import annotations

from collections.abc import Callable

from stelar_proto.channel import Endpoint, Runtime
from stelar_proto.channel.runtime import Address

from .pipe import Pipe


class MemoryTransport:
    """Carries one endpoint; :meth:`run` is for a task of the same loop.

    An end in good order ends the stream; one that comes while something is unread, or that the endpoint did
    not wait for, cuts it, behind what was written.

    Arguments:
        runtime: the loop of the endpoint; nothing is delivered while a call of the endpoint is under way.
        inbound, outbound: from the peer and to it.
        local_address, remote_address: the ends of the connection.
    """

    def __init__(
        self,
        runtime: Runtime,
        inbound: Pipe,
        outbound: Pipe,
        *,
        local_address: Address | None = None,
        remote_address: Address | None = None,
    ) -> None:
        self.opened_at = runtime.now()
        self.local_address = local_address
        self.remote_address = remote_address
        self.is_reading = True
        """Whether the endpoint wants to be given what comes."""
        self.is_lost = False
        """Whether this side of the connection is gone."""
        self._runtime = runtime
        self._inbound = inbound
        self._outbound = outbound
        self.endpoint: Endpoint
        self._attach: Callable[[MemoryTransport], Endpoint]
        self._is_attached = False
        self._loss_was_reported = False
        self._lost = runtime.make_event()
        self._rest = b""  # taken from the endpoint, and not by the pipe
        self._flush_is_due = True  # in the turn in which it begins
        self._end_sent = False
        inbound.on_arrival = outbound.on_room = self.flush_soon
        inbound.on_cut = self._lose

    def begin_soon(self, attach: Callable[[MemoryTransport], Endpoint]) -> None:
        """Carry what ``attach`` returns, in the next turn of the loop."""
        self._attach = attach
        self._runtime.flush_soon(self)

    def begin(self, endpoint: Endpoint) -> None:
        """Carry ``endpoint``."""
        self.endpoint = endpoint
        self._is_attached = True
        self._runtime.flush_soon(self)

    async def run(self) -> None:
        """Wait until the connection is gone; cut it if the loop ends in front of it."""
        try:
            await self._lost.wait()
        finally:
            self.cut()
            self._report_loss()

    def cut(self) -> None:
        """Cut the connection, if it is there; whatever is unsent is lost."""
        if not self.is_lost:
            self._outbound.cut()
            self._lose()

    # --- For the endpoint -------------------------------------------------------------------------------

    @property
    def unsent_size(self) -> int:
        """How many bytes wait for the pipe to take them; 1 where it is full, and we have taken none."""
        return len(self._rest) or int(self._outbound.is_full)

    def flush_soon(self) -> None:
        if not self._flush_is_due and not self.is_lost:
            self._flush_is_due = True
            self._runtime.flush_soon(self)

    def write(self, data: bytes) -> bool:
        if self._rest or self._outbound.is_full or self._outbound.is_broken or self.is_lost:
            return False
        self._keep_rest(self._outbound.write(data))
        return True

    def _keep_rest(self, rest: bytes) -> None:
        if self._rest or rest:
            self._rest = rest
            self.endpoint.note_unsent(len(rest))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True
        self.flush_soon()

    # --- In a turn of the loop --------------------------------------------------------------------------

    def flush(self) -> None:
        """Give the endpoint the next chunk, and the peer what there is to send."""
        if self.is_lost:
            self._report_loss()
            return
        self._flush_is_due = True  # what is asked for meanwhile is done here
        if not self._is_attached:
            self._is_attached = True
            self.endpoint = self._attach(self)
        if self.is_reading and (data := self._inbound.read()) is not None:
            self.endpoint.receive_data(data)
        if not self.is_lost:
            self._send()
        self._flush_is_due = False
        if self.is_reading and self._inbound.is_readable:
            self.flush_soon()  # who waits for what came has a turn in front of the next chunk

    def _send(self) -> None:
        endpoint, outbound = self.endpoint, self._outbound
        if endpoint.is_aborted:
            self.cut()
            return
        while not outbound.is_full and (data := self._rest or endpoint.data_to_send()):
            if outbound.is_broken:
                self._lose()
                return
            self._keep_rest(outbound.write(data))
        if endpoint.is_ending and not self._rest:
            self._end_if_due(endpoint)

    def _end_if_due(self, endpoint: Endpoint) -> None:
        is_finished = endpoint.is_finished
        if (endpoint.wants_eof or is_finished) and not self._end_sent:
            self._end_sent = True
            self._outbound.end()
        if is_finished and self._inbound.has_unread:
            self.cut()
        elif is_finished:
            self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        self._rest = b""
        self._inbound.close()
        self._lost.set()
        self._runtime.flush_soon(self)

    def _report_loss(self) -> None:
        if self._is_attached and not self._loss_was_reported:
            self._loss_was_reported = True
            self.endpoint.connection_lost()

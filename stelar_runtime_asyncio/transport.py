"""What carries an endpoint over an asyncio transport.

Nothing here knows a wire, a message or a server: bytes and the end of the stream go in, bytes come out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import cast

from stelar_proto.channel import Endpoint
from stelar_proto.channel.runtime import Address

from .loop import AsyncioRuntime

_READ_SIZE = 64 * 1024  # what the allocator has at hand, unlike blocks twice as large and more


class EndpointProtocol(asyncio.Protocol):
    """Carries one endpoint over an asyncio transport.

    Arguments:
        runtime: the loop.
        attach: given this protocol, returns the endpoint, once there is a connection; None cuts it.
        close_timeout: seconds that closing the transport may take.
    """

    __slots__ = (
        "_abort_handle",
        "_attach",
        "_close_timeout",
        "_descriptor",
        "_endpoint",
        "_eof_sent",
        "_flush_is_due",
        "_is_attached",
        "_runtime",
        "_transport",
        "_writing_paused",
        "opened_at",
    )

    def __init__(
        self,
        runtime: AsyncioRuntime,
        attach: Callable[[EndpointProtocol], Endpoint | None],
        *,
        close_timeout: float,
    ) -> None:
        self._runtime = runtime
        self._attach: Callable[[EndpointProtocol], Endpoint | None] | None = attach
        self._close_timeout = close_timeout
        self._endpoint: Endpoint
        self._transport: asyncio.Transport
        self._descriptor: int | None = None
        self._writing_paused = False
        self._flush_is_due = False  # at the end of this turn, or of this call
        self._eof_sent = False
        self._is_attached = False
        self._abort_handle: asyncio.TimerHandle | None = None
        self.opened_at = runtime.now()

    @property
    def local_address(self) -> Address | None:
        """Our IP address and port."""
        return self._address("sockname")

    @property
    def remote_address(self) -> Address | None:
        """The peer's IP address and port."""
        return self._address("peername")

    def _address(self, which: str) -> Address | None:
        address = self._transport.get_extra_info(which)
        return address[:2] if isinstance(address, tuple) else None

    # --- For asyncio ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._flush_is_due = True
        attach, self._attach = self._attach, None  # which keeps much, for once
        assert attach is not None
        endpoint = attach(self)
        if endpoint is None:
            transport.abort()  # type: ignore[attr-defined]  # it is an asyncio.Transport
            return
        # What waits for the peer waits in the outbox. A plain socket is written without a detour, and the
        # transport gets what it does not take; TLS would stop for ever at a limit of 0.
        is_plain = transport.get_extra_info("sslcontext") is None
        if hasattr(transport, "max_size"):  # asyncio's own, which has 256 KiB allocated for every read
            transport.max_size = _READ_SIZE
        self._transport.set_write_buffer_limits(high=0 if is_plain else 1)
        if is_plain and os.name == "posix":
            self._descriptor = transport.get_extra_info("socket").fileno()
        self._endpoint = endpoint
        self._is_attached = True
        self.flush()

    def data_received(self, data: bytes) -> None:
        # What this asks for leaves when all others have been read: a peer that is written to at once wakes up
        # at once, and takes the processor from those whose turn it is.
        if self._endpoint.receive_data(data) and not self._flush_is_due:
            self.flush_soon()

    def eof_received(self) -> bool:
        self._flush_is_due = True
        self._endpoint.receive_data(b"")
        self.flush()
        # Keep the other direction open for what is still to be said; TLS has no half-open connections.
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flush_is_due = True  # there is nothing left to flush into
        self._descriptor = None
        if self._abort_handle is not None:
            self._abort_handle.cancel()
        if self._is_attached:
            self._is_attached = False
            self._endpoint.connection_lost()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._endpoint.note_unsent(0)
        self.flush()

    # --- For the endpoint -----------------------------------------------------------------------------------

    @property
    def unsent_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._runtime.flush_soon(self)

    def write(self, data: bytes) -> bool:
        descriptor = self._descriptor
        if descriptor is None or self._writing_paused:
            return False
        try:
            size = os.write(descriptor, data)
        except OSError as error:
            self._write_failed(error)
            size = 0
        if size < len(data):
            self._hand_over(data[size:])
        return True

    def _write_failed(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):  # the transport will find out, and knows what to do
            self._descriptor = None

    def _hand_over(self, data: bytes) -> None:
        self._transport.write(data)
        if self._writing_paused:
            self._endpoint.note_unsent(self.unsent_size)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def flush(self) -> None:
        """Hand to the transport what it takes, and close it when the endpoint has come to its end."""
        self._flush_is_due = False
        endpoint, transport = self._endpoint, self._transport
        is_ending = endpoint.is_ending
        if is_ending and endpoint.is_aborted:
            self._abort()
            return
        if transport.is_closing():
            return
        while not self._writing_paused and (data := endpoint.data_to_send()):
            if not self.write(data):
                self._hand_over(data)
        if is_ending:
            self._end_if_due()

    def _end_if_due(self) -> None:
        endpoint, transport = self._endpoint, self._transport
        if endpoint.is_finished:
            self._close()
        elif endpoint.wants_eof and not self._eof_sent:
            self._eof_sent = True
            if not transport.can_write_eof():
                self._close()
                return
            try:
                transport.write_eof()
            except OSError:  # the peer has reset the connection, and asyncio has yet to hear of it
                self._abort()

    def _abort(self) -> None:
        self._descriptor = None
        self._transport.abort()

    def _close(self) -> None:
        self._descriptor = None
        # close() waits for a peer that does not read, for ever if need be; abort() does not.
        self._transport.close()
        loop = asyncio.get_running_loop()
        self._abort_handle = loop.call_later(self._close_timeout, self._transport.abort)

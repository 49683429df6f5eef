"""A plain WebSocket connection, as both roles and both runtimes show it to those who use it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import TypeAlias

from stelar_proto.channel import State
from stelar_proto.channel.runtime import Address
from stelar_proto.errors import ConnectionClosed
from stelar_proto.ws import CloseCode, DeflateAgreement, Request, Response

from .endpoint import WebSocketEndpoint

Sendable: TypeAlias = str | bytes | bytearray | memoryview
"""Text is a ``str``; everything else is a binary message."""

_SENDABLE = (str, bytes, bytearray, memoryview)


class WebSocketConnection:
    """One open WebSocket connection (RFC 6455). Server and client have the same.

    ::

        async for message in ws:  # str or bytes
            await ws.send(message)

    Flow control goes both ways. A peer that is not read stops: when the inbox is full, in messages or bytes,
    nothing more is taken from the stream. :meth:`send` waits for a peer that does not read.
    """

    __slots__ = ("_endpoint", "_local_address", "_remote_address")

    def __init__(self, endpoint: WebSocketEndpoint) -> None:
        self._endpoint = endpoint
        transport = endpoint.transport
        self._local_address = None if transport is None else transport.local_address
        self._remote_address = None if transport is None else transport.remote_address

    def __repr__(self) -> str:
        session = self._endpoint.session
        return f"<WebSocketConnection {session.role.value} {session.state.value} {self._remote_address}>"

    # --- Receiving --------------------------------------------------------------------------------------

    async def recv(self) -> str | bytes:
        """Return the next message: ``str`` if it is text, ``bytes`` if it is binary.

        A call that is cancelled has taken nothing: the message goes to the next one. What came in front of
        the end of the connection is still returned behind it.

        Raises:
            ConnectionClosed: the connection has ended, and all its messages were returned.
            StateError: a message was taken in part by :meth:`recv_parts`; the rest of it comes first.
        """
        return await self._endpoint.receive()

    def recv_parts(self) -> MessageParts:
        """Iterate over the next message piece by piece, as it comes in, however large it is.

        ::

            async for part in ws.recv_parts():  # all of them str, or all bytes
                file.write(part)

        The parts are what the network made of the message, not what the sender did. ``max_size`` bounds the
        whole of it. An iteration that was left early, or cancelled, is gone on with by the next call.
        """
        return MessageParts(self._endpoint)

    def __aiter__(self) -> WebSocketConnection:
        return self

    async def __anext__(self) -> str | bytes:
        """Return the next message; the iteration ends when the peers parted with code 1000 or 1001.

        Raises:
            ConnectionClosed: the connection ended in another way.
        """
        try:
            return await self._endpoint.receive()
        except ConnectionClosed as error:
            if error.is_ordinary:
                raise StopAsyncIteration from None
            raise

    # --- Sending ----------------------------------------------------------------------------------------

    async def send(self, message: Sendable) -> None:
        """Send a message: text if it is a ``str``, else binary.

        Waits while more than 64 KiB wait for the peer, then puts the message behind those and returns. A
        call that is cancelled has sent nothing of it, and the connection goes on.

        Raises:
            ConnectionClosed: the connection is closed, or was closed while this waited.
            MessageError: the text holds a lone surrogate, which UTF-8 cannot say.
            TypeError: it is neither str nor bytes.
        """
        if not isinstance(message, _SENDABLE):
            hint = "; send_fragments() sends several as one message" if isinstance(message, Iterable) else ""
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}{hint}")
        await self._endpoint.send(message)

    async def send_fragments(self, fragments: Iterable[Sendable] | AsyncIterable[Sendable]) -> None:
        """Send one message in fragments, each as soon as it is there (RFC 6455, section 5.4).

        Others who send wait until it has ended. If it cannot be ended, because this call is cancelled or
        ``fragments`` raises, the peer cannot be told so: the connection is then closed with code 1011.

        Arguments:
            fragments: all ``str``, or all bytes; an iterable or an asynchronous one. None makes an empty
                binary message.

        Raises:
            ConnectionClosed: the connection is closed, or was closed while this waited.
            MessageError: a text holds a lone surrogate.
            TypeError: a fragment is neither str nor bytes, or not what those before it were.
        """
        if isinstance(fragments, _SENDABLE):  # a string is an iterable of strings too
            raise TypeError("fragments is an iterable of them; send() sends one message as one")
        endpoint = self._endpoint
        await endpoint.begin_parts()
        has_begun = False
        last: Sendable = b""
        try:
            # One behind: the last fragment carries the mark that the message has ended.
            async with aclosing(_enumerate(fragments)) as enumerated:
                async for index, fragment in enumerated:
                    if index:
                        await endpoint.send_part(last, final=False)
                        has_begun = True
                    last = fragment
            await endpoint.send_part(last, final=True)
            has_begun = False
        finally:
            if has_begun:
                endpoint.close(CloseCode.INTERNAL_ERROR, "a message could not be ended")
            endpoint.end_parts()

    async def ping(self) -> float:
        """Ask for a sign of life and return how long it took, in seconds (RFC 6455, section 5.5.2).

        It waits as long as the connection lives; put a timeout around it.

        Raises:
            ConnectionClosed: the connection is closed, or was closed before the pong came.
        """
        return await self._endpoint.ping()

    # --- The end ----------------------------------------------------------------------------------------

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection behind everything that was sent; return when it is gone.

        The peer has ``close_timeout`` seconds to do its part, then the stream is cut. What it sent until then
        can still be received, as far as the inbox has room for it. A second call waits for the first. If the
        call is cancelled, the connection goes on closing.

        Arguments:
            code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455, section 7.4).
            reason: for people, at most 123 bytes of it are sent.

        Raises:
            MessageError: the code must not be sent.
        """
        endpoint = self._endpoint
        endpoint.close(code, reason)
        await endpoint.lost.wait()

    async def wait_closed(self) -> None:
        """Return when the connection is gone, whoever ended it."""
        await self._endpoint.watch_for(self._endpoint.lost)

    # --- Information ------------------------------------------------------------------------------------

    @property
    def request(self) -> Request:
        """The request of the opening handshake."""
        request = self._endpoint.session.codec.request
        assert request is not None  # there is no connection without
        return request

    @property
    def response(self) -> Response | None:
        """What the server answered; None on the server itself."""
        return self._endpoint.session.codec.response

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed upon; None if there is none."""
        return self._endpoint.session.codec.subprotocol

    @property
    def compression(self) -> DeflateAgreement | None:
        """What was agreed upon for compressing messages; None if they are not compressed."""
        return self._endpoint.session.codec.compression

    @property
    def local_address(self) -> Address | None:
        """Our IP address and port."""
        return self._local_address

    @property
    def remote_address(self) -> Address | None:
        """The peer's IP address and port."""
        return self._remote_address

    @property
    def latency(self) -> float | None:
        """How long the last pong took, in seconds, :meth:`ping` or heartbeat; None before the first."""
        return self._endpoint.session.pings.latency

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._endpoint.session.state is State.OPEN

    @property
    def close_code(self) -> int | None:
        """How the connection ended, see :class:`ConnectionClosed`; None while it has not."""
        end = self._endpoint.end
        return None if end is None else end.code

    @property
    def close_reason(self) -> str | None:
        """The words with which the connection ended; None while it has not."""
        end = self._endpoint.end
        return None if end is None else end.reason


async def _enumerate(
    fragments: Iterable[Sendable] | AsyncIterable[Sendable],
) -> AsyncGenerator[tuple[int, Sendable], None]:
    index = 0
    if isinstance(fragments, AsyncIterable):
        async for fragment in fragments:
            yield index, fragment
            index += 1
    else:
        for fragment in fragments:
            yield index, fragment
            index += 1


class MessageParts:
    """The parts of one message; see :meth:`WebSocketConnection.recv_parts`."""

    __slots__ = ("_ended", "_endpoint")

    def __init__(self, endpoint: WebSocketEndpoint) -> None:
        self._endpoint = endpoint
        self._ended = False

    def __aiter__(self) -> MessageParts:
        return self

    async def __anext__(self) -> str | bytes:
        """Return the next part.

        Raises:
            ConnectionClosed: the connection has ended, maybe in the middle of the message.
        """
        if self._ended:
            raise StopAsyncIteration
        part = await self._endpoint.receive_part()
        self._ended = part.final
        return part.data

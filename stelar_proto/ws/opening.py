"""The opening handshake of one connection, either side: from its first byte to the 101 or to a refusal.

Responsible for what comes when: one request and one answer, nothing in between. Not responsible for what the
two heads have to say (:mod:`.handshake`), nor for the connection's state: each side is an object that
:class:`~.connection.Connection` keeps until the handshake is over. Peers' faults are raised here, as
:class:`HandshakeError`, and become an event there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from stelar_proto.errors import HandshakeError, StateError, StreamEnded, UpgradeRefused

from . import handshake
from .deflate import DeflateAgreement, PerMessageDeflate, answer_offers, encode_offer
from .events import Opened, RequestReceived, UpgradeRequested
from .extensions import Extension
from .http1 import HeaderFields, HeadLimits, Request, RequestReader, Response, ResponseReader, encode_response
from .state import Role, State
from .uri import parse_websocket_url


class ServerOpening:
    """The server's side: a request comes, :meth:`accept` or :meth:`respond` encodes the answer.

    Arguments:
        plain_http: take requests that are no handshake.
        compression: how to answer offers of it; None declines them all.
    """

    __slots__ = ("_compression", "_extensions", "_plain_http", "_reader", "_upgrade", "agreement", "request")

    # What only the other side has, so that both are driven alike.
    response: Response | None = None
    trailing = b""

    def __init__(
        self, head_limits: HeadLimits, plain_http: bool, compression: PerMessageDeflate | None
    ) -> None:
        self._compression = compression
        self._extensions: list[Extension] = []
        self._plain_http = plain_http
        self._reader = RequestReader(head_limits)
        self._upgrade = False
        self.request: Request | None = None
        self.agreement: DeflateAgreement | None = None
        """How messages will be compressed, once it was accepted."""

    def receive(self, data: bytes) -> RequestReceived | UpgradeRequested | None:
        """Take bytes; return the request when it is complete.

        Raises:
            HandshakeError: the request is broken, or asks for a WebSocket in a way that is none, or for
                none where nothing else is served.
        """
        if self.request is None:
            self.request = self._reader.feed(data)
            return None if self.request is None else self._judge(self.request)
        if self._upgrade:
            raise _came_too_early()
        # What is pipelined behind a plain request gets no answer: ours ends the connection, and says so.
        return None

    def _judge(self, request: Request) -> RequestReceived | UpgradeRequested:
        subprotocols = handshake.read_upgrade(request)
        if subprotocols is None:
            if not self._plain_http:  # RFC 9110, section 15.5.22
                raise HandshakeError(426, "only WebSocket is spoken here", headers=[("Upgrade", "websocket")])
            return RequestReceived(request)
        if self._reader.trailing:
            raise _came_too_early()
        if self._compression is not None:
            self._extensions = handshake.read_offered_extensions(request.headers)
        self._upgrade = True
        return UpgradeRequested(request, subprotocols)

    def end(self) -> NoReturn:
        """The stream ended.

        Raises:
            StreamEnded: always; there is nobody to answer.
        """
        raise StreamEnded("the stream ended before the WebSocket handshake did")

    def accept(self, subprotocol: str | None, headers: HeaderFields) -> bytes:
        """Return the 101; see :meth:`.connection.Connection.accept`."""
        if self.request is None or not self._upgrade:
            raise StateError("accept() answers UpgradeRequested; a plain request is answered by respond()")
        answer, agreement = None, None
        if self._compression is not None:
            answer, agreement = answer_offers(self._extensions, self._compression) or (None, None)
        encoded = handshake.accept_response(
            self.request, subprotocol=subprotocol, extensions=answer, headers=headers
        )
        self.agreement = agreement
        return encoded

    def respond(self, status: int, body: bytes, headers: HeaderFields) -> bytes:
        """Return another answer; see :meth:`.connection.Connection.respond`."""
        if self.request is None:
            raise StateError("respond() answers a request, and none has come yet")
        if status == 101:
            raise ValueError("a plain answer's status is from 200 to 599; accept() sends the 101")
        return self._encode(status, body, headers)

    def refuse(self, error: HandshakeError) -> bytes:
        """Return the answer to a request that was refused here."""
        headers = (("Content-Type", "text/plain; charset=utf-8"), *error.headers)
        return self._encode(error.status, f"{error.reason}\n".encode(), headers)

    def _encode(self, status: int, body: bytes, headers: HeaderFields) -> bytes:
        encoded = encode_response(status, headers, body)
        # RFC 9110, section 9.3.2: the answer to HEAD ends behind its head.
        if self.request is not None and self.request.method == "HEAD":
            return encoded[: len(encoded) - len(body)]
        return encoded


class ClientOpening:
    """The client's side: :meth:`send` encodes the request, a response comes.

    Arguments:
        entropy: where the key comes from.
        compression: what to offer; None offers none.
    """

    __slots__ = (
        "_accept_npm_handshake",
        "_compression",
        "_entropy",
        "_key",
        "_reader",
        "_subprotocols",
        "agreement",
        "request",
        "response",
    )

    def __init__(
        self,
        entropy: Callable[[int], bytes],
        head_limits: HeadLimits,
        compression: PerMessageDeflate | None,
    ) -> None:
        self._entropy = entropy
        self._compression = compression
        self._key = ""
        self._subprotocols: tuple[str, ...] = ()
        self._accept_npm_handshake = False
        self._reader = ResponseReader(head_limits)
        self.request: Request | None = None
        self.response: Response | None = None
        self.agreement: DeflateAgreement | None = None
        """How messages will be compressed, once the server has accepted."""

    def send(
        self,
        url: str,
        headers: HeaderFields,
        subprotocols: Iterable[str],
        accept_npm_handshake: bool,
    ) -> bytes:
        """Return the request; see :meth:`.connection.Connection.request_upgrade`."""
        if self.request is not None:
            raise StateError("the handshake was sent already; a new connection needs a new Connection")
        if isinstance(subprotocols, str):  # a string is an iterable of strings too
            raise TypeError(f"subprotocols is a sequence of names: [{subprotocols!r}]")
        target = parse_websocket_url(url)
        self._subprotocols = tuple(subprotocols)
        self._accept_npm_handshake = accept_npm_handshake
        self._key = handshake.new_key(self._entropy)
        self.request, encoded = handshake.upgrade_request(
            target,
            key=self._key,
            headers=headers,
            subprotocols=self._subprotocols,
            extensions=None if self._compression is None else encode_offer(self._compression),
        )
        return encoded

    @property
    def trailing(self) -> bytes:
        """The first bytes of the server's frames, if they came with its answer."""
        return self._reader.trailing

    def receive(self, data: bytes) -> Opened | None:
        """Take bytes; return that the server has accepted when it has.

        Raises:
            UpgradeRefused: the response is complete and its status another than 101.
            HandshakeError: the response is broken, or accepts something else than was asked.
        """
        if self.request is None:
            raise HandshakeError(0, "the server sent bytes before it was asked for anything")
        self.response = self._reader.feed(data)
        if self.response is None:
            return None
        subprotocol = handshake.check_response(
            self.response,
            key=self._key,
            subprotocols=self._subprotocols,
            accept_npm_handshake=self._accept_npm_handshake,
        )
        self.agreement = handshake.check_extensions(self.response, self._compression)
        return Opened(self.response, subprotocol)

    def end(self) -> NoReturn:
        """The stream ended, which may complete a response that is not a 101.

        Raises:
            UpgradeRefused: that is so.
            HandshakeError: not even the head of the response was complete.
            StreamEnded: no request was sent.
        """
        if self.request is None:
            raise StreamEnded("the stream ended before the WebSocket handshake began")
        self.response = self._reader.eof()
        raise UpgradeRefused(self.response)


_Side = TypeVar("_Side", ServerOpening, ClientOpening)


def demand(side: type[_Side], opening: object, call: str, role: Role, state: State) -> _Side:
    """Return ``opening``, which the method ``call`` needs, if it is that side's.

    Raises:
        StateError: the connection has the other role, or its handshake is over.
    """
    wanted = Role.SERVER if side is ServerOpening else Role.CLIENT
    if role is not wanted:
        raise StateError(f"{call}() is for the {wanted.value} side; this is the {role.value} side")
    if not isinstance(opening, side):
        raise StateError(f"{call}() comes too late: the connection is {state.value}")
    return opening


def _came_too_early() -> HandshakeError:
    # Section 4.1: a client waits for the answer; bytes behind its request are smuggled, not sent.
    return HandshakeError(400, "bytes came behind the request, before it was answered")

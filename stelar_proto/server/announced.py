"""A TCP client that comes through a proxy, which says in a PROXY header whom it stands for."""

from __future__ import annotations

from logging import INFO, WARNING

from stelar_proto.channel import State
from stelar_proto.proxy_protocol import ProxyHeaderError, ProxyHeaderReader

from .addresses import plain_address
from .peer import Peer
from .reports import fields_of


class AnnouncedPeer(Peer):
    """A connection that begins with a PROXY header; behind it, it is like any other.

    The header's time is part of ``connect_timeout``.
    """

    __slots__ = ("_reader",)

    _reader: ProxyHeaderReader | None

    def begin(self) -> None:
        self._reader = None
        if self.server.gate.is_trusted(self):
            self._reader = ProxyHeaderReader()
        else:
            self._turn_away("connections are taken from trusted proxies only")

    def receive_data(self, data: bytes) -> bool:
        reader = self._reader
        if reader is None or not data or self.session.state is not State.CONNECTING:
            return super().receive_data(data)
        try:
            header = reader.feed(data)
        except ProxyHeaderError as error:
            self._reader = None
            self._turn_away(error.reason)
            return True
        if header is None:
            return False
        self._reader = None
        if header.source is not None:
            self.remote_address = plain_address(header.source[0])
        super().begin()
        rest = reader.rest()
        return super().receive_data(rest) if rest else True

    def _turn_away(self, words: str) -> None:
        level = WARNING if self.server.pace.may_warn("PROXY", self.session.now) else INFO
        extra = fields_of(self, reason=words, status=400)
        self._logger.log(level, "refused %s: %s", self.remote_address, words, extra=extra)
        self.refuse(400, words)

"""One end of a connection in the hands of a test."""

from __future__ import annotations

from collections.abc import Callable

from .pipe import Pipe


class MemoryStream:
    """Bytes to and from a server or a client, as a test wants them: broken, half, too late or not at all.

    Plain calls that never wait; what the other side does about it, it does in the next turns of the loop.

    Arguments:
        inbound, outbound: from the other side and to it.
    """

    def __init__(self, inbound: Pipe, outbound: Pipe) -> None:
        self.has_ended = False
        """Whether the other side has ended its stream."""
        self.is_cut = False
        """Whether the connection was cut."""
        self.writes: list[int] = []
        """The sizes of the chunks that came."""
        self.on_change: Callable[[], object] | None = None
        """Called when something came, the stream ended or was cut, or there is room to send."""
        self._inbound = inbound
        self._outbound = outbound
        self._unsent = b""
        self._end_is_due = False
        self._received = bytearray()
        self._is_reading = True
        self._is_taking = False
        inbound.on_arrival = self._read
        inbound.on_cut = self._note_cut
        outbound.on_room = self._send

    def __repr__(self) -> str:
        state = "cut" if self.is_cut else "ended" if self.has_ended else "open"
        return f"<{type(self).__name__} {state}, {len(self._received)} bytes received>"

    @property
    def unsent(self) -> int:
        """How many bytes wait for the other side to read."""
        return len(self._unsent)

    def send(self, data: bytes) -> None:
        """Send bytes, as fast as the other side reads them; those it will never read are lost."""
        self._unsent += data
        self._send()

    def end(self) -> None:
        """End this side of the stream, behind what was sent."""
        self._end_is_due = True
        self._send()

    def cut(self) -> None:
        """Cut the connection, behind what the other side has had room for."""
        self._outbound.cut()
        self._inbound.close()

    def close(self) -> None:
        """Close this side as a socket is closed: behind what was sent; if something is unread, cut it."""
        if self._unsent or self._inbound.has_unread:
            self.cut()
        else:
            self.end()
            self._inbound.close()

    def take(self) -> bytes:
        """Return what came since the last call."""
        received = bytes(self._received)
        self._received.clear()
        return received

    def stop_reading(self) -> None:
        """Read no more: the other side can write until the pipe is full."""
        self._is_reading = False

    def read_on(self) -> None:
        """Read again."""
        self._is_reading = True
        self._read()

    # --- For the pipes ----------------------------------------------------------------------------------

    def _send(self) -> None:
        self._unsent = self._outbound.write(self._unsent)
        if self._end_is_due and not self._unsent:
            self._end_is_due = False
            self._outbound.end()
        self._tell()

    def _read(self) -> None:
        if self._is_taking:  # room was made, and filled at once: the call under way goes on with that
            return
        self._is_taking = True
        while self._is_reading and (data := self._inbound.read()) is not None:
            if data:
                self.writes.append(len(data))
                self._received += data
            else:
                self.has_ended = True
        self._is_taking = False
        self._tell()

    def _note_cut(self) -> None:
        self.is_cut = True
        self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()

"""What those who make attempts at a connection, wait for it, or call it off have in common."""

from __future__ import annotations

from stelar_proto.channel import Runtime


class Campaign:
    """The attempts at one connection.

    Arguments:
        runtime: the loop.
        is_first: ``connect()`` waits for it; else it replaces a connection that ended.
    """

    __slots__ = ("error", "is_called_off", "is_first", "settled", "started", "wake")

    def __init__(self, runtime: Runtime, *, is_first: bool) -> None:
        self.is_first = is_first
        self.started = runtime.make_event()
        """Set when the loop runs."""
        self.settled = runtime.make_event()
        """Set when it is known what came of it."""
        self.wake = runtime.make_event()
        """Set when there is reason to look again before the next attempt is due."""
        self.error: Exception | None = None
        """Why nothing came of it."""
        self.is_called_off = False
        """Whether whoever called it off sees to the rest."""

    def finish(self, error: Exception | None = None, *, is_called_off: bool = False) -> None:
        """Tell whoever waits."""
        self.error, self.is_called_off = error, is_called_off
        self.settled.set()
        self.wake.set()

"""The part of a server's public face with which it is looked at and changed while it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Unpack

from stelar_proto.messages import check_event_name
from stelar_proto.session.arguments import check_client_id

from .config import ServerConfig, ServerOptions
from .rate_limits import RateLimit

if TYPE_CHECKING:
    from .peer import Peer


class Configurable(ABC):
    """What has options, and clients with limits of their own."""

    config: ServerConfig

    @abstractmethod
    def _configure(self, config: ServerConfig) -> None:
        """Go by ``config`` from now on; must not raise."""

    @abstractmethod
    def _find(self, client_id: str) -> Peer | None:
        """Return the client of that id, wherever it is."""

    def get_config(self) -> ServerConfig:
        """Return the options as they are now: a snapshot, which does not change.

        ``is_custom(name)`` tells whether an option was set, ``custom`` which were.
        """
        return self.config

    def update_config(self, **changes: Unpack[ServerOptions]) -> None:
        """Change options, whether the server runs or not.

        Limits, hooks, origins and the health endpoint hold at once, for those who are connected too; times,
        sizes and whatever else belongs to a connection, for connections that come in from now on.

        Raises:
            ValueError: an option does not exist, cannot change (addresses, ports, namespace, dialect, logger,
                tracker; the certificate does with :meth:`reload_tls`), or would make no sense. The message
                names all of them, says what to do instead, and nothing has changed.
        """
        self._configure(self.config.changed(changes))

    # --- Rates --------------------------------------------------------------------------------------------

    def set_event_rate_limit(self, event: str, limit: RateLimit) -> None:
        """Limit how often each client may send ``event``; such messages then cost nothing else.

        Raises:
            ValueError: the name is not one that clients can send, or that is no limit.
        """
        self.update_config(event_rate_limits={**self.config.event_rate_limits, event: limit})

    def remove_event_rate_limit(self, event: str) -> bool:
        """Count ``event`` like all others again; return whether it had a limit."""
        limits = dict(self.config.event_rate_limits)
        was_there = limits.pop(check_event_name(event), None) is not None
        self.update_config(event_rate_limits=limits)
        return was_there

    def set_client_rate_limit(self, client_id: str, limit: RateLimit) -> bool:
        """Give one client a limit of its own, in place of all others, for as long as it is connected.

        Returns whether there is such a client.

        Raises:
            TypeError: that is no limit, or no id.
        """
        if not isinstance(limit, RateLimit):
            raise TypeError(f"a limit is a RateLimit, not {type(limit).__name__}")
        peer = self._find(check_client_id(client_id))
        if peer is None:
            return False
        peer.allowance.set_own(limit, peer.session.now)
        return True

    def remove_client_rate_limit(self, client_id: str) -> bool:
        """Have the other limits hold for one client again; return whether it had one of its own.

        Raises:
            TypeError: that is no id.
        """
        peer = self._find(check_client_id(client_id))
        if peer is None or not peer.allowance.has_own:
            return False
        peer.allowance.set_own(None, peer.session.now)
        return True

"""What the servers of all event loops have in common that needs the system: TLS, signals, memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from stelar_proto.channel import Endpoint, Lifecycle, Place
from stelar_proto.channel.network import Listener, Network

from .process import memory_bytes, watch_signals
from .tls import ServerTls, TlsOption

P = TypeVar("P", bound=Endpoint)


class SystemLifecycle(Lifecycle[P]):
    """A server's part that does not depend on its event loop.

    Arguments:
        tls: an ``ssl.SSLContext``, or the paths of a certificate chain and its key (PEM).
        network: what carries connections in place of sockets, in tests: a ``MemoryNetwork``.
        arguments, options: the application's.

    Raises:
        OSError: the certificate cannot be read.
    """

    def __init__(
        self, *arguments: Any, tls: TlsOption = None, network: Network | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.network = network
        self._listeners: tuple[Listener, ...] = ()  # on the network
        self._tls = ServerTls(tls)

    def _listen_on(self, network: Network, place: Place) -> int:
        """Have connections come in over ``network``; return the port.

        Raises:
            OSError: the port is in use.
            ValueError: the place has no port.
        """
        if place.port is None:
            raise ValueError(f"with network= a server listens on ports: {place} is none")
        attach, secure = partial(self.connected, place.kind), self._tls.context is not None
        listener = network.listen(self.runtime, attach, place.host or "localhost", place.port, secure=secure)
        self._listeners += (listener,)
        return listener.port

    def _begin_handshake(self, kind: str, address: object) -> Callable[[], object] | None:
        """A connection came in from ``address``; return what to call when TLS is done, None to cut it."""
        if self._tls.context is None or not isinstance(address, tuple):  # that of a Unix socket is none
            return _nothing
        return self.begin_handshake(kind, address[0])

    def _leave_network(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = ()

    def reload_tls(self, tls: TlsOption = None) -> None:
        """Have new connections get the certificate as it is in its files now; those that are open go on.

        Arguments:
            tls: what to use from now on in place of what the server was made with: a context, or paths.

        Raises:
            OSError: a file cannot be read, or they do not belong together. Whatever is raised, the old
                certificate stays.
            ValueError: the server was made with an ``ssl.SSLContext``, and that cannot be read again: pass
                another.
            StateError: the server was made without ``tls``.
        """
        self._tls.reload(tls)

    def _handshake_failed(self, kind: str, address: object, error: BaseException) -> None:
        """Report a connection that did not get through TLS; ``address`` is what ``accept()`` returned."""
        host = address[0] if isinstance(address, tuple) else None
        extra = {
            "client_id": None,
            "remote_address": host,
            "transport": kind,
            "event": None,
            "reason": str(error),
        }
        self.logger.info("the TLS handshake with %s failed: %s", host, error, extra=extra)

    def memory_bytes(self) -> int:
        """Return the resident memory of the process."""
        return memory_bytes()

    def _watch_signals(self, run_soon: Callable[[Callable[[], None]], object]) -> Callable[[], None]:
        """Have signals ask for the stop, if they are to, until the returned function is called.

        Arguments:
            run_soon: has its event loop call a function; may itself be called between any two instructions.
        """
        if not self.config.graceful_shutdown:
            return lambda: None
        return watch_signals(lambda: run_soon(self.request_stop))


def _nothing() -> None:
    """There is no TLS handshake to be over."""

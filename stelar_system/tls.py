"""TLS contexts out of the ``tls`` options of servers and clients."""

from __future__ import annotations

import logging
import ssl
from os import PathLike
from typing import TypeAlias

from stelar_proto.errors import StateError

TlsOption: TypeAlias = ssl.SSLContext | tuple[str | PathLike[str], str | PathLike[str]] | None


class ServerTls:
    """The TLS of a server: what it was told, and the context of the handshakes that begin now.

    Arguments:
        option: a context, or the paths of a certificate chain and its key; None for no TLS.

    Raises:
        OSError: the files cannot be read, or do not belong together.
        TypeError: it is nothing of the kind.
    """

    def __init__(self, option: TlsOption) -> None:
        self._option = option
        self.context = _server_context(option)

    def reload(self, option: TlsOption) -> None:
        """Read the files again, or take ``option`` in place of what was told before.

        Raises:
            StateError: there is no TLS.
            ValueError: there are no files to read again.
            OSError, TypeError: as above; then nothing has changed.
        """
        if self.context is None:
            raise StateError("the server has no TLS: it was made without the option tls")
        if option is None:
            option = self._option
            if isinstance(option, ssl.SSLContext):
                raise ValueError("an ssl.SSLContext cannot be read again: pass another, or paths")
        self.context = _server_context(option)
        self._option = option


def _server_context(option: TlsOption) -> ssl.SSLContext | None:
    if option is None or isinstance(option, ssl.SSLContext):
        return option
    if not (isinstance(option, tuple | list) and len(option) == 2):
        raise TypeError(f"tls is an ssl.SSLContext, or (certificate path, key path), not {option!r}")
    certificate, key = option
    for path in option:
        open(path, "rb").close()  # its error names the file, that of ssl does not
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_to_ask)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ssl.SSLError(
            error.errno, f"cannot use the certificate {certificate} with the key {key}: {reason}"
        ) from error
    return context


def _refuse_to_ask() -> str:
    # OpenSSL would ask whoever sits at the terminal, and wait.
    raise OSError("the key is encrypted: load it into an ssl.SSLContext, and pass that")


class ClientTls:
    """The TLS of a client, for all of its connections.

    Making a context reads all authorities of the system, which takes tens of milliseconds: once is enough,
    and so is one warning.
    """

    def __init__(self) -> None:
        self._options: tuple[object, bool] | None = None
        self._context: ssl.SSLContext

    def context_for(
        self, tls: ssl.SSLContext | bool | None, *, reject_unauthorized: bool, logger: logging.Logger
    ) -> ssl.SSLContext:
        """Return the context for the next connection; another one if the options are others than before."""
        options = (tls, reject_unauthorized)
        if options != self._options:
            self._context = client_context(tls, reject_unauthorized=reject_unauthorized, logger=logger)
            self._options = options
        return self._context


def proxy_context() -> ssl.SSLContext:
    """Return the context for TLS to a proxy itself: it is verified with the system's authorities."""
    return ssl.create_default_context()


def client_context(
    tls: ssl.SSLContext | bool | None, *, reject_unauthorized: bool = True, logger: logging.Logger
) -> ssl.SSLContext:
    """Return the context of a client: the given one, or the default, which verifies certificate and name."""
    if isinstance(tls, ssl.SSLContext):
        return tls
    context = ssl.create_default_context()
    if not reject_unauthorized:
        logger.warning("reject_unauthorized=False: the server's certificate is not verified")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

"""TLS contexts out of the ``tls`` options of servers and clients."""

from __future__ import annotations

import logging
import ssl
from os import PathLike
from typing import TypeAlias

TlsOption: TypeAlias = ssl.SSLContext | tuple[str | PathLike[str], str | PathLike[str]] | None


def server_context(tls: TlsOption) -> ssl.SSLContext | None:
    """Return the context of a server: the given one, or one with the certificate and key of the given paths.

    Raises:
        OSError: the files cannot be read, or do not belong together.
    """
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    certificate, key = tls
    for path in tls:
        open(path, "rb").close()  # its error names the file, that of ssl does not
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


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

"""WebSocket without a socket: RFC 6455 and 7692 for both ends of a connection.

A server reads a handshake, accepts it and echoes::

    >>> from stelar_proto import ws
    >>> server = ws.Connection(ws.Role.SERVER)
    >>> client = ws.Connection(ws.Role.CLIENT, entropy=bytes)  # os.urandom outside of an example
    >>> client.request_upgrade("ws://localhost/chat")
    >>> for event in server.receive_data(client.data_to_send()):
    ...     match event:
    ...         case ws.UpgradeRequested(request):
    ...             print(request.path)
    ...             server.accept()
    /chat
    >>> [opened] = client.receive_data(server.data_to_send())
    >>> client.send_text("hola")
    >>> server.receive_data(client.data_to_send())
    [TextReceived(text='hola')]

See :class:`Connection` for the contract and ``events`` for what it reports.
"""

from .close import Close, CloseCode
from .connection import Connection
from .deflate import CompressionOption, DeflateAgreement, PerMessageDeflate, choose_compression
from .events import (
    BinaryReceived,
    Closed,
    Event,
    Opened,
    PartReceived,
    PingReceived,
    PongReceived,
    RequestReceived,
    TextReceived,
    UpgradeRequested,
)
from .frames import Opcode
from .handshake import select_subprotocol
from .http1 import Headers, HeadLimits, Request, Response
from .state import Role, State

__all__ = [
    "BinaryReceived",
    "Close",
    "CloseCode",
    "Closed",
    "CompressionOption",
    "Connection",
    "DeflateAgreement",
    "Event",
    "HeadLimits",
    "Headers",
    "Opcode",
    "Opened",
    "PartReceived",
    "PerMessageDeflate",
    "PingReceived",
    "PongReceived",
    "Request",
    "RequestReceived",
    "Response",
    "Role",
    "State",
    "TextReceived",
    "UpgradeRequested",
    "choose_compression",
    "select_subprotocol",
]

"""The binary TCP protocol, sans-IO: usable alone, from any event loop or none.

>>> from stelar_proto.tcp import Connection, FrameType
>>> client, server = Connection(), Connection()
>>> client.send_frame(FrameType.JSON, "chat", b'{"text":"hola"}')
>>> client.send_frame(FrameType.PING)
>>> for event in server.receive_data(client.data_to_send()):
...     print(event)
FrameReceived(type=<FrameType.JSON: 0>, event='chat', payload=b'{"text":"hola"}')
FrameReceived(type=<FrameType.PING: 2>, event='', payload=b'')
>>> server.data_to_send()  # the Pong, made by itself
b'\\x00\\x00\\x00\\x07\\x03\\x00\\x00'

What a peer does wrong is never raised. It ends the connection with one last event, and the answer is ready:

>>> [closed] = server.receive_data(b"\\xff\\xff\\xff\\xff")
>>> closed.error.code
'FRAME_TOO_LARGE'
>>> server.data_to_send()
b'\\x00\\x00\\x00\\x1b\\n\\x00\\x05errorFRAME_TOO_LARGE'
"""

from __future__ import annotations

from .connection import Connection, State
from .events import Closed, Event, FrameReceived
from .frames import DEFAULT_MAX_FRAME_SIZE, EVENT_FIELDS, Dialect, FrameType, encode_frame

__all__ = [
    "DEFAULT_MAX_FRAME_SIZE",
    "EVENT_FIELDS",
    "Closed",
    "Connection",
    "Dialect",
    "Event",
    "FrameReceived",
    "FrameType",
    "State",
    "encode_frame",
]

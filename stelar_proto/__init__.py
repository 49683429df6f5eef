"""The sans-IO heart of stelar: bytes in, events out; commands in, bytes out.

Nothing in this package opens a socket, reads a clock, starts a task or draws a random number. Everything
that decides lives here; ``stelar_runtime_asyncio`` and ``stelar_runtime_trio`` only carry bytes and time.

Each folder depends on those below it and may be used alone::

    demo
    server   client
    session
    wire
    ws   tcp   messages
    errors   buffer

``import stelar_proto.ws`` or ``import stelar_proto.tcp`` is all that the author of another library needs.
"""

__version__ = "0.1.0"

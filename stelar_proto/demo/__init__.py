"""The demo: a chat that shows the public API at work, in a browser and in a terminal.

It stands on top of everything else and nothing stands on it. Both runtimes start it from their
``__main__``; what differs between them is the :class:`~stelar_proto.demo.cli.Runtime` they hand in.
"""

from __future__ import annotations

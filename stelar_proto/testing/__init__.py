"""A network in memory, for tests: servers and clients of either runtime joined without a socket."""

from .network import MemoryConnection, MemoryHost, MemoryListener, MemoryNetwork
from .pipe import ChunkSize
from .stream import MemoryStream

__all__ = ["ChunkSize", "MemoryConnection", "MemoryHost", "MemoryListener", "MemoryNetwork", "MemoryStream"]

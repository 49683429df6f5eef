"""What servers and clients ask of the operating system, whatever their event loop: the runtimes stand on it.

Listening sockets, TLS contexts, signals, the size of the process. Nothing here waits, or knows a protocol.
"""

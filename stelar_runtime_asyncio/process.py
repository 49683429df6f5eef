"""What a runtime asks the operating system, or says in its place."""

from __future__ import annotations

import os
import sys


def listen_error(error: OSError, host: str, port: int) -> OSError:
    """Return ``error`` with a message that says which port it is about, and nothing twice."""
    number = error.errno or 0  # negative ones are those of getaddrinfo()
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    return OSError(error.errno, f"cannot listen on {host}:{port}: {reason}")


def memory_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

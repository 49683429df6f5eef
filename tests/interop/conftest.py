"""Every test of this folder runs on asyncio, on uvloop and on trio."""

from tests.conformance.conftest import anyio_backend

__all__ = ["anyio_backend"]

"""A real server on the loopback, with the interceptor, health and reflection of every service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hocket.rpc.server import Registration, bind, build_server


@asynccontextmanager
async def serving(*registrations: Registration, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """The address of a server that runs for the length of the block."""
    server = build_server(*registrations)
    port = bind(server, address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace_s=0)

"""A real server on the loopback, with the interceptor, health and reflection of every service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hocket.rpc.push_message import Chunk, chunk_of
from hocket.rpc.server import Registration, bind, build_server
from hocket.v1 import aggregator_pb2 as pb


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


def sent(request: Chunk | pb.PushUpdateRequest) -> Chunk:
    """The chunk in a message of a push."""
    chunk = chunk_of(request)
    assert chunk is not None
    return chunk

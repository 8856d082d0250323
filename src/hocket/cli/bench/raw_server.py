"""A bare grpc.aio server that counts the bytes of a client stream: what the wire can carry.

Run as a process: no protobuf, no checks, nothing kept.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop

from hocket.hosting.parent import end_with_parent
from hocket.hosting.ready import write_ready
from hocket.rpc.channel import SERVER_OPTIONS

READY_VARIABLE = "HOCKET_BENCH_READY"
SERVICE, METHOD = "hocket.bench.Raw", "Count"
COUNT_BYTES = 8


async def _count(chunks: AsyncIterator[bytes], context: object) -> bytes:  # noqa: ARG001 -- gRPC's
    total = 0
    async for chunk in chunks:
        total += len(chunk)
    return total.to_bytes(COUNT_BYTES, "little")


async def _serve(ready: Path) -> None:
    handler: Any = grpc.stream_unary_rpc_method_handler(_count)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_ready(ready, {"address": f"127.0.0.1:{port}"}, READY_VARIABLE)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


def main() -> int:
    """Serve until SIGTERM."""
    end_with_parent()
    uvloop.run(_serve(Path(os.environ[READY_VARIABLE])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

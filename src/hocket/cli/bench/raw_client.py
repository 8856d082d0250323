"""Sends bytes to the bare server from a process of its own, as the pushing devices do to ours."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

import grpc

from hocket.cli.bench.closed_loop import closed_loop
from hocket.cli.bench.raw_server import METHOD, SERVICE
from hocket.cli.bench.worker import JSON, work
from hocket.core.payload import CHUNK_BYTES
from hocket.errors import CorruptPayload
from hocket.rpc.channel import open_channel


@dataclass(frozen=True, slots=True)
class RawJob:
    """How much to send where: `count` bodies of `body_bytes`, `streams` at a time."""

    address: str
    body_bytes: int
    count: int
    streams: int

    def as_json(self) -> JSON:
        """For the worker."""
        return asdict(self)


async def send(told: JSON) -> JSON:
    """Send it all; how long that took. Raises CorruptPayload if some did not arrive."""
    job = RawJob(**told)
    body = os.urandom(job.body_bytes)
    pieces = [body[at : at + CHUNK_BYTES] for at in range(0, job.body_bytes, CHUNK_BYTES)]
    async with AsyncExitStack() as channels:
        methods: list[grpc.aio.StreamUnaryMultiCallable[bytes, bytes]] = []
        for _ in range(job.streams):
            channel = await channels.enter_async_context(open_channel(job.address))
            methods.append(channel.stream_unary(f"/{SERVICE}/{METHOD}"))

        async def transfer(stream: int, _: int) -> None:
            call: grpc.aio.StreamUnaryCall[bytes, bytes] = methods[stream]()
            for piece in pieces:
                await call.write(piece)
            await call.done_writing()
            arrived = int.from_bytes(await call, "little")
            if arrived != job.body_bytes:
                raise CorruptPayload(f"{arrived} of {job.body_bytes} raw bytes arrived")

        await closed_loop(transfer, streams=job.streams, count=job.streams)  # connects, warms up
        ran = await closed_loop(transfer, streams=job.streams, count=job.count)
    return {"num_bytes": job.body_bytes * job.count, "seconds": ran.seconds}


if __name__ == "__main__":
    sys.exit(work(send))

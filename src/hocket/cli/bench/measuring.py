"""One case from start to end: the limits of the machine, the pushes, the recovery."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hocket.cli.bench.cases import Case, Coding
from hocket.cli.bench.disk import Rate, write_and_sync
from hocket.cli.bench.pusher import PushJob
from hocket.cli.bench.raw_client import RawJob
from hocket.cli.bench.results import Measured, Recovered
from hocket.cli.bench.rig import Rig, Running, raw_server, rig
from hocket.cli.bench.worker import JSON, run_worker
from hocket.errors import CorruptState, HocketError, StartupError
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel

PUSHER = "hocket.cli.bench.pusher"
RAW_CLIENT = "hocket.cli.bench.raw_client"
MIB = 1024 * 1024
RAW_BYTES, DISK_BYTES = 2048 * MIB, 1024 * MIB  # to measure each limit with, at most
DISK_TURNS = 3
NOTHING = Rate(0, 0.0)


async def measure(case: Case, folder: Path, seconds: float) -> Measured:
    """Run a case in a new folder. Raises HocketError if an update was not applied as told.

    What the wire carries is measured before the services start and after they have stopped, with
    the machine for itself: one that is shared with others changes its pace within a minute.
    """
    raw = NOTHING
    if case.coding is Coding.RAW:  # else nobody knows yet how long the bodies are
        raw = await _raw(folder, case, case.model_bytes)
    began_s = time.perf_counter()
    async with rig(folder, case) as up:
        start_s = time.perf_counter() - began_s
        aggregator = _there(up)
        job = PushJob(
            registry=up.registry.address,
            aggregator=aggregator.address,
            aggregator_pid=aggregator.pid,
            coding=case.coding,
            streams=case.streams,
            updates=case.updates,
            seconds=seconds,
        )
        async with _obituaries(up):
            told = await run_worker(PUSHER, job.as_json(), up.log("pusher"))
        recovered = await _recover(up, told, start_s) if case.recovers else None
    raw += await _raw(folder, case, told["wire_bytes"])
    disk, disk_group = await _disk(folder, case, told) if case.durable else (NOTHING, NOTHING)
    return Measured.of(case, told, raw, disk, disk_group, recovered)


async def _recover(up: Rig, before: JSON, start_s: float) -> Recovered:
    """Kill the aggregator, start it again, and see that it knows all it had acknowledged."""
    await _there(up).kill()
    began_s = time.perf_counter()
    again = await up.start_aggregator()
    async with open_channel(again.address) as channel:
        status = await AggregatorClient(channel, again.address).get_status()
    recovery_s = time.perf_counter() - began_s
    found, expected = (status.version, status.digest), (before["version"], before["digest"])
    if found != expected:
        raise CorruptState(
            f"version {expected[0]} ({expected[1]}) was acknowledged before kill -9; "
            f"afterwards it is {found[0]} ({found[1]})"
        )
    return Recovered(recovery_s, start_s, before["pushes"])


async def _raw(folder: Path, case: Case, body_bytes: int) -> Rate:
    """The same bytes in the same chunks by as many streams, without anything else."""
    count = _pieces(case, body_bytes, RAW_BYTES)
    async with raw_server(folder) as address:
        job = RawJob(address, body_bytes, count, case.streams)
        sent = await run_worker(RAW_CLIENT, job.as_json(), folder / "logs" / "raw-client.log")
    return Rate(sent["num_bytes"], sent["seconds"])


async def _disk(folder: Path, case: Case, told: JSON) -> tuple[Rate, Rate]:
    """The same bytes written and synced: one update at a time, and as many as there are streams.

    In turns: a disk that is shared with others, or saves up for bursts, is not always as fast.
    """
    num_bytes = told["wire_bytes"]
    count = _pieces(case, num_bytes, DISK_BYTES)
    alone = grouped = NOTHING
    for _ in range(DISK_TURNS):
        some = math.ceil(count / DISK_TURNS)
        alone += await asyncio.to_thread(write_and_sync, folder, num_bytes, some)
        grouped += await asyncio.to_thread(write_and_sync, folder, num_bytes, some, case.streams)
    return alone, grouped


def _pieces(case: Case, body_bytes: int, at_most_bytes: int) -> int:
    """As many bodies as are to be pushed, or as many as make a fair measurement."""
    return min(case.updates, math.ceil(at_most_bytes / body_bytes))


def _there(up: Rig) -> Running:
    if up.aggregator is None:
        raise StartupError("the aggregator does not run")
    return up.aggregator


@asynccontextmanager
async def _obituaries(up: Rig) -> AsyncIterator[None]:
    """A service that has ended says why, which tells more than its client can."""
    try:
        yield
    except HocketError as error:
        for running in (up.registry, _there(up)):
            if running.process.returncode is not None:
                raise HocketError(running.process.obituary()) from error
        raise

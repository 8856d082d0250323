"""One case from start to end: the limits of the machine, the pushes, the recovery."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hocket.cli.bench.cases import Case, Coding
from hocket.cli.bench.disk import Disk, Rate
from hocket.cli.bench.pusher import PushJob
from hocket.cli.bench.raw_client import RawJob
from hocket.cli.bench.results import Limits, Measured, Recovered
from hocket.cli.bench.rig import Rig, Running, raw_server, rig
from hocket.cli.bench.worker import JSON, run_worker
from hocket.errors import CorruptState, HocketError, StartupError
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel

PUSHER = "hocket.cli.bench.pusher"
RAW_CLIENT = "hocket.cli.bench.raw_client"
MIB = 1024 * 1024
RAW_BYTES, DISK_BYTES = 2048 * MIB, 1024 * MIB  # to measure each limit with, at most


async def measure(case: Case, folder: Path, seconds: float) -> Measured:
    """Run a case in a new folder. Raises HocketError if an update was not applied as told.

    What wire and disk carry is measured before the services start and after they have stopped,
    with the machine for itself: one that is shared with others changes its pace within a minute.
    """
    with Disk(folder) as disk:
        limits = Limits()
        if case.coding is Coding.RAW:  # else nobody knows yet how long the bodies are
            limits += await _limits(folder, case, disk, case.model_bytes)
        told, recovered = await _pushed(folder, case, seconds)
        limits += await _limits(folder, case, disk, told["wire_bytes"])
    return Measured.of(case, told, limits, recovered)


async def _pushed(folder: Path, case: Case, seconds: float) -> tuple[JSON, Recovered | None]:
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
        return told, await _recover(up, told, start_s) if case.recovers else None


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


async def _limits(folder: Path, case: Case, disk: Disk, body_bytes: int) -> Limits:
    """The same bytes, without anything else."""
    raw = await _raw(folder, case, body_bytes)
    if not case.durable:
        return Limits(raw)
    count = _pieces(case, body_bytes, DISK_BYTES)
    return Limits(
        raw,
        await asyncio.to_thread(disk.append, body_bytes, count),
        await asyncio.to_thread(disk.append, body_bytes, count, case.streams),
        await asyncio.to_thread(disk.append_directly, body_bytes, count),
    )


async def _raw(folder: Path, case: Case, body_bytes: int) -> Rate:
    """In the same chunks by as many streams."""
    count = _pieces(case, body_bytes, RAW_BYTES)
    async with raw_server(folder) as address:
        job = RawJob(address, body_bytes, count, case.streams)
        sent = await run_worker(RAW_CLIENT, job.as_json(), folder / "logs" / "raw-client.log")
    return Rate(sent["num_bytes"], sent["seconds"])


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

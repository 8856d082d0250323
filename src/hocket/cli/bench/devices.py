"""What a registered device costs: memory of registry and aggregator over a thousand of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hocket.cli.bench import processor
from hocket.cli.bench.cases import Case
from hocket.cli.bench.closed_loop import closed_loop
from hocket.cli.bench.results import Registered
from hocket.cli.bench.rig import Running, rig
from hocket.core.capability import Capability
from hocket.errors import StartupError
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

STREAMS = 8
SAMPLES = 40
KNOWN_WITHIN_S = 30.0
LOOK_EVERY_S = 0.05


async def register(case: Case, devices: int, folder: Path) -> Registered:
    """Let so many devices join, in a new folder. Raises HocketError."""
    async with rig(folder, case) as up:
        aggregator = up.aggregator
        if aggregator is None:
            raise StartupError("the aggregator does not run")
        async with open_channel(up.registry.address) as to, open_channel(aggregator.address) as ask:
            return await _join_all(
                RegistryClient(to), AggregatorClient(ask), (up.registry, aggregator), devices
            )


async def _join_all(
    registry: RegistryClient,
    aggregator: AggregatorClient,
    services: tuple[Running, Running],
    devices: int,
) -> Registered:
    """Join in steps; after each, once the aggregator knows the devices too, look at both."""
    points: tuple[list[tuple[float, float]], ...] = ([], [])
    step = max(1, devices // SAMPLES)
    known = 0

    async def join(_: int, number: int) -> None:
        name = f"device-{known + number:06d}"
        await registry.join(Capability(num_examples=32), name, {"bench": "devices"})

    while known < devices:
        joining = min(step, devices - known)
        await closed_loop(join, streams=STREAMS, count=joining)
        known += joining
        await _until_known(aggregator, known)
        for service, series in zip(services, points, strict=True):
            series.append((float(known), float(processor.rss_bytes(service.pid))))
    registry_points, aggregator_points = points
    return Registered(
        devices=known,
        registry_rss_bytes=int(registry_points[-1][1]),
        registry_rss_slope_bytes_per_device=processor.settled_slope(registry_points),
        aggregator_rss_bytes=int(aggregator_points[-1][1]),
        aggregator_rss_slope_bytes_per_device=processor.settled_slope(aggregator_points),
    )


async def _until_known(aggregator: AggregatorClient, devices: int) -> None:
    found = 0
    for _ in range(round(KNOWN_WITHIN_S / LOOK_EVERY_S)):
        found = len((await aggregator.get_status()).devices)
        if found >= devices:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    raise StartupError(
        f"{devices} devices have joined; the aggregator knows {found} after {KNOWN_WITHIN_S:g} s"
    )

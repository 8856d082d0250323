"""A whole registry on the loopback: real gRPC, real SQLite, time moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hocket_registry.registry import open_registry
from hocket_registry.settings import Settings
from support.serving import serving

from hocket.core.capability import Capability, CostLine
from hocket.core.chance import Stream
from hocket.core.clock import Clock
from hocket.core.device import Device, DeviceFilter
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.server import registry_service

LEASE_S = 15.0
# Values that a float32 holds exactly, since a cost line's width travels as one.
IDLE = Capability(
    costs=(CostLine(1.0, 0.01, 0.001), CostLine(0.5, 0.005, 0.0005)),
    processor_share=0.75,
    memory_bytes=2**33,
    num_examples=200,
)
BUSY = replace(IDLE, available=False)


@asynccontextmanager
async def serving_registry(
    data_dir: Path,
    clock: Clock,
    *,
    lease_s: float = LEASE_S,
    heartbeat_s: float = 5.0,
    max_watchers: int = 64,
    address: str = "127.0.0.1:0",
) -> AsyncIterator[str]:
    """The address of a registry that runs for the length of the block, and then ends cleanly."""
    settings = Settings(
        data_dir=data_dir, lease_s=lease_s, heartbeat_s=heartbeat_s, max_watchers=max_watchers
    )
    async with (
        open_registry(settings, clock, Stream(1, "device-ids")) as registry,
        serving(registry_service(registry.service), address=address) as bound,
        asyncio.TaskGroup() as group,
    ):
        tasks = [
            group.create_task(registry.roster.expire_leases()),
            group.create_task(registry.writer.run()),
        ]
        try:
            yield bound
        finally:
            registry.roster.end_watches()
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def registry_client(
    data_dir: Path, clock: Clock, **options: Any
) -> AsyncIterator[RegistryClient]:
    """A client of a registry of its own."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving_registry(data_dir, clock, **options))
        channel = await stack.enter_async_context(open_channel(address))
        yield RegistryClient(channel, address)


async def listed(client: RegistryClient, which: DeviceFilter | None = None) -> list[Device]:
    return [device async for device in client.list_devices(which or DeviceFilter())]

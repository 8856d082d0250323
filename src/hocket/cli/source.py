"""Where answers come from: a running system over gRPC, or a stopped one's folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hocket.cli.where import System
from hocket.core.device import ANY_DEVICE, Device, DeviceFilter
from hocket.core.records import Status, UpdateRecord, VersionRecord
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

T = TypeVar("T")


class Source(Protocol):
    """What the reading commands need."""

    async def status(self) -> Status:
        """Where the task stands."""
        ...

    async def devices(self, which: DeviceFilter = ANY_DEVICE) -> list[Device]:
        """Devices in the order of their ids."""
        ...

    async def versions(self, limit: int) -> list[VersionRecord]:
        """The newest versions, newest first."""
        ...

    async def lineage(self, version: int, limit: int) -> list[UpdateRecord]:
        """The updates behind a version (0: the newest), newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Live:
    """A running system."""

    registry: RegistryClient
    aggregator: AggregatorClient

    async def status(self) -> Status:
        """As the aggregator tells now."""
        return await self.aggregator.get_status()

    async def devices(self, which: DeviceFilter = ANY_DEVICE) -> list[Device]:
        """As the registry tells now."""
        return [device async for device in self.registry.list_devices(which)]

    async def versions(self, limit: int) -> list[VersionRecord]:
        """As the aggregator tells now."""
        return await _first(limit, self.aggregator.list_versions())

    async def lineage(self, version: int, limit: int) -> list[UpdateRecord]:
        """As the aggregator tells now."""
        return await _first(limit, self.aggregator.get_lineage(version))


@dataclass(frozen=True, slots=True)
class Stopped:
    """A system that has been stopped: its services' own stores are read."""

    system: System

    async def status(self) -> Status:
        """As the aggregator left it."""
        from hocket_aggregator.recovery import reader  # noqa: PLC0415 -- not installed on every machine

        return await asyncio.to_thread(reader.read_status, self.system.aggregator_dir)

    async def devices(self, which: DeviceFilter = ANY_DEVICE) -> list[Device]:
        """As the registry left them."""
        from hocket_registry import store  # noqa: PLC0415 -- not installed on every machine

        devices, _revision = await store.read_devices(self.system.registry_dir)
        return [device for device in devices if which.matches(device)]

    async def versions(self, limit: int) -> list[VersionRecord]:
        """As the aggregator left them."""
        from hocket_aggregator.recovery import reader  # noqa: PLC0415 -- not installed on every machine

        found = await asyncio.to_thread(reader.read_versions, self.system.aggregator_dir)
        return found[:limit]

    async def lineage(self, version: int, limit: int) -> list[UpdateRecord]:
        """As the aggregator left it."""
        from hocket_aggregator.recovery import reader  # noqa: PLC0415 -- not installed on every machine

        folder = self.system.aggregator_dir
        return (await asyncio.to_thread(reader.read_lineage, folder, version))[:limit]


@asynccontextmanager
async def open_live(system: System) -> AsyncIterator[Live]:
    """Clients of a running system."""
    async with open_channel(system.registry) as registry, open_channel(system.aggregator) as to:
        yield Live(
            RegistryClient(registry, system.registry), AggregatorClient(to, system.aggregator)
        )


@asynccontextmanager
async def open_source(system: System) -> AsyncIterator[Source]:
    """Live while the system is up, its folder otherwise."""
    if system.is_up:
        async with open_live(system) as live:
            yield live
    else:
        yield Stopped(system)


async def _first(limit: int, items: AsyncIterator[T]) -> list[T]:
    found: list[T] = []
    async for item in items:
        if len(found) == limit:
            break
        found.append(item)
    return found

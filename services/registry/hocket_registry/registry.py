"""The registry put together around one data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hocket.core.chance import Stream
from hocket.core.clock import Clock
from hocket.core.membership import Membership
from hocket_registry.roster import Roster
from hocket_registry.service import RegistryService
from hocket_registry.settings import Settings
from hocket_registry.store import DeviceStore
from hocket_registry.writer import GroupWriter


@dataclass(frozen=True, slots=True)
class Registry:
    """Serve `service` while `roster.expire_leases()` and `writer.run()` run."""

    service: RegistryService
    roster: Roster
    writer: GroupWriter
    store: DeviceStore


@asynccontextmanager
async def open_registry(settings: Settings, clock: Clock, ids: Stream) -> AsyncIterator[Registry]:
    """A registry that remembers what its folder holds; `ids` names devices without a name.

    Raises StartupError when the folder cannot be used, StorageFull when its disk has no room.
    """
    store = await DeviceStore.open(settings.data_dir, settings.database)
    try:
        stored = await store.load()
        membership = Membership(settings.lease_s, ids)
        membership.restore(stored.devices, stored.revision, clock.now())
        await store.save((), membership.revision)
        writer = GroupWriter(store.save, membership.revision, clock)
        roster = Roster(membership, writer, clock, max_watchers=settings.max_watchers)
        service = RegistryService(roster, heartbeat_s=settings.heartbeat_s)
        yield Registry(service, roster, writer, store)
    finally:
        await store.close()

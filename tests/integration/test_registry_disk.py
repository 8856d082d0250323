"""The registry when its disk is full: joins are refused for now, everything else goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hocket_registry.registry import open_registry
from hocket_registry.settings import Settings
from hocket_registry.store import read_devices
from sqlalchemy import Connection
from support.clock import ManualClock
from support.serving import serving

from hocket.core.capability import Capability
from hocket.core.chance import Stream
from hocket.core.device import DeviceFilter
from hocket.errors import StorageFull
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.server import registry_service

LABELS = {f"label-{n}": "x" * 60 for n in range(16)}  # so that a few devices fill a few pages


def fill_up(connection: Connection) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def make_room(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count = 1000000")


async def test_a_join_that_cannot_be_saved_is_refused_until_there_is_room(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = Settings(data_dir=tmp_path)
    async with (
        open_registry(settings, clock, Stream(1, "device-ids")) as registry,
        serving(registry_service(registry.service)) as address,
        open_channel(address) as channel,
        asyncio.TaskGroup() as group,
    ):
        running = group.create_task(registry.writer.run())
        client = RegistryClient(channel, address)
        first = await client.join(Capability(), "first", LABELS)
        await registry.store.database.write(fill_up)
        joined = ["first"]
        with pytest.raises(StorageFull, match="make room") as caught:  # noqa: PT012 -- which one is SQLite's
            for n in range(50):
                await client.join(Capability(), f"next-{n}", LABELS)
                joined.append(f"next-{n}")
        assert caught.value.retry_after_s == 0.5
        await client.heartbeat(first.caller)  # needs no disk
        on_disk, _ = await read_devices(tmp_path)
        assert sorted(device.device_id for device in on_disk) == sorted(joined)

        await registry.store.database.write(make_room)
        await clock.advance(caught.value.retry_after_s)
        again = await client.join(Capability(), f"next-{len(joined) - 1}", LABELS)
        on_disk, _ = await read_devices(tmp_path)
        assert (again.device_id, again.incarnation) in [
            (device.device_id, device.incarnation) for device in on_disk
        ]
        known = [device async for device in client.list_devices(DeviceFilter())]
        assert len(known) == len(on_disk) == len(joined) + 1
        running.cancel()

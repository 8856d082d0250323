from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hocket_registry.writer import GroupWriter
from support.clock import settle

from hocket.core.capability import Capability
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.errors import Unavailable


class SlowDisk:
    """Saves nothing until it is let; remembers what it was asked to save."""

    def __init__(self) -> None:
        self.saves: list[tuple[list[str], int]] = []
        self.free = asyncio.Event()
        self.broken = False

    async def save(self, devices: Sequence[Device], revision: int) -> None:
        await self.free.wait()
        if self.broken:
            raise OSError("no space left")
        self.saves.append(([f"{d.device_id}@{d.revision}" for d in devices], revision))


def device(name: str, revision: int) -> Device:
    return Device(
        DeviceId(name), Incarnation(1), DeviceState.ALIVE, Capability(), revision=revision
    )


@pytest.fixture
async def disk() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
async def writer(disk: SlowDisk) -> GroupWriter:
    return GroupWriter(disk.save, 0)


async def test_what_changes_during_a_save_goes_together_into_the_next(
    disk: SlowDisk, writer: GroupWriter
) -> None:
    running = asyncio.create_task(writer.run())
    writer.put(device("a", 1))
    await settle()
    for name, revision in [("a", 2), ("b", 3), ("a", 4)]:
        writer.put(device(name, revision))
    waiting = asyncio.create_task(writer.saved(1)), asyncio.create_task(writer.saved(3))
    await settle()
    assert not any(task.done() for task in waiting)
    disk.free.set()
    await asyncio.gather(*waiting)
    assert disk.saves == [(["a@1"], 1), (["a@4", "b@3"], 4)]
    await writer.saved(4)
    running.cancel()
    await asyncio.wait([running])


async def test_what_is_left_is_saved_at_the_end(disk: SlowDisk, writer: GroupWriter) -> None:
    running = asyncio.create_task(writer.run())
    writer.put(device("a", 1))
    await settle()
    writer.put(device("b", 2))
    running.cancel()
    await settle()
    assert not running.done()  # the save under way is not cut in half
    disk.free.set()
    await asyncio.wait([running])
    assert disk.saves == [(["a@1"], 1), (["b@2"], 2)]


async def test_who_waits_for_a_broken_disk_is_told(disk: SlowDisk, writer: GroupWriter) -> None:
    running = asyncio.create_task(writer.run())
    writer.put(device("a", 1))
    waiting = asyncio.create_task(writer.saved(1))
    disk.broken = True
    disk.free.set()
    with pytest.raises(OSError, match="no space left"):
        await running
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await writer.saved(1)

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hocket_registry.writer import GroupWriter
from structlog.testing import capture_logs
from support.clock import ManualClock, settle
from support.limits import LIMIT_S

from hocket.core.capability import Capability
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.errors import HocketError, StorageFull, Unavailable


class SlowDisk:
    """Saves nothing until it is let; remembers what it was asked to save."""

    def __init__(self) -> None:
        self.saves: list[tuple[list[str], int]] = []
        self.free = asyncio.Event()
        self.problem: Exception | None = None

    async def save(self, devices: Sequence[Device], revision: int) -> None:
        await self.free.wait()
        if self.problem is not None:
            raise self.problem
        self.saves.append(([f"{d.device_id}@{d.revision}" for d in devices], revision))


def device(name: str, revision: int) -> Device:
    return Device(
        DeviceId(name), Incarnation(1), DeviceState.ALIVE, Capability(), revision=revision
    )


@pytest.fixture
async def disk() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def writer(disk: SlowDisk, clock: ManualClock) -> GroupWriter:
    return GroupWriter(disk.save, 0, clock)


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


@pytest.mark.parametrize("problem", [StorageFull("full"), Unavailable("read-only")])
async def test_a_disk_that_takes_nothing_is_told_and_tried_again_less_and_less_often(
    disk: SlowDisk, writer: GroupWriter, clock: ManualClock, problem: HocketError
) -> None:
    disk.free.set()
    disk.problem = problem
    with capture_logs() as logs:
        running = asyncio.create_task(writer.run())
        writer.put(device("a", 1))
        with pytest.raises(type(problem)):
            await writer.saved(1)
        writer.put(device("b", 2))
        writer.put(device("a", 3))
        with pytest.raises(type(problem)):
            # At once, although no save is under way.
            await asyncio.wait_for(writer.saved(3), LIMIT_S)
        await clock.advance(3.4)  # attempts at 0, 0.5, 1.5; the next is at 3.5
        disk.problem = None
        await clock.advance(0.05)
        assert disk.saves == []
        await clock.advance(0.1)
        assert disk.saves == [(["a@3", "b@2"], 3)]
        await writer.saved(3)
    assert [entry["event"] for entry in logs] == ["devices_not_saved", "devices_saved_again"]
    running.cancel()
    await asyncio.wait([running])


async def test_who_is_told_that_the_disk_is_full_knows_when_to_come_back(
    disk: SlowDisk, writer: GroupWriter, clock: ManualClock
) -> None:
    disk.free.set()
    disk.problem = StorageFull("full")
    running = asyncio.create_task(writer.run())
    writer.put(device("a", 1))
    waits = []
    for _ in range(8):
        with pytest.raises(StorageFull) as caught:
            await writer.saved(1)
        waits.append(caught.value.retry_after_s)
        await clock.advance(waits[-1])
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    running.cancel()
    await asyncio.wait([running])


async def test_a_full_disk_at_the_end_stops_nobody_from_stopping(
    disk: SlowDisk, writer: GroupWriter
) -> None:
    disk.free.set()
    disk.problem = StorageFull("full")
    with capture_logs() as logs:
        running = asyncio.create_task(writer.run())
        writer.put(device("a", 1))
        await settle()
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()
    assert logs[-1]["event"] == "devices_left_unsaved"
    with pytest.raises(Unavailable, match="shutting down"):
        await writer.saved(1)


async def test_who_waits_for_a_broken_disk_is_told(disk: SlowDisk, writer: GroupWriter) -> None:
    running = asyncio.create_task(writer.run())
    writer.put(device("a", 1))
    waiting = asyncio.create_task(writer.saved(1))
    disk.problem = OSError("no space left")
    disk.free.set()
    with pytest.raises(OSError, match="no space left"):
        await running
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await writer.saved(1)

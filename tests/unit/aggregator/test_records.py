"""Records are written behind the work, tried again when that fails, and never dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from hocket_aggregator.metadata.records import (
    GROUP_EVERY_S,
    MAX_GROUP,
    PATIENCE_S,
    STATUS_EVERY_S,
    Records,
)
from hocket_aggregator.metadata.store import Batch, Identity, Store
from hocket_aggregator.turn import Turn
from sqlalchemy import Connection
from structlog.testing import capture_logs
from support.clock import ManualClock, settle
from support.limits import LIMIT_S

from hocket.core.events import Evaluated, Pushed, Settled, VersionMade
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.records import Evaluation, Status, VersionRecord
from hocket.core.strategy import Global
from hocket.core.update import Applied, Update, UpdateHeader
from hocket.errors import HocketError, StorageFailed, StorageFull, Unavailable
from hocket.hosting.database import Database

DENSE_BYTES = 400


class Disk(Store):
    """A real store whose saves can be held up, or fail."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.clock = ManualClock()
        self.problem: HocketError | None = None
        self.free = asyncio.Event()
        self.free.set()
        self.attempts: list[float] = []  # when records were to be saved
        self.statuses: list[Status] = []
        self.largest = 0

    async def save(self, batch: Batch, status: Status | None = None) -> None:
        if status is None:
            self.attempts.append(self.clock.now())
        await self.free.wait()
        if self.problem is not None:
            raise self.problem
        await super().save(batch, status)
        self.largest = max(self.largest, len(batch.versions))
        if status is not None:
            self.statuses.append(status)


def status(version: int) -> Status:
    none = Version(0)
    return Status(
        "t", "s", Version(version), "0", "", 0.0, 0.0, 0, 0, 0, 0, 0, none, None, devices=()
    )


def turn_making(number: int) -> Turn:
    """An update that became version `number`, alone."""
    name = UpdateId(f"u{number}")
    header = UpdateHeader(
        name, DeviceId("a"), Incarnation(1), Version(number - 1), 10, 1, learning_rate=0.1
    )
    model = torch.zeros(1)
    effects = (
        VersionMade(Global(model, Version(number)), (name,)),
        Settled(header, Applied(Version(number), 0.5, 0), first_time=True),
    )
    event = Pushed(Update(header, model, wire_bytes=100, codec="raw"))
    return Turn(event, effects, 0.0, 1.7e9, {Version(number): f"{number:016x}"})


class Running:
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.clock = disk.clock
        self.records = Records(disk, DENSE_BYTES, disk.clock)
        self.version = 1

    def make(self, count: int = 1) -> None:
        for _ in range(count):
            self.version += 1
            self.records.on_turn(turn_making(self.version))

    async def describe(self) -> Status:
        return status(self.version)

    async def stored(self) -> int:
        return await self.disk.newest_version()


@asynccontextmanager
async def running_in(folder: Path) -> AsyncIterator[Running]:
    running = Running(await Disk.open(folder, Identity("t", "0")))
    running.records.begin_at(VersionRecord(Version(1), Version(0), "1", 0.0), recorded=False)
    task = asyncio.create_task(running.records.run(running.describe))
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.wait([task])
        await running.disk.close()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_in(tmp_path) as made:
        await made.records.flush()
        yield made


async def in_time(work: object) -> object:
    """What hangs fails."""
    assert asyncio.iscoroutine(work)
    async with asyncio.timeout(LIMIT_S):
        return await work


@pytest.mark.parametrize("problem", [StorageFull("full", 1.0), Unavailable("read-only")])
async def test_nothing_is_lost_while_the_database_takes_nothing(
    running: Running, problem: HocketError
) -> None:
    running.disk.problem = problem
    with capture_logs() as logs:
        running.make(3)
        with pytest.raises(type(problem)):
            await in_time(running.records.flush())
        running.make(2)
        for read in (running.records.version(0), running.records.versions(None, 5)):
            with pytest.raises(type(problem)):
                await in_time(read)
        with pytest.raises(type(problem)):
            await in_time(anext(running.records.watch(0)))
        assert await running.stored() == 1
        running.disk.problem = None
        await running.clock.advance(0.5)
        await in_time(running.records.flush())
    assert await running.stored() == 6
    updates, _ = await running.records.lineage(Version(6), None, 10)
    assert [u.header.update_id for u in updates] == ["u6", "u5", "u4", "u3", "u2"]
    assert [entry["event"] for entry in logs] == ["records_not_saved", "records_saved_again"]


async def test_attempts_get_rarer(running: Running) -> None:
    running.disk.problem = Unavailable("gone")
    del running.disk.attempts[:]
    running.make()
    with pytest.raises(Unavailable):
        await running.records.flush()
    await running.clock.advance(120.0)
    # Pauses of 0.5, 1, 2, 4, 8, 16 seconds, and 30 from then on.
    assert running.disk.attempts == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5]


async def test_a_watcher_is_told_of_versions_that_are_not_saved_yet(running: Running) -> None:
    watch = running.records.watch(0)
    assert (await anext(watch)).version == 1
    running.disk.problem = StorageFull("full")
    following = asyncio.ensure_future(anext(watch))
    await settle()
    running.make()
    assert (await asyncio.wait_for(following, LIMIT_S)).version == 2
    await watch.aclose()


async def test_a_reader_does_not_wait_for_a_slow_disk_for_ever(running: Running) -> None:
    running.disk.free.clear()
    running.make()
    reading = asyncio.ensure_future(running.records.flush())
    await running.clock.advance(PATIENCE_S - 0.1)
    assert not reading.done()
    await running.clock.advance(0.2)
    with pytest.raises(Unavailable, match="slow"):
        await reading
    running.disk.free.set()
    await in_time(running.records.flush())
    assert await running.stored() == 2


async def test_many_records_are_saved_in_groups(running: Running) -> None:
    running.make(2 * MAX_GROUP)
    await in_time(running.records.flush())
    assert await running.stored() == 2 * MAX_GROUP + 1
    assert running.disk.largest <= MAX_GROUP


async def test_records_gather_for_a_moment_unless_a_reader_waits(running: Running) -> None:
    await running.clock.advance(1.0)
    del running.disk.attempts[:]
    for _ in range(100):  # one every 10 ms, for a second
        running.make()
        await running.clock.advance(0.01)
    assert len(running.disk.attempts) <= 1.0 / GROUP_EVERY_S + 1
    await in_time(running.records.flush())
    assert await running.stored() == 101


async def test_whole_groups_are_saved_without_a_pause(running: Running) -> None:
    """Else more records than a group holds in that time would pile up for ever."""
    await running.clock.advance(1.0)
    began = len(running.disk.attempts)
    running.make()
    await in_time(running.records.flush())
    await settle()  # a pause has begun
    running.make(3 * MAX_GROUP)  # of two records each
    async with asyncio.timeout(LIMIT_S):
        while len(running.disk.attempts) < began + 7:
            await settle()


async def test_the_status_is_saved_now_and_then_and_not_with_each_record(running: Running) -> None:
    for _ in range(30):
        running.make()
        await in_time(running.records.flush())
        await running.clock.advance(STATUS_EVERY_S / 10)
        await settle()
    saved = [status.version for status in running.disk.statuses]
    assert 3 <= len(saved) <= 5
    running.make()
    await running.clock.advance(STATUS_EVERY_S)  # the last change is stored, although all is quiet
    async with asyncio.timeout(LIMIT_S):
        while running.disk.statuses[-1].version < 32:
            await settle()


async def test_a_damaged_database_ends_the_work(tmp_path: Path) -> None:
    async with running_in(tmp_path) as running:
        await running.records.flush()
        running.disk.problem = StorageFailed("damaged")
        running.make()
        with pytest.raises(Unavailable, match="shutting down"):
            await in_time(running.records.flush())


async def test_closing_saves_what_is_left_and_the_status(tmp_path: Path) -> None:
    disk = await Disk.open(tmp_path, Identity("t", "0"))
    running = Running(disk)
    try:
        running.records.begin_at(VersionRecord(Version(1), Version(0), "1", 0.0), recorded=False)
        running.make(MAX_GROUP)
        evaluated = Evaluated(Version(2), Evaluation(0.5, 0.25))
        running.records.on_turn(Turn(evaluated, (), 0.0, 0.0, {}))
        disk.problem = StorageFull("full")
        with pytest.raises(StorageFull):
            await running.records.close(status(2))
        disk.problem = None
        await running.records.close(status(2))
        assert await disk.newest_version() == MAX_GROUP + 1
        assert await disk.newest_evaluation() == (2, Evaluation(0.5, 0.25))
        assert [stored.version for stored in disk.statuses] == [2]
    finally:
        await disk.close()


async def test_a_really_full_database_file_recovers(tmp_path: Path) -> None:
    async with running_in(tmp_path) as running:
        await running.records.flush()
        await running.disk.database.write(_fill_up)
        running.make(400)
        with pytest.raises(StorageFull, match="make room"):
            await in_time(running.records.flush())
        await running.disk.database.write(_make_room)
        await running.clock.advance(0.5)
        await in_time(running.records.flush())
        assert await running.stored() == 401


def _fill_up(connection: Connection) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def _make_room(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count = 1000000")

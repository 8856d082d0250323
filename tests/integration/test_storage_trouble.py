"""Disks that are full, read-only or slow: nothing is acknowledged that would not last.

The full and the read-only disk are real ones, mounted as root: so CI runs, and so do containers.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hocket_aggregator.aggregator import JOURNAL, Limits
from hocket_aggregator.journal.journal import Journal
from hocket_aggregator.journal.segment import Disk
from support.aggregating import WIDE, aggregating, caller, fill, header, pulled, until
from support.audit import Auditor
from support.book import Book, Parcel
from support.crash_fleet import SMALL, crash_fleet
from support.limits import LIMIT_S
from support.small_disk import small_disk
from support.witness import Witness, witness

from hocket.core.update import Applied, Outcome
from hocket.errors import Overloaded, StorageFull

MIB = 1 << 20


async def test_a_full_disk_refuses_pushes_and_takes_them_once_there_is_room(tmp_path: Path) -> None:
    book = Book()
    # Room for a start after it: the journal grows by two steps of 16 MiB here, and the next life
    # allocates another before its first snapshot is taken.
    with small_disk(tmp_path / "disk", 96 * MIB) as disk:
        async with (
            crash_fleet(
                tmp_path, data_dir=disk.folder / "data", snapshots_kept="1", journal_kept_bytes="0"
            ) as fleet,
            witness(fleet, book) as client,
        ):
            await fleet.aggregator.serve()
            disk.fill()
            refused = await refused_push(client)
            version = (await client.aggregator.get_status()).version
            assert version == book.newest  # what was refused has not touched the model
            disk.make_room()
            outcome = await accepted(client, refused)
            assert isinstance(outcome, Applied)
            assert outcome.version == version + 1
            assert fleet.aggregator.lives == 1  # by itself

            disk.fill()
            await refused_push(client)
            await fleet.aggregator.kill()
            disk.make_room()
            await fleet.aggregator.serve()
            await Auditor(fleet, client.aggregator, book).audit()


async def test_an_aggregator_that_begins_on_a_full_disk_says_so_and_ends(tmp_path: Path) -> None:
    """On an empty folder: one that was killed may find room in what it had only set aside."""
    with small_disk(tmp_path / "disk", 48 * MIB) as disk:
        data = disk.folder / "data"
        data.mkdir()
        disk.fill()
        async with crash_fleet(tmp_path, hidden=SMALL, data_dir=data) as fleet:
            await fleet.aggregator.start()
            code, said = await fleet.aggregator.ended()
            assert code == 1
            assert "disk is full" in said
            assert "Traceback" not in said
            disk.make_room()
            await fleet.aggregator.serve()


async def test_a_disk_that_turns_read_only_stops_the_aggregator_and_loses_nothing(
    tmp_path: Path,
) -> None:
    book = Book()
    with small_disk(tmp_path / "disk", 48 * MIB) as disk:
        disk.read_only()
        data = disk.folder / "data"
        async with (
            crash_fleet(tmp_path, hidden=SMALL, data_dir=data) as fleet,
            witness(fleet, book) as client,
        ):
            await fleet.aggregator.start()
            code, said = await fleet.aggregator.ended()
            assert code == 1
            assert f"cannot write to {data}: Read-only file system" in said
            assert "AGGREGATOR_DATA_DIR" in said

            disk.read_only(yes=False)
            await fleet.aggregator.serve()
            await client.push(large=False)
            # A mounted disk with open files cannot be made read-only, but a folder of it can.
            immutable(data / JOURNAL, yes=True)
            await client.push_until(fleet.aggregator, large=False)
            code, said = await fleet.aggregator.ended()
            assert code == 1
            assert f"cannot write {data / JOURNAL}" in said
            immutable(data / JOURNAL, yes=False)
            await fleet.aggregator.serve()
            await Auditor(fleet, client.aggregator, book).audit()


async def test_a_slow_disk_slows_pushes_and_nothing_else(tmp_path: Path) -> None:
    """The disk is as slow as the test wants: every write waits until it is told to go on."""
    cap = 3 * 4 * (64 * 1024 + 1024 + 1024 * 1100 + 1100 + 1100 * 10 + 10)  # three updates
    go_on = threading.Event()
    async with aggregating(tmp_path, model=WIDE, limits=Limits(staged_bytes=cap)) as running:
        staging = running.aggregator.staging
        slow_down(running.aggregator.journal, go_on)
        payload = running.payload(fill(running.manifest, 0.01))
        for name in "abcd":
            limit = running.manifest.dense_bytes
            await running.client.pull(caller(name), limit_bytes=limit, for_training=True)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(running.push(header(name), payload)) for name in "abc"]
            await until(lambda: all(staging.received(header(name).update_id) for name in "abc"))
            with pytest.raises(Overloaded) as told:
                await running.push(header("d"), payload)
            assert told.value.retry_after_s > 0
            assert staging.num_bytes == cap
            assert (await running.status()).version == 1
            assert (await pulled(running)).numel() == running.manifest.size
            assert not any(push.done() for push in waiting)
            go_on.set()
        outcomes = [push.result() for push in waiting]
        assert {o.version for o in outcomes if isinstance(o, Applied)} == {2, 3, 4}
        assert isinstance(await running.push(header("d"), payload), Applied)


def slow_down(journal: object, go_on: threading.Event) -> None:
    """Have the journal's disk wait before each write."""
    assert isinstance(journal, Journal)
    system = Disk()

    def write(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        assert go_on.wait(LIMIT_S)
        return system.write(descriptor, buffers, offset)

    journal._writer._segment._disk = Disk(write=write)


async def refused_push(client: Witness) -> Parcel:
    """Push until the disk has no room for more; the update that was refused."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            parcel = await client.prepare(large=True)
            try:
                client.book.note(parcel, (await client.attempt(parcel)).outcome)
            except StorageFull as full:
                assert full.retry_after_s > 0  # noqa: PT017 -- the loop ends with it
                return parcel


async def accepted(client: Witness, parcel: Parcel) -> Outcome:
    """Push until there is room again, without the patience that is asked for."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                outcome = (await client.attempt(parcel)).outcome
            except StorageFull:
                continue
            client.book.note(parcel, outcome)
            return outcome


def immutable(folder: Path, *, yes: bool) -> None:
    """Let nothing be made, renamed or deleted in the folder, not even by root."""
    subprocess.run(["chattr", "+i" if yes else "-i", str(folder)], check=True)  # noqa: S607 -- the system's

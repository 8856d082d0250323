"""The writing end: order, group commit, full disks, broken disks, and readers while it writes.

Long on purpose: it is one object with two threads, whose promises hold together or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hocket_aggregator.journal import journal as journal_module
from hocket_aggregator.journal import writer as writer_module
from hocket_aggregator.journal.entries import Concluded, Discarded, Entry
from hocket_aggregator.journal.journal import Journal
from hocket_aggregator.journal.reader import file_of, read_entries, segments
from hocket_aggregator.journal.segment import Disk
from support.journals import (
    DROPPED,
    Gate,
    Refusals,
    SmallDisk,
    entries_in,
    held,
    journalling,
    opened,
    piece,
    settled,
)
from support.limits import LIMIT_S
from support.small_disk import small_disk

from hocket.core.ids import UpdateId
from hocket.errors import StartupError, StorageFailed, StorageFull, Unavailable
from hocket.hosting.failpoint import Failpoint

MIB = 1024 * 1024


async def arrival(gate: Gate) -> None:
    """Return once a thread of the journal waits at the gate."""
    assert await asyncio.to_thread(gate.waiting.acquire, timeout=LIMIT_S)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def behind_a_sync(folder: Path, gate: Gate) -> tuple[Journal, asyncio.Task[None]]:
    """A journal whose first sync is held up, and who waits for it."""
    journal = Journal.open(folder, Refusals())
    journal._writer._segment._disk = Disk(sync=gate.sync)
    first = asyncio.create_task(journal.synced(journal.append(held(0))))
    await arrival(gate)
    return journal, first


async def test_what_is_synced_is_in_the_file(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        ticket = journal.append(held(1))
        await journal.synced(ticket)
        assert entries_in(tmp_path) == [held(1)]
        await journal.synced(ticket)
        await journal.written(ticket)


async def test_concurrent_waits_share_a_sync(tmp_path: Path) -> None:
    gate = Gate()
    journal, first = await behind_a_sync(tmp_path, gate)
    rest = [asyncio.create_task(journal.synced(journal.append(held(n)))) for n in range(1, 50)]
    await settle()
    assert not any(task.done() for task in (first, *rest))
    gate.open()
    await asyncio.gather(first, *rest)
    assert journal.syncs <= 3  # the one held up, one for all 49, one if the group was cut in two
    await journal.close()
    assert entries_in(tmp_path) == [held(n) for n in range(50)]


async def test_writing_goes_on_while_a_sync_runs(tmp_path: Path) -> None:
    gate = Gate()
    journal, first = await behind_a_sync(tmp_path, gate)
    later = journal.append(piece("u", b"x" * MIB))
    await journal.written(later)
    assert not first.done()
    assert journal.syncs == 0
    gate.open()
    await first
    await journal.close()


async def test_a_body_is_synced_before_anybody_asks(tmp_path: Path) -> None:
    gate = Gate()
    async with journalling(tmp_path) as journal:
        journal._writer._segment._disk = Disk(sync=gate.sync)
        ticket = 0
        for number in range(writer_module.EAGER_BYTES // MIB):
            ticket = journal.append(piece("u", b"x" * MIB, number * MIB))
        await arrival(gate)
        gate.open()
        await journal.written(ticket)


async def test_nothing_is_synced_that_nobody_needs(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        for number in range(20):
            await journal.written(journal.append(held(number)))
        assert journal.syncs == 0


async def test_a_slow_disk_slows_appenders_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "ROOM_BYTES", 3000)
    gate = Gate()
    async with journalling(tmp_path) as journal:
        journal._writer._segment._disk = Disk(write=gate.write)
        journal.append(piece("u", b"x" * 2000))
        await journal.room()
        journal.append(piece("u", b"x" * 2000))
        waiting = asyncio.create_task(journal.room())
        await arrival(gate)
        await settle()
        assert not waiting.done()
        gate.open()
        await waiting


async def test_one_who_gives_up_waiting_disturbs_nobody(tmp_path: Path) -> None:
    gate = Gate()
    journal, first = await behind_a_sync(tmp_path, gate)
    ticket = journal.append(held(1))
    waits = [asyncio.create_task(journal.synced(ticket)) for _ in range(2)]
    await settle()
    waits[0].cancel()
    first.cancel()
    gate.open()
    await waits[1]
    await journal.close()
    assert entries_in(tmp_path) == [held(0), held(1)]


async def test_rotation_parts_what_came_before_from_what_comes_after(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        assert (journal.segment, journal.num_bytes) == (1, 0)
        journal.append(held(1))
        assert journal.num_bytes > 0
        assert journal.rotate() == 2
        assert (journal.segment, journal.num_bytes) == (2, 0)
        last = journal.append(held(2))
        await journal.synced(last)
        found = [(each.segment, each.entry) for each in read_entries(tmp_path, 1)]
        assert found == [(1, held(1)), (2, held(2))]
    sizes = [file_of(tmp_path, number).stat().st_size for number in (1, 2)]
    assert max(sizes) < 1000  # nothing of the room allocated ahead is left


async def test_a_new_process_begins_a_new_segment(tmp_path: Path) -> None:
    for number in (1, 2):
        async with journalling(tmp_path) as journal:
            assert journal.segment == number
            journal.append(held(number))
    assert entries_in(tmp_path) == [held(1), held(2)]


async def test_the_name_of_a_new_segment_is_synced_before_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    real = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    async with journalling(tmp_path) as journal:
        assert synced == [str(tmp_path)]
        journal.rotate()
        await journal.written(journal.append(held(1)))
        assert synced == [str(tmp_path)] * 2


async def test_room_is_allocated_ahead_while_it_is_open(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        await journal.written(journal.append(held(1)))
        assert file_of(tmp_path, 1).stat().st_size >= MIB


async def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        for number in range(60):
            if number % 20 == 19:
                journal.rotate()
            await journal.written(journal.append(held(number)))
            assert entries_in(tmp_path) == [held(n) for n in range(number + 1)]


async def test_a_reader_is_never_misled_by_a_writer_at_work(tmp_path: Path) -> None:
    written: list[Entry] = []
    ended = False

    reading = threading.Event()

    def read_on() -> None:
        while not ended:
            found = entries_in(tmp_path)
            assert found == written[: len(found)]
            reading.set()

    async with journalling(tmp_path) as journal:
        reader = asyncio.create_task(asyncio.to_thread(read_on))
        assert await asyncio.to_thread(reading.wait, LIMIT_S)
        for number in range(400):
            entry = piece("u", bytes([number % 256]) * (7000 + number))
            written.append(entry)
            ticket = journal.append(entry)
            if number % 10 == 9:
                await journal.written(ticket)
            if number % 100 == 99:
                journal.rotate()
        ended = True
        await reader
    assert entries_in(tmp_path) == written


async def test_a_full_disk_refuses_bodies_and_takes_what_is_small(tmp_path: Path) -> None:
    small, refusals = SmallDisk(3 * MIB), Refusals()
    async with journalling(tmp_path, refusals, small.disk) as journal:
        journal.append(opened("a"))
        journal.append(piece("a", b"a" * MIB))
        await journal.synced(journal.append(settled("a")))
        journal.append(opened("b"))
        ticket = 0
        for number in range(4):
            ticket = journal.append(piece("b", b"b" * MIB, number * MIB))
        await journal.written(ticket)
        assert refusals.names == [UpdateId("b")]
        error = refusals.errors[UpdateId("b")]
        assert isinstance(error, StorageFull)
        assert error.retry_after_s > 0
        assert "disk has no room" in error.message
        await journal.synced(journal.append(Discarded(UpdateId("b"))))
        await journal.synced(journal.append(held(5)))
    found = entries_in(tmp_path)
    assert found[:3] == [opened("a"), piece("a", b"a" * MIB), settled("a")]
    assert found[-2:] == [Discarded(UpdateId("b")), held(5)]
    assert piece("b", b"b" * MIB, MIB) not in found


async def test_what_is_written_into_the_last_room_stays_there(tmp_path: Path) -> None:
    """Less than the reserve takes: what was allocated of it is given back, the records are not."""
    full: list[bool] = []

    def allocate(descriptor: int, start: int, count: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(descriptor, start, count)

    entries = [Discarded(UpdateId(f"{n:04}" * 5000)) for n in range(900)]  # 18 MB
    async with journalling(tmp_path, Refusals(), Disk(allocate=allocate)) as journal:
        await journal.synced(journal.append(held(1)))
        full.append(True)
        for entry in entries:
            await journal.written(journal.append(entry))
        assert entries_in(tmp_path) == [held(1), *entries]


async def test_a_full_disk_does_not_keep_a_segment_from_following(tmp_path: Path) -> None:
    """A snapshot is tried again and again: each time it parts the journal."""
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        folder, refusals = disk.folder / "journal", Refusals()
        async with journalling(folder, refusals) as journal:
            await journal.synced(journal.append(held(1)))
            disk.fill()
            for number in range(2, 9):
                assert journal.rotate() == number
                await journal.synced(journal.append(held(number)))
                await journal.written(journal.append(piece(f"u{number}", bytes(MIB))))
                assert len(refusals.names) == number - 1
                disk.fill()
            disk.make_room()
            await journal.synced(journal.append(piece("v", bytes(MIB))))
        assert entries_in(folder) == [*(held(n) for n in range(1, 9)), piece("v", bytes(MIB))]


async def test_a_refused_update_may_begin_anew_when_there_is_room(tmp_path: Path) -> None:
    small, refusals = SmallDisk(MIB + 40), Refusals()
    async with journalling(tmp_path, refusals, small.disk) as journal:
        await journal.written(journal.append(opened("a")))
        assert refusals.names == [UpdateId("a")]
        small.num_bytes = 100 * MIB
        await journal.written(journal.append(piece("a")))  # its beginning is missing
        journal.append(opened("a"))
        journal.append(piece("a"))
        await journal.synced(journal.append(settled("a")))
    assert entries_in(tmp_path) == [opened("a"), piece("a"), settled("a")]
    assert len(refusals.names) == 1


async def test_the_rules_drop_without_a_body_but_never_apply(tmp_path: Path) -> None:
    refusals = Refusals()
    small = SmallDisk(MIB + 40)
    journal = Journal.open(tmp_path, refusals, small.disk)
    journal.append(opened("a"))
    await journal.synced(journal.append(settled("a", DROPPED)))
    journal.append(opened("b"))
    with pytest.raises(StorageFailed, match="nothing acknowledged is lost"):
        await journal.synced(journal.append(settled("b")))
    await journal.close()
    assert entries_in(tmp_path) == [settled("a", DROPPED)]


async def test_without_room_for_what_is_small_the_journal_has_failed(tmp_path: Path) -> None:
    small = SmallDisk(2 * MIB)
    journal = Journal.open(tmp_path, Refusals(), small.disk)
    running = asyncio.create_task(journal.run())
    tickets = [journal.append(Concluded(f"{n}" * (MIB // 2))) for n in range(5)]
    with pytest.raises(StorageFailed, match="No space left") as failed:
        await journal.synced(tickets[-1])
    assert str(file_of(tmp_path, 1)) in failed.value.message
    assert "make room" in failed.value.message
    with pytest.raises(StorageFailed):
        await running
    await journal.close()
    assert [type(entry) for entry in entries_in(tmp_path)] == [Concluded] * 3


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_a_sync_that_fails_ends_it_for_good(tmp_path: Path, code: int) -> None:
    def sync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    journal = Journal.open(tmp_path, Refusals())
    journal._writer._segment._disk = Disk(sync=sync)
    running = asyncio.create_task(journal.run())
    waits = [journal.synced(journal.append(held(n))) for n in range(3)]
    failures = await asyncio.gather(*waits, running, return_exceptions=True)
    assert all(isinstance(failure, StorageFailed) for failure in failures)
    assert os.strerror(code) in str(failures[0])
    later = journal.append(held(4))
    for waiting in (journal.synced(later), journal.written(later), journal.room(), journal.run()):
        with pytest.raises(StorageFailed):
            await waiting
    assert journal.rotate() == 2
    await journal.close()
    assert segments(tmp_path) == [1]


async def test_a_write_that_fails_ends_it_for_good(tmp_path: Path) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal.open(tmp_path, Refusals())
    journal._writer._segment._disk = Disk(write=write)
    with pytest.raises(StorageFailed, match="Input/output error"):
        await journal.written(journal.append(piece("u")))
    await journal.close()


async def test_a_segment_that_cannot_be_begun_ends_it_for_good(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, Refusals())
    await journal.synced(journal.append(held(1)))
    file_of(tmp_path, 2).touch()
    journal.rotate()
    with pytest.raises(StorageFailed, match=r"0000000002\.journal: File exists"):
        await journal.synced(journal.append(held(2)))
    await journal.close()
    assert entries_in(tmp_path)[0] == held(1)


async def test_where_nothing_can_be_allocated_parts_of_records_are_taken_back(
    tmp_path: Path,
) -> None:
    small, refusals = SmallDisk(20_000, allocates=False), Refusals()
    async with journalling(tmp_path, refusals, small.disk) as journal:
        journal.append(held(1))
        for number in range(5):
            journal.append(piece("a", b"x" * 5000, number * 5000))
        await journal.synced(journal.append(held(2)))
        assert refusals.names == [UpdateId("a")]
    assert entries_in(tmp_path) == [
        held(1),
        *(piece("a", b"x" * 5000, number * 5000) for number in range(3)),
        held(2),
    ]


async def test_short_writes_are_gone_on_with(tmp_path: Path) -> None:
    def write(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        return os.pwrite(descriptor, bytes(buffers[0])[:7], offset)

    many: list[Entry] = [held(1), piece("u", bytes(range(200))), held(2)]
    async with journalling(tmp_path, disk=Disk(write=write, past_cache=False)) as journal:
        for entry in many:
            journal.append(entry)
    assert entries_in(tmp_path) == many


CHILD = """
import asyncio, resource, sys
from pathlib import Path
from hocket_aggregator.journal.journal import Journal
from support.journals import Refusals, opened, piece, settled, held, DROPPED

async def main() -> None:
    folder, refusals = Path(sys.argv[1]), Refusals()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
    journal = Journal.open(folder, refusals)
    journal.append(opened("a"))
    for number in range(8):
        journal.append(piece("a", b"x" * 500_000, number * 500_000))
    await journal.written(journal.append(settled("a", DROPPED)))
    await journal.synced(journal.append(held(3)))
    await journal.close()
    print(*refusals.names)

asyncio.run(main())
"""


def test_a_real_limit_refuses_the_body_and_keeps_the_answer(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (child.stdout, child.stderr) == ("a\n", "")
    found = entries_in(tmp_path)
    assert found[0] == opened("a")
    assert found[-2:] == [settled("a", DROPPED), held(3)]
    assert len(found) == 3 + 6  # 6 pieces and the reserve of 1 MiB fit into 4 MiB


async def test_failpoints_are_reached_for_answers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[Failpoint] = []
    monkeypatch.setattr(writer_module, "reach", reached.append)
    async with journalling(tmp_path) as journal:
        journal.append(opened("a"))
        await journal.synced(journal.append(piece("a")))
        assert reached == []
        await journal.synced(journal.append(settled("a")))
        assert reached == [
            Failpoint.BEFORE_JOURNAL_WRITE,
            Failpoint.AFTER_JOURNAL_WRITE,
            Failpoint.BEFORE_JOURNAL_SYNC,
            Failpoint.AFTER_JOURNAL_SYNC,
        ]
        await journal.synced(journal.append(held(1)))
        assert len(reached) == 4


async def test_closing_syncs_everything_and_then_nothing_more_is_taken(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, Refusals())
    early = journal.append(held(1))
    waiting = asyncio.create_task(journal.synced(early))
    await journal.close()
    await waiting
    await journal.close()
    late = journal.append(held(2))
    for refused in (journal.synced(late), journal.written(late), journal.room()):
        with pytest.raises(Unavailable):
            await refused
    await journal.synced(early)
    assert entries_in(tmp_path) == [held(1)]


async def test_run_goes_on_until_it_is_cancelled(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        running = asyncio.create_task(journal.run())
        await journal.synced(journal.append(held(1)))
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_it_may_be_opened_in_a_thread(tmp_path: Path) -> None:
    journal = await asyncio.to_thread(Journal.open, tmp_path, Refusals())
    await journal.synced(journal.append(held(1)))
    await journal.close()
    assert entries_in(tmp_path) == [held(1)]


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(StartupError, match="AGGREGATOR_DATA_DIR"):
        Journal.open(tmp_path / "journal", Refusals())


def test_a_full_disk_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No space left"):
        Journal.open(tmp_path, Refusals(), SmallDisk(1000).disk)
    assert segments(tmp_path) == []

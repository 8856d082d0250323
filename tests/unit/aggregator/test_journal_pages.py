"""Pieces that the disk takes from where they lie in memory, among records that it does not."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hocket_aggregator.journal.entries import Entry, Piece
from hocket_aggregator.journal.pages import PAGE_BYTES, WORTH_BYTES
from hocket_aggregator.journal.reader import cut_torn_tail, file_of, read_entries
from hocket_aggregator.journal.segment import SYSTEM, Disk
from support.journals import Refusals, entries_in, held, journalling, opened, settled

from hocket.core.ids import UpdateId
from hocket.errors import CorruptState, StorageFailed

KIB = 1024


def on_page(num_bytes: int, shift: int = 0) -> memoryview:
    """Bytes of no pattern that begin on a page of memory, but for `shift`."""
    memory = memoryview(mmap.mmap(-1, num_bytes + shift))[shift:]
    memory[:] = bytes(range(251)) * (num_bytes // 251) + bytes(range(num_bytes % 251))
    return memory


def lying(name: str, offset: int, data: memoryview) -> Piece:
    return Piece(UpdateId(name), offset, data)


LENGTHS = [WORTH_BYTES, 512 * KIB, 512 * KIB + 1, 70_001, 1024 * KIB, WORTH_BYTES - 1]


def body(shift: int = 0) -> list[Entry]:
    pieces = (lying("u", 7 * n, on_page(length, shift)) for n, length in enumerate(LENGTHS))
    return [opened("u"), *pieces, held(1), settled("u")]


def same(found: Sequence[Entry], expected: Sequence[Entry]) -> bool:
    """A piece without a checksum comes back with one."""
    plain = [
        Piece(each.update_id, each.offset, bytes(each.data)) if isinstance(each, Piece) else each
        for each in (*found, *expected)
    ]
    return plain[: len(found)] == plain[len(found) :]


class Watched:
    """The system's disk, and what was written to it."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.addresses: list[int] = []

    def write(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        assert offset % PAGE_BYTES == 0
        assert all(len(buffer) % PAGE_BYTES == 0 for buffer in buffers)
        self.lengths += [len(buffer) for buffer in buffers]
        return os.pwritev(descriptor, buffers, offset)


@pytest.mark.parametrize("past_cache", [True, False])
@pytest.mark.parametrize("shift", [0, 64])
async def test_all_comes_back_wherever_it_lay(tmp_path: Path, past_cache: bool, shift: int) -> None:
    entries = [*body(shift), *body(shift)]
    watched = Watched()
    disk = Disk(write=watched.write, past_cache=past_cache)
    async with journalling(tmp_path, disk=disk) as journal:
        for number, entry in enumerate(entries):
            ticket = journal.append(entry)
            if number % 3 == 2:
                await journal.written(ticket)
        await journal.synced(ticket)
        assert same(entries_in(tmp_path), entries)
    assert same(entries_in(tmp_path), entries)
    # Pieces that begin on a page are written as they lie; others are gathered first.
    assert (512 * KIB in watched.lengths) == (shift == 0)


async def test_large_pieces_begin_on_a_page_of_the_file(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        for entry in body():
            await journal.written(journal.append(entry))
        content = file_of(tmp_path, 1).read_bytes()
    for entry in body():
        if isinstance(entry, Piece) and len(bytes(entry.data)) >= WORTH_BYTES:
            begin = content.find(bytes(entry.data)[:WORTH_BYTES])
            assert begin % PAGE_BYTES == 0


async def test_padding_that_is_not_zero_is_damage(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        for entry in (held(1), lying("u", 0, on_page(WORTH_BYTES))):
            ticket = journal.append(entry)
        await journal.synced(ticket)
    file = file_of(tmp_path, 1)
    content, at = bytearray(file.read_bytes()), [f.offset for f in read_entries(tmp_path, 1)][1]
    assert content[2 * PAGE_BYTES - 1] == bytes(on_page(WORTH_BYTES))[PAGE_BYTES - 1]
    content[PAGE_BYTES - 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptState, match=f"at byte {at} "):
        cut_torn_tail(tmp_path)


async def test_a_disk_with_larger_pages_is_written_through_the_cache(tmp_path: Path) -> None:
    refused: list[int] = []

    def write(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if not refused:
            refused.append(len(buffers))
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.pwritev(descriptor, buffers, offset)

    async with journalling(tmp_path, disk=Disk(write=write)) as journal:
        for entry in body():
            await journal.written(journal.append(entry))
    assert refused
    assert same(entries_in(tmp_path), body())


async def test_a_write_that_is_refused_later_is_no_such_sign(tmp_path: Path) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    async with journalling(tmp_path) as journal:
        await journal.written(journal.append(held(1)))
        journal._writer._segment._disk = Disk(write=write)
        with pytest.raises(StorageFailed, match="Invalid argument"):
            await journal.written(journal.append(held(2)))


async def test_after_a_full_disk_records_go_on_where_the_last_whole_one_ended(
    tmp_path: Path,
) -> None:
    room = [300_000]

    def write(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        fitting, left = [], room[0] - offset
        for buffer in buffers:
            fitting.append(buffer[: max(0, left - left % PAGE_BYTES)])
            left -= len(buffer)
        if not any(fitting):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwritev(descriptor, [some for some in fitting if some], offset)

    def allocate(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    refusals = Refusals()
    async with journalling(tmp_path, refusals, Disk(allocate, write)) as journal:
        journal.append(held(1))
        for number in range(5):
            journal.append(lying("u", number, on_page(100_000)))
        await journal.written(journal.append(held(2)))
        assert refusals.names == [UpdateId("u")]
        room[0] = 10**9
        await journal.synced(journal.append(lying("v", 0, on_page(100_000))))
    expected: list[Entry] = [held(1), *(lying("u", n, on_page(100_000)) for n in range(2)), held(2)]
    assert same(entries_in(tmp_path), [*expected, lying("v", 0, on_page(100_000))])


async def test_what_lies_in_memory_is_kept_until_it_is_written(tmp_path: Path) -> None:
    """Nobody else holds it: the journal must."""
    async with journalling(tmp_path, disk=SYSTEM) as journal:
        ticket = journal.append(lying("u", 0, on_page(WORTH_BYTES)))
        await asyncio.sleep(0)
        await journal.written(ticket)
        assert same(entries_in(tmp_path), [lying("u", 0, on_page(WORTH_BYTES))])


def nothing_ahead(*_: int) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("lead", [0, 1, 900])
async def test_a_disk_that_is_full_at_once_refuses_the_body_and_nothing_else(
    tmp_path: Path, lead: int
) -> None:
    refusals = Refusals()
    async with journalling(tmp_path, refusals, Disk(nothing_ahead)) as journal:
        for number in range(lead):
            await journal.written(journal.append(held(number + 1)))
        segment = journal._writer._segment
        segment._disk = Disk(nothing_ahead, full)
        await journal.written(journal.append(opened("u")))
        assert refusals.names == [UpdateId("u")]
        segment._disk = Disk(nothing_ahead)
        await journal.synced(journal.append(held(1000)))
    assert entries_in(tmp_path) == [*(held(n + 1) for n in range(lead)), held(1000)]


async def test_a_disk_that_is_full_behind_the_last_record_refuses_nothing(tmp_path: Path) -> None:
    """Only the page's rest found no room."""
    refusals = Refusals()

    def write(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        whole = b"".join(buffers)
        kept = len(whole.rstrip(b"\0"))
        if not kept or offset % PAGE_BYTES:
            full()
        return os.pwrite(descriptor, whole[: kept + 8], offset)

    async with journalling(tmp_path, refusals, Disk(nothing_ahead, past_cache=False)) as journal:
        journal._writer._segment._disk = Disk(nothing_ahead, write, past_cache=False)
        await journal.synced(journal.append(opened("u")))
        await journal.synced(journal.append(held(2)))
        assert refusals.names == []
    assert entries_in(tmp_path) == [opened("u"), held(2)]


async def test_where_single_bytes_stand_in_for_allocating_the_cache_is_used(tmp_path: Path) -> None:
    calls: list[int] = []

    def allocate(descriptor: int, start: int, count: int) -> None:
        calls.append(start)
        if len(calls) == 1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.posix_fallocate(descriptor, start, count)

    async with journalling(tmp_path, disk=Disk(allocate)) as journal:
        for entry in body():
            await journal.written(journal.append(entry))
        assert file_of(tmp_path, 1).stat().st_size > 1024 * KIB
    assert len(calls) > 1
    assert same(entries_in(tmp_path), body())

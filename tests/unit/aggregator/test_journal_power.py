"""After a power loss: what was not known to be on disk may be there in part, in any order."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hocket_aggregator.journal.entries import Entry
from hocket_aggregator.journal.reader import cut_torn_tail, file_of, read_entries
from hocket_aggregator.journal.segment import Disk
from support.journals import (
    ONE_OF_EACH,
    entries_in,
    held,
    journalling,
    killed_segment,
    opened,
    piece,
    settled,
    write_segment,
)
from support.limits import LIMIT_S

from hocket.errors import CorruptState


def starts(folder: Path) -> list[int]:
    return [found.offset for found in read_entries(folder, 1)]


def blot(file: Path, begin: int, end: int) -> None:
    """What the disk has there is nothing."""
    content = bytearray(file.read_bytes())
    content[begin:end] = bytes(end - begin)
    file.write_bytes(content)


@pytest.mark.parametrize("hole", range(len(ONE_OF_EACH) - 1))
async def test_a_hole_in_what_was_never_synced_ends_the_journal_there(
    tmp_path: Path, hole: int
) -> None:
    file = await killed_segment(tmp_path, ONE_OF_EACH)
    at = starts(tmp_path)
    blot(file, at[hole], at[hole + 1])
    assert entries_in(tmp_path) == ONE_OF_EACH[:hole]
    assert cut_torn_tail(tmp_path) > 0
    assert file.stat().st_size == at[hole]
    await write_segment(tmp_path, [held(9)])
    assert entries_in(tmp_path) == [*ONE_OF_EACH[:hole], held(9)]


async def test_a_hole_in_what_was_synced_is_damage(tmp_path: Path) -> None:
    first: list[Entry] = [opened("a"), piece("a"), settled("a")]
    async with journalling(tmp_path) as journal:
        for entry in first:
            ticket = journal.append(entry)
        await journal.synced(ticket)
        await journal.written(journal.append(held(1)))
        file, at = file_of(tmp_path, 1), starts(tmp_path)
        left = file.read_bytes()
    for begin, end in pairwise(at):
        file.write_bytes(left)
        blot(file, begin, end)
        for use in (entries_in, cut_torn_tail):
            with pytest.raises(CorruptState, match=f"at byte {begin} there is"):
                use(tmp_path)


async def test_an_answer_that_is_synced_is_known_to_be_though_nothing_follows(
    tmp_path: Path,
) -> None:
    """Nothing more is appended: a record that holds no entry says so."""
    written = threading.Semaphore(0)

    def write(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        num_bytes = os.pwritev(descriptor, buffers, offset)
        written.release()
        return num_bytes

    async with journalling(tmp_path, disk=Disk(write=write)) as journal:
        await journal.synced(journal.append(settled("a")))
        for _ in ("the segment's beginning", "the answer", "that it is synced"):
            assert await asyncio.to_thread(written.acquire, timeout=LIMIT_S)
        assert entries_in(tmp_path) == [settled("a")]
        file = file_of(tmp_path, 1)
        left, (at,) = file.read_bytes(), starts(tmp_path)
    file.write_bytes(left)
    blot(file, at, at + 8)
    with pytest.raises(CorruptState, match=f"at byte {at} "):
        cut_torn_tail(tmp_path)


async def test_whatever_is_not_an_answer_needs_no_such_record(tmp_path: Path) -> None:
    async with journalling(tmp_path) as journal:
        await journal.synced(journal.append(held(1)))
        await journal.synced(journal.append(held(2)))
        at, size = starts(tmp_path), journal.num_bytes
        assert at[1] - at[0] == size // 2


async def test_a_segment_that_was_closed_is_known_to_the_last_record(tmp_path: Path) -> None:
    file = await write_segment(tmp_path, ONE_OF_EACH)
    at = starts(tmp_path)
    blot(file, at[-1], at[-1] + 8)
    with pytest.raises(CorruptState, match=f"at byte {at[-1]} "):
        cut_torn_tail(tmp_path)

"""Journals for tests: short ones written at once, and disks that are full, slow or broken."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hocket_aggregator.journal.entries import (
    Closed,
    Concluded,
    Discarded,
    Entry,
    Held,
    Opened,
    Piece,
    Settled,
)
from hocket_aggregator.journal.frame import draft_of
from hocket_aggregator.journal.journal import Journal
from hocket_aggregator.journal.reader import read_entries
from hocket_aggregator.journal.segment import SYSTEM, Disk
from support.limits import LIMIT_S

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.core.update import Applied, Dropped, DropReason, Outcome, UpdateHeader
from hocket.errors import StorageFull
from hocket.rpc.chunks import checksum

PAYLOAD = PayloadHeader((TensorHeader("w", (2, 3), CodecId.RAW, 24),), Packing.NONE, 24, None)
APPLIED = Applied(Version(2), 0.5, 1)
DROPPED = Dropped(DropReason.TOO_STALE, "pull anew", 9)


def header(name: str) -> UpdateHeader:
    return UpdateHeader(
        UpdateId(name), DeviceId("d"), Incarnation(1), Version(1), 10, 5, 0.1, 0.5, 2.0
    )


def opened(name: str) -> Opened:
    return Opened(header(name), PAYLOAD)


def piece(name: str, data: bytes = b"bytes", offset: int = 0) -> Piece:
    return Piece(UpdateId(name), offset, data, checksum(data))


def settled(name: str, outcome: Outcome = APPLIED) -> Settled:
    return Settled(header(name), outcome, "raw", 24, 1e9, "00ff")


def held(number: int) -> Held:
    return Held(DeviceId("d"), Version(number))


ONE_OF_EACH: list[Entry] = [
    opened("u"),
    piece("u", bytes(range(24))),
    settled("u"),
    Discarded(UpdateId("v")),
    held(7),
    Concluded("the target was met"),
    Closed(Version(3), "00ff", 1e9),
]


class Refusals:
    """Takes down what the journal refuses."""

    def __init__(self) -> None:
        self.errors: dict[UpdateId, StorageFull] = {}
        self.names: list[UpdateId] = []

    def __call__(self, update_id: UpdateId, error: StorageFull) -> None:
        self.names.append(update_id)
        self.errors[update_id] = error


@asynccontextmanager
async def journalling(
    folder: Path,
    refused: Callable[[UpdateId, StorageFull], None] | None = None,
    disk: Disk = SYSTEM,
) -> AsyncIterator[Journal]:
    journal = Journal.open(folder, refused or Refusals(), disk)
    try:
        yield journal
    finally:
        await journal.close()


async def write_segment(folder: Path, entries: Iterable[Entry]) -> Path:
    """One whole segment, closed as a process does that ends well; its file."""
    async with journalling(folder) as journal:
        for entry in entries:
            journal.append(entry)
        return folder / f"{journal.segment:010d}.journal"


async def killed_segment(folder: Path, entries: Iterable[Entry]) -> Path:
    """One whole segment, left by a process that was killed when all was written; its file."""
    async with journalling(folder) as journal:
        ticket = 0
        for entry in entries:
            ticket = journal.append(entry)
        await journal.written(ticket)
        (end,) = {found.segment: found for found in read_entries(folder, 1)}.values()
        file = folder / f"{journal.segment:010d}.journal"
        left = file.read_bytes()[: end.offset + draft_of(end.entry, 0).num_bytes]
    file.write_bytes(left)
    return file


def entries_in(folder: Path, first_segment: int = 1) -> list[Entry]:
    return [found.entry for found in read_entries(folder, first_segment)]


class Gate:
    """A disk whose writes or syncs wait to be let through, in threads of the journal."""

    def __init__(self) -> None:
        self.waiting = threading.Semaphore(0)  # released by each that arrives
        self._let = threading.Event()

    def open(self) -> None:
        self._let.set()

    def sync(self, descriptor: int) -> None:
        self._pass()
        os.fdatasync(descriptor)

    def write(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        self._pass()
        return os.pwritev(descriptor, buffers, offset)

    def _pass(self) -> None:
        self.waiting.release()
        assert self._let.wait(LIMIT_S), "nobody opened the gate"


class SmallDisk:
    """A file cannot grow past `num_bytes`; without `allocates`, that shows in writing only."""

    def __init__(self, num_bytes: int, *, allocates: bool = True) -> None:
        self.num_bytes = num_bytes
        self._allocates = allocates

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        if not self._allocates:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if offset + length > self.num_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(descriptor, offset, length)

    def write(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        fitting = b"".join(buffers)[: max(0, self.num_bytes - offset)]
        if not fitting:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(descriptor, fitting, offset)

    @property
    def disk(self) -> Disk:
        return Disk(self.allocate, self.write, past_cache=False)

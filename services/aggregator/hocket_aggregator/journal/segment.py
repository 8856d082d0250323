"""A segment being written: room is allocated ahead, so that small records always find some."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Self

from hocket_aggregator.journal.frame import BEGINNING_BYTES, MARK_BYTES, Beginning, Draft
from hocket_aggregator.journal.reader import file_of

STEP_BYTES = 16 * 1024 * 1024  # allocated at a time
RESERVE_BYTES = 1024 * 1024  # kept free beyond what is written, for records that are not refused
_LESS_BYTES = 16 * 1024  # of the reserve, where there is no room for all of it
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CANNOT_ALLOCATE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_BUFFERS_A_CALL = 512  # Linux takes 1024


@dataclass(frozen=True, slots=True)
class Disk:
    """What a segment asks of the system; tests put a full or a broken disk here."""

    allocate: Callable[[int, int, int], None] = os.posix_fallocate
    write: Callable[[int, Sequence[bytes | memoryview], int], int] = os.pwritev
    sync: Callable[[int], None] = os.fdatasync


SYSTEM = Disk()


class Segment:
    """One file, open for appending by one thread; any may sync `descriptor`."""

    def __init__(self, file: Path, number: int, descriptor: int, disk: Disk, mark: bytes) -> None:
        self.file = file
        self.number = number
        self.descriptor = descriptor
        self.end = BEGINNING_BYTES  # of the last whole record
        self._allocated = BEGINNING_BYTES
        self._can_allocate = True
        self._disk = disk
        self._mark = mark
        self._records = 0

    @classmethod
    def create(
        cls, folder: Path, number: int, bytes_before: int, disk: Disk, *, must_reserve: bool = True
    ) -> Self:
        """A new segment whose file, name and first bytes are on disk. Raises OSError.

        One that need not reserve takes what there is of it: the segment before it has given back
        its own, and a full disk will have room again.
        """
        file = file_of(folder, number)
        mark = os.urandom(MARK_BYTES)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        segment = cls(file, number, descriptor, disk, mark)
        try:
            _, error = segment._write_all([Beginning(number, mark, bytes_before).encode()], 0)
            if error is not None:
                raise error
            segment._reserve(must=must_reserve)
            disk.sync(descriptor)
            _sync_folder(folder)
        except OSError:
            os.close(descriptor)
            file.unlink(missing_ok=True)
            raise
        return segment

    def make_room(self, num_bytes: int) -> None:
        """Allocate so much beyond `end`, and the reserve. Raises OSError; then all is as it was."""
        needed = self.end + num_bytes + RESERVE_BYTES
        if not self._can_allocate or needed <= self._allocated:
            return
        try:
            self._allocate(max(needed, self._allocated + STEP_BYTES))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._allocate(needed)  # a whole step is for speed, this much is for safety

    def write(self, drafts: Sequence[Draft]) -> tuple[int, OSError | None]:
        """Append records: how many are written, all or those before the room ended, and the error.

        Raises OSError for any other failure.
        """
        buffers: list[bytes | memoryview] = []
        for number, draft in enumerate(drafts, self._records + 1):
            buffers.append(draft.prefix(self._mark, number))
            if draft.data:
                buffers.append(draft.data)
        written, error = self._write_all(buffers, self.end)
        whole = list(takewhile(lambda end: end <= written, accumulate(d.num_bytes for d in drafts)))
        self.end += whole[-1] if whole else 0
        # There may have been room for records, though not for the reserve beyond them.
        self._allocated = max(self._allocated, self.end)
        self._records += len(whole)
        if error is not None:
            os.ftruncate(self.descriptor, self.end)
            self._allocated = self.end
        return len(whole), error

    def sync(self, end: int) -> None:
        """Have all up to `end` on disk, and not in memory: nobody reads it but after a crash.

        A journal that fills the system's cache takes pages which it must first make room for; on
        a virtual machine they may be new to the host, too, and cost ten times what they hold.
        Raises OSError.
        """
        self._disk.sync(self.descriptor)
        # From the start: what straddled the end before is only let go as a whole.
        os.posix_fadvise(self.descriptor, 0, end, os.POSIX_FADV_DONTNEED)

    def finish(self) -> None:
        """Give back what was allocated and not used, sync and close. Raises OSError."""
        try:
            os.ftruncate(self.descriptor, self.end)
            self._disk.sync(self.descriptor)
        finally:
            os.close(self.descriptor)

    def _reserve(self, *, must: bool) -> None:
        try:
            self.make_room(0)
        except OSError as error:
            if must or error.errno not in NO_ROOM:
                raise
            for end in range(RESERVE_BYTES, self.end, -_LESS_BYTES):
                with suppress(OSError):
                    self._allocate(end)
                    return

    def _allocate(self, end: int) -> None:
        try:
            self._disk.allocate(self.descriptor, self._allocated, end - self._allocated)
        except OSError as error:
            if error.errno in _CANNOT_ALLOCATE:
                self._can_allocate = False
                return
            os.ftruncate(self.descriptor, self._allocated)  # some may have been allocated
            raise
        self._allocated = end

    def _write_all(
        self, buffers: Sequence[bytes | memoryview], offset: int
    ) -> tuple[int, OSError | None]:
        """The number of bytes written; fewer than there are only if there was no room."""
        total = 0
        for start in range(0, len(buffers), _BUFFERS_A_CALL):
            rest = list(buffers[start : start + _BUFFERS_A_CALL])
            while rest:
                try:
                    written = self._disk.write(self.descriptor, rest, offset + total)
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    return total, error
                total += written
                rest = _without(rest, written)
        return total, None


def _without(buffers: list[bytes | memoryview], num_bytes: int) -> list[bytes | memoryview]:
    """What is left of the buffers after their first bytes."""
    for index, buffer in enumerate(buffers):
        if num_bytes < len(buffer):
            return [memoryview(buffer)[num_bytes:], *buffers[index + 1 :]]
        num_bytes -= len(buffer)
    return []


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

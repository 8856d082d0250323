"""A segment being written: room is allocated ahead, so that small records always find some."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hocket.hosting.files import sync_folder
from hocket_aggregator.journal.frame import BEGINNING_BYTES, MARK_BYTES, Beginning, Draft, Place
from hocket_aggregator.journal.pages import PAGE_BYTES, Pages, Part
from hocket_aggregator.journal.reader import file_of

STEP_BYTES = 16 * 1024 * 1024  # allocated at a time, at most: at first as much as there is
RESERVE_BYTES = 1024 * 1024  # kept free beyond what is written, for records that are not refused
_LESS_BYTES = 16 * 1024  # of the reserve, where there is no room for all of it
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CANNOT_ALLOCATE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_BUFFERS_A_CALL = 512  # Linux takes 1024
_PAST_CACHE: int = getattr(os, "O_DIRECT", 0)
"""Nobody reads a journal but after a crash, so the system's cache would only be filled with it: one
more copy, into pages that must be found first and may be new to a virtual machine's host, too."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What a segment asks of the system; tests put a full or a broken disk here."""

    allocate: Callable[[int, int, int], None] = os.posix_fallocate
    write: Callable[[int, Sequence[memoryview], int], int] = os.pwritev
    sync: Callable[[int], None] = os.fdatasync
    past_cache: bool = True  # where the file system can


SYSTEM = Disk()


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a segment has come."""

    end: int  # of the last whole record, in the file
    records: int


class Segment:
    """One file, open for appending by one thread; any may `sync` it."""

    def __init__(self, file: Path, number: int, descriptor: int, disk: Disk, mark: bytes) -> None:
        self.file = file
        self.number = number
        self.reached = Reached(0, 0)
        self._descriptor = descriptor
        self._allocated = 0
        self._can_allocate = True
        self._disk = disk
        self._mark = mark
        self._synced_records = 0
        self._pages = Pages()

    @property
    def end(self) -> int:
        """Of the last whole record."""
        return self.reached.end

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
        descriptor = _opened(file, past_cache=disk.past_cache)
        segment = cls(file, number, descriptor, disk, mark)
        try:
            segment._begin(Beginning(number, mark, bytes_before))
            segment._reserve(must=must_reserve)
            disk.sync(descriptor)
            sync_folder(folder)
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
            self._allocate(max(needed, self._allocated + min(self._allocated, STEP_BYTES)))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._allocate(needed)  # a whole step is for speed, this much is for safety

    def write(self, drafts: Sequence[Draft]) -> tuple[int, OSError | None]:
        """Append records: how many are written, all or those before the room ended, and the error.

        Raises OSError for any other failure.
        """
        parts, reached = [], self.reached
        steps = [reached]
        for draft in drafts:
            number = reached.records + 1
            part = draft.part(Place(self._mark, number, reached.end, self._synced_records))
            reached = Reached(reached.end + part.num_bytes, number)
            parts.append(part)
            steps.append(reached)
        written_end, error = self._append(parts)
        # It may end before the first, in the page of the last, or in the padding after the last.
        self.reached = [step for step in steps if step.end <= max(written_end, steps[0].end)][-1]
        # There may have been room for records, though not for the reserve beyond them.
        self._allocated = max(self._allocated, self.end)
        if self.reached == steps[-1]:
            return len(drafts), None
        self._take_back()
        return self.reached.records - steps[0].records, error

    def sync(self, reached: Reached) -> None:
        """Have all that was written so far on disk. Raises OSError."""
        self._disk.sync(self._descriptor)
        self._synced_records = reached.records

    def finish(self) -> None:
        """Give back what was allocated and not used, sync and close. Raises OSError."""
        try:
            os.ftruncate(self._descriptor, self.end)
            self._disk.sync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def _begin(self, beginning: Beginning) -> None:
        part = Part(beginning.encode(), 0, memoryview(b""), in_place=False)
        try:
            _, error = self._append([part])
        except OSError as refused:
            if refused.errno != errno.EINVAL or not _goes_past_cache(self._descriptor):
                raise
            _use_cache(self._descriptor)  # its pages are larger than ours
            self._pages.hold(b"")
            _, error = self._append([part])
        if error is not None:
            raise error
        self.reached = Reached(BEGINNING_BYTES, 0)
        self._allocated = BEGINNING_BYTES

    def _append(self, parts: Sequence[Part]) -> tuple[int, OSError | None]:
        """Where in the file what is written ends, which may be within a record or beyond all."""
        laid = self._pages.lay_out(self.end, parts)
        written, error = self._write_all(laid.buffers, laid.start)
        return laid.start + written, error

    def _take_back(self) -> None:
        """Nothing of a record stays that is not whole."""
        os.ftruncate(self._descriptor, self.end)
        self._allocated = self.end
        begin, page = self.end - self.end % PAGE_BYTES, self._pages.page()
        num_bytes = os.preadv(self._descriptor, [page], begin)
        self._pages.hold(bytes(page[: min(num_bytes, self.end - begin)]))

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
            self._disk.allocate(self._descriptor, self._allocated, end - self._allocated)
        except OSError as error:
            if error.errno == errno.EINVAL and _goes_past_cache(self._descriptor):
                _use_cache(self._descriptor)  # what stands in for allocating writes single bytes
                self._allocate(end)
                return
            if error.errno in _CANNOT_ALLOCATE:
                self._can_allocate = False
                return
            os.ftruncate(self._descriptor, self._allocated)  # some may have been allocated
            raise
        self._allocated = end

    def _write_all(self, buffers: Sequence[memoryview], offset: int) -> tuple[int, OSError | None]:
        """The number of bytes written; fewer than there are only if there was no room."""
        total = 0
        for start in range(0, len(buffers), _BUFFERS_A_CALL):
            rest = list(buffers[start : start + _BUFFERS_A_CALL])
            while rest:
                try:
                    written = self._disk.write(self._descriptor, rest, offset + total)
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    return total, error
                total += written
                rest = _without(rest, written)
        return total, None


def _opened(file: Path, *, past_cache: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    if past_cache:
        try:
            return os.open(file, flags | _PAST_CACHE, 0o644)
        except OSError as error:
            if error.errno != errno.EINVAL:  # of a file system that cannot
                raise
            file.unlink(missing_ok=True)
    return os.open(file, flags, 0o644)


def _goes_past_cache(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & _PAST_CACHE)


def _use_cache(descriptor: int) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~_PAST_CACHE)


def _without(buffers: list[memoryview], num_bytes: int) -> list[memoryview]:
    """What is left of the buffers after their first bytes."""
    for index, buffer in enumerate(buffers):
        if num_bytes < len(buffer):
            return [buffer[num_bytes:], *buffers[index + 1 :]]
        num_bytes -= len(buffer)
    return []

"""The journal as the event loop sees it: append at once, await what must be on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from hocket.core.ids import UpdateId
from hocket.errors import (
    HocketError,
    StartupError,
    StorageFailed,
    StorageFull,
    Unavailable,
)
from hocket_aggregator.journal.entries import Entry
from hocket_aggregator.journal.frame import draft_of
from hocket_aggregator.journal.reader import file_of, segments
from hocket_aggregator.journal.segment import SYSTEM, Disk, Segment
from hocket_aggregator.journal.waiting import Waiting
from hocket_aggregator.journal.writer import Report, Writer

ROOM_BYTES = 64 * 1024 * 1024  # that may wait to be written before `room` makes callers wait

Refused = Callable[[UpdateId, StorageFull], None]


class Journal:
    """One process's end of a journal. Open it with `open`, close it with `close`.

    Tickets rise in the order of appending, and a ticket stands for all before it. `refused` is
    called on the loop, and before `written` returns for what was refused.
    """

    def __init__(self, folder: Path, segment: Segment, disk: Disk, refused: Refused) -> None:
        self.segment = segment.number  # the one that `append` appends to
        self.num_bytes = 0  # appended to it so far
        self._refused = refused
        self._writer = Writer(folder, segment, disk, self._report)
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first that calls
        self._ticket = 0
        self._appended_bytes = 0
        self._at = Report(0, 0, 0)
        self._closing = False
        self._broken = asyncio.Event()
        self._until_written = Waiting()  # for tickets
        self._until_synced = Waiting()
        self._until_room = Waiting()  # for bytes written
        self._until_ended = Waiting()

    @classmethod
    def open(cls, folder: Path, refused: Refused, disk: Disk = SYSTEM) -> Self:
        """Begin a segment after the last there is, whose torn tail must have been cut off.

        Raises StartupError when the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            last = max(segments(folder), default=0)
            before = file_of(folder, last).stat().st_size if last else 0
            segment = Segment.create(folder, last + 1, before, disk)
        except OSError as error:
            raise StartupError(
                f"cannot begin a journal segment in {folder}: {error.strerror}; make room, "
                "make the folder writable, or choose another AGGREGATOR_DATA_DIR"
            ) from error
        return cls(folder, segment, disk, refused)

    @property
    def syncs(self) -> int:
        """How often what was written has been synced."""
        return self._writer.syncs

    def append(self, entry: Entry) -> int:
        """Have an entry written, and get the ticket to wait with. Takes no time.

        Raises ValueError for a piece of more than 1 MiB.
        """
        draft = draft_of(entry, self._ticket + 1)
        self._ticket = draft.ticket
        if not self._is_over:
            self._begin()
            self.num_bytes += draft.num_bytes
            self._appended_bytes += draft.num_bytes
            self._writer.put(draft)
        return draft.ticket

    async def written(self, ticket: int) -> None:
        """Return once it is handed to the system. Raises StorageFailed or Unavailable."""
        if ticket > self._at.written:
            self._check()
            self._writer.hurry(ticket)
            await self._until_written.until(ticket)

    async def synced(self, ticket: int) -> None:
        """Return once it is on disk. Raises StorageFailed or Unavailable."""
        if ticket > self._at.synced:
            self._check()
            self._writer.want(ticket)
            await self._until_synced.until(ticket)

    async def all_synced(self) -> None:
        """Return once all that was appended is on disk. Raises StorageFailed or Unavailable."""
        await self.synced(self._ticket)

    async def room(self) -> None:
        """Return once little enough waits to be written: a slow disk slows its callers down.

        Raises StorageFailed or Unavailable.
        """
        self._check()
        goal = self._appended_bytes - ROOM_BYTES + 1
        if goal > self._at.written_bytes:
            await self._until_room.until(goal)

    def rotate(self) -> int:
        """Have what is appended from now on go to a new segment; its number."""
        following = self.segment + 1
        if not self._is_over:
            self._begin()
            self._writer.rotate(following)
        # Only now, since the loop may append while a thread is here: a body must never be said to
        # begin in a later segment than it does, or a snapshot would let go of its bytes.
        self.segment = following
        self.num_bytes = 0
        return following

    async def run(self) -> None:
        """Never return; raises StorageFailed when the disk has failed."""
        self._begin()
        await self._broken.wait()
        raise self._why()

    async def close(self) -> None:
        """Have everything on disk, and the file let go. What failed before is not raised again."""
        if self._closing:
            return
        self._begin()
        self._closing = True
        if self._at.failure is None:
            self._writer.end()
            await self._until_ended.until(1)

    @property
    def _is_over(self) -> bool:
        return self._closing or self._at.failure is not None

    def _begin(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._writer.start()

    def _check(self) -> None:
        """Raise unless what is awaited can still come."""
        self._begin()
        if self._at.ended or self._at.failure is not None:
            raise self._why()

    def _why(self) -> HocketError:
        failure = self._at.failure
        if failure is None:
            return Unavailable("the aggregator is shutting down; push again when it is back")
        again = StorageFailed(failure.message)
        again.__cause__ = failure.__cause__
        return again

    def _report(self, report: Report) -> None:
        """From a thread of the writer."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._take, report)

    def _take(self, report: Report) -> None:
        for update_id, refusal in report.refused:
            self._refused(update_id, refusal)
        self._at = report
        self._until_written.reach(report.written)
        self._until_synced.reach(report.synced)
        self._until_room.reach(report.written_bytes)
        if report.failure is not None:
            self._broken.set()
        if report.ended or report.failure is not None:
            self._until_ended.reach(1)
            for waiting in (self._until_written, self._until_synced, self._until_room):
                waiting.give_up(self._why)

"""The journal's two threads: one writes what is queued, one syncs while the first goes on.

Only entries that somebody waits for need a sync soon; but a disk that idles while a body streams
in is lost time, so a few unsynced MiB are synced unasked. All waiting records share the next sync.
"""

from __future__ import annotations

import errno
import heapq
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hocket.core.ids import UpdateId
from hocket.errors import StorageFailed, StorageFull
from hocket.hosting.failpoint import Failpoint, reach
from hocket_aggregator.journal.frame import Draft
from hocket_aggregator.journal.heads import Kind
from hocket_aggregator.journal.segment import NO_ROOM, Disk, Segment

EAGER_BYTES = 8 * 1024 * 1024  # unsynced, at which a sync starts unasked
GROUP_BYTES = 4 * 1024 * 1024  # written at a time
LINGER_S = 0.02  # for so much, while nobody waits for what there is: threads cost more than bytes
RETRY_AFTER_S = 10.0


Refusal = tuple[UpdateId, StorageFull]


@dataclass(frozen=True, slots=True)
class Report:
    """How far the threads have come: every ticket up to these."""

    written: int
    synced: int
    written_bytes: int  # of records, refused ones as well
    refused: tuple[Refusal, ...] = ()
    failure: StorageFailed | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _Rotate:
    segment: int


@dataclass(frozen=True, slots=True)
class _End:
    pass


class Writer:
    """Owns the segment. `report` is called by the threads, once for each group."""

    def __init__(
        self, folder: Path, segment: Segment, disk: Disk, report: Callable[[Report], None]
    ) -> None:
        self.syncs = 0
        self._folder = folder
        self._segment = segment
        self._disk = disk
        self._report = report
        lock = threading.RLock()
        self._to_write = threading.Condition(lock)
        self._to_sync = threading.Condition(lock)
        self._queue: deque[Draft | _Rotate | _End] = deque()
        self._queued_bytes = 0
        self._hurry = False  # write what is queued without waiting for more
        self._written_bytes = 0
        self._written = 0
        self._synced = 0
        self._unsynced_bytes = 0
        self._settled = 0  # such records written
        self._settled_synced = 0
        self._wanted: list[int] = []  # heap of the tickets somebody waits for
        self._draining = False
        self._over = False
        self._failure: StorageFailed | None = None
        self._skipped: set[UpdateId] = set()  # updates of which a part was refused

    def start(self) -> None:
        """Start both threads. They do not keep the process alive."""
        for name, work in (("journal-write", self._write_on), ("journal-sync", self._sync_on)):
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True).start()

    def put(self, draft: Draft) -> None:
        """Have a record written, before long or, if it is an answer, at once."""
        with self._to_write:
            self._queue.append(draft)
            self._queued_bytes += draft.num_bytes
            if draft.kind is Kind.SETTLED or self._queued_bytes >= GROUP_BYTES:
                self._hurry_up()
            elif len(self._queue) == 1:
                self._to_write.notify()

    def hurry(self, ticket: int) -> None:
        """Somebody waits until this is written."""
        with self._to_write:
            if ticket > self._written:
                self._hurry_up()

    def rotate(self, segment: int) -> None:
        """Have what comes next written to that segment."""
        self._enqueue(_Rotate(segment))

    def end(self) -> None:
        """Have everything written and synced, and the threads end."""
        self._enqueue(_End())

    def want(self, ticket: int) -> None:
        """Somebody waits until this is synced."""
        with self._to_sync:
            if ticket > self._synced:  # what was synced just now is being told
                heapq.heappush(self._wanted, ticket)
                self._to_sync.notify()
            if ticket > self._written:
                self._hurry_up()

    def _enqueue(self, mark: _Rotate | _End) -> None:
        with self._to_write:
            self._queue.append(mark)
            self._hurry_up()

    def _hurry_up(self) -> None:
        self._hurry = True
        self._to_write.notify()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StorageFailed as failure:
            self._fail(failure)
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of it, whatever it is
            self._fail(self._failed(error))

    def _failed(self, error: Exception) -> StorageFailed:
        cause = error.strerror if isinstance(error, OSError) else repr(error)
        file = getattr(error, "filename", None) or self._segment.file
        failure = StorageFailed(
            f"cannot write {file}: {cause}; nothing acknowledged is lost: make room, "
            "or mend the disk, and start again"
        )
        failure.__cause__ = error
        return failure

    def _fail(self, failure: StorageFailed) -> None:
        with self._to_write:
            if self._failure is None:
                self._failure = failure
            self._over = True
            self._queue.clear()
            self._to_write.notify_all()
            self._to_sync.notify_all()
        self._tell()

    def _tell(self, *refused: Refusal, ended: bool = False) -> None:
        with self._to_write:
            report = Report(
                self._written, self._synced, self._written_bytes, refused, self._failure, ended
            )
            self._report(report)  # under the lock, so that reports arrive in order

    def _write_on(self) -> None:
        while (work := self._next_work()) is not None:
            match work:
                case list():
                    self._write_group(work)
                case _Rotate(number):
                    self._drain()
                    before = self._segment
                    before.finish()
                    self._segment = Segment.create(
                        self._folder, number, before.end, self._disk, must_reserve=False
                    )
                case _End():
                    self._drain()
                    self._segment.write([self._synced_mark()])
                    self._segment.finish()
                    with self._to_sync:
                        self._over = True
                        self._to_sync.notify()
                    self._tell(ended=True)

    def _next_work(self) -> list[Draft] | _Rotate | _End | None:
        """Drafts that are queued one after the other, or a mark; None when all is over."""
        with self._to_write:
            self._to_write.wait_for(lambda: self._queue or self._over)
            self._to_write.wait_for(lambda: self._hurry or self._over, LINGER_S)
            if self._over:
                return None
            group: list[Draft] = []
            num_bytes = 0
            while self._queue and num_bytes < GROUP_BYTES:
                work = self._queue.popleft()
                if not isinstance(work, Draft):
                    if not group:
                        return work
                    self._queue.appendleft(work)
                    break
                group.append(work)
                num_bytes += work.num_bytes
            self._queued_bytes -= num_bytes
            self._hurry = bool(self._queue)
            return group

    def _write_group(self, group: list[Draft]) -> None:
        settled = sum(draft.kind is Kind.SETTLED for draft in group)
        if settled:
            reach(Failpoint.BEFORE_JOURNAL_WRITE)
        start = self._segment.end
        refused = self._write(deque(group))
        if settled:
            reach(Failpoint.AFTER_JOURNAL_WRITE)
        with self._to_sync:
            self._written = max(self._written, group[-1].ticket)
            self._settled += settled
            appended = (draft for draft in group if draft.kind is not Kind.SYNCED)
            self._written_bytes += sum(draft.num_bytes for draft in appended)
            self._unsynced_bytes += self._segment.end - start
            self._to_sync.notify()
        self._tell(*refused)

    def _write(self, todo: deque[Draft]) -> list[Refusal]:
        """Write all that there is room for; which updates were refused."""
        refused: list[Refusal] = []
        while todo:
            admitted = self._admit(todo, refused)
            done, error = self._segment.write(admitted)
            if error is None:
                continue
            if not admitted[done].may_be_refused:
                raise error
            refused.append(self._refuse(admitted[done], error))
            todo.extend(admitted[done + 1 :])
        return refused

    def _admit(self, todo: deque[Draft], refused: list[Refusal]) -> list[Draft]:
        """Take all from `todo`; those for which there should be room, in order."""
        admitted: list[Draft] = []
        num_bytes = 0
        while todo:
            draft = todo.popleft()
            if self._is_skipped(draft):
                continue
            error = self._make_room(num_bytes + draft.most_bytes)
            if error is not None and draft.may_be_refused:
                refused.append(self._refuse(draft, error))
                continue
            admitted.append(draft)
            num_bytes += draft.most_bytes
        return admitted

    def _is_skipped(self, draft: Draft) -> bool:
        """Whether it is the rest of a body that has been refused."""
        if draft.update_id not in self._skipped:
            return False
        if draft.kind is Kind.PIECE:
            return True
        if draft.needs_body:
            raise self._failed(OSError(errno.ENOSPC, f"{draft.update_id!r} had no room"))
        self._skipped.discard(draft.update_id)
        return False

    def _make_room(self, num_bytes: int) -> OSError | None:
        try:
            self._segment.make_room(num_bytes)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return error
        return None

    def _refuse(self, draft: Draft, error: OSError) -> Refusal:
        update_id = draft.update_id or UpdateId("")
        self._skipped.add(update_id)
        refusal = StorageFull(
            f"the aggregator's disk has no room ({error.strerror}); nothing of update "
            f"{update_id!r} was kept: push it again in {RETRY_AFTER_S:g} s",
            RETRY_AFTER_S,
            update_id=update_id,
        )
        return update_id, refusal

    def _drain(self) -> None:
        """Wait until all that was written is synced."""
        with self._to_write:
            self._draining = True
            self._to_sync.notify()
            self._to_write.wait_for(lambda: self._synced == self._written or self._failure)
            self._draining = False
            if self._failure is not None:
                raise self._failure

    def _sync_on(self) -> None:
        while True:
            with self._to_sync:
                self._to_sync.wait_for(lambda: self._over or self._is_due())
                if self._over:
                    return
                written, num_bytes = self._written, self._unsynced_bytes
                settled, segment = self._settled, self._segment
                reached = segment.reached
            if settled > self._settled_synced:
                reach(Failpoint.BEFORE_JOURNAL_SYNC)
            segment.sync(reached)
            if settled > self._settled_synced:
                reach(Failpoint.AFTER_JOURNAL_SYNC)
            with self._to_write:
                self.syncs += 1
                if settled > self._settled_synced and not self._queue:
                    # Else what is written next says so: that no answer may be missing any more.
                    mark = self._synced_mark()
                    self._queue.append(mark)
                    self._queued_bytes += mark.num_bytes
                    self._hurry = True
                self._synced, self._settled_synced = written, settled
                self._unsynced_bytes -= num_bytes
                while self._wanted and self._wanted[0] <= written:
                    heapq.heappop(self._wanted)
                self._to_write.notify()
            self._tell()

    def _synced_mark(self) -> Draft:
        return Draft(Kind.SYNCED, b"{}", self._written)

    def _is_due(self) -> bool:
        if self._synced == self._written:
            return False
        if self._settled > self._settled_synced:  # somebody waits for each answer
            return True
        wanted = bool(self._wanted) and self._wanted[0] <= self._written
        return wanted or self._draining or self._unsynced_bytes >= EAGER_BYTES

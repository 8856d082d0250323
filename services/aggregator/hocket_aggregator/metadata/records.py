"""Records of versions and updates: written behind the work, in groups, and told to watchers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import islice

import structlog
from torch import Tensor

from hocket.core.clock import Clock
from hocket.core.events import Evaluate, Evaluated, Pushed, Settled, VersionMade
from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.records import Status, UpdateRecord, VersionRecord
from hocket.core.update import Outcome, UpdateHeader
from hocket.errors import HocketError, NotFound, StorageFull, Unavailable
from hocket.hosting.failpoint import Failpoint, reach
from hocket_aggregator.finishing import finished
from hocket_aggregator.metadata import queries
from hocket_aggregator.metadata.store import Batch, Store
from hocket_aggregator.metadata.watchers import Watchers
from hocket_aggregator.turn import Turn

log = structlog.get_logger()

PAGE = 500
MAX_GROUP = 200  # records saved together: 10 ms of the event loop
GROUP_EVERY_S = 0.2
"""Unless a reader waits, or a whole group does: the disk is the journal's first of all, and each
group costs two statements that are compiled anew, and a sync."""
PATIENCE_S = 10.0  # how long a reader waits for a slow disk
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # between attempts to save
STATUS_EVERY_S = 5.0
"""The status lists every device, which for ten thousand is 2 MB; what a crash makes a reader of the
folder miss are these few seconds of counts, and never a version or an update."""

Entry = VersionRecord | UpdateRecord | Evaluated
Describe = Callable[[], Awaitable[Status]]


class Records:
    """A sink of the owner's turns. Reads see everything that was put before them.

    While the database takes nothing, records wait and are tried again; whoever must see them saved
    is told. Nothing is dropped: each record waits for its turn, about 2 kB in memory, until it is
    saved. What bounds them is the journal, which holds whatever they tell of: where both share a
    disk, a full one has the journal refuse updates, so that no new records come; and the process
    may be stopped at any time, since the next one inserts from the journal what is missing.
    """

    def __init__(self, store: Store, dense_bytes: int, clock: Clock) -> None:
        self._store = store
        self._dense_bytes = dense_bytes
        self._clock = clock
        self._pending: deque[Entry] = deque()
        self._put = 0  # entries put so far
        self._saved = 0
        self._work = asyncio.Event()
        self._wanted = asyncio.Event()  # a reader waits, or a whole group does
        self._changed = asyncio.Event()  # since the status was saved
        self._trouble: HocketError | None = None  # why the last save failed; None while one runs
        self._failing = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._watchers = Watchers()
        self._newest: VersionRecord | None = None
        self._unevaluated: dict[Version, VersionRecord] = {}
        self._ended = False

    def begin_at(self, record: VersionRecord, *, recorded: bool) -> None:
        """Go on from this version, which was `recorded` before or is recorded now."""
        self._newest = self._unevaluated[record.version] = record
        self._changed.set()
        if not recorded:
            self._add(record)

    def on_turn(self, turn: Turn) -> None:
        """Take down what happened."""
        event = turn.event
        if isinstance(event, Evaluated):
            self._evaluated(event)
        for effect in turn.effects:
            if isinstance(effect, Settled) and effect.first_time and isinstance(event, Pushed):
                self._add(
                    UpdateRecord(
                        effect.header,
                        effect.outcome,
                        event.update.wire_bytes,
                        self._dense_bytes,
                        event.update.codec,
                        turn.unix_s,
                    )
                )
            elif isinstance(effect, VersionMade):
                self._made(effect, turn)
            elif isinstance(effect, Evaluate) and self._newest is not None:
                self._unevaluated[effect.version] = self._newest

    async def flush(self) -> None:
        """Return once everything put so far is on disk.

        Raises StorageFull or Unavailable when the database does not take it now or has not for
        PATIENCE_S, and Unavailable at the very end.
        """
        if self._saved >= self._put:
            return
        if self._ended:
            raise _shutting_down()
        if self._trouble is not None:
            raise self._trouble.with_traceback(None)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._put, done))
        self._wanted.set()
        late = asyncio.ensure_future(self._clock.sleep_until(self._clock.now() + PATIENCE_S))
        try:
            await asyncio.wait((done, late), return_when=asyncio.FIRST_COMPLETED)
        finally:
            late.cancel()
        if not done.done():
            done.cancel()
            raise Unavailable("the database is slow; call again in a moment")
        done.result()

    async def run(self, describe: Describe) -> None:
        """Save until cancelled; a group that has begun is finished. `close` saves the rest.

        Raises StorageFailed when the database is damaged.
        """
        tasks = [
            asyncio.create_task(self._save_records()),
            asyncio.create_task(self._save_status(describe)),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:  # neither ends but with an error
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ended = True
            self._answer(_shutting_down())

    async def close(self, status: Status | None = None) -> None:
        """Save what is left, and where the task stood at the end, if told. Call it after `run`.

        Raises StorageFull or Unavailable: the journal has it all, and the next start goes on.
        """
        while self._pending:
            await self._save_group()
        await self._store.save(Batch(), status)

    async def version(self, version: int) -> VersionRecord:
        """One version's record (0: the newest). Raises NotFound."""
        await self.flush()
        record = await self._store.read(queries.version_record, version)
        if record is None:
            raise NotFound(f"there is no version {version}; call ListVersions to see which are")
        return record

    async def versions(self, below: int | None, limit: int) -> list[VersionRecord]:
        """A page of versions in falling order."""
        await self.flush()
        return await self._store.read(queries.versions_below, below, limit)

    async def lineage(
        self, version: Version, before: int | None, limit: int
    ) -> tuple[list[UpdateRecord], int | None]:
        """A page of the updates behind a version, newest first, and where the next begins."""
        await self.flush()
        return await self._store.read(queries.lineage, version, before, limit)

    async def outcome(self, header: UpdateHeader) -> Outcome | None:
        """What became of an update, however long ago. Raises InvalidUpdate as the ledger does."""
        await self.flush()
        ledger = await self._store.read(queries.ledger_of, header.update_id)
        return ledger.outcome(header.update_id, header.device_id)

    def watch(self, after: int) -> AsyncGenerator[VersionRecord, None]:
        """Each version after `after`, and again when it has been evaluated, without end.

        Raises Overloaded for one watcher too many or one that lags too far behind, and as `flush`
        does.
        """
        return self._watchers.watch(after, self._past(after))

    def end_watches(self) -> None:
        """Let every watcher come to its end."""
        self._watchers.end()

    async def _past(self, after: int) -> AsyncGenerator[VersionRecord, None]:
        await self.flush()
        while page := await self._store.read(queries.versions_after, after, PAGE):
            for record in page:
                yield record
            after = page[-1].version

    def _made(self, effect: VersionMade[Tensor], turn: Turn) -> None:
        version = effect.made.version
        self._newest = VersionRecord(
            version,
            Version(version - FIRST_VERSION),
            turn.digests[version],
            turn.unix_s,
            effect.update_ids,
        )
        self._add(self._newest)
        self._watchers.tell(self._newest)

    def _evaluated(self, event: Evaluated) -> None:
        self._add(event)
        record = self._unevaluated.get(event.version)
        for overtaken in [v for v in self._unevaluated if v <= event.version]:
            del self._unevaluated[overtaken]
        if record is None and self._newest is not None and self._newest.version == event.version:
            record = self._newest
        if record is not None:
            self._watchers.tell(replace(record, evaluation=event.evaluation))

    def _add(self, entry: Entry) -> None:
        self._pending.append(entry)
        self._put += 1
        self._work.set()
        self._changed.set()
        if len(self._pending) >= MAX_GROUP:
            self._wanted.set()

    async def _save_records(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await self._work.wait()
            self._work.clear()
            while self._pending:
                try:
                    await finished(self._save_group())
                except (StorageFull, Unavailable) as error:
                    self._failed(error)
                    await self._clock.sleep_until(self._clock.now() + pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                else:
                    pause_s = FIRST_PAUSE_S
                    await self._let_gather()

    async def _let_gather(self) -> None:
        """Records may become a few first, unless a reader waits or a whole group does."""
        if self._waiting or len(self._pending) >= MAX_GROUP:
            return
        self._wanted.clear()
        until = self._clock.now() + GROUP_EVERY_S
        waits = [
            asyncio.ensure_future(self._clock.sleep_until(until)),
            asyncio.ensure_future(self._wanted.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _save_group(self) -> None:
        """Save the oldest entries; they leave only once they are on disk."""
        group = tuple(islice(self._pending, MAX_GROUP))
        self._trouble = None  # whoever asks now waits for what comes of this
        reach(Failpoint.BEFORE_RECORDS)
        await self._store.save(_batch(group))
        for _ in group:
            self._pending.popleft()
        self._saved += len(group)
        if self._failing:
            self._failing = False
            log.info("records_saved_again", waiting=len(self._pending))
        self._answer()

    def _failed(self, error: HocketError) -> None:
        if not self._failing:
            log.warning("records_not_saved", reason=error.reason, message=error.message)
        self._failing, self._trouble = True, error
        self._answer(error)

    def _answer(self, error: HocketError | None = None) -> None:
        """Those whose entries are saved; all of them, if there is an error."""
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if done.done():  # a caller that gave up has cancelled it
                continue
            if wanted <= self._saved:
                done.set_result(None)
            elif error is not None:
                done.set_exception(error)
            else:
                self._waiting.append((wanted, done))

    async def _save_status(self, describe: Describe) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            following = self._clock.now() + STATUS_EVERY_S
            status = await describe()
            try:
                await finished(self._store.save(Batch(), status))
            except (StorageFull, Unavailable):  # the records' own attempts tell of it
                self._changed.set()
            await self._clock.sleep_until(following)


def _batch(entries: Iterable[Entry]) -> Batch:
    batch = Batch()
    for entry in entries:
        match entry:
            case VersionRecord():
                batch.versions.append(entry)
            case UpdateRecord():
                batch.updates.append(entry)
            case Evaluated(version, evaluation):
                batch.evaluations[version] = evaluation
    return batch


def _shutting_down() -> Unavailable:
    return Unavailable("the aggregator is shutting down; call again in a moment")
